//! Several copies of a chunk, each stored in another way by another session.

use std::sync::Arc;

use dbvault_format::compress::{Codec, DeltaEncoder};
use dbvault_format::config::RepoParams;
use dbvault_format::entry::Grid;
use dbvault_format::header::ObjectKind;
use dbvault_format::id::{Salt, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::pack::{ChunkEntry, PackBuilder};
use dbvault_repo::Repository;
use dbvault_storage::{MemoryStorage, Storage};

use crate::common::*;
use crate::crash::{small, two_archives};
use crate::objects::*;

/// Stores a pack with one chunk, `plain` as a delta against `base`.
fn put_delta_pack(storage: &MemoryStorage, repo: &Repository, plain: &[u8], base: &[u8]) -> PackListing {
    let keys = keys(repo);
    let mut stored = Vec::new();
    DeltaEncoder::new(3).unwrap().encode(base, plain, &mut stored).unwrap();
    let entry = ChunkEntry {
        id: keys.chunk_id(plain),
        codec: Codec::Delta,
        depth: 1,
        plain_len: plain.len() as u32,
        sealed_len: 0,
        base: Some(keys.chunk_id(base)),
        features: None,
    };
    let salt = Salt(*blake3::hash(plain).as_bytes());
    let mut pack = PackBuilder::new(&keys.pack, *repo.id(), salt, 0);
    pack.append(entry, &stored).unwrap();
    let pack = pack.finish().unwrap();
    storage.replace_raw(&pack_object(&pack.name), pack.bytes.clone());
    PackListing {
        name: pack.name,
        salt: pack.salt,
        size_bytes: pack.bytes.len() as u64,
        entries: pack.entries,
    }
}

/// Two streams of one chunk each, both stored whole by an archive.
fn two_chunks() -> (MemoryStorage, tempfile::TempDir, Repository, Streams) {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let params = RepoParams { delta_depth_max: 0, packs_open: 1, ..small_params() };
    let repo = init_on(Arc::new(storage.clone()), dir.path(), params);
    let (one, other) = (text(9000, 1), edited(&text(9000, 1), 5, 2));
    let data = streams(&[("one", &one), ("other", &other)]);
    backup_on(&repo, "archive", Grid::Fixed(16 << 10), &data).unwrap();
    (storage, dir, repo, data)
}

/// Lists `packs` as those of a session that goes before all others when the index is read.
fn list_first(storage: &MemoryStorage, repo: &Repository, packs: Vec<PackListing>) {
    let name = format!("index/{}/00000000", SessionId([0; 16]));
    put_sealed(storage, repo, &name, ObjectKind::IndexSegment, &IndexSegment { packs }.encode());
}

#[test]
fn chunks_that_are_each_stored_against_the_other_are_read_from_their_whole_copies() {
    let (storage, dir, repo, data) = two_chunks();
    // Two sessions at once, one that met the one chunk first, one that met the other.
    let packs = vec![
        put_delta_pack(&storage, &repo, &data["one"], &data["other"]),
        put_delta_pack(&storage, &repo, &data["other"], &data["one"]),
    ];
    list_first(&storage, &repo, packs);
    let repo = open(storage, &dir.path().join("elsewhere")).unwrap();
    backup_on(&repo, "next", Grid::Fixed(16 << 10), &data).unwrap();
    assert_archives(&repo, &[("archive".to_owned(), data.clone()), ("next".to_owned(), data)].into(), None);
    assert_clean(&repo);
}

#[test]
fn any_copy_that_is_good_is_enough() {
    let (storage, dir, repo, data) = two_chunks();
    let whole = names(&storage, "packs/");
    assert_eq!(whole.len(), 1, "both chunks, and the table of entries");
    let packs = vec![put_delta_pack(&storage, &repo, &data["one"], &data["other"])];
    list_first(&storage, &repo, packs);
    // The whole copy of one chunk is damaged: the first record of the pack.
    let mut bytes = storage.read_raw(&whole[0]).unwrap().to_vec();
    let damaged = all_chunks(&storage, &repo).into_iter().find(|chunk| chunk.depth == 0).unwrap();
    bytes[60] ^= 1;
    storage.replace_raw(&whole[0], bytes);
    assert_eq!(damaged.id, keys(&repo).chunk_id(&data["one"]));
    let repo = open(storage, &dir.path().join("elsewhere")).unwrap();
    assert_archives(&repo, &[("archive".to_owned(), data)].into(), None);
    // Nothing is lost, but it is told.
    let report = check(&repo).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert!(report.findings.iter().all(|finding| finding.object == whole[0]) && !report.clean());
}

#[test]
fn chunks_that_only_lead_back_to_each_other_are_lost_and_said_to_be() {
    let (storage, dir, repo, data) = two_chunks();
    let whole = names(&storage, "packs/");
    let packs = vec![
        put_delta_pack(&storage, &repo, &data["one"], &data["other"]),
        put_delta_pack(&storage, &repo, &data["other"], &data["one"]),
    ];
    list_first(&storage, &repo, packs);
    storage.remove_raw(&whole[0]);
    let repo = open(storage, &dir.path().join("elsewhere")).unwrap();
    let manifest = repo.archives().unwrap().archives.remove(0).manifest;
    assert!(restore(&reader(&repo).unwrap(), &manifest).is_err());
    assert!(!check(&repo).unwrap().damage.is_empty());
}

/// The index knows it, a segment that counts lists it, and it is not there (W1, rule 5).
#[test]
fn what_was_in_a_lost_pack_is_stored_again() {
    let (storage, _) = two_archives();
    for name in names_below(&storage, "packs") {
        let (storage, dir) = (storage.duplicate(), temporary_dir());
        storage.delete(&key(name.clone())).unwrap();
        let repo = open(storage, dir.path()).unwrap();
        for seed in [1, 2] {
            let manifest = backup(&repo, &seed.to_string(), &small(seed)).unwrap();
            assert!(restore(&reader(&repo).unwrap(), &manifest).unwrap() == small(seed), "{name}");
        }
    }
}
