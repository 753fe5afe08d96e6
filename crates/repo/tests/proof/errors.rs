//! Calls of the storage that fail, each in turn, once and for ever, before and after their effect: a command ends
//! with an error or well, in time; what is there is whole; the next commands work once the storage is well again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dbvault_repo::scripted::keep_indexes_in_memory;
use dbvault_repo::{Error, Repository};
use dbvault_storage::{MemoryStorage, Storage};
use dbvault_testkit::crashing_storage::CrashState;
use dbvault_testkit::faulty_storage::{CallKind, Fault, FaultError, FaultMoment, FaultSpan, FaultyStorage};
use dbvault_testkit::tier::{either, seed};
use tempfile::TempDir;

use crate::common::*;
use crate::eye::Eye;
use crate::ledger::Ledger;
use crate::story::Story;
use crate::tally::Tally;
use crate::worlds::*;

/// No command here takes longer than a second or two on a machine with nothing else to do.
const LIMIT: Duration = Duration::from_secs(120);

/// One fault in so many is followed by another one in the same command, run again.
const SECOND_ONE_IN: usize = 5;

/// Of the calls that fail, one in so many does so to a command with its index on the disk.
const ON_DISK_ONE_IN: u64 = 4;

/// After one fault in so many, all the next commands are run.
const RECOVERY_ONE_IN: usize = 8;

/// Calls of a kind from which on only some fail in the quick tier: most of them list the shards of packs, one like
/// the other.
const CALLS_ALIKE_MIN: u64 = 100;

type Command = fn(Arc<dyn Storage>, &Path) -> Result<()>;

/// A command that is run over and over, over fresh copies of the same storage.
struct Work {
    what: &'static str,
    world: World,
    /// The archive that it makes.
    makes: Option<(&'static str, Streams)>,
    /// The archive that it takes.
    takes: Option<&'static str>,
    /// Any of these may open the repository.
    secrets: &'static [u8],
    makes_repository: bool,
    run: Command,
}

impl Work {
    fn new(what: &'static str, world: World, run: Command) -> Work {
        Work { what, world, makes: None, takes: None, secrets: &[1], makes_repository: false, run }
    }

    /// What must hold once the command has ended, well (`done`) or not.
    fn ended(&self, done: bool, cache: TempDir) -> Story {
        let mut ledger = Ledger::of(&self.world.expected);
        if let Some((name, streams)) = &self.makes {
            ledger.insert(name, streams, if done { 1 } else { usize::MAX });
        }
        if let Some(life) = self.takes.and_then(|name| ledger.0.get_mut(name)) {
            (life.there_from, life.there_until) = (usize::MAX, 0);
        }
        let opens_from = if self.makes_repository { 1 + usize::from(!done) } else { 0 };
        Story::ended(ledger, self.secrets.iter().copied().map(secret).collect(), opens_from, cache)
    }
}

/// What was tried.
#[derive(Default)]
struct Counts {
    runs: AtomicUsize,
    injected: AtomicUsize,
    failed: AtomicUsize,
    recoveries: AtomicUsize,
}

/// All faults: every call of every kind, once and for ever, before and after. In the quick tier the errors take
/// turns, three a call.
fn faults(counts: [u64; 6]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (kind, count) in CallKind::ALL.into_iter().zip(counts) {
        let step = if count >= CALLS_ALIKE_MIN { either(23, 3) } else { 1 };
        for nth in (1..=count).step_by(step) {
            for span in [FaultSpan::Once, FaultSpan::Forever] {
                for moment in [FaultMoment::Before, FaultMoment::After] {
                    for _ in 0..either(3, 9) {
                        let error = FaultError::ALL[(faults.len() + seed() as usize) % FaultError::ALL.len()];
                        faults.push(Fault { call: Some(kind), nth, error, span, moment });
                    }
                }
            }
        }
    }
    faults
}

/// Runs the command once without a fault, then with each.
fn fail_everywhere(work: &Work) {
    let storage = FaultyStorage::new(Arc::new(work.world.storage.duplicate()));
    let cache = temporary_dir();
    (work.run)(Arc::new(storage.clone()), cache.path()).unwrap();
    let faults = faults(CallKind::ALL.map(|kind| storage.calls_count(Some(kind))));
    let (tally, counts, next) =
        (Tally::new(format!("errors in {}", work.what)), Counts::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                keep_indexes_in_memory(true);
                let mut eye = Eye::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(fault) = faults.get(number) else { break };
                    if let Err(e) = fail_once(work, *fault, number, &mut eye, &counts) {
                        tally.add(format!("{fault:?}: {e}"));
                    }
                }
            });
        }
    });
    let [runs, injected, failed, recoveries] =
        [counts.runs, counts.injected, counts.failed, counts.recoveries].map(AtomicUsize::into_inner);
    // Threads take turns: a call that was the last in one run may not be there in another.
    assert!(injected * 10 >= runs * 8, "{injected} of {runs} runs met their fault");
    tally.end(&[(injected, "runs with a fault"), (failed, "failed"), (recoveries, "recoveries")]);
}

