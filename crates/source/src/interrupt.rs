//! The flag that stops dumps and restores, and errors on their way through `io::Read`.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{Error, Result};

/// Set to true by anyone (a signal handler, a test) to stop what is running. Waits notice it within
/// 100 ms.
pub type Interrupt = Arc<AtomicBool>;

/// How long a wait sleeps at most before it looks at the interrupt flag again, milliseconds.
pub(crate) const POLL_MS: u64 = 100;

/// `Err(Interrupted)` once the flag is set.
pub(crate) fn check(interrupt: &Interrupt) -> Result<()> {
    if interrupt.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Waits at most [`POLL_MS`] for `fd`; true when it is ready, at its end or broken.
pub(crate) fn ready(fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<bool> {
    const TIMEOUT: Timespec = Timespec { tv_sec: 0, tv_nsec: POLL_MS as i64 * 1_000_000 };
    match poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&TIMEOUT)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Error {
    /// Wraps this error for a body's reader. Its kind is `Other`, never `Interrupted`: the standard library
    /// silently tries `Interrupted` reads again, for ever.
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// The error behind a failed read of an [`crate::Entry`]'s body; an error of any other origin becomes
    /// [`Error::Io`] with `what` as its operation.
    pub fn from_io(what: impl Into<String>, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(inner) => inner,
            Err(source) => Error::Io { what: what.into(), source },
        }
    }

    /// Makes an [`Error::Io`]; for `map_err`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
