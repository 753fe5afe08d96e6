//! What is inside one database's dump, whatever made it.

use std::io::Read;

use dbvault_format::entry::EntryKind;

use crate::entry::Entry;
use crate::names;
use crate::postgres::Postgres;
use crate::read_at::read_exact_at;
use crate::sqlite::Sqlite;
use crate::table::Table;
use crate::{Error, Part, Result};

/// Most names that are given as like a wrong one.
const NEAREST_MAX: usize = 5;
/// How much of a stream is looked at to know what it is, bytes.
const HEAD_BYTES: u64 = 1 << 10;

/// In which form rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As `COPY table TO` writes them: fields with tabs between them.
    Copy,
    /// As `COPY table TO ... CSV` writes them.
    Csv {
        /// The first line has the names of the columns.
        header: bool,
    },
    /// A script that makes the table and what it needs, with its rows.
    Sql,
}

impl Format {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Copy => "copy",
            Format::Csv { .. } => "csv",
            Format::Sql => "sql",
        }
    }
}

/// A range of bytes in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The part that it is in, from 0, in the order they were given.
    pub part: usize,
    /// The first byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// An open dump.
pub struct Contents {
    inside: Inside,
    tables: Vec<Table>,
}

enum Inside {
    Postgres(Box<Postgres>),
    Sqlite(Box<Sqlite>),
}

impl Contents {
    /// Looks into the parts of one database: one, or all that it was dumped in.
    ///
    /// Reads what lists the tables, and rows only of plain dumps without positions. Errors: [`Error::Unsupported`]
    /// where nothing is known of the inside of such a stream, [`Error::Damaged`] where it is not what it seems to be,
    /// [`Error::Read`].
    pub fn open(parts: Vec<Part>) -> Result<Contents> {
        let Some(first) = parts.first() else {
            return Err(Error::damaged("the database", "it has no parts"));
        };
        let mut head = vec![0; usize::try_from(first.bytes.len_bytes().min(HEAD_BYTES)).unwrap_or(0)];
        read_exact_at(&*first.bytes, 0, &mut head).map_err(Error::read(&first.name))?;
        let has = |text: &str| memchr::memmem::find(&head, text.as_bytes()).is_some();
        if head.starts_with(b"PGDMP") || has("-- PostgreSQL database dump\n") {
            let (postgres, tables) = Postgres::open(parts)?;
            return Ok(Contents { inside: Inside::Postgres(Box::new(postgres)), tables });
        }
        if head.starts_with(b"SQLite format 3\0") {
            let (sqlite, tables) = Sqlite::open(first)?;
            return Ok(Contents { inside: Inside::Sqlite(Box::new(sqlite)), tables });
        }
        let detail = if has("-- PostgreSQL database cluster dump") {
            "roles and tablespaces are no tables".to_owned()
        } else {
            match first.kind {
                EntryKind::Postgresql => "only dumps in the custom and in the plain format can be".to_owned(),
                kind => format!("that is not possible for {} yet", kind.name()),
            }
        };
        Err(Error::Unsupported { name: first.name.clone(), detail })
    }

    /// Its tables, views and so on, by schema and name.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The table that `wanted` means: its name with its schema, as SQL writes them, or its name alone where there is one
    /// of that name.
    ///
    /// Errors: [`Error::NoSuchTable`].
    pub fn find(&self, wanted: &str) -> Result<&Table> {
        let is = |table: &&Table, names: &[String]| match names {
            [name] => table.name == *name,
            [schema, name] => table.schema.as_ref() == Some(schema) && table.name == *name,
            _ => false,
        };
        let mut several = Vec::new();
        // As it is written goes first; then as PostgreSQL reads names without quotation marks.
        for names in [names::parse(wanted, false), Some(vec![wanted.to_owned()]), names::parse(wanted, true)]
        {
            let found: Vec<&Table> = self
                .tables
                .iter()
                .filter(|table| names.as_ref().is_some_and(|names| is(table, names)))
                .collect();
            match found.as_slice() {
                [table] => return Ok(table),
                [] => {}
                found => several = found.iter().map(|table| table.sql_name()).collect(),
            }
        }
        let nearest = if several.is_empty() { self.nearest(wanted) } else { several };
        Err(Error::NoSuchTable { wanted: wanted.to_owned(), nearest })
    }

