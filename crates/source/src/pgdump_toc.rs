//! The table of contents of `pg_dump`'s custom format, field by field; see `pgdump_format.rs` for the layout.

use crate::pgdump_format::{DatabaseEntry, integer};

/// Longest SQL text that is kept, bytes; longer ones are passed over.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Longest type of an entry ("DATABASE PROPERTIES"), bytes; a longer one is not of interest.
const KIND_BYTES_MAX: u64 = 64;
/// The offset's state that says "no data", `K_OFFSET_NO_DATA`.
const OFFSET_NO_DATA: u8 = 3;
/// The states that say "data follows": `K_OFFSET_POS_NOT_SET`, `K_OFFSET_POS_SET`.
const OFFSET_DATA: [u8; 2] = [1, 2];
/// Strings between the header's 7 integers of time and the entry count: database, server, pg_dump.
const HEADER_INTEGERS: u8 = 7;
const HEADER_STRINGS: u8 = 3;

/// What the token that was taken asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// The field is complete.
    Done,
    /// This many bytes of a string follow and are of no interest.
    Skip(u64),
    /// This many bytes follow and are handed to [`TocReader::take_text`].
    Text(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Time,
    HeaderString,
    Count,
    Id,
    HasData,
    TableOid,
    Oid,
    Tag,
    Kind,
    Section,
    Sql,
    DropSql,
    CopySql,
    Schema,
    Tablespace,
    AccessMethod,
    RelationKind,
    Owner,
    WithOids,
    Dependency,
    Offset,
    Complete,
}

/// Reads the rest of the header and the entries.
#[derive(Debug, Default)]
pub(crate) struct TocReader {
    version: (u8, u8),
    int_bytes: usize,
    pub(crate) offset_bytes: usize,
    place: Place,
    /// Fields of the current place that are behind us.
    repeats: u8,
    /// Entries announced, and those behind us.
    pub(crate) entries: u64,
    entries_done: u64,
    id: i64,
    has_data: bool,
    finished_with_data: Option<i64>,
    tag: Option<String>,
    kind: String,
    sql: Option<String>,
    owner: Option<String>,
    /// Entries about the database itself.
    pub(crate) kept: Vec<DatabaseEntry>,
}

impl TocReader {
    pub(crate) fn new(version: (u8, u8), int_bytes: usize, offset_bytes: usize) -> TocReader {
        TocReader { version, int_bytes, offset_bytes, ..TocReader::default() }
    }

    /// Size of the next token, bytes.
    pub(crate) fn token_bytes(&self) -> usize {
        1 + if self.place == Place::Offset { self.offset_bytes } else { self.int_bytes }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.place == Place::Complete
    }

    /// The id of the entry that ended with the last field, if it has data.
    pub(crate) fn take_entry_with_data(&mut self) -> Option<i64> {
        self.finished_with_data.take()
    }

    /// Takes an integer, the length of a string, or an offset.
    pub(crate) fn take(&mut self, token: &[u8]) -> Result<Field, String> {
        if self.place == Place::Offset {
            self.end_entry(token[0])?;
            return Ok(Field::Done);
        }
        let value = integer(token)?;
        match self.place {
            Place::Time | Place::Section | Place::RelationKind => self.advance(),
            Place::Count => {
                self.entries = u64::try_from(value).map_err(|_| "a negative count of entries".to_owned())?;
                self.place = if self.entries == 0 { Place::Complete } else { Place::Id };
            }
            Place::Id => {
                self.id = value;
                self.place = Place::HasData;
            }
            Place::HasData => {
                self.has_data = value != 0;
                self.place = Place::TableOid;
            }
            _ => return self.take_length(value),
        }
        Ok(Field::Done)
    }

    fn take_length(&mut self, length: i64) -> Result<Field, String> {
        let Ok(length) = u64::try_from(length) else {
            // NULL: ends the dependencies, is an empty field elsewhere.
            if self.place == Place::Dependency {
                self.place = Place::Offset;
            } else {
                self.advance();
            }
            return Ok(Field::Done);
        };
        let longest = match self.place {
            Place::Tag | Place::Owner => TEXT_BYTES_MAX,
            Place::Kind => KIND_BYTES_MAX,
            Place::Sql if self.is_about_database() => TEXT_BYTES_MAX,
            _ => 0,
        };
        if length > 0 && length <= longest {
            return Ok(Field::Text(usize::try_from(length).unwrap_or(0)));
        }
        self.advance();
        Ok(if length > 0 { Field::Skip(length) } else { Field::Done })
    }

    /// Takes the bytes that [`Field::Text`] asked for.
    pub(crate) fn take_text(&mut self, bytes: &[u8]) {
        let text = String::from_utf8(bytes.to_vec());
        match self.place {
            Place::Tag => self.tag = text.ok(),
            Place::Kind => self.kind = text.unwrap_or_default(),
            Place::Sql => self.sql = text.ok(),
            Place::Owner => self.owner = text.ok(),
            _ => {}
        }
        self.advance();
    }

    fn is_about_database(&self) -> bool {
        match self.kind.as_str() {
            "DATABASE" | "DATABASE PROPERTIES" => true,
            "ACL" | "COMMENT" | "SECURITY LABEL" => {
                self.tag.as_deref().is_some_and(|tag| tag.starts_with("DATABASE "))
            }
            _ => false,
        }
    }

    fn advance(&mut self) {
        self.repeats += 1;
        self.place = match self.place {
            Place::Time if self.repeats < HEADER_INTEGERS => return,
            Place::Time => Place::HeaderString,
            Place::HeaderString if self.repeats < HEADER_STRINGS => return,
            Place::HeaderString => Place::Count,
            Place::TableOid => Place::Oid,
            Place::Oid => Place::Tag,
            Place::Tag => Place::Kind,
            Place::Kind => Place::Section,
            Place::Section => Place::Sql,
            Place::Sql => Place::DropSql,
            Place::DropSql => Place::CopySql,
            Place::CopySql => Place::Schema,
            Place::Schema => Place::Tablespace,
            Place::Tablespace if self.version >= (1, 14) => Place::AccessMethod,
            Place::AccessMethod if self.version >= (1, 16) => Place::RelationKind,
            Place::Tablespace | Place::AccessMethod | Place::RelationKind => Place::Owner,
            Place::Owner => Place::WithOids,
            Place::WithOids | Place::Dependency => Place::Dependency,
            same => same,
        };
        self.repeats = 0;
    }

    fn end_entry(&mut self, offset_state: u8) -> Result<(), String> {
        let follows = OFFSET_DATA.contains(&offset_state);
        if follows != self.has_data || !(follows || offset_state == OFFSET_NO_DATA) {
            return Err(format!("entry {} has data and has none", self.id));
        }
        self.finished_with_data = follows.then_some(self.id);
        if self.is_about_database() {
            let (kind, sql, owner) = (self.kind.clone(), self.sql.take(), self.owner.take());
            self.kept.push(DatabaseEntry { kind, sql, owner });
        }
        (self.tag, self.sql, self.owner) = (None, None, None);
        self.kind.clear();
        self.entries_done += 1;
        self.place = if self.entries_done == self.entries { Place::Complete } else { Place::Id };
        Ok(())
    }
}
