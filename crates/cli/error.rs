//! What can go wrong with a command, as facts; `report.rs` words them.

use std::io;

/// Result of a command.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The job failed.
    #[error(transparent)]
    Job(dbvault_jobs::Error),
    /// The command ended because of a signal.
    #[error("{inner}")]
    Signal {
        /// Its number.
        signal: i32,
        /// What the command said.
        inner: Box<Error>,
    },
    /// The command line asks for what can't be.
    #[error("{0}")]
    Usage(String),
    /// Standard output can't be written.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// A file can't be written.
    #[error("cannot write {path}")]
    Write {
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes of an entry would go to a terminal.
    #[error("an entry is not written to a terminal")]
    BinaryToTerminal,
    /// Damage was found.
    #[error("{} found in {location}", crate::output::count(*.problems, "problem"))]
    DamageFound {
        /// How many.
        problems: u64,
        /// Which repository.
        location: String,
    },
    /// No key slot, or several, begin with what was given.
    #[error("{count} key slots begin with {wanted}")]
    NoSuchSlot {
        /// What was given.
        wanted: String,
        /// How many.
        count: usize,
    },
    /// The user did not agree to remove a key slot.
    #[error("not removed: key {id}")]
    NotRemoved {
        /// Id of the key slot.
        id: String,
    },
    /// A question has to be asked, and there is no terminal.
    #[error("there is no terminal to ask whether to {action}")]
    NobodyToAsk {
        /// What the user would be asked.
        action: String,
    },
    /// The terminal can't be used.
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    /// Signals can't be listened to.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

impl From<dbvault_jobs::Error> for Error {
    fn from(error: dbvault_jobs::Error) -> Error {
        Error::Job(error)
    }
}

impl From<dbvault_repo::Error> for Error {
    fn from(error: dbvault_repo::Error) -> Error {
        Error::Job(error.into())
    }
}
