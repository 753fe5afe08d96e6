//! Tests that reach below the trait: a sync that fails, the fallback for naming.

use std::cell::Cell;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use super::*;

mod torn;

thread_local! {
    static SYNCS_COUNT: Cell<u32> = const { Cell::new(0) };
    static SYNCS_FAIL: Cell<bool> = const { Cell::new(false) };
}

fn counting_sync(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    SYNCS_COUNT.set(SYNCS_COUNT.get() + 1);
    if SYNCS_FAIL.get() { Err(Errno::IO) } else { fsync(file) }
}

fn counting_storage(directory: &Path) -> LocalStorage {
    let mut storage = LocalStorage::open(directory).unwrap();
    storage.sync = counting_sync;
    storage
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn file_names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_whose_sync_failed_is_removed_and_not_synced_again() {
    let directory = tempfile::tempdir().unwrap();
    let storage = counting_storage(directory.path());
    SYNCS_FAIL.set(true);
    let error = storage.put_new(&key("config"), &[b"bytes"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(SYNCS_COUNT.get(), 1);
    assert!(file_names(directory.path()).is_empty());

    SYNCS_FAIL.set(false);
    storage.put_new(&key("config"), &[b"bytes"]).unwrap();
    assert_eq!(storage.get(&key("config"), None).unwrap(), b"bytes");
}

#[test]
fn every_directory_that_got_a_name_is_synced_when_a_storage_is_made() {
    let directory = tempfile::tempdir().unwrap();
    make_directory_durable(&directory.path().join("a/b/c"), counting_sync).unwrap();
    assert_eq!(SYNCS_COUNT.get(), 3, "the directory of a, a, and a/b");
    make_directory_durable(&directory.path().join("a/b/d"), counting_sync).unwrap();
    assert_eq!(SYNCS_COUNT.get(), 4, "a/b");
    SYNCS_FAIL.set(true);
    let error = make_directory_durable(&directory.path().join("e"), counting_sync).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn flush_syncs_each_dirty_directory_once() {
    let directory = tempfile::tempdir().unwrap();
    let storage = counting_storage(directory.path());
    for name in ["packs/0a/1", "packs/0a/2", "packs/0b/3"] {
        storage.put_new(&key(name), &[b"bytes"]).unwrap();
    }
    SYNCS_COUNT.set(0);
    storage.flush().unwrap();
    assert_eq!(SYNCS_COUNT.get(), 4, "the root, packs, packs/0a and packs/0b");
    storage.flush().unwrap();
    assert_eq!(SYNCS_COUNT.get(), 4, "nothing is dirty any more");
    storage.delete(&key("packs/0a/1")).unwrap();
    storage.flush().unwrap();
    assert_eq!(SYNCS_COUNT.get(), 5, "packs/0a");
}

#[test]
fn a_failed_flush_leaves_the_directories_dirty() {
    let directory = tempfile::tempdir().unwrap();
    let storage = counting_storage(directory.path());
    storage.put_new(&key("packs/0a/1"), &[b"bytes"]).unwrap();
    SYNCS_FAIL.set(true);
    assert_eq!(storage.flush().unwrap_err().kind(), ErrorKind::Io);
    SYNCS_FAIL.set(false);
    SYNCS_COUNT.set(0);
    storage.flush().unwrap();
    assert_eq!(SYNCS_COUNT.get(), 3, "the root, packs and packs/0a");
}

/// Inodes of directories that were synced, by any thread, and how many syncs succeed before all fail.
static MANY_SYNCED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static MANY_LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);

fn many_sync(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let left = MANY_LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    left.map_err(|_| Errno::IO)?;
    MANY_SYNCED.lock().unwrap().push(rustix::fs::fstat(file).unwrap().st_ino);
    thread::sleep(Duration::from_millis(1));
    fsync(file)
}

#[test]
fn many_directories_are_synced_at_once_and_each_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = LocalStorage::open(directory.path()).unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("index/{number}/0")).collect();
    names.iter().for_each(|name| storage.put_new(&key(name), &[b"bytes"]).unwrap());
    storage.sync = many_sync;
    MANY_LEFT.store(50, Ordering::SeqCst);
    assert_eq!(storage.flush().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(MANY_SYNCED.lock().unwrap().len(), 50, "nothing is synced after a failure");
    MANY_LEFT.store(usize::MAX, Ordering::SeqCst);
    storage.flush().unwrap();
    let mut synced = std::mem::take(&mut *MANY_SYNCED.lock().unwrap());
    synced.sort_unstable();
    synced.dedup();
    assert_eq!(
        synced.len(),
        202,
        "the root, index and those below it: each once, for what failed stays dirty"
    );
    storage.flush().unwrap();
    assert!(MANY_SYNCED.lock().unwrap().is_empty(), "nothing is dirty any more");
}

/// Met twice by the sync under way: when it begins, and when the test lets it end.
static SLOW_SYNC: Barrier = Barrier::new(2);

fn slow_sync(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    SLOW_SYNC.wait();
    SLOW_SYNC.wait();
    fsync(file)
}

#[test]
fn a_flush_waits_for_one_under_way_that_took_its_directories() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = LocalStorage::open(directory.path()).unwrap();
    storage.put_new(&key("object"), &[b"bytes"]).unwrap();
    storage.sync = slow_sync;
    let storage = &storage;
    thread::scope(|scope| {
        let first = scope.spawn(|| storage.flush());
        SLOW_SYNC.wait();
        let second = scope.spawn(|| storage.flush());
        thread::sleep(Duration::from_millis(50));
        let second_waits = !second.is_finished();
        SLOW_SYNC.wait();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
        assert!(second_waits);
    });
}

#[test]
fn flush_covers_names_of_others_that_were_met() {
    let directory = tempfile::tempdir().unwrap();
    let other = LocalStorage::open(directory.path()).unwrap();
    for name in ["taken/1", "read/1", "measured/1", "listed/1", "unseen/1"] {
        other.put_new(&key(name), &[b"bytes"]).unwrap();
    }
    let meet = [
        |storage: &LocalStorage| drop(storage.put_new(&key("taken/1"), &[])),
        |storage: &LocalStorage| drop(storage.get(&key("read/1"), Some(0..1))),
        |storage: &LocalStorage| drop(storage.size(&key("measured/1"))),
        |storage: &LocalStorage| drop(storage.list(&key("listed"), &mut |_| Ok(()))),
    ];
    for (case, meet) in meet.iter().enumerate() {
        let storage = counting_storage(directory.path());
        SYNCS_COUNT.set(0);
        meet(&storage);
        storage.flush().unwrap();
        assert_eq!(SYNCS_COUNT.get(), 2, "case {case}: the root and the directory of the object");
    }
}

#[test]
fn naming_by_link_does_what_naming_by_rename_does() {
    for name_it in [name_if_free, link_if_free] {
        let directory = tempfile::tempdir().unwrap();
        let root = open_directory(directory.path()).unwrap();
        fs::write(directory.path().join(".tmp-1"), "one").unwrap();
        fs::write(directory.path().join(".tmp-2"), "two").unwrap();
        name_it(&root, ".tmp-1", "object").unwrap();
        assert_eq!(file_names(directory.path()), [".tmp-2", "object"]);
        assert_eq!(name_it(&root, ".tmp-2", "object"), Err(Errno::EXIST));
        assert_eq!(file_names(directory.path()), [".tmp-2", "object"]);
        assert_eq!(fs::read(directory.path().join("object")).unwrap(), b"one");
    }
}

#[test]
fn bodies_of_more_parts_than_one_write_takes_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    let parts: Vec<Vec<u8>> = (0..3000u32).map(|n| vec![n.to_le_bytes()[0]; (n % 7) as usize]).collect();
    let body: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    storage.put_new(&key("many"), &body).unwrap();
    assert_eq!(storage.get(&key("many"), None).unwrap(), parts.concat());
}

