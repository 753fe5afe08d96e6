//! What can go wrong with a repository, as facts.

use dbvault_format::id::{ChunkId, PackName, SessionId, SlotId};

/// Result of a repository operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing at the place, or no `config` in it.
    #[error("no repository at {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
        /// Whether there is something else at the place.
        occupied: bool,
    },
    /// `init` at a place that has a repository already.
    #[error("there is a repository already at {location}")]
    RepositoryExists {
        /// Where.
        location: String,
    },
    /// The repository was written by a later version of the program.
    #[error("{location} needs a newer version of dbvault")]
    Newer {
        /// Which object or place.
        location: String,
        /// The versions.
        source: dbvault_format::Error,
    },
    /// No key slot opens with the secret that was given.
    #[error("wrong passphrase or key file for {location}")]
    WrongSecret {
        /// Which repository.
        location: String,
    },
    /// An object is damaged, missing or altered.
    #[error("damaged object: {object}")]
    Damaged {
        /// Name of the object.
        object: String,
        /// What is wrong with it.
        source: dbvault_format::Error,
    },
    /// A chunk that an archive needs is not in the repository, or all copies of it are damaged.
    #[error("chunk {id} is missing")]
    ChunkMissing {
        /// Which chunk.
        id: ChunkId,
    },
    /// A chunk of a stream can't be had.
    #[error("chunk {id} can't be read")]
    ChunkUnreadable {
        /// Which chunk.
        id: ChunkId,
        /// Why.
        source: Box<Error>,
    },
    /// A pack that the index lists is not there.
    #[error("pack {name} is missing")]
    PackMissing {
        /// Which pack.
        name: PackName,
    },
    /// No archive answers to this name.
    #[error("no archive named {wanted}")]
    NoSuchArchive {
        /// Name, id or `latest`.
        wanted: String,
    },
    /// Several archives answer to this name.
    #[error("{count} archives are named {wanted}")]
    AmbiguousArchive {
        /// Name or beginning of an id.
        wanted: String,
        /// How many.
        count: usize,
    },
    /// A name that must be new is taken.
    #[error("the name {name} is taken")]
    NameTaken {
        /// Archive or entry name.
        name: String,
    },
    /// A name that no archive or entry can have.
    #[error("not a valid name: {name:?}")]
    BadName {
        /// The name.
        name: String,
    },
    /// The archive is deleted, or is not deleted, when the opposite is needed.
    #[error("archive {id} is {state}")]
    ArchiveState {
        /// Which archive.
        id: SessionId,
        /// `deleted`, `not deleted`, `protected` or `being collected`.
        state: &'static str,
    },
    /// No key slot with this id.
    #[error("no key slot {id}")]
    NoSuchSlot {
        /// Which slot.
        id: SlotId,
    },
    /// There are as many key slots as a reader looks at.
    #[error("there are {count} key slots already")]
    TooManySlots {
        /// How many.
        count: usize,
    },
    /// The last key slot can't be removed.
    #[error("key slot {id} is the last one")]
    LastSlot {
        /// Which slot.
        id: SlotId,
    },
    /// The session was silent for so long that a collection took its right to commit.
    #[error("backup {id} was fenced by a collection after a long silence")]
    Fenced {
        /// The session.
        id: SessionId,
    },
    /// What was sealed does not open to what went in: faulty memory, processor or encoder.
    #[error("chunk {id} did not survive its own encoding")]
    Verify {
        /// Which chunk.
        id: ChunkId,
    },
    /// The stream being stored could not be read.
    #[error("cannot read the stream of {entry}")]
    Source {
        /// Which entry.
        entry: String,
        /// What the reader said.
        source: std::io::Error,
    },
    /// An archive can't be read whole, and so can't be copied.
    #[error("cannot read {entry} of archive {archive}")]
    Unreadable {
        /// Name of the archive.
        archive: String,
        /// Name of the entry, or `the list of entries`.
        entry: String,
        /// Why.
        source: Box<Error>,
    },
    /// The local cache can't be used.
    #[error("local index cache {path}: {message}")]
    Cache {
        /// Its directory.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] dbvault_storage::Error),
    /// Making bytes failed.
    #[error(transparent)]
    Format(dbvault_format::Error),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// Another part of the same backup failed before: that error tells why.
    #[error("this backup has failed already")]
    Poisoned,
    /// Stopped by the user.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An error about reading `object`: newer versions are told apart from damage.
    pub(crate) fn reading(object: impl Into<String>, source: dbvault_format::Error) -> Error {
        match source {
            dbvault_format::Error::Newer { .. } => Error::Newer { location: object.into(), source },
            source => Error::Damaged { object: object.into(), source },
        }
    }
}
