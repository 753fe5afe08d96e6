//! Collection: what no archive needs goes, what one needs stays, whoever writes meanwhile and wherever it ends.

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbvault_format::entry::Grid;
use dbvault_format::header::ObjectKind;
use dbvault_format::object::to_cbor;
use dbvault_format::session::SessionRecord;
use dbvault_repo::{CollectOptions, CollectReport, Error, NoMonitor, Repository};
use dbvault_storage::{MemoryStorage, Storage};
use dbvault_testkit::crashing_storage::{CrashState, CrashStateChoice};

use crate::common::*;
use crate::crash::{Story, small, two_archives};
use crate::objects::put_sealed;

/// Takes all that is in the trash.
fn collect(repo: &Repository) -> Result<CollectReport> {
    collect_trashed_before(repo, i64::MAX)
}

fn collect_trashed_before(repo: &Repository, trashed_before_ms: i64) -> Result<CollectReport> {
    let options = CollectOptions { trashed_before_ms, ..CollectOptions::default() };
    repo.collect(&options, Arc::new(NoMonitor))
}

fn delete(repo: &Repository, name: &str) {
    repo.delete_archive(&repo.find_archive(name).unwrap().manifest.id).unwrap();
}

#[test]
fn what_only_some_archives_use_is_known_before_they_are_deleted() {
    let dir = temporary_dir();
    let repo = init(MemoryStorage::new(), dir.path());
    let (shared, own) = (noise(400_000, 1), noise(300_000, 2));
    let ids: Vec<_> = [[&shared[..], &own[..]], [&shared[..], &[]]]
        .iter()
        .enumerate()
        .map(|(number, parts)| {
            let streams = streams(&[("a", parts[0]), ("b", parts[1])]);
            backup(&repo, &number.to_string(), &streams).unwrap().id
        })
        .collect();
    let only = |ids: &[_]| repo.used_only_by(ids, Arc::new(NoMonitor)).unwrap().bytes;
    let (first, second, both) = (only(&ids[..1]), only(&ids[1..]), only(&ids));
    assert!((300_000..310_000).contains(&first) && second < 1_000, "{first} {second}");
    assert!((700_000..720_000).contains(&both), "{both}");
    // One in the trash holds nothing.
    repo.delete_archive(&ids[0]).unwrap();
    assert!((400_000..410_000).contains(&only(&ids[1..])));
}

#[test]
fn what_only_a_deleted_archive_uses_is_freed() {
    let (storage, mut expected) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let before = bytes_below(&storage, "packs");
    delete(&repo, "old");
    let report = collect(&repo).unwrap();
    expected.remove("old");
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
    let after = bytes_below(&storage, "packs");
    assert_eq!(report.freed_bytes, before - after);
    assert!(after * 5 < before * 3, "{after} of {before} bytes are left");
    assert_eq!(report.archives, 1);
    for prefix in ["condemned", "sessions", "trash"] {
        assert_eq!(names_below(&storage, prefix), [""; 0], "{prefix}");
    }
    assert_eq!(collect(&repo).unwrap(), CollectReport::default(), "nothing is left to do");
    // Whoever comes from elsewhere, or with an old cache, finds the same.
    let elsewhere = temporary_dir();
    let repo = open(storage, elsewhere.path()).unwrap();
    assert_archives(&repo, &expected, None);
    backup(&repo, "old", &small(1)).unwrap();
    expected.insert("old".into(), small(1));
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn what_is_in_the_trash_stays_until_its_time() {
    let (storage, expected) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage, dir.path()).unwrap();
    delete(&repo, "old");
    assert_eq!(collect_trashed_before(&repo, 0).unwrap().packs, 0);
    let id = repo.find_archive("old").unwrap().manifest.id;
    repo.undelete_archive(&id).unwrap();
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn bases_of_deltas_stay() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let mut data = small(1);
    let mut expected = Expected::new();
    for day in 0..8u64 {
        backup(&repo, &format!("day {day}"), &data).unwrap();
        expected.insert(format!("day {day}"), data.clone());
        data = data.iter().map(|(name, bytes)| (name.clone(), edited(bytes, 3, day))).collect();
    }
    // The first days hold what the later ones are stored against.
    for day in 0..7 {
        delete(&repo, &format!("day {day}"));
        expected.remove(&format!("day {day}"));
        collect(&repo).unwrap();
        assert_archives(&repo, &expected, None);
        assert_clean(&repo);
    }
}

