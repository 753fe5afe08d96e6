//! File tables at any place: what is a path, and what is in a directory, without reading the table each time.
//!
//! The table is followed once, from its beginning to its end. Every 32 KiB its place is noted, with the path there: as paths
//! are in order, a path is in one page between two such places, and what follows a directory is found likewise. Pages are
//! decoded when they are looked at.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use dbvault_format::file_table::{FileKind, FileTableOrder, compare_paths, decode_record};
use dbvault_format::id::ChunkId;
use dbvault_format::manifest::EntryRecord;

use crate::table_pages::{Page, TableFile, TablePages};
use crate::table_reader::{damaged, malformed, placed};
use crate::{Error, RandomReader, Reader, Result};

/// Bytes of a table between two places that are noted, about.
const PAGE_BYTES: u64 = 32 << 10;

/// Where a page begins.
#[derive(Debug)]
struct PageBegin {
    /// Bytes from the beginning of the table.
    at: u64,
    /// Where the content of the record before ends, bytes.
    content_end: u64,
    /// Path of its first record.
    path: Box<[u8]>,
}

/// What there is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record.
    File(Arc<TableFile>),
    /// A directory that has no record, and yet something in it. The number stands for it in this table.
    Implied(u64),
}

/// A name in a directory.
#[derive(Debug)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What it is.
    pub found: Found,
    /// Where the directory goes on behind it.
    pub next: u64,
}

/// What is needed to look into a file table: some 150 bytes for each 32 KiB of it, 100 for a directory without a record,
/// 16 for a file with several names.
#[derive(Debug)]
pub struct TableIndex {
    table: RandomReader,
    table_id: ChunkId,
    content_bytes: u64,
    pages: Vec<PageBegin>,
    /// Where the last page ends, bytes.
    end: u64,
    /// The table goes on, and can't be read there.
    broken: bool,
    /// How many other names files have, by the hash of their path.
    other_names: HashMap<u64, u32>,
    /// Paths of directories without a record, in order.
    implied: Vec<Box<[u8]>>,
    kept: Arc<TablePages>,
}

/// Where a record is: its page, and its place in that.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    page: usize,
    place: usize,
}

/// The table on its way into an index.
struct Scan {
    index: TableIndex,
    /// The last path, and the lengths of those of its beginnings that are directories.
    path: Vec<u8>,
    directories: Vec<usize>,
}

impl TableIndex {
    /// Follows the file table of a tree. Where it can't be read on, all before that is there; see
    /// [`TableIndex::is_broken`].
    ///
    /// Errors: the entry is no tree; the user has interrupted it.
    pub fn build(reader: &Arc<Reader>, entry: &EntryRecord, kept: Arc<TablePages>) -> Result<TableIndex> {
        let mut records = reader.open_table(entry)?;
        let table = entry.table.unwrap_or_default();
        let index = TableIndex {
            table: reader.open_random(&table)?,
            table_id: table.root.unwrap_or(ChunkId([0; 32])),
            content_bytes: entry.stream.bytes,
            pages: Vec::new(),
            end: 0,
            broken: false,
            other_names: HashMap::new(),
            implied: Vec::new(),
            kept,
        };
        let mut scan = Scan { index, path: Vec::new(), directories: Vec::new() };
        let mut content_end = 0;
        loop {
            reader.check_interrupt()?;
            let at = records.position();
            match records.next() {
                Some(Ok((record, content))) => {
                    scan.add(&record.path, record.kind, at, content_end);
                    if let Some(first) = &record.same_as {
                        *scan.index.other_names.entry(hash(first)).or_default() += 1;
                    }
                    content_end = content.end;
                }
                Some(Err(Error::Interrupted)) => return Err(Error::Interrupted),
                Some(Err(_)) => {
                    scan.index.broken = true;
                    break;
                }
                None => break,
            }
        }
        scan.index.end = records.position();
        scan.index.pages.shrink_to_fit();
        Ok(scan.index)
    }

