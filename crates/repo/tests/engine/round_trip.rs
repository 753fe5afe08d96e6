//! What goes in comes out, over every storage.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use dbvault_format::config::RepoParams;
use dbvault_format::entry::Grid;
use dbvault_repo::Error;
use dbvault_storage::{LocalStorage, MemoryStorage, Storage};

use crate::common::*;

/// Runs `test` over a fresh storage of each kind, with a directory for caches.
fn over_all_storages(test: impl Fn(Arc<dyn Storage>, &Path)) {
    let dir = temporary_dir();
    test(Arc::new(MemoryStorage::new()), &dir.path().join("cache 1"));
    let place = tempfile::tempdir().unwrap();
    let local = LocalStorage::create(place.path().join("repository")).unwrap();
    test(Arc::new(local), &dir.path().join("cache 2"));
}

/// Backs up `streams` and reads them back, also through a repository opened anew with an empty cache.
fn assert_round_trip(
    storage: &Arc<dyn Storage>,
    cache: &Path,
    params: RepoParams,
    grid: Grid,
    data: Streams,
) {
    let repo = init_on(storage.clone(), cache, params);
    backup_on(&repo, "archive", grid, &data).unwrap();
    let expected = Expected::from([("archive".to_owned(), data)]);
    assert_archives(&repo, &expected, None);
    let elsewhere = open_on(storage.clone(), &cache.join("elsewhere")).unwrap();
    assert_archives(&elsewhere, &expected, None);
    assert_clean(&elsewhere);
}

#[test]
fn streams_of_every_length_come_back() {
    let params = small_params();
    let (min, max) = (params.chunker.min_bytes as usize, params.chunker.max_bytes as usize);
    // What one read of the source fills: a batch and a window.
    let (batch, window) = (4 << 20, max);
    let mut lens = vec![0, 1, 2, 63, 64, 65];
    for edge in [min, params.chunker.average_bytes as usize, max, 2 * max, batch, batch + window] {
        lens.extend([edge - 1, edge, edge + 1]);
    }
    let mut data = Streams::new();
    for len in lens {
        data.insert(format!("noise {len}"), noise(len, 1));
        data.insert(format!("text {len}"), text(len, 2));
        data.insert(format!("zeros {len}"), vec![0; len]);
    }
    over_all_storages(|storage, cache| {
        assert_round_trip(&storage, cache, params.clone(), Grid::Content, data.clone());
    });
}

#[test]
fn large_streams_come_back_and_repetition_costs_nothing() {
    let block = text(1 << 20, 3);
    let repeated: Vec<u8> = block.iter().copied().cycle().take(50 << 20).collect();
    for (data, stored_max) in [
        (streams(&[("noise", &noise(50 << 20, 1))]), 51 << 20),
        (streams(&[("text", &text(50 << 20, 2))]), 30 << 20),
        (streams(&[("repeated", &repeated), ("zeros", &vec![0; 50 << 20])]), 2 << 20),
    ] {
        over_all_storages(|storage, cache| {
            assert_round_trip(&storage, cache, RepoParams::default(), Grid::Content, data.clone());
            let stored = bytes_below(&*storage, "packs");
            assert!(stored < stored_max, "{stored} bytes of packs for {:?}", data.keys());
        });
    }
}

#[test]
fn fixed_grids_come_back() {
    // Far larger than a pack should be, and too small to be sensible, down to what is clamped to 1.
    for (grid_bytes, len) in [(u32::MAX, 33 << 20), (8192, 3 << 20), (4096, 4096), (1, 3000), (0, 10)] {
        let data = streams(&[("pages", &noise(len, 5)), ("more", &noise(len + 1, 6)), ("none", b"")]);
        over_all_storages(|storage, cache| {
            assert_round_trip(&storage, cache, small_params(), Grid::Fixed(grid_bytes), data.clone());
        });
    }
}

#[test]
fn an_archive_without_entries_is_an_archive() {
    over_all_storages(|storage, cache| {
        assert_round_trip(&storage, cache, small_params(), Grid::Content, Streams::new());
    });
}

