//! Ctrl-C and its kin: the first sets a flag and the command ends cleanly, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

use crate::error::Error;
use crate::exit_code::ExitCode;

/// What signals have come.
#[derive(Clone)]
pub(crate) struct Signals {
    interrupt: Arc<AtomicBool>,
    last: Arc<AtomicUsize>,
    /// What is done at Ctrl-C.
    at_ctrl_c: Arc<Mutex<Vec<SigId>>>,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn install() -> io::Result<Signals> {
        let (interrupt, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let signals = Signals { interrupt, last, at_ctrl_c: Arc::default() };
        for signal in [SIGTERM, SIGHUP] {
            signals.listen(signal)?;
        }
        signals.listen_for_ctrl_c()?;
        Ok(signals)
    }

    fn listen(&self, signal: i32) -> io::Result<[SigId; 3]> {
        // In this order: the one that sets the flag must not be the one that finds it set.
        let code = ExitCode::of_signal(signal).number();
        Ok([
            flag::register_conditional_shutdown(signal, code.into(), self.interrupt.clone())?,
            flag::register(signal, self.interrupt.clone())?,
            flag::register_usize(signal, self.last.clone(), usize::try_from(signal).unwrap_or(0))?,
        ])
    }

    fn listen_for_ctrl_c(&self) -> io::Result<()> {
        let ids = self.listen(SIGINT)?;
        self.at_ctrl_c.lock().extend(ids);
        Ok(())
    }

    /// Leaves Ctrl-C to a program that has the terminal while `run` runs it.
    pub(crate) fn without_ctrl_c<T>(&self, run: impl FnOnce() -> T) -> io::Result<T> {
        // What no action is left for is ignored, not done by default.
        let ids = std::mem::take(&mut *self.at_ctrl_c.lock());
        for id in ids {
            low_level::unregister(id);
        }
        let done = run();
        self.listen_for_ctrl_c().map(|()| done)
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
