//! What the steps work on: the chunks of both days, their stored forms, and pairs of similar chunks.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::Range;

use dbvault_format::chunker::{Chunker, ChunkerParams, RecentCandidates};
use dbvault_format::compress::{Codec, DeltaEncoder, Encoder, LEVEL_DEFAULT};
use dbvault_format::id::RepoId;
use dbvault_format::keys::{Keys, MasterKey};
use dbvault_format::similarity::Similarity;

use crate::dumps::Dumps;

/// A chunk as it is stored.
pub(crate) struct Stored {
    pub(crate) codec: Codec,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Material {
    pub(crate) day0: Vec<u8>,
    pub(crate) day1: Vec<u8>,
    pub(crate) repo: RepoId,
    pub(crate) master: MasterKey,
    pub(crate) keys: Keys,
    /// The chunks of the first day.
    chunks: Vec<Range<usize>>,
    /// Each chunk of the first day, compressed alone.
    pub(crate) stored: Vec<Stored>,
    /// Chunks of the first day, and those of the second that are stored against them.
    pairs: Vec<(Range<usize>, Range<usize>)>,
    /// The second of each pair.
    pub(crate) deltas: Vec<Vec<u8>>,
}

impl Material {
    /// Does once, without a clock, all that the steps do.
    pub(crate) fn prepare(dumps: &Dumps) -> Result<Self, String> {
        let read = |path| fs::read(path).map_err(|error| format!("{error}"));
        let (day0, day1) = (read(&dumps.day0)?, read(&dumps.day1)?);
        // The same keys every time, so that two runs are about the same chunks.
        let master = MasterKey([7; 32]);
        let keys = Keys::derive(&master);
        let chunks = cut(&keys, &day0)?;
        let pairs = similar_pairs(&keys, (&day0, &chunks), (&day1, &cut(&keys, &day1)?));
        let mut encoder = Encoder::new(LEVEL_DEFAULT).map_err(|error| error.to_string())?;
        let encode = |chunk: &Range<usize>| {
            let mut bytes = Vec::new();
            encoder.encode(&day0[chunk.clone()], &mut bytes).map(|codec| Stored { codec, bytes })
        };
        let stored: Result<Vec<Stored>, _> = chunks.iter().map(encode).collect();
        let mut encoder = DeltaEncoder::new(LEVEL_DEFAULT).map_err(|error| error.to_string())?;
        let encode = |(base, plain): &(Range<usize>, Range<usize>)| {
            let mut bytes = Vec::new();
            encoder.encode(&day0[base.clone()], &day1[plain.clone()], &mut bytes).map(|()| bytes)
        };
        let deltas: Result<Vec<Vec<u8>>, _> = pairs.iter().map(encode).collect();
        drop(encoder);
        Ok(Self {
            repo: RepoId([9; 32]),
            master,
            keys,
            chunks,
            stored: stored.map_err(|error| error.to_string())?,
            pairs,
            deltas: deltas.map_err(|error| error.to_string())?,
            day0,
            day1,
        })
    }

    /// The chunks of the first day.
    pub(crate) fn chunks(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.chunks.iter().map(|chunk| &self.day0[chunk.clone()])
    }

    pub(crate) fn chunk(&self, number: usize) -> &[u8] {
        &self.day0[self.chunks[number].clone()]
    }

    /// Bases, and what is stored against them.
    pub(crate) fn pairs(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        (0..self.pairs.len()).map(|number| self.pair(number))
    }

    pub(crate) fn pair(&self, number: usize) -> (&[u8], &[u8]) {
        let (base, plain) = &self.pairs[number];
        (&self.day0[base.clone()], &self.day1[plain.clone()])
    }
}

fn cut(keys: &Keys, data: &[u8]) -> Result<Vec<Range<usize>>, String> {
    let chunker = Chunker::new(ChunkerParams::default(), &keys.chunker).map_err(|error| error.to_string())?;
    let (mut chunks, mut recent, mut at) = (Vec::new(), RecentCandidates::default(), 0);
    while at < data.len() {
        let end = at + chunker.cut(&data[at..], &mut recent);
        chunks.push(at..end);
        at = end;
    }
    Ok(chunks)
}

/// As a backup finds them: of the chunks that share a super-feature the newest serves as base.
fn similar_pairs(
    keys: &Keys,
    (day0, chunks0): (&[u8], &[Range<usize>]),
    (day1, chunks1): (&[u8], &[Range<usize>]),
) -> Vec<(Range<usize>, Range<usize>)> {
    let similarity = Similarity::new(&keys.similarity);
    let features = |chunk: &[u8]| {
        let features = similarity.features(chunk).map(|features| features.0);
        features.into_iter().flat_map(|all| all.into_iter().enumerate())
    };
    let (mut known, mut similar) = (HashSet::new(), HashMap::new());
    for chunk in chunks0 {
        known.insert(keys.chunk_id(&day0[chunk.clone()]));
        similar.extend(features(&day0[chunk.clone()]).map(|feature| (feature, chunk.clone())));
    }
    let is_new = |chunk: &&Range<usize>| !known.contains(&keys.chunk_id(&day1[(*chunk).clone()]));
    let pair = |chunk: &Range<usize>| {
        let base = features(&day1[chunk.clone()]).find_map(|feature| similar.get(&feature))?;
        Some((base.clone(), chunk.clone()))
    };
    chunks1.iter().filter(is_new).filter_map(pair).collect()
}
