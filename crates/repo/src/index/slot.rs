//! Slots: directories for index databases, one process each.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dbvault_format::id::RepoId;
use rustix::fs::{FlockOperation, flock};

use super::database::Database;
use crate::{Error, Result};

/// Processes of one user that can work on one repository at once with a cache each that is kept. More than
/// that get one in a temporary directory, which goes away with them.
const SLOTS_MAX: u32 = 8;

/// A directory that this process has for itself.
#[derive(Debug)]
pub(super) struct Slot {
    path: PathBuf,
    /// Held for the life of the slot; the system releases it when the process ends, however it ends.
    _lock: Option<File>,
    _temporary: Option<tempfile::TempDir>,
}

impl Slot {
    /// Takes the first slot in `parent` that no other process has. Where the user's cache directory can't be
    /// written, or all slots are taken, a temporary directory serves.
    pub(super) fn take(parent: &Path) -> Result<Slot> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        for number in 0..SLOTS_MAX {
            if made.is_err() {
                break;
            }
            let mut options = OpenOptions::new();
            options.create(true).append(true).mode(0o600);
            let Ok(lock) = options.open(parent.join(format!("index-{number}.lock"))) else { break };
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let path = parent.join(format!("index-{number}"));
                return Ok(Slot { path, _lock: Some(lock), _temporary: None });
            }
        }
        Slot::temporary()
    }

    /// A slot that goes away with the process.
    pub(super) fn temporary() -> Result<Slot> {
        let temporary = tempfile::Builder::new().prefix("dbvault-index-").tempdir();
        let temporary = temporary.map_err(|e| cache_error(&std::env::temp_dir(), &e))?;
        Ok(Slot { path: temporary.path().join("index"), _lock: None, _temporary: Some(temporary) })
    }

    /// A slot without a directory, for an index in memory.
    pub(super) fn in_memory() -> Slot {
        Slot { path: PathBuf::new(), _lock: None, _temporary: None }
    }

    /// Whether there is no directory.
    pub(super) fn is_in_memory(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// Remembers that what is in the slot has failed: whoever opens it next makes it anew.
    pub(super) fn distrust(&self) {
        // Where even this can't be written, the next one finds out for itself.
        let _ = File::create(self.mark());
    }

    /// Whether what is in the slot has failed before.
    pub(super) fn is_distrusted(&self) -> bool {
        self.mark().exists()
    }

    fn mark(&self) -> PathBuf {
        self.path.with_extension("failed")
    }

    /// Directory of the database.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Throws away what is in the slot and makes an empty database.
    pub(super) fn wipe(&self, repo: &RepoId) -> Result<Database> {
        if self.is_in_memory() {
            return Database::in_memory(repo);
        }
        let removed = match fs::metadata(&self.path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&self.path),
            Ok(_) => fs::remove_file(&self.path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        };
        removed.map_err(|e| cache_error(&self.path, &e))?;
        let _ = fs::remove_file(self.mark());
        Database::create(&self.path, repo)
    }
}

pub(super) fn cache_error(path: &Path, message: &dyn std::fmt::Display) -> Error {
    Error::Cache { path: path.display().to_string(), message: message.to_string() }
}
