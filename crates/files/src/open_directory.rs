//! A directory that files are being put into, and what is done when the last one is there.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dbvault_format::file_table::FileRecord;
use parking_lot::{Mutex, MutexGuard};

use crate::error::Problem;
use crate::metadata::Handle;
use crate::place::Shared;
use crate::{directory, remove};

/// A directory that files are being put into. Its mode and times are set when the walk has left it and the last file that
/// is being written is in it: whoever is last does that.
pub(crate) struct OpenDirectory {
    /// Relative to the target.
    pub(crate) path: Vec<u8>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` where the archive says nothing of it: it stays as it is.
    record: Option<FileRecord>,
    /// Names that the archive has in it, where others are to be removed.
    names: HashSet<Box<[u8]>>,
    writing: usize,
    left: Option<Arc<OwnedFd>>,
}

impl OpenDirectory {
    pub(crate) fn new(path: Vec<u8>, record: Option<FileRecord>, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(OpenDirectory { path, shared, state: Mutex::new(State { record, ..State::default() }) })
    }

    pub(crate) fn set_record(&self, record: FileRecord) {
        self.state.lock().record = Some(record);
    }

    /// Notes a name of the archive, whether it is restored or not.
    pub(crate) fn note(&self, name: &[u8]) {
        if self.shared.options.delete_extra {
            self.state.lock().names.insert(name.into());
        }
    }

    /// The walk is done with it; `fd` is the directory.
    pub(crate) fn leave(&self, fd: Arc<OwnedFd>) {
        let mut state = self.state.lock();
        state.left = Some(fd);
        self.finish_if_last(state);
    }

    fn finish_if_last(&self, mut state: MutexGuard<'_, State>) {
        if state.writing > 0 {
            return;
        }
        let Some(fd) = state.left.take() else { return };
        let (record, names) = (state.record.take(), std::mem::take(&mut state.names));
        drop(state);
        if let Some(record) = record {
            if self.shared.deletes() {
                self.remove_others(&fd, &names);
            }
            self.shared.settings.apply(Handle::path(&fd), &record, &self.path);
            self.shared.settings.apply_flags(&fd, &record, &self.path);
        }
    }

    /// Removes what the archive does not have here.
    fn remove_others(&self, fd: &Arc<OwnedFd>, names: &HashSet<Box<[u8]>>) {
        // Opened anew: a listing goes on from where the last one ended.
        let listed = directory::open(fd, b".").and_then(directory::list);
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return self.shared.tell(Problem::new(&self.path, "list", error)),
        };
        for entry in listed.iter().filter(|entry| !names.contains(&entry.name)) {
            if let Err(error) = remove::tree(fd, &entry.name) {
                self.shared.tell(Problem::new(&directory::join(&self.path, &entry.name), "remove", error));
            }
        }
    }
}

/// Keeps a directory unfinished while a file is being written into it.
pub(crate) struct Writing(Arc<OpenDirectory>);

impl Writing {
    pub(crate) fn new(directory: &Arc<OpenDirectory>) -> Self {
        directory.state.lock().writing += 1;
        Writing(Arc::clone(directory))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.writing = state.writing.saturating_sub(1);
        self.0.finish_if_last(state);
    }
}
