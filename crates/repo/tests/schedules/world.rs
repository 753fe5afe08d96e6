//! A small repository in which everything can happen, and the clients that make it happen.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dbvault_format::chunker::ChunkerParams;
use dbvault_format::config::RepoParams;
use dbvault_format::id::SessionId;
use dbvault_repo::{CollectOptions, CollectReport, NoMonitor, Repository, scripted};
use dbvault_storage::{Key, MemoryStorage, Storage};
use dbvault_testkit::scheduler::{CallKind, Lists, Turn};

use crate::common::*;

/// The present, but for clients whose clocks are wrong.
pub(crate) const NOW_MS: i64 = 1_780_000_000_000;

/// A directory that can't be made: a client on a machine of its own, of whose sessions nobody else knows whether
/// they live.
pub(crate) const NO_CACHE: &str = "/dev/null/cache";

/// Ten years.
pub(crate) const DECADE_MS: i64 = 10 * 365 * 86_400_000;

/// What one client does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Stores [`data`] of this name as an archive of this name.
    Backup(&'static str),
    /// Takes all that is in the trash.
    Collect,
    /// The same, and sessions that still run are fenced.
    CollectAndFence,
    Restore(&'static str),
    Delete(&'static str),
    Undelete(&'static str),
}

/// How an act ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Backup(&'static str, Result<()>),
    Collect(Result<CollectReport>),
    Restore(&'static str, Result<Streams, String>),
    Delete(&'static str, Result<()>),
    Undelete(&'static str, Result<()>),
}

/// What an archive of this name holds.
pub(crate) fn data(name: &str) -> Streams {
    let (table, blob) = (text(5000, 1), noise(3000, 3));
    match name {
        // One pack, of which the next archive needs one half.
        "old" => streams(&[("table", &table), ("other", &noise(4000, 2))]),
        "kept" => streams(&[("table", &table)]),
        "delta" => streams(&[("table", &edited(&table, 2, 9))]),
        // All of its pack is waste once it is deleted.
        "gone" | "one" => streams(&[("blob", &blob)]),
        // What an interrupted backup has left.
        "half" | "two" => streams(&[("half", &noise(3000, 4))]),
        // Stored against what is waste.
        "three" => streams(&[("blob", &edited(&blob, 2, 5))]),
        _ => streams(&[("blob", &blob), ("half", &noise(3000, 4)), ("table", &table)]),
    }
}

/// The repository before anybody comes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) storage: MemoryStorage,
    /// Ids of archives that are there by name.
    pub(crate) ids: Vec<(&'static str, SessionId)>,
    /// Archives that are in the trash.
    pub(crate) deleted: Vec<&'static str>,
}

/// Archives that share a pack, that are stored against another, that are in the trash; packs without an archive.
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| {
    begin_script(1, NOW_MS - DECADE_MS / 100);
    let storage = MemoryStorage::new();
    let chunker = ChunkerParams { min_bytes: 1 << 10, average_bytes: 4 << 10, max_bytes: 16 << 10 };
    let params = RepoParams { chunker, pack_bytes: 32 << 10, packs_open: 1, ..RepoParams::default() };
    let repo = init_on(Arc::new(storage.clone()), Path::new(NO_CACHE), params);
    let names = ["old", "kept", "delta", "gone"];
    let ids: Vec<_> = names.map(|name| (name, backup(&repo, name, &data(name)).unwrap().id)).into();
    suspend(&repo, "half", &data("half"));
    for name in ["old", "gone"] {
        repo.remark(&repo.find_archive(name).unwrap().manifest.id, |remarks| {
            remarks.tags.insert("tag".into());
        })
        .unwrap();
        repo.delete_archive(&repo.find_archive(name).unwrap().manifest.id).unwrap();
    }
    scripted::end();
    World { storage, ids, deleted: vec!["old", "gone"] }
});

/// From now on this thread does the same things in the same way, with indexes in memory.
pub(crate) fn begin_script(seed: u64, now_ms: i64) {
    scripted::begin(seed, now_ms);
    scripted::keep_indexes_in_memory(true);
}

/// Calls that no order can make a difference to: barriers, for nobody crashes here; objects that are never deleted;
/// lists of shards without packs.
pub(crate) fn alone(kind: CallKind, key: &Key) -> bool {
    let below = |prefix: &str| key.as_str().starts_with(prefix);
    match kind {
        CallKind::Flush => true,
        CallKind::List => below("packs/"),
        CallKind::Get | CallKind::Size => below("config") || below("keys/") || below("roots/"),
        CallKind::Put | CallKind::Delete => false,
    }
}

/// A client of the repository.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) acts: Vec<Act>,
    /// How far its clock is wrong, milliseconds.
    pub(crate) clock_error_ms: i64,
}

impl Actor {
    pub(crate) fn new(acts: &[Act]) -> Actor {
        Actor { acts: acts.to_vec(), clock_error_ms: 0 }
    }

    /// Does it all over `inner`.
    pub(crate) fn run(&self, turn: &Turn, number: u64, inner: &MemoryStorage, lists: Lists) -> Vec<Outcome> {
        let storage: Arc<dyn Storage> = Arc::new(turn.storage(Arc::new(inner.clone()), lists, alone));
        // Threads of its own, so that it never waits for others that wait for their turn; one, so that it makes
        // one call at a time.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        threads.install(|| {
            begin_script(100 + number, NOW_MS + self.clock_error_ms);
            let Ok(repo) = open_on(storage, Path::new(NO_CACHE)) else { return Vec::new() };
            self.acts.iter().map(|act| perform(*act, &repo)).collect()
        })
    }
}

fn perform(act: Act, repo: &Repository) -> Outcome {
    let id = |name: &str| WORLD.ids.iter().find(|(known, _)| *known == name).unwrap().1;
    match act {
        Act::Backup(name) => Outcome::Backup(name, backup(repo, name, &data(name)).map(drop)),
        Act::Collect => Outcome::Collect(collect(repo, Duration::MAX)),
        Act::CollectAndFence => Outcome::Collect(collect(repo, Duration::ZERO)),
        Act::Restore(name) => Outcome::Restore(name, restore_named(repo, name)),
        Act::Delete(name) => Outcome::Delete(name, repo.delete_archive(&id(name))),
        Act::Undelete(name) => Outcome::Undelete(name, repo.undelete_archive(&id(name))),
    }
}

pub(crate) fn collect(repo: &Repository, silence: Duration) -> Result<CollectReport> {
    let options = CollectOptions { trashed_before_ms: i64::MAX, silence, ..CollectOptions::default() };
    repo.collect(&options, Arc::new(NoMonitor))
}

fn restore_named(repo: &Repository, name: &str) -> Result<Streams, String> {
    let archive = repo.find_archive(name).map_err(|e| format!("{e:?}"))?;
    restore(&reader(repo).map_err(|e| format!("{e:?}"))?, &archive.manifest)
}
