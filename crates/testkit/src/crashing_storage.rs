//! What can a crash leave behind? Every answer, as a storage to recover from.
//!
//! The work runs once over a [`CrashingStorage`], which keeps the log of all that changed. Each state that
//! a crash could leave follows from the log: all before the last flush is there, and of what came after
//! it any part may be. An object is whole or absent, never torn, as every storage promises: the local
//! one syncs the bytes before it makes the name.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use dbvault_storage::{Key, ObjectMeta, Result, Storage};
use parking_lot::Mutex;

pub use dbvault_storage::MemoryStorage;

/// One change, or the barrier that makes earlier changes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An object was made.
    Put {
        /// Its name.
        key: Key,
        /// Its bytes.
        bytes: Arc<[u8]>,
    },
    /// An object that was there was removed.
    Delete {
        /// Its name.
        key: Key,
    },
    /// [`Storage::flush`] returned.
    Flush,
}

/// Objects in memory, with the log of their changes. A clone shares both.
///
/// Calls that change nothing are not logged: reads, failed puts, deletes of what is absent.
#[derive(Clone, Debug)]
pub struct CrashingStorage {
    initial: MemoryStorage,
    live: MemoryStorage,
    log: Arc<Mutex<Vec<Operation>>>,
}

impl CrashingStorage {
    /// A storage without objects.
    pub fn new() -> CrashingStorage {
        CrashingStorage::starting_from(&MemoryStorage::new())
    }

    /// A storage that holds the objects of `initial`, all of them durable. `initial` itself never changes.
    /// Starting from a state that a crash left, a crash of the recovery can be tried too.
    pub fn starting_from(initial: &MemoryStorage) -> CrashingStorage {
        CrashingStorage { initial: initial.duplicate(), live: initial.duplicate(), log: Arc::default() }
    }

    /// All changes and flushes so far, in order.
    pub fn operations(&self) -> Vec<Operation> {
        self.log.lock().clone()
    }

    /// The storage as found after a crash that followed the first `prefix_len` operations. Of the puts and
    /// deletes after the last flush among them those survived for whose place in the log `keep` holds;
    /// it is asked about no others. Panics if there are fewer than `prefix_len` operations.
    pub fn state_at(&self, prefix_len: usize, keep: &dyn Fn(usize) -> bool) -> MemoryStorage {
        state_after(&self.initial, &self.log.lock()[..prefix_len], keep)
    }

    /// All crash states of the operations so far that `choice` asks for, each once, in order of the
    /// operations. Operations logged later are not looked at.
    pub fn crash_states(&self, choice: CrashStateChoice) -> CrashStates {
        CrashStates {
            initial: self.initial.duplicate(),
            log: self.operations(),
            choice,
            next_prefix_len: 0,
            subsets: VecDeque::new(),
            seen: HashSet::new(),
        }
    }
}

impl Default for CrashingStorage {
    fn default() -> CrashingStorage {
        CrashingStorage::new()
    }
}

impl Storage for CrashingStorage {
    fn location(&self) -> String {
        "memory that crashes".to_owned()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()> {
        let bytes = body.concat();
        // Locked over both, so that the log has the order in which things happened.
        let mut log = self.log.lock();
        self.live.put_new(key, &[&bytes])?;
        let bytes = self.live.read_raw(key.as_str()).expect("put above, and deletes wait for the lock");
        log.push(Operation::Put { key: key.clone(), bytes });
        Ok(())
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        self.live.get(key, range)
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        self.live.size(key)
    }

    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.live.list(prefix, each)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let mut log = self.log.lock();
        if self.live.remove_raw(key.as_str()) {
            log.push(Operation::Delete { key: key.clone() });
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.log.lock().push(Operation::Flush);
        Ok(())
    }
}

/// Where the operations begin that no flush in `operations` covers.
fn unflushed_start(operations: &[Operation]) -> usize {
    operations.iter().rposition(|operation| *operation == Operation::Flush).map_or(0, |flush| flush + 1)
}

fn state_after(
    initial: &MemoryStorage,
    operations: &[Operation],
    keep: &dyn Fn(usize) -> bool,
) -> MemoryStorage {
    let state = initial.duplicate();
    let start = unflushed_start(operations);
    for (place, operation) in operations.iter().enumerate() {
        if place >= start && !keep(place) {
            continue;
        }
        match operation {
            // A put may survive although the delete before it did not: its bytes are the newer ones.
            Operation::Put { key, bytes } => state.replace_raw(key.as_str(), Arc::clone(bytes)),
            Operation::Delete { key } => drop(state.remove_raw(key.as_str())),
            Operation::Flush => {}
        }
    }
    state
}

/// Which subsets of the unflushed operations survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashStateChoice {
    /// With at most this many unflushed operations, every subset is tried; above
    /// [`EXHAUSTIVE_OPERATIONS_MAX`] it counts as that. With more: none kept, all kept, each single one
    /// lost, each single one kept, and `random_subsets_count` more.
    pub exhaustive_operations_max: usize,
    /// How many random subsets are tried per prefix of the log.
    pub random_subsets_count: usize,
    /// What the random subsets follow from: the same seed and log give the same states.
    pub seed: u64,
}