    /// Whether the table can't be read to its end. What is behind is not known, and asking for it an error.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Memory that it takes, about, bytes.
    pub fn memory_bytes(&self) -> usize {
        let paths: usize = self.pages.iter().map(|page| page.path.len() + 64).sum();
        let implied: usize = self.implied.iter().map(|path| path.len() + 32).sum();
        paths + implied + self.other_names.len() * 24
    }

    /// The record that begins at `at`, bytes from the beginning of the table; `None` where none does.
    pub fn get(&self, at: u64) -> Result<Option<Arc<TableFile>>> {
        let Some(page) = self.pages.partition_point(|page| page.at <= at).checked_sub(1) else {
            return Ok(None);
        };
        let page = self.page(page)?;
        let place = page.binary_search_by_key(&at, |file| file.at);
        Ok(place.ok().map(|place| page[place].clone()))
    }

    /// Path of the directory without a record that `number` stands for.
    pub fn implied(&self, number: u64) -> Option<&[u8]> {
        self.implied.get(usize::try_from(number).ok()?).map(AsRef::as_ref)
    }

    /// What is at `path`, which is not empty.
    pub fn find(&self, path: &[u8]) -> Result<Option<Found>> {
        let cursor = self.seek(|other| compare_paths(other, path) == Ordering::Less)?;
        let Some((_, file)) = self.at(cursor)? else { return Ok(None) };
        Ok(match below(path, &file.record.path) {
            _ if file.record.path.as_slice() == path => Some(Found::File(file)),
            Some(_) => self.find_implied(path),
            None => None,
        })
    }

    /// How many names the file has that is at `path` itself.
    pub fn name_count(&self, path: &[u8]) -> u32 {
        self.other_names.get(&hash(path)).map_or(1, |others| others.saturating_add(1))
    }

