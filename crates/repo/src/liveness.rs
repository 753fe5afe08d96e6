//! Whether a session of this machine lives: it holds a lock that the system releases when its process ends,
//! however it ends. No process id is compared, so none that is used again can deceive.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dbvault_format::id::SessionId;
use rustix::fs::{FlockOperation, flock};

use crate::Repository;

/// The lock of a session that lives in this process.
#[derive(Debug)]
pub(crate) struct Liveness {
    path: PathBuf,
    _lock: File,
}

/// What this machine knows of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its process runs.
    Lives,
    /// Its process is gone.
    Ended,
    /// It runs elsewhere, or as another user, or nothing could be written down.
    Unknown,
}

impl Liveness {
    /// Takes the lock of a new session. Where the cache directory can't be written there is none, and a collector
    /// can only wait.
    pub(crate) fn hold(repo: &Repository, id: &SessionId) -> Option<Liveness> {
        let dir = directory(repo);
        let path = dir.join(id.to_string());
        match take(&dir, &path) {
            Ok(lock) => Some(Liveness { path, _lock: lock }),
            Err(e) => {
                tracing::debug!("{}: {e}", path.display());
                None
            }
        }
    }

    /// The session has ended well: nobody will ask.
    pub(crate) fn end(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The file gets its name only once it is locked: nobody finds it without its lock.
fn take(dir: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let new = path.with_extension("new");
    let lock = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&new)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    fs::rename(&new, path)?;
    Ok(lock)
}

/// Looks whether a session lives.
pub(crate) fn life_of(repo: &Repository, id: &SessionId) -> Life {
    let Ok(file) = File::open(directory(repo).join(id.to_string())) else { return Life::Unknown };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Life::Ended,
        Err(_) => Life::Lives,
    }
}

/// Forgets a session whose process is gone.
pub(crate) fn forget(repo: &Repository, id: &SessionId) {
    let _ = fs::remove_file(directory(repo).join(id.to_string()));
}

fn directory(repo: &Repository) -> PathBuf {
    repo.cache_dir().join("sessions")
}
