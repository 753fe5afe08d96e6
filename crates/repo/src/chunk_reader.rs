//! Chunks by id: locate, read, open, decode against bases, and prove the id.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::compress::Decoder;
use dbvault_format::id::ChunkId;
use dbvault_format::{CHUNK_BYTES_MAX, DELTA_DEPTH_MAX};

use crate::index::{ChunkIndex, Location};
use crate::pack_reader::{PackReader, Records, room};
use crate::{Error, Repository, Result};

/// Reads chunks.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    repo: Repository,
    index: Arc<ChunkIndex>,
    packs: PackReader,
}

/// What reading chunks needs besides: memory that one thread uses again for one batch after the other. Fresh
/// memory costs more than what is done with it, for the system clears every page of it.
#[derive(Debug, Default)]
pub(crate) struct Bench {
    decoder: Decoder,
    records: Records,
    /// A base, and what is decoded against it while it is a base itself.
    bases: [Vec<u8>; 2],
    /// What [`ChunkReader::fetch`] gives out.
    fetched: Vec<u8>,
}

/// One copy each of the chunks of a batch, and of all they are stored against.
#[derive(Debug, Default)]
struct Plan {
    locations: Vec<Location>,
    /// Where in `locations` a chunk is.
    places: HashMap<ChunkId, usize>,
}

/// Chunks that are decoded already, by where in `bytes` they are.
#[derive(Clone, Copy, Default)]
struct Known<'a> {
    bytes: &'a [u8],
    places: Option<&'a HashMap<ChunkId, Range<usize>>>,
}

impl<'a> Known<'a> {
    fn get(self, id: &ChunkId) -> Option<&'a [u8]> {
        self.places?.get(id).and_then(|place| self.bytes.get(place.clone()))
    }
}

impl Plan {
    /// Length of a chunk, bytes; 0 where it has no location.
    fn plain_bytes(&self, id: &ChunkId) -> usize {
        let len = self.places.get(id).map_or(0, |at| self.locations[*at].entry.plain_len);
        (len as usize).min(CHUNK_BYTES_MAX)
    }
}

impl ChunkReader {
    /// Reads chunks that `index` knows.
    pub(crate) fn new(repo: &Repository, index: Arc<ChunkIndex>) -> ChunkReader {
        ChunkReader { repo: repo.clone(), packs: PackReader::new(repo, index.clone()), index }
    }