#[test]
fn a_running_backup_is_waited_for() {
    let (storage, mut expected) = two_archives();
    let (dir, elsewhere) = (temporary_dir(), temporary_dir());
    let writer = open(storage.clone(), elsewhere.path()).unwrap();
    let collector = open(storage.clone(), dir.path()).unwrap();
    delete(&collector, "old");
    let mut txn = begin(&writer, "now").unwrap();
    let data = small(1);
    for (name, bytes) in &data {
        add(&mut txn, name, Grid::Content, &mut Cursor::new(bytes)).unwrap();
    }
    let id = *txn.id();
    let before = names_below(&storage, "packs");
    let report = collect(&collector).unwrap();
    let waits_for: Vec<_> = report.waits_for.iter().map(|running| running.id).collect();
    assert_eq!(waits_for, [id]);
    // It was taken for good, and is not shown as one that can be had back.
    assert!(matches!(collector.find_archive("old"), Err(Error::NoSuchArchive { .. })));
    assert!(before.iter().all(|name| names_below(&storage, "packs").contains(name)));
    txn.commit().unwrap();
    assert!(collect(&collector).unwrap().waits_for.is_empty());
    // It was built on what was condemned.
    expected.remove("old");
    expected.insert("now".into(), data);
    assert_archives(&collector, &expected, None);
    assert_archives(&writer, &expected, None);
    assert_clean(&collector);
}

#[test]
fn what_a_backup_left_that_never_ended_is_freed() {
    let (storage, expected) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let before = bytes_below(&storage, "packs");
    suspend(&repo, "half", &small(7));
    assert!(bytes_below(&storage, "packs") > before);
    collect(&repo).unwrap();
    assert_eq!(bytes_below(&storage, "packs"), before);
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn a_slot_stays_as_long_as_its_session_may_look_at_it() {
    let (storage, mut expected) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let id = repo.find_archive("old").unwrap().manifest.id;
    // A session of another machine that has committed, and has not heard of it yet: with its slot gone, it would
    // commit again (rule C7).
    let record = SessionRecord {
        session: id,
        written_ms: 0,
        host: "elsewhere".into(),
        process: 1,
        program_version: "0".into(),
    };
    let registration = format!("sessions/{id}/00000000");
    put_sealed(&storage, &repo, &registration, ObjectKind::Session, &to_cbor(&record));
    delete(&repo, "old");
    expected.remove("old");
    assert!(collect(&repo).unwrap().packs > 0);
    let slot = format!("archives/{id}");
    assert!(names_below(&storage, "archives").contains(&slot));
    storage.delete(&key(registration)).unwrap();
    assert_eq!(collect(&repo).unwrap().archives, 1);
    assert!(!names_below(&storage, "archives").contains(&slot));
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn what_can_not_be_read_stops_a_collection() {
    let (storage, mut expected) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let manifest = repo.find_archive("old").unwrap().manifest;
    let deleted = manifest.id;
    delete(&repo, "old");
    let packs = names_below(&storage, "packs");
    for prefix in ["trash", "archives", "index"] {
        for name in names_below(&storage, prefix) {
            if name.ends_with(&deleted.to_string()) {
                continue;
            }
            let name = key(name);
            let good = storage.get(&name, None).unwrap();
            let mut bad = good.clone();
            let last = bad.len() - 1;
            bad[last] ^= 1;
            storage.delete(&name).unwrap();
            storage.put_new(&name, &[&bad]).unwrap();
            let elsewhere = temporary_dir();
            let fresh = open(storage.clone(), elsewhere.path()).unwrap();
            let stopped = collect(&fresh);
            assert!(
                matches!(stopped, Err(Error::Damaged { .. } | Error::ChunkMissing { .. })),
                "{name}: {stopped:?}"
            );
            storage.delete(&name).unwrap();
            storage.put_new(&name, &[&good]).unwrap();
            assert_eq!(names_below(&storage, "packs"), packs, "{name}");
        }
    }
    // Taken from the trash, so not listed, and yet whole.
    let old = expected.remove("old").unwrap();
    assert!(restore(&reader(&repo).unwrap(), &manifest) == Ok(old));
    assert_archives(&repo, &expected, None);
}

#[test]
fn backups_and_collections_that_never_stop() {
    let (storage, _) = two_archives();
    let until = Instant::now() + Duration::from_secs(6);
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let storage = storage.clone();
            scope.spawn(move || {
                let dir = temporary_dir();
                let repo = open(storage, dir.path()).unwrap();
                let mut number = 0;
                while Instant::now() < until {
                    // Few different streams: most chunks were just deleted, or are just being collected.
                    let (name, data) = (format!("{writer} {number}"), small(number % 3));
                    let manifest = backup(&repo, &name, &data).unwrap();
                    let found = restore(&reader(&repo).unwrap(), &manifest).unwrap();
                    assert!(found == data, "{name} has other bytes");
                    if number % 4 != 3 {
                        repo.delete_archive(&manifest.id).unwrap();
                    }
                    number += 1;
                }
            });
        }
        for _ in 0..2 {
            let storage = storage.clone();
            scope.spawn(move || {
                let dir = temporary_dir();
                let repo = open(storage, dir.path()).unwrap();
                while Instant::now() < until {
                    collect(&repo).unwrap();
                }
            });
        }
    });
    let dir = temporary_dir();
    let repo = open(storage, dir.path()).unwrap();
    let collected = collect(&repo).unwrap();
    println!("{collected:?}");
    let reader = reader(&repo).unwrap();
    let archives = repo.archives().unwrap().archives;
    println!("{} archives are left", archives.len());
    for archive in archives {
        let name = &archive.manifest.name;
        let wanted = match name.split_once(' ') {
            Some((_, number)) => small(number.parse::<u64>().unwrap() % 3),
            None => small(if name == "old" { 1 } else { 2 }),
        };
        assert!(restore(&reader, &archive.manifest).unwrap() == wanted, "{name} has other bytes");
    }
    assert_clean(&repo);
}

