//! Several clients at once: all archives come out whole, whoever else writes, and a check finds nothing.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use dbvault_storage::{Key, LocalStorage, MemoryStorage, ObjectMeta, Storage};

use crate::common::*;

fn data(writer: u64, round: u64) -> Streams {
    let shared = edited(&text(200 << 10, 1), 10, round);
    streams(&[
        ("shared", &shared),
        ("own", &noise(100 << 10, 10 * writer + round)),
        ("same", &noise(90 << 10, 99)),
    ])
}

/// As many writers as there are caches, all at once, for `rounds` backups each.
fn write_at_once(storage: &Arc<dyn Storage>, caches: &[PathBuf], rounds: u64) -> Expected {
    let start = Barrier::new(caches.len());
    let expected = Mutex::new(Expected::new());
    thread::scope(|scope| {
        for (writer, cache) in caches.iter().enumerate() {
            let (start, expected) = (&start, &expected);
            scope.spawn(move || {
                let repo = open_on(storage.clone(), cache).unwrap();
                for round in 0..rounds {
                    let (name, data) = (format!("{writer} {round}"), data(writer as u64, round));
                    start.wait();
                    backup(&repo, &name, &data).unwrap();
                    expected.lock().unwrap().insert(name, data);
                }
            });
        }
    });
    expected.into_inner().unwrap()
}

fn storages() -> (Vec<Arc<dyn Storage>>, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let local = LocalStorage::create(place.path().join("repository")).unwrap();
    (vec![Arc::new(MemoryStorage::new()), Arc::new(local)], place)
}

#[test]
fn two_backups_at_once_with_one_cache_directory() {
    let (storages, _place) = storages();
    for storage in storages {
        let dir = temporary_dir();
        let repo = init_on(storage.clone(), dir.path(), small_params());
        let expected = write_at_once(&storage, &[dir.path().into(), dir.path().into()], 3);
        let slots = ["index-0", "index-1"].map(|slot| dir.path().join(repo.id().to_string()).join(slot));
        assert!(slots.iter().all(|slot| slot.is_dir()), "each has an index of its own");
        assert_archives(&repo, &expected, None);
        assert_archives(&open_on(storage, &dir.path().join("elsewhere")).unwrap(), &expected, None);
        assert_clean(&repo);
    }
}

#[test]
fn two_backups_at_once_with_a_cache_directory_each() {
    let (storages, _place) = storages();
    for storage in storages {
        let dir = temporary_dir();
        let repo = init_on(storage.clone(), dir.path(), small_params());
        let expected = write_at_once(&storage, &[dir.path().join("a"), dir.path().join("b")], 3);
        assert_archives(&repo, &expected, None);
        assert_clean(&repo);
    }
}

#[test]
fn four_writers_with_a_reader_and_a_check_that_never_stop() {
    let (dir, storage) = (temporary_dir(), Arc::new(MemoryStorage::new()) as Arc<dyn Storage>);
    let repo = init_on(storage.clone(), dir.path(), small_params());
    let (ended, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let expected = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let reader = reader(&repo).unwrap();
                for archive in repo.archives().unwrap().archives {
                    let (writer, round) = archive.manifest.name.split_once(' ').unwrap();
                    let wanted = data(writer.parse().unwrap(), round.parse().unwrap());
                    assert!(restore(&reader, &archive.manifest).unwrap() == wanted);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                assert_clean(&repo);
            }
        });
        let caches: Vec<PathBuf> = (0..4).map(|n| dir.path().join((n % 2).to_string())).collect();
        let expected = write_at_once(&storage, &caches, 3);
        ended.store(true, Ordering::SeqCst);
        expected
    });
    println!("{} archives read meanwhile", looks.into_inner());
    assert_eq!(expected.len(), 12);
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn more_clients_than_there_are_places_for_indexes() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let id = backup(&repo, "archive", &data(1, 1)).unwrap();
    let readers: Vec<_> = (0..12).map(|_| reader(&repo).unwrap()).collect();
    readers.iter().for_each(|reader| assert!(restore(reader, &id).unwrap() == data(1, 1)));
    backup(&repo, "another", &data(1, 2)).unwrap();
    drop(readers);
    let expected = [("archive".to_owned(), data(1, 1)), ("another".to_owned(), data(1, 2))].into();
    assert_archives(&repo, &expected, None);
}

/// Before one of its calls, somebody else does something.
#[derive(Clone)]
struct Interrupted {
    inner: MemoryStorage,
    calls: Arc<AtomicUsize>,
    at: usize,
    act: Arc<Mutex<Option<Act>>>,
}

type Act = Box<dyn FnOnce() + Send>;

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupted at {}", self.at)
    }
}

impl Interrupted {
    fn new(inner: &MemoryStorage, at: usize, act: impl FnOnce() + Send + 'static) -> Interrupted {
        let act: Act = Box::new(act);
        Interrupted { inner: inner.clone(), calls: Arc::default(), at, act: Arc::new(Mutex::new(Some(act))) }
    }

    fn call(&self) -> &MemoryStorage {
        if self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            let act = self.act.lock().unwrap().take();
            act.into_iter().for_each(|act| act());
        }
        &self.inner
    }
}

impl Storage for Interrupted {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> dbvault_storage::Result<()> {
        self.call().put_new(key, body)
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> dbvault_storage::Result<Vec<u8>> {
        self.call().get(key, range)
    }

    fn size(&self, key: &Key) -> dbvault_storage::Result<Option<u64>> {
        self.call().size(key)
    }

