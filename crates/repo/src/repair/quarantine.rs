//! Quarantine: damaged objects are kept under another name, for whoever wants to look at them, and out of the way.

use dbvault_storage::{ErrorKind, Key};

use crate::{Repository, Result, layout};

/// Different bytes of one name that are kept.
const COPIES_MAX: u32 = 64;

/// An object that has been copied and is still under its own name.
#[derive(Debug)]
pub(super) struct Copied {
    key: Key,
    hash: blake3::Hash,
}

/// Copies an object to the quarantine. Durable after the next flush. `None` where it is gone already.
///
/// The same bytes are kept once, so a repair that is done again after a crash adds nothing.
pub(super) fn copy(repo: &Repository, key: &Key) -> Result<Option<Copied>> {
    let bytes = match repo.storage.get(key, None) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let copied = Copied { key: key.clone(), hash: blake3::hash(&bytes) };
    for number in 0..COPIES_MAX {
        let too_long = || dbvault_storage::Error::new(ErrorKind::InvalidKey, key.as_str());
        let place = layout::quarantine(number, key).ok_or_else(too_long)?;
        match repo.storage.put_new(&place, &[&bytes]) {
            Ok(()) => return Ok(Some(copied)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.into()),
        }
        if repo.storage.get(&place, None)? == bytes {
            return Ok(Some(copied));
        }
    }
    Err(dbvault_storage::Error::new(ErrorKind::AlreadyExists, key.as_str()).into())
}

impl Copied {
    /// Name of the object.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Deletes the original, once the copy is durable; gives whether it was there. What is no longer the object
    /// that was copied stays: another repair was quicker.
    pub(super) fn remove_original(&self, repo: &Repository) -> Result<bool> {
        match repo.storage.get(&self.key, None) {
            Ok(bytes) if blake3::hash(&bytes) == self.hash => {
                repo.storage.delete(&self.key)?;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}
