//! Repacking: what is needed of packs that are mostly waste is stored again, and the packs go.

use std::sync::Arc;

use dbvault_repo::{CollectOptions, CollectReport, NoMonitor, Repository};
use dbvault_storage::{MemoryStorage, Storage};
use dbvault_testkit::crashing_storage::{CrashState, CrashStateChoice};

use crate::collect::examine;
use crate::common::*;
use crate::crash::Story;
use crate::objects::all_chunks;
use crate::repair::flip;

fn collect(repo: &Repository, repack_bytes_max: u64) -> CollectReport {
    let options =
        CollectOptions { trashed_before_ms: i64::MAX, repack_bytes_max, ..CollectOptions::default() };
    repo.collect(&options, Arc::new(NoMonitor)).unwrap()
}

fn delete(repo: &Repository, name: &str) {
    repo.delete_archive(&repo.find_archive(name).unwrap().manifest.id).unwrap();
}

/// What one archive takes if it is alone.
fn bytes_alone(streams: &Streams) -> u64 {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    backup(&init(storage.clone(), dir.path()), "alone", streams).unwrap();
    bytes_below(&storage, "packs")
}

/// Two archives, the second of which has half of the first's chunks, scattered over all packs.
fn half_shared() -> (MemoryStorage, Streams, Streams) {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let blocks: Vec<Vec<u8>> = (0..20).map(|seed| noise(32 << 10, seed)).collect();
    let all = streams(&[("all", &blocks.concat())]);
    let half: Vec<u8> = blocks.iter().step_by(2).flatten().copied().collect();
    let half = streams(&[("half", &half)]);
    backup(&repo, "all", &all).unwrap();
    backup(&repo, "half", &half).unwrap();
    (storage, all, half)
}

#[test]
fn half_dead_packs_are_stored_again() {
    let (storage, _, half) = half_shared();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    delete(&repo, "all");
    let before = bytes_below(&storage, "packs");
    let report = collect(&repo, u64::MAX);
    assert!(report.repacked_bytes > 0, "{report:?}");
    let (after, alone) = (bytes_below(&storage, "packs"), bytes_alone(&half));
    assert!((before - after) * 20 >= (before - alone) * 19, "{before} bytes, {after} left, {alone} needed");
    let expected: Expected = [("half".to_owned(), half)].into();
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
    // What was stored against another base leaves a little waste for the next time, and that ends.
    let rounds = (1..).find(|_| collect(&repo, u64::MAX) == CollectReport::default()).unwrap();
    assert!(rounds <= 3, "{rounds} rounds");
    // By a client that has seen nothing of it.
    let elsewhere = temporary_dir();
    let repo = open(storage.clone(), elsewhere.path()).unwrap();
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
    for prefix in ["sessions", "condemned"] {
        assert_eq!(names_below(&storage, prefix), [""; 0]);
    }
}

#[test]
fn no_more_is_repacked_than_may_be() {
    let (storage, _, half) = half_shared();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    delete(&repo, "all");
    assert_eq!(collect(&repo, 0).repacked_bytes, 0);
    let few = 64 << 10;
    let mut rounds = 0;
    loop {
        let report = collect(&repo, few);
        assert!(report.repacked_bytes <= few, "{report:?}");
        if report.repacked_bytes == 0 {
            break;
        }
        rounds += 1;
    }
    assert!(rounds > 2, "{rounds} rounds");
    assert!(bytes_below(&storage, "packs") * 10 < bytes_alone(&half) * 12);
    assert_archives(&repo, &[("half".to_owned(), half)].into(), None);
    assert_clean(&repo);
}

