//! `list`: the archives of the repository, or the entries of one.

use dbvault_format::manifest::ArchiveManifest;
use dbvault_repo::{ArchiveInfo, ArchiveList, Repository};
use serde_json::{Value, json};

use super::{entry_table, tree};
use crate::args::List;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{self, Column};
use crate::{documents, sanitize};

/// Digits of an id that are shown.
const ID_DIGITS: usize = 8;

pub(super) fn run(context: &Context, args: List) -> Result<()> {
    let repository = context.open()?;
    match args.archive {
        Some(wanted) if args.files || !args.paths.is_empty() => {
            tree::list(context, &repository, &wanted, &args.paths)
        }
        Some(wanted) => entries(context, &repository, &wanted),
        None => archives(context, &repository, args.deleted),
    }
}

fn archives(context: &Context, repository: &Repository, deleted: bool) -> Result<()> {
    let ArchiveList { archives, damaged } = repository.archives()?;
    let shown: Vec<&ArchiveInfo> =
        archives.iter().filter(|info| deleted || info.deleted_ms.is_none()).collect();
    if context.global.json {
        output::json(&json!({
            "repository": documents::repository(repository),
            "archives": shown.iter().map(|info| documents::archive_info(info)).collect::<Value>(),
            "damaged": damaged
                .iter()
                .map(|(id, error)| json!({ "id": id.to_string(), "problem": error.to_string() }))
                .collect::<Value>(),
        }))?;
    } else if shown.is_empty() {
        context.note("No archives");
    } else {
        output::text(&table(&shown, deleted))?;
    }
    for (id, error) in &damaged {
        context.warning(&format!("archive {id}: {error}"));
    }
    match damaged.len() {
        0 => Ok(()),
        problems => Err(Error::DamageFound { problems: problems as u64, location: repository.location() }),
    }
}

fn table(archives: &[&ArchiveInfo], deleted: bool) -> String {
    use Column::{Left, Right};
    let mut columns = vec![
        Left("ARCHIVE"),
        Left("ID"),
        Left("TIME"),
        Right("ENTRIES"),
        Right("ORIGINAL"),
        Right("NEW"),
        Right("STORED"),
    ];
    // Only where there is something to show: most repositories have none.
    let noted = archives.iter().any(|info| !words(info).is_empty());
    let proven = archives.iter().any(|info| !info.remarks.proofs.is_empty());
    if noted {
        columns.push(Left("TAGS"));
    }
    if proven {
        columns.push(Left("PROVEN"));
    }
    if deleted {
        columns.push(Left("DELETED"));
    }
    let rows = archives.iter().map(|info| {
        let manifest = &info.manifest;
        let mut row = vec![
            manifest.name.clone(),
            short_id(manifest),
            output::local_time(manifest.started_ms),
            manifest.entry_count.to_string(),
            output::size(manifest.sizes.original_bytes),
            output::size(manifest.sizes.new_bytes),
            output::size(manifest.sizes.stored_bytes),
        ];
        if noted {
            row.push(words(info));
        }
        if proven {
            row.push(proof_words(info));
        }
        if deleted {
            row.push(info.deleted_ms.map(output::local_time).unwrap_or_default());
        }
        row
    });
    output::table(&columns, rows)
}

/// What is special about an archive.
fn words(info: &ArchiveInfo) -> String {
    let incomplete = (!info.manifest.is_complete()).then(|| "incomplete".to_owned());
    let protected = info.remarks.protected.then(|| "protected".to_owned());
    let tags = info.remarks.tags.iter().cloned();
    incomplete.into_iter().chain(protected).chain(tags).collect::<Vec<_>>().join(", ")
}

/// How many entries drills could restore, and when the last of them was tried.
fn proof_words(info: &ArchiveInfo) -> String {
    let proofs = &info.remarks.proofs;
    let Some(last_ms) = proofs.values().map(|proof| proof.proven_ms).max() else { return String::new() };
    let failed = proofs.values().filter(|proof| !proof.ok).count();
    let count = proofs.len() - failed;
    let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{count} of {}{failed}, {}", info.manifest.entry_count, output::local_time(last_ms))
}

fn entries(context: &Context, repository: &Repository, wanted: &str) -> Result<()> {
    let info = repository.find_archive(wanted)?;
    let progress = context.progress();
    let entries = repository.reader(progress.board())?.entries(&info.manifest)?;
    drop(progress);
    if context.global.json {
        let archive = documents::archive_info(&info);
        return output::json(&documents::archive_with_entries(archive, &entries));
    }
    output::text(&entry_table::with_sizes(&entries))
}

/// As much of an archive's id as people need.
pub(super) fn short_id(manifest: &ArchiveManifest) -> String {
    manifest.id.to_string().chars().take(ID_DIGITS).collect()
}

/// An archive in a sentence.
pub(super) fn archive_words(manifest: &ArchiveManifest) -> String {
    format!("{} ({})", sanitize::line(&manifest.name), short_id(manifest))
}
