//! Content-defined chunking: FastCDC 2020 with a secret gear table.
//!
//! Source: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
//! Systems", IEEE TPDS 2020. The secret table keeps cut points from being guessed from public data, but it is
//! no proof (Truong et al., "Breaking and Fixing Content-Defined Chunking", 2025): what hides chunk lengths
//! is that they only ever stand inside seals.

use std::ops::ControlFlow;

use fastcdc::v2020::{Normalization, select_masks};
use minicbor::{Decode, Encode};

use crate::keys::PurposeKey;
use crate::{CHUNK_BYTES_MAX, Error, Result};

/// Smallest and largest average chunk that is allowed, bytes.
pub const AVERAGE_BYTES: std::ops::RangeInclusive<u32> = 4 << 10..=4 << 20;

/// How streams are cut; part of the repository's `config`, so that every client cuts alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ChunkerParams {
    /// Smallest chunk but for the last of a stream, bytes; even.
    #[n(0)]
    pub min_bytes: u32,
    /// Where the looser mask takes over, bytes; even. Chunks are about a quarter larger on average.
    #[n(1)]
    pub average_bytes: u32,
    /// Largest chunk, bytes; even.
    #[n(2)]
    pub max_bytes: u32,
}

impl Default for ChunkerParams {
    fn default() -> ChunkerParams {
        ChunkerParams { min_bytes: 64 << 10, average_bytes: 256 << 10, max_bytes: 1 << 20 }
    }
}

impl ChunkerParams {
    /// Checks the bounds. Errors: [`Error::Malformed`] naming the rule that is broken.
    pub fn validate(&self) -> Result<()> {
        let (min, average, max) = (self.min_bytes, self.average_bytes, self.max_bytes);
        let even = [min, average, max].iter().all(|bytes| bytes % 2 == 0);
        let ordered = 64 <= min && min < average && average < max && max as usize <= CHUNK_BYTES_MAX;
        if even && ordered && AVERAGE_BYTES.contains(&average) {
            Ok(())
        } else {
            Err(Error::malformed("chunker parameters", format!("{min}, {average}, {max}")))
        }
    }
}

/// Bits of a gear hash that make up the kind of a candidate: what the last 12 bytes decide. The masks leave
/// these bits free.
const KIND_MASK: u64 = (1 << 12) - 1;

/// A candidate is passed over when one of its kind is at most this far before it, bytes.
const KIND_DISTANCE_BYTES: usize = 64 << 10;

/// Candidates that are remembered: more than there are in [`KIND_DISTANCE_BYTES`], but for odd data.
const CANDIDATES_MAX: usize = 16;

/// Bytes after a candidate in which there is no other; even.
const RESTART_BYTES: usize = 64;

/// Bytes that a hash depends on, the last ones: it has 64 bits and loses one with each byte.
const HASH_BYTES: usize = 64;

/// Bytes that are hashed at a time.
const STEP: usize = 4;

/// Bytes after a restart that are searched in one go: in odd data the next candidate is often among them.
const HEAD_BYTES: usize = 512;

/// Bytes of a lane; two lanes are searched side by side.
const LANE_BYTES: usize = 8 << 10;

/// The hash at a candidate, and where it is.
type Candidate = (u64, usize);

/// The first candidate, or the hash at the end of what was searched.
type Search = ControlFlow<Candidate, u64>;

/// What a chunker remembers of a stream from one cut to the next: the last candidates it has seen.
///
/// Rows often hold a piece of constant text. Where its hash makes a cut, every row is a candidate, and chunks
/// would end at the first row after so many bytes: an insert then moves all later cuts, for ever. So a
/// candidate counts only when none of its kind is near before it. That looks at content alone and not at
/// earlier cuts, so cuts fall into step again after a change.
#[derive(Clone, Debug, Default)]
pub struct RecentCandidates {
    /// Kind and place of each, bytes from the start of the stream; oldest overwritten first.
    seen: [Option<(u64, u64)>; CANDIDATES_MAX],
    oldest: usize,
    /// Where the current chunk begins, bytes from the start of the stream.
    chunk_start: u64,
}

