//! Which directories exist, and which must be synced before their names are durable.
//!
//! A directory is dirty when a name in it was made or removed, and also when an object was only met in
//! it: the process that made the object may have died before it synced the directory, and we may come to
//! depend on it. Syncing a directory that has nothing to write is cheap.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::SyncFn;

/// Directories that are synced at once.
const SYNCS_MAX: usize = 16;
/// So few are synced one after the other.
const FEW: usize = 16;

/// A system call failed for the directory of this name.
pub(super) type DirectoryError = (String, Errno);

/// The directories below one root, by relative path; the root is `""`.
/// Both sets are bounded by the number of directories the names in use need.
#[derive(Debug, Default)]
pub(super) struct Directories {
    known: Mutex<HashSet<String>>,
    dirty: Mutex<BTreeSet<String>>,
    /// Held while syncing: a flush that finds nothing dirty must still wait for one under way.
    flushing: Mutex<()>,
}

/// The directory part of a relative path.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Directories {
    /// Makes `directory` and its parents if they are not known to exist.
    pub(super) fn make(&self, root: &OwnedFd, directory: &str) -> Result<(), DirectoryError> {
        self.each_unknown(directory, |path| match rustix::fs::mkdirat(root, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err((path.to_owned(), errno)),
        })
    }

    /// An object was met in `directory`: its name, and the directories on the way to it, may have been
    /// made by a process that died before it synced them.
    pub(super) fn meet(&self, directory: &str) {
        let Ok(()) = self.each_unknown(directory, |_| Ok::<(), std::convert::Infallible>(()));
        self.mark_dirty(directory);
    }

    /// Calls `each` for `directory` and those above it, highest first, unless `directory` is known to
    /// exist. After each the directory is known, and its name marked to be synced.
    fn each_unknown<E>(&self, directory: &str, mut each: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        if directory.is_empty() || self.known.lock().contains(directory) {
            return Ok(());
        }
        let ends = directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]);
        for path in ends.map(|end| &directory[..end]) {
            each(path)?;
            // Known only after its own name is marked: whoever finds it known relies on the mark.
            self.mark_dirty(parent(path));
            self.known.lock().insert(path.to_owned());
        }
        Ok(())
    }

    /// Somebody removed `directory` or one above it: make them anew next time.
    pub(super) fn forget(&self, directory: &str) {
        self.known.lock().retain(|known| directory != known && !directory.starts_with(&format!("{known}/")));
    }

    /// Has the next flush sync `directory`.
    pub(super) fn mark_dirty(&self, directory: &str) {
        let mut dirty = self.dirty.lock();
        if !dirty.contains(directory) {
            dirty.insert(directory.to_owned());
        }
    }

    /// Syncs each dirty directory once. On error that directory and those not yet tried stay dirty.
    ///
    /// Many are synced several at once: then a disk writes its cache once for all that wait for it, and a journal has
    /// their names in one transaction.
    pub(super) fn flush(&self, root: &OwnedFd, sync: SyncFn) -> Result<(), DirectoryError> {
        let _one_at_a_time = self.flushing.lock();
        let batch = Mutex::new(std::mem::take(&mut *self.dirty.lock()));
        let failure = Mutex::new(None);
        let next = || if failure.lock().is_none() { batch.lock().pop_first() } else { None };
        let sync_some = || {
            while let Some(directory) = next() {
                if let Err(errno) = sync_directory(root, &directory, sync) {
                    batch.lock().insert(directory.clone());
                    failure.lock().get_or_insert((directory, errno));
                }
            }
        };
        let more_threads = if batch.lock().len() > FEW { SYNCS_MAX - 1 } else { 0 };
        thread::scope(|scope| {
            for _ in 0..more_threads {
                // Where there can be no more threads, those that there are do it.
                let _ = thread::Builder::new().spawn_scoped(scope, sync_some);
            }
            sync_some();
        });
        match failure.into_inner() {
            None => Ok(()),
            Some(failure) => {
                self.dirty.lock().append(&mut batch.into_inner());
                Err(failure)
            }
        }
    }
}

fn sync_directory(root: &OwnedFd, directory: &str, sync: SyncFn) -> rustix::io::Result<()> {
    if directory.is_empty() {
        return sync_names(root.as_fd(), sync);
    }
    match rustix::fs::openat(
        root,
        directory,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => sync_names(file.as_fd(), sync),
        // Nobody removes a directory that holds objects: there is no name left in it to sync.
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Syncs an open directory. Some network file systems refuse with EINVAL, as they write names at once.
pub(super) fn sync_names(directory: BorrowedFd<'_>, sync: SyncFn) -> rustix::io::Result<()> {
    match sync(directory) {
        Err(Errno::INVAL) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_a_directory_forgets_those_above_it_too() {
        let directories = Directories::default();
        for known in ["a", "a/b", "a/c", "ab"] {
            directories.known.lock().insert(known.to_owned());
        }
        directories.forget("a/b");
        let left: BTreeSet<String> = directories.known.lock().iter().cloned().collect();
        assert!(left.iter().eq(["a/c", "ab"]), "{left:?}");
    }

    #[test]
    fn parents() {
        assert_eq!(parent("a/b/c"), "a/b");
        assert_eq!(parent("a"), "");
    }
}
