//! Every flush is needed: without it there is a crash that breaks a promise, which the same examination finds
//! that finds nothing wrong as long as all flushes are there.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbvault_storage::{Key, MemoryStorage, ObjectMeta, Result, Storage};
use dbvault_testkit::crashing_storage::{CrashStateChoice, CrashingStorage};

use crate::common::{Expected, Streams, backup, open, temporary_dir};
use crate::crash::{Story, small, two_archives};

/// Passes all calls on but one flush.
#[derive(Clone, Debug)]
struct Forgetful {
    inner: CrashingStorage,
    /// Flushes so far.
    count: Arc<AtomicUsize>,
    /// Which one does nothing, beginning with 1.
    forgotten: usize,
}

impl Storage for Forgetful {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()> {
        self.inner.put_new(key, body)
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        self.inner.get(key, range)
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        self.inner.size(key)
    }

    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, each)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key)
    }

    fn flush(&self) -> Result<()> {
        match self.count.fetch_add(1, Ordering::SeqCst) + 1 == self.forgotten {
            true => Ok(()),
            false => self.inner.flush(),
        }
    }
}

/// A backup over a storage that forgets one flush: how many there were, and what is wrong after which crash.
fn forget(
    before: &MemoryStorage,
    expected: &Expected,
    data: &Streams,
    forgotten: usize,
) -> (usize, Option<String>) {
    let (cache, inner) = (temporary_dir(), CrashingStorage::starting_from(before));
    let storage = Forgetful { inner: inner.clone(), count: Arc::default(), forgotten };
    let repo = open(storage.clone(), cache.path()).unwrap();
    backup(&repo, "now", data).unwrap();
    let story = Story {
        done: inner.operations().len(),
        storage: inner,
        expected: expected.clone(),
        current: Some(("now".into(), data.clone())),
        cache,
    };
    let choice = CrashStateChoice { exhaustive_operations_max: 0, random_subsets_count: 2, seed: 3 };
    let wrong = story.storage.crash_states(choice).find_map(|state| {
        let cache = temporary_dir();
        let problem = story.examine(&state, cache.path(), 0).err()?;
        Some(format!("after {} operations, kept {:?}: {problem}", state.prefix_len, state.kept))
    });
    (storage.count.load(Ordering::SeqCst), wrong)
}

#[test]
fn a_backup_without_one_of_its_flushes_is_found_out() {
    let (before, expected) = two_archives();
    let data = small(5);
    let (count, wrong) = forget(&before, &expected, &data, 0);
    assert_eq!(wrong, None, "with all flushes");
    assert_eq!(count, 4, "registration, packs, segments, archive");
    // The registration is for collectors only, which are told of it in time. The flush of the packs before their
    // segment keeps others from looking for packs that a crash took away; no archive needs it, for the next flush
    // comes before the archive. Both are held by the order of writes.
    let needed = [
        (3, "the archive is there, and its segments are not", "now"),
        (4, "the backup has said that it is done, and the archive is gone", "archives lost"),
    ];
    for (forgotten, what, sign) in needed {
        let (_, wrong) = forget(&before, &expected, &data, forgotten);
        let wrong = wrong.unwrap_or_else(|| panic!("nobody misses flush {forgotten}: {what}"));
        println!("without flush {forgotten}, {wrong}");
        assert!(wrong.contains(sign), "{wrong}");
    }
}

#[test]
fn a_delete_without_its_flush_is_found_out() {
    let (before, _) = two_archives();
    for (forgotten, durable) in [(0, true), (1, false)] {
        let (cache, inner) = (temporary_dir(), CrashingStorage::starting_from(&before));
        let storage = Forgetful { inner: inner.clone(), count: Arc::default(), forgotten };
        let repo = open(storage, cache.path()).unwrap();
        repo.delete_archive(&repo.find_archive("old").unwrap().manifest.id).unwrap();
        let after = inner.state_at(inner.operations().len(), &|_| false);
        let deleted = open(after, cache.path()).unwrap().find_archive("old").unwrap().deleted_ms;
        assert_eq!(deleted.is_some(), durable);
    }
}
