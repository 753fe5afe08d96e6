//! Ctrl-C and its kin: the first sets a flag and the command ends cleanly, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::Error;
use crate::exit_code::ExitCode;

/// What signals have come.
pub(crate) struct Signals {
    interrupt: Arc<AtomicBool>,
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn install() -> io::Result<Signals> {
        let (interrupt, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the one that sets the flag must not be the one that finds it set.
            let code = ExitCode::of_signal(signal).number();
            flag::register_conditional_shutdown(signal, code.into(), interrupt.clone())?;
            flag::register(signal, interrupt.clone())?;
            flag::register_usize(signal, last.clone(), usize::try_from(signal).unwrap_or(0))?;
        }
        Ok(Signals { interrupt, last })
    }

    /// Set once a signal has come.
    pub(crate) fn interrupt(&self) -> Arc<AtomicBool> {
        self.interrupt.clone()
    }

    /// Tells which signal is behind `error`: whatever fails after one fails because of it, as when Ctrl-C ends
    /// the program that feeds us too.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match i32::try_from(self.last.load(Ordering::Relaxed)) {
            Ok(signal) if signal != 0 => Error::Signal { signal, inner: Box::new(error) },
            _ => error,
        }
    }
}
