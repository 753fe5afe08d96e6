//! Bytes that are piped in.

use std::collections::BTreeMap;
use std::io::{self, Read};

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::body::{BodyEnd, ByteCount, body};
use crate::interrupt::{self, Interrupt, ready};
use crate::{Entry, Error, Result, Source};

/// Backs up standard input up to its end. Whoever writes it can't tell us that it failed: only an empty stream is
/// refused.
pub struct StdinSource {
    name: String,
    reader: Option<Box<dyn Read + Send>>,
    end: Option<BodyEnd<ByteCount>>,
}

impl StdinSource {
    /// Will read standard input, until `interrupt` is set. `name` is the name of the entry.
    pub fn new(name: impl Into<String>, interrupt: Interrupt) -> StdinSource {
        StdinSource::with_reader(name, Box::new(StandardInput { interrupt }))
    }

    /// Will read `reader` in place of standard input.
    pub fn with_reader(name: impl Into<String>, reader: Box<dyn Read + Send>) -> StdinSource {
        StdinSource { name: name.into(), reader: Some(reader), end: None }
    }
}

impl Source for StdinSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self) -> Result<Entry> {
        // Opened a second time, there is nothing left to read.
        let reader = self.reader.take().unwrap_or_else(|| Box::new(io::empty()));
        let (body, end) = body(reader, ByteCount::default());
        self.end = Some(end);
        let (name, attributes) = (self.name.clone(), BTreeMap::new());
        Ok(Entry { meta: EntryMeta { name, kind: EntryKind::Stdin, grid: Grid::Content, attributes }, body })
    }

    fn finish(self: Box<Self>) -> Result<EntryReport> {
        let count = match &self.end {
            Some(end) => end.take(&self.name)?,
            None => ByteCount(0),
        };
        if count.0 == 0 {
            return Err(Error::Empty { name: self.name.clone() });
        }
        Ok(EntryReport::default())
    }
}

/// Standard input without the standard library's buffer, which would hide from `poll` what it holds.
struct StandardInput {
    interrupt: Interrupt,
}

impl Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            interrupt::check(&self.interrupt).map_err(Error::into_io)?;
            if !ready(rustix::stdio::stdin(), PollFlags::IN)? {
                continue;
            }
            match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }
}
