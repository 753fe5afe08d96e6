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
//! Memory: one number for each entry with data, and the few SQL texts about the database itself. Bytes of tables
//! are never looked at nor copied: they are skipped by their length.

use std::collections::HashSet;

use crate::pgdump_toc::{Field, TocReader};

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
/// Bytes of the fixed start: magic, version, two sizes, format.
const START_BYTES: usize = 11;

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
    /// Entries whose data has not come yet.
    missing: HashSet<i64>,
    total_bytes: u64,
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
            missing: HashSet::new(),
            total_bytes: 0,
        }
    }
}

impl CustomFormatChecker {
    /// Takes the next bytes of the stream. Errors say in words what can't be; nothing may be fed after one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.total_bytes += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Unknown => return Ok(()),
                State::PieceLength { large_object } if self.token.is_empty() => {
                    self.walk(rest, large_object)?
                }
                State::Piece { left, large_object } => {
                    let (rest, left) = skip(rest, left);
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
            let (after, left) = skip(after, length);
            if left > 0 {
                self.state = State::Piece { left, large_object };
                return Ok(after);
            }
            rest = after;
        }
    }

    fn end_pieces(&mut self, large_object: bool) {
        self.state = if large_object { State::LargeObjectId } else { State::BlockKind };
    }

    /// Collects the current token, whose size is known, and acts on it once it is there.
    fn gather<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let wanted = match self.state {
            State::Start => START_BYTES,
            State::Compression if self.summary.version >= VERSION_COMPRESSION_BYTE => 1,
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
                self.toc = TocReader::new(self.summary.version, self.int_bytes, self.toc.offset_bytes);
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
                kind @ (BLOCK_DATA | BLOCK_LARGE_OBJECTS) => self.state = State::BlockId(kind),
                other => {
                    return Err(format!("unknown kind of data block {other} at byte {}", self.total_bytes));
                }
            },
            State::BlockId(kind) => {
                let id = integer(token)?;
                if !self.missing.remove(&id) {
                    return Err(format!("data block {id} belongs to no entry, or came twice"));
                }
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
        let (magic, rest) = token.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err("does not start with \"PGDMP\": not in pg_dump's custom format".to_owned());
        }
        self.summary.version = (rest[0], rest[1]);
        if self.summary.version > VERSION_MAX {
            self.state = State::Unknown;
            return Ok(());
        }
        let (int_bytes, offset_bytes, format) = (rest[3], rest[4], rest[5]);
        let sizes_known = (1..=8).contains(&int_bytes) && (1..=8).contains(&offset_bytes);
        if self.summary.version < VERSION_MIN || !sizes_known || format != FORMAT_CUSTOM {
            return Err(format!("a header that pg_dump does not write: {rest:?}"));
        }
        self.int_bytes = usize::from(int_bytes);
        self.toc.offset_bytes = usize::from(offset_bytes);
        self.state = State::Compression;
        Ok(())
    }

    /// Between two fields: notes finished entries, and the end of the table of contents.
    fn after_toc_field(&mut self) -> Result<(), String> {
        if let Some(id) = self.toc.take_entry_with_data()
            && !self.missing.insert(id)
        {
            return Err(format!("two entries have the id {id}"));
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

fn piece_length(token: &[u8]) -> Result<u64, String> {
    // The common case, without a loop over the bytes.
    if let [0, a, b, c, d] = *token {
        return Ok(u64::from(u32::from_le_bytes([a, b, c, d])));
    }
    u64::try_from(integer(token)?).map_err(|_| "a piece of negative length".to_owned())
}
