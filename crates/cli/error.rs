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
    /// A source failed, and the others did not.
    #[error(transparent)]
    LeftOut(dbvault_jobs::Error),
    /// The command ended because of a signal.
    #[error("{inner}")]
    Signal {
        /// Its number.
        signal: i32,
        /// What the command said.
        inner: Box<Error>,
    },
    /// Two archives are not the same, and the user wants to know by the exit code.
    #[error("the archives differ in {count} {}", if *.count == 1 { "entry" } else { "entries" })]
    ArchivesDiffer {
        /// Entries that differ.
        count: u64,
    },
    /// Files are not as they should be, in an archive or where they were extracted to.
    #[error("{} could not be stored or made as {}", crate::output::count(*.count, "file"),
        if *.count == 1 { "it is" } else { "they are" })]
    FilesWanting {
        /// How many.
        count: u64,
    },
    /// Archives of another program's repository are not here.
    #[error("{} could not be imported", crate::output::count(*.failed, "archive"))]
    ImportIncomplete {
        /// How many.
        failed: u64,
    },
    /// A program that was run for the user ended otherwise than well, and has said why itself.
    #[error("the command ended with status {status}")]
    CommandEnded {
        /// Its exit status, as shells tell it.
        status: u8,
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
    /// An archive was made, and lacks what failed.
    #[error("{} {} missing in archive {archive}", crate::output::count(*.missing as u64, "source"),
        if *.missing == 1 { "is" } else { "are" })]
    Incomplete {
        /// Name of the archive.
        archive: String,
        /// How many.
        missing: usize,
    },
    /// What was restored for proof is not what was backed up, or could not be restored.
    #[error("{} of archive {archive} did not restore as backed up", crate::output::count(*.failed as u64, "database"))]
    DrillFailed {
        /// Name of the archive.
        archive: String,
        /// How many.
        failed: usize,
    },
    /// Nothing of an archive can be tried.
    #[error("archive {archive} has nothing that can be tried in a private server")]
    NothingDrilled {
        /// Name of the archive.
        archive: String,
    },
    /// Backups are missing, too old, or not what they should be.
    #[error("{} with the backups in {location}", crate::output::count(*.problems, "problem"))]
    BackupsWanting {
        /// How many.
        problems: u64,
        /// Which repository.
        location: String,
    },
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
    /// The configuration is wrong; all that is wrong was told.
    #[error("{} in the configuration", crate::output::count(*.problems, "mistake"))]
    ConfigurationWrong {
        /// How many.
        problems: u64,
    },
    /// The user did not agree to remove a key slot.
    #[error("not removed: key {id}")]
    NotRemoved {
        /// Id of the key slot.
        id: String,
    },
    /// The user did not agree to a repair.
    #[error("not repaired: {location}")]
    NotRepaired {
        /// Which repository.
        location: String,
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
    /// Mounting or unmounting failed.
    #[error(transparent)]
    Mount(#[from] dbvault_mount::Error),
    /// The process that was to go on in the background has ended; it has told why.
    #[error("the background process has ended with code {code}")]
    Background {
        /// Its exit code.
        code: u8,
    },
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
