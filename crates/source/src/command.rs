//! The output of a command given by the user.

use std::collections::BTreeMap;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};

use crate::body::{BodyEnd, ByteCount, body};
use crate::interrupt::Interrupt;
use crate::process::{Process, Program};
use crate::{Entry, Error, Result, Source};

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct CommandOptions {
    /// Text for `/bin/sh -c`. It is stored in the archive, so it is no place for a secret. Of a pipeline, `sh`
    /// tells the status of the last command only.
    pub command: String,
    /// Name of the entry.
    pub entry_name: String,
    /// Stops the dump.
    pub interrupt: Interrupt,
}

/// Backs up what a command writes to its standard output. It must end with status 0 and write something.
#[derive(Debug)]
pub struct CommandSource {
    options: CommandOptions,
    running: Option<(Process, BodyEnd<ByteCount>)>,
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
        let (process, output) = Program::new("/bin/sh")
            .label(&self.options.command)
            .arg("-c")
            .arg(&self.options.command)
            .interrupt(&self.options.interrupt)
            .spawn_reader()?;
        let (body, end) = body(output, ByteCount::default());
        self.running = Some((process, end));
        let attributes = BTreeMap::from([(attribute::COMMAND.to_owned(), self.options.command.clone())]);
        let name = self.options.entry_name.clone();
        Ok(Entry {
            meta: EntryMeta { name, kind: EntryKind::Command, grid: Grid::Content, attributes },
            body,
        })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let name = self.options.entry_name.clone();
        let (process, end) = self.running.take().ok_or_else(|| Error::Empty { name: name.clone() })?;
        let count = end.take(&name)?;
        let warnings = process.finish()?;
        if count.0 == 0 {
            return Err(Error::Empty { name });
        }
        Ok(EntryReport { attributes: BTreeMap::new(), warnings })
    }
}
