//! Streams read at any place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbvault_format::config::RepoParams;
use dbvault_format::entry::Grid;
use dbvault_format::manifest::ArchiveManifest;
use dbvault_repo::{CollectOptions, Error, NoMonitor, RandomReader, Reader};
use dbvault_storage::{MemoryStorage, Storage};
use dbvault_testkit::recording_storage::{Call, RecordingStorage};

use crate::common::*;

/// The stream of an archive that has one.
fn open_only(reader: &Arc<Reader>, manifest: &ArchiveManifest) -> RandomReader {
    let entries = reader.entries(manifest).unwrap();
    reader.open_random(&entries[0].stream).unwrap()
}

fn assert_reads(random: &RandomReader, stream: &[u8], offset: usize, len: usize) {
    let mut out = vec![0xaa; len];
    let read = random.read_at(offset as u64, &mut out).unwrap();
    let begin = offset.min(stream.len());
    let end = stream.len().min(offset.saturating_add(len)).max(begin);
    assert_eq!(read, end - begin, "{len} bytes from {offset}");
    assert!(out[..read] == stream[begin..end], "{len} bytes from {offset}");
    let mut room = Vec::new();
    let same = random.read_with(offset as u64, len, &mut room, |bytes| *bytes == stream[begin..end]).unwrap();
    assert!(same && room.len() <= end - begin, "{len} bytes from {offset}");
}

/// Waits until nothing is decoded ahead any more: reads do not tell when it ends.
fn settle(storage: &RecordingStorage) {
    let began = Instant::now();
    let mut before = storage.gets_count();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = storage.gets_count();
        if now == before || began.elapsed() > Duration::from_secs(20) {
            return;
        }
        before = now;
    }
}

#[test]
fn any_range_is_what_the_stream_has_there() {
    for (grid, params) in [
        (Grid::Content, small_params()),
        (Grid::Fixed(4096), small_params()),
        (Grid::Content, RepoParams::default()),
    ] {
        let dir = temporary_dir();
        let repo = init_on(Arc::new(MemoryStorage::new()), dir.path(), params);
        let before = text(3 << 20, 1);
        let stream = edited(&before, 200, 2);
        backup_on(&repo, "first", grid, &streams(&[("dump", &before)])).unwrap();
        let manifest = backup_on(&repo, "second", grid, &streams(&[("dump", &stream)])).unwrap();
        let random = open_only(&reader(&repo).unwrap(), &manifest);
        assert_eq!(random.len_bytes(), stream.len() as u64);
        for (offset, len) in [
            (0, 0),
            (0, 1),
            (0, stream.len()),
            (0, stream.len() + 1),
            (1, 5 << 20),
            (stream.len() - 1, 1),
            (stream.len() - 1, 100),
            (stream.len(), 10),
            (stream.len() + 9, 10),
        ] {
            assert_reads(&random, &stream, offset, len);
        }
        assert_eq!(random.read_at(u64::MAX, &mut [0; 9]).unwrap(), 0);
        let mut numbers = Numbers::new(3);
        for _ in 0..500 {
            let (offset, len) = (numbers.below(stream.len()), numbers.below(100_000));
            assert_reads(&random, &stream, offset, len);
        }
    }
}

#[test]
fn small_and_empty_streams_can_be_read() {
    let dir = temporary_dir();
    let repo = init(MemoryStorage::new(), dir.path());
    for (name, stream) in [("empty", &b""[..]), ("byte", b"x"), ("chunk", &noise(900, 1))] {
        let manifest = backup(&repo, name, &streams(&[("dump", stream)])).unwrap();
        let random = open_only(&reader(&repo).unwrap(), &manifest);
        assert_eq!(random.len_bytes(), stream.len() as u64);
        for offset in 0..3 {
            assert_reads(&random, stream, offset, 1000);
        }
    }
}

