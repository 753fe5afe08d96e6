//! The inside of a stored dump: an archive and a database to tables.

use std::io;
use std::sync::Arc;

use dbvault_dump::{Contents, Part, ReadAt};
use dbvault_format::entry::{attribute, part};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{RandomReader, Reader};

use crate::{Error, Result};

/// A stored stream, read where it is asked for.
struct Stored(RandomReader);

impl ReadAt for Stored {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, out).map_err(io::Error::other)
    }

    fn will_read_to(&self, end: u64) {
        self.0.stop_ahead_at(end);
    }
}

/// Looks into one database: `whole` are its entries, as [`crate::selection::find_whole`] gives them. Reads what lists its
/// tables.
///
/// Errors: [`Error::Contents`] where nothing is known of the inside of such an entry.
pub fn open(reader: &Arc<Reader>, whole: &[&EntryRecord]) -> Result<Contents> {
    let part = |record: &&EntryRecord| -> Result<Part> {
        Ok(Part::of(record, Arc::new(Stored(reader.open_random(&record.stream)?))))
    };
    Ok(Contents::open(in_order(whole).iter().map(part).collect::<Result<_>>()?)?)
}

/// Parts in the order in which they are restored: they are stored in the order in which they were finished.
pub(crate) fn in_order<'a>(whole: &[&'a EntryRecord]) -> Vec<&'a EntryRecord> {
    let mut ordered = whole.to_vec();
    ordered.sort_by_key(|record| match record.attribute(attribute::PART) {
        Some(part::PRE_DATA) => 0,
        Some(part::POST_DATA) => 2,
        _ => 1,
    });
    ordered
}

/// What the user calls the database that these entries are.
pub fn name<'a>(whole: &[&'a EntryRecord]) -> &'a str {
    whole.first().map_or("", |entry| entry.attribute(attribute::WHOLE).unwrap_or(&entry.meta.name))
}

/// The entries of an archive that may have tables, those together that are parts of one database; without roles, settings
/// and configurations.
pub fn wholes(entries: &[EntryRecord]) -> Vec<Vec<&EntryRecord>> {
    let mut wholes: Vec<Vec<&EntryRecord>> = Vec::new();
    let aside = [part::GLOBALS, part::SETTINGS, part::CONFIGURATION];
    let is_aside =
        |entry: &&EntryRecord| entry.attribute(attribute::PART).is_some_and(|part| aside.contains(&part));
    for entry in entries.iter().filter(|entry| !is_aside(entry)) {
        let whole = entry.attribute(attribute::WHOLE);
        let others = |other: &&mut Vec<&EntryRecord>| {
            whole.is_some() && other.first().is_some_and(|first| first.attribute(attribute::WHOLE) == whole)
        };
        match wholes.iter_mut().find(others) {
            Some(others) => others.push(entry),
            None => wholes.push(vec![entry]),
        }
    }
    wholes
}

impl From<dbvault_dump::Error> for Error {
    fn from(error: dbvault_dump::Error) -> Error {
        match error {
            dbvault_dump::Error::Read { source, .. } => Error::from_stream(source),
            other => Error::Contents(other),
        }
    }
}
