//! What can be wrong with a look into a dump.

use std::io;

use crate::table::TableKind;

/// Facts; the command line words them for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes could not be read.
    #[error("can't read {name}: {source}")]
    Read {
        /// Name of the entry.
        name: String,
        /// What the reader says.
        source: io::Error,
    },
    /// The bytes are not what a dump is made of.
    #[error("{name}: {detail}")]
    Damaged {
        /// Name of the entry.
        name: String,
        /// What can't be, and where.
        detail: String,
    },
    /// Nothing is known here of the inside of such a dump.
    #[error("tables of {name} can't be looked into: {detail}")]
    Unsupported {
        /// Name of the entry.
        name: String,
        /// Why.
        detail: String,
    },
    /// There is no such table, or there are several.
    #[error("no table is called {wanted}")]
    NoSuchTable {
        /// What was asked for.
        wanted: String,
        /// Tables whose names are like it, the likeliest first; or those that are meant by a name without schema.
        nearest: Vec<String>,
    },
    /// The dump holds no rows of it.
    #[error("the dump has no rows of {table}, a {}", .kind.name())]
    NoRows {
        /// Its name.
        table: String,
        /// What it is.
        kind: TableKind,
    },
    /// Its rows can't be given in that form.
    #[error("rows of {table} can't be given as {format}: {detail}")]
    Form {
        /// Its name.
        table: String,
        /// The form that was wanted.
        format: &'static str,
        /// Why.
        detail: String,
    },
}

/// A result with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn damaged(name: &str, detail: impl Into<String>) -> Error {
        Error::Damaged { name: name.to_owned(), detail: detail.into() }
    }

    pub(crate) fn read(name: &str) -> impl FnOnce(io::Error) -> Error {
        let name = name.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::Damaged { name, detail: "it ends too early".to_owned() },
            _ => Error::Read { name, source },
        }
    }

    /// As an error of a reader.
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Error::Read { source, .. } => source,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}
