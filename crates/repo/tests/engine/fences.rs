//! Backups that a collection waits for, and those that it waits for no more.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use dbvault_format::entry::Grid;
use dbvault_repo::{BackupTxn, CollectOptions, CollectReport, Error, NoMonitor, Repository};
use dbvault_storage::MemoryStorage;
use tempfile::TempDir;

use crate::common::*;
use crate::crash::{small, two_archives};

/// A repository with one deleted archive of two, and a client each for a writer and a collector, on two machines.
struct Scene {
    storage: MemoryStorage,
    expected: Expected,
    writer: Repository,
    collector: Repository,
    _caches: [TempDir; 2],
}

impl Scene {
    fn new() -> Scene {
        let (storage, mut expected) = two_archives();
        let caches = [temporary_dir(), temporary_dir()];
        let [writer, collector] = [0, 1].map(|at: usize| open(storage.clone(), caches[at].path()).unwrap());
        let old = collector.find_archive("old").unwrap().manifest.id;
        collector.delete_archive(&old).unwrap();
        expected.remove("old");
        Scene { storage, expected, writer, collector, _caches: caches }
    }

    /// A backup of what the deleted archive had, all but its end.
    fn almost_done(&self, name: &str) -> BackupTxn {
        let mut txn = begin(&self.writer, name).unwrap();
        for (entry, bytes) in small(1) {
            add(&mut txn, &entry, Grid::Content, &mut Cursor::new(bytes)).unwrap();
        }
        txn
    }

    fn assert_whole(&self) {
        for repo in [&self.writer, &self.collector] {
            assert_archives(repo, &self.expected, None);
            assert_clean(repo);
        }
    }
}

fn options() -> CollectOptions {
    CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() }
}

fn collect(repo: &Repository, options: &CollectOptions) -> CollectReport {
    repo.collect(options, Arc::new(NoMonitor)).unwrap()
}

#[test]
fn a_backup_of_this_machine_whose_process_is_gone_is_not_waited_for() {
    let scene = Scene::new();
    let dead = begin(&scene.collector, "dead").unwrap();
    let id = *dead.id();
    // As a crash leaves it: registered, its lock released by the system.
    drop(dead);
    assert!(!names_below(&scene.storage, "sessions").is_empty());
    let report = collect(&scene.collector, &options());
    assert!(report.waits_for.is_empty() && report.packs > 0, "{report:?}");
    assert!(names_below(&scene.storage, "archives").contains(&format!("archives/{id}")));
    assert_eq!(names_below(&scene.storage, "sessions"), [""; 0]);
    scene.assert_whole();
}

#[test]
fn a_live_backup_of_this_machine_is_waited_for_whatever_its_silence() {
    let scene = Scene::new();
    let live = begin(&scene.collector, "live").unwrap();
    let report = collect(&scene.collector, &CollectOptions { silence: Duration::ZERO, ..options() });
    assert_eq!(report.waits_for.len(), 1);
    let record = report.waits_for[0].record.clone().unwrap();
    assert_eq!((record.host.as_str(), record.process), ("host", std::process::id()));
    live.suspend().unwrap();
    assert!(collect(&scene.collector, &options()).packs > 0);
    scene.assert_whole();
}

#[test]
fn a_backup_that_sleeps_past_its_fence_fails() {
    let scene = Scene::new();
    let sleeper = scene.almost_done("sleeper");
    let report = collect(&scene.collector, &CollectOptions { silence: Duration::ZERO, ..options() });
    assert!(report.waits_for.is_empty() && report.packs > 0, "{report:?}");
    let woken = sleeper.commit();
    assert!(matches!(woken, Err(Error::Fenced { .. })), "{woken:?}");
    scene.assert_whole();
    collect(&scene.collector, &options());
    scene.assert_whole();
}

#[test]
fn a_backup_that_begins_later_is_not_waited_for() {
    let mut scene = Scene::new();
    let first = scene.almost_done("first");
    assert_eq!(collect(&scene.collector, &options()).waits_for.len(), 1);
    let later = scene.almost_done("later");
    first.commit().unwrap();
    let report = collect(&scene.collector, &options());
    assert!(report.waits_for.is_empty(), "{report:?}");
    later.commit().unwrap();
    for name in ["first", "later"] {
        scene.expected.insert(name.into(), small(1));
    }
    scene.assert_whole();
}

#[test]
fn a_collection_waits_as_long_as_it_may() {
    let mut scene = Scene::new();
    let running = scene.almost_done("now");
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        running.commit().unwrap();
    });
    let report = collect(&scene.collector, &CollectOptions { wait: Duration::from_secs(60), ..options() });
    ending.join().unwrap();
    assert!(report.waits_for.is_empty());
    scene.expected.insert("now".into(), small(1));
    scene.assert_whole();
}

#[test]
fn an_interrupted_wait_ends_soon_and_changes_nothing() {
    let scene = Scene::new();
    let running = scene.almost_done("now");
    let packs = names_below(&scene.storage, "packs");
    let dir = temporary_dir();
    let client = client(dir.path());
    let interrupt = client.interrupt.clone();
    let repo = Repository::open(Arc::new(scene.storage.clone()), client, &secret(1)).unwrap();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        interrupt.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let wait = Duration::from_secs(600);
    let stopped = within(Duration::from_secs(30), "an interrupted wait", move || {
        repo.collect(&CollectOptions { wait, ..options() }, Arc::new(NoMonitor))
    });
    stopping.join().unwrap();
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert!(packs.iter().all(|pack| names_below(&scene.storage, "packs").contains(pack)));
    running.suspend().unwrap();
    collect(&scene.collector, &options());
    scene.assert_whole();
}

/// The same packs are condemned time and again, each time while another backup builds on them.
#[test]
fn each_epoch_waits_for_its_own_sessions() {
    let mut scene = Scene::new();
    for round in 0..4 {
        let name = format!("round {round}");
        let txn = scene.almost_done(&name);
        let report = collect(&scene.collector, &options());
        assert_eq!(report.waits_for.len(), 1, "{name}: {report:?}");
        let id = txn.commit().unwrap().id;
        assert!(collect(&scene.collector, &options()).waits_for.is_empty());
        scene.expected.insert(name.clone(), small(1));
        scene.assert_whole();
        scene.expected.remove(&name);
        scene.collector.delete_archive(&id).unwrap();
    }
}
