//! Calls of the storage that fail, each in turn: the work ends with success or an error, in time; what is there
//! is whole; and once the storage is well again, so is everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dbvault_format::config::RepoParams;
use dbvault_format::entry::Grid;
use dbvault_repo::{Error, Repository};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::faulty_storage::{CallKind, Fault, FaultError, FaultMoment, FaultSpan, FaultyStorage};

use crate::common::*;

/// The errors that a disk, a share or a limit gives.
const ERRORS: [FaultError; 5] = [
    FaultError::NoSpace,
    FaultError::InputOutput,
    FaultError::PermissionDenied,
    FaultError::ReadOnly,
    FaultError::TooManyOpenFiles,
];

/// No work here takes longer than a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// Work that is done over and over, over a fresh copy of the same storage.
struct Work {
    what: &'static str,
    before: MemoryStorage,
    expected: Expected,
    /// The archive that the work makes, if it does.
    makes: Option<(&'static str, Streams)>,
    run: fn(FaultyStorage, &std::path::Path) -> Result<()>,
}

fn data(seed: u64) -> Streams {
    streams(&[("noise", &noise(100 << 10, seed)), ("text", &text(70 << 10, seed))])
}

/// All faults: every call of every kind, and what it does to them. The errors take turns, so that each meets
/// each kind of call, but not each call.
fn faults(counts: [u64; 6]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (kind, count) in CallKind::ALL.into_iter().zip(counts) {
        // Most lists are those of the shards of packs, one like the other.
        let step = if count > 60 { 7 } else { 1 };
        for nth in (1..=count).step_by(step) {
            for span in [FaultSpan::Once, FaultSpan::Forever] {
                for moment in [FaultMoment::Before, FaultMoment::After] {
                    let error = ERRORS[faults.len() % ERRORS.len()];
                    faults.push(Fault { call: Some(kind), nth, error, span, moment });
                }
            }
        }
    }
    faults
}

/// Runs `work` once without a fault, then with each. Gives how many runs there were.
fn fail_everywhere(work: Work) {
    let storage = FaultyStorage::new(Arc::new(work.before.duplicate()));
    let cache = temporary_dir();
    (work.run)(storage.clone(), cache.path()).unwrap();
    let faults = faults(CallKind::ALL.map(|kind| storage.calls_count(Some(kind))));
    let (runs, failed, reached) = (faults.len(), AtomicUsize::new(0), AtomicUsize::new(0));
    in_parallel(faults, |fault| {
        let (injected, result) = fail_once(&work, fault);
        reached.fetch_add(usize::from(injected > 0), Ordering::Relaxed);
        failed.fetch_add(usize::from(result), Ordering::Relaxed);
    });
    let (failed, reached) = (failed.into_inner(), reached.into_inner());
    println!("{}: {runs} runs, {reached} with a fault, {failed} failed", work.what);
    // Threads take turns: a call that was the last in one run may not be there in another.
    assert!(reached * 10 >= runs * 9);
}

fn fail_once(work: &Work, fault: Fault) -> (u64, bool) {
    let what = format!("{}: {fault:?}", work.what);
    let (inner, cache) = (work.before.duplicate(), Arc::new(temporary_dir()));
    let storage = FaultyStorage::new(Arc::new(inner.clone()));
    storage.arm(fault);
    let (faulty, run, place) = (storage.clone(), work.run, cache.clone());
    let result = within(LIMIT, &what, move || run(faulty, place.path()));
    let injected = storage.injected_count();
    assert!(injected > 0 || result.is_ok(), "{what}: {result:?} without a fault");
    // Poisoned says that something else has gone wrong before: that should have been told.
    assert!(!matches!(result, Err(Error::Poisoned)), "{what}: the error is lost");
    storage.disarm();
    assert_well(work, inner, cache.path(), result.is_ok()).unwrap_or_else(|e| panic!("{what}: {e}"));
    (injected, result.is_err())
}

/// Whether all is as it should be after a fault, and a backup works. `done`: the work ended well.
fn assert_well(
    work: &Work,
    storage: MemoryStorage,
    cache: &std::path::Path,
    done: bool,
) -> Result<(), String> {
    let repo = match open(storage.clone(), cache) {
        Ok(repo) => repo,
        Err(Error::NoRepository { .. }) if !done && work.expected.is_empty() => init(storage, cache),
        Err(e) => return Err(format!("does not open: {e:?}")),
    };
    let mut expected = work.expected.clone();
    let mut optional = None;
    if let Some((name, streams)) = &work.makes {
        expected.insert((*name).to_owned(), streams.clone());
        optional = (!done).then_some(*name);
    }
    let there = compare(&repo, &expected, optional)?;
    if let (Some(name), false) = (optional, there) {
        expected.remove(name);
    }
    findings(&repo)?;
    let next = work.makes.as_ref().map_or_else(|| data(9), |(_, streams)| streams.clone());
    backup(&repo, "next", &next).map_err(|e| format!("next backup: {e:?}"))?;
    expected.insert("next".into(), next);
    compare(&repo, &expected, None)?;
    Ok(())
}

fn one_archive() -> (MemoryStorage, Expected) {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    backup(&repo, "old", &data(1)).unwrap();
    (storage, [("old".to_owned(), data(1))].into())
}

#[test]
fn init_with_every_call_failing() {
    let run = |storage: FaultyStorage, cache: &std::path::Path| {
        let (client, secret) = (client(cache), secret(1));
        Repository::init(Arc::new(storage), client, small_params(), &secret, "first").map(drop)
    };
    let (before, expected) = (MemoryStorage::new(), Expected::new());
    fail_everywhere(Work { what: "init", before, expected, makes: None, run });
}

#[test]
fn a_first_backup_with_every_call_failing() {
    let (dir, before) = (temporary_dir(), MemoryStorage::new());
    drop(init(before.clone(), dir.path()));
    let run = |storage: FaultyStorage, cache: &std::path::Path| {
        backup(&open(storage, cache)?, "now", &data(2)).map(drop)
    };
    let makes = Some(("now", data(2)));
    fail_everywhere(Work { what: "first backup", before, expected: Expected::new(), makes, run });
}

#[test]
fn a_backup_that_reuses_and_adopts_with_every_call_failing() {
    let (before, expected) = one_archive();
    let dir = temporary_dir();
    suspend(&open(before.clone(), dir.path()).unwrap(), "interrupted", &data(3));
    fn today() -> Streams {
        let mut today = data(3);
        today.insert("old".into(), edited(&data(1)["text"], 3, 1));
        today
    }
    let run = |storage: FaultyStorage, cache: &std::path::Path| {
        backup(&open(storage, cache)?, "now", &today()).map(drop)
    };
    let makes = Some(("now", today()));
    fail_everywhere(Work { what: "adopting backup", before, expected, makes, run });
}

#[test]
fn a_delete_and_an_undelete_with_every_call_failing() {
    let (before, expected) = one_archive();
    let run = |storage: FaultyStorage, cache: &std::path::Path| {
        let repo = open(storage, cache)?;
        let id = repo.find_archive("old")?.manifest.id;
        repo.delete_archive(&id)?;
        repo.undelete_archive(&id)
    };
    fail_everywhere(Work { what: "delete and undelete", before, expected, makes: None, run });
}

#[test]
fn reading_and_checking_with_every_call_failing() {
    let (before, expected) = one_archive();
    let run = |storage: FaultyStorage, cache: &std::path::Path| {
        let repo = open(storage, cache)?;
        let manifest = repo.find_archive("latest")?.manifest;
        let reader = reader(&repo)?;
        for entry in reader.entries(&manifest)? {
            let mut bytes = Vec::new();
            let mut stream = reader.open_stream(&entry.stream)?;
            if let Err(e) = std::io::Read::read_to_end(&mut stream, &mut bytes) {
                return Err(e.downcast::<Error>().expect("an error of the engine"));
            }
            assert!(bytes == data(1)[&entry.meta.name], "wrong bytes, and no error");
        }
        check(&repo).map(drop)
    };
    fail_everywhere(Work { what: "reading", before, expected, makes: None, run });
}

#[test]
fn key_changes_with_every_call_failing() {
    let (before, expected) = one_archive();
    let run = |storage: FaultyStorage, cache: &std::path::Path| {
        let repo = open(storage, cache)?;
        let id = repo.add_key(&secret(2), "second")?;
        repo.remove_key(&id)
    };
    fail_everywhere(Work { what: "key changes", before, expected, makes: None, run });
}

/// What is put as the archive is there, but the reply is lost.
#[test]
fn a_commit_whose_reply_is_lost_is_a_success() {
    let (storage, cache) = (FaultyStorage::new(Arc::new(MemoryStorage::new())), temporary_dir());
    let params = RepoParams { packs_open: 1, ..small_params() };
    let repo = init_on(Arc::new(storage.clone()), cache.path(), params);
    let mut txn = begin(&repo, "now").unwrap();
    add(&mut txn, "text", Grid::Content, &mut &text(5000, 4)[..]).unwrap();
    let error = FaultError::InputOutput;
    // A pack, a segment, the archive.
    let (span, moment) = (FaultSpan::Once, FaultMoment::After);
    storage.arm(Fault { call: Some(CallKind::Put), nth: 3, error, span, moment });
    txn.commit().unwrap();
    assert_eq!((storage.injected_count(), storage.calls_count(Some(CallKind::Put))), (1, 3));
    storage.disarm();
    let expected = [("now".to_owned(), streams(&[("text", &text(5000, 4))]))].into();
    assert!(assert_archives(&repo, &expected, None));
    assert_clean(&repo);
}

/// A caller that goes on after an error: what one worker claimed and then could not store must not be counted
/// as stored for another entry.
#[test]
fn a_backup_that_goes_on_after_an_error_does_not_commit() {
    let (before, expected) = one_archive();
    let mut failed = 0;
    for nth in 1..10 {
        let (storage, cache) = (FaultyStorage::new(Arc::new(before.duplicate())), temporary_dir());
        let repo = open(storage.clone(), cache.path()).unwrap();
        let mut txn = begin(&repo, "now").unwrap();
        let (error, span, moment) = (FaultError::Stale, FaultSpan::Once, FaultMoment::Before);
        storage.arm(Fault { call: None, nth, error, span, moment });
        // The storage is asked whether the pack of a base is there, for a chunk that is claimed.
        let today = edited(&data(1)["text"], 30, 1);
        let first = add(&mut txn, "first", Grid::Content, &mut &today[..]);
        storage.disarm();
        if first.is_err() {
            // Storing may have ended with the error; whether or not, there is no commit.
            let second = add(&mut txn, "second", Grid::Content, &mut &today[..]);
            assert!(matches!(second, Ok(()) | Err(Error::Poisoned)), "call {nth}: {second:?}");
            assert!(txn.commit().is_err(), "call {nth}");
            failed += 1;
        }
        assert_archives(&repo, &expected, None);
        assert_clean(&repo);
    }
    assert!(failed > 0);
}
