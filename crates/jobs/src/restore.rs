//! Restore: entries loaded beside what is there, then put in its place, all after all are loaded.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

use dbvault_format::entry::{EntryReport, attribute, part};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{Reader, StreamReader};
use dbvault_source::{Interrupt, Part, Target};
use parking_lot::Mutex;

use crate::database::Database;
use crate::registry::{self, Destination, TargetSpec};
use crate::selection::Origin;
use crate::{Error, Result, Watcher, selection};

/// Most databases that are loaded at once where nobody says how many.
const LANES_DEFAULT_MAX: usize = 4;

/// What to restore, and to where.
#[derive(Clone, Debug, Default)]
pub struct RestoreRequest {
    /// Names of entries or databases; all where there are none.
    pub wanted: Vec<String>,
    /// Which of several of one name.
    pub origin: Origin,
    /// Where to, and how.
    pub spec: TargetSpec,
    /// Databases of the configuration.
    pub databases: Vec<Database>,
}

/// What is to be restored to where, looked up but not begun.
pub struct RestorePlan {
    /// What belongs to servers as a whole, then databases, in the order of the archive.
    pub items: Vec<PlannedEntry>,
    /// Names of entries that were not asked for by name and can't be restored.
    pub left_out: Vec<String>,
    lanes: usize,
}

/// One entry of a [`RestorePlan`], or a database that was dumped in parts.
pub struct PlannedEntry {
    /// The entry, or the first part.
    pub record: EntryRecord,
    /// All parts; none where it was dumped as one.
    pub parts: Vec<EntryRecord>,
    /// Where it goes, in words.
    pub destination: String,
    /// What it would overwrite, in words; `None` where nothing is there.
    pub replaces: Option<String>,
    target: Box<dyn Target>,
}

impl PlannedEntry {
    /// The name of the entry, or of what it is a part of.
    pub fn name(&self) -> &str {
        self.record.attribute(attribute::WHOLE).unwrap_or(&self.record.meta.name)
    }

    /// Bytes of its streams.
    pub fn original_bytes(&self) -> u64 {
        match self.parts.as_slice() {
            [] => self.record.stream.bytes,
            parts => parts.iter().map(|part| part.stream.bytes).sum(),
        }
    }

    fn is_globals(&self) -> bool {
        self.record.attribute(attribute::PART) == Some(part::GLOBALS)
    }
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
    /// Chooses the entries that are wanted, or all that can be restored where none is named, and asks their targets
    /// what is there. Changes nothing. With `spec.to` there must be one.
    pub fn make(
        archive: &str,
        entries: &[EntryRecord],
        request: &RestoreRequest,
        interrupt: &Interrupt,
    ) -> Result<RestorePlan> {
        let from_there: Vec<EntryRecord> =
            entries.iter().filter(|entry| request.origin.fits(entry)).cloned().collect();
        let (chosen, left_out) = choose(archive, &from_there, &request.wanted)?;
        let spec = &request.spec;
        let databases = chosen.iter().filter(|whole| !is_globals(whole)).count();
        if (spec.to.is_some() || !spec.schemas.is_empty()) && databases != 1 {
            let available =
                chosen.iter().filter_map(|whole| whole.first()).map(|entry| name_of(entry).to_owned());
            return Err(Error::EntryUnchosen { archive: archive.to_owned(), available: available.collect() });
        }
        let mut items = Vec::new();
        let mut destinations = BTreeSet::new();
        for whole in chosen {
            // Who picks from a database does not mean the roles of its server.
            if is_globals(&whole) && (spec.to.is_some() || !spec.schemas.is_empty()) {
                continue;
            }
            let Some((record, rest)) = whole.split_first() else { continue };
            let parts = if rest.is_empty() && record.attribute(attribute::WHOLE).is_none() {
                Vec::new()
            } else {
                whole.clone()
            };
            let Destination { mut target, words } =
                registry::target(record, spec, &request.databases, interrupt)?;
            if !destinations.insert(words.clone()) {
                return Err(Error::DestinationTwice { destination: words });
            }
            let replaces = target.occupied().map_err(|error| Error::restore(name_of(record), error, &[]))?;
            items.push(PlannedEntry { record: record.clone(), parts, destination: words, replaces, target });
        }
        // Roles before what belongs to them.
        items.sort_by_key(|item| !item.is_globals());
        let cores = thread::available_parallelism().map_or(1, usize::from).min(LANES_DEFAULT_MAX);
        Ok(RestorePlan { items, left_out, lanes: spec.parallel.unwrap_or(cores).max(1) })
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
        let count = self.items.len();
        let (globals, databases): (Vec<_>, Vec<_>) =
            self.items.into_iter().enumerate().partition(|(_, item)| item.is_globals());
        let mut restored: Vec<RestoredEntry> = Vec::new();
        // Roles are needed while databases are loaded; to make those that are missing does no harm.
        for (index, mut item) in globals {
            load(reader, &mut item, watcher, (index, count))?;
            restored.push(put_in_place(item, &restored)?);
        }
        for item in load_all(reader, databases, watcher, (self.lanes, count))? {
            restored.push(put_in_place(item, &restored)?);
        }
        Ok(restored)
    }
}

