//! Damaged packs: restored by their parity, or what is still good in them stored anew.

use dbvault_format::header::{HEADER_BYTES, Header, ObjectKind};
use dbvault_format::id::PackName;
use dbvault_format::index_segment::PackListing;
use dbvault_format::pack::{PackBuilder, RecordOpener, open_pack};
use dbvault_storage::ErrorKind;

use super::quarantine;
use crate::index::read_listing;
use crate::session::Session;
use crate::{Error, Repository, Result, entropy, layout, parity};

/// What is left of a damaged pack.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    /// The pack that holds it, if any of it was good.
    pub(super) pack: Option<PackListing>,
    /// Records that were good.
    pub(super) good: u64,
    /// Records that were not.
    pub(super) lost: u64,
}

/// What is wrong with the bytes of a pack, by its name alone; `None` where nothing is, or it is gone.
pub(super) fn look(repo: &Repository, name: &PackName) -> Result<Option<String>> {
    let bytes = match repo.storage.get(&layout::pack(name), None) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let opened = open_pack(&repo.keys.pack, &repo.id, name, &bytes);
    match opened.map_err(|e| Error::reading(layout::pack(name).as_str(), e)) {
        Ok(_) => Ok(None),
        Err(Error::Damaged { source, .. }) => Ok(Some(source.to_string())),
        Err(e) => Err(e),
    }
}

/// The directory of a stored pack, from the pack itself. Errors: [`Error::Damaged`] where it can't be read.
pub(super) fn directory(repo: &Repository, name: &PackName, size_bytes: u64) -> Result<PackListing> {
    let key = layout::pack(name);
    let head = repo.storage.get(&key, Some(0..(HEADER_BYTES as u64).min(size_bytes)))?;
    let (header, _) =
        Header::decode(&head, &[ObjectKind::Pack]).map_err(|e| Error::reading(key.as_str(), e))?;
    read_listing(repo, *name, header.salt, size_bytes)
}

/// Stores anew all records of a damaged pack that still open: a record is sealed by itself, so what opens is what
/// was stored. `listing` is what a segment says of the pack; without it, its own directory has to do.
pub(super) fn salvage(repo: &Repository, name: &PackName, listing: Option<PackListing>) -> Result<Salvage> {
    let mut salvage = Salvage::default();
    let bytes = match repo.storage.get(&layout::pack(name), None) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(salvage),
        bytes => bytes?,
    };
    let listing = match listing.map_or_else(|| directory(repo, name, bytes.len() as u64), Ok) {
        Ok(listing) => listing,
        Err(Error::Damaged { .. }) => return Ok(salvage),
        Err(e) => return Err(e),
    };
    let opener = RecordOpener::new(&repo.keys.pack, repo.id, &listing.salt);
    let mut builder = PackBuilder::new(&repo.keys.pack, repo.id, entropy::salt()?, bytes.len());
    let (mut offset, mut again) = (HEADER_BYTES, Vec::new());
    for (ordinal, entry) in listing.entries.iter().enumerate() {
        let range = offset..offset + entry.sealed_len as usize;
        offset = range.end;
        let record = bytes
            .get(range)
            .map(<[u8]>::to_vec)
            .and_then(|mut record| opener.open(ordinal as u32, entry, &mut record).ok().map(|()| record));
        let Some(record) = record else {
            salvage.lost += 1;
            continue;
        };
        let new_opener = builder.opener().clone();
        let (new_ordinal, new_entry, sealed) =
            builder.append(entry.clone(), &record).map_err(Error::Format)?;
        again.clear();
        again.extend_from_slice(sealed);
        let opened = new_opener.open_in_place(new_ordinal, new_entry, &mut again);
        if !opened.is_ok_and(|stored| *stored == *record) {
            return Err(Error::Verify { id: entry.id });
        }
        salvage.good += 1;
    }
    if salvage.good > 0 {
        let pack = builder.finish().map_err(Error::Format)?;
        repo.storage.put_new(&layout::pack(&pack.name), &[&pack.bytes])?;
        parity::put_if_wanted(repo, &pack.name, &pack.bytes)?;
        let size_bytes = pack.bytes.len() as u64;
        salvage.pack =
            Some(PackListing { name: pack.name, salt: pack.salt, size_bytes, entries: pack.entries });
    }
    Ok(salvage)
}

/// Puts the bytes that parity gives in place of a damaged pack, which goes to the quarantine; gives whether it did.
///
/// The caller knows that no collection may be deleting the pack: it is in no condemned list, and those that come
/// wait for `session`. Between the delete and the put a crash may leave the pack away: it is read from the quarantine
/// by its parity then, and the next repair puts it.
pub(super) fn put_restored(repo: &Repository, session: &Session, name: &PackName) -> Result<bool> {
    let Some(bytes) = parity::restore(repo, name)? else { return Ok(false) };
    let key = layout::pack(name);
    let copied = quarantine::copy(repo, &key)?;
    repo.storage.flush()?;
    // One that slept for so long that it was given up may not bring back what was deleted meanwhile (rule C10).
    if repo.storage.size(&layout::archive(session.id()))?.is_some() {
        return Err(Error::Fenced { id: *session.id() });
    }
    if let Some(copied) = copied {
        copied.remove_original(repo)?;
    }
    match repo.storage.put_new(&key, &[&bytes]) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        done => done?,
    }
    repo.storage.flush()?;
    Ok(true)
}
