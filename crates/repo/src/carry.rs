//! Carrying: records go to another repository with the same keys as they are. None is decoded but nodes, which tell what
//! is below them.
//!
//! A record is sealed for its place in its pack, so it is opened and sealed anew; what is inside stays as it was
//! compressed. A delta goes behind its base: what a record is stored against is there, and less deep, before the archive
//! is. What can't be carried because its record is damaged is read by another copy, and stored whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dbvault_format::chunk_list::{Item, StreamRef, decode_node};
use dbvault_format::compress::Encoder;
use dbvault_format::id::{ChunkId, PackName};
use dbvault_format::manifest::Sizes;
use dbvault_format::pack::ChunkEntry;
use dbvault_format::similarity::SuperFeatures;
use parking_lot::Mutex;
use rayon::prelude::*;

use crate::copy::CopyCounts;
use crate::index::{Location, read_listing};
use crate::monitor::Counter;
use crate::pack_reader::{PackReader, Records};
use crate::pack_writer::{Encoded, Verifier};
use crate::pipeline::Pipeline;
use crate::{Error, Reader, Result};

/// Records that wait to be carried, and their bytes.
const WAITING_MAX: usize = 1024;
const WAITING_BYTES_MAX: u64 = 32 << 20;

/// Records that one thread reads together.
const BATCH_RECORDS: usize = 32;

/// Chunks that are remembered although the index knows them by now.
const CARRIED_MAX: usize = 100_000;

/// Packs whose directories are remembered.
const DIRECTORIES_MAX: usize = 256;

/// The super-features of the records of a pack.
type Features = Arc<Vec<Option<SuperFeatures>>>;

/// What one thread carries with.
#[derive(Default)]
struct Tools {
    verifier: Verifier,
    records: Records,
}

/// Carries the streams of one archive.
pub(crate) struct Carrier<'a> {
    from: &'a Arc<Reader>,
    to: &'a Pipeline,
    records: PackReader,
    /// For errors: name of the archive, and of the entry that is carried.
    archive: &'a str,
    entry: String,
    /// Nodes that were followed.
    nodes: HashSet<(ChunkId, u8)>,
    /// Chunks that were carried, or are about to be, with their depths: the index may not know them yet.
    carried: HashMap<ChunkId, u8>,
    waiting: Vec<Location>,
    waiting_bytes: u64,
    /// Chunks whose records can't be carried.
    recode: Vec<ChunkId>,
    features: HashMap<PackName, Features>,
    sizes: Sizes,
    counts: CopyCounts,
}

impl<'a> Carrier<'a> {
    /// Carries from what `from` reads into `to`. `archive` is for errors.
    pub(crate) fn new(from: &'a Arc<Reader>, to: &'a Pipeline, archive: &'a str) -> Carrier<'a> {
        Carrier {
            from,
            to,
            records: PackReader::new(from.repo(), from.index().clone()),
            archive,
            entry: String::new(),
            nodes: HashSet::new(),
            carried: HashMap::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            recode: Vec::new(),
            features: HashMap::new(),
            sizes: Sizes::default(),
            counts: CopyCounts::default(),
        }
    }

    /// Sees to it that the other repository has all of the streams of an entry. Gives what was stored for it.
    ///
    /// Errors: [`Error::Unreadable`] for what can't be had here; whatever fails there.
    pub(crate) fn entry<'s>(
        &mut self,
        name: &str,
        streams: impl Iterator<Item = &'s StreamRef>,
    ) -> Result<Sizes> {
        name.clone_into(&mut self.entry);
        self.sizes = Sizes::default();
        for stream in streams {
            stream.validate().map_err(|e| self.unreadable(Error::reading("stream", e)))?;
            if let Some(id) = stream.root {
                self.below(Item { id, stream_bytes: stream.bytes }, stream.levels)?;
            }
        }
        self.flush()?;
        Ok(std::mem::take(&mut self.sizes))
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> CopyCounts {
        self.counts
    }

    fn below(&mut self, item: Item, level: u8) -> Result<()> {
        if level > 0 && !self.nodes.insert((item.id, level)) {
            self.from.monitor().add(Counter::StreamBytes, item.stream_bytes);
            return Ok(());
        }
        let plain_len = (level == 0).then_some(item.stream_bytes);
        self.need(&item.id, u8::MAX, plain_len)?;
        if level == 0 {
            self.from.monitor().add(Counter::StreamBytes, item.stream_bytes);
            return Ok(());
        }
        self.from.check_interrupt()?;
        let node = self.from.fetch_one(&item.id).map_err(|e| self.unreadable(e))?;
        let items = decode_node(&node, level, item.stream_bytes);
        let items = items.map_err(|e| self.unreadable(Error::reading("chunk list", e)))?;
        items.into_iter().try_for_each(|item| self.below(item, level - 1))
    }

    /// Carries a chunk, unless the other repository has it with a depth less than `limit`; before it, what it is stored
    /// against.
    fn need(&mut self, id: &ChunkId, limit: u8, plain_len: Option<u64>) -> Result<()> {
        if self.carried.get(id).is_some_and(|depth| *depth < limit) {
            return Ok(());
        }
        if self.to.reuse().find_below(id, limit)?.is_some() {
            self.counts.shared_chunks += 1;
            return Ok(());
        }
        let copy = self.from.chunks().choose(id, limit).ok().filter(|copy| copy.entry.depth < limit);
        let Some(copy) = copy else { return self.need_recoded(id) };
        if plain_len.is_some_and(|len| len != u64::from(copy.entry.plain_len)) {
            let differs = dbvault_format::Error::malformed("chunk list", "length differs");
            return Err(self.unreadable(Error::reading("chunk list", differs)));
        }
        if let Some(base) = copy.entry.base {
            self.need(&base, copy.entry.depth, None)?;
        }
        self.remember(id, copy.entry.depth);
        self.waiting_bytes += u64::from(copy.entry.sealed_len);
        self.waiting.push(copy);
        let full = self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX;
        if full { self.flush() } else { Ok(()) }
    }

    /// A chunk that has no record to carry.
    fn need_recoded(&mut self, id: &ChunkId) -> Result<()> {
        self.remember(id, 0);
        self.recode.push(*id);
        if self.recode.len() >= BATCH_RECORDS { self.flush() } else { Ok(()) }
    }

    fn remember(&mut self, id: &ChunkId, depth: u8) {
        let packs = self.to.packs();
        if self.carried.len() >= CARRIED_MAX {
            self.carried.retain(|id, _| packs.is_claimed(id));
        }
        packs.claim(id);
        self.carried.insert(*id, depth);
    }

    /// Carries what waits.
    fn flush(&mut self) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        waiting.sort_unstable_by_key(|copy| (copy.pack, copy.offset));
        for copy in &mut waiting {
            copy.entry.features = self.features_of(copy);
        }
        let (records, to, from) = (&self.records, self.to, self.from);
        let failed = Mutex::new(std::mem::take(&mut self.recode));
        // Of several threads only one is told why storing failed.
        let reason = Mutex::new(None);
        let stored = waiting
            .par_chunks(BATCH_RECORDS)
            .map_init(Tools::default, |tools, batch| {
                from.check_interrupt()?;
                let mut sizes = Sizes::default();
                records.read(batch, &mut tools.records);
                for (at, copy) in batch.iter().enumerate() {
                    let Ok(stored) = tools.records.get(at) else {
                        failed.lock().push(copy.entry.id);
                        continue;
                    };
                    let record = Encoded { entry: copy.entry.clone(), stored, base: None };
                    let sealed_len = to.packs().carry(&record, &mut tools.verifier).map_err(|e| {
                        reason.lock().get_or_insert(e);
                        Error::Poisoned
                    })?;
                    count(&mut sizes, &copy.entry, sealed_len);
                }
                Ok(sizes)
            })
            .try_reduce(Sizes::default, |mut all, some| {
                all.add(&some);
                Ok(all)
            })
            .map_err(|e| reason.lock().take().unwrap_or(e))?;
        self.counts.carried_chunks += stored.new_chunks;
        self.counts.carried_bytes += stored.stored_bytes;
        from.monitor().add(Counter::StoredBytes, stored.stored_bytes);
        self.sizes.add(&stored);
        for id in failed.into_inner() {
            self.store_whole(id)?;
        }
        Ok(())
    }

