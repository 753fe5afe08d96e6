//! A directory for a while: nobody else's, with a known name, so that what a run left that was killed is found and removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use crate::{directory, remove};

/// The directory in it that has what is put there.
const INNER: &str = "tree";

/// A directory that only its owner may enter, and one run at a time. Dropped, it is removed with all that is in it.
#[derive(Debug)]
pub struct PrivateTree {
    /// Its own directory, locked while it is open.
    around: Arc<OwnedFd>,
    path: PathBuf,
}

impl PrivateTree {
    /// Takes the directory `name` in `around`; it is made where it is not there. What an earlier run left in it is removed.
    ///
    /// # Errors
    /// Another run has it, with [`io::ErrorKind::ResourceBusy`]; it is another user's, or others may enter it.
    pub fn take(around: &Path, name: &str) -> io::Result<PrivateTree> {
        let path = around.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(rustix::fs::CWD, &path, flags, Mode::empty())?;
        let found = File::from(opened.try_clone()?).metadata()?;
        let is_ours = found.uid() == rustix::process::geteuid().as_raw();
        if !is_ours || found.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may enter it"));
        }
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(io::Error::from(io::ErrorKind::ResourceBusy)),
            other => other?,
        }
        Ok(PrivateTree { around: Arc::new(opened), path })
    }

    /// An empty directory in it; what was there before is removed.
    ///
    /// # Errors
    /// It can't be emptied or made.
    pub fn fresh(&self) -> io::Result<PathBuf> {
        self.empty()?;
        let inner = self.path.join(INNER);
        DirBuilder::new().mode(0o700).create(&inner)?;
        Ok(inner)
    }

    /// Removes what is in it, also what may not be changed.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn empty(&self) -> io::Result<()> {
        // A listing begins where the last one through the same descriptor ended.
        for entry in directory::list(directory::open(&self.around, b".")?)? {
            remove::tree(&self.around, &entry.name)?;
        }
        Ok(())
    }
}

impl Drop for PrivateTree {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        if self.empty().is_ok() {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_removed_and_nobody_else_comes_in() {
        let around = tempfile::tempdir().unwrap();
        let first = PrivateTree::take(around.path(), "x").unwrap();
        fs::create_dir_all(first.fresh().unwrap().join("a/b")).unwrap();
        let busy = PrivateTree::take(around.path(), "x").unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(fs::read_dir(first.fresh().unwrap()).unwrap().count(), 0);
        drop(first);
        assert!(!around.path().join("x").exists());
        fs::create_dir(around.path().join("y")).unwrap();
        fs::set_permissions(around.path().join("y"), fs::Permissions::from_mode(0o755)).unwrap();
        let open = PrivateTree::take(around.path(), "y").unwrap_err();
        assert_eq!(open.kind(), io::ErrorKind::PermissionDenied);
    }
}