#[test]
fn many_threads_read_in_every_order_with_a_cache_that_holds_next_to_nothing() {
    let dir = temporary_dir();
    let repo = init(MemoryStorage::new(), dir.path());
    let stream = text(2 << 20, 5);
    let manifest = backup(&repo, "only", &streams(&[("dump", &stream)])).unwrap();
    for cache_bytes in [0, 20 << 10, 1 << 20] {
        let reader = repo.reader_with_cache(cache_bytes, Arc::new(NoMonitor)).unwrap();
        let shared = open_only(&reader, &manifest);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let (own, shared, stream) = (open_only(&reader, &manifest), &shared, &stream);
                scope.spawn(move || {
                    let mut numbers = Numbers::new(seed);
                    for _ in 0..60 {
                        let (offset, len) = (numbers.below(stream.len()), numbers.below(50_000));
                        assert_reads(shared, stream, offset, len);
                    }
                    for offset in (0..stream.len()).step_by(70_000) {
                        assert_reads(&own, stream, offset, 70_000);
                    }
                });
            }
        });
    }
}

/// Bytes of packs that were read, and in how many reads.
fn pack_reads(storage: &RecordingStorage) -> (u64, usize) {
    let records = storage.take_records();
    let reads = records.iter().filter_map(|record| match &record.call {
        Call::Get { key, read_bytes, .. } if key.as_str().starts_with("packs/") => Some(*read_bytes),
        _ => None,
    });
    let reads: Vec<u64> = reads.collect();
    (reads.iter().sum(), reads.len())
}

#[test]
fn only_what_is_needed_is_read_and_read_once() {
    let dir = temporary_dir();
    let storage = RecordingStorage::new(Arc::new(MemoryStorage::new()));
    let params = RepoParams { delta_depth_max: 0, ..RepoParams::default() };
    let repo = init_on(Arc::new(storage.clone()), dir.path(), params);
    let stream = noise(48 << 20, 1);
    let manifest = backup(&repo, "only", &streams(&[("dump", &stream)])).unwrap();
    let reader = reader(&repo).unwrap();
    let random = open_only(&reader, &manifest);
    pack_reads(&storage);
    for offset in [40 << 20, 20 << 20, 30 << 20] {
        assert_reads(&random, &stream, offset, 8192);
    }
    let (bytes, reads) = pack_reads(&storage);
    assert!(reads <= 3 * 2 + 1, "{reads} reads: a node, and a chunk or two for each");
    assert!(bytes < 4 << 20, "{bytes} bytes for three pages");
    for offset in [40 << 20, 30 << 20] {
        assert_reads(&random, &stream, offset + 100, 8000);
    }
    assert_eq!(pack_reads(&storage), (0, 0), "they are in memory");

    let own = open_only(&reader, &manifest);
    own.stop_ahead_at(16 << 20);
    for offset in (0..16 << 20).step_by(128 << 10) {
        assert_reads(&own, &stream, offset, 128 << 10);
    }
    settle(&storage);
    let (bytes, reads) = pack_reads(&storage);
    assert!(bytes < 18 << 20, "{bytes} bytes for 16 MiB that are read on, and no more");
    assert!(reads < 45, "{reads} reads: what is read on is read in batches");
}

#[test]
fn decoding_ahead_stays_within_the_cache() {
    let dir = temporary_dir();
    let storage = RecordingStorage::new(Arc::new(MemoryStorage::new()));
    let params = RepoParams { delta_depth_max: 0, ..RepoParams::default() };
    let repo = init_on(Arc::new(storage.clone()), dir.path(), params);
    let stream = noise(24 << 20, 2);
    let manifest = backup(&repo, "only", &streams(&[("dump", &stream)])).unwrap();
    let reader = repo.reader_with_cache(8 << 20, Arc::new(NoMonitor)).unwrap();
    let random = open_only(&reader, &manifest);
    pack_reads(&storage);
    for offset in (0..24 << 20).step_by(128 << 10) {
        assert_reads(&random, &stream, offset, 128 << 10);
    }
    settle(&storage);
    let (bytes, _) = pack_reads(&storage);
    assert!(bytes < 30 << 20, "{bytes} bytes: what is decoded ahead is used before it makes room");
}

