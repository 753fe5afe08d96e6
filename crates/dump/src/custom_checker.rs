//! The custom format of `pg_dump`, checked while it streams by: is this a whole dump?
//!
//! ```text
//! archive  header, entry count, entries, data blocks, end of file
//! header   "PGDMP", version (3 bytes), size of an integer, size of an offset, 1 = custom, compression
//!          (an integer; from 1.15 on a byte), 7 integers of time, 3 strings: database, server, pg_dump
//! entry    id, has data, table oid, oid, tag, type, section, SQL to make, SQL to drop, COPY statement, schema,
//!          tablespace, (from 1.14) access method, (from 1.16) relation kind, owner, "with oids",
//!          dependencies up to a NULL, state of the offset (a byte), offset
//! block    1, entry id, pieces up to a length of 0          a table
//!          3, entry id, (oid, pieces up to 0)... up to 0    large objects
//! integer  sign byte, then the absolute value, least significant byte first
//! string   length as an integer (-1: NULL), bytes
//! ```
//!
//! Source: `src/bin/pg_dump/pg_backup_archiver.c` and `pg_backup_custom.c` of PostgreSQL 9.0 to 18.
//!
//! The dump is whole when every entry that has data was followed by exactly one block and the stream ended right
//! after the last of them. There is no end marker; but as the entries come first, a cut anywhere shows: inside an
//! entry, a block or a piece, or as a block that never came.
//!
//! Rows of tables are counted on the way: `COPY` writes each as one line, and a line of a backslash, a dot and two empty
//! lines after the last.
//!
//! There are no offsets in a dump that streams by, so where each block is gets noted as well: see `positions.rs`.
//!
//! Memory: a name and a few numbers for each table, and the few SQL texts about the database itself. Bytes of tables
//! are never copied.

use std::collections::{BTreeMap, HashMap};

use memchr::memchr_iter;

use crate::custom_toc::{Field, Keep, TocReader};
use crate::positions::DataBlock;

/// Oldest version understood: PostgreSQL 9.0.
const VERSION_MIN: (u8, u8) = (1, 12);
/// Newest version understood: PostgreSQL 17 and 18.
const VERSION_MAX: (u8, u8) = (1, 16);
/// From this version on the compression is one byte.
const VERSION_COMPRESSION_BYTE: (u8, u8) = (1, 15);

const MAGIC: &[u8; 5] = b"PGDMP";
const FORMAT_CUSTOM: u8 = 1;
const BLOCK_DATA: u8 = 1;
const BLOCK_LARGE_OBJECTS: u8 = 3;
/// What follows the last row of a table.
pub(crate) const COPY_END: &[u8] = b"\\.\n\n\n";
/// Bytes of the fixed start: magic, version, two sizes, format.
pub(crate) const START_BYTES: usize = 11;

/// The fixed start of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Known {
        version: (u8, u8),
        int_bytes: usize,
        offset_bytes: usize,
    },
    /// A version that is newer than what is understood.
    Newer((u8, u8)),
}

impl Start {
    /// Reads [`START_BYTES`] bytes.
    pub(crate) fn read(token: &[u8]) -> Result<Start, String> {
        let Some(rest @ &[major, minor, _, int_bytes, offset_bytes, format]) = token.strip_prefix(MAGIC)
        else {
            return Err("does not start with \"PGDMP\": not in pg_dump's custom format".to_owned());
        };
        let version = (major, minor);
        if version > VERSION_MAX {
            return Ok(Start::Newer(version));
        }
        let sizes_known = (1..=8).contains(&int_bytes) && (1..=8).contains(&offset_bytes);
        if version < VERSION_MIN || !sizes_known || format != FORMAT_CUSTOM {
            return Err(format!("a header that pg_dump does not write: {rest:?}"));
        }
        Ok(Start::Known {
            version,
            int_bytes: usize::from(int_bytes),
            offset_bytes: usize::from(offset_bytes),
        })
    }
}

/// Bytes of the field that tells the compression.
pub(crate) fn compression_bytes(version: (u8, u8), int_bytes: usize) -> usize {
    if version >= VERSION_COMPRESSION_BYTE { 1 } else { 1 + int_bytes }
}

