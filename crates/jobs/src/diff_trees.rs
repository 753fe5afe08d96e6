//! Trees compared: which files one archive has and another has not, and what of each has changed. Both file tables are
//! followed side by side; whether content differs is told by its chunks, and only read where these are others.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::file_table::{FileRecord, compare_paths};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{Reader, TableReader};

use crate::Result;
use crate::diff::Change;
use crate::diff_files::Sides;

/// What of a file has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aspects(pub(crate) u16);

impl Aspects {
    /// Its content.
    pub const CONTENT: Aspects = Aspects(1);
    /// It is something else, such as a directory that was a file.
    pub const KIND: Aspects = Aspects(1 << 1);
    /// Its permission bits.
    pub const MODE: Aspects = Aspects(1 << 2);
    /// Its owner or group.
    pub const OWNER: Aspects = Aspects(1 << 3);
    /// When its content was changed last.
    pub const TIME: Aspects = Aspects(1 << 4);
    /// Extended attributes, access control lists among them.
    pub const XATTRS: Aspects = Aspects(1 << 5);
    /// Where a symbolic link leads.
    pub const TARGET: Aspects = Aspects(1 << 6);
    /// The numbers of a device.
    pub const DEVICE: Aspects = Aspects(1 << 7);
    /// Which file it is another name of.
    pub const LINK: Aspects = Aspects(1 << 8);
    /// Flags, as `chattr` sets them.
    pub const FLAGS: Aspects = Aspects(1 << 9);
    /// Where a sparse file has its holes.
    pub const HOLES: Aspects = Aspects(1 << 10);

    const NAMES: [&'static str; 11] =
        ["content", "kind", "mode", "owner", "time", "xattrs", "target", "device", "link", "flags", "holes"];

    /// Whether one of these is among them.
    pub fn has(self, other: Aspects) -> bool {
        self.0 & other.0 != 0
    }

    /// The words for them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, name)| name)
    }

    pub(crate) fn add(&mut self, other: Aspects, holds: bool) {
        if holds {
            self.0 |= other.0;
        }
    }
}

/// A file that differs.
#[derive(Clone, Copy, Debug)]
pub struct FileDiff<'a> {
    /// How.
    pub change: Change,
    /// What of it, where both archives have it.
    pub aspects: Aspects,
    /// Its record in the older archive.
    pub old: Option<&'a FileRecord>,
    /// Its record in the newer one.
    pub new: Option<&'a FileRecord>,
}

impl FileDiff<'_> {
    /// Its path, from `/` on, without a slash at either end.
    pub fn path(&self) -> &[u8] {
        self.new.or(self.old).map(|record| record.path.as_slice()).unwrap_or_default()
    }
}

/// How many files differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeDiff {
    /// Only in the newer archive.
    pub added: u64,
    /// Only in the older one.
    pub removed: u64,
    /// In both, and not the same.
    pub changed: u64,
    /// Those of them that have other content.
    pub content_changed: u64,
    /// In both, and the same; not counted where the tables are the same.
    pub unchanged: Option<u64>,
}

impl TreeDiff {
    /// Files that differ.
    pub fn differing(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}

/// A record, and where its content is.
pub(crate) type Placed = (FileRecord, Range<u64>);

/// The records of one side that are looked at.
struct Records<'a> {
    reader: &'a Reader,
    table: Option<TableReader>,
    takes: &'a dyn Fn(&[u8]) -> bool,
}

impl Records<'_> {
    fn next(&mut self) -> Result<Option<Placed>> {
        for step in self.table.iter_mut().flatten() {
            self.reader.check_interrupt()?;
            let (record, content) = step?;
            if (self.takes)(&record.path) {
                return Ok(Some((record, content)));
            }
        }
        Ok(None)
    }
}

/// Compares the files of two trees, as far as `takes` says; calls `each` with what differs, in the order of the tables, until
/// it gives false. A tree that is not there has no files. Times of the last change of an inode, and inodes, are no difference.
///
/// Memory: some 20 bytes for a regular file that has changed, and what is needed to look into the tables where a file is
/// another name of one that is not looked at.
pub fn diff_trees(
    reader: &Arc<Reader>,
    old: Option<&EntryRecord>,
    new: Option<&EntryRecord>,
    takes: &dyn Fn(&[u8]) -> bool,
    each: &mut dyn FnMut(&FileDiff<'_>) -> bool,
) -> Result<TreeDiff> {
    let mut counts = TreeDiff { unchanged: Some(0), ..TreeDiff::default() };
    if let (Some(old), Some(new)) = (old, new)
        && (old.stream, old.table) == (new.stream, new.table)
    {
        return Ok(TreeDiff { unchanged: None, ..counts });
    }
    let mut sides = old.zip(new).map(|(old, new)| Sides::new(reader, old, new, takes)).transpose()?;
    let records = |entry: Option<&EntryRecord>| -> Result<Records<'_>> {
        let table = entry.map(|entry| reader.open_table(entry)).transpose()?;
        Ok(Records { reader, table, takes })
    };
    let (mut olds, mut news) = (records(old)?, records(new)?);
    let (mut left, mut right) = (olds.next()?, news.next()?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(counts),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((left, _)), Some((right, _))) => compare_paths(&left.path, &right.path),
        };
        let (change, aspects) = match (order, &mut sides, &left, &right) {
            (Ordering::Equal, Some(sides), Some(left), Some(right)) => match sides.compare(left, right)? {
                Aspects(0) => (Change::Unchanged, Aspects(0)),
                aspects => (Change::Changed, aspects),
            },
            (Ordering::Less, ..) => (Change::Removed, Aspects::default()),
            _ => (Change::Added, Aspects::default()),
        };
        counts.count(change, aspects);
        if change != Change::Unchanged {
            let old = left.as_ref().filter(|_| order != Ordering::Greater).map(|(record, _)| record);
            let new = right.as_ref().filter(|_| order != Ordering::Less).map(|(record, _)| record);
            if !each(&FileDiff { change, aspects, old, new }) {
                return Ok(counts);
            }
        }
        if order != Ordering::Greater {
            left = olds.next()?;
        }
        if order != Ordering::Less {
            right = news.next()?;
        }
    }
}

impl TreeDiff {
    fn count(&mut self, change: Change, aspects: Aspects) {
        match change {
            Change::Added => self.added += 1,
            Change::Removed => self.removed += 1,
            Change::Unchanged => self.unchanged = self.unchanged.map(|count| count + 1),
            Change::Changed => {
                self.changed += 1;
                self.content_changed += u64::from(aspects.has(Aspects::CONTENT));
            }
        }
    }
}
