//! What can go wrong with a job, as facts.

use std::io;
use std::path::PathBuf;

use dbvault_format::key_slot::SlotKind;

use crate::config::Problem;
use crate::secrets::Origin;

/// Result of a job.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository failed an operation.
    #[error(transparent)]
    Repo(dbvault_repo::Error),
    /// The inside of a dump can't be given.
    #[error(transparent)]
    Contents(dbvault_dump::Error),
    /// A prune would drop more than half of the archives.
    #[error("{dropped} of {all} archives would be dropped")]
    DropsMost {
        /// How many no rule keeps.
        dropped: usize,
        /// Of how many.
        all: usize,
    },
    /// No repository is named anywhere.
    #[error("no repository is named")]
    RepositoryUnnamed,
    /// `init` at a place that holds other things.
    #[error("there are other files at {location}")]
    PlaceOccupied {
        /// Where.
        location: String,
    },
    /// A source could not be backed up.
    #[error("cannot back up {entry}")]
    Dump {
        /// Name of its entry.
        entry: String,
        /// Why.
        source: dbvault_source::Error,
    },
    /// An entry could not be restored.
    #[error("cannot restore {entry}")]
    Restore {
        /// Name of the entry.
        entry: String,
        /// Why.
        source: dbvault_source::Error,
        /// Entries of the same job that are in place already.
        restored: Vec<String>,
    },
    /// Nothing to back up was named.
    #[error("nothing to back up")]
    NoSources,
    /// Files can't be walked, or chosen as was asked.
    #[error(transparent)]
    Files(dbvault_files::Error),
    /// An archive of databases only.
    #[error("archive {archive} has no files")]
    NoFiles {
        /// Name of the archive.
        archive: String,
    },
    /// No file is like that.
    #[error("no file is like {pattern}")]
    NothingFound {
        /// What was looked for.
        pattern: String,
    },
    /// What should be a tar archive can't be read as one.
    #[error("cannot read {name} as a tar archive")]
    Tar {
        /// Its path, `standard input`, or what made it.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// What was stored of an import is not what was read.
    #[error("archive {archive} is not what was read: it has been deleted again")]
    NotAsRead {
        /// Name of the archive.
        archive: String,
    },
    /// A repository of another program can't be read.
    #[error("cannot read {repository}: {what}")]
    Foreign {
        /// Which repository.
        repository: String,
        /// What is wrong.
        what: String,
    },
    /// A program that reads the repository of another one failed.
    #[error("cannot import {what}")]
    Import {
        /// What was imported: a repository, or an archive of it.
        what: String,
        /// Why.
        source: dbvault_source::Error,
    },
    /// Two sources of one backup would make entries of the same name.
    #[error("two entries are named {name}")]
    EntryNamedTwice {
        /// The name.
        name: String,
    },
    /// Two entries would be restored to the same place.
    #[error("two entries would be restored to {destination}")]
    DestinationTwice {
        /// The place.
        destination: String,
    },
    /// The archive has no entry of this name.
    #[error("archive {archive} has no entry named {wanted}")]
    NoSuchEntry {
        /// Name of the archive.
        archive: String,
        /// The name that was asked for.
        wanted: String,
        /// The names it has.
        available: Vec<String>,
    },
    /// One entry is needed and the archive has several.
    #[error("archive {archive} has {} entries", .available.len())]
    EntryUnchosen {
        /// Name of the archive.
        archive: String,
        /// Their names.
        available: Vec<String>,
    },
    /// The entry holds plain bytes, for which there is no target.
    #[error("entry {entry} is of kind {kind}, which cannot be restored into a database")]
    NotRestorable {
        /// Name of the entry.
        entry: String,
        /// The word for its kind.
        kind: &'static str,
    },
    /// Single tables of this kind can't be restored.
    #[error("no single table of {entry} can be restored: it is of kind {kind}")]
    NoTables {
        /// Name of the entry.
        entry: String,
        /// The word for its kind.
        kind: &'static str,
    },
    /// An entry could not be opened in a private place.
    #[error("cannot open {entry}")]
    Open {
        /// Name of the entry.
        entry: String,
        /// Why.
        source: dbvault_source::Error,
    },
    /// Nothing of this kind can be opened in a private place.
    #[error("{entry} can't be opened: there is no private server for what is of kind {kind}")]
    NotOpenable {
        /// Name of the entry.
        entry: String,
        /// The word for its kind.
        kind: &'static str,
    },
    /// What is of this kind can't be opened for reading only.
    #[error("{entry} can't be opened for reading only: what is of kind {kind} can always be changed")]
    NoReadOnly {
        /// Name of the entry.
        entry: String,
        /// The word for its kind.
        kind: &'static str,
    },
    /// An item of a configuration is of a kind that is not a database.
    #[error("{name} is no database: {kind}")]
    NotADatabase {
        /// Its name.
        name: String,
        /// The word for its kind.
        kind: &'static str,
    },
    /// The user did not agree to overwrite what is there.
    #[error("not overwritten: {what}")]
    Declined {
        /// What stays as it was.
        what: String,
    },
    /// A configuration file says what it can't say.
    #[error("{}", config_words(.problems))]
    Config {
        /// All that is wrong, in the order in which it was found.
        problems: Vec<Problem>,
    },
    /// Several repositories are configured, and one is needed.
    #[error("{} repositories are configured", .names.len())]
    RepositoryUnchosen {
        /// Their labels, or paths where they have none.
        names: Vec<String>,
    },
    /// The user's home directory is not known, so neither is where settings are.
    #[error("the home directory is not known")]
    NoHome,
    /// No passphrase and no key file was given, and nobody can be asked.
    #[error("no passphrase or key file for {location}")]
    NoSecret {
        /// Which repository.
        location: String,
        /// Environment variable that could hold the passphrase.
        variable: String,
    },
    /// The secret that was given does not open the repository.
    #[error("wrong {} for {location}", .origin.kind().name())]
    WrongSecret {
        /// Which repository.
        location: String,
        /// Where the secret came from.
        origin: Origin,
    },
    /// A passphrase of no bytes.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The two times that a new passphrase was typed differ.
    #[error("the two passphrases differ")]
    PassphrasesDiffer,
    /// A passphrase is to be changed, but the repository was opened with something else.
    #[error("the repository was opened with a {}", .kind.name())]
    NotAPassphrase {
        /// What it was opened with.
        kind: SlotKind,
    },
    /// The command that should print the passphrase failed.
    #[error("the passphrase command failed")]
    PassphraseCommand {
        /// Why.
        source: dbvault_source::Error,
    },
    /// A file is not a key file, or not of the right sort.
    #[error("{} is not a {expected}", .path.display())]
    NotAKeyFile {
        /// Its path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// An exported key belongs to another repository.
    #[error("the key is that of repository {found}, not of {wanted}")]
    ForeignKey {
        /// Id that the exported key names.
        found: String,
        /// Id of the repository.
        wanted: String,
    },
    /// A file that must be new is there already.
    #[error("there is a file already at {}", .path.display())]
    FileExists {
        /// Its path.
        path: PathBuf,
    },
    /// Where an extracted entry goes can't be written.
    #[error("cannot write {output}")]
    Output {
        /// Path, or `standard output`.
        output: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system failed an operation on a file.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was tried, a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("no random numbers")]
    Random {
        /// What it said.
        source: getrandom::Error,
    },
    /// A command of the user failed, before something or after it.
    #[error("{name} failed")]
    Hook {
        /// Which one.
        name: crate::hooks::HookName,
        /// Why.
        source: dbvault_source::Error,
    },
    /// What runs dbvault by itself can't be set up.
    #[error("{what}")]
    Schedule {
        /// What went wrong.
        what: String,
        /// Why, where a program of the system said it.
        source: Option<dbvault_source::Error>,
    },
    /// Stopped by the user.
    #[error("interrupted")]
    Interrupted,
}

/// The first problem, and how many more there are.
fn config_words(problems: &[Problem]) -> String {
    match problems {
        [] => "the configuration is wrong".into(),
        [only] => only.to_string(),
        [first, others @ ..] => format!("{first} (and {} more)", others.len()),
    }
}

impl Error {
    /// A failed dump; an interrupt stays one.
    pub(crate) fn dump(entry: &str, source: dbvault_source::Error) -> Error {
        match source {
            dbvault_source::Error::Interrupted => Error::Interrupted,
            source => Error::Dump { entry: entry.to_owned(), source },
        }
    }

    /// A failed program of an import; an interrupt stays one.
    pub(crate) fn import(what: &str, source: dbvault_source::Error) -> Error {
        match source {
            dbvault_source::Error::Interrupted => Error::Interrupted,
            source => Error::Import { what: what.to_owned(), source },
        }
    }

    /// A failed restore; an interrupt stays one.
    pub(crate) fn restore(entry: &str, source: dbvault_source::Error, restored: &[String]) -> Error {
        match source {
            dbvault_source::Error::Interrupted => Error::Interrupted,
            source => Error::Restore { entry: entry.to_owned(), source, restored: restored.to_vec() },
        }
    }

    /// A failed operation on a file; for `map_err`.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }

    /// The error behind a failed read of a stream that the repository gives out.
    pub(crate) fn from_stream(error: io::Error) -> Error {
        let error = match error.downcast::<dbvault_repo::Error>() {
            Ok(inner) => return inner.into(),
            Err(error) => error,
        };
        match error.downcast::<dbvault_dump::Error>() {
            Ok(inner) => inner.into(),
            Err(source) => Error::File { action: "read", path: "the repository".into(), source },
        }
    }
}

impl From<dbvault_repo::Error> for Error {
    fn from(error: dbvault_repo::Error) -> Error {
        match error {
            dbvault_repo::Error::Interrupted => Error::Interrupted,
            dbvault_repo::Error::Source { entry, source } => {
                let source = dbvault_source::Error::from_io("read the stream", source);
                Error::dump(&entry, source)
            }
            other => Error::Repo(other),
        }
    }
}

impl From<dbvault_storage::Error> for Error {
    fn from(error: dbvault_storage::Error) -> Error {
        Error::Repo(error.into())
    }
}