/// What statfs(2) calls a file system in memory.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// How much of a file is in the page cache, bytes; `None` where fincore(1) is missing or the file system has no disk.
fn cached_bytes(path: &Path) -> Option<u64> {
    let no_disk = rustix::fs::statfs(path).unwrap().f_type == TMPFS_MAGIC;
    let args = ["--bytes", "--noheadings", "--output", "RES"];
    let told =
        Command::new("fincore").args(args).arg(path).output().ok().filter(|told| told.status.success());
    let told = String::from_utf8(told?.stdout).unwrap();
    (!no_disk).then(|| told.trim().parse().unwrap())
}

#[test]
fn packs_leave_the_page_cache_to_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    storage.put_new(&key("pack"), &[&[1; 5 << 20], &[2; 3 << 20]]).unwrap();
    let Some(cached) = cached_bytes(&directory.path().join("pack")) else {
        return println!("skipped: packs_leave_the_page_cache_to_the_database: no fincore, or no disk");
    };
    assert!(cached < 1 << 20, "{cached} bytes of 8 MiB");
    assert_eq!(storage.get(&key("pack"), None).unwrap().len(), 8 << 20);
}

#[test]
fn announced_bytes_come_without_what_is_around_them() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    storage.put_new(&key("pack"), &[&[1; 8 << 20]]).unwrap();
    let path = directory.path().join("pack");
    if cached_bytes(&path).is_none() {
        return println!("skipped: announced_bytes_come_without_what_is_around_them: no fincore, or no disk");
    }
    let (start, wanted) = (4 << 20, 64 << 10);
    storage.will_read(&key("pack"), start..start + wanted);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while cached_bytes(&path).unwrap() < wanted {
        assert!(std::time::Instant::now() < until, "nothing was read");
        thread::sleep(Duration::from_millis(5));
    }
    let mut bytes = vec![0; wanted as usize];
    storage.get_into(&key("pack"), start, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 1));
    let cached = cached_bytes(&path).unwrap();
    assert!(cached <= 2 * wanted, "{cached} bytes for {wanted}");
}
