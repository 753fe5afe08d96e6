//! Restore: entries loaded beside what is there, then put in its place, all after all are loaded.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;

use dbvault_format::entry::EntryReport;
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{Reader, StreamReader};
use dbvault_source::{Interrupt, Target};

use crate::registry::{self, Destination, TargetSpec};
use crate::{Error, Result, Watcher, selection};

/// What is to be restored to where, looked up but not begun.
pub struct RestorePlan {
    /// The entries, in the order of the archive.
    pub items: Vec<PlannedEntry>,
    /// Names of entries that were not asked for by name and can't be restored.
    pub left_out: Vec<String>,
}

/// One entry of a [`RestorePlan`].
pub struct PlannedEntry {
    /// The entry.
    pub record: EntryRecord,
    /// Where it goes, in words.
    pub destination: String,
    /// What it would overwrite, in words; `None` where nothing is there.
    pub replaces: Option<String>,
    target: Box<dyn Target>,
}

/// An entry that is in place.
#[derive(Clone, Debug)]
pub struct RestoredEntry {
    /// The entry.
    pub record: EntryRecord,
    /// Where it went, in words.
    pub destination: String,
    /// What it replaced, in words.
    pub replaced: Option<String>,
    /// What the target says of it.
    pub report: EntryReport,
}

impl RestorePlan {
    /// Chooses the entries that `wanted` names, or all that can be restored where it names none, and asks their
    /// targets what is there. Changes nothing. With `spec.to` there must be one entry.
    pub fn make(
        archive: &str,
        entries: &[EntryRecord],
        wanted: &[String],
        spec: &TargetSpec,
        interrupt: &Interrupt,
    ) -> Result<RestorePlan> {
        let (chosen, left_out) = choose(archive, entries, wanted)?;
        if spec.to.is_some() && chosen.len() != 1 {
            let available = chosen.iter().map(|entry| entry.meta.name.clone()).collect();
            return Err(Error::EntryUnchosen { archive: archive.to_owned(), available });
        }
        let mut items = Vec::new();
        let mut destinations = BTreeSet::new();
        for record in chosen {
            let Destination { mut target, words } = registry::target(record, spec, interrupt)?;
            if !destinations.insert(words.clone()) {
                return Err(Error::DestinationTwice { destination: words });
            }
            let name = &record.meta.name;
            let replaces = target.occupied().map_err(|error| Error::restore(name, error, &[]))?;
            items.push(PlannedEntry { record: record.clone(), destination: words, replaces, target });
        }
        Ok(RestorePlan { items, left_out })
    }

    /// Loads all entries beside what is there and then puts them in place. `confirm` is asked first where
    /// anything would be overwritten.
    ///
    /// Errors: what is there is as it was, but for the entries that [`Error::Restore`] lists as restored.
    pub fn execute(
        self,
        reader: &Arc<Reader>,
        watcher: &dyn Watcher,
        confirm: &mut dyn FnMut(&[PlannedEntry]) -> Result<bool>,
    ) -> Result<Vec<RestoredEntry>> {
        let replaced: Vec<String> = self.items.iter().filter_map(|item| item.replaces.clone()).collect();
        if !replaced.is_empty() && !confirm(&self.items)? {
            return Err(Error::Declined { what: replaced.join(", ") });
        }
        let mut items = self.items;
        let count = items.len();
        for (index, item) in items.iter_mut().enumerate() {
            watcher.entry_begins(&item.record.meta.name, index, count, Some(item.record.stream.bytes));
            load(reader, item)?;
        }
        let mut restored: Vec<RestoredEntry> = Vec::new();
        for PlannedEntry { record, destination, replaces, target } in items {
            let report = target.finish().map_err(|error| {
                let before: Vec<String> =
                    restored.iter().map(|entry| entry.record.meta.name.clone()).collect();
                Error::restore(&record.meta.name, error, &before)
            })?;
            restored.push(RestoredEntry { record, destination, replaced: replaces, report });
        }
        Ok(restored)
    }
}

fn choose<'a>(
    archive: &str,
    entries: &'a [EntryRecord],
    wanted: &[String],
) -> Result<(Vec<&'a EntryRecord>, Vec<String>)> {
    let mut chosen: Vec<&EntryRecord> = Vec::new();
    for name in wanted {
        let entry = selection::find(archive, entries, name)?;
        if chosen.iter().all(|other| other.meta.name != entry.meta.name) {
            chosen.push(entry);
        }
    }
    if !wanted.is_empty() {
        return Ok((chosen, Vec::new()));
    }
    let (chosen, rest): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| registry::restorable(entry.meta.kind));
    match (chosen.is_empty(), rest.first()) {
        (true, Some(first)) => {
            let (entry, kind) = (first.meta.name.clone(), first.meta.kind.name());
            Err(Error::NotRestorable { entry, kind })
        }
        _ => Ok((chosen, rest.iter().map(|entry| entry.meta.name.clone()).collect())),
    }
}

fn load(reader: &Arc<Reader>, item: &mut PlannedEntry) -> Result<()> {
    let mut stream = Stream { inner: reader.open_stream(&item.record.stream)?, failure: None };
    match (item.target.load(&item.record.meta, &mut stream), stream.failure) {
        (Ok(()), None) => Ok(()),
        // Whatever the target makes of it, the repository's failure is the cause.
        (_, Some(failure)) => Err(Error::from_stream(failure)),
        (Err(error), None) => Err(Error::restore(&item.record.meta.name, error, &[])),
    }
}

/// A stream that keeps the repository's error, which targets can't know.
struct Stream {
    inner: StreamReader,
    failure: Option<io::Error>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            self.failure = Some(error);
            io::Error::other("the repository can't be read")
        })
    }
}
