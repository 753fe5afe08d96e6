//! Which object files stay open between ranged reads.
//!
//! Objects never change, so an open file of a name is as good as a new one. Only removal matters: the
//! file of a removed object must not be kept, or it would be read after its name is gone or made anew.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use crate::Key;
use parking_lot::Mutex;

/// Most files that one local storage keeps open between ranged reads.
pub const OPEN_FILES_MAX: usize = 64;

/// The files most recently read from, at most [`OPEN_FILES_MAX`].
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<Key, OpenFile>,
    /// Grows with each use: the file with the smallest mark is the one unused for longest.
    uses_count: u64,
    removals_count: u64,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<File>,
    last_use: u64,
}

impl OpenFiles {
    /// The open file of `key`; else the number of removals so far, for [`OpenFiles::keep`].
    pub(super) fn find(&self, key: &Key) -> Result<Arc<File>, u64> {
        let mut state = self.state.lock();
        state.uses_count += 1;
        let now = state.uses_count;
        match state.files.get_mut(key) {
            Some(open) => {
                open.last_use = now;
                Ok(Arc::clone(&open.file))
            }
            None => Err(state.removals_count),
        }
    }

    /// Keeps `file` for later reads, unless anything was removed since `removals_count` was taken:
    /// then it may be the file of an object that is gone.
    pub(super) fn keep(&self, key: &Key, file: &Arc<File>, removals_count: u64) {
        let mut state = self.state.lock();
        if state.removals_count != removals_count {
            return;
        }
        if state.files.len() >= OPEN_FILES_MAX && !state.files.contains_key(key) {
            let unused = state.files.iter().min_by_key(|(_, open)| open.last_use).map(|(key, _)| key.clone());
            if let Some(unused) = unused {
                state.files.remove(&unused);
            }
        }
        let last_use = state.uses_count;
        state.files.insert(key.clone(), OpenFile { file: Arc::clone(file), last_use });
    }

    /// Lets go of the file of `key`. To be called after its name is removed: a reader that opened it
    /// before then finds the count changed and does not keep it.
    pub(super) fn remove(&self, key: &Key) {
        let mut state = self.state.lock();
        state.removals_count += 1;
        state.files.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::new(format!("object-{number}")).unwrap()
    }

    fn keep(files: &OpenFiles, number: usize) {
        let removals_count = files.find(&key(number)).unwrap_err();
        files.keep(&key(number), &Arc::new(tempfile::tempfile().unwrap()), removals_count);
    }

    #[test]
    fn the_file_unused_for_longest_is_let_go_first() {
        let files = OpenFiles::default();
        for number in 0..OPEN_FILES_MAX {
            keep(&files, number);
        }
        files.find(&key(0)).unwrap();
        keep(&files, OPEN_FILES_MAX);
        assert!(files.find(&key(0)).is_ok(), "used again, so kept");
        assert!(files.find(&key(1)).is_err(), "unused for longest, so let go");
        assert_eq!(files.state.lock().files.len(), OPEN_FILES_MAX);
    }

    #[test]
    fn a_file_opened_before_a_removal_is_not_kept_after_it() {
        let files = OpenFiles::default();
        let removals_count = files.find(&key(1)).unwrap_err();
        files.remove(&key(1));
        files.keep(&key(1), &Arc::new(tempfile::tempfile().unwrap()), removals_count);
        assert!(files.find(&key(1)).is_err());
    }
}