    /// Calls `each` with all that is in `directory`, or what follows [`Listed::next`] of a name in it, in order, until that
    /// gives false.
    ///
    /// Errors: the table can't be read on. What was there before it has been given.
    pub fn list(
        &self,
        directory: &[u8],
        from: Option<u64>,
        mut each: impl FnMut(Listed<'_>) -> bool,
    ) -> Result<()> {
        let mut cursor = match from {
            None => self.seek(|path| compare_paths(path, directory) != Ordering::Greater)?,
            Some(at) => {
                let Some(last) = self.get(at)? else { return Ok(()) };
                let Some((_, name_end)) = name_below(directory, &last.record.path) else { return Ok(()) };
                self.seek_behind(&last.record.path[..name_end])?
            }
        };
        while let Some((at, file)) = self.at(cursor)? {
            let path = file.record.path.as_slice();
            let Some((name_begin, name_end)) = name_below(directory, path) else { break };
            let child = &path[..name_end];
            let found = match path.len() == name_end {
                true => Some(Found::File(file.clone())),
                false => self.find_implied(child),
            };
            let found = found.ok_or_else(|| malformed("records out of order"))?;
            if !each(Listed { name: &path[name_begin..name_end], found, next: file.at }) {
                break;
            }
            cursor = self.behind(at, child)?;
        }
        Ok(())
    }

    /// The first record behind `cursor` that is not below `path`, at which or below which `cursor` is.
    fn behind(&self, cursor: Cursor, path: &[u8]) -> Result<Cursor> {
        let next = Cursor { place: cursor.place + 1, ..cursor };
        match self.at(next) {
            // Most have nothing below them.
            Ok(Some((next, file))) if below(path, &file.record.path).is_none() => Ok(next),
            _ => self.seek_behind(path),
        }
    }

    fn seek_behind(&self, path: &[u8]) -> Result<Cursor> {
        self.seek(|other| compare_paths(other, path) != Ordering::Greater || below(path, other).is_some())
    }

    /// The first record that is not `before`, which holds for the first so many paths.
    fn seek(&self, before: impl Fn(&[u8]) -> bool) -> Result<Cursor> {
        let next = self.pages.partition_point(|page| before(&page.path));
        let Some(page) = next.checked_sub(1) else { return Ok(Cursor { page: 0, place: 0 }) };
        let place = self.page(page)?.partition_point(|file| before(&file.record.path));
        Ok(Cursor { page, place })
    }

    /// The record at `cursor`, which may be one behind the end of its page, and where it is; `None` at the end of the table.
    fn at(&self, cursor: Cursor) -> Result<Option<(Cursor, Arc<TableFile>)>> {
        if cursor.page < self.pages.len()
            && let Some(file) = self.page(cursor.page)?.get(cursor.place)
        {
            return Ok(Some((cursor, file.clone())));
        }
        let next = Cursor { page: cursor.page + 1, place: 0 };
        if next.page < self.pages.len() {
            return Ok(self.page(next.page)?.first().map(|file| (next, file.clone())));
        }
        if !self.broken {
            return Ok(None);
        }
        // Once more, to tell why.
        self.table.read_at(self.end, &mut [0; PAGE_BYTES as usize])?;
        Err(malformed("can't be read on"))
    }

    fn find_implied(&self, path: &[u8]) -> Option<Found> {
        let place = self.implied.binary_search_by(|known| compare_paths(known, path));
        place.ok().map(|place| Found::Implied(place as u64))
    }

    fn page(&self, number: usize) -> Result<Arc<Page>> {
        let begin = &self.pages[number];
        let end = self.pages.get(number + 1).map_or(self.end, |next| next.at);
        let bytes = end - begin.at;
        self.kept.get((self.table_id, begin.at), bytes, || self.decode(begin, bytes))
    }

    fn decode(&self, begin: &PageBegin, len: u64) -> Result<Page> {
        let mut bytes = vec![0; len as usize];
        if self.table.read_at(begin.at, &mut bytes)? < bytes.len() {
            return Err(malformed("ends too early"));
        }
        let (mut page, mut at) = (Page::new(), 0);
        let mut order = FileTableOrder::from_within(begin.content_end);
        while at < bytes.len() {
            let decoded = decode_record(&bytes[at..]).map_err(damaged)?;
            let (record, len) = decoded.ok_or_else(|| malformed("ends within a record"))?;
            let content = placed(&mut order, &record, self.content_bytes)?;
            page.push(Arc::new(TableFile { at: begin.at + at as u64, record, content }));
            at += len;
        }
        Ok(page)
    }
}

impl Scan {
    fn add(&mut self, path: &[u8], kind: FileKind, at: u64, content_end: u64) {
        let index = &mut self.index;
        if index.pages.last().is_none_or(|page| at - page.at >= PAGE_BYTES) {
            index.pages.push(PageBegin { at, content_end, path: path.into() });
        }
        let known = |end: &usize| path.get(*end) == Some(&b'/') && path[..*end] == self.path[..*end];
        while self.directories.pop_if(|end| !known(end)).is_some() {}
        let begin = self.directories.last().map_or(0, |end| end + 1);
        for slash in (begin..path.len()).filter(|place| path[*place] == b'/') {
            index.implied.push(path[..slash].into());
            self.directories.push(slash);
        }
        if kind == FileKind::Directory && !path.is_empty() {
            self.directories.push(path.len());
        }
        self.path.clear();
        self.path.extend_from_slice(path);
    }
}

fn hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// What of `path` is below `directory`; `None` where it is not, or is that itself.
fn below<'a>(directory: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if directory.is_empty() {
        return (!path.is_empty()).then_some(path);
    }
    path.strip_prefix(directory)?.strip_prefix(b"/")
}

/// Where in `path` the name is that is right below `directory`.
fn name_below(directory: &[u8], path: &[u8]) -> Option<(usize, usize)> {
    let rest = below(directory, path)?;
    let begin = path.len() - rest.len();
    let len = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    Some((begin, begin + len))
}
