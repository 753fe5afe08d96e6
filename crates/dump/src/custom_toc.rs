//! The table of contents of `pg_dump`'s custom format, field by field; see `custom_checker.rs` for the layout.

use crate::custom_checker::{DatabaseEntry, integer};
use crate::names::table_name;

/// Longest SQL text that is kept, bytes; longer ones are passed over.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Longest type of an entry ("DATABASE PROPERTIES"), bytes; a longer one is not of interest.
const KIND_BYTES_MAX: u64 = 64;
/// Longest text of any field of an entry that is kept whole, bytes.
const ENTRY_TEXT_BYTES_MAX: u64 = 64 << 20;
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

/// An entry whose data follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryData {
    pub(crate) id: i64,
    /// Schema and name, where it is a table whose rows are lines.
    pub(crate) table: Option<String>,
}

/// How much is kept of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// What concerns the database as a whole, and names of tables while they pass.
    #[default]
    Little,
    /// Each entry with all its fields, until it is taken.
    All,
}

/// The fields of an entry, as they stand there: texts are in the encoding of the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawEntry {
    pub(crate) id: i64,
    pub(crate) has_data: bool,
    pub(crate) oid: Option<Vec<u8>>,
    pub(crate) tag: Option<Vec<u8>>,
    pub(crate) kind: Option<Vec<u8>>,
    /// 1: nothing, 2: before the data, 3: data, 4: after the data.
    pub(crate) section: i64,
    pub(crate) sql: Option<Vec<u8>>,
    pub(crate) drop_sql: Option<Vec<u8>>,
    pub(crate) copy_sql: Option<Vec<u8>>,
    pub(crate) schema: Option<Vec<u8>>,
    pub(crate) tablespace: Option<Vec<u8>>,
    pub(crate) access_method: Option<Vec<u8>>,
    /// As `pg_class.relkind`; 0 where the version does not tell.
    pub(crate) relation_kind: i64,
    pub(crate) owner: Option<Vec<u8>>,
    /// Ids of entries.
    pub(crate) dependencies: Vec<i64>,
}

