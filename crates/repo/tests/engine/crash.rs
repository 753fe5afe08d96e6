//! Every state that a crash can leave: earlier archives are whole, the current one is whole or absent, a check
//! finds nothing, and the next backup works as it stands, even if it crashes itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbvault_format::entry::Grid;
use dbvault_repo::Repository;
use dbvault_storage::MemoryStorage;
use dbvault_testkit::crashing_storage::{CrashState, CrashStateChoice, CrashingStorage};
use tempfile::TempDir;

use crate::common::*;

/// States of the recovery that are tried, one in so many.
const NESTED_ONE_IN: usize = 4;

/// Work that ran to its end over a storage that knows all its crashes.
pub(crate) struct Story {
    pub(crate) storage: CrashingStorage,
    /// What must be there after any crash.
    pub(crate) expected: Expected,
    /// The archive that came to be, if the work was a backup.
    pub(crate) current: Option<(String, Streams)>,
    /// Operations until the work returned: from then on the archive must be there.
    pub(crate) done: usize,
    /// The cache as the work left it, which the crash of a storage elsewhere does not touch.
    pub(crate) cache: TempDir,
}

impl Story {
    /// Runs `work` over what `before` holds.
    pub(crate) fn tell(
        before: &MemoryStorage,
        expected: &Expected,
        current: Option<(&str, &Streams)>,
        work: impl FnOnce(&Repository),
    ) -> Story {
        let (cache, storage) = (temporary_dir(), CrashingStorage::starting_from(before));
        let repo = open(storage.clone(), cache.path()).unwrap();
        work(&repo);
        let done = storage.operations().len();
        let current = current.map(|(name, streams)| (name.to_owned(), streams.clone()));
        Story { storage, expected: expected.clone(), current, done, cache }
    }

    /// All that may be there in a crash state, and what of it may be absent.
    fn possible(&self, prefix_len: usize) -> (Expected, Option<&str>) {
        let mut expected = self.expected.clone();
        let mut optional = None;
        if let Some((name, streams)) = &self.current {
            expected.insert(name.clone(), streams.clone());
            optional = (prefix_len < self.done).then_some(name.as_str());
        }
        (expected, optional)
    }

    /// What is wrong in a state, before and after another backup over it. With `depth`, that one crashes too.
    pub(crate) fn examine(&self, state: &CrashState, cache: &Path, depth: usize) -> Result<(), String> {
        let (mut expected, optional) = self.possible(state.prefix_len);
        let storage = CrashingStorage::starting_from(&state.storage);
        let repo = open(storage.clone(), cache).map_err(|e| format!("does not open: {e:?}"))?;
        let there = compare(&repo, &expected, optional)?;
        findings(&repo)?;
        if let (Some(name), false) = (optional, there) {
            expected.remove(name);
        }
        let next = self.current.as_ref().map_or_else(|| small(9), |(_, streams)| streams.clone());
        let manifest = backup(&repo, "next", &next).map_err(|e| format!("next backup: {e:?}"))?;
        if there && self.current.is_some() && manifest.sizes.new_chunks > 0 {
            return Err(format!("{} chunks of an archive are stored again", manifest.sizes.new_chunks));
        }
        let done = storage.operations().len();
        let before = expected.clone();
        expected.insert("next".into(), next.clone());
        compare(&repo, &expected, None)?;
        findings(&repo)?;
        if depth == 0 {
            return Ok(());
        }
        let current = Some(("next".to_owned(), next));
        let story = Story { storage, expected: before, current, done, cache: temporary_dir() };
        let choice = CrashStateChoice { exhaustive_operations_max: 1, random_subsets_count: 1, seed: 7 };
        story.storage.crash_states(choice).step_by(5).try_for_each(|state| {
            let cache = temporary_dir();
            STATES.fetch_add(1, Ordering::Relaxed);
            story.examine_again(&state, cache.path())
        })
    }

    /// After a crash of the recovery: yet another backup under another name.
    fn examine_again(&self, state: &CrashState, cache: &Path) -> Result<(), String> {
        let (mut expected, optional) = self.possible(state.prefix_len);
        let repo = open(state.storage.clone(), cache).map_err(|e| format!("does not open: {e:?}"))?;
        let there = compare(&repo, &expected, optional)?;
        findings(&repo)?;
        if let (Some(name), false) = (optional, there) {
            expected.remove(name);
        }
        backup(&repo, "last", &small(3)).map_err(|e| format!("last backup: {e:?}"))?;
        expected.insert("last".into(), small(3));
        compare(&repo, &expected, None).map(|_| ())
    }

    /// Examines all states, every other one with the cache that the work has left.
    fn examine_all(&self, what: &str) {
        let choice = CrashStateChoice { exhaustive_operations_max: 5, random_subsets_count: 12, seed: 1 };
        let states: Vec<CrashState> = self.storage.crash_states(choice).collect();
        println!("{what}: {} states, {} operations", states.len(), self.done);
        in_parallel(states.iter().enumerate(), |(number, state)| {
            let cache = temporary_dir();
            if number % 2 == 0 {
                copy_dir(self.cache.path(), cache.path());
            }
            STATES.fetch_add(1, Ordering::Relaxed);
            let depth = usize::from(number % NESTED_ONE_IN == 0);
            self.examine(state, cache.path(), depth).unwrap_or_else(|e| {
                panic!("{what}: crash after {} operations, kept {:?}: {e}", state.prefix_len, state.kept)
            });
        });
    }
}

