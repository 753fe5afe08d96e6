//! `delete`: marks archives as deleted.

use dbvault_repo::{ArchiveInfo, Error as Repo, Repository};
use serde_json::{Value, json};

use super::list::archive_words;
use crate::args::Delete;
use crate::context::Context;
use crate::error::Result;
use crate::output;

pub(super) fn run(context: &Context, args: Delete) -> Result<()> {
    let repository = context.open()?;
    let archives = find_all(&repository, &args.archives)?;
    // Before the first is touched.
    for info in &archives {
        if info.deleted_ms.is_some() {
            return Err(Repo::ArchiveState { id: info.manifest.id, state: "deleted" }.into());
        }
        if info.remarks.protected {
            return Err(Repo::ArchiveState { id: info.manifest.id, state: "protected" }.into());
        }
    }
    for info in archives.iter().filter(|_| !args.dry_run) {
        repository.delete_archive(&info.manifest.id)?;
    }
    if context.global.json {
        return output::json(&json!({ "dry_run": args.dry_run, "deleted": ids_and_names(&archives) }));
    }
    if context.global.quiet {
        return Ok(());
    }
    let verb = if args.dry_run { "Would delete" } else { "Deleted" };
    for info in &archives {
        output::text(&format!("{verb} {}\n", archive_words(&info.manifest)))?;
    }
    if !args.dry_run {
        let ids: Vec<String> = archives.iter().map(|info| super::list::short_id(&info.manifest)).collect();
        context.note(&format!("To take it back: dbvault undelete {}", ids.join(" ")));
    }
    Ok(())
}

/// Every archive that is named, each once.
pub(super) fn find_all(repository: &Repository, wanted: &[String]) -> Result<Vec<ArchiveInfo>> {
    let mut found: Vec<ArchiveInfo> = Vec::new();
    for name in wanted {
        let info = repository.find_archive(name)?;
        if found.iter().all(|other| other.manifest.id != info.manifest.id) {
            found.push(info);
        }
    }
    Ok(found)
}

/// Archives as JSON, in short.
pub(super) fn ids_and_names(archives: &[ArchiveInfo]) -> Value {
    let each = archives.iter().map(|info| {
        let (id, name) = (info.manifest.id.to_string(), &info.manifest.name);
        json!({ "id": id, "name": name })
    });
    each.collect()
}