/// Upper limit of [`CrashStateChoice::exhaustive_operations_max`]: 65,536 subsets.
pub const EXHAUSTIVE_OPERATIONS_MAX: usize = 16;

impl Default for CrashStateChoice {
    /// Every subset of up to 5 operations, else 8 random ones.
    fn default() -> CrashStateChoice {
        CrashStateChoice { exhaustive_operations_max: 5, random_subsets_count: 8, seed: 0 }
    }
}

/// A storage as a crash left it, and which crash that was.
#[derive(Clone, Debug)]
pub struct CrashState {
    /// The crash followed this many operations.
    pub prefix_len: usize,
    /// Places in the log of the unflushed operations that survived, ascending.
    pub kept: Vec<usize>,
    /// What was found.
    pub storage: MemoryStorage,
}

/// The states of [`CrashingStorage::crash_states`].
///
/// A crash that loses the newest operations leaves what an earlier crash left. Such a state is given for
/// the earlier one only.
#[derive(Debug)]
pub struct CrashStates {
    initial: MemoryStorage,
    log: Vec<Operation>,
    choice: CrashStateChoice,
    /// The prefix to go on with when `subsets` is used up.
    next_prefix_len: usize,
    /// What is still to be given of the prefix before that one.
    subsets: VecDeque<Vec<usize>>,
    /// The subsets given since the last flush.
    seen: HashSet<Vec<usize>>,
}

impl CrashStates {
    fn plan_prefix(&mut self) {
        let prefix_len = self.next_prefix_len;
        self.next_prefix_len += 1;
        let start = unflushed_start(&self.log[..prefix_len]);
        if start == prefix_len {
            self.seen.clear();
        }
        for subset in subsets(start..prefix_len, &self.choice) {
            if self.seen.insert(subset.clone()) {
                self.subsets.push_back(subset);
            }
        }
    }
}

impl Iterator for CrashStates {
    type Item = CrashState;

    fn next(&mut self) -> Option<CrashState> {
        while self.subsets.is_empty() && self.next_prefix_len <= self.log.len() {
            self.plan_prefix();
        }
        let kept = self.subsets.pop_front()?;
        let prefix_len = self.next_prefix_len - 1;
        let keep = |place: usize| kept.binary_search(&place).is_ok();
        let storage = state_after(&self.initial, &self.log[..prefix_len], &keep);
        Some(CrashState { prefix_len, kept, storage })
    }
}

/// The subsets of `places` that `choice` asks for; some may be given twice.
fn subsets(places: Range<usize>, choice: &CrashStateChoice) -> Vec<Vec<usize>> {
    let chosen = |keep: &dyn Fn(usize) -> bool| places.clone().filter(|place| keep(*place)).collect();
    let count = places.len();
    if count <= choice.exhaustive_operations_max.min(EXHAUSTIVE_OPERATIONS_MAX) {
        return (0..1u32 << count)
            .map(|mask| chosen(&|place| mask >> (place - places.start) & 1 == 1))
            .collect();
    }
    let mut subsets = vec![Vec::new(), places.clone().collect()];
    subsets.extend(places.clone().map(|lost| chosen(&|place| place != lost)));
    subsets.extend(places.clone().map(|kept| vec![kept]));
    for number in 0..choice.random_subsets_count as u64 {
        let seed = mix(mix(choice.seed ^ mix(places.end as u64)) ^ number);
        subsets.push(chosen(&|place| mix(seed ^ place as u64) & 1 == 1));
    }
    subsets
}