#[test]
fn a_damaged_chunk_is_named_and_hides_nothing_else() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let stream = noise(1 << 20, 7);
    let manifest = backup(&repo, "only", &streams(&[("dump", &stream)])).unwrap();
    // Not the one with the list of the chunks, which is small.
    let names = names_below(&storage as &dyn Storage, "packs").into_iter();
    let pack = names.max_by_key(|name| storage.read_raw(name).unwrap().len()).unwrap();
    let mut bytes = storage.get(&key(&*pack), None).unwrap();
    bytes[4000] ^= 1;
    storage.delete(&key(&*pack)).unwrap();
    storage.put_new(&key(&*pack), &[&bytes]).unwrap();

    let random = open_only(&reader(&repo).unwrap(), &manifest);
    let (mut unreadable, mut named) = (0, std::collections::BTreeSet::new());
    for offset in (0..stream.len()).step_by(512) {
        let mut out = [0; 512];
        match random.read_at(offset as u64, &mut out) {
            Ok(read) => assert!(read == 512 && out[..] == stream[offset..offset + 512], "at {offset}"),
            Err(Error::ChunkUnreadable { id, source }) => {
                assert!(source.to_string().contains(&pack), "{source}");
                named.insert(id);
                unreadable += 512;
            }
            Err(e) => panic!("{e:?}"),
        }
    }
    assert_eq!(named.len(), 1, "one chunk is damaged");
    assert!(unreadable <= 17 << 10, "{unreadable} bytes can't be read");
}

#[test]
fn what_a_collection_moved_or_took_is_looked_for_again_once() {
    let dir = temporary_dir();
    let storage = RecordingStorage::new(Arc::new(MemoryStorage::new()));
    let repo = init_on(Arc::new(storage.clone()), dir.path(), small_params());
    let kept = text(512 << 10, 1);
    let mixed: Vec<u8> = [noise(300 << 10, 1), kept.clone(), noise(300 << 10, 2)].concat();
    let first = backup(&repo, "first", &streams(&[("dump", &mixed)])).unwrap();
    let second = backup(&repo, "second", &streams(&[("dump", &kept)])).unwrap();
    let reader = reader(&repo).unwrap();
    let (gone, stays) = (open_only(&reader, &first), open_only(&reader, &second));
    assert_reads(&gone, &mixed, 0, 100);
    assert_reads(&stays, &kept, 0, 100);

    let elsewhere = temporary_dir();
    let other = open_on(Arc::new(storage.clone()), elsewhere.path()).unwrap();
    other.delete_archive(&first.id).unwrap();
    let options = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    other.collect(&options, Arc::new(NoMonitor)).unwrap();
    for offset in (0..kept.len()).step_by(40_000) {
        assert_reads(&stays, &kept, offset, 40_000);
    }
    for _ in 0..3 {
        let taken = gone.read_at(100 << 10, &mut [0; 100]).unwrap_err();
        assert!(matches!(taken, Error::ChunkUnreadable { .. }), "{taken:?}");
    }
    storage.take_records();
    gone.read_at(100 << 10, &mut [0; 100]).unwrap_err();
    let index_reads =
        storage.count(|call| matches!(call, Call::Get { key, .. } if key.as_str().starts_with("index/")));
    assert_eq!(index_reads, 0, "the index is not made anew for every read");
}

#[test]
fn archives_that_are_made_later_can_be_read_after_a_refresh() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let early = text(100 << 10, 1);
    backup(&repo, "early", &streams(&[("dump", &early)])).unwrap();
    let reader = reader(&repo).unwrap();
    let elsewhere = temporary_dir();
    let late = noise(100 << 10, 1);
    let other = open(storage, elsewhere.path()).unwrap();
    let manifest = backup(&other, "late", &streams(&[("dump", &late)])).unwrap();
    reader.refresh().unwrap();
    assert_reads(&open_only(&reader, &manifest), &late, 50_000, 5000);
}
