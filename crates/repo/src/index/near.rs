//! The neighbourhood: groups of chunks that were read lately, for the chunks that are asked for next.
//!
//! A stream that was stored before asks for its chunks in the order of the packs they are in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dbvault_format::id::ChunkId;

use super::group::Group;
use super::location::{Location, short};

/// Groups of one generation. With two of them 8 MiB, and 13 MiB where all chunks are deltas.
const GROUPS_MAX: usize = 1024;

/// Groups that were read lately. Once as many have been read as a generation holds, it becomes the old one,
/// and the one that was old is forgotten: what was read last is never forgotten first.
#[derive(Debug, Default)]
pub(super) struct Near(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    groups: usize,
    /// By the beginning of the id, the whole of which the group has.
    places: HashMap<u64, (Arc<Group>, u8)>,
}

impl Generation {
    fn get(&self, id: &ChunkId) -> Option<Location> {
        let (group, index) = self.places.get(&short(id))?;
        group.location(usize::from(*index)).ok().filter(|location| location.entry.id == *id)
    }
}

impl Near {
    /// A copy of the chunk that is in one of the groups.
    pub(super) fn get(&self, id: &ChunkId) -> Option<Location> {
        let generations = self.lock();
        generations.young.get(id).or_else(|| generations.old.get(id))
    }

    /// Remembers a group.
    pub(super) fn insert(&self, group: &Arc<Group>) {
        let mut generations = self.lock();
        if generations.young.groups == GROUPS_MAX {
            generations.old = std::mem::take(&mut generations.young);
        }
        let young = &mut generations.young;
        young.groups += 1;
        young.places.extend(group.ids().map(|(id, index)| (short(&id), (group.clone(), index as u8))));
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.lock() = Generations::default();
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
