//! Reuse: which stored chunks may a session build on?
//!
//! A chunk counts as stored only if its pack is there, whole in length, not condemned, and the same holds for
//! every chunk it must be decoded against. A pack that only sessions without an archive list is adopted: the
//! session lists it again in a segment of its own, so that a collection sees it used.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dbvault_format::id::{ChunkId, PackName, SessionId};
use parking_lot::Mutex;

use crate::index::{ChunkIndex, Location};
use crate::view::{Standing, View};
use crate::{Error, Repository, Result, layout};

/// Chunks that are remembered as good bases.
const BASES_MAX: usize = 100_000;

/// What a session may reuse, decided once a pack.
#[derive(Debug)]
pub(crate) struct Reuse {
    repo: Repository,
    index: Arc<ChunkIndex>,
    view: View,
    session: SessionId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Decided packs, by their number in the index.
    packs: HashMap<u32, bool>,
    /// Lengths of the packs of each shard that has been listed, bytes.
    shards: HashMap<u8, HashMap<PackName, u64>>,
    /// Adopted packs that no segment of this session lists yet.
    adopted: BTreeSet<u32>,
    /// Chunks whose whole chain has been found good, and the depth of the copy that was.
    bases: HashMap<ChunkId, u8>,
    /// Whether the user has been told that the cache fails.
    cache_failed: bool,
}

impl Reuse {
    /// For a session that is registered, and the view it read after that.
    pub(crate) fn new(repo: &Repository, index: Arc<ChunkIndex>, view: View, session: SessionId) -> Reuse {
        Reuse { repo: repo.clone(), index, view, session, state: Mutex::default() }
    }

    /// Where the chunk is, if it may be reused; its pack is adopted where that is needed.
    pub(crate) fn find(&self, id: &ChunkId) -> Result<Option<Location>> {
        self.find_below(id, u8::MAX)
    }

    /// As [`Reuse::find`], of copies of a depth less than `limit`. A base is looked for below what is stored
    /// against it: two sessions may have stored two chunks each against the other, and that must not lead in
    /// circles.
    pub(crate) fn find_below(&self, id: &ChunkId, limit: u8) -> Result<Option<Location>> {
        let copies = self.ask(|index| index.locate_some(id))?.unwrap_or_default();
        self.choose(id, &copies, limit)
    }

    /// What the index says. A failing cache costs space, not safety: the chunks are stored again.
    fn ask<T>(&self, question: impl FnOnce(&ChunkIndex) -> Result<T>) -> Result<Option<T>> {
        match question(&self.index) {
            Err(e @ Error::Cache { .. }) => {
                if !std::mem::replace(&mut self.state.lock().cache_failed, true) {
                    tracing::warn!("{e}; chunks that can't be looked up are stored again");
                }
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }

    /// A copy that may be reused: one of `some`, or where there are such but none will do, of all there are.
    fn choose(&self, id: &ChunkId, some: &[Location], limit: u8) -> Result<Option<Location>> {
        let chosen = self.first_usable(some, limit)?;
        if chosen.is_some() || some.is_empty() {
            return Ok(chosen);
        }
        let all = self.ask(|index| index.locate(id))?.unwrap_or_default();
        self.first_usable(&all, limit)
    }

    fn first_usable(&self, copies: &[Location], limit: u8) -> Result<Option<Location>> {
        for copy in copies.iter().filter(|copy| copy.entry.depth < limit) {
            if self.pack_usable(copy.pack)? && self.base_usable(copy)? {
                return Ok(Some(copy.clone()));
            }
        }
        Ok(None)
    }

    fn base_usable(&self, location: &Location) -> Result<bool> {
        let Some(base) = location.entry.base else { return Ok(true) };
        let limit = location.entry.depth;
        if self.state.lock().bases.get(&base).is_some_and(|depth| *depth < limit) {
            return Ok(true);
        }
        let found = self.find_below(&base, limit)?;
        if let Some(found) = &found {
            let mut state = self.state.lock();
            if state.bases.len() == BASES_MAX {
                state.bases.clear();
            }
            state.bases.insert(base, found.entry.depth);
        }
        Ok(found.is_some())
    }

    fn pack_usable(&self, number: u32) -> Result<bool> {
        if let Some(usable) = self.state.lock().packs.get(&number) {
            return Ok(*usable);
        }
        let info = match self.index.pack(number) {
            Err(Error::Cache { .. }) => return Ok(false),
            info => info?,
        };
        let own = info.sessions.contains(&self.session);
        let standing = self.view.standing(&info.name, &info.sessions);
        let usable = own || standing != Standing::Absent && self.is_stored(&info.name, info.size_bytes)?;
        let mut state = self.state.lock();
        if usable && !own && standing == Standing::Adoptable {
            state.adopted.insert(number);
        }
        state.packs.insert(number, usable);
        Ok(usable)
    }

    /// Whether the storage has the pack in its full length, by one listing a shard.
    fn is_stored(&self, name: &PackName, size_bytes: u64) -> Result<bool> {
        let shard = name.0[0];
        if !self.state.lock().shards.contains_key(&shard) {
            let mut sizes = HashMap::new();
            self.repo.storage.list(&layout::pack_shard(shard), &mut |object| {
                if let Some(name) = layout::parse_pack(&object.key) {
                    sizes.insert(name, object.size_bytes);
                }
                Ok(())
            })?;
            self.state.lock().shards.insert(shard, sizes);
        }
        let state = self.state.lock();
        Ok(state.shards.get(&shard).and_then(|sizes| sizes.get(name)) == Some(&size_bytes))
    }

    /// Packs adopted since the last call: the next segment must list them.
    pub(crate) fn take_adopted(&self) -> BTreeSet<u32> {
        std::mem::take(&mut self.state.lock().adopted)
    }

    /// The index this looks into.
    pub(crate) fn index(&self) -> &Arc<ChunkIndex> {
        &self.index
    }
}
