//! Small repositories for work to begin with.

use std::sync::Arc;

use dbvault_format::chunker::ChunkerParams;
use dbvault_format::config::RepoParams;
use dbvault_repo::{CollectOptions, CollectReport, NoMonitor, Repository};
use dbvault_storage::{MemoryStorage, Storage};

use crate::common::*;

/// A repository and what is in it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) storage: MemoryStorage,
    pub(crate) expected: Expected,
}

/// The smallest chunks and packs there can be, so that very little data makes many objects.
pub(crate) fn tiny_params() -> RepoParams {
    let chunker = ChunkerParams { min_bytes: 512, average_bytes: 4 << 10, max_bytes: 6 << 10 };
    RepoParams { chunker, pack_bytes: 12 << 10, ..RepoParams::default() }
}

/// Streams that have nothing in common with those of another seed.
pub(crate) fn data(seed: u64) -> Streams {
    streams(&[("noise", &noise(90 << 10, seed)), ("text", &text(14 << 10, seed))])
}

/// The same some time later.
pub(crate) fn later(streams: &Streams, seed: u64) -> Streams {
    streams.iter().map(|(name, bytes)| (name.clone(), edited(bytes, 3, seed))).collect()
}

/// Takes all that is in the trash, waits for nobody, and gives up nobody but the dead.
pub(crate) fn collect(repo: &Repository) -> Result<CollectReport> {
    let options = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    repo.collect(&options, Arc::new(NoMonitor))
}

pub(crate) fn delete(repo: &Repository, name: &str) -> Result<()> {
    repo.delete_archive(&repo.find_archive(name)?.manifest.id)
}

/// Nothing at all.
pub(crate) fn nothing() -> World {
    World { storage: MemoryStorage::new(), expected: Expected::new() }
}

/// A repository without archives.
pub(crate) fn empty() -> World {
    let (dir, world) = (temporary_dir(), nothing());
    init_on(Arc::new(world.storage.clone()), dir.path(), tiny_params());
    world
}

/// What `work` makes of a repository.
fn worked(mut world: World, work: impl FnOnce(&Repository, &mut Expected)) -> World {
    world.storage = world.storage.duplicate();
    let dir = temporary_dir();
    let storage: Arc<dyn Storage> = Arc::new(world.storage.clone());
    work(&open_on(storage, dir.path()).unwrap(), &mut world.expected);
    world
}

/// One archive for each of `contents`, by these names.
pub(crate) fn archives(contents: &[(&str, Streams)]) -> World {
    worked(empty(), |repo, expected| {
        for (name, streams) in contents {
            backup(repo, name, streams).unwrap();
            expected.insert((*name).to_owned(), streams.clone());
        }
    })
}

pub(crate) fn two_archives() -> World {
    archives(&[("old", data(1)), ("other", data(2))])
}

/// Days of one changing stream: later ones are stored against earlier ones.
pub(crate) fn days(count: usize) -> World {
    let mut today = data(1);
    let mut contents = Vec::new();
    let names: Vec<String> = (0..count).map(|day| format!("day {day}")).collect();
    for (day, name) in names.iter().enumerate() {
        contents.push((name.as_str(), today.clone()));
        today = later(&today, day as u64);
    }
    archives(&contents)
}

/// With what a backup has stored that was stopped before its end.
pub(crate) fn with_suspended(world: World, streams: &Streams) -> World {
    worked(world, |repo, _| {
        suspend(repo, "stopped", streams);
    })
}

/// With the first root: an archive has been deleted and collected.
pub(crate) fn with_root(world: World, name: &str) -> World {
    worked(world, |repo, expected| {
        delete(repo, name).unwrap();
        collect(repo).unwrap();
        expected.remove(name);
    })
}
