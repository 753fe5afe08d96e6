//! The directories from the root of a walk to where it is, few of them open.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::directory;
use crate::file_stat::Identity;

/// How many of the innermost directories stay open; the first one does too.
const OPEN_MAX: usize = 64;

/// The directories from the root of a walk to where it is. However deep that is, few are open: one that was closed is
/// opened again from the one in it, and must be the same.
#[derive(Debug)]
pub(crate) struct DirectoryStack<T> {
    levels: Vec<Level<T>>,
}

#[derive(Debug)]
struct Level<T> {
    fd: Option<Arc<OwnedFd>>,
    identity: Identity,
    /// Stays open: the way back from what is in it does not lead here.
    pinned: bool,
    value: T,
}

impl<T> DirectoryStack<T> {
    pub(crate) fn new() -> Self {
        DirectoryStack { levels: Vec::new() }
    }

    /// Goes into a directory, which is in the innermost one.
    pub(crate) fn push(&mut self, fd: Arc<OwnedFd>, identity: Identity, value: T) {
        self.levels.push(Level { fd: Some(fd), identity, pinned: false, value });
        if let Some(outer) = self.levels.len().checked_sub(OPEN_MAX + 1).filter(|index| *index > 0)
            && !self.levels[outer].pinned
        {
            self.levels[outer].fd = None;
        }
    }

    /// Keeps the innermost directory open until it is left, as the directory that is pushed next is not in it.
    pub(crate) fn pin(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.pinned = true;
        }
    }

    /// Leaves the innermost directory. Where the one around it had been closed and was moved meanwhile, that has no
    /// descriptor any more.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let inner = self.levels.pop()?;
        if let (Some(outer), Some(fd)) = (self.levels.last_mut(), &inner.fd)
            && outer.fd.is_none()
            && let Ok(fd) = directory::open(fd, b"..").or_else(|_| directory::open_to_pass(fd, b".."))
            && directory::stat_open(&fd).is_ok_and(|stat| stat.identity() == outer.identity)
        {
            outer.fd = Some(Arc::new(fd));
        }
        Some(inner.value)
    }

    /// The innermost directory.
    ///
    /// # Errors
    /// It was moved while this was deeper in it.
    pub(crate) fn fd(&self) -> io::Result<&Arc<OwnedFd>> {
        let fd = self.levels.last().and_then(|level| level.fd.as_ref());
        fd.ok_or_else(|| io::Error::other("a directory around it was moved meanwhile"))
    }

    pub(crate) fn last(&self) -> Option<&T> {
        self.levels.last().map(|level| &level.value)
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut T> {
        self.levels.last_mut().map(|level| &mut level.value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.levels.iter_mut().map(|level| &mut level.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.levels.len()
    }
}
