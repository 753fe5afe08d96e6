//! `show`: all there is to know of an archive.

use std::fmt::Write;

use dbvault_repo::{ArchiveInfo, Proof};
use serde_json::json;

use super::{choice, entry_table, remarks};
use crate::args::Show;
use crate::context::Context;
use crate::error::Result;
use crate::{documents, output, sanitize};

pub(super) fn run(context: &Context, args: Show) -> Result<()> {
    let repository = context.open()?;
    let info = repository.find_archive(args.archive.as_deref().unwrap_or(&args.positional))?;
    let progress = context.progress();
    let entries = repository.reader(progress.board())?.entries(&info.manifest)?;
    let only = args.dedup.then(|| repository.used_only_by(&[info.manifest.id], progress.board()));
    let only = only.transpose()?;
    drop(progress);
    if context.global.json {
        let mut archive = documents::archive_info(&info);
        if let Some(only) = only {
            archive["only_here"] = json!({ "chunks": only.chunks, "bytes": only.bytes });
        }
        return output::json(&documents::archive_with_entries(archive, &entries));
    }
    let mut text = heading(&info);
    if let Some(only) = only {
        let (bytes, chunks) = (output::size(only.bytes), output::count(only.chunks, "chunk"));
        let _ = writeln!(text, "{:<10} {bytes} in {chunks}: deleting it frees so much", "Only here:");
    }
    for table in [entry_table::with_sizes(&entries), entry_table::with_sources(&entries)] {
        text += "\n";
        text += &table;
    }
    for failed in &info.manifest.failed {
        let (name, reason) = (sanitize::line(&failed.name), sanitize::line(&failed.reason));
        let _ = write!(text, "\nlacks {name}: {reason}");
    }
    for proof in info.remarks.proofs.values() {
        let _ = write!(text, "\n{}", proof_words(proof));
    }
    for warning in entry_table::warnings(&entries) {
        let _ = write!(text, "\nwarning: {}", sanitize::line(&warning));
    }
    output::text(text.trim_end())?;
    output::text("\n")
}

fn proof_words(proof: &Proof) -> String {
    let name = sanitize::line(&proof.entry);
    let verdict = if proof.ok { "restored" } else { "could not be restored" };
    let rows = proof.rows.map(|rows| format!(", {}", output::count(rows, "row"))).unwrap_or_default();
    let detail =
        if proof.detail.is_empty() { String::new() } else { format!(": {}", sanitize::line(&proof.detail)) };
    format!("drill of {name}: {verdict} {}{rows}{detail}", output::local_time(proof.proven_ms))
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
        ("Lacks", (!info.manifest.is_complete()).then(|| choice::lacking(info))),
        ("Tags", (!info.remarks.tags.is_empty()).then(|| remarks::tags(&info.remarks))),
        ("Protected", info.remarks.protected.then(|| "yes".into())),
        ("Deleted", info.deleted_ms.map(output::local_time)),
    ];
    facts.into_iter().fold(String::new(), |mut text, (name, value)| {
        if let Some(value) = value {
            let _ = writeln!(text, "{:<10} {}", format!("{name}:"), sanitize::line(&value));
        }
        text
    })
}
