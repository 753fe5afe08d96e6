//! Small objects: each opens where it stands, and holds what its name says.

use std::collections::{HashMap, HashSet};

use dbvault_format::config;
use dbvault_format::header::ObjectKind;
use dbvault_format::id::{PackName, Salt};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::manifest::Fence;
use dbvault_format::note::Note;
use dbvault_format::object::from_cbor;
use dbvault_format::pack::ChunkEntry;
use dbvault_format::root::{Condemned, Root};
use dbvault_format::session::SessionRecord;
use dbvault_format::trash::TrashMark;
use dbvault_storage::{ErrorKind, Key};
use minicbor::Decode;

use super::Findings;
use crate::view::View;
use crate::{Error, Repository, Result, layout};

/// Packs that readable index segments list, of those that archives need.
pub(super) type Listings = HashMap<PackName, Listed>;

/// What a segment says of a pack. Its entries are in the index; here is what they must be.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) salt: Salt,
    pub(super) size_bytes: u64,
    entries: blake3::Hash,
}

impl Listed {
    fn new(pack: &PackListing) -> Listed {
        Listed { salt: pack.salt, size_bytes: pack.size_bytes, entries: hash_entries(&pack.entries) }
    }

    /// Whether a pack with this salt and directory is the one that is listed.
    pub(super) fn is(&self, salt: &Salt, entries: &[ChunkEntry]) -> bool {
        self.salt == *salt && self.entries == hash_entries(entries)
    }
}

fn hash_entries(entries: &[ChunkEntry]) -> blake3::Hash {
    let mut bytes = Vec::new();
    entries.iter().for_each(|entry| entry.encode(&mut bytes));
    blake3::hash(&bytes)
}

/// Checks everything but packs and manifests; gives what the index says of packs.
pub(super) fn check_objects(repo: &Repository, view: &View, findings: &Findings) -> Result<Listings> {
    let config = layout::config();
    if let Err(e) = config::decode(&repo.keys.config, &repo.storage.get(&config, None)?) {
        findings.add(config.as_str(), &e);
    }
    for (id, bytes) in crate::key_slots::read_all(&*repo.storage)? {
        if let Err(e) = dbvault_format::key_slot::note(&repo.master, (&repo.id, &id), &bytes) {
            findings.add(layout::key_slot(&id).as_str(), &e);
        }
    }
    let kinds: [(Key, ObjectKind, Test); 5] = [
        (layout::sessions(), ObjectKind::Session, readable::<SessionRecord>),
        (layout::trash(), ObjectKind::Trash, readable::<TrashMark>),
        (layout::notes(), ObjectKind::Note, readable::<Note>),
        (layout::condemned(), ObjectKind::Condemned, readable::<Condemned>),
        (layout::roots(), ObjectKind::Root, readable::<Root>),
    ];
    for (prefix, kind, test) in kinds {
        for key in repo.list_keys(&prefix)? {
            if let Some(body) = open(repo, &key, kind, findings)? {
                test(&body).unwrap_or_else(|e| findings.add(key.as_str(), &e));
            }
        }
    }
    let mut listings = Listings::new();
    // No archive needs what others list: packs of theirs may be gone before them.
    let committed = view.committed_segments().map(|(key, _)| key);
    let counting: HashSet<&Key> = view.base_segments().chain(committed).collect();
    for key in view.all_segments() {
        let Some(body) = open(repo, key, ObjectKind::IndexSegment, findings)? else { continue };
        match IndexSegment::decode(&body) {
            Ok(segment) if counting.contains(key) => {
                let packs = segment.packs.iter().filter(|pack| !view.is_deleted(&pack.name));
                listings.extend(packs.map(|pack| (pack.name, Listed::new(pack))));
            }
            Ok(_) => {}
            Err(e) => findings.add(key.as_str(), &e),
        }
    }
    for key in repo.list_keys(&layout::archives())? {
        if layout::parse_archive(&key).is_none() {
            findings.add(key.as_str(), &"not a name an archive can have");
        }
    }
    Ok(listings)
}

type Test = fn(&[u8]) -> dbvault_format::Result<()>;

fn readable<T: for<'b> Decode<'b, ()>>(body: &[u8]) -> dbvault_format::Result<()> {
    from_cbor::<T>("object", body).map(|_| ())
}

/// Whether a tombstone can be read.
pub(crate) fn fence_readable(body: &[u8]) -> dbvault_format::Result<()> {
    readable::<Fence>(body)
}

/// Opens an object, or adds a finding. One that went away since it was listed is neither.
fn open(repo: &Repository, key: &Key, kind: ObjectKind, findings: &Findings) -> Result<Option<Vec<u8>>> {
    match repo.get_sealed(key, &[kind]) {
        Ok((_, body)) => Ok(Some(body)),
        Err(Error::Damaged { source, .. }) => {
            findings.add(key.as_str(), &source);
            Ok(None)
        }
        Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
