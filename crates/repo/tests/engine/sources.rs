//! Streams that fail and users who stop: no archive, no waiting, and what was stored is used again.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dbvault_format::entry::{EntryReport, Grid};
use dbvault_repo::{CheckDepth, CollectOptions, Counter, Error, Monitor, NoMonitor, Phase, Repository};
use dbvault_storage::MemoryStorage;

use crate::common::*;

/// Time that a user waits at most.
const LIMIT: Duration = Duration::from_secs(5);

/// What happens when a stream has been read so far.
enum Event {
    Fail,
    /// The user wants to stop, and the stream goes on.
    Stop(Arc<AtomicBool>),
}

/// A stream in pieces of odd lengths, with signals in between, and an event at one place.
struct Stream<'a> {
    bytes: &'a [u8],
    at: usize,
    event_at: usize,
    event: Event,
    signal: bool,
}

impl<'a> Stream<'a> {
    fn new(bytes: &'a [u8], event_at: usize, event: Event) -> Stream<'a> {
        Stream { bytes, at: 0, event_at, event, signal: false }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.signal = !self.signal;
        if self.signal {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.at >= self.event_at {
            match &self.event {
                Event::Fail => return Err(io::Error::other("the server went away")),
                Event::Stop(flag) => flag.store(true, Ordering::SeqCst),
            }
        }
        let before_event = self.event_at.checked_sub(self.at).filter(|len| *len > 0).unwrap_or(usize::MAX);
        let len = out.len().min(10_007).min(self.bytes.len() - self.at).min(before_event);
        out[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

struct Vault {
    repo: Repository,
    storage: MemoryStorage,
    expected: Expected,
    _dir: tempfile::TempDir,
}

impl Vault {
    fn new() -> Vault {
        let (dir, storage) = (temporary_dir(), MemoryStorage::new());
        let repo = init(storage.clone(), dir.path());
        let data = streams(&[("old", &noise(50 << 10, 1))]);
        backup(&repo, "old", &data).unwrap();
        Vault { repo, storage, expected: [("old".to_owned(), data)].into(), _dir: dir }
    }

    /// The same repository, for a user who may stop.
    fn stoppable(&self, cache: &std::path::Path) -> (Repository, Arc<AtomicBool>) {
        let client = client(cache);
        let flag = client.interrupt.clone();
        (Repository::open(Arc::new(self.storage.clone()), client, &secret(1)).unwrap(), flag)
    }

    fn assert_unchanged(&self) {
        assert_archives(&self.repo, &self.expected, None);
        assert_clean(&self.repo);
    }
}

/// Places in a stream of `len` bytes: its ends, the edges of what is read at once, and some in between.
fn places(len: usize) -> Vec<usize> {
    let mut places = vec![0, 1, 4095, 16 << 10, (4 << 20) - 1, 4 << 20, (4 << 20) + (16 << 10), len - 1, len];
    let mut numbers = Numbers::new(1);
    places.extend((0..6).map(|_| numbers.below(len)));
    places
}

#[test]
fn a_stream_that_fails_anywhere_is_in_no_archive() {
    let vault = Vault::new();
    let bytes = noise(9 << 20, 2);
    for at in places(bytes.len()) {
        let mut txn = begin(&vault.repo, "now").unwrap();
        add(&mut txn, "good", Grid::Content, &mut &bytes[..1000]).unwrap();
        let failed = txn.add_entry(meta("bad", Grid::Content), &mut Stream::new(&bytes, at, Event::Fail));
        match failed {
            Err(Error::Source { entry, source }) => {
                assert_eq!((entry.as_str(), source.to_string().as_str()), ("bad", "the server went away"));
            }
            other => panic!("at {at}: {other:?}"),
        }
        // One way to end it, and another, which has the stream that was good and names the one that was not.
        match at % 2 {
            0 => txn.suspend().unwrap(),
            _ => {
                txn.leave_out("bad", "the server went away");
                let manifest = txn.commit().unwrap();
                assert!(!manifest.is_complete(), "at {at}");
                let found = restore(&reader(&vault.repo).unwrap(), &manifest);
                assert!(found == Ok(streams(&[("good", &bytes[..1000])])), "at {at}");
                assert_clean(&vault.repo);
                vault.repo.delete_archive(&manifest.id).unwrap();
                let all = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
                vault.repo.collect(&all, Arc::new(NoMonitor)).unwrap();
            }
        }
        vault.assert_unchanged();
    }
}

#[test]
fn a_stream_that_ended_well_but_whose_source_did_not_is_left_out() {
    let vault = Vault::new();
    let mut txn = begin(&vault.repo, "now").unwrap();
    drop(txn.add_entry(meta("half", Grid::Content), &mut &noise(9000, 3)[..]).unwrap());
    let whole = txn.add_entry(meta("whole", Grid::Content), &mut &noise(9000, 4)[..]).unwrap();
    txn.finish_entry(whole, EntryReport::default());
    txn.commit().unwrap();
    let mut expected = vault.expected.clone();
    expected.insert("now".into(), streams(&[("whole", &noise(9000, 4))]));
    assert_archives(&vault.repo, &expected, None);
}

#[test]
fn a_stop_at_any_moment_of_a_backup_is_obeyed_and_what_was_stored_is_kept() {
    let vault = Vault::new();
    let bytes = noise(9 << 20, 5);
    for at in places(bytes.len()) {
        let dir = temporary_dir();
        let (repo, flag) = vault.stoppable(dir.path());
        let mut txn = begin(&repo, "now").unwrap();
        let stream = &mut Stream::new(&bytes, at, Event::Stop(flag.clone()));
        let began = Instant::now();
        match txn.add_entry(meta("entry", Grid::Content), stream) {
            Err(Error::Interrupted) => txn.suspend().unwrap(),
            // Stopped when there was nothing more to read.
            Ok(pending) if at == bytes.len() => {
                txn.finish_entry(pending, EntryReport::default());
                assert!(matches!(txn.commit(), Err(Error::Interrupted)));
            }
            stored => panic!("at {at}: {stored:?}"),
        }
        assert!(began.elapsed() < LIMIT, "at {at}: {:?}", began.elapsed());
        vault.assert_unchanged();
    }
    let before = bytes_below(&vault.storage, "packs");
    assert!(before > 9 << 20, "most of the stream is there");
    let data = streams(&[("entry", &bytes)]);
    backup(&vault.repo, "now", &data).unwrap();
    let grown = bytes_below(&vault.storage, "packs") - before;
    assert!(grown < 9 << 20 >> 3, "{grown} bytes are stored again");
    let mut expected = vault.expected.clone();
    expected.insert("now".into(), data);
    assert_archives(&vault.repo, &expected, None);
    assert_clean(&vault.repo);
}

#[test]
fn a_stop_before_the_commit_is_obeyed() {
    let vault = Vault::new();
    let dir = temporary_dir();
    let (repo, flag) = vault.stoppable(dir.path());
    let mut txn = begin(&repo, "now").unwrap();
    add(&mut txn, "entry", Grid::Content, &mut &noise(9000, 3)[..]).unwrap();
    flag.store(true, Ordering::SeqCst);
    assert!(matches!(txn.commit(), Err(Error::Interrupted)));
    vault.assert_unchanged();
}

/// Wants to stop after so many calls.
struct Stopper {
    flag: Arc<AtomicBool>,
    calls_left: AtomicUsize,
}

impl Monitor for Stopper {
    fn add(&self, _: Counter, _: u64) {
        if self.calls_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.flag.store(true, Ordering::SeqCst);
        }
    }

    fn expect(&self, _: Counter, _: u64) {}

    fn phase(&self, _: Phase) {}
}

#[test]
fn a_stop_of_a_check_and_of_a_restore_is_obeyed() {
    let vault = Vault::new();
    let bytes = noise(30 << 20, 6);
    let manifest = backup(&vault.repo, "large", &streams(&[("entry", &bytes)])).unwrap();
    for calls in [1, 3, 30, 300] {
        let dir = temporary_dir();
        let (repo, flag) = vault.stoppable(dir.path());
        let monitor = Arc::new(Stopper { flag: flag.clone(), calls_left: calls.into() });
        let began = Instant::now();
        let checked = repo.check(CheckDepth::Data, monitor);
        assert!(matches!(checked, Err(Error::Interrupted)), "{calls}: {checked:?}");
        flag.store(false, Ordering::SeqCst);
        let reader = repo.reader(Arc::new(NoMonitor)).unwrap();
        let entry = reader.entries(&manifest).unwrap().remove(0);
        let mut stream = reader.open_stream(&entry.stream).unwrap();
        stream.read_exact(&mut vec![0; 1000 * calls]).unwrap();
        flag.store(true, Ordering::SeqCst);
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(error.downcast::<Error>(), Ok(Error::Interrupted)));
        drop(stream);
        assert!(began.elapsed() < LIMIT, "{calls}: {:?}", began.elapsed());
    }
}

#[test]
fn a_restore_does_not_go_on_behind_a_gap() {
    let vault = Vault::new();
    let before = crate::objects::names(&vault.storage, "packs/");
    let bytes = noise(30 << 20, 7);
    let manifest = backup(&vault.repo, "large", &streams(&[("entry", &bytes)])).unwrap();
    // Some pack in the middle of the stream.
    let listed = crate::objects::listings(&vault.storage, &vault.repo, &manifest.id);
    let lost = crate::objects::pack_object(&listed[listed.len() / 2].name);
    assert!(!before.contains(&lost) && vault.storage.remove_raw(&lost));
    let reader = reader(&vault.repo).unwrap();
    let entry = reader.entries(&manifest).unwrap().remove(0);
    let mut stream = reader.open_stream(&entry.stream).unwrap();
    let mut read = Vec::new();
    let error = stream.read_to_end(&mut read).unwrap_err();
    assert!(matches!(error.downcast::<Error>(), Ok(Error::PackMissing { .. } | Error::ChunkMissing { .. })));
    assert!(bytes.starts_with(&read) && read.len() < bytes.len());
    for _ in 0..10 {
        assert!(stream.read(&mut [0; 1000]).is_err(), "an error stays an error");
    }
}