    fn nearest(&self, wanted: &str) -> Vec<String> {
        let like = |table: &Table| {
            let whole = strsim::jaro_winkler(wanted, &table.sql_name());
            (whole.max(strsim::jaro_winkler(wanted, &table.name)) * 1_000.0) as u64
        };
        let mut near: Vec<(u64, String)> =
            self.tables.iter().map(|table| (like(table), table.sql_name())).collect();
        near.sort_by(|a, b| b.cmp(a));
        near.into_iter().filter(|(like, _)| *like >= 700).map(|(_, name)| name).take(NEAREST_MAX).collect()
    }

    /// A script that makes what is in the database but rows, roles and privileges' holders, in the encoding of the dump.
    pub fn schema_sql(&self) -> Vec<u8> {
        match &self.inside {
            Inside::Postgres(postgres) => postgres.schema_sql(),
            Inside::Sqlite(sqlite) => sqlite.schema_sql(),
        }
    }

    /// The rows of a table of [`Contents::tables`], in the encoding of the dump.
    ///
    /// Reads little more than the table's own bytes; where no positions are known the stream is followed once, and then
    /// they are. Errors: [`Error::NoRows`], [`Error::Form`], [`Error::Damaged`], [`Error::Read`]. Errors of the reader
    /// may have an [`Error`] in them.
    pub fn rows(&self, table: &Table, format: Format) -> Result<Box<dyn Read + Send>> {
        match &self.inside {
            Inside::Postgres(postgres) => postgres.rows(table, format),
            Inside::Sqlite(sqlite) => sqlite.rows(table, format),
        }
    }

    /// Names of the columns that rows have, in their order.
    pub fn columns(&self, table: &Table) -> Vec<String> {
        match &self.inside {
            Inside::Postgres(postgres) => postgres.columns(table),
            Inside::Sqlite(sqlite) => sqlite.columns(table),
        }
    }

    /// What the dump of a PostgreSQL database makes, in its order; nothing of others.
    pub fn entries(&self) -> &[Entry] {
        match &self.inside {
            Inside::Postgres(postgres) => &postgres.entries,
            Inside::Sqlite(_) => &[],
        }
    }

    /// Of [`Contents::entries`] those that belong to a table, in their order: its definition, sequences that it owns,
    /// defaults, rows, constraints, indexes, triggers, rules, policies, privileges, comments.
    pub fn entries_of(&self, table: &Table) -> Vec<&Entry> {
        match &self.inside {
            Inside::Postgres(postgres) => postgres.entries_of(table),
            Inside::Sqlite(_) => Vec::new(),
        }
    }

    /// Of [`Contents::entries`] those that the definition of a table needs before it, in their order: its schema, types,
    /// functions, extensions, parents.
    pub fn needs_of(&self, table: &Table) -> Vec<&Entry> {
        match &self.inside {
            Inside::Postgres(postgres) => postgres.needs_of(table),
            Inside::Sqlite(_) => Vec::new(),
        }
    }

    /// Commands that go before all others of a dump: its encoding, how it writes texts, an empty search path.
    pub fn settings_sql(&self) -> Vec<u8> {
        match &self.inside {
            Inside::Postgres(postgres) => postgres.settings_sql(),
            Inside::Sqlite(_) => Vec::new(),
        }
    }

    /// Where in the streams the rows of a table are; nothing where they are not in one piece, as in SQLite.
    ///
    /// Errors: as [`Contents::rows`].
    pub fn extents(&self, table: &Table) -> Result<Vec<Extent>> {
        match &self.inside {
            Inside::Postgres(postgres) => postgres.extents(table),
            Inside::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// Whether it is known where rows are, without following a stream once.
    pub fn knows_positions(&self) -> bool {
        match &self.inside {
            Inside::Postgres(postgres) => postgres.knows_positions(),
            Inside::Sqlite(_) => true,
        }
    }
}
