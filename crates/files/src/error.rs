//! What can go wrong with files and patterns, as facts.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Result of what can't go on after a failure.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What makes a whole walk or restore impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A list of paths or patterns can't be read.
    #[error("cannot read the list {}", path.display())]
    List {
        /// Its place.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pattern can't be understood.
    #[error("bad pattern in {place}: {pattern}: {why}")]
    Pattern {
        /// The option or the file it is from, with the line: `excludes.txt:3`.
        place: String,
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A path to back up can't be found.
    #[error("cannot find {}", path.display())]
    Root {
        /// The path as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory to restore to can't be used.
    #[error("cannot use {}", path.display())]
    Target {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What went wrong with one file; the others go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", Path::new(OsStr::from_bytes(path)).display())]
pub struct Problem {
    /// Path of the file as in a record: relative to `/` or to the target, raw bytes. Not safe to print as it is.
    pub path: Vec<u8>,
    /// What could not be done, a verb: `read`, `set the owner of`.
    pub doing: &'static str,
    /// What the system said, or what was found.
    pub source: io::Error,
}

impl Problem {
    /// What the system said of `path` when we were `doing` something with it: "read", "create".
    pub fn new(path: &[u8], doing: &'static str, source: impl Into<io::Error>) -> Self {
        Problem { path: path.to_vec(), doing, source: source.into() }
    }

    /// A problem that no system call told.
    pub fn found(path: &[u8], doing: &'static str, why: &'static str) -> Self {
        Problem::new(path, doing, io::Error::other(why))
    }

    /// In words, with the path from `/` on. Not safe to print as it is.
    pub fn from_root(&self) -> String {
        let path = Path::new("/").join(OsStr::from_bytes(&self.path));
        format!("cannot {} {}: {}", self.doing, path.display(), self.source)
    }

    /// Whether the file is not there any more.
    pub fn is_vanished(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}
