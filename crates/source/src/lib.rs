//! Databases, commands and standard input <-> streams of entries: how is each dumped and restored right?
//!
//! Knows no repository. Each database is one file with both directions.

use std::io::Read;

use dbvault_format::entry::{EntryMeta, EntryReport};

mod body;
mod command;
mod conninfo;
mod error;
mod interrupt;
pub mod pgdump_format;
mod pgdump_toc;
mod postgres;
mod postgres_database_sql;
mod postgres_restore;
mod postgres_swap;
mod postgres_tools;
pub mod process;
mod secret;
mod sqlite;
mod sqlite_pages;
mod sqlite_restore;
mod stderr_tail;
mod stdin;

pub use command::{CommandOptions, CommandSource};
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use postgres::{LOCK_WAIT_TIMEOUT_MS, PostgresOptions, PostgresSource};
pub use postgres_restore::{PostgresTarget, PostgresTargetOptions};
pub use secret::Secret;
pub use sqlite::{SqliteOptions, SqliteSource};
pub use sqlite_restore::{SqliteTarget, SqliteTargetOptions};
pub use stdin::StdinSource;

/// One named stream and what is known of it.
pub struct Entry {
    /// What is known before the bytes are read.
    pub meta: EntryMeta,
    /// The bytes. An error of this reader is a failed dump; its end alone is not success.
    pub body: Box<dyn Read + Send>,
}

/// Something that can be backed up: gives exactly one entry.
pub trait Source: Send {
    /// The name its entry will have, for messages and to find names given twice before anything runs.
    fn name(&self) -> &str;

    /// Starts the dump. Errors: the tool is missing, the server refuses, there is no such database.
    fn open(&mut self) -> Result<Entry>;

    /// Called once the body has been read to its end: only Ok here makes the entry good.
    /// Ok means: the tool ended with status 0 AND the stream had the shape of a whole dump.
    /// Dropped without this call, a source stops its tool and leaves nothing behind.
    fn finish(self: Box<Self>) -> Result<EntryReport>;
}

/// A place that entries of one kind are restored to.
pub trait Target: Send {
    /// What would be overwritten, for the question to the user; `None` where nothing is there yet.
    /// Errors: the server can't be reached, the tool is missing.
    fn occupied(&mut self) -> Result<Option<String>>;

    /// Loads `body` beside what is there; the live database is untouched when this ends, well or not.
    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()>;

    /// Puts what was loaded in place of what is there, as one step. Only after [`Target::load`] was Ok.
    /// An error leaves the live database as it was. Dropped without this call, a target removes what it loaded.
    fn finish(self: Box<Self>) -> Result<EntryReport>;
}
