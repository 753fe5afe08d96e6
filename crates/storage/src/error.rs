//! What can go wrong with an object.

use std::fmt;
use std::io;

/// Result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No object of that name.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The object ends before the wanted range does.
    ShortRead,
    /// Not a name an object can have.
    InvalidKey,
    /// No room left: disk full or quota reached.
    NoSpace,
    /// Not allowed: permissions, or a read-only file system.
    PermissionDenied,
    /// Anything else the system reports.
    Io,
}

/// A failed storage call: which object, what kind, and what the system said.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    source: Option<io::Error>,
}

impl Error {
    /// An error about `subject` (an object name or a path) with no cause below it.
    pub fn new(kind: ErrorKind, subject: impl Into<String>) -> Error {
        Error { kind, subject: subject.into(), source: None }
    }

    /// An error about `subject` that the system reported.
    pub fn io(subject: impl Into<String>, source: io::Error) -> Error {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::UnexpectedEof => ErrorKind::ShortRead,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::PermissionDenied
            }
            _ => ErrorKind::Io,
        };
        Error { kind, subject: subject.into(), source: Some(source) }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The object or path this is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::NotFound => "not found",
            ErrorKind::AlreadyExists => "already exists",
            ErrorKind::ShortRead => "ends too early",
            ErrorKind::InvalidKey => "not a valid object name",
            ErrorKind::NoSpace => "no space left",
            ErrorKind::PermissionDenied => "permission denied",
            ErrorKind::Io => "input/output error",
        };
        write!(f, "{what}: {}", self.subject)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}