impl RecentCandidates {
    /// Notes a candidate `at` bytes into the current chunk; whether it counts.
    fn counts(&mut self, kind: u64, at: usize) -> bool {
        let place = self.chunk_start + at as u64;
        let near = |(_, before): &(u64, u64)| place - before <= KIND_DISTANCE_BYTES as u64;
        match self.seen.iter_mut().flatten().find(|(known, _)| *known == kind) {
            Some(known) => {
                let near = near(known);
                known.1 = place;
                !near
            }
            None => {
                self.seen[self.oldest] = Some((kind, place));
                self.oldest = (self.oldest + 1) % CANDIDATES_MAX;
                true
            }
        }
    }
}

/// Finds cut points.
pub struct Chunker {
    params: ChunkerParams,
    /// What is zero in the hash at a candidate that may end a short chunk.
    strict: u64,
    /// What is zero in the hash at every candidate.
    loose: u64,
    /// The gear table, shifted by as many bits as there are bytes behind in a step.
    gear: Box<[[u64; 256]; STEP]>,
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunker({:?})", self.params)
    }
}

impl Chunker {
    /// A chunker for `params`, with the gear table that comes from `key`.
    pub fn new(params: ChunkerParams, key: &PurposeKey) -> Result<Chunker> {
        params.validate()?;
        let (strict, loose) = select_masks(params.average_bytes as usize, Normalization::Level1);
        Ok(Chunker { params, strict, loose, gear: gear_tables(key) })
    }

    /// Bytes that [`Chunker::cut`] must see unless the stream ends sooner.
    pub fn window_bytes(&self) -> usize {
        self.params.max_bytes as usize
    }

    /// Length of the first chunk of `window`, which holds at least [`Chunker::window_bytes`] bytes or else
    /// the rest of the stream. Never 0 for a window that is not empty. `recent` is that of the stream, as the
    /// cut before left it.
    pub fn cut(&self, window: &[u8], recent: &mut RecentCandidates) -> usize {
        let window = &window[..window.len().min(self.window_bytes())];
        let ChunkerParams { min_bytes, average_bytes, .. } = self.params;
        let mut from = 0;
        let cut = loop {
            let (strict, kind, end) = self.candidate(window, from);
            if end == window.len() {
                break end;
            }
            let counts = recent.counts(kind, end);
            let wanted = end >= average_bytes as usize || end >= min_bytes as usize && strict;
            if counts && wanted {
                break end;
            }
            // The scan takes pairs of bytes.
            from = end & !1;
        };
        recent.chunk_start += cut as u64;
        cut
    }

    /// The first candidate of `window` behind `from`, or its end: whether it is one by the strict mask too,
    /// its kind, and where it is.
    fn candidate(&self, window: &[u8], from: usize) -> (bool, u64, usize) {
        match self.search(window, from + RESTART_BYTES) {
            ControlFlow::Break((hash, at)) => (hash & self.strict == 0, hash & KIND_MASK, at),
            ControlFlow::Continue(_) => (false, 0, window.len()),
        }
    }

    /// Searches `window` from `at` on, with a hash that begins there.
    fn search(&self, window: &[u8], mut at: usize) -> Search {
        // An odd last byte is no candidate.
        let end = window.len() & !1;
        if at >= end {
            return ControlFlow::Continue(0);
        }
        let head_end = end.min(at + HEAD_BYTES);
        let mut hash = self.search_one(&window[..head_end], at, 0)?;
        at = head_end;
        while let [first, second, ..] = window[at..end].as_chunks::<LANE_BYTES>().0 {
            hash = self.search_two(first, second, at, hash)?;
            at += 2 * LANE_BYTES;
        }
        self.search_one(&window[..end], at, hash)
    }

    /// Searches `window` from `at` on; `hash` is the one there.
    fn search_one(&self, window: &[u8], at: usize, mut hash: u64) -> Search {
        let (steps, rest) = window[at..].as_chunks();
        for (number, bytes) in steps.iter().enumerate() {
            let hashes = self.step(hash, *bytes);
            self.find(hashes, at + STEP * number)?;
            hash = hashes[STEP - 1];
        }
        for (number, byte) in rest.iter().enumerate() {
            hash = (hash << 1).wrapping_add(self.gear[0][usize::from(*byte)]);
            if hash & self.loose == 0 {
                return ControlFlow::Break((hash, at + STEP * steps.len() + number));
            }
        }
        ControlFlow::Continue(hash)
    }