    /// Stores a chunk anew that has to be decoded because a record of it can't be read.
    fn store_whole(&mut self, id: ChunkId) -> Result<()> {
        let plain = self.from.fetch_one(&id).map_err(|e| self.unreadable(e))?;
        let mut stored = Vec::new();
        let mut encoder = Encoder::new(self.to.level()).map_err(Error::Format)?;
        let codec = encoder.encode(&plain, &mut stored).map_err(Error::Format)?;
        let plain_len = plain.len() as u32;
        let entry = ChunkEntry { id, codec, depth: 0, plain_len, sealed_len: 0, base: None, features: None };
        let record = Encoded { entry: entry.clone(), stored: &stored, base: None };
        let sealed_len = self.to.packs().store(&record, &mut Verifier::default())?;
        count(&mut self.sizes, &entry, sealed_len);
        self.counts.recoded_chunks += 1;
        self.from.monitor().add(Counter::StoredBytes, u64::from(sealed_len));
        Ok(())
    }

    /// What later deltas find the chunk by, from the directory of its pack: the index does not have it. Where that can't
    /// be read, nobody finds it.
    fn features_of(&mut self, copy: &Location) -> Option<SuperFeatures> {
        let (info, _) = self.records.pack(copy.pack).ok()?;
        if self.features.len() >= DIRECTORIES_MAX && !self.features.contains_key(&info.name) {
            self.features.clear();
        }
        let repo = self.from.repo();
        let features = self.features.entry(info.name).or_insert_with(|| {
            let listing = read_listing(repo, info.name, info.salt, info.size_bytes);
            let entries = listing.map(|listing| listing.entries).unwrap_or_default();
            Arc::new(entries.into_iter().map(|entry| entry.features).collect())
        });
        features.get(copy.ordinal as usize).copied().flatten()
    }

    /// An error about what is read, with what it is of. That the user wants to stop is none.
    fn unreadable(&self, error: Error) -> Error {
        unreadable(self.archive, &self.entry, error)
    }
}

/// An error about what is read of an entry. That the user wants to stop is none of these.
pub(crate) fn unreadable(archive: &str, entry: &str, error: Error) -> Error {
    match error {
        stop @ (Error::Interrupted | Error::Unreadable { .. }) => stop,
        error => Error::Unreadable { archive: archive.into(), entry: entry.into(), source: Box::new(error) },
    }
}

fn count(sizes: &mut Sizes, entry: &ChunkEntry, sealed_len: u32) {
    sizes.new_bytes += u64::from(entry.plain_len);
    sizes.stored_bytes += u64::from(sealed_len);
    sizes.new_chunks += 1;
    sizes.delta_chunks += u64::from(entry.base.is_some());
}