/// One entry that concerns the database as a whole, not what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseEntry {
    /// Its type: `DATABASE`, `DATABASE PROPERTIES`, `ACL`, `COMMENT` or `SECURITY LABEL`.
    pub kind: String,
    /// The SQL that makes it; none when it is longer than what is kept, 1 MiB.
    pub sql: Option<String>,
    /// The role that owns it.
    pub owner: Option<String>,
}

/// What was learnt from a dump that passed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpSummary {
    /// Version of the archive format, such as 1 and 14.
    pub version: (u8, u8),
    /// Entries of all kinds.
    pub entries: u64,
    /// Blocks of data.
    pub blocks: u64,
    /// The structure was followed to the end; false for a version that is not known, where only the first bytes
    /// were looked at.
    pub checked: bool,
}

/// Follows the structure of a stream that is given to it piece by piece.
#[derive(Debug)]
pub struct CustomFormatChecker {
    state: State,
    /// Bytes of the current token that came in an earlier piece.
    token: Vec<u8>,
    int_bytes: usize,
    toc: TocReader,
    summary: DumpSummary,
    /// Entries whose data has not come yet, with the tables that they have the rows of.
    missing: HashMap<i64, Option<String>>,
    /// The table whose rows are passing.
    table: Option<CopiedRows>,
    /// Rows of the tables that have passed.
    rows: BTreeMap<String, u64>,
    /// Blocks that have passed or begun; a length is known when the next one begins.
    blocks: Vec<DataBlock>,
    total_bytes: u64,
    /// Where in the stream the token begins that is looked at.
    at: u64,
}

/// Rows of a table on their way.
#[derive(Debug)]
struct CopiedRows {
    table: String,
    lines: u64,
    /// The last bytes.
    tail: Vec<u8>,
}

