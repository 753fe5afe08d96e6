//! Work that ran to its end over a storage that knows all its crashes, and what must hold after each.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dbvault_format::key_slot::Secret;
use dbvault_repo::scripted::keep_indexes_in_memory;
use dbvault_repo::{Error, NoMonitor, Repository};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::crashing_storage::{CrashState, CrashStateChoice, CrashingStorage};
use dbvault_testkit::tier::{either, seed};
use tempfile::TempDir;

use crate::common::*;
use crate::eye::{Eye, clean, open_with};
use crate::ledger::Ledger;
use crate::tally::Tally;
use crate::worlds::{World, collect, data, delete, tiny_params};

/// One who works on a repository and keeps the ledger.
pub(crate) struct Teller {
    pub(crate) repo: Repository,
    storage: CrashingStorage,
    ledger: Ledger,
}

impl Teller {
    fn operations_count(&self) -> usize {
        self.storage.operations().len()
    }

    /// Backs up; gives how many chunks were new.
    pub(crate) fn backup(&mut self, name: &str, streams: &Streams) -> Result<u64> {
        self.ledger.insert(name, streams, usize::MAX);
        let manifest = backup(&self.repo, name, streams)?;
        self.ledger.insert(name, streams, self.operations_count());
        Ok(manifest.sizes.new_chunks)
    }

    /// Copies all archives of another repository, which hold `contents`.
    pub(crate) fn copy(&mut self, from: &Repository, contents: &Expected) -> Result<()> {
        let reader = reader(from)?;
        for info in from.archives()?.archives {
            let name = info.manifest.name.clone();
            self.ledger.insert(&name, &contents[&name], usize::MAX);
            self.repo.copy_archive(&reader, &info, Arc::new(NoMonitor))?;
            self.ledger.insert(&name, &contents[&name], self.operations_count());
        }
        Ok(())
    }

    /// Deletes and collects.
    pub(crate) fn prune(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            match delete(&self.repo, name) {
                Ok(()) | Err(Error::ArchiveState { state: "deleted", .. }) => {}
                failed => return failed,
            }
        }
        self.collect()
    }

    /// Takes all that is in the trash, whoever put it there.
    pub(crate) fn collect(&mut self) -> Result<()> {
        let done = self.operations_count();
        for archive in self.repo.archives()?.archives.iter().filter(|archive| archive.deleted_ms.is_some()) {
            if let Some(life) = self.ledger.0.get_mut(&archive.manifest.name) {
                life.there_until = life.there_until.min(done);
            }
        }
        collect(&self.repo)?;
        Ok(())
    }
}

/// A story that was told.
pub(crate) struct Story {
    storage: CrashingStorage,
    ledger: Ledger,
    /// Any of these may be the one that opens the repository.
    secrets: Vec<Secret>,
    /// From this many operations on there is a repository.
    opens_from: usize,
    /// The cache as the work left it, which the crash of a storage elsewhere does not touch.
    cache: TempDir,
}

impl Story {
    /// Runs `work` over `world`.
    pub(crate) fn tell(world: &World, work: impl FnOnce(&mut Teller) -> Result<()>) -> Story {
        let storage = CrashingStorage::starting_from(&world.storage);
        let cache = temporary_dir();
        let repo = open(storage.clone(), cache.path()).unwrap();
        let mut teller = Teller { repo, storage, ledger: Ledger::of(&world.expected) };
        work(&mut teller).unwrap();
        let Teller { storage, ledger, .. } = teller;
        Story { storage, ledger, secrets: vec![secret(1)], opens_from: 0, cache }
    }

    /// The story of how a repository came to be.
    pub(crate) fn of_init() -> Story {
        let (storage, cache) = (CrashingStorage::new(), temporary_dir());
        init_on(Arc::new(storage.clone()), cache.path(), tiny_params());
        let (ledger, opens_from) = (Ledger::default(), storage.operations().len());
        Story { storage, ledger, secrets: vec![secret(1)], opens_from, cache }
    }

    /// Not a story but its end: what holds after one operation, of which there is no log, by `ledger`. With
    /// `opens_from` above 1 there may be no repository. `cache` is what the work left.
    pub(crate) fn ended(ledger: Ledger, secrets: Vec<Secret>, opens_from: usize, cache: TempDir) -> Story {
        Story { storage: CrashingStorage::new(), ledger, secrets, opens_from, cache }
    }

    /// At any time one of `secrets` opens the repository.
    pub(crate) fn opened_by(mut self, secrets: &[u8]) -> Story {
        self.secrets = secrets.iter().copied().map(secret).collect();
        self
    }

    /// What crashes of the work can leave.
    pub(crate) fn states(&self, choice: CrashStateChoice) -> impl Iterator<Item = CrashState> {
        self.storage.crash_states(choice)
    }

