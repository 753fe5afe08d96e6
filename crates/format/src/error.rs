//! Why bytes are not what they should be, as facts.

use crate::id::ChunkId;

/// Result of reading or making bytes.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first bytes are not those of a dbvault object.
    #[error("not a dbvault object")]
    NotDbvault,
    /// An object of one kind stands where another should.
    #[error("expected a {expected} object, found kind {found}")]
    WrongKind {
        /// Name of the kind that was expected.
        expected: &'static str,
        /// Number of the kind that was found.
        found: u8,
    },
    /// Written by a later version of the program, in a form this one can't read.
    #[error(
        "format version {found} with features {features:#x} is newer than this program (version {supported})"
    )]
    Newer {
        /// Version found.
        found: u16,
        /// Feature bits found that this program does not know.
        features: u32,
        /// Newest version this program reads.
        supported: u16,
    },
    /// The bytes do not pass authentication: damaged, altered, moved, or sealed with another key.
    #[error("{what} does not pass authentication")]
    Authentication {
        /// What was being opened.
        what: &'static str,
    },
    /// The bytes break off or make no sense.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Which rule is broken.
        detail: String,
    },
    /// A chunk decodes, but to other bytes than its id says.
    #[error("chunk {id} does not have the bytes its id names")]
    WrongChunk {
        /// Id that was asked for.
        id: ChunkId,
    },
    /// No key slot opens with this passphrase or key file.
    #[error("wrong passphrase or key file")]
    WrongSecret,
    /// A key slot asks for more memory or time than is allowed.
    #[error("key slot asks for unreasonable work: {detail}")]
    UnreasonableKdf {
        /// Which parameter, and its bound.
        detail: String,
    },
    /// The compressor or the key derivation reports a failure.
    #[error("{what}: {detail}")]
    Library {
        /// What was being done.
        what: &'static str,
        /// What the library said.
        detail: String,
    },
}

impl Error {
    /// A [`Error::Malformed`].
    pub fn malformed(what: &'static str, detail: impl ToString) -> Error {
        Error::Malformed { what, detail: detail.to_string() }
    }
}
