//! Why a dump or a restore failed, as facts.

use std::io;

/// Result of a dump or a restore.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a dump or a restore failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that is needed is not installed.
    #[error("program not found: {program}")]
    ProgramMissing {
        /// Name of the program.
        program: String,
        /// Debian package that has it, where known.
        package: Option<&'static str>,
    },
    /// The database to dump does not exist.
    #[error("no such database: {name}")]
    NoSuchDatabase {
        /// Name or path of the database.
        name: String,
    },
    /// The server can't be reached or refuses to serve us.
    #[error("cannot connect to {server}: {message}")]
    Connect {
        /// Host and port, or socket.
        server: String,
        /// What the tool said.
        message: String,
    },
    /// A program failed: non-zero exit, killed by a signal, or timed out.
    #[error("{program} failed ({how})")]
    ProgramFailed {
        /// Name of the program or text of the command.
        program: String,
        /// Exit status, signal or time-out, in words.
        how: String,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// The program ended well, but what it wrote is no whole dump.
    #[error("incomplete dump of {name}: {detail}")]
    Incomplete {
        /// Name of the entry.
        name: String,
        /// What is missing.
        detail: String,
    },
    /// The stream had no byte at all.
    #[error("empty stream: {name}")]
    Empty {
        /// Name of the entry.
        name: String,
    },
    /// The entry can't be restored to this target.
    #[error("cannot restore {name}: {detail}")]
    Unsuitable {
        /// Name of the entry.
        name: String,
        /// Why not.
        detail: String,
    },
    /// A database refused or failed an operation.
    #[error("{what}: {message}")]
    Database {
        /// What was tried.
        what: String,
        /// What the database said.
        message: String,
    },
    /// The system failed an operation.
    #[error("{what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Stopped by the user.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What a program said that failed, else the error in words.
    pub(crate) fn detail(&self) -> String {
        match self {
            Error::ProgramFailed { stderr, .. } => stderr.clone(),
            other => other.to_string(),
        }
    }
}
