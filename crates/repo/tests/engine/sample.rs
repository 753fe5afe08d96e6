//! A small repository that holds an object of every kind, and records of every codec.

use std::sync::Arc;

use dbvault_format::chunker::ChunkerParams;
use dbvault_format::config::RepoParams;
use dbvault_format::entry::Grid;
use dbvault_format::header::ObjectKind;
use dbvault_format::id::{PackName, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::manifest::Fence;
use dbvault_format::object::to_cbor;
use dbvault_format::root::{Condemned, Root};
use dbvault_repo::Repository;
use dbvault_storage::MemoryStorage;

use crate::common::*;
use crate::objects::*;

/// The repository, and what must come out of it.
pub(crate) struct Sample {
    pub(crate) storage: MemoryStorage,
    #[allow(dead_code, reason = "only the proofs compare it")]
    pub(crate) expected: Expected,
    /// Objects whose loss nobody can see, because nothing that is left speaks of them: whole archives, slots,
    /// marks, and what the protocol may clear away at any time.
    pub(crate) dispensable: Vec<String>,
}

impl Sample {
    /// What is similar to what follows from the keys, which are random: tried until there is a chain.
    pub(crate) fn new() -> Sample {
        Sample::sized(100)
    }

    /// The same with `noise_bytes` more in each of its three archives.
    pub(crate) fn sized(noise_bytes: usize) -> Sample {
        (0..50).find_map(|_| Sample::try_sized(noise_bytes)).expect("a chain of deltas within fifty tries")
    }

    fn try_sized(noise_bytes: usize) -> Option<Sample> {
        let (dir, storage) = (temporary_dir(), MemoryStorage::new());
        let chunker = ChunkerParams { min_bytes: 64, average_bytes: 4 << 10, max_bytes: 8 << 10 };
        let params = RepoParams { chunker, pack_bytes: 16 << 10, packs_open: 1, ..RepoParams::default() };
        let repo = init_on(Arc::new(storage.clone()), dir.path(), params);
        repo.add_key(&secret(2), "second").unwrap();
        let expected = days(&repo, &storage, noise_bytes)?;
        let orphan = suspend(&repo, "orphan", &streams(&[("noise", &noise(100, 8))]));
        // As a crash leaves it: registered, and never heard of again.
        drop(begin(&repo, "crashed").unwrap());
        let mut sample = Sample { storage, expected, dispensable: Vec::new() };
        sample.collect(&repo, &orphan);
        let prefixes = ["keys/", "sessions/", "archives/", "trash/", "condemned/", "roots/"];
        let dispensable = prefixes.iter().flat_map(|prefix| names(&sample.storage, prefix));
        sample.dispensable.extend(dispensable);
        // No archive needs what only a session without an archive lists: a collection takes it at any time.
        let of_orphan = listings(&sample.storage, &repo, &orphan);
        sample.dispensable.extend(
            of_orphan.iter().map(|PackListing { name, .. }| format!("packs/{:02x}/{name}", name.0[0])),
        );
        sample.dispensable.extend(names(&sample.storage, &format!("index/{orphan}/")));
        Some(sample)
    }

    /// What a collector leaves: the first day folded into a base, an epoch decided, another under way.
    fn collect(&mut self, repo: &Repository, orphan: &SessionId) {
        let storage = &self.storage;
        let put = |name: &str, kind, body: &[u8]| put_sealed(storage, repo, name, kind, body);
        let first = repo.find_archive("day 1").unwrap().manifest.id;
        let segment = IndexSegment { packs: listings(storage, repo, &first) };
        let base = format!("index/{}/00000000", SessionId([7; 16]));
        put(&base, ObjectKind::IndexSegment, &segment.encode());
        let gone = PackName([9; 32]);
        let root = Root { base: vec![base], folded: vec![first], deleted: vec![gone] };
        put("roots/00000001", ObjectKind::Root, &to_cbor(&root));
        put("condemned/00000001", ObjectKind::Condemned, &to_cbor(&Condemned { packs: vec![gone] }));
        let packs = listings(storage, repo, orphan).into_iter().map(|pack| pack.name).collect();
        put("condemned/00000002", ObjectKind::Condemned, &to_cbor(&Condemned { packs }));
        let silent = SessionId([5; 16]);
        let fence = Fence { session: silent, fenced_ms: 5, host: "collector".into() };
        put(&format!("archives/{silent}"), ObjectKind::Fence, &to_cbor(&fence));
        self.dispensable.extend(names(storage, &format!("index/{first}/")));
    }
}

/// Rows that compress well: small records, quickly tried byte by byte.
fn rows(len: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(1);
    let row = |n: usize| format!("{n}\tuser{}\t2026-01-01\n", numbers.below(1000));
    let mut rows = (0..len / 20).map(row).collect::<String>().into_bytes();
    rows.resize(len, b'.');
    rows
}

/// Three days of a stream, the last of them deleted after some changes of mind; `None` where no chunk has become
/// a delta against a delta.
fn days(repo: &Repository, storage: &MemoryStorage, noise_bytes: usize) -> Option<Expected> {
    let mut expected = Expected::new();
    let mut stream = rows(4300);
    for day in 1..=3 {
        let data = streams(&[("text", &stream), ("noise", &noise(noise_bytes, day)), ("empty", b"")]);
        let name = format!("day {day}");
        backup_on(repo, &name, Grid::Fixed(4200), &data).unwrap();
        expected.insert(name, data);
        stream = edited(&stream, 1, day);
    }
    let chunks = all_chunks(storage, repo);
    if !(0..=2).all(|depth| chunks.iter().any(|chunk| chunk.depth == depth)) {
        return None;
    }
    let id = repo.find_archive("day 3").unwrap().manifest.id;
    repo.delete_archive(&id).unwrap();
    repo.undelete_archive(&id).unwrap();
    repo.delete_archive(&id).unwrap();
    Some(expected)
}
