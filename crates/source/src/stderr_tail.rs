//! The end of what a child writes to its standard error, gathered by a thread.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::ChildStderr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::interrupt::{Interrupt, ready};
use crate::{Error, Result};

/// How much of a child's standard error is kept, bytes; the oldest goes first.
const STDERR_BYTES_MAX: usize = 64 << 10;
/// How long standard error is listened to once the child has ended, milliseconds: a grandchild may hold it open.
const STDERR_DRAIN_MS: u64 = 500;

/// Drains a child's standard error so that the child never blocks on it.
#[derive(Debug, Default)]
pub(crate) struct StderrTail {
    text: Option<Receiver<String>>,
    stop: Interrupt,
}

impl StderrTail {
    pub(crate) fn start(stderr: ChildStderr) -> Result<StderrTail> {
        let (sender, text) = channel();
        let stop = Interrupt::default();
        let stop_seen = stop.clone();
        thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(move || {
                // The receiver is gone when nobody wants to know.
                let _ = sender.send(drain(stderr, &stop_seen));
            })
            .map_err(Error::io("start a thread"))?;
        Ok(StderrTail { text: Some(text), stop })
    }

    /// What was written until now; for when the child has ended. Empty the second time.
    pub(crate) fn finish(&mut self) -> String {
        let Some(text) = self.text.take() else { return String::new() };
        match text.recv_timeout(Duration::from_millis(STDERR_DRAIN_MS)) {
            Ok(text) => text,
            Err(_) => {
                self.stop.store(true, Ordering::Relaxed);
                text.recv_timeout(Duration::from_millis(STDERR_DRAIN_MS)).unwrap_or_default()
            }
        }
    }
}

impl Drop for StderrTail {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn drain(mut stderr: ChildStderr, stop: &Interrupt) -> String {
    let mut kept = Vec::new();
    let mut cut = false;
    let mut buffer = vec![0; 16 << 10];
    loop {
        match ready(stderr.as_fd(), PollFlags::IN) {
            Ok(true) => match stderr.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => kept.extend_from_slice(&buffer[..count]),
            },
            Ok(false) => {}
            Err(_) => break,
        }
        if kept.len() > 2 * STDERR_BYTES_MAX {
            kept.drain(..kept.len() - STDERR_BYTES_MAX);
            cut = true;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let start = kept.len().saturating_sub(STDERR_BYTES_MAX);
    let text = String::from_utf8_lossy(&kept[start..]).trim_end().to_owned();
    if cut || start > 0 { format!("[…]\n{text}") } else { text }
}