    /// Opens what a crash has left, or makes the repository where there is none.
    fn open_or_init(&self, storage: &CrashingStorage, cache: &Path) -> Result<Repository, String> {
        let shared = Arc::new(storage.clone());
        match open_with(shared.clone(), cache, &self.secrets) {
            Err(_) if self.opens_from > 0 => {
                Repository::init(shared, client(cache), tiny_params(), &secret(1), "first")
                    .map_err(|e| format!("next init: {e:?}"))
            }
            opened => opened,
        }
    }

    /// What is wrong in a state. Gives the names of the archives that are there.
    pub(crate) fn look(&self, state: &CrashState, eye: &mut Eye) -> Result<Vec<String>, String> {
        match eye.look(&state.storage, &self.secrets, self.opens_from > 0) {
            Ok((repo, reader)) => self.ledger.compare(&repo, &reader, state.prefix_len),
            Err(e) if e.contains("NoRepository") && state.prefix_len < self.opens_from => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// The next commands after a crash: a backup, a prune, a compact, none of which needs help. Gives the story
    /// of this, for it may crash, too.
    pub(crate) fn recover(&self, state: &CrashState, found: &[String], warm: bool) -> Result<Story, String> {
        let storage = CrashingStorage::starting_from(&state.storage);
        let cache = temporary_dir();
        if warm {
            copy_dir(self.cache.path(), cache.path());
        }
        let repo = self.open_or_init(&storage, cache.path())?;
        let opens_from = storage.operations().len();
        let ledger = self.ledger.after(state.prefix_len, found);
        let mut teller = Teller { repo, storage, ledger };
        self.go_on(&mut teller, found).map_err(|e| format!("in the recovery: {e}"))?;
        let Teller { repo, storage, ledger } = teller;
        let reader = reader(&repo).map_err(|e| format!("no reader after the recovery: {e:?}"))?;
        clean(&reader, self.opens_from > 0).map_err(|e| format!("after the recovery: {e}"))?;
        let done = storage.operations().len();
        ledger.compare(&repo, &reader, done).map_err(|e| format!("after the recovery: {e}"))?;
        Ok(Story { storage, ledger, secrets: self.secrets.clone(), opens_from, cache })
    }

    fn go_on(&self, teller: &mut Teller, found: &[String]) -> Result<(), String> {
        let kept: Vec<String> = teller
            .ledger
            .0
            .iter()
            .filter(|(_, life)| life.there_from == 0)
            .map(|(name, _)| name.clone())
            .collect();
        // The same data again, if there is any: it is there already.
        let same = kept.last().map(|name| teller.ledger.0[name].streams.clone());
        let next = same.as_deref().cloned().unwrap_or_else(|| data(9));
        let condemns = !names_below(&teller.storage, "condemned").is_empty();
        let free = |name: &String| !found.contains(name);
        let name = (0..).map(|n| format!("next {n}")).find(free).expect("there are enough numbers");
        let new_chunks = teller.backup(&name, &next).map_err(|e| format!("next backup: {e:?}"))?;
        // What is condemned may not be reused: it is stored again, which costs room only.
        if same.is_some() && new_chunks > 0 && !condemns {
            return Err(format!("{new_chunks} chunks of an archive are stored again"));
        }
        let oldest: Vec<&str> = kept.first().map(String::as_str).into_iter().collect();
        teller.prune(&oldest).map_err(|e| format!("next prune: {e:?}"))?;
        teller.collect().map_err(|e| format!("next compact: {e:?}"))
    }
}

/// How much of a story is tried.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// States that are looked at, at most.
    pub(crate) states_max: usize,
    /// Of these, how many are recovered from.
    pub(crate) recoveries_max: usize,
    /// States that are looked at of each recovery.
    pub(crate) nested_max: usize,
}

impl Plan {
    /// What most stories get.
    pub(crate) fn usual() -> Plan {
        Plan {
            states_max: either(1200, 15_000),
            recoveries_max: either(120, 1750),
            nested_max: either(24, 40),
        }
    }
}

/// What is tried of a story, and what was.
struct Trial<'a> {
    story: &'a Story,
    plan: Plan,
    /// One state in so many is recovered from.
    recovers_one_in: usize,
    tally: Tally,
    /// States by all their bytes: each counts once.
    distinct: Mutex<HashSet<blake3::Hash>>,
    /// The same, with what was promised: each is tried once.
    tried: Mutex<HashSet<(blake3::Hash, Vec<String>)>>,
    nested_count: AtomicUsize,
    recoveries_count: AtomicUsize,
}

/// One recovery in so many has its index on the disk, and begins with the one that the work has left. The others have
/// theirs in memory, where an index is made in no time.
const ON_DISK_ONE_IN: usize = 4;

/// One nested state in so many is recovered from as well.
const DEEPER_ONE_IN: usize = 30;