#[test]
fn many_archives_with_several_entries_share_what_they_have_in_common() {
    over_all_storages(|storage, cache| {
        let repo = init_on(storage.clone(), cache, small_params());
        let common = noise(200 << 10, 7);
        let mut expected = Expected::new();
        for n in 0..15 {
            let own = noise(10 << 10, 100 + n);
            let both = [&common[..], &own].concat();
            let data = streams(&[("common", &common), ("own", &own), ("both", &both), ("empty", b"")]);
            backup(&repo, &format!("day {n}"), &data).unwrap();
            expected.insert(format!("day {n}"), data);
        }
        assert_archives(&repo, &expected, None);
        assert_clean(&repo);
        let stored = bytes_below(&*storage, "packs");
        assert!(stored < 800 << 10, "{stored} bytes of packs");
        let listed: Vec<String> =
            repo.archives().unwrap().archives.into_iter().map(|archive| archive.manifest.name).collect();
        assert_eq!(listed, (0..15).map(|n| format!("day {n}")).collect::<Vec<_>>(), "oldest first");
    });
}

#[test]
fn an_identical_stream_stores_almost_nothing() {
    over_all_storages(|storage, cache| {
        let repo = init_on(storage.clone(), cache, small_params());
        let data = streams(&[("noise", &noise(1 << 20, 8)), ("text", &text(1 << 20, 9))]);
        backup(&repo, "first", &data).unwrap();
        let (names, bytes) = (names_below(&*storage, "packs"), bytes_below(&*storage, "packs"));
        for name in ["again", "and again"] {
            let manifest = backup(&repo, name, &data).unwrap();
            assert_eq!(manifest.sizes.new_chunks, 0);
        }
        let after = names_below(&*storage, "packs");
        assert!(names.iter().all(|name| after.contains(name)), "packs are never changed");
        // The two tables of entries, which tell how long each backup took.
        assert!(bytes_below(&*storage, "packs") - bytes < 2 << 10);
    });
}

#[test]
fn a_stream_is_read_in_any_pieces_and_may_be_left_half_way() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage, dir.path());
    let data = streams(&[("small", &text(5000, 1)), ("large", &noise(30 << 20, 2))]);
    let manifest = backup(&repo, "archive", &data).unwrap();
    let reader = reader(&repo).unwrap();
    let entries = reader.entries(&manifest).unwrap();
    for entry in &entries {
        let wanted = &data[&entry.meta.name];
        let mut stream = reader.open_stream(&entry.stream).unwrap();
        let mut byte = [0];
        for wanted in wanted.iter().take(5000) {
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], *wanted);
        }
        drop(stream);
        let mut open: Vec<_> = (0..3).map(|_| reader.open_stream(&entry.stream).unwrap()).collect();
        for stream in &mut open {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            assert!(bytes == *wanted);
            assert_eq!(stream.read(&mut byte).unwrap(), 0, "the end stays the end");
        }
    }
}

#[test]
fn names_are_checked_and_taken_once() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage, dir.path());
    for bad in ["", "a\nb", "\u{7f}", &"x".repeat(4097)] {
        assert!(matches!(begin(&repo, bad), Err(Error::BadName { .. })), "{bad:?}");
    }
    let mut txn = begin(&repo, "once").unwrap();
    add(&mut txn, "entry", Grid::Content, &mut &b"one"[..]).unwrap();
    let again = add(&mut txn, "entry", Grid::Content, &mut &b"two"[..]);
    assert!(matches!(again, Err(Error::NameTaken { .. })));
    assert!(matches!(add(&mut txn, "", Grid::Content, &mut &b""[..]), Err(Error::BadName { .. })));
    txn.commit().unwrap();
    assert!(matches!(begin(&repo, "once"), Err(Error::NameTaken { .. })));
    assert_archives(&repo, &[("once".to_owned(), streams(&[("entry", b"one")]))].into(), None);
}
