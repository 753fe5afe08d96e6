//! `undelete`: takes a deletion back.

use dbvault_repo::Error as Repo;
use serde_json::json;

use super::delete::{find_all, ids_and_names};
use super::list::archive_words;
use crate::args::Undelete;
use crate::context::Context;
use crate::error::Result;
use crate::output;

pub(super) fn run(context: &Context, args: Undelete) -> Result<()> {
    let repository = context.open()?;
    let archives = find_all(&repository, &args.archives)?;
    // Before the first is touched.
    for info in &archives {
        if info.deleted_ms.is_none() {
            return Err(Repo::ArchiveState { id: info.manifest.id, state: "not deleted" }.into());
        }
    }
    for info in &archives {
        repository.undelete_archive(&info.manifest.id)?;
    }
    if context.global.json {
        return output::json(&json!({ "undeleted": ids_and_names(&archives) }));
    }
    for info in archives.iter().filter(|_| !context.global.quiet) {
        output::text(&format!("Undeleted {}\n", archive_words(&info.manifest)))?;
    }
    Ok(())
}
