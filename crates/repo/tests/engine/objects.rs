//! Objects opened and made by hand, from the words of the format alone.

use std::sync::Arc;

use dbvault_format::header::ObjectKind;
use dbvault_format::id::{PackName, Salt, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::keys::Keys;
use dbvault_format::object::{Place, open_object, seal_object};
use dbvault_format::pack::{ChunkEntry, open_pack};
use dbvault_repo::Repository;
use dbvault_storage::MemoryStorage;

use crate::common::noise;

/// The keys of a repository.
pub(crate) fn keys(repo: &Repository) -> Keys {
    Keys::derive(&repo.export_key())
}

/// Puts a sealed object in its place.
pub(crate) fn put_sealed(
    storage: &MemoryStorage,
    repo: &Repository,
    name: &str,
    kind: ObjectKind,
    body: &[u8],
) {
    let place = Place { repo: repo.id(), name };
    // Only the name decides: a test makes each object once.
    let salt = Salt(noise(32, blake3::hash(name.as_bytes()).as_bytes()[0].into()).try_into().unwrap());
    let object = seal_object(&keys(repo).object, place, kind, salt, body).unwrap();
    storage.replace_raw(name, object);
}

/// The body of a sealed object.
pub(crate) fn read_sealed(
    storage: &MemoryStorage,
    repo: &Repository,
    name: &str,
    kind: ObjectKind,
) -> Vec<u8> {
    let object = storage.read_raw(name).unwrap();
    open_object(&keys(repo).object, Place { repo: repo.id(), name }, &[kind], &object).unwrap().1
}

/// Names of all objects that begin with `prefix`, sorted.
pub(crate) fn names(storage: &MemoryStorage, prefix: &str) -> Vec<String> {
    let mut names = storage.object_names();
    names.retain(|name| name.starts_with(prefix));
    names
}

/// What all segments of a session list.
pub(crate) fn listings(storage: &MemoryStorage, repo: &Repository, session: &SessionId) -> Vec<PackListing> {
    let bodies = names(storage, &format!("index/{session}/")).into_iter().map(|name| {
        let body = read_sealed(storage, repo, &name, ObjectKind::IndexSegment);
        IndexSegment::decode(&body).unwrap().packs
    });
    bodies.flatten().collect()
}

/// The name a pack object says it has.
pub(crate) fn pack_name(object: &str) -> PackName {
    object.rsplit('/').next().unwrap().parse().unwrap()
}

/// Name of the object that is a pack.
pub(crate) fn pack_object(name: &PackName) -> String {
    format!("packs/{:02x}/{name}", name.0[0])
}

/// The directories of all packs together.
pub(crate) fn all_chunks(storage: &MemoryStorage, repo: &Repository) -> Vec<ChunkEntry> {
    let keys = keys(repo);
    let open = |name: String| {
        let bytes: Arc<[u8]> = storage.read_raw(&name).unwrap();
        open_pack(&keys.pack, repo.id(), &pack_name(&name), &bytes).unwrap().1
    };
    names(storage, "packs/").into_iter().flat_map(open).collect()
}
