//! Tables of a database in two archives: what changed in which, with no more read than what changed.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use dbvault_dump::{Error as Dumped, Format, Table};
use dbvault_format::chunk_list::StreamRef;
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{Reader, StreamDiff};

use crate::diff::{Change, EntryDiff};
use crate::diff_rows::{self, Both, Form, Side};
use crate::stored_dump::StoredDump;
use crate::{Error, Result, contents};

pub use crate::diff_rows::DIFFERING_MAX;

/// Where a dump in the custom format tells how many bytes its integers have, and how many there must be.
const INTEGER_BYTES_AT: u64 = 8;
const INTEGER_BYTES: u8 = 4;

/// One table in two archives.
#[derive(Clone, Debug)]
pub struct TableDiff {
    /// Its name with its schema.
    pub table: String,
    /// How it differs.
    pub change: Change,
    /// Rows in the older archive, where they were counted.
    pub old_rows: Option<u64>,
    /// Rows in the newer one.
    pub new_rows: Option<u64>,
    /// Bytes of its rows in the older archive.
    pub old_bytes: Option<u64>,
    /// Bytes of its rows in the newer one.
    pub new_bytes: Option<u64>,
    /// Rows that only the older one has; a row that was changed is one, and one added. `None` where more than
    /// [`DIFFERING_MAX`] differ, or they can't be compared.
    pub removed_rows: Option<u64>,
    /// Rows that only the newer one has.
    pub added_rows: Option<u64>,
    /// Its columns are not the same, so that no row can be.
    pub columns_changed: bool,
}

/// One side of a comparison.
struct Opened {
    dump: StoredDump,
    /// Where each part begins, if all were one stream.
    begins: Vec<u64>,
}