    /// Searches two consecutive lanes side by side: one alone leaves a processor waiting for its own additions.
    #[inline(never)]
    fn search_two(
        &self,
        first: &[u8; LANE_BYTES],
        second: &[u8; LANE_BYTES],
        at: usize,
        mut hash: u64,
    ) -> Search {
        let add = |hash: u64, byte: &u8| (hash << 1).wrapping_add(self.gear[0][usize::from(*byte)]);
        let mut hash_second = first[LANE_BYTES - HASH_BYTES..].iter().fold(0, add);
        for from in (0..LANE_BYTES).step_by(STEP) {
            let hashes = self.step(hash, std::array::from_fn(|byte| first[from + byte]));
            self.find(hashes, at + from)?;
            hash = hashes[STEP - 1];
            let hashes = self.step(hash_second, std::array::from_fn(|byte| second[from + byte]));
            if let found @ ControlFlow::Break(_) = self.find(hashes, at + LANE_BYTES + from) {
                // One in what is left of the first lane comes before it.
                self.search_one(first, from + STEP, hash).map_break(|(hash, place)| (hash, at + place))?;
                return found.map_continue(|()| 0);
            }
            hash_second = hashes[STEP - 1];
        }
        ControlFlow::Continue(hash_second)
    }

    /// The hashes at the next bytes, each shifted by as many bits as there are bytes behind.
    #[inline(always)]
    fn step(&self, hash: u64, bytes: [u8; STEP]) -> [u64; STEP] {
        let mut hash = hash << STEP;
        std::array::from_fn(|byte| {
            hash = hash.wrapping_add(self.gear[STEP - 1 - byte][usize::from(bytes[byte])]);
            hash
        })
    }

    /// The first candidate among the hashes of a step at `at`.
    #[inline(always)]
    fn find(&self, hashes: [u64; STEP], at: usize) -> ControlFlow<Candidate> {
        for (byte, hash) in hashes.into_iter().enumerate() {
            let shift = STEP - 1 - byte;
            if hash & self.loose << shift == 0 {
                return ControlFlow::Break((hash >> shift, at + byte));
            }
        }
        ControlFlow::Continue(())
    }
}