    fn list(
        &self,
        prefix: &Key,
        each: &mut dyn FnMut(ObjectMeta) -> dbvault_storage::Result<()>,
    ) -> dbvault_storage::Result<()> {
        self.call().list(prefix, each)
    }

    fn delete(&self, key: &Key) -> dbvault_storage::Result<()> {
        self.call().delete(key)
    }

    fn flush(&self) -> dbvault_storage::Result<()> {
        self.call().flush()
    }
}

/// Does `work` over and over, with a backup of somebody else before each of its calls in turn (or, of very
/// many calls alike, some of them); then looks at everything.
fn interleave(what: &str, work: impl Fn(Interrupted, &std::path::Path) + Sync) {
    let (dir, before) = (temporary_dir(), MemoryStorage::new());
    backup(&init(before.clone(), dir.path()), "old", &data(0, 0)).unwrap();
    let counting = Interrupted::new(&before.duplicate(), 0, || {});
    work(counting.clone(), &dir.path().join("counting"));
    let count = counting.calls.load(Ordering::SeqCst);
    let step = count.div_ceil(60);
    println!("{what}: {count} calls, one in {step} tried");
    in_parallel((1..=count).step_by(step), |at| {
        let (cache, storage) = (temporary_dir(), before.duplicate());
        let other = open(storage.clone(), &cache.path().join("other")).unwrap();
        let interrupted = Interrupted::new(&storage, at, move || {
            backup(&other, "other", &data(0, 2)).unwrap();
        });
        work(interrupted.clone(), &cache.path().join("own"));
        let repo = open(storage, &cache.path().join("third")).unwrap();
        let mut expected: Expected = [("old".to_owned(), data(0, 0)), ("now".to_owned(), data(0, 2))].into();
        if interrupted.act.lock().unwrap().is_none() {
            expected.insert("other".into(), data(0, 2));
        }
        // A backup, if that is what the work was.
        let now = repo.archives().unwrap().archives.iter().any(|archive| archive.manifest.name == "now");
        if !now {
            expected.remove("now");
        }
        compare(&repo, &expected, None).unwrap_or_else(|e| panic!("{what}, call {at}: {e}"));
        findings(&repo).unwrap_or_else(|e| panic!("{what}, call {at}: {e}"));
    });
}

#[test]
fn a_backup_bears_another_backup_of_the_same_at_any_moment() {
    interleave("backup", |storage, cache| {
        backup(&open(storage, cache).unwrap(), "now", &data(0, 2)).unwrap();
    });
}

#[test]
fn a_check_and_a_reader_bear_a_backup_at_any_moment() {
    interleave("check", |storage, cache| assert_clean(&open(storage, cache).unwrap()));
    interleave("reader", |storage, cache| {
        let repo = open(storage, cache).unwrap();
        let list = repo.archives().unwrap();
        let reader = reader(&repo).unwrap();
        for archive in list.archives {
            restore(&reader, &archive.manifest).unwrap();
        }
    });
}

/// A stream that breaks off in the middle.
struct Broken(std::io::Cursor<Vec<u8>>);

impl std::io::Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(std::io::Error::other("the source failed")),
            count => Ok(count),
        }
    }
}

#[test]
fn streams_of_one_backup_are_stored_side_by_side_and_one_that_breaks_harms_no_other() {
    let (storages, _place) = storages();
    for (round, storage) in
        (0..6).flat_map(|round| storages.iter().map(move |storage| (round, storage.clone())))
    {
        let dir = temporary_dir();
        let repo = match round {
            0 => init_on(storage.clone(), dir.path(), small_params()),
            _ => open_on(storage.clone(), dir.path()).unwrap(),
        };
        let mut txn = begin(&repo, &format!("{round}")).unwrap();
        // The same, almost the same, and something else; all twice.
        let all: Streams = (0..8)
            .map(|number: u64| {
                (format!("{number}"), edited(&text(150 << 10, number % 4 / 2), 10, number % 4 + round))
            })
            .collect();
        let pending = thread::scope(|scope| {
            let txn = &txn;
            let store = |name: &String, bytes: &Vec<u8>| {
                let (meta, bytes) = (meta(name, dbvault_format::entry::Grid::Content), bytes.clone());
                scope.spawn(move || txn.add_entry(meta, &mut std::io::Cursor::new(bytes)))
            };
            let stored: Vec<_> = all.iter().map(|(name, bytes)| store(name, bytes)).collect();
            let broken = scope.spawn(|| {
                let bytes = edited(&text(150 << 10, 0), 10, round);
                let broken = meta("broken", dbvault_format::entry::Grid::Content);
                txn.add_entry(broken, &mut Broken(std::io::Cursor::new(bytes))).err()
            });
            assert!(matches!(broken.join().unwrap(), Some(dbvault_repo::Error::Source { .. })));
            stored.into_iter().map(|stored| stored.join().unwrap().unwrap()).collect::<Vec<_>>()
        });
        pending.into_iter().for_each(|pending| txn.finish_entry(pending, Default::default()));
        txn.leave_out("broken", "the source failed");
        let manifest = txn.commit().unwrap();
        assert!(!manifest.is_complete() && manifest.failed[0].name == "broken");
        for repo in [repo, open_on(storage, &dir.path().join("elsewhere")).unwrap()] {
            let found = repo.find_archive(&format!("{round}")).unwrap().manifest;
            assert_eq!(found, manifest);
            assert!(restore(&reader(&repo).unwrap(), &found).as_ref() == Ok(&all));
            assert_clean(&repo);
        }
    }
}
