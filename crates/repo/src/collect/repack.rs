//! Repacking: live records of condemned packs are stored again, so that the packs can go.
//!
//! The new packs are written as a backup would, under a session id that is never registered and fills no slot: the
//! root of the epoch lists them. If another root is quicker, they are waste. Nobody has to wait for it: what it
//! builds on goes in no epoch before the next, and that begins with the root of this one.
//!
//! A delta whose base nothing else needs would keep that base alive, and what the base is stored against. Such a
//! chunk is stored anew against the first chunk below that is needed anyway, or whole, where that takes less.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbvault_format::compress::{Codec, DeltaEncoder, Encoder};
use dbvault_format::header::HEADER_BYTES;
use dbvault_format::id::{ChunkId, SessionId};
use dbvault_format::index_segment::PackListing;
use dbvault_format::pack::ChunkEntry;
use parking_lot::Mutex;
use rayon::prelude::*;

use super::live::{Live, Record};
use super::recompress::{Candidate, Recode};
use super::waste::{Bytes, Wasteful};
use crate::chunk_reader::Bench;
use crate::index::{Location, PackInfo, read_listing};
use crate::monitor::Counter;
use crate::pack_reader::{PackReader, Records};
use crate::pack_writer::{Encoded, PackWriter, Verifier};
use crate::reuse::Reuse;
use crate::segment_writer::SegmentWriter;
use crate::view::View;
use crate::{Error, Reader, Result, entropy};

/// Records that are read together.
const BATCH_RECORDS: usize = 32;

/// A delta in a pack that stays is tried only where it is less than one byte in so many of what it would free: the new
/// one holds most of its own bytes besides. In the history of `make bench-prune` 507 were longer; 5 of them
/// took less room, by 4 of 21,832 kB.
const STAYING_ONE_IN: u64 = 2;

/// What has been stored again.
#[derive(Debug)]
pub(super) struct Repacked {
    /// Its segments list the new packs.
    pub(super) session: SessionId,
    /// Bytes of records that were stored again.
    pub(super) stored_bytes: u64,
}

/// What one thread repacks with.
#[derive(Default)]
pub(super) struct Tools {
    pub(super) verifier: Verifier,
    pub(super) bench: Bench,
    pub(super) records: Records,
    pub(super) delta: Vec<u8>,
    pub(super) whole: Vec<u8>,
}

/// A delta that is stored anew, and what is not needed any more then.
struct Rebase {
    /// Records between it and its new base.
    skipped: Vec<Record>,
    base: Option<ChunkId>,
    /// Bytes of the records in packs that go.
    freed_bytes: u64,
}

/// Stores records again.
pub(super) struct Repack<'a> {
    pub(super) reader: &'a Arc<Reader>,
    live: &'a Live,
    packs: PackWriter,
    pub(super) records: PackReader,
    stored_bytes: AtomicU64,
    /// What failed first: after that others only know that something has.
    failure: Mutex<Option<Error>>,
}

/// Stores the live records of `chosen` packs again, durably. Records that can't be read stay where they are, and
/// so do their packs. Those of `recoding` are stored again only where they gain by another form.
pub(super) fn run(
    reader: &Arc<Reader>,
    live: &Live,
    chosen: &[Wasteful],
    recoding: Option<(&Recode, &[Candidate])>,
) -> Result<Repacked> {
    let (repo, index, session) = (reader.repo(), reader.index(), entropy::session_id()?);
    index.make_writable(repo)?;
    let reuse = Arc::new(Reuse::new(repo, index.clone(), View::default(), session));
    let segments = SegmentWriter::new(repo, reuse, session);
    let repack = Repack {
        reader,
        live,
        packs: PackWriter::new(repo, session, segments, index.clone())?,
        records: PackReader::new(repo, index.clone()),
        stored_bytes: AtomicU64::new(0),
        failure: Mutex::default(),
    };
    let packs = chosen.len() + recoding.map_or(0, |(_, candidates)| candidates.len());
    reader.monitor().expect(Counter::Packs, packs as u64);
    let stored = repack.store_all(chosen).and_then(|()| match recoding {
        Some((recode, candidates)) => repack.recompress(candidates, recode),
        None => Ok(()),
    });
    let Repack { packs, stored_bytes, failure, .. } = repack;
    // Of several threads only one is told why storing failed, and it may be one of the writer's own.
    let finished = packs.finish();
    if let Err(last) = stored {
        let first = failure.into_inner();
        return Err(first.or(finished.err()).unwrap_or(last));
    }
    finished?;
    repo.storage.flush()?;
    Ok(Repacked { session, stored_bytes: stored_bytes.into_inner() })
}

