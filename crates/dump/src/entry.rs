//! What a dump makes: an entry for each thing, whatever the format of the dump.

use crate::custom_toc::RawEntry;
use crate::encoding::Encoding;

/// When a thing is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// It is not part of any section: settings of the dump.
    #[default]
    None,
    /// Before the data.
    PreData,
    /// Data.
    Data,
    /// After the data.
    PostData,
}

/// One thing that the dump of a PostgreSQL database makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The part of the database that it is in, from 0.
    pub part: usize,
    /// What dependencies of others in its part call it.
    pub id: i64,
    /// What it is, in `pg_dump`'s words: `TABLE`, `TABLE DATA`, `FK CONSTRAINT`...
    pub kind: String,
    /// Its name, or what it belongs to and its name.
    pub tag: String,
    /// The schema it is in, if it is in one.
    pub schema: Option<String>,
    /// The role that owns it; empty where none does.
    pub owner: String,
    /// When it is made.
    pub section: Section,
    /// The SQL that makes it, in the encoding of the dump; empty where there is none.
    pub sql: Vec<u8>,
    /// The SQL that removes it; plain dumps don't tell it.
    pub drop_sql: Vec<u8>,
    /// Of `TABLE DATA`: the `COPY` command that the rows follow.
    pub copy_sql: Vec<u8>,
    /// Its tablespace, and its table access method, where they are not the default.
    pub tablespace: Option<String>,
    /// Likewise.
    pub access_method: Option<String>,
    /// As `pg_class.relkind`, where the dump tells it.
    pub relation_kind: Option<char>,
    /// Ids of what must be there before it, in the same part. Plain dumps don't tell them.
    pub dependencies: Vec<i64>,
    /// Data follows somewhere in the stream.
    pub has_data: bool,
}

impl Entry {
    pub(crate) fn from_raw(raw: RawEntry, part: usize, encoding: Encoding) -> Entry {
        let text = |field: Option<Vec<u8>>| field.map(|bytes| encoding.decode(&bytes));
        Entry {
            part,
            id: raw.id,
            kind: text(raw.kind).unwrap_or_default(),
            tag: text(raw.tag).unwrap_or_default(),
            schema: text(raw.schema).filter(|schema| !schema.is_empty()),
            owner: text(raw.owner).unwrap_or_default(),
            section: match raw.section {
                2 => Section::PreData,
                3 => Section::Data,
                4 => Section::PostData,
                _ => Section::None,
            },
            sql: raw.sql.unwrap_or_default(),
            drop_sql: raw.drop_sql.unwrap_or_default(),
            copy_sql: raw.copy_sql.unwrap_or_default(),
            tablespace: text(raw.tablespace).filter(|name| !name.is_empty()),
            access_method: text(raw.access_method).filter(|name| !name.is_empty()),
            relation_kind: u8::try_from(raw.relation_kind).ok().filter(|kind| *kind > 0).map(char::from),
            dependencies: raw.dependencies,
            has_data: raw.has_data,
        }
    }

    /// Whether it makes something, and is not data nor a setting.
    pub fn is_definition(&self) -> bool {
        let other = matches!(self.section, Section::None | Section::Data);
        let database =
            matches!(self.kind.as_str(), "DATABASE" | "DATABASE PROPERTIES" | "MATERIALIZED VIEW DATA");
        !other && !database && !self.sql.is_empty()
    }
}
