//! The chunk index: where is each chunk, and which chunks look like this one?
//!
//! A local RocksDB that can be thrown away: all it holds comes from the index segments of the repository.
//! RocksDB has one writer, so each process takes the first free one of a few slots, each a database of its own.

mod database;
mod group;
mod load;
mod location;
mod near;
mod slot;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use dbvault_format::id::{ChunkId, PackName, RepoId, Salt, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::pack::ChunkEntry;
use dbvault_format::similarity::SuperFeatures;
use parking_lot::RwLock;

pub(crate) use location::{Location, PackInfo};

use crate::monitor::{Counter, Monitor, Phase};
use crate::view::View;
use crate::{Repository, Result, layout, scripted};
use database::Database;
use load::{FileOptions, Load};
use slot::Slot;

/// What the cache is worth for a view.
enum State {
    /// All of the view is in it.
    Current,
    /// Segments of the view are missing.
    Behind,
    Useless,
}

/// The chunk index of one repository, in one process.
#[derive(Debug)]
pub(crate) struct ChunkIndex {
    database: RwLock<Database>,
    slot: Slot,
    /// Whether the database has failed since it was made or opened.
    failed: AtomicBool,
}

impl ChunkIndex {
    /// Opens the local cache and brings it up to `view`. A cache that is missing, damaged, stale, of another
    /// repository or of another version is made anew.
    pub(crate) fn open(repo: &Repository, view: &View, monitor: &dyn Monitor) -> Result<ChunkIndex> {
        ChunkIndex::open_as(Database::open, repo, view, monitor)
    }

    /// The same for those that add no packs of their own: much faster where the cache is up to `view` already.
    pub(crate) fn open_to_read(repo: &Repository, view: &View, monitor: &dyn Monitor) -> Result<ChunkIndex> {
        ChunkIndex::open_as(Database::open_read_only, repo, view, monitor)
    }

    fn open_as(
        open: fn(&Path, &RepoId) -> Result<Database>,
        repo: &Repository,
        view: &View,
        monitor: &dyn Monitor,
    ) -> Result<ChunkIndex> {
        let in_memory = scripted::indexes_are_in_memory();
        let slot = if in_memory { Slot::in_memory() } else { Slot::take(&repo.cache_dir())? };
        let fresh = slot.is_in_memory() || slot.is_distrusted();
        let known = if fresh { None } else { open(slot.path(), &repo.id).ok() };
        let (slot, database) = match known.map_or_else(|| slot.wipe(&repo.id), Ok) {
            Ok(database) => (slot, database),
            Err(e) => {
                tracing::warn!("{e}; a temporary index is made");
                let slot = Slot::temporary()?;
                let database = slot.wipe(&repo.id)?;
                (slot, database)
            }
        };
        let index = ChunkIndex { database: RwLock::new(database), slot, failed: AtomicBool::new(false) };
        index.update(repo, view, monitor)?;
        Ok(index)
    }

    /// Brings the cache up to `view`. Pack numbers may mean other packs afterwards.
    pub(crate) fn update(&self, repo: &Repository, view: &View, monitor: &dyn Monitor) -> Result<()> {
        match self.catch_up(repo, view, monitor) {
            Err(crate::Error::Cache { .. }) => self.rebuild(repo, view, monitor),
            done => done,
        }
    }

    /// Throws the cache away and reads all segments again.
    pub(crate) fn rebuild(&self, repo: &Repository, view: &View, monitor: &dyn Monitor) -> Result<()> {
        {
            let mut database = self.database.write();
            database.close();
            *database = self.slot.wipe(&repo.id)?;
            self.failed.store(false, Ordering::Relaxed);
        }
        self.catch_up(repo, view, monitor)
    }

    /// Reads the segments of `view` that are not in the cache yet.
    fn catch_up(&self, repo: &Repository, view: &View, monitor: &dyn Monitor) -> Result<()> {
        match self.compare(view)? {
            State::Current => return Ok(()),
            State::Behind if self.database.read().is_read_only() => self.reopen(repo)?,
            State::Behind => {}
            State::Useless => {
                let mut database = self.database.write();
                database.close();
                *database = self.slot.wipe(&repo.id)?;
            }
        }
        let database = self.database.read();
        let loaded = database.segments()?;
        let new: Vec<_> = view.segments().filter(|(key, _)| !loaded.contains(key.as_str())).collect();
        if !new.is_empty() {
            monitor.phase(Phase::LoadIndex);
            monitor.expect(Counter::Segments, new.len() as u64);
        }
        let options = FileOptions::default();
        let mut load = if database.is_owned()? { None } else { Some(Load::start(&database, &options)) };
        for (key, session) in new {
            repo.client.check_interrupt()?;
            match (read_segment(repo, key)?, &mut load) {
                (Some(segment), Some(load)) => load.add_segment(key.as_str(), &session, &segment)?,
                (Some(segment), None) => database.add_segment(key.as_str(), &session, &segment)?,
                (None, _) => {}
            }
            monitor.add(Counter::Segments, 1);
        }
        load.map_or(Ok(()), Load::finish)?;
        database.set_root_number(view.root_number)
    }

