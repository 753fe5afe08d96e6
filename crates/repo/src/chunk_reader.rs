//! Chunks by id: locate, read, open, decode against bases, and prove the id.

use std::collections::HashMap;
use std::sync::Arc;

use dbvault_format::DELTA_DEPTH_MAX;
use dbvault_format::compress::Decoder;
use dbvault_format::id::ChunkId;

use crate::index::{ChunkIndex, Location};
use crate::pack_reader::PackReader;
use crate::{Error, Repository, Result};

/// Reads chunks.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    repo: Repository,
    index: Arc<ChunkIndex>,
    packs: PackReader,
}

/// The chosen copy of a chunk and its stored form, as a plan read it.
type Planned = HashMap<ChunkId, (Location, Result<Vec<u8>>)>;

impl ChunkReader {
    /// Reads chunks that `index` knows.
    pub(crate) fn new(repo: &Repository, index: Arc<ChunkIndex>) -> ChunkReader {
        ChunkReader { repo: repo.clone(), packs: PackReader::new(repo, index.clone()), index }
    }

    /// The bytes of `ids`, in their order. All records, those of bases too, are read in one planned batch;
    /// a chunk whose chosen copy is damaged is tried from its other copies.
    pub(crate) fn fetch(&self, ids: &[ChunkId]) -> Vec<Result<Vec<u8>>> {
        // Without a plan some chunk has no location: which one shows when they are fetched one by one.
        let plan = self.plan(ids).unwrap_or_default();
        ids.iter()
            .map(|id| self.decode_planned(id, &plan).or_else(|_| self.fetch_any_copy(id, &mut Vec::new())))
            .collect()
    }

    /// The bytes of one chunk.
    pub(crate) fn fetch_one(&self, id: &ChunkId) -> Result<Vec<u8>> {
        let plan = self.plan(&[*id]).unwrap_or_default();
        self.decode_planned(id, &plan).or_else(|_| self.fetch_any_copy(id, &mut Vec::new()))
    }

    /// Locates and reads one copy each of `ids` and of all they are stored against.
    fn plan(&self, ids: &[ChunkId]) -> Result<Planned> {
        let mut locations: HashMap<ChunkId, Location> = HashMap::with_capacity(ids.len());
        for id in ids {
            let (mut next, mut steps) = (Some(*id), 0);
            while let Some(id) = next.filter(|id| !locations.contains_key(id) && steps <= DELTA_DEPTH_MAX) {
                // The copy that needs the fewest others: its base has a copy that needs fewer still, so this
                // never leads back, whatever other sessions have stored against what.
                let copies = self.index.locate(&id)?.into_iter();
                let location =
                    copies.min_by_key(|copy| copy.entry.depth).ok_or(Error::ChunkMissing { id })?;
                next = location.entry.base;
                steps += 1;
                locations.insert(id, location);
            }
        }
        let locations: Vec<Location> = locations.into_values().collect();
        let records = self.packs.read(&locations);
        Ok(locations.into_iter().zip(records).map(|(at, record)| (at.entry.id, (at, record))).collect())
    }

    /// Decodes along the planned chain, lowest base first, holding two chunks at a time.
    fn decode_planned(&self, id: &ChunkId, plan: &Planned) -> Result<Vec<u8>> {
        let mut chain = Vec::new();
        let mut next = Some(*id);
        while let Some(id) = next {
            let (location, record) = plan.get(&id).ok_or(Error::ChunkMissing { id })?;
            let record = record.as_ref().map_err(|_| Error::ChunkMissing { id })?;
            if chain.len() > usize::from(DELTA_DEPTH_MAX) {
                return Err(Error::ChunkMissing { id });
            }
            chain.push((location, record));
            next = location.entry.base;
        }
        let mut plain: Option<Vec<u8>> = None;
        for (location, record) in chain.into_iter().rev() {
            plain = Some(self.decode(location, record, plain.as_deref())?);
        }
        plain.ok_or(Error::ChunkMissing { id: *id })
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
            let plain = base.and_then(|base| {
                let record = self.packs.read(std::slice::from_ref(&location)).remove(0)?;
                self.decode(&location, &record, base.as_deref())
            });
            match plain {
                Ok(plain) => return Ok(plain),
                Err(e) => failure = e,
            }
        }
        Err(failure)
    }

    /// Decodes one stored form and proves its id.
    pub(crate) fn decode(&self, location: &Location, record: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>> {
        let entry = &location.entry;
        let plain = Decoder::new().decode(entry.codec, record, entry.plain_len as usize, base);
        let plain = plain.and_then(|plain| match self.repo.keys.chunk_id(&plain) == entry.id {
            true => Ok(plain),
            false => Err(dbvault_format::Error::WrongChunk { id: entry.id }),
        });
        plain.map_err(|e| {
            let name =
                self.packs.pack(location.pack).map(|(info, _)| crate::layout::pack(&info.name).to_string());
            Error::reading(name.unwrap_or_default(), e)
        })
    }
}