impl Repack<'_> {
    fn store_all(&self, chosen: &[Wasteful]) -> Result<()> {
        let done = self.rebase_all(chosen)?;
        chosen.par_iter().try_for_each_init(Tools::default, |tools, pack| {
            self.copy(pack, &done, tools)?;
            self.reader.monitor().add(Counter::Packs, 1);
            Ok(())
        })
    }

    /// Stores deltas anew where that frees more of `chosen` than it takes. Gives the records that need no copy.
    fn rebase_all(&self, chosen: &[Wasteful]) -> Result<HashSet<Record>> {
        let mut plans = BTreeMap::<u32, HashMap<u32, Rebase>>::new();
        for ((pack, ordinal), plan) in self.plan_rebases(chosen) {
            plans.entry(pack).or_default().insert(ordinal, plan);
        }
        plans
            .par_iter()
            .map_init(Tools::default, |tools, (pack, plans)| self.rebase(*pack, plans, tools))
            .try_reduce(HashSet::new, |mut all, some| {
                all.extend(some);
                Ok(all)
            })
    }

    /// Deltas with a base in `chosen` that nothing else needs, but for those that are such bases themselves.
    fn plan_rebases(&self, chosen: &[Wasteful]) -> Vec<(Record, Rebase)> {
        let numbers: HashSet<u32> = chosen.iter().map(|pack| pack.number).collect();
        let edges = self.live.edges();
        let between = |record: &Record| numbers.contains(&record.0) && self.live.is_between(*record);
        let mut rebases = Vec::new();
        for (record, edge) in edges.iter().filter(|(record, _)| !between(record)) {
            let mut plan = Rebase { skipped: Vec::new(), base: None, freed_bytes: 0 };
            let own_bytes = u64::from(edge.sealed_bytes);
            let goes = numbers.contains(&record.0);
            if goes {
                plan.freed_bytes += own_bytes;
            }
            let mut base = edge.base;
            while let Some((skipped, _)) = base.filter(|(base, _)| between(base)) {
                let Some(below) = edges.get(&skipped) else { break };
                plan.freed_bytes += u64::from(below.sealed_bytes);
                plan.skipped.push(skipped);
                base = below.base;
            }
            plan.base = base.map(|(_, id)| id);
            if !plan.skipped.is_empty() && (goes || own_bytes * STAYING_ONE_IN < plan.freed_bytes) {
                rebases.push((*record, plan));
            }
        }
        rebases
    }

    /// Stores those of a pack anew that take less room then.
    fn rebase(
        &self,
        number: u32,
        plans: &HashMap<u32, Rebase>,
        tools: &mut Tools,
    ) -> Result<HashSet<Record>> {
        let mut done = HashSet::new();
        for copy in self.live_copies(number, &self.reader.index().pack(number)?)? {
            let Some(plan) = plans.get(&copy.ordinal) else { continue };
            self.reader.repo().client.check_interrupt()?;
            if self.store_anew(&copy.entry, plan, tools)? {
                done.insert((number, copy.ordinal));
                done.extend(&plan.skipped);
            }
        }
        Ok(done)
    }

    /// Stores a chunk against another base, if that takes less room. Not where one of the two can't be read.
    fn store_anew(&self, entry: &ChunkEntry, plan: &Rebase, tools: &mut Tools) -> Result<bool> {
        let Tools { verifier, bench, delta, whole, .. } = tools;
        let level = i32::from(self.reader.repo().params.level);
        // The base first: the way to the chunk leads by it.
        let wanted: Vec<ChunkId> = plan.base.into_iter().chain([entry.id]).collect();
        let fetched: Result<Vec<&[u8]>> = self.reader.chunks().fetch(&wanted, bench).into_iter().collect();
        let Ok([base @ .., plain]) = fetched.as_deref() else { return Ok(false) };
        let base = base.first().copied();
        let (codec, form) = match base {
            Some(base) => {
                let mut encoder = DeltaEncoder::new(level).map_err(Error::Format)?;
                encoder.encode(base, plain, delta).map_err(Error::Format)?;
                (Codec::Delta, &*delta)
            }
            None => {
                let mut encoder = Encoder::new(level).map_err(Error::Format)?;
                (encoder.encode(plain, whole).map_err(Error::Format)?, &*whole)
            }
        };
        if form.len() as u64 >= plan.freed_bytes {
            return Ok(false);
        }
        let depth = if base.is_some() { entry.depth - plan.skipped.len() as u8 } else { 0 };
        let entry = ChunkEntry { codec, depth, base: plan.base, ..entry.clone() };
        self.put(&Encoded { entry, stored: form, base }, verifier)?;
        Ok(true)
    }

    /// Copies the live records of a pack but for those in `done`, as they are. Where none is dead after all, the pack stays.
    fn copy(&self, pack: &Wasteful, done: &HashSet<Record>, tools: &mut Tools) -> Result<()> {
        let mut bytes = Bytes::default();
        let live = |ordinal| self.live.has((pack.number, ordinal)) && !done.contains(&(pack.number, ordinal));
        for (ordinal, entry) in (0..).zip(self.reader.index().entries(&pack.info.name)?) {
            bytes.add(entry.sealed_len, live(ordinal), !live(ordinal));
        }
        if !bytes.any_waste() {
            return Ok(());
        }
        let mut copies = self.live_copies(pack.number, &pack.info)?;
        copies.retain(|copy| live(copy.ordinal));
        let Tools { verifier, records, .. } = tools;
        for batch in copies.chunks(BATCH_RECORDS) {
            self.reader.repo().client.check_interrupt()?;
            self.records.read(batch, records);
            for (at, copy) in batch.iter().enumerate() {
                let Ok(stored) = records.get(at) else {
                    tracing::warn!("chunk {} can't be read: see dbvault check", copy.entry.id);
                    continue;
                };
                let record = Encoded { entry: copy.entry.clone(), stored, base: None };
                self.count(self.packs.carry(&record, verifier))?;
            }
        }
        Ok(())
    }

    /// Keeps an error that tells something.
    fn first_failure(&self, error: Error) -> Error {
        if matches!(error, Error::Poisoned) {
            return error;
        }
        self.failure.lock().get_or_insert(error);
        Error::Poisoned
    }

    /// Stores a record of another form.
    pub(super) fn put(&self, chunk: &Encoded, verifier: &mut Verifier) -> Result<()> {
        self.count(self.packs.store(chunk, verifier))
    }

    fn count(&self, stored_bytes: Result<u32>) -> Result<()> {
        let stored_bytes = stored_bytes.map_err(|e| self.first_failure(e))?;
        self.stored_bytes.fetch_add(u64::from(stored_bytes), Ordering::Relaxed);
        Ok(())
    }

    /// Where the live records of a pack are. By its own directory, which has the features that later deltas look
    /// for; none where that can't be read.
    pub(super) fn live_copies(&self, number: u32, info: &PackInfo) -> Result<Vec<Location>> {
        let entries = match read_listing(self.reader.repo(), info.name, info.salt, info.size_bytes) {
            Ok(PackListing { entries, .. }) => entries,
            Err(e @ Error::Damaged { .. }) => {
                tracing::warn!("{e}");
                Vec::new()
            }
            Err(e) => return Err(e),
        };
        let mut offset = HEADER_BYTES as u32;
        let locate = (0..).zip(entries).map(|(ordinal, entry)| {
            let begin = offset;
            offset += entry.sealed_len;
            Location { pack: number, ordinal, offset: begin, entry }
        });
        Ok(locate.filter(|copy| self.live.has((copy.pack, copy.ordinal))).collect())
    }
}
