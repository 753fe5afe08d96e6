//! Places of repositories: from what the user names to a storage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbvault_format::id::RepoId;
use dbvault_repo::{RepoProbe, Repository};
use dbvault_storage::{ErrorKind, LocalStorage, Storage};

use crate::{Error, Result};

/// A repository that was found, still locked.
#[derive(Debug)]
pub struct Place {
    /// Where its objects are.
    pub storage: Arc<dyn Storage>,
    /// Its id, not authenticated yet.
    pub id: RepoId,
    /// What would open it.
    pub slot_kinds: Vec<dbvault_format::key_slot::SlotKind>,
}

/// Finds the repository at `path`. No secret is needed.
///
/// Errors: no repository, a newer format, and what the storage says.
pub fn find(path: &Path) -> Result<Place> {
    let storage = LocalStorage::open(path).map_err(|error| not_found(path, error))?;
    let RepoProbe { id, slot_kinds } = Repository::probe(&storage)?;
    Ok(Place { storage: Arc::new(storage), id, slot_kinds })
}

/// Checks that a repository can be made at `path`, before anybody is asked for a passphrase.
/// Errors: there is a repository, or anything else.
pub fn check_free(path: &Path) -> Result<()> {
    use dbvault_repo::Error as Repo;
    let location = || path.display().to_string();
    match find(path) {
        Ok(_) | Err(Error::Repo(Repo::Newer { .. })) => {
            Err(Error::Repo(Repo::RepositoryExists { location: location() }))
        }
        Err(Error::Repo(Repo::NoRepository { occupied: false, .. })) => Ok(()),
        Err(Error::Repo(Repo::NoRepository { .. })) if is_free(path) => Ok(()),
        Err(Error::Repo(Repo::NoRepository { .. })) => Err(Error::PlaceOccupied { location: location() }),
        Err(error) => Err(error),
    }
}

/// Makes the directory `path` for a new repository; gives its absolute path too.
pub fn create(path: &Path) -> Result<(Arc<dyn Storage>, PathBuf)> {
    let storage = match LocalStorage::create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && is_free(path) => LocalStorage::open(path)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::PlaceOccupied { location: path.display().to_string() });
        }
        made => made?,
    };
    let path = path.canonicalize().map_err(Error::file("find", path))?;
    Ok((Arc::new(storage), path))
}

/// Whether a directory holds nothing, or only what an interrupted `init` leaves: key slots and temporary
/// files, but no `config`.
fn is_free(path: &Path) -> bool {
    let leftover = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            name == "keys" || name.as_encoded_bytes().starts_with(b".tmp-")
        })
    };
    path.read_dir().is_ok_and(|mut entries| entries.all(leftover))
}

/// A place that is not there or no directory has no repository; the rest is the storage's failure.
fn not_found(path: &Path, error: dbvault_storage::Error) -> Error {
    let occupied = path.exists();
    let nothing = error.kind() == ErrorKind::NotFound || occupied && !path.is_dir();
    if nothing {
        let location = path.display().to_string();
        Error::Repo(dbvault_repo::Error::NoRepository { location, occupied })
    } else {
        error.into()
    }
}
