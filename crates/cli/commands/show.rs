//! `show`: all there is to know of an archive.

use std::fmt::Write;

use dbvault_repo::ArchiveInfo;

use super::entry_table;
use crate::args::Show;
use crate::context::Context;
use crate::error::Result;
use crate::{documents, output, sanitize};

pub(super) fn run(context: &Context, args: Show) -> Result<()> {
    let repository = context.open()?;
    let info = repository.find_archive(args.archive.as_deref().unwrap_or(&args.positional))?;
    let progress = context.progress();
    let entries = repository.reader(progress.board())?.entries(&info.manifest)?;
    drop(progress);
    if context.global.json {
        let archive = documents::archive_info(&info);
        return output::json(&documents::archive_with_entries(archive, &entries));
    }
    let mut text = heading(&info);
    for table in [entry_table::with_sizes(&entries), entry_table::with_sources(&entries)] {
        text += "\n";
        text += &table;
    }
    for warning in entry_table::warnings(&entries) {
        let _ = write!(text, "\nwarning: {}", sanitize::line(&warning));
    }
    output::text(text.trim_end())?;
    output::text("\n")
}

fn heading(info: &ArchiveInfo) -> String {
    let manifest = &info.manifest;
    let sizes = &manifest.sizes;
    let took_ms = u64::try_from(manifest.finished_ms - manifest.started_ms).unwrap_or(0);
    let facts = [
        ("Archive", Some(manifest.name.clone())),
        ("Id", Some(manifest.id.to_string())),
        ("Started", Some(output::local_time(manifest.started_ms))),
        ("Duration", Some(output::duration(took_ms))),
        ("Host", Some(manifest.host.clone())),
        ("User", Some(manifest.user.clone())),
        ("Version", Some(manifest.program_version.clone())),
        ("Original", Some(output::size(sizes.original_bytes))),
        ("New", Some(output::size(sizes.new_bytes))),
        ("Stored", Some(output::size(sizes.stored_bytes))),
        (
            "Chunks",
            Some(format!("{}, {} new, {} as deltas", sizes.chunks, sizes.new_chunks, sizes.delta_chunks)),
        ),
        ("Comment", manifest.comment.clone()),
        ("Deleted", info.deleted_ms.map(output::local_time)),
    ];
    facts.into_iter().fold(String::new(), |mut text, (name, value)| {
        if let Some(value) = value {
            let _ = writeln!(text, "{:<10} {}", format!("{name}:"), sanitize::line(&value));
        }
        text
    })
}
