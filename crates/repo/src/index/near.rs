//! The neighbourhood: groups of chunks that were read lately, for the chunks that are asked for next.
//!
//! A stream that was stored before asks for its chunks in the order of the packs they are in.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use dbvault_format::id::ChunkId;
use parking_lot::Mutex;

use super::group::{Group, RECORDS};
use super::location::{Location, short};

/// Groups of one generation. Two of them take 10 MiB, and 14 MiB where all chunks are deltas.
const GROUPS_MAX: usize = 2048;

/// Groups that were read lately. Once a generation is full it becomes the old one, and the one that was old
/// is forgotten: of any groups, those that were read last are forgotten last.
#[derive(Debug, Default)]
pub(super) struct Near(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    groups: Vec<Group<'static>>,
    /// Beginning of an id -> which group, and which record of it.
    places: HashMap<u64, (u16, u8), BuildHasherDefault<AsItIs>>,
}

impl Generation {
    fn get(&self, id: &ChunkId) -> Option<Location> {
        let (group, index) = self.places.get(&short(id))?;
        let location = self.groups.get(usize::from(*group))?.location(usize::from(*index));
        location.ok().filter(|location| location.entry.id == *id)
    }

    fn insert(&mut self, group: Group<'static>) {
        let number = self.groups.len() as u16;
        self.places.extend(group.ids().map(|(id, index)| (short(&id), (number, index as u8))));
        self.groups.push(group);
    }

    /// Forgets everything, but keeps its memory where it has any.
    fn start_afresh(&mut self) {
        self.groups.clear();
        self.places.clear();
        self.places.reserve(GROUPS_MAX * RECORDS);
    }
}

impl Near {
    /// A copy of the chunk that is in one of the groups.
    pub(super) fn get(&self, id: &ChunkId) -> Option<Location> {
        let generations = self.0.lock();
        generations.young.get(id).or_else(|| generations.old.get(id))
    }

    /// Remembers a group.
    pub(super) fn insert(&self, group: Group<'static>) {
        let mut generations = self.0.lock();
        let Generations { young, old } = &mut *generations;
        if young.groups.len() == GROUPS_MAX {
            std::mem::swap(young, old);
            young.start_afresh();
        }
        young.insert(group);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.0.lock() = Generations::default();
    }
}

/// Ids are keyed hashes: their beginning is as good a hash as any.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }
}

#[cfg(test)]
mod tests {
    use super::super::group;
    use super::*;
    use dbvault_format::compress::Codec;
    use dbvault_format::pack::ChunkEntry;

    fn id(number: u32, tail: u8) -> ChunkId {
        let mut id = [tail; 32];
        id[..4].fill(0);
        id[4..8].copy_from_slice(&number.to_be_bytes());
        ChunkId(id)
    }

    fn of(pack: u32, ids: &[ChunkId]) -> Group<'static> {
        let entry = |id: &ChunkId| ChunkEntry {
            id: *id,
            codec: Codec::Raw,
            depth: 0,
            plain_len: 1,
            sealed_len: 17,
            base: None,
            features: None,
        };
        let entries: Vec<ChunkEntry> = ids.iter().map(entry).collect();
        let (first, value) = group::encode_all(pack, &entries).unwrap().remove(0);
        Group::decode(first, &value).unwrap().into_owned()
    }

    #[test]
    fn it_keeps_the_last_groups_and_no_more_than_two_generations() {
        let near = Near::default();
        let count = 5 * GROUPS_MAX as u32;
        for pack in 0..count {
            near.insert(of(pack, &[id(pack, 7)]));
            let recent = pack.saturating_sub(GROUPS_MAX as u32 - 1)..=pack;
            assert!(recent.step_by(97).all(|pack| near.get(&id(pack, 7)).is_some_and(|at| at.pack == pack)));
        }
        let known = (0..count).filter(|pack| near.get(&id(*pack, 7)).is_some()).count();
        assert!((GROUPS_MAX..=2 * GROUPS_MAX).contains(&known), "{known}");
        near.clear();
        assert!((0..count).all(|pack| near.get(&id(pack, 7)).is_none()));
    }

    #[test]
    fn chunks_whose_ids_only_begin_alike_are_not_mixed_up() {
        let near = Near::default();
        near.insert(of(1, &[id(1, 7), id(1, 8)]));
        assert_eq!(near.get(&id(1, 9)), None);
        // One of the two is shadowed by the other; neither is taken for the other.
        let found: Vec<Location> = [id(1, 7), id(1, 8)].iter().filter_map(|id| near.get(id)).collect();
        assert_eq!(found.len(), 1);
        near.insert(of(2, &[id(1, 7)]));
        assert_eq!(near.get(&id(1, 7)).unwrap().pack, 2, "the copy that was read last");
    }
}