    /// The bytes of `ids`, in their order. All records, those of bases too, are read in one planned batch;
    /// a chunk whose chosen copy is damaged is tried from its other copies. What is decoded of `ids` is not decoded
    /// again for those after it: bases first.
    pub(crate) fn fetch<'a>(&self, ids: &[ChunkId], bench: &'a mut Bench) -> Vec<Result<&'a [u8]>> {
        let plan = self.read(ids, bench);
        let mut memory = std::mem::take(&mut bench.fetched);
        let (mut end, mut done) = (0, HashMap::new());
        let mut fetch = |id: &ChunkId| {
            if let Some(place) = done.get(id) {
                return Ok(Range::clone(place));
            }
            let begin = end;
            end += plan.plain_bytes(id);
            let (bytes, plain) = room(&mut memory, end).split_at_mut(begin);
            let known = Known { bytes, places: Some(&done) };
            if self.decode_planned(id, &plan, bench, plain, known).is_err() {
                let found = self.fetch_any_copy(id, &mut Vec::new())?;
                end = begin + found.len();
                room(&mut memory, end)[begin..].copy_from_slice(&found);
            }
            done.insert(*id, begin..end);
            Ok(begin..end)
        };
        let places: Vec<Result<Range<usize>>> = ids.iter().map(&mut fetch).collect();
        bench.fetched = memory;
        places.into_iter().map(|place| Ok(&bench.fetched[place?])).collect()
    }

    /// As [`ChunkReader::fetch`], each chunk in memory of its own, for those who keep them: `memory` gives some that may
    /// be used again.
    pub(crate) fn fetch_apart(
        &self,
        ids: &[ChunkId],
        bench: &mut Bench,
        memory: &mut dyn FnMut() -> Vec<u8>,
    ) -> Vec<Result<Vec<u8>>> {
        let plan = self.read(ids, bench);
        let mut fetch = |id: &ChunkId| {
            let mut plain = memory();
            plain.resize(plan.plain_bytes(id), 0);
            match self.decode_planned(id, &plan, bench, &mut plain, Known::default()) {
                Ok(()) => Ok(plain),
                Err(_) => self.fetch_any_copy(id, &mut Vec::new()),
            }
        };
        ids.iter().map(&mut fetch).collect()
    }

    /// The bytes of one chunk.
    pub(crate) fn fetch_one(&self, id: &ChunkId) -> Result<Vec<u8>> {
        let mut bench = Bench::default();
        let found = self.fetch(&[*id], &mut bench).pop();
        found.unwrap_or(Err(Error::ChunkMissing { id: *id })).map(<[u8]>::to_vec)
    }

    /// As [`ChunkReader::fetch`], into memory that is there: each chunk has the length that comes with it in
    /// `wanted`, and `out` the sum of these.
    pub(crate) fn fetch_into(
        &self,
        wanted: &[(ChunkId, usize)],
        bench: &mut Bench,
        mut out: &mut [u8],
    ) -> Result<()> {
        let ids: Vec<ChunkId> = wanted.iter().map(|(id, _)| *id).collect();
        let plan = self.read(&ids, bench);
        for (id, len) in wanted {
            let (plain, rest) = out.split_at_mut(*len);
            out = rest;
            if self.decode_planned(id, &plan, bench, plain, Known::default()).is_err() {
                let found = self.fetch_any_copy(id, &mut Vec::new())?;
                if found.len() != plain.len() {
                    let differs = dbvault_format::Error::malformed("chunk list", "length differs");
                    return Err(Error::reading("chunk list", differs));
                }
                plain.copy_from_slice(&found);
            }
        }
        Ok(())
    }

    /// Reads what [`ChunkReader::decode_planned`] needs for `ids`.
    fn read(&self, ids: &[ChunkId], bench: &mut Bench) -> Plan {
        // Without a plan some chunk has no location: which one shows when they are fetched one by one.
        let plan = self.plan(ids).unwrap_or_default();
        self.packs.read(&plan.locations, &mut bench.records);
        plan
    }

    /// Locates one copy each of `ids` and of all they are stored against.
    fn plan(&self, ids: &[ChunkId]) -> Result<Plan> {
        let mut plan = Plan::default();
        for id in ids {
            let (mut next, mut limit) = (Some(*id), DELTA_DEPTH_MAX + 1);
            while let Some(id) = next.filter(|id| limit > 0 && !plan.places.contains_key(id)) {
                let location = self.choose(&id, limit)?;
                next = location.entry.base;
                limit = location.entry.depth;
                plan.places.insert(id, plan.locations.len());
                plan.locations.push(location);
            }
        }
        Ok(plan)
    }

    /// A copy of the chunk that needs fewer than `limit` others. Its base has a copy that needs fewer still, so
    /// this never leads back, whatever other sessions have stored against what.
    pub(crate) fn choose(&self, id: &ChunkId, limit: u8) -> Result<Location> {
        let near = self.index.locate_some(id)?;
        if let Some(copy) = near.into_iter().find(|copy| copy.entry.depth < limit) {
            return Ok(copy);
        }
        let all = self.index.locate(id)?.into_iter();
        all.min_by_key(|copy| copy.entry.depth).ok_or(Error::ChunkMissing { id: *id })
    }

    /// Decodes along the planned chain into `plain`, lowest base first, from a `known` chunk on if there is one. Only what
    /// comes out at its end is proven: nothing but the right bases leads to bytes that have the id.
    ///
    /// An error says no more than that some record of the chain is of no use.
    fn decode_planned(
        &self,
        id: &ChunkId,
        plan: &Plan,
        bench: &mut Bench,
        plain: &mut [u8],
        known: Known,
    ) -> Result<()> {
        let (mut chain, mut known_base) = (Vec::new(), None);
        let mut next = Some(*id);
        while let Some(id) = next.filter(|_| chain.len() <= usize::from(DELTA_DEPTH_MAX)) {
            known_base = if chain.is_empty() { None } else { known.get(&id) };
            if known_base.is_some() {
                break;
            }
            let at = *plan.places.get(&id).ok_or(Error::ChunkMissing { id })?;
            chain.push(at);
            next = plan.locations[at].entry.base;
        }
        let Bench { decoder, records, bases: [base, above], .. } = bench;
        let mut base_len = None;
        while let Some(at) = chain.pop() {
            let entry = &plan.locations[at].entry;
            let record = records.get(at).map_err(|_| Error::ChunkMissing { id: entry.id })?;
            let len = (entry.plain_len as usize).min(CHUNK_BYTES_MAX);
            let out = if chain.is_empty() { &mut *plain } else { room(above, len) };
            if out.len() != entry.plain_len as usize {
                return Err(Error::ChunkMissing { id: entry.id });
            }
            let against = base_len.map(|len| &base[..len]).or(known_base);
            decoder.decode_into(entry.codec, record, against, out).map_err(Error::Format)?;
            std::mem::swap(base, above);
            base_len = Some(len);
        }
        self.prove(id, plain).map_err(Error::Format)
    }

    /// Tries every copy of a chunk, and of all it is stored against, until one is right. `above` are the
    /// chunks that are stored against it: copies that lead back to one of them are of no use.
    ///
    /// Errors: [`Error::ChunkMissing`] where there is no copy, or what is wrong with the last one.
    fn fetch_any_copy(&self, id: &ChunkId, above: &mut Vec<ChunkId>) -> Result<Vec<u8>> {
        let mut failure = Error::ChunkMissing { id: *id };
        if above.contains(id) || above.len() > usize::from(DELTA_DEPTH_MAX) {
            return Err(failure);
        }
        for location in self.index.locate(id)? {
            above.push(*id);
            let base = location.entry.base.map(|base| self.fetch_any_copy(&base, above)).transpose();
            above.pop();
            match base.and_then(|base| self.fetch_copy(&location, base.as_deref())) {
                Ok(plain) => return Ok(plain),
                Err(e) => failure = e,
            }
        }
        Err(failure)
    }

    /// Reads one copy of a chunk and proves its id.
    fn fetch_copy(&self, location: &Location, base: Option<&[u8]>) -> Result<Vec<u8>> {
        let entry = &location.entry;
        let record = match self.packs.read_one(location) {
            Ok(record) => record,
            // The first error is the one that tells.
            Err(e) => self.packs.read_rescued(location).ok().flatten().ok_or(e)?,
        };
        let plain = Decoder::new().decode(entry.codec, &record, entry.plain_len as usize, base);
        plain.and_then(|plain| self.prove(&entry.id, &plain).map(|()| plain)).map_err(|e| {
            let name =
                self.packs.pack(location.pack).map(|(info, _)| crate::layout::pack(&info.name).to_string());
            Error::reading(name.unwrap_or_default(), e)
        })
    }

    fn prove(&self, id: &ChunkId, plain: &[u8]) -> dbvault_format::Result<()> {
        if self.repo.keys.chunk_id(plain) == *id {
            Ok(())
        } else {
            Err(dbvault_format::Error::WrongChunk { id: *id })
        }
    }
}