/// Runs the command with a fault, looks at what is there, and goes on.
fn fail_once(work: &Work, fault: Fault, number: usize, eye: &mut Eye, counts: &Counts) -> Result<(), String> {
    let (inner, cache) = (work.world.storage.duplicate(), Arc::new(temporary_dir()));
    let mut done = run_with(work, fault, &inner, &cache, counts)?;
    if number.is_multiple_of(SECOND_ONE_IN) {
        let mut numbers = Numbers::new(seed() ^ number as u64);
        let call = Some(CallKind::ALL[numbers.below(CallKind::ALL.len())]);
        let second = Fault { call, nth: 1 + numbers.below(20) as u64, ..fault };
        let again = run_with(work, second, &inner, &cache, counts);
        done |= again.map_err(|e| format!("again, {second:?}: {e}"))?;
    }
    let cache = Arc::try_unwrap(cache).map_err(|_| "the command still runs")?;
    let story = work.ended(done, cache);
    let state = CrashState { prefix_len: 1, kept: Vec::new(), storage: inner };
    let found = story.look(&state, eye)?;
    if number.is_multiple_of(RECOVERY_ONE_IN) {
        counts.recoveries.fetch_add(1, Ordering::Relaxed);
        story.recover(&state, &found, number.is_multiple_of(2 * RECOVERY_ONE_IN))?;
    }
    Ok(())
}

/// Gives whether the command ended well.
fn run_with(
    work: &Work,
    fault: Fault,
    inner: &MemoryStorage,
    cache: &Arc<TempDir>,
    counts: &Counts,
) -> Result<bool, String> {
    let storage = FaultyStorage::new(Arc::new(inner.clone()));
    storage.arm(fault);
    let in_memory = !fault.nth.is_multiple_of(ON_DISK_ONE_IN);
    let (faulty, run, place) = (storage.clone(), work.run, cache.clone());
    let result = within(LIMIT, work.what, move || {
        keep_indexes_in_memory(in_memory);
        run(Arc::new(faulty), place.path())
    });
    let injected = storage.injected_count() > 0;
    counts.runs.fetch_add(1, Ordering::Relaxed);
    counts.injected.fetch_add(usize::from(injected), Ordering::Relaxed);
    counts.failed.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
    match &result {
        // Poisoned says that something else has gone wrong before: that should have been told.
        Err(Error::Poisoned) => Err("the error is lost".into()),
        // A second run finds done what it wanted to do.
        Err(Error::NameTaken { .. } | Error::ArchiveState { .. } | Error::RepositoryExists { .. }) => {
            Ok(true)
        }
        Err(Error::NoSuchArchive { .. } | Error::WrongSecret { .. }) => Ok(true),
        Err(e) if !injected => Err(format!("{e:?} without a fault")),
        _ => Ok(result.is_ok()),
    }
}

#[test]
fn init() {
    let run: Command = |storage, cache| {
        let (client, secret) = (client(cache), secret(1));
        Repository::init(storage, client, tiny_params(), &secret, "first").map(drop)
    };
    fail_everywhere(&Work { makes_repository: true, ..Work::new("init", nothing(), run) });
}

#[test]
fn first_backup() {
    let run: Command = |storage, cache| backup(&open_on(storage, cache)?, "now", &data(3)).map(drop);
    fail_everywhere(&Work { makes: Some(("now", data(3))), ..Work::new("first backup", empty(), run) });
}

#[test]
fn incremental_backup() {
    fn today() -> Streams {
        later(&data(1), 5)
    }
    let run: Command = |storage, cache| backup(&open_on(storage, cache)?, "now", &today()).map(drop);
    fail_everywhere(&Work {
        makes: Some(("now", today())),
        ..Work::new("incremental backup", two_archives(), run)
    });
}

#[test]
fn resumed_backup() {
    let run: Command = |storage, cache| backup(&open_on(storage, cache)?, "now", &data(5)).map(drop);
    let world = with_suspended(two_archives(), &data(5));
    fail_everywhere(&Work { makes: Some(("now", data(5))), ..Work::new("resumed backup", world, run) });
}

#[test]
fn delete_and_undelete() {
    let run: Command = |storage, cache| {
        let repo = open_on(storage, cache)?;
        let id = repo.find_archive("old")?.manifest.id;
        repo.delete_archive(&id)?;
        repo.undelete_archive(&id)
    };
    fail_everywhere(&Work::new("delete and undelete", two_archives(), run));
}

#[test]
fn prune() {
    let run: Command = |storage, cache| {
        let repo = open_on(storage, cache)?;
        delete(&repo, "day 0")?;
        collect(&repo).map(drop)
    };
    fail_everywhere(&Work { takes: Some("day 0"), ..Work::new("prune", days(3), run) });
}

#[test]
fn compact() {
    let run: Command = |storage, cache| collect(&open_on(storage, cache)?).map(drop);
    fail_everywhere(&Work::new("compact", with_suspended(two_archives(), &data(5)), run));
}

#[test]
fn second_compact() {
    let run: Command = |storage, cache| collect(&open_on(storage, cache)?).map(drop);
    let world = with_suspended(with_root(days(3), "day 0"), &data(5));
    fail_everywhere(&Work::new("second compact", world, run));
}

#[test]
fn key_slots() {
    let run: Command = |storage, cache| {
        let repo = open_on(storage, cache)?;
        let id = repo.add_key(&secret(2), "second")?;
        repo.remove_key(&id)
    };
    fail_everywhere(&Work::new("key add and remove", two_archives(), run));
}

#[test]
fn change_of_the_secret() {
    let run: Command = |storage, cache| open_on(storage, cache)?.replace_key(&secret(4)).map(drop);
    fail_everywhere(&Work { secrets: &[4, 1], ..Work::new("key change", two_archives(), run) });
}

#[test]
fn reading() {
    let run: Command = |storage, cache| {
        let repo = open_on(storage, cache)?;
        let manifest = repo.find_archive("old")?.manifest;
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
    fail_everywhere(&Work::new("reading and checking", two_archives(), run));
}
