//! Parity of packs: stored beside them where the repository is made so, and used when a pack is damaged.
//!
//! Parity is a help and never a need: a pack without it is as good as one with it, and what it gives counts only
//! if it has the hash that is the pack's name.

use std::collections::HashSet;

use dbvault_format::id::PackName;
use dbvault_format::parity::{Parity, encode};
use dbvault_storage::ErrorKind;

use crate::{Error, Repository, Result, layout};

/// Copies in quarantine of one object that are looked at.
const COPIES_MAX: u32 = 64;

/// Stores the parity of a pack, where the repository is made to have it. Before the segment that lists the pack.
pub(crate) fn put_if_wanted(repo: &Repository, name: &PackName, pack: &[u8]) -> Result<()> {
    repo.params.parity_percent.map_or(Ok(()), |percent| put(repo, name, pack, percent))
}

/// Stores the parity of a pack, about `percent` of its length. One that is there already stays.
pub(crate) fn put(repo: &Repository, name: &PackName, pack: &[u8], percent: u8) -> Result<()> {
    let object = encode(name, pack, percent).map_err(Error::Format)?;
    // Read what was made before it is relied on.
    let parity = Parity::decode(name, &object).map_err(Error::Format)?;
    if !parity.is_whole() {
        return Err(Error::Format(dbvault_format::Error::malformed("parity", "did not survive its making")));
    }
    match repo.storage.put_new(&layout::parity(name), &[&object]) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => Ok(done?),
    }
}

/// Packs that have parity, as their names tell.
pub(crate) fn list(repo: &Repository) -> Result<HashSet<PackName>> {
    Ok(repo.list_keys(&layout::parities())?.iter().filter_map(layout::parse_parity).collect())
}

/// The bytes of a pack that is damaged, or gone after a repair moved it aside and stopped. `None` where parity
/// can't bring them back, or there is none.
///
/// Errors: failures of the storage, which say nothing of what could be brought back; a newer version.
pub(crate) fn restore(repo: &Repository, name: &PackName) -> Result<Option<Vec<u8>>> {
    let object = match repo.storage.get(&layout::parity(name), None) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        object => object?,
    };
    let parity = match Parity::decode(name, &object) {
        Ok(parity) => parity,
        Err(e @ dbvault_format::Error::Newer { .. }) => {
            return Err(Error::reading(layout::parity(name).as_str(), e));
        }
        Err(_) => return Ok(None),
    };
    let place = layout::pack(name);
    let aside = (0..COPIES_MAX).filter_map(|number| layout::quarantine(number, &place));
    for (number, key) in std::iter::once(place.clone()).chain(aside).enumerate() {
        let damaged = match repo.storage.get(&key, None) {
            Err(e) if e.kind() == ErrorKind::NotFound && number > 0 => break,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            damaged => damaged?,
        };
        match parity.restore(name, &damaged) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(e) => tracing::debug!(object = %key, "{e}"),
        }
    }
    Ok(None)
}

/// Deletes the parity of a pack that was deleted. Durable after the next flush.
pub(crate) fn forget(repo: &Repository, name: &PackName) -> Result<()> {
    Ok(repo.storage.delete(&layout::parity(name))?)
}

/// Deletes the parity of packs that are neither stored nor in quarantine; gives how many.
///
/// A pack is stored before its parity, so where only the latter is found, the pack has gone since.
pub(crate) fn forget_orphans(repo: &Repository) -> Result<u64> {
    let mut count = 0;
    for name in list(repo)? {
        repo.client.check_interrupt()?;
        let key = layout::pack(&name);
        let aside = layout::quarantine(0, &key).map(|key| repo.storage.size(&key)).transpose()?.flatten();
        if repo.storage.size(&key)?.is_none() && aside.is_none() {
            forget(repo, &name)?;
            count += 1;
        }
    }
    Ok(count)
}
