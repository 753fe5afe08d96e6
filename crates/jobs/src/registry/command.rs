//! Commands that the user gives: what they print, and what is piped to them.

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{CommandOptions, CommandSource, CommandTarget, CommandTargetOptions, Interrupt, Source};

use super::Destination;
use crate::database::CommandDump;
use crate::{Error, Result};

/// Makes the source of what a command prints.
pub(super) fn source(command: String, name: String, interrupt: &Interrupt) -> Box<dyn Source> {
    let interrupt = interrupt.clone();
    let options = CommandOptions { command, entry_name: name, interrupt, ..CommandOptions::default() };
    Box::new(CommandSource::new(options))
}

/// Makes the source of a command that a configuration names.
pub(super) fn dump(dump: &CommandDump, interrupt: &Interrupt) -> Box<dyn Source> {
    let CommandDump { name, dump, restore, end_marker, timeout } = dump.clone();
    Box::new(CommandSource::new(CommandOptions {
        command: dump,
        entry_name: name,
        restore_command: restore,
        end_marker,
        timeout,
        interrupt: interrupt.clone(),
        ..CommandOptions::default()
    }))
}

/// Makes the target of what a command printed: the command that was recorded to take it back.
pub(super) fn target(entry: &EntryRecord, interrupt: &Interrupt) -> Result<Destination> {
    let Some(command) = entry.attribute(attribute::RESTORE_COMMAND) else {
        return Err(Error::NotRestorable { entry: entry.meta.name.clone(), kind: entry.meta.kind.name() });
    };
    let options = CommandTargetOptions { command: command.to_owned(), interrupt: interrupt.clone() };
    let words = format!("command {command}");
    Ok(Destination { target: Box::new(CommandTarget::new(options)), words })
}