/// Spreads every bit of `value` over the whole result (the finisher of the SplitMix64 generator).
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_conformance::conformance;

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    /// put a, flush, put b, delete a, put c.
    fn example() -> CrashingStorage {
        let storage = CrashingStorage::new();
        storage.put_new(&key("a"), &[b"1"]).unwrap();
        storage.flush().unwrap();
        storage.put_new(&key("b"), &[b"2"]).unwrap();
        storage.delete(&key("a")).unwrap();
        storage.put_new(&key("c"), &[b"3"]).unwrap();
        storage
    }

    #[test]
    fn until_it_crashes_it_is_a_storage() {
        conformance(&|| Box::new(CrashingStorage::new()));
    }

    #[test]
    fn what_was_flushed_survives_and_the_rest_as_chosen() {
        let storage = example();
        let names =
            |prefix_len, keep: &dyn Fn(usize) -> bool| storage.state_at(prefix_len, keep).object_names();
        assert_eq!(names(5, &|_| true), ["b", "c"]);
        assert_eq!(names(5, &|_| false), ["a"]);
        assert_eq!(names(5, &|place| place == 4), ["a", "c"]);
        assert_eq!(names(5, &|place| place == 3), [""; 0]);
        assert_eq!(names(1, &|_| false), [""; 0]);
        assert_eq!(names(2, &|_| false), ["a"]);
        assert_eq!(names(0, &|_| true), [""; 0]);
    }

    #[test]
    fn states_share_nothing_with_the_storage() {
        let storage = example();
        let state = storage.state_at(5, &|_| true);
        state.replace_raw("b", *b"damaged");
        storage.delete(&key("c")).unwrap();
        assert_eq!(storage.get(&key("b"), None).unwrap(), b"2");
        assert_eq!(state.object_names(), ["b", "c"]);
    }

    #[test]
    fn only_changes_are_logged() {
        let storage = example();
        let logged = storage.operations().len();
        storage.put_new(&key("b"), &[]).unwrap_err();
        storage.delete(&key("absent")).unwrap();
        storage.get(&key("b"), None).unwrap();
        assert_eq!(storage.operations().len(), logged);
    }

    #[test]
    fn a_recovery_can_crash_too() {
        let first = example().state_at(5, &|place| place == 2);
        let recovery = CrashingStorage::starting_from(&first);
        recovery.delete(&key("b")).unwrap();
        assert_eq!(recovery.state_at(1, &|_| false).object_names(), ["a", "b"]);
        assert_eq!(recovery.state_at(1, &|_| true).object_names(), ["a"]);
        assert_eq!(first.object_names(), ["a", "b"]);
    }

    #[test]
    fn exhaustive_states_are_all_subsets_each_once() {
        let choice = CrashStateChoice { exhaustive_operations_max: 10, ..CrashStateChoice::default() };
        let kept: Vec<(usize, Vec<usize>)> =
            example().crash_states(choice).map(|state| (state.prefix_len, state.kept)).collect();
        // Two states before the flush, and all eight subsets of three operations after it.
        assert_eq!(kept.len(), 2 + 8);
        assert_eq!(kept[..4], [(0, vec![]), (1, vec![0]), (2, vec![]), (3, vec![2])]);
        assert_eq!(kept.iter().collect::<HashSet<_>>().len(), kept.len());
    }

    #[test]
    fn long_logs_give_singles_and_random_subsets_from_the_seed() {
        let storage = CrashingStorage::new();
        for n in 0..20 {
            storage.put_new(&key(&format!("{n}")), &[b"x"]).unwrap();
        }
        let kept = |seed| -> Vec<Vec<usize>> {
            let choice = CrashStateChoice { exhaustive_operations_max: 0, random_subsets_count: 6, seed };
            storage.crash_states(choice).map(|state| state.kept).collect()
        };
        let states = kept(1);
        assert_eq!(states, kept(1));
        assert_ne!(states, kept(2));
        let all: HashSet<Vec<usize>> = states.iter().cloned().collect();
        assert_eq!(all.len(), states.len(), "each once");
        for place in 0..20 {
            assert!(all.contains(&vec![place]), "only {place} kept");
            let lost: Vec<usize> = (0..20).filter(|other| *other != place).collect();
            assert!(all.contains(&lost), "only {place} lost");
        }
        assert!(all.contains(&vec![]) && all.contains(&(0..20).collect::<Vec<_>>()));
        assert!(states.len() > 20 * 6, "random subsets too");
    }
}