/// States that were examined.
static STATES: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn small(seed: u64) -> Streams {
    streams(&[("noise", &noise(130 << 10, seed)), ("text", &text(70 << 10, seed))])
}

/// A repository with two archives.
pub(crate) fn two_archives() -> (MemoryStorage, Expected) {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let expected: Expected = [("old".to_owned(), small(1)), ("other".to_owned(), small(2))].into();
    expected.iter().for_each(|(name, streams)| drop(backup(&repo, name, streams).unwrap()));
    (storage, expected)
}

fn next_day(streams: &Streams) -> Streams {
    streams.iter().map(|(name, bytes)| (name.clone(), edited(bytes, 5, 4))).collect()
}

#[test]
fn a_crash_of_the_first_backup() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    drop(init(storage.clone(), dir.path()));
    let data = small(1);
    Story::tell(&storage, &Expected::new(), Some(("now", &data)), |repo| {
        backup(repo, "now", &data).unwrap();
    })
    .examine_all("first backup");
}

#[test]
fn a_crash_of_an_incremental_and_of_an_identical_backup() {
    let (storage, expected) = two_archives();
    for (what, data) in
        [("incremental backup", next_day(&expected["old"])), ("identical backup", expected["old"].clone())]
    {
        Story::tell(&storage, &expected, Some(("now", &data)), |repo| {
            backup(repo, "now", &data).unwrap();
        })
        .examine_all(what);
    }
}

#[test]
fn a_crash_of_a_backup_that_is_interrupted_and_of_one_that_goes_on_from_it() {
    let (storage, expected) = two_archives();
    let data = small(5);
    Story::tell(&storage, &expected, None, |repo| {
        suspend(repo, "now", &data);
    })
    .examine_all("interrupted backup");
    let dir = temporary_dir();
    suspend(&open(storage.clone(), dir.path()).unwrap(), "now", &data);
    Story::tell(&storage, &expected, Some(("now", &data)), |repo| {
        backup(repo, "now", &data).unwrap();
    })
    .examine_all("resumed backup");
}

#[test]
fn a_crash_of_a_delete_and_of_an_undelete() {
    let (storage, expected) = two_archives();
    let dir = temporary_dir();
    let id = open(storage.clone(), dir.path()).unwrap().find_archive("old").unwrap().manifest.id;
    let story = Story::tell(&storage, &expected, None, |repo| {
        repo.delete_archive(&id).unwrap();
        repo.undelete_archive(&id).unwrap();
        repo.delete_archive(&id).unwrap();
    });
    story.examine_all("delete and undelete");
    let state = story.storage.state_at(story.done, &|_| false);
    let deleted = open(state, dir.path()).unwrap().find_archive("old").unwrap().deleted_ms;
    assert!(deleted.is_some(), "what is done is durable");
}

#[test]
fn a_crash_of_changes_to_key_slots() {
    let (storage, expected) = two_archives();
    let story = Story::tell(&storage, &expected, None, |repo| {
        let second = repo.add_key(&secret(2), "second").unwrap();
        repo.remove_key(&second).unwrap();
        repo.add_key(&secret(3), "third").unwrap();
    });
    story.examine_all("key slots");
    // The slot that a repository is opened with goes: at any time one of the two secrets opens.
    let story = Story::tell(&storage, &expected, None, |repo| {
        repo.replace_key(&secret(4)).unwrap();
    });
    let choice = CrashStateChoice::default();
    for state in story.storage.crash_states(choice) {
        let cache = temporary_dir();
        let open = |byte| {
            Repository::open(Arc::new(state.storage.clone()), client(cache.path()), &secret(byte)).ok()
        };
        let repo = open(4).or_else(|| open(1)).expect("one of the two opens");
        assert!(state.prefix_len < story.done || open(1).is_none(), "the old one is gone in the end");
        findings(&repo).unwrap();
        compare(&repo, &expected, None).unwrap();
    }
}

#[test]
fn a_crash_of_init_and_of_the_init_after_it() {
    let (cache, storage) = (temporary_dir(), CrashingStorage::new());
    drop(init(storage.clone(), cache.path()));
    let choice = CrashStateChoice { exhaustive_operations_max: 10, ..CrashStateChoice::default() };
    for first in storage.crash_states(choice) {
        let storage = CrashingStorage::starting_from(&first.storage);
        let repo = match open(storage.clone(), cache.path()) {
            Ok(repo) => repo,
            Err(_) => init(storage.clone(), cache.path()),
        };
        assert_clean(&repo);
        assert_eq!(repo.key_slots().unwrap().len(), 1, "no slot is left of what never came to be");
        for second in storage.crash_states(choice) {
            let repo = match open(second.storage.clone(), cache.path()) {
                Ok(repo) => repo,
                Err(_) => init(second.storage.clone(), cache.path()),
            };
            backup_on(&repo, "now", Grid::Content, &small(1)).unwrap();
            assert_archives(&repo, &[("now".to_owned(), small(1))].into(), None);
        }
    }
}