    fn compare(&self, view: &View) -> Result<State> {
        let database = self.database.read();
        let loaded = database.segments()?;
        let wanted: HashSet<&str> = view.segments().map(|(key, _)| key.as_str()).collect();
        // What a load left in the middle is of no use, nor is what was there before a collection moved
        // chunks about: locations may point to packs that are going away.
        let owned = database.is_owned()?;
        let useful = (owned || database.is_empty()?)
            && database.root_number()? == view.root_number
            && loaded.iter().all(|name| wanted.contains(name.as_str()));
        Ok(match useful {
            true if owned && loaded.len() == wanted.len() => State::Current,
            true => State::Behind,
            false => State::Useless,
        })
    }

    /// For one that was opened to be read, and is to learn of packs of this process. Pack numbers stay what they are.
    pub(crate) fn make_writable(&self, repo: &Repository) -> Result<()> {
        if self.database.read().is_read_only() { self.noted(self.reopen(repo)) } else { Ok(()) }
    }

    /// What could only be read can be written, too.
    fn reopen(&self, repo: &Repository) -> Result<()> {
        let mut database = self.database.write();
        database.close();
        *database = Database::open(self.slot.path(), &repo.id)?;
        Ok(())
    }

    /// All known copies of a chunk; none where it is not in the repository.
    pub(crate) fn locate(&self, id: &ChunkId) -> Result<Vec<Location>> {
        self.noted(self.database.read().locate(id))
    }

    /// Some copies of a chunk, none only where there is none. Fast for chunks in the order they were stored in.
    pub(crate) fn locate_some(&self, id: &ChunkId) -> Result<Vec<Location>> {
        Ok(self.locate_many(std::slice::from_ref(id))?.pop().unwrap_or_default())
    }

    /// Some copies of each chunk of `ids`, none only where there is none: [`ChunkIndex::locate`] gives all.
    /// Fast for chunks in the order they were stored in.
    pub(crate) fn locate_many(&self, ids: &[ChunkId]) -> Result<Vec<Vec<Location>>> {
        self.noted(self.database.read().locate_many(ids))
    }

    /// What is known of a pack, by its number in this cache.
    pub(crate) fn pack(&self, number: u32) -> Result<PackInfo> {
        self.noted(self.database.read().pack(number))
    }

    /// The number of a pack in this cache, by its name.
    pub(crate) fn pack_number(&self, name: &PackName) -> Result<Option<u32>> {
        self.noted(self.database.read().pack_number(name))
    }

    /// The directory of a pack, without features, by its name; empty where it is not known.
    pub(crate) fn entries(&self, name: &PackName) -> Result<Vec<ChunkEntry>> {
        self.noted(self.database.read().entries(name))
    }

    /// Chunks that share a super-feature with `features`, best guess first.
    pub(crate) fn similar(&self, features: &SuperFeatures) -> Result<Vec<ChunkId>> {
        self.noted(self.database.read().similar(features))
    }

    /// Adds one pack that `session` has stored; gives its number.
    pub(crate) fn add_pack(&self, session: &SessionId, pack: &PackListing) -> Result<u32> {
        self.noted(self.database.read().add_pack(session, pack))
    }

    /// Sees to it that a database that fails is not opened again.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        let failed = matches!(result, Err(crate::Error::Cache { .. }));
        if failed && !self.failed.swap(true, Ordering::Relaxed) {
            self.slot.distrust();
        }
        result
    }
}

/// Reads one segment. A damaged one is passed over: its packs' own directories are what `repair` rebuilds it
/// from, and until then its chunks count as not stored, which a backup heals by storing them again.
fn read_segment(repo: &Repository, key: &dbvault_storage::Key) -> Result<Option<IndexSegment>> {
    use dbvault_format::header::ObjectKind;
    let damaged = |e: &dyn std::fmt::Display| {
        tracing::warn!(object = %key, "index segment can't be read and is passed over: {e}");
        Ok(None)
    };
    match repo.get_sealed(key, &[ObjectKind::IndexSegment]) {
        Ok((_, body)) => match IndexSegment::decode(&body) {
            Ok(segment) => Ok(Some(segment)),
            Err(e) => damaged(&e),
        },
        Err(e @ crate::Error::Damaged { .. }) => damaged(&e),
        // Folded and cleared away since it was listed: its chunks are in the base of a newer root.
        Err(crate::Error::Storage(e)) if e.kind() == dbvault_storage::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads the directory of a stored pack.
pub(crate) fn read_listing(
    repo: &Repository,
    name: PackName,
    salt: Salt,
    size_bytes: u64,
) -> Result<PackListing> {
    use dbvault_format::header::HEADER_BYTES;
    use dbvault_format::pack::{PackShape, TRAILER_BYTES, open_directory};
    let key = layout::pack(&name);
    let reading = |e| crate::Error::reading(key.as_str(), e);
    let trailer_at = size_bytes.saturating_sub(TRAILER_BYTES as u64);
    let trailer = repo.storage.get(&key, Some(trailer_at..size_bytes))?;
    let shape = PackShape::from_trailer(&trailer, size_bytes).map_err(reading)?;
    let header = repo.storage.get(&key, Some(0..HEADER_BYTES as u64))?;
    let sealed = repo.storage.get(&key, Some(shape.directory.clone()))?;
    let (found, entries) =
        open_directory(&repo.keys.pack, &repo.id, &header, &shape, sealed).map_err(reading)?;
    if found != salt {
        return Err(reading(dbvault_format::Error::malformed(
            "pack",
            "its salt is not the one that is listed",
        )));
    }
    Ok(PackListing { name, salt, size_bytes, entries })
}