impl RawEntry {
    fn text(field: &Option<Vec<u8>>) -> Option<&str> {
        field.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

/// Reads the rest of the header and the entries.
#[derive(Debug, Default)]
pub(crate) struct TocReader {
    keep: Keep,
    version: (u8, u8),
    int_bytes: usize,
    pub(crate) offset_bytes: usize,
    place: Place,
    /// Fields of the current place that are behind us.
    repeats: u8,
    /// Entries announced, and those behind us.
    pub(crate) entries: u64,
    entries_done: u64,
    finished_with_data: Option<EntryData>,
    finished: Option<RawEntry>,
    entry: RawEntry,
    /// The entry's data comes as `COPY` writes it, a line each row.
    copied: bool,
    /// Entries about the database itself.
    pub(crate) kept: Vec<DatabaseEntry>,
}

impl TocReader {
    pub(crate) fn new(keep: Keep, version: (u8, u8), int_bytes: usize, offset_bytes: usize) -> TocReader {
        TocReader { keep, version, int_bytes, offset_bytes, ..TocReader::default() }
    }

    /// Size of the next token, bytes.
    pub(crate) fn token_bytes(&self) -> usize {
        1 + if self.place == Place::Offset { self.offset_bytes } else { self.int_bytes }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.place == Place::Complete
    }

    /// The entry that ended with the last field, if it has data.
    pub(crate) fn take_entry_with_data(&mut self) -> Option<EntryData> {
        self.finished_with_data.take()
    }

    /// The entry that ended with the last field, where all is kept.
    pub(crate) fn take_entry(&mut self) -> Option<RawEntry> {
        self.finished.take()
    }

    /// Takes an integer, the length of a string, or an offset.
    pub(crate) fn take(&mut self, token: &[u8]) -> Result<Field, String> {
        if self.place == Place::Offset {
            self.end_entry(token[0])?;
            return Ok(Field::Done);
        }
        let value = integer(token)?;
        match self.place {
            Place::Time => self.advance(),
            Place::Section => {
                self.entry.section = value;
                self.advance();
            }
            Place::RelationKind => {
                self.entry.relation_kind = value;
                self.advance();
            }
            Place::Count => {
                self.entries = u64::try_from(value).map_err(|_| "a negative count of entries".to_owned())?;
                self.place = if self.entries == 0 { Place::Complete } else { Place::Id };
            }
            Place::Id => {
                self.entry.id = value;
                self.place = Place::HasData;
            }
            Place::HasData => {
                self.entry.has_data = value != 0;
                self.place = Place::TableOid;
            }
            _ => return Ok(self.take_length(value)),
        }
        Ok(Field::Done)
    }

    fn take_length(&mut self, length: i64) -> Field {
        let Ok(length) = u64::try_from(length) else {
            // NULL: ends the dependencies, is an empty field elsewhere.
            if self.place == Place::Dependency {
                self.place = Place::Offset;
            } else {
                self.advance();
            }
            return Field::Done;
        };
        let longest = match self.place {
            Place::HeaderString | Place::WithOids => 0,
            _ if self.keep == Keep::All => ENTRY_TEXT_BYTES_MAX,
            Place::Tag | Place::Schema | Place::Owner => TEXT_BYTES_MAX,
            Place::Kind => KIND_BYTES_MAX,
            Place::Sql if self.is_about_database() => TEXT_BYTES_MAX,
            _ => 0,
        };
        self.copied |= self.place == Place::CopySql && length > 0;
        if length > 0 && length <= longest {
            return Field::Text(usize::try_from(length).unwrap_or(0));
        }
        self.advance();
        if length > 0 { Field::Skip(length) } else { Field::Done }
    }

    /// Takes the bytes that [`Field::Text`] asked for.
    pub(crate) fn take_text(&mut self, bytes: &[u8]) {
        let entry = &mut self.entry;
        let field = match self.place {
            Place::Oid => &mut entry.oid,
            Place::Tag => &mut entry.tag,
            Place::Kind => &mut entry.kind,
            Place::Sql => &mut entry.sql,
            Place::DropSql => &mut entry.drop_sql,
            Place::CopySql => &mut entry.copy_sql,
            Place::Schema => &mut entry.schema,
            Place::Tablespace => &mut entry.tablespace,
            Place::AccessMethod => &mut entry.access_method,
            Place::Owner => &mut entry.owner,
            Place::Dependency => {
                let id = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
                entry.dependencies.extend::<Option<i64>>(id);
                return self.advance();
            }
            _ => return self.advance(),
        };
        *field = Some(bytes.to_vec());
        self.advance();
    }

    fn kind(&self) -> &str {
        RawEntry::text(&self.entry.kind).unwrap_or_default()
    }

    fn is_about_database(&self) -> bool {
        match self.kind() {
            "DATABASE" | "DATABASE PROPERTIES" => true,
            "ACL" | "COMMENT" | "SECURITY LABEL" => {
                RawEntry::text(&self.entry.tag).is_some_and(|tag| tag.starts_with("DATABASE "))
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

    /// The table that the entry has the rows of, as SQL names it.
    fn table(&self) -> Option<String> {
        let (schema, name) = (RawEntry::text(&self.entry.schema)?, RawEntry::text(&self.entry.tag)?);
        let rows = self.copied && self.kind() == "TABLE DATA";
        rows.then(|| table_name(schema, name))
    }

    fn end_entry(&mut self, offset_state: u8) -> Result<(), String> {
        let RawEntry { id, has_data, .. } = self.entry;
        let follows = OFFSET_DATA.contains(&offset_state);
        if follows != has_data || !(follows || offset_state == OFFSET_NO_DATA) {
            return Err(format!("entry {id} has data and has none"));
        }
        let table = self.table().filter(|_| follows);
        self.finished_with_data = follows.then_some(EntryData { id, table });
        if self.is_about_database() {
            let text = |field: &Option<Vec<u8>>| RawEntry::text(field).map(str::to_owned);
            let (sql, owner) = (text(&self.entry.sql), text(&self.entry.owner));
            self.kept.push(DatabaseEntry { kind: self.kind().to_owned(), sql, owner });
        }
        let entry = std::mem::take(&mut self.entry);
        if self.keep == Keep::All {
            self.finished = Some(entry);
        }
        self.copied = false;
        self.entries_done += 1;
        self.place = if self.entries_done == self.entries { Place::Complete } else { Place::Id };
        Ok(())
    }
}