/// What an entry is called, or what it is a part of.
fn name_of(entry: &EntryRecord) -> &str {
    entry.attribute(attribute::WHOLE).unwrap_or(&entry.meta.name)
}

fn is_globals(whole: &[EntryRecord]) -> bool {
    whole.first().is_some_and(|entry| entry.attribute(attribute::PART) == Some(part::GLOBALS))
}

/// Loads items side by side. After an error the others are given up.
fn load_all(
    reader: &Arc<Reader>,
    items: Vec<(usize, PlannedEntry)>,
    watcher: &dyn Watcher,
    (lanes, count): (usize, usize),
) -> Result<Vec<PlannedEntry>> {
    let lanes = lanes.min(items.len());
    let waiting = Mutex::new(items.into_iter());
    let (loaded, failure) = (Mutex::new(Vec::new()), Mutex::new(None));
    let lane = || {
        loop {
            if failure.lock().is_some() {
                return;
            }
            let Some((index, mut item)) = waiting.lock().next() else { return };
            match load(reader, &mut item, watcher, (index, count)) {
                Ok(()) => loaded.lock().push((index, item)),
                Err(error) => drop(failure.lock().get_or_insert(error)),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..lanes {
            scope.spawn(lane);
        }
        lane();
    });
    if let Some(error) = failure.lock().take() {
        return Err(error);
    }
    let mut loaded = loaded.into_inner();
    loaded.sort_by_key(|(index, _)| *index);
    Ok(loaded.into_iter().map(|(_, item)| item).collect())
}

fn put_in_place(item: PlannedEntry, before: &[RestoredEntry]) -> Result<RestoredEntry> {
    let PlannedEntry { record, destination, replaces, target, .. } = item;
    let report = target.finish().map_err(|error| {
        let before: Vec<String> = before.iter().map(|entry| name_of(&entry.record).to_owned()).collect();
        Error::restore(name_of(&record), error, &before)
    })?;
    Ok(RestoredEntry { record, destination, replaced: replaces, report })
}

/// The entries that are chosen, with all parts of each, and the names of those that can't be restored.
fn choose(
    archive: &str,
    entries: &[EntryRecord],
    wanted: &[String],
) -> Result<(Vec<Vec<EntryRecord>>, Vec<String>)> {
    let mut chosen: Vec<Vec<EntryRecord>> = Vec::new();
    let mut add = |whole: Vec<&EntryRecord>| {
        let name = whole.first().map(|entry| name_of(entry));
        if chosen.iter().all(|other| other.first().map(name_of) != name) {
            chosen.push(whole.into_iter().cloned().collect());
        }
    };
    for name in wanted {
        add(selection::find_whole(archive, entries, name)?);
    }
    if !wanted.is_empty() {
        return Ok((chosen, Vec::new()));
    }
    let (restorable, rest): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| registry::restorable(entry));
    for entry in &restorable {
        add(selection::find_whole(archive, entries, name_of(entry))?);
    }
    match (restorable.is_empty(), rest.first()) {
        (true, Some(first)) => {
            let (entry, kind) = (first.meta.name.clone(), first.meta.kind.name());
            Err(Error::NotRestorable { entry, kind })
        }
        _ => Ok((chosen, rest.iter().map(|entry| entry.meta.name.clone()).collect())),
    }
}

fn load(
    reader: &Arc<Reader>,
    item: &mut PlannedEntry,
    watcher: &dyn Watcher,
    (index, count): (usize, usize),
) -> Result<()> {
    let name = item.name().to_owned();
    watcher.entry_begins(&name, index, count, Some(item.original_bytes()));
    let failure = Arc::new(Mutex::new(None));
    let open = |record: &EntryRecord| -> Result<Stream> {
        Ok(Stream { inner: reader.open_stream(&record.stream)?, failure: failure.clone() })
    };
    let loaded = match item.parts.as_slice() {
        [] => item.target.load(&item.record.meta, &mut open(&item.record)?),
        parts => {
            let part = |record: &EntryRecord| -> Result<Part<'_>> {
                Ok(Part { meta: record.meta.clone(), body: Box::new(open(record)?) })
            };
            item.target.load_parts(parts.iter().map(part).collect::<Result<_>>()?)
        }
    };
    watcher.entry_ends(&name);
    let failure = failure.lock().take();
    match (loaded, failure) {
        (Ok(()), None) => Ok(()),
        // Whatever the target makes of it, the repository's failure is the cause.
        (_, Some(failure)) => Err(Error::from_stream(failure)),
        (Err(error), None) => Err(Error::restore(&name, error, &[])),
    }
}

/// A stream that keeps the repository's error, which targets can't know.
struct Stream {
    inner: StreamReader,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            self.failure.lock().get_or_insert(error);
            io::Error::other("the repository can't be read")
        })
    }
}