#[test]
fn a_crash_of_a_collection() {
    let (storage, mut expected) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    suspend(&repo, "half", &small(7));
    delete(&repo, "old");
    expected.remove("old");
    drop(repo);
    let story = Story::tell(&storage, &expected, None, |repo| {
        collect(repo).unwrap();
    });
    let choice = CrashStateChoice { exhaustive_operations_max: 5, random_subsets_count: 12, seed: 1 };
    let states: Vec<CrashState> = story.storage.crash_states(choice).collect();
    println!("collection: {} states, {} operations", states.len(), story.done);
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

/// What must hold after a crash: all archives but the deleted one are whole, and the next backup and the next
/// collection work as they stand.
pub(crate) fn examine(
    state: &CrashState,
    expected: &Expected,
    cache: &std::path::Path,
) -> Result<(), String> {
    let repo = open(state.storage.clone(), cache).map_err(|e| format!("does not open: {e:?}"))?;
    let mut expected = expected.clone();
    let kept = |repo: &Repository, expected: &Expected| -> Result<(), String> {
        let reader = reader(repo).map_err(|e| format!("no reader: {e:?}"))?;
        for (name, streams) in expected {
            let found = repo.find_archive(name).map_err(|e| format!("{name}: {e:?}"))?;
            if restore(&reader, &found.manifest).map_err(|e| format!("{name}: {e}"))? != *streams {
                return Err(format!("{name} has other bytes"));
            }
        }
        Ok(())
    };
    kept(&repo, &expected)?;
    backup(&repo, "next", &small(1)).map_err(|e| format!("next backup: {e:?}"))?;
    expected.insert("next".into(), small(1));
    kept(&repo, &expected)?;
    let report = collect(&repo).map_err(|e| format!("next collection: {e:?}"))?;
    if !report.waits_for.is_empty() {
        return Err(format!("waits for {:?}", report.waits_for));
    }
    kept(&repo, &expected)?;
    compare(&repo, &expected, None)?;
    findings(&repo)
}