fn gear_tables(key: &PurposeKey) -> Box<[[u64; 256]; STEP]> {
    let mut bytes = [0; 256 * 8];
    key.expand(&mut bytes);
    let mut tables = Box::new([[0; 256]; STEP]);
    for (byte, value) in bytes.as_chunks().0.iter().enumerate() {
        let value = u64::from_le_bytes(*value);
        tables.iter_mut().enumerate().for_each(|(shift, table)| table[byte] = value << shift);
    }
    tables
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::cut_gear;

    use super::*;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; len];
        PurposeKey::derive("noise", &seed.to_le_bytes()).expand(&mut out);
        out
    }

    fn cuts(chunker: &Chunker, data: &[u8]) -> Vec<usize> {
        let (mut at, mut all, mut recent) = (0, Vec::new(), RecentCandidates::default());
        while at < data.len() {
            at += chunker.cut(&data[at..], &mut recent);
            all.push(at);
        }
        all
    }

    fn chunker(key: &[u8]) -> Chunker {
        let params = ChunkerParams { min_bytes: 2 << 10, average_bytes: 8 << 10, max_bytes: 32 << 10 };
        Chunker::new(params, &PurposeKey::derive("test", key)).unwrap()
    }

    #[test]
    fn cut_points_are_frozen() {
        let data = noise(100_000, 1);
        assert_eq!(cuts(&chunker(b"k"), &data), GOLDEN_CUTS);
    }

    /// Cut points of the first version: a change here would make old repositories store everything anew.
    const GOLDEN_CUTS: [usize; 11] =
        [5155, 14805, 24697, 42097, 44479, 54659, 57343, 76200, 86687, 98295, 100000];

    /// What was used at first, and says what candidates are.
    fn candidate_of_fastcdc(chunker: &Chunker, window: &[u8], from: usize) -> (bool, u64, usize) {
        let (strict, loose) = (chunker.strict, chunker.loose);
        let (gear, shifted) = (&chunker.gear[0], &chunker.gear[1]);
        let (max, rest) = (chunker.window_bytes(), &window[from..]);
        let masks = (strict, loose, strict << 1, loose << 1);
        let (hash, len) = cut_gear(rest, 64, 64, max, masks.0, masks.1, masks.2, masks.3, gear, shifted);
        // After an even number of bytes the hash comes shifted by one.
        let hash = if len % 2 == 0 { hash >> 1 } else { hash };
        (hash & strict == 0, hash & KIND_MASK, from + len)
    }

    #[test]
    fn candidates_are_those_of_fastcdc() {
        let row = |number: u8| [&b"a row of a table, and its number: "[..], &[number, b'\n']].concat();
        let rows: Vec<u8> = (0..250).cycle().take(3_000).flat_map(row).collect();
        let data = [noise(100_001, 10), rows, vec![0; 1000], noise(63, 11)].concat();
        for key in 0..20u8 {
            let chunker = chunker(&[key]);
            for start in [0, 1, 40_000, 90_000, 100_000, data.len() - 129, data.len() - 64, data.len() - 1] {
                let window = &data[start..data.len().min(start + chunker.window_bytes())];
                let mut from = 0;
                while from < window.len() {
                    let found = chunker.candidate(window, from);
                    let wanted = candidate_of_fastcdc(&chunker, window, from);
                    assert_eq!(found.2, wanted.2, "key {key}, start {start}, from {from}");
                    assert!(found.2 == window.len() || found == wanted, "{found:?} {wanted:?}");
                    from = if found.2 == window.len() { found.2 } else { found.2 & !1 };
                }
            }
        }
    }

    #[test]
    fn cuts_stay_where_they_are_when_bytes_come_before() {
        let data = noise(1_000_000, 2);
        let moved = [&noise(777, 3)[..], &data].concat();
        let chunker = chunker(b"k");
        let before: std::collections::BTreeSet<_> = cuts(&chunker, &data).into_iter().collect();
        let after: std::collections::BTreeSet<_> =
            cuts(&chunker, &moved).iter().filter_map(|at| at.checked_sub(777)).collect();
        assert!(before.intersection(&after).count() * 10 > before.len() * 9);
    }

    #[test]
    fn rows_of_constant_text_do_not_keep_cuts_out_of_step() {
        let digits: Vec<u8> = noise(60_000 * 4, 6).iter().map(|byte| b'0' + byte % 10).collect();
        let row = |digits: &[u8]| {
            [b"{\"roles\": [\"customer\"], \"theme\": \"dark\", \"visits\": ", digits, b"}\n"].concat()
        };
        let rows: Vec<Vec<u8>> = digits.chunks_exact(4).map(row).collect();
        let (before, after) =
            (rows.concat(), [&rows[..100].concat(), &b"inserted"[..], &rows[100..].concat()].concat());
        for key in 0..100u8 {
            let chunker = chunker(&[key]);
            let cuts_before = cuts(&chunker, &before);
            let moved = |at: &usize| if *at > 100 * rows[0].len() { at + 8 } else { *at };
            let cuts_before: std::collections::BTreeSet<_> = cuts_before.iter().map(moved).collect();
            let kept = cuts(&chunker, &after).iter().filter(|at| cuts_before.contains(at)).count();
            assert!(kept * 10 > cuts_before.len() * 7, "key {key}: {kept} of {}", cuts_before.len());
        }
    }

    #[test]
    fn a_cut_depends_on_the_window_only() {
        let data = noise(300_000, 4);
        let chunker = chunker(b"k");
        let cut = |window| chunker.cut(window, &mut RecentCandidates::default());
        assert_eq!(cut(&data[..chunker.window_bytes()]), cut(&data));
        assert_eq!(cut(b"x"), 1);
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let data = noise(300_000, 5);
        assert_ne!(cuts(&chunker(b"a"), &data), cuts(&chunker(b"b"), &data));
    }

    #[test]
    fn bad_parameters_are_refused() {
        let good = ChunkerParams::default();
        assert_eq!(good.validate(), Ok(()));
        for bad in [
            ChunkerParams { min_bytes: 0, ..good },
            ChunkerParams { min_bytes: good.average_bytes, ..good },
            ChunkerParams { average_bytes: good.average_bytes + 1, ..good },
            ChunkerParams { max_bytes: 1 << 30, ..good },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
