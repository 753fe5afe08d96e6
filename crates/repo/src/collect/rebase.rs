//! Deltas that are stored anew against another base, when the one they have is needed for nothing else.
//!
//! Such a delta would keep its base alive, and what that is stored against. Its chunk is stored anew against the first
//! chunk below that is needed anyway, or whole, where that takes less.
//!
//! Chunks that are versions of one another are decoded together, from the bottom up, so that what they have in common is
//! read and decoded once.

use std::collections::{HashMap, HashSet};

use dbvault_format::compress::{Codec, DeltaEncoder, Encoder};
use dbvault_format::id::ChunkId;
use dbvault_format::pack::ChunkEntry;
use rayon::prelude::*;

use super::live::Record;
use super::repack::{Repack, Tools};
use super::waste::Wasteful;
use crate::monitor::{Counter, Phase};
use crate::pack_writer::Encoded;
use crate::{Error, Result};

/// A delta in a pack that stays is tried only where it is less than one byte in so many of what it would free: the new
/// one holds most of its own bytes besides. In the history of `make bench-prune` 507 were longer; 5 of them
/// took less room, by 4 of 21,832 kB.
const STAYING_ONE_IN: u64 = 2;

/// Deltas that are decoded together, each with its new base.
const BATCH_REBASES: usize = 8;

/// Deltas of which all is known at once, which bounds the memory.
const SLICE_REBASES: usize = 1 << 16;

/// A delta to store anew, and what is not needed any more then.
struct Rebase {
    record: Record,
    /// The record at the bottom of its chain, and how far up from there it is.
    place: (Record, usize),
    /// Records between it and its new base.
    skipped: Vec<Record>,
    base: Option<ChunkId>,
    /// Bytes of the records in packs that go.
    freed_bytes: u64,
}

impl Repack<'_> {
    /// Stores deltas anew where that frees more of `chosen` than it takes. Gives the records that need no copy.
    pub(super) fn rebase_all(&self, chosen: &[Wasteful]) -> Result<HashSet<Record>> {
        let mut plans = self.plan_rebases(chosen);
        plans.sort_unstable_by_key(|plan| (plan.place, plan.record));
        if !plans.is_empty() {
            self.reader.monitor().phase(Phase::Rebase);
            self.reader.monitor().expect(Counter::Chunks, plans.len() as u64);
        }
        let mut done = HashSet::new();
        for slice in plans.chunks(SLICE_REBASES) {
            let entries = self.entries_of(slice)?;
            let rebased = slice
                .par_chunks(BATCH_REBASES)
                .map_init(Tools::default, |tools, batch| self.rebase(batch, &entries, tools))
                .collect::<Result<Vec<_>>>()?;
            done.extend(rebased.into_iter().flatten());
        }
        Ok(done)
    }

    /// Deltas with a base in `chosen` that nothing else needs, but for those that are such bases themselves.
    fn plan_rebases(&self, chosen: &[Wasteful]) -> Vec<Rebase> {
        let numbers: HashSet<u32> = chosen.iter().map(|pack| pack.number).collect();
        let edges = self.live.edges();
        let between = |record: &Record| numbers.contains(&record.0) && self.live.is_between(*record);
        let mut rebases = Vec::new();
        for (record, edge) in edges.iter().filter(|(record, _)| !between(record)) {
            let own_bytes = u64::from(edge.sealed_bytes);
            let goes = numbers.contains(&record.0);
            let mut freed_bytes = if goes { own_bytes } else { 0 };
            let (mut skipped, mut base) = (Vec::new(), edge.base);
            while let Some((below, _)) = base.filter(|(base, _)| between(base)) {
                let Some(edge) = edges.get(&below) else { break };
                freed_bytes += u64::from(edge.sealed_bytes);
                skipped.push(below);
                base = edge.base;
            }
            if !skipped.is_empty() && (goes || own_bytes * STAYING_ONE_IN < freed_bytes) {
                let (record, base) = (*record, base.map(|(_, id)| id));
                rebases.push(Rebase { record, place: self.place_of(record), skipped, base, freed_bytes });
            }
        }
        rebases
    }

    /// The record at the bottom of a chain, as far as it leads through packs that go, and how far up from there `record` is.
    fn place_of(&self, record: Record) -> (Record, usize) {
        let base_of = |record: &Record| Some(self.live.edges().get(record)?.base?.0);
        let chain = std::iter::successors(Some(record), base_of);
        chain.enumerate().last().map_or((record, 0), |(steps, bottom)| (bottom, steps))
    }

    /// What the directories of their packs say of these records.
    fn entries_of(&self, plans: &[Rebase]) -> Result<HashMap<Record, ChunkEntry>> {
        let wanted: HashSet<Record> = plans.iter().map(|plan| plan.record).collect();
        let packs: HashSet<u32> = wanted.iter().map(|(pack, _)| *pack).collect();
        let read = |number| {
            let mut copies = self.live_copies(number, &self.reader.index().pack(number)?)?;
            copies.retain(|copy| wanted.contains(&(copy.pack, copy.ordinal)));
            Ok(copies)
        };
        let copies = packs.into_par_iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(copies.into_iter().flatten().map(|copy| ((copy.pack, copy.ordinal), copy.entry)).collect())
    }

    /// Stores chunks against other bases, where that takes less room. Gives the records that are not needed any more. A
    /// chunk stays as it is where it, or its new base, can't be read.
    fn rebase(
        &self,
        batch: &[Rebase],
        entries: &HashMap<Record, ChunkEntry>,
        tools: &mut Tools,
    ) -> Result<Vec<Record>> {
        self.reader.check_interrupt()?;
        self.reader.monitor().add(Counter::Chunks, batch.len() as u64);
        let batch: Vec<(&Rebase, &ChunkEntry)> =
            batch.iter().filter_map(|plan| Some((plan, entries.get(&plan.record)?))).collect();
        let Tools { verifier, bench, delta, whole, .. } = tools;
        let level = i32::from(self.reader.repo().params.level);
        let mut encoder = Encoder::new(level).map_err(Error::Format)?;
        let mut delta_encoder = DeltaEncoder::new(level).map_err(Error::Format)?;
        // The base first: the way to the chunk leads by it.
        let wanted = batch.iter().flat_map(|(plan, entry)| plan.base.into_iter().chain([entry.id]));
        let wanted: Vec<ChunkId> = wanted.collect();
        let mut fetched = self.reader.chunks().fetch(&wanted, bench).into_iter();
        let mut done = Vec::new();
        for (plan, entry) in batch {
            let base = plan.base.and_then(|_| fetched.next()).transpose();
            let (Ok(base), Some(Ok(plain))) = (base, fetched.next()) else { continue };
            let (codec, form) = match base {
                Some(base) => {
                    delta_encoder.encode(base, plain, delta).map_err(Error::Format)?;
                    (Codec::Delta, &*delta)
                }
                None => (encoder.encode(plain, whole).map_err(Error::Format)?, &*whole),
            };
            if form.len() as u64 >= plan.freed_bytes {
                continue;
            }
            let depth = if base.is_some() { entry.depth - plan.skipped.len() as u8 } else { 0 };
            let entry = ChunkEntry { codec, depth, base: plan.base, ..entry.clone() };
            self.put(&Encoded { entry, stored: form, base }, verifier)?;
            done.push(plan.record);
            done.extend(&plan.skipped);
        }
        Ok(done)
    }
}