impl CopiedRows {
    fn pass(&mut self, bytes: &[u8]) {
        self.lines += memchr_iter(b'\n', bytes).count() as u64;
        if bytes.len() >= COPY_END.len() {
            self.tail.clear();
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(COPY_END.len())..]);
        self.tail.drain(..self.tail.len().saturating_sub(COPY_END.len()));
    }

    /// How many rows there were; `None` where they did not end as `COPY` ends them.
    fn count(&self) -> Option<u64> {
        let end_lines = memchr_iter(b'\n', COPY_END).count() as u64;
        if self.tail == COPY_END { self.lines.checked_sub(end_lines) } else { None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Compression,
    Toc,
    /// Bytes of a string in the table of contents that are passed over.
    TocSkip(u64),
    /// Bytes of a string in the table of contents that are kept.
    TocText(usize),
    BlockKind,
    BlockId(u8),
    /// The length of the next piece; inside a large object or not.
    PieceLength {
        large_object: bool,
    },
    Piece {
        left: u64,
        large_object: bool,
    },
    LargeObjectId,
    /// A version that is not known.
    Unknown,
}

impl Default for CustomFormatChecker {
    fn default() -> Self {
        CustomFormatChecker {
            state: State::Start,
            token: Vec::new(),
            int_bytes: 0,
            toc: TocReader::default(),
            summary: DumpSummary::default(),
            missing: HashMap::new(),
            table: None,
            rows: BTreeMap::new(),
            blocks: Vec::new(),
            total_bytes: 0,
            at: 0,
        }
    }
}

impl CustomFormatChecker {
    /// Takes the next bytes of the stream. Errors say in words what can't be; nothing may be fed after one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.total_bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            self.at = self.total_bytes - rest.len() as u64;
            rest = match self.state {
                State::Unknown => return Ok(()),
                State::PieceLength { large_object } if self.token.is_empty() => {
                    self.walk(rest, large_object)?
                }
                State::Piece { left, large_object } => {
                    let (rest, left) = self.pass(rest, left);
                    if left > 0 {
                        self.state = State::Piece { left, large_object };
                    } else {
                        self.state = State::PieceLength { large_object };
                    }
                    rest
                }
                State::TocSkip(left) => {
                    let (rest, left) = skip(rest, left);
                    if left > 0 {
                        self.state = State::TocSkip(left);
                    } else {
                        self.state = State::Toc;
                        self.after_toc_field()?;
                    }
                    rest
                }
                _ => self.gather(rest)?,
            };
        }
        Ok(())
    }

    /// The table of contents has passed: [`CustomFormatChecker::database_entries`] is complete.
    pub fn is_past_toc(&self) -> bool {
        !matches!(
            self.state,
            State::Start | State::Compression | State::Toc | State::TocSkip(_) | State::TocText(_)
        )
    }

    /// Entries about the database itself, in their order.
    pub fn database_entries(&self) -> &[DatabaseEntry] {
        &self.toc.kept
    }

    /// Version of the archive format; (0, 0) before the header.
    pub fn version(&self) -> (u8, u8) {
        self.summary.version
    }

    /// Rows of each table that has passed whole, by its name with its schema, as SQL writes them.
    pub fn row_counts(&self) -> &BTreeMap<String, u64> {
        &self.rows
    }

    /// Where the data of each entry was, once the stream has ended; nothing of one that was not whole.
    pub fn data_blocks(&mut self) -> &[DataBlock] {
        if self.finish().is_err() {
            return &[];
        }
        self.end_block(self.total_bytes);
        &self.blocks
    }

    /// Bytes seen so far.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The stream has ended: was it whole? The error says what is missing.
    pub fn finish(&self) -> Result<DumpSummary, String> {
        let at = self.total_bytes;
        match self.state {
            State::Unknown => Ok(self.summary.clone()),
            State::BlockKind if self.missing.is_empty() => {
                Ok(DumpSummary { checked: true, ..self.summary.clone() })
            }
            State::BlockKind => {
                let (missing, all) = (self.missing.len(), self.missing.len() as u64 + self.summary.blocks);
                Err(format!("ended at byte {at}, {missing} of {all} data blocks never came"))
            }
            State::Start | State::Compression => Err(format!("ended at byte {at}, inside the header")),
            State::Toc | State::TocSkip(_) | State::TocText(_) => {
                Err(format!("ended at byte {at}, inside the table of contents"))
            }
            _ => Err(format!("ended at byte {at}, inside a data block")),
        }
    }

    /// Passes over as many whole pieces as `bytes` holds. With no compression every row is a piece of its own, so
    /// this is where the time goes.
    fn walk<'a>(&mut self, bytes: &'a [u8], large_object: bool) -> Result<&'a [u8], String> {
        let mut rest = bytes;
        loop {
            let Some((token, after)) = rest.split_at_checked(1 + self.int_bytes) else {
                return self.gather(rest);
            };
            let length = piece_length(token)?;
            if length == 0 {
                self.end_pieces(large_object);
                return Ok(after);
            }
            let (after, left) = self.pass(after, length);
            if left > 0 {
                self.state = State::Piece { left, large_object };
                return Ok(after);
            }
            rest = after;
        }
    }

    /// As [`skip`], of a piece of data.
    fn pass<'a>(&mut self, bytes: &'a [u8], length: u64) -> (&'a [u8], u64) {
        let (rest, left) = skip(bytes, length);
        if let Some(block) = self.blocks.last_mut() {
            block.row_bytes += length - left;
        }
        if let Some(table) = &mut self.table {
            table.pass(&bytes[..bytes.len() - rest.len()]);
        }
        (rest, left)
    }

    /// The last block that has begun ends before `end`.
    fn end_block(&mut self, end: u64) {
        if let Some(block) = self.blocks.last_mut() {
            block.length = end - block.offset;
        }
    }

    fn end_pieces(&mut self, large_object: bool) {
        if let Some(rows) = self.table.take()
            && let Some(count) = rows.count()
        {
            self.rows.insert(rows.table, count);
            if let Some(block) = self.blocks.last_mut() {
                block.row_bytes -= COPY_END.len() as u64;
            }
        }
        self.state = if large_object { State::LargeObjectId } else { State::BlockKind };
    }

    /// Collects the current token, whose size is known, and acts on it once it is there.
    fn gather<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let wanted = match self.state {
            State::Start => START_BYTES,
            State::Compression => compression_bytes(self.summary.version, self.int_bytes),
            State::TocText(length) => length,
            State::Toc => self.toc.token_bytes(),
            State::BlockKind => 1,
            _ => 1 + self.int_bytes,
        };
        let (taken, rest) = bytes.split_at((wanted - self.token.len()).min(bytes.len()));
        self.token.extend_from_slice(taken);
        if self.token.len() == wanted {
            let token = std::mem::take(&mut self.token);
            self.act(&token)?;
            // Keeps the allocation.
            self.token = token;
            self.token.clear();
        }
        Ok(rest)
    }

    fn act(&mut self, token: &[u8]) -> Result<(), String> {
        match self.state {
            State::Start => self.start(token)?,
            State::Compression => {
                self.toc =
                    TocReader::new(Keep::Little, self.summary.version, self.int_bytes, self.toc.offset_bytes);
                self.state = State::Toc;
            }
            State::Toc => match self.toc.take(token)? {
                Field::Done => self.after_toc_field()?,
                Field::Skip(length) => self.state = State::TocSkip(length),
                Field::Text(length) => self.state = State::TocText(length),
            },
            State::TocText(_) => {
                self.toc.take_text(token);
                self.state = State::Toc;
                self.after_toc_field()?;
            }
            State::BlockKind => match token[0] {
                kind @ (BLOCK_DATA | BLOCK_LARGE_OBJECTS) => {
                    self.end_block(self.at);
                    self.blocks.push(DataBlock { offset: self.at, ..DataBlock::default() });
                    self.state = State::BlockId(kind);
                }
                other => {
                    return Err(format!("unknown kind of data block {other} at byte {}", self.total_bytes));
                }
            },
            State::BlockId(kind) => {
                let id = integer(token)?;
                let Some(table) = self.missing.remove(&id) else {
                    return Err(format!("data block {id} belongs to no entry, or came twice"));
                };
                if let Some(block) = self.blocks.last_mut() {
                    block.id = Some(id);
                }
                self.table = table.map(|table| CopiedRows { table, lines: 0, tail: Vec::new() });
                self.summary.blocks += 1;
                self.state = match kind {
                    BLOCK_DATA => State::PieceLength { large_object: false },
                    _ => State::LargeObjectId,
                };
            }
            State::LargeObjectId => match integer(token)? {
                0 => self.state = State::BlockKind,
                _ => self.state = State::PieceLength { large_object: true },
            },
            State::PieceLength { large_object } => match piece_length(token)? {
                0 => self.end_pieces(large_object),
                left => self.state = State::Piece { left, large_object },
            },
            State::Piece { .. } | State::TocSkip(_) | State::Unknown => {}
        }
        Ok(())
    }

    fn start(&mut self, token: &[u8]) -> Result<(), String> {
        match Start::read(token)? {
            Start::Newer(version) => {
                self.summary.version = version;
                self.state = State::Unknown;
                return Ok(());
            }
            Start::Known { version, int_bytes, offset_bytes } => {
                self.summary.version = version;
                (self.int_bytes, self.toc.offset_bytes) = (int_bytes, offset_bytes);
            }
        }
        self.state = State::Compression;
        Ok(())
    }

    /// Between two fields: notes finished entries, and the end of the table of contents.
    fn after_toc_field(&mut self) -> Result<(), String> {
        if let Some(entry) = self.toc.take_entry_with_data()
            && self.missing.insert(entry.id, entry.table).is_some()
        {
            return Err(format!("two entries have the id {}", entry.id));
        }
        if self.toc.is_complete() {
            self.summary.entries = self.toc.entries;
            self.state = State::BlockKind;
        }
        Ok(())
    }
}

/// What is left of `bytes` after `length` of them, and what is left of `length`.
fn skip(bytes: &[u8], length: u64) -> (&[u8], u64) {
    match usize::try_from(length) {
        Ok(count) if count <= bytes.len() => (&bytes[count..], 0),
        _ => (&[], length - bytes.len() as u64),
    }
}

/// Sign byte, then the absolute value, least significant byte first.
pub(crate) fn integer(token: &[u8]) -> Result<i64, String> {
    let value = token[1..].iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    let value = i64::try_from(value).map_err(|_| "an integer that is too large".to_owned())?;
    match token[0] {
        0 => Ok(value),
        1 => Ok(-value),
        other => Err(format!("{other} in place of a sign")),
    }
}

pub(crate) fn piece_length(token: &[u8]) -> Result<u64, String> {
    // The common case, without a loop over the bytes.
    if let [0, a, b, c, d] = *token {
        return Ok(u64::from(u32::from_le_bytes([a, b, c, d])));
    }
    u64::try_from(integer(token)?).map_err(|_| "a piece of negative length".to_owned())
}