impl Trial<'_> {
    /// Whether nobody has tried such a state yet.
    fn is_new(&self, story: &Story, state: &CrashState) -> bool {
        let hash = fingerprint(&state.storage);
        self.distinct.lock().unwrap().insert(hash);
        self.tried.lock().unwrap().insert((hash, story.ledger.due(state.prefix_len)))
    }

    fn try_state(&self, state: &CrashState, number: usize, eyes: &mut [Eye; 2]) -> Result<(), String> {
        let [eye, other] = eyes;
        let found = self.story.look(state, eye)?;
        if !number.is_multiple_of(self.recovers_one_in) {
            return Ok(());
        }
        self.recoveries_count.fetch_add(1, Ordering::Relaxed);
        let turn = number / self.recovers_one_in;
        let on_disk = turn.is_multiple_of(ON_DISK_ONE_IN);
        keep_indexes_in_memory(!on_disk);
        let recovered = self.story.recover(state, &found, on_disk);
        keep_indexes_in_memory(true);
        let nested = recovered?;
        let choice = CrashStateChoice {
            exhaustive_operations_max: 3,
            random_subsets_count: 2,
            seed: seed() ^ number as u64,
        };
        let mut states: Vec<CrashState> = nested.storage.crash_states(choice).collect();
        choose(&mut states, self.plan.nested_max, number as u64);
        states.retain(|state| self.is_new(&nested, state));
        for (place, state) in states.iter().enumerate() {
            let deeper = (number * self.plan.nested_max + place).is_multiple_of(DEEPER_ONE_IN);
            self.nested_count.fetch_add(1, Ordering::Relaxed);
            self.try_nested(&nested, state, other, deeper).map_err(|e| {
                let CrashState { prefix_len, kept, .. } = state;
                format!("crash of the recovery after {prefix_len} operations, kept {kept:?}: {e}")
            })?;
        }
        Ok(())
    }

    fn try_nested(
        &self,
        nested: &Story,
        state: &CrashState,
        eye: &mut Eye,
        deeper: bool,
    ) -> Result<(), String> {
        let found = nested.look(state, eye)?;
        if deeper {
            self.recoveries_count.fetch_add(1, Ordering::Relaxed);
            nested.recover(state, &found, false)?;
        }
        Ok(())
    }

    /// Tries all `states` on two threads, each with an eye of its own.
    fn run(&self, states: &[CrashState]) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    keep_indexes_in_memory(true);
                    let mut eyes = [Eye::new(), Eye::new()];
                    while let Some((number, state)) = {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        states.get(number).map(|state| (number, state))
                    } {
                        if let Err(e) = self.try_state(state, number, &mut eyes) {
                            let CrashState { prefix_len, kept, .. } = state;
                            self.tally
                                .add(format!("crash after {prefix_len} operations, kept {kept:?}: {e}"));
                        }
                    }
                });
            }
        });
    }
}

/// Tries the states that crashes of a story leave.
pub(crate) fn crash(what: &str, story: &Story, plan: Plan) {
    let choice = CrashStateChoice {
        exhaustive_operations_max: either(10, 13),
        random_subsets_count: either(16, 200),
        seed: seed(),
    };
    let mut trial = Trial {
        story,
        plan,
        recovers_one_in: 1,
        tally: Tally::new(format!("crash {what}")),
        distinct: Mutex::default(),
        tried: Mutex::default(),
        nested_count: AtomicUsize::new(0),
        recoveries_count: AtomicUsize::new(0),
    };
    let mut states: Vec<CrashState> = story.storage.crash_states(choice).collect();
    let operations_count = story.storage.operations().len();
    states.retain(|state| trial.is_new(story, state));
    choose(&mut states, plan.states_max, 0);
    trial.recovers_one_in = states.len().div_ceil(plan.recoveries_max);
    trial.run(&states);
    let (nested, recoveries) = (trial.nested_count.into_inner(), trial.recoveries_count.into_inner());
    trial.tally.end(&[
        (states.len() + nested, "states"),
        (nested, "of them of a recovery"),
        (recoveries, "recoveries"),
        (operations_count, "operations"),
    ]);
}

/// Names and bytes of all objects as one hash.
fn fingerprint(storage: &MemoryStorage) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for name in storage.object_names() {
        let bytes = storage.read_raw(&name).unwrap();
        hasher
            .update(name.as_bytes())
            .update(&[0])
            .update(&(bytes.len() as u64).to_le_bytes())
            .update(&bytes);
    }
    hasher.finalize()
}

/// Keeps `count` of `items`, which ones follows from the seed. In the order they had: an eye that sees a repository
/// grow has less to do than one that is shown it in any order.
fn choose<T>(items: &mut Vec<T>, count: usize, number: u64) {
    let mut numbers = Numbers::new(seed() ^ number.wrapping_mul(0x9e37_79b9));
    let (mut left, mut wanted) = (items.len(), count);
    items.retain(|_| {
        let chosen = numbers.below(left) < wanted;
        left -= 1;
        wanted -= usize::from(chosen);
        chosen
    });
}
