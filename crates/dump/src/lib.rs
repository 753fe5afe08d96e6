//! What is inside a dump: tables, rows, where their bytes are.
//!
//! [`Contents`] opens the parts of one database and looks into them with as few reads as there can be. What follows
//! dumps while they are backed up ([`CustomFormatChecker`], [`PlainScanner`]) is here too, as it knows the same formats.
//!
//! Knows no repository: bytes come through [`ReadAt`].

mod contents;
mod csv;
mod custom;
pub mod custom_checker;
mod custom_toc;
mod encoding;
mod entry;
mod error;
pub mod names;
mod part;
mod plain;
mod plain_scanner;
pub mod positions;
mod postgres;
mod produce;
mod read_at;
mod related;
pub mod row_counts;
mod seeker;
mod sql_words;
mod sqlite;
mod sqlite_tree;
mod table;
mod table_sql;

pub use contents::{Contents, Extent, Format};
pub use custom_checker::{CustomFormatChecker, DatabaseEntry, DumpSummary};
pub use entry::{Entry, Section};
pub use error::{Error, Result};
pub use part::Part;
pub use plain_scanner::PlainScanner;
pub use read_at::ReadAt;
pub use table::{Table, TableKind};