impl Opened {
    /// `None` where nothing is known of the inside of such a dump.
    fn new(reader: &Arc<Reader>, whole: &[&EntryRecord]) -> Result<Option<Opened>> {
        let dump = match StoredDump::open(reader, whole) {
            Ok(dump) => dump,
            Err(Error::Contents(Dumped::Unsupported { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        let begins = whole.iter().scan(0, |at, part| {
            let begin = *at;
            *at += part.stream.bytes;
            Some(begin)
        });
        let begins = begins.collect();
        Ok(Some(Opened { dump, begins }))
    }

    /// Tables that have rows, by their names.
    fn tables(&self) -> BTreeMap<String, &Table> {
        let with_rows = self.dump.contents.tables().iter().filter(|table| table.has_rows);
        with_rows.map(|table| (table.sql_name(), table)).collect()
    }

    /// The part that has the rows of a table, and where in it.
    fn side(&self, table: &Table) -> Result<Option<(usize, Side)>> {
        let extents = self.dump.contents.extents(table).map_err(|error| self.dump.cause(error.into()))?;
        let [extent] = extents.as_slice() else { return Ok(None) };
        let Some(stream) = self.dump.streams.get(extent.part) else { return Ok(None) };
        let range = extent.offset..extent.offset + extent.length;
        Ok(Some((extent.part, Side { stream: stream.clone(), range })))
    }
}

/// Compares the tables of a database that is in both archives, by name. `None` where nothing is known of the inside of
/// such a dump.
pub fn tables<'a>(reader: &Arc<Reader>, entry: &'a EntryDiff) -> Result<Option<Vec<TableDiff>>> {
    let in_order = |whole: &'a [EntryRecord]| contents::in_order(&whole.iter().collect::<Vec<_>>());
    let (before, after) = (in_order(&entry.old), in_order(&entry.new));
    let open = |whole: &[&EntryRecord]| if whole.is_empty() { Ok(None) } else { Opened::new(reader, whole) };
    let (old, new) = (open(&before)?, open(&after)?);
    if old.is_none() && new.is_none() {
        return Ok(None);
    }
    let streams =
        |whole: &[&EntryRecord]| -> Vec<StreamRef> { whole.iter().map(|part| part.stream).collect() };
    let shared = reader.diff_streams(&streams(&before), &streams(&after))?;
    let (old_tables, new_tables) = (
        old.as_ref().map(Opened::tables).unwrap_or_default(),
        new.as_ref().map(Opened::tables).unwrap_or_default(),
    );
    let names: std::collections::BTreeSet<&String> = old_tables.keys().chain(new_tables.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let (before, after) = (old_tables.get(name).copied(), new_tables.get(name).copied());
        let mut diff = TableDiff {
            table: name.clone(),
            change: Change::Unchanged,
            old_rows: before.and_then(|table| table.rows),
            new_rows: after.and_then(|table| table.rows),
            old_bytes: before.and_then(|table| table.bytes),
            new_bytes: after.and_then(|table| table.bytes),
            removed_rows: Some(0),
            added_rows: Some(0),
            columns_changed: false,
        };
        match (before, after, &old, &new) {
            (Some(before), Some(after), Some(old), Some(new)) => {
                compare(&mut diff, (old, before), (new, after), &shared)?;
            }
            (Some(_), ..) => (diff.change, diff.removed_rows) = (Change::Removed, diff.old_rows),
            _ => (diff.change, diff.added_rows) = (Change::Added, diff.new_rows),
        }
        found.push(diff);
    }
    Ok(Some(found))
}

fn compare(
    diff: &mut TableDiff,
    (old, before): (&Opened, &Table),
    (new, after): (&Opened, &Table),
    shared: &StreamDiff,
) -> Result<()> {
    diff.columns_changed = old.dump.contents.columns(before) != new.dump.contents.columns(after);
    let counted = if diff.columns_changed {
        Some((None, None))
    } else {
        let counted = match count_by_ranges((old, before), (new, after), shared) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                count_all((old, before), (new, after))
            }
            counted => counted,
        };
        let counted = counted.map_err(|error| {
            let as_job = |error| Error::from_stream(error);
            old.dump.cause(new.dump.cause(as_job(error)))
        })?;
        counted.map(|(removed, added)| (Some(removed), Some(added)))
    };
    (diff.removed_rows, diff.added_rows) = counted.unwrap_or((None, None));
    let same = diff.removed_rows == Some(0) && diff.added_rows == Some(0);
    diff.change = if same { Change::Unchanged } else { Change::Changed };
    Ok(())
}

type Counted = io::Result<Option<(u64, u64)>>;

/// Reads only what both do not share. Errors: [`io::ErrorKind::InvalidData`] where that can't be done.
fn count_by_ranges(
    (old, before): (&Opened, &Table),
    (new, after): (&Opened, &Table),
    shared: &StreamDiff,
) -> Counted {
    let failed = |error: Error| io::Error::other(error.to_string());
    let odd = || io::Error::from(io::ErrorKind::InvalidData);
    let (old_part, old_side) = old.side(before).map_err(failed)?.ok_or_else(odd)?;
    let (new_part, new_side) = new.side(after).map_err(failed)?.ok_or_else(odd)?;
    let form = form(&old_side)?;
    if form.is_none() || form != self::form(&new_side)? {
        return Err(odd());
    }
    let begin = |opened: &Opened, part: usize| opened.begins.get(part).copied().unwrap_or(0);
    let (old_begin, new_begin) = (begin(old, old_part), begin(new, new_part));
    let of_all = |range: &Range<u64>, begin: u64| range.start + begin..range.end + begin;
    let (in_old, in_new) = (of_all(&old_side.range, old_begin), of_all(&new_side.range, new_begin));
    let clip = |run: &dbvault_repo::SharedRun| {
        // How much of the run is before both tables begin, and behind which one of them has ended.
        let before = in_old.start.saturating_sub(run.left).max(in_new.start.saturating_sub(run.right));
        let end =
            in_old.end.saturating_sub(run.left).min(in_new.end.saturating_sub(run.right)).min(run.bytes);
        (before < end).then(|| Both {
            old: run.left + before - old_begin,
            new: run.right + before - new_begin,
            bytes: end - before,
        })
    };
    let both: Vec<Both> = shared.shared.iter().filter_map(clip).collect();
    diff_rows::count(&old_side, &new_side, &both, form.unwrap_or(Form::Lines))
}

/// How rows stand in a stream; `None` where that is not known.
fn form(side: &Side) -> io::Result<Option<Form>> {
    let mut start = [0; INTEGER_BYTES_AT as usize + 1];
    if side.stream.read_at(0, &mut start)? < start.len() || !start.starts_with(b"PGDMP") {
        return Ok(Some(Form::Lines));
    }
    Ok((start[INTEGER_BYTES_AT as usize] == INTEGER_BYTES).then_some(Form::Pieces))
}

/// Reads all rows of both.
fn count_all((old, before): (&Opened, &Table), (new, after): (&Opened, &Table)) -> Counted {
    let rows = |opened: &Opened, table: &Table| opened.dump.contents.rows(table, Format::Copy);
    match (rows(old, before), rows(new, after)) {
        (Ok(old), Ok(new)) => diff_rows::count_all(old, new),
        // Rows that are no lines can't be compared.
        (Err(Dumped::Form { .. }), _) | (_, Err(Dumped::Form { .. })) => Ok(None),
        (Err(error), _) | (_, Err(error)) => Err(io::Error::other(error)),
    }
}
