//! Key slots of a repository: who may open it.

use dbvault_format::Error as FormatError;
use dbvault_format::id::{RepoId, SlotId};
use dbvault_format::key_slot::{self, KdfWork, Secret, SlotKind, SlotNote};
use dbvault_format::keys::MasterKey;
use dbvault_storage::Storage;

use crate::repository::now_ms;
use crate::{Error, Repository, Result, entropy, layout};

/// Most slots that are looked at: a server can't make a client try passphrases for ever.
const SLOTS_MAX: usize = 16;

/// A key slot, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its id.
    pub id: SlotId,
    /// Which secret it wants.
    pub kind: SlotKind,
    /// What the user calls it.
    pub label: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// Whether the repository was opened with it.
    pub current: bool,
}

/// Where a slot belongs.
pub(crate) struct SlotPlace<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) repo: &'a RepoId,
}

/// All slots, by id, unopened.
pub(crate) fn read_all(storage: &dyn Storage) -> Result<Vec<(SlotId, Vec<u8>)>> {
    let mut ids = Vec::new();
    storage.list(&layout::key_slots(), &mut |object| {
        ids.extend(layout::parse_key_slot(&object.key));
        Ok(())
    })?;
    ids.sort_unstable();
    ids.truncate(SLOTS_MAX);
    ids.into_iter().map(|id| Ok((id, storage.get(&layout::key_slot(&id), None)?))).collect()
}

/// Opens the first slot that `secret` fits.
///
/// Errors: [`Error::WrongSecret`] where slots are readable but none fits; damage where none is readable.
pub(crate) fn open_any(storage: &dyn Storage, repo: &RepoId, secret: &Secret) -> Result<(SlotId, MasterKey)> {
    let mut damage = None;
    let mut readable = 0;
    for (id, bytes) in read_all(storage)? {
        match key_slot::decode(secret, (repo, &id), &bytes) {
            Ok(master) => return Ok((id, master)),
            Err(FormatError::WrongSecret) => readable += 1,
            Err(e) => damage = Some(Error::reading(layout::key_slot(&id).as_str(), e)),
        }
    }
    match damage {
        Some(damage) if readable == 0 => Err(damage),
        _ => Err(Error::WrongSecret { location: storage.location() }),
    }
}

/// Stores a new slot and proves that it opens before it counts. Durable after a flush.
pub(crate) fn add(
    place: &SlotPlace,
    master: &MasterKey,
    secret: &Secret,
    work: KdfWork,
    label: &str,
) -> Result<SlotId> {
    let id = entropy::slot_id()?;
    let note = SlotNote { label: label.into(), created_ms: now_ms() };
    let bytes = key_slot::encode(secret, work, master, (place.repo, &id), entropy::salt()?, &note);
    let bytes = bytes.map_err(Error::Format)?;
    let opened = key_slot::decode(secret, (place.repo, &id), &bytes).map_err(Error::Format)?;
    if opened.0 != master.0 {
        return Err(Error::Format(FormatError::Authentication { what: "key slot" }));
    }
    place.storage.put_new(&layout::key_slot(&id), &[&bytes])?;
    Ok(id)
}

impl Repository {
    /// All key slots, oldest first.
    pub fn key_slots(&self) -> Result<Vec<SlotInfo>> {
        let slots = read_all(&*self.storage)?.into_iter().map(|(id, bytes)| {
            let reading = |e| Error::reading(layout::key_slot(&id).as_str(), e);
            let note = key_slot::note(&self.master, (&self.id, &id), &bytes).map_err(reading)?;
            let kind = key_slot::kind(&bytes).map_err(reading)?;
            Ok(SlotInfo {
                id,
                kind,
                label: note.label,
                created_ms: note.created_ms,
                current: id == self.slot,
            })
        });
        let mut slots = slots.collect::<Result<Vec<_>>>()?;
        slots.sort_by_key(|slot| slot.created_ms);
        Ok(slots)
    }

    /// Adds a key slot. The data is not touched. Errors: [`Error::TooManySlots`].
    pub fn add_key(&self, secret: &Secret, label: &str) -> Result<SlotId> {
        let place = SlotPlace { storage: &*self.storage, repo: &self.id };
        let count = read_all(&*self.storage)?.len();
        if count >= SLOTS_MAX {
            return Err(Error::TooManySlots { count });
        }
        let id = add(&place, &self.master, secret, KdfWork::DEFAULT, label)?;
        self.storage.flush()?;
        Ok(id)
    }

    /// Removes a key slot. Who has copied the slot and knows its secret can still open old copies.
    ///
    /// Errors: [`Error::NoSuchSlot`], [`Error::LastSlot`].
    pub fn remove_key(&self, id: &SlotId) -> Result<()> {
        let slots = read_all(&*self.storage)?;
        let Some((_, bytes)) = slots.iter().find(|(slot, _)| slot == id) else {
            return Err(Error::NoSuchSlot { id: *id });
        };
        if slots.len() == 1 {
            return Err(Error::LastSlot { id: *id });
        }
        let key = layout::key_slot(id);
        self.storage.delete(&key)?;
        if read_all(&*self.storage)?.is_empty() {
            // Somebody else removed the other one at the same moment.
            self.storage.put_new(&key, &[bytes])?;
            self.storage.flush()?;
            return Err(Error::LastSlot { id: *id });
        }
        Ok(self.storage.flush()?)
    }

    /// Replaces the slot this repository was opened with: the new one is durable before the old one goes.
    pub fn replace_key(&self, secret: &Secret) -> Result<SlotId> {
        let label = self.key_slots()?.into_iter().find(|slot| slot.current).map(|slot| slot.label);
        let id = self.add_key(secret, &label.unwrap_or_default())?;
        self.remove_key(&self.slot)?;
        Ok(id)
    }

    /// Removes the slots of repositories that never came to be: those that were there before `config`.
    pub(crate) fn remove_foreign_slots(&self) -> Result<()> {
        let foreign =
            |(id, bytes): &(SlotId, Vec<u8>)| key_slot::note(&self.master, (&self.id, id), bytes).is_err();
        for (id, _) in read_all(&*self.storage)?.into_iter().filter(foreign) {
            self.storage.delete(&layout::key_slot(&id))?;
        }
        Ok(self.storage.flush()?)
    }

    /// The master key itself, for safe keeping on paper. Whoever has it can read everything.
    pub fn export_key(&self) -> MasterKey {
        self.master.clone()
    }
}
