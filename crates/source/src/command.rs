//! The output of a command given by the user, and a command that takes it back.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::time::Duration;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};
use tempfile::SpooledTempFile;

use crate::body::{BodyEnd, Inspect, body};
use crate::end_marker::Tail;
use crate::interrupt::{self, Interrupt};
use crate::process::{Process, Program};
use crate::{Entry, Error, Result, Source, Target};

/// How much of what is to be restored is held in memory before a temporary file is used, bytes.
const BYTES_IN_MEMORY_MAX: usize = 16 << 20;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct CommandOptions {
    /// Text for `/bin/sh -c`. It is stored in the archive, so it is no place for a secret. Of a pipeline, `sh`
    /// tells the status of the last command only.
    pub command: String,
    /// Name of the entry.
    pub entry_name: String,
    /// A text that is in the last 4 KiB of every whole output, and of no other.
    pub end_marker: Option<String>,
    /// Text for `/bin/sh -c` that takes the output back on its standard input. It is stored too.
    pub restore_command: Option<String>,
    /// Longest time that the command may take in all.
    pub timeout: Option<Duration>,
    /// Ends the command when it writes no byte for so long, milliseconds.
    pub stall_timeout_ms: Option<u64>,
    /// Stops the dump.
    pub interrupt: Interrupt,
}

/// Backs up what a command writes to its standard output. It must end with status 0 and write something, and its end
/// marker where it has one.
#[derive(Debug)]
pub struct CommandSource {
    options: CommandOptions,
    running: Option<(Process, BodyEnd<WatchedEnd>)>,
}

/// Keeps the end of the output.
#[derive(Debug, Default)]
struct WatchedEnd(Tail);

impl Inspect for WatchedEnd {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.feed(bytes);
        Ok(())
    }
}

impl CommandSource {
    /// Runs nothing yet.
    pub fn new(options: CommandOptions) -> CommandSource {
        CommandSource { options, running: None }
    }
}

impl Source for CommandSource {
    fn name(&self) -> &str {
        &self.options.entry_name
    }

    fn open(&mut self) -> Result<Entry> {
        let mut program = shell(&self.options.command);
        if let Some(timeout) = self.options.timeout {
            program = program.timeout(timeout);
        }
        let (process, output) = program
            .interrupt(&self.options.interrupt)
            .stall_timeout_ms(self.options.stall_timeout_ms)
            .spawn_reader()?;
        let (body, end) = body(output, WatchedEnd::default());
        self.running = Some((process, end));
        let mut attributes = BTreeMap::from([(attribute::COMMAND.to_owned(), self.options.command.clone())]);
        if let Some(command) = &self.options.restore_command {
            attributes.insert(attribute::RESTORE_COMMAND.to_owned(), command.clone());
        }
        let name = self.options.entry_name.clone();
        Ok(Entry {
            meta: EntryMeta { name, kind: EntryKind::Command, grid: Grid::Content, attributes },
            body,
        })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let name = self.options.entry_name.clone();
        let (process, end) = self.running.take().ok_or_else(|| Error::Empty { name: name.clone() })?;
        let tail = end.take(&name)?.0;
        let warnings = process.finish()?;
        if tail.total_bytes() == 0 {
            return Err(Error::Empty { name });
        }
        if let Some(marker) = self.options.end_marker.filter(|marker| !tail.has_text(marker)) {
            let detail = format!("its end does not have the text \"{marker}\"");
            return Err(Error::Incomplete { name, detail });
        }
        Ok(EntryReport { attributes: BTreeMap::new(), warnings })
    }
}

fn shell(command: &str) -> Program {
    Program::new("/bin/sh").label(command).arg("-c").arg(command)
}

/// How to give a command's output back.
#[derive(Clone, Debug)]
pub struct CommandTargetOptions {
    /// Text for `/bin/sh -c`, which reads the output from its standard input.
    pub command: String,
    /// Stops the restore.
    pub interrupt: Interrupt,
}

/// Pipes an entry into a command. All of it is read before the command is started: it never sees half of one.
#[derive(Debug)]
pub struct CommandTarget {
    options: CommandTargetOptions,
    loaded: Option<SpooledTempFile>,
}

impl CommandTarget {
    /// Runs nothing yet.
    pub fn new(options: CommandTargetOptions) -> CommandTarget {
        CommandTarget { options, loaded: None }
    }
}

impl Target for CommandTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        Ok(Some(format!("whatever this command writes to: {}", self.options.command)))
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        let mut file = SpooledTempFile::new(BYTES_IN_MEMORY_MAX);
        let bytes = spool(body, &mut file, &self.options.interrupt)?;
        if bytes == 0 {
            return Err(Error::Empty { name: meta.name.clone() });
        }
        self.loaded = Some(file);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.options.interrupt)?;
        let Some(mut file) = self.loaded.take() else {
            let detail = "nothing was loaded".to_owned();
            return Err(Error::Unsuitable { name: self.options.command.clone(), detail });
        };
        let mut writer = shell(&self.options.command).interrupt(&self.options.interrupt).spawn_writer()?;
        writer.feed(&mut file)?;
        let warnings = writer.finish()?;
        Ok(EntryReport { warnings, ..EntryReport::default() })
    }
}

/// Copies all of `body` and goes back to the beginning of `file`. How many bytes there were.
pub(crate) fn spool(
    body: &mut dyn Read,
    file: &mut (impl io::Write + Seek),
    interrupt: &Interrupt,
) -> Result<u64> {
    let mut piece = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        interrupt::check(interrupt)?;
        let count = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::from_io("read what is to be restored", error)),
        };
        file.write_all(&piece[..count]).map_err(Error::io("write a temporary file"))?;
        bytes += count as u64;
    }
    file.rewind().map_err(Error::io("read a temporary file"))?;
    Ok(bytes)
}
