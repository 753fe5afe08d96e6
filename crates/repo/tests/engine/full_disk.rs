//! A disk with no room left: deleting and collecting make some, whatever little is left.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbvault_repo::{CollectOptions, Error, NoMonitor, Repository};
use dbvault_storage::{ErrorKind, Key, MemoryStorage, ObjectMeta, Storage};

use crate::common::*;
use crate::crash::small;

/// A storage of so many bytes.
#[derive(Clone, Debug)]
struct Disk {
    inner: MemoryStorage,
    room_bytes: Arc<AtomicU64>,
}

impl Disk {
    /// With `room_bytes` left beside what `inner` holds.
    fn new(inner: MemoryStorage, room_bytes: u64) -> Disk {
        Disk { inner, room_bytes: Arc::new(AtomicU64::new(room_bytes)) }
    }
}

impl Storage for Disk {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> dbvault_storage::Result<()> {
        let size_bytes = body.iter().map(|part| part.len() as u64).sum::<u64>();
        let take = |room: u64| room.checked_sub(size_bytes);
        if self.room_bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(dbvault_storage::Error::io(key.as_str(), full));
        }
        self.inner.put_new(key, body)
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> dbvault_storage::Result<Vec<u8>> {
        self.inner.get(key, range)
    }

    fn size(&self, key: &Key) -> dbvault_storage::Result<Option<u64>> {
        self.inner.size(key)
    }

    fn list(
        &self,
        prefix: &Key,
        each: &mut dyn FnMut(ObjectMeta) -> dbvault_storage::Result<()>,
    ) -> dbvault_storage::Result<()> {
        self.inner.list(prefix, each)
    }

    fn delete(&self, key: &Key) -> dbvault_storage::Result<()> {
        let size_bytes = self.inner.size(key)?.unwrap_or(0);
        self.inner.delete(key)?;
        self.room_bytes.fetch_add(size_bytes, Ordering::SeqCst);
        Ok(())
    }

    fn flush(&self) -> dbvault_storage::Result<()> {
        self.inner.flush()
    }
}

fn collect(repo: &Repository) -> Result<u64> {
    let options = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    Ok(repo.collect(&options, Arc::new(NoMonitor))?.freed_bytes)
}

/// Five archives of which each shares half with the next, so that packs are half dead when one goes.
fn archives() -> (MemoryStorage, Expected) {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    repo.keep_reserve().unwrap();
    let mut expected = Expected::new();
    for day in 0..5u64 {
        let data = streams(&[("a", &noise(60 << 10, day)), ("b", &noise(60 << 10, day + 1))]);
        backup(&repo, &format!("day {day}"), &data).unwrap();
        expected.insert(format!("day {day}"), data);
    }
    (storage, expected)
}

#[test]
fn a_full_disk_is_emptied() {
    for room_bytes in [0, 100, 1000, 4000, 20_000, 50_000, 100_000] {
        let (storage, mut expected) = archives();
        let dir = temporary_dir();
        let disk = Disk::new(storage.clone(), room_bytes);
        let repo = open(disk.clone(), dir.path()).unwrap();
        let failed = backup(&repo, "too much", &small(77));
        assert!(matches!(failed, Err(Error::Storage(e)) if e.kind() == ErrorKind::NoSpace), "{room_bytes}");
        for day in [0, 1, 3] {
            let name = format!("day {day}");
            repo.delete_archive(&repo.find_archive(&name).unwrap().manifest.id).unwrap();
            expected.remove(&name);
        }
        let freed_bytes = collect(&repo).unwrap();
        println!("{room_bytes} bytes of room: {freed_bytes} freed");
        assert!(freed_bytes > 120 << 10, "{room_bytes}: {freed_bytes}");
        assert_archives(&repo, &expected, None);
        assert_clean(&repo);
        repo.keep_reserve().unwrap();
        // There is room again.
        backup(&repo, "new", &streams(&[("noise", &noise(30 << 10, 99))])).unwrap();
        expected.insert("new".into(), streams(&[("noise", &noise(30 << 10, 99))]));
        collect(&repo).unwrap();
        assert_archives(&repo, &expected, None);
        assert_clean(&repo);
        let elsewhere = temporary_dir();
        let repo = open(storage, elsewhere.path()).unwrap();
        assert_archives(&repo, &expected, None);
        assert_clean(&repo);
    }
}

#[test]
fn a_full_disk_without_a_reserve_is_an_error_and_nothing_else() {
    let (storage, expected) = archives();
    storage.delete(&key("reserve")).unwrap();
    let dir = temporary_dir();
    let repo = open(Disk::new(storage, 0), dir.path()).unwrap();
    let id = repo.find_archive("day 0").unwrap().manifest.id;
    let failed = repo.delete_archive(&id);
    assert!(matches!(failed, Err(Error::Storage(e)) if e.kind() == ErrorKind::NoSpace));
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}
