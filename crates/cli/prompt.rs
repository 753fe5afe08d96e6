//! Questions to the person at the terminal. The terminal itself is asked, not standard input, which may be a dump.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use dbvault_jobs::Error as Job;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::sanitize;

/// Longest answer, bytes: what a terminal takes as one line.
const ANSWER_BYTES_MAX: usize = 4096;
/// How long a wait for an answer is blind to signals, nanoseconds.
const POLL_NS: i64 = 100_000_000;

/// The terminal of a person who is there.
pub(crate) struct Terminal<'a> {
    device: File,
    interrupt: &'a AtomicBool,
}

impl Terminal<'_> {
    /// The terminal, where standard input or standard error is one: else nobody expects a question.
    pub(crate) fn open(interrupt: &AtomicBool) -> Option<Terminal<'_>> {
        if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
            return None;
        }
        let device = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        Some(Terminal { device, interrupt })
    }

    /// Asks for a passphrase, which is not shown.
    pub(crate) fn ask_secret(&self, question: &str) -> Result<Zeroizing<Vec<u8>>> {
        let hidden = HiddenInput::begin(&self.device).map_err(Error::Terminal)?;
        self.write(question)?;
        let answer = self.read_line();
        drop(hidden);
        self.write("\n")?;
        answer
    }

    /// Asks a question; anything but yes is no.
    pub(crate) fn ask_yes(&self, question: &str) -> Result<bool> {
        self.write(&format!("{} [y/N] ", sanitize::block(question)))?;
        let answer = self.read_line()?;
        let answer = String::from_utf8_lossy(&answer).trim().to_lowercase();
        Ok(matches!(answer.as_str(), "y" | "yes"))
    }

    /// Tells the person something.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        (&self.device).write_all(text.as_bytes()).map_err(Error::Terminal)
    }

    /// One line without its end. Notices signals, which `read` alone would sleep through.
    fn read_line(&self) -> Result<Zeroizing<Vec<u8>>> {
        let mut line = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_MAX));
        let mut buffer = Zeroizing::new([0; ANSWER_BYTES_MAX]);
        let timeout = Timespec { tv_sec: 0, tv_nsec: POLL_NS };
        while line.len() < ANSWER_BYTES_MAX {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(Job::Interrupted.into());
            }
            match poll(&mut [PollFd::new(&self.device, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(Error::Terminal(error.into())),
            }
            let room = ANSWER_BYTES_MAX - line.len();
            let count = (&self.device).read(&mut buffer[..room]).map_err(Error::Terminal)?;
            line.extend_from_slice(&buffer[..count]);
            if count == 0 || line.last() == Some(&b'\n') {
                break;
            }
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(line)
    }
}

/// While this lives, the terminal does not show what is typed.
struct HiddenInput<'a> {
    device: &'a File,
    before: Termios,
}

impl HiddenInput<'_> {
    fn begin(device: &File) -> io::Result<HiddenInput<'_>> {
        let before = tcgetattr(device)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        hidden.local_modes.insert(LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(device, OptionalActions::Flush, &hidden)?;
        Ok(HiddenInput { device, before })
    }
}

impl Drop for HiddenInput<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.device, OptionalActions::Flush, &self.before);
    }
}
