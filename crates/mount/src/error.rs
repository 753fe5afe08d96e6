//! What can go wrong with a mount, as facts.

use std::io;
use std::path::PathBuf;

/// Result of mounting and unmounting.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a mount.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system has no `/dev/fuse`.
    #[error("this system has no /dev/fuse")]
    NoFuse,
    /// This user may not use `/dev/fuse`.
    #[error("this user may not use /dev/fuse")]
    FuseForbidden(#[source] io::Error),
    /// The program is missing that mounts for users who are not root.
    #[error("fusermount3 is not installed")]
    HelperMissing,
    /// The system does not let this user show a mount to other users.
    #[error("users may not show a mount to other users here")]
    OthersForbidden,
    /// What is to become the mount point is not a directory.
    #[error("not a directory: {}", directory.display())]
    NotADirectory {
        /// Its path.
        directory: PathBuf,
    },
    /// There are files in the directory, which the mount would hide.
    #[error("{} is not empty", directory.display())]
    NotEmpty {
        /// Its path.
        directory: PathBuf,
    },
    /// Something is mounted there already.
    #[error("something is mounted on {} already", directory.display())]
    AlreadyMounted {
        /// Its path.
        directory: PathBuf,
    },
    /// The process that served the mount has died.
    #[error("{} is a mount whose process is gone", directory.display())]
    Dead {
        /// Its path.
        directory: PathBuf,
    },
    /// A directory can't be used.
    #[error("cannot use {}", directory.display())]
    Directory {
        /// Its path.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may change what is in the default place.
    #[error("{} belongs to another user, or others may write to it", directory.display())]
    NotOurs {
        /// Its path.
        directory: PathBuf,
    },
    /// The system refuses.
    #[error("cannot mount on {}", directory.display())]
    Mount {
        /// The mount point.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing of dbvault is mounted there.
    #[error("no repository is mounted on {}", directory.display())]
    NotMounted {
        /// Its path.
        directory: PathBuf,
    },
    /// Somebody uses what is mounted.
    #[error("{} is in use", directory.display())]
    Busy {
        /// The mount point.
        directory: PathBuf,
    },
    /// The system refuses to unmount.
    #[error("cannot unmount {}", directory.display())]
    Unmount {
        /// The mount point.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The repository can't be read.
    #[error(transparent)]
    Repo(#[from] dbvault_repo::Error),
}
