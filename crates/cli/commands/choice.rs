//! Which archive is meant where entries of one are wanted.

use dbvault_jobs::selection::{self, Chosen};
use dbvault_repo::{ArchiveInfo, Error as Repo, NoMonitor, Repository};

use super::list::archive_words;
use crate::context::Context;
use crate::error::Result;

/// The archive that `wanted` means when `entries` of it are wanted. Says so where a newer one is passed over.
///
/// Errors: a deleted one, which may lose its data at any time.
pub(super) fn choose(
    context: &Context,
    repository: &Repository,
    wanted: &str,
    entries: &[String],
) -> Result<ArchiveInfo> {
    let Chosen { info, passed_over } =
        selection::archive(repository, wanted, entries, std::sync::Arc::new(NoMonitor))?;
    if info.deleted_ms.is_some() {
        return Err(Repo::ArchiveState { id: info.manifest.id, state: "deleted" }.into());
    }
    if let Some(newer) = passed_over {
        context.warning(&format!(
            "archive {} is newer and lacks {}; this is from archive {}",
            archive_words(&newer.manifest),
            lacking(&newer),
            archive_words(&info.manifest),
        ));
    }
    Ok(info)
}

/// Names of what an archive lacks.
pub(super) fn lacking(info: &ArchiveInfo) -> String {
    let names: Vec<&str> = info.manifest.failed.iter().map(|failed| failed.name.as_str()).collect();
    names.join(", ")
}
