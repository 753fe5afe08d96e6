//! Databases, commands and standard input <-> streams of entries: how is each dumped and restored right?
//!
//! Knows no repository. Each database is one file with both directions.

use std::io::Read;

use dbvault_format::entry::{EntryMeta, EntryReport};

mod error;

pub use error::{Error, Result};

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