#[test]
fn bases_that_nothing_else_needs_are_given_up() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let mut data = streams(&[("text", &text(200 << 10, 5))]);
    let mut expected = Expected::new();
    for day in 0..11u64 {
        let name = format!("day {day}");
        backup(&repo, &name, &data).unwrap();
        if [0, 10].contains(&day) {
            expected.insert(name, data.clone());
        }
        data = data.iter().map(|(name, bytes)| (name.clone(), edited(bytes, 40, day))).collect();
    }
    // On average: a single chunk may stay as deep as it was, where it would take more room otherwise.
    let mean_depth = |repo: &Repository| {
        let chunks = all_chunks(&storage, repo);
        chunks.iter().map(|chunk| f64::from(chunk.depth)).sum::<f64>() / chunks.len() as f64
    };
    let (before_bytes, before_depth) = (bytes_below(&storage, "packs"), mean_depth(&repo));
    (1..10).for_each(|day| delete(&repo, &format!("day {day}")));
    let rounds = (1..).find(|_| collect(&repo, u64::MAX) == CollectReport::default()).unwrap();
    let (after_bytes, after_depth) = (bytes_below(&storage, "packs"), mean_depth(&repo));
    println!(
        "{before_bytes} bytes and depth {before_depth:.1} became {after_bytes} and {after_depth:.1}, {rounds} rounds"
    );
    assert!(after_depth < before_depth && rounds <= 4);
    // What only two archives would take, made one after the other.
    let (dir, alone) = (temporary_dir(), MemoryStorage::new());
    let fresh = init(alone.clone(), dir.path());
    expected.iter().for_each(|(name, streams)| drop(backup(&fresh, name, streams).unwrap()));
    let alone_bytes = bytes_below(&alone, "packs");
    assert!(after_bytes * 4 < alone_bytes * 5, "{after_bytes} bytes, {alone_bytes} in a new repository");
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn a_copy_that_no_base_will_list_is_not_relied_upon() {
    for forget_segment in [false, true] {
        let (dir, storage) = (temporary_dir(), MemoryStorage::new());
        let repo = init(storage.clone(), dir.path());
        let data = streams(&[("noise", &noise(100 << 10, 1))]);
        // Both store the same chunks; one of them ends without an archive.
        let mut txn = begin(&repo, "ends well").unwrap();
        let lost = suspend(&repo, "ends ill", &data);
        add(&mut txn, "noise", dbvault_format::entry::Grid::Content, &mut &data["noise"][..]).unwrap();
        txn.commit().unwrap();
        if forget_segment {
            // As a crash before its first segment: only the local cache knows its packs.
            let cached = reader(&repo).unwrap();
            drop(cached);
            for name in names_below(&storage, &format!("index/{lost}")) {
                storage.delete(&key(name)).unwrap();
            }
        }
        collect(&repo, u64::MAX);
        let elsewhere = temporary_dir();
        let repo = open(storage.clone(), elsewhere.path()).unwrap();
        assert_archives(&repo, &[("ends well".to_owned(), data.clone())].into(), None);
        assert_clean(&repo);
        assert!(bytes_below(&storage, "packs") < 150 << 10);
    }
}

#[test]
fn a_record_is_moved_as_it_is_even_where_its_base_can_t_be_read() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let base = text(200 << 10, 5);
    let (first, next) = (streams(&[("text", &base)]), streams(&[("text", &edited(&base, 40, 1))]));
    let mut both = next.clone();
    both.insert("noise".to_owned(), noise(200 << 10, 9));
    backup(&repo, "first", &first).unwrap();
    let of_first = names_below(&storage, "packs");
    for (name, streams) in [("both", &both), ("next", &next)] {
        backup(&repo, name, streams).unwrap();
    }
    delete(&repo, "both");
    let damage = || of_first.iter().for_each(|name| flip(&storage, name, 100));
    damage();
    let report = collect(&repo, u64::MAX);
    assert!(report.repacked_bytes > 0 && report.freed_bytes > 200 << 10, "{report:?}");
    let next_alone = bytes_below(&storage, "packs");
    assert!(next_alone < 150 << 10, "{next_alone} bytes are left");
    assert!(!check(&repo).unwrap().damage.is_empty());
    // Once the base can be read again, nothing is missing.
    damage();
    let expected: Expected = [("first".to_owned(), first), ("next".to_owned(), next)].into();
    let elsewhere = temporary_dir();
    let repo = open(storage.clone(), elsewhere.path()).unwrap();
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn a_crash_while_repacking() {
    let (storage, _, half) = half_shared();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    delete(&repo, "all");
    drop(repo);
    let expected: Expected = [("half".to_owned(), half)].into();
    let story = Story::tell(&storage, &expected, None, |repo| {
        assert!(collect(repo, u64::MAX).repacked_bytes > 0);
    });
    let choice = CrashStateChoice { exhaustive_operations_max: 4, random_subsets_count: 4, seed: 1 };
    let states: Vec<CrashState> = story.storage.crash_states(choice).collect();
    println!("repacking: {} states, {} operations", states.len(), story.done);
    in_parallel(states.iter().enumerate(), |(number, state)| {
        let cache = temporary_dir();
        if number % 2 == 0 {
            copy_dir(story.cache.path(), cache.path());
        }
        examine(state, &expected, cache.path()).unwrap_or_else(|e| {
            panic!("crash after {} operations, kept {:?}: {e}", state.prefix_len, state.kept)
        });
    });
}
