//! Similarity: super-features that two chunks are likely to share when many of their bytes are the same.
//!
//! The Odess family: positions are sampled by content, about one in 512, six linear transforms of the samples
//! each keep their maximum, and pairs of maxima are hashed into three super-features. Pairs find half of a chunk
//! that was cut elsewhere, which groups of four mostly miss; single maxima take chunks for similar that only have
//! the constant text of their rows in common.
//!
//! Unlike there no hash rolls over the chunk: what decides whether a position is a sample is a product that
//! processors compute for many positions at once, and only samples are hashed well.
//!
//! Source: Zou et al., "From Hyper-dimensional Structures to Linear Structures: Maintaining Deduplicated
//! Data's Locality" / "Odess", ACM ToS 2023, doi 10.1145/3584663; Kulkarni et al., REBL, USENIX ATC 2004.
//! The hash of a sample is multilinear: Lemire and Kaser, "Strongly Universal String Hashing is Fast", 2014.

use crate::keys::PurposeKey;

/// Super-features of a chunk.
pub const SUPER_FEATURES: usize = 3;

/// Features that are hashed into one super-feature.
const GROUP: usize = 2;

/// Maxima that are kept.
const FEATURES: usize = SUPER_FEATURES * GROUP;

/// Bytes of a super-feature as it is stored.
pub const SUPER_FEATURE_BYTES: usize = 6;

/// A position is a sample when the hash that picks has its highest 9 bits set: one in 512. Zeros never are.
const SAMPLE_MIN: u32 = !0 << (32 - 9);

/// Words of four bytes that a sample is the hash of.
const WINDOW_WORDS: usize = 8;

/// Chunks below this length have too few samples to compare, bytes.
pub const SIMILAR_BYTES_MIN: usize = 4 << 10;

/// Positions that are looked at in one go: their hashes stay in the nearest cache.
const BLOCK: usize = 1024;

/// Positions that are passed over at once when none of them is a sample.
const RUN: usize = 16;

/// The three super-features of a chunk, 48 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SuperFeatures(pub [u64; SUPER_FEATURES]);

/// Computes super-features with secret tables.
pub struct Similarity {
    /// Factor of the hash that picks samples.
    picking: u32,
    /// Factors of the hash of a sample.
    sampling: [u64; WINDOW_WORDS],
    transforms: [(u32, u32); FEATURES],
}

impl std::fmt::Debug for Similarity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Similarity(secret)")
    }
}

impl Similarity {
    /// Tables from `key`.
    pub fn new(key: &PurposeKey) -> Similarity {
        let mut bytes = [0; (1 + 2 * WINDOW_WORDS + 2 * FEATURES) * 4];
        key.expand(&mut bytes);
        let mut words = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        // An odd factor makes a product a permutation.
        let picking = next() | 1;
        let sampling = std::array::from_fn(|_| u64::from(next()) | u64::from(next()) << 32);
        let transforms = std::array::from_fn(|_| (next() | 1, next()));
        Similarity { picking, sampling, transforms }
    }

    /// Super-features of `chunk`, or `None` where it is too short or has no samples.
    pub fn features(&self, chunk: &[u8]) -> Option<SuperFeatures> {
        if chunk.len() < SIMILAR_BYTES_MIN {
            return None;
        }
        let mut maxima = [0; FEATURES];
        let mut last: Option<&[[u8; 4]]> = None;
        let mut hashes = [0; BLOCK];
        // Every fourth position at a time, so that words of four bytes lie side by side.
        for first in 0..4 {
            let words = chunk[first..].as_chunks().0;
            for at in (0..=words.len() - WINDOW_WORDS).step_by(BLOCK) {
                let words = &words[at..words.len().min(at + BLOCK + WINDOW_WORDS - 1)];
                let positions = words.len() - WINDOW_WORDS + 1;
                hash_positions(self.picking, words, &mut hashes[..positions]);
                let end = positions.next_multiple_of(RUN);
                hashes[positions..end].fill(0);
                for (number, run) in hashes[..end].as_chunks::<RUN>().0.iter().enumerate() {
                    if run.iter().max() < Some(&SAMPLE_MIN) {
                        continue;
                    }
                    for (at, _) in (number * RUN..).zip(run).filter(|(_, hash)| **hash >= SAMPLE_MIN) {
                        let window = &words[at..at + WINDOW_WORDS];
                        // Long runs of one byte are one sample, many times.
                        if last != Some(window) {
                            self.sample(window, &mut maxima);
                            last = Some(window);
                        }
                    }
                }
            }
        }
        last.map(|_| group(&maxima))
    }

    /// Takes the sample that is made of `window` into account.
    fn sample(&self, window: &[[u8; 4]], maxima: &mut [u32; FEATURES]) {
        let word = |(word, factor): (&[u8; 4], &u64)| factor.wrapping_mul(u32::from_le_bytes(*word).into());
        let sum = window.iter().zip(&self.sampling).map(word).fold(0, u64::wrapping_add);
        let hash = (sum >> 32) as u32;
        for (max, (factor, term)) in maxima.iter_mut().zip(&self.transforms) {
            *max = (*max).max(hash.wrapping_mul(*factor).wrapping_add(*term));
        }
    }
}

/// The hashes that pick samples, of the words at every position of `words` with the words 16 bytes behind.
///
/// A loop of its own, with nothing else in it: then compilers make vector code of it.
#[inline(never)]
fn hash_positions(factor: u32, words: &[[u8; 4]], hashes: &mut [u32]) {
    for ((hash, here), behind) in hashes.iter_mut().zip(words).zip(&words[WINDOW_WORDS / 2..]) {
        let sum = u32::from_le_bytes(*here).wrapping_add(u32::from_le_bytes(*behind));
        *hash = sum.wrapping_mul(factor);
    }
}

fn group(maxima: &[u32; FEATURES]) -> SuperFeatures {
    SuperFeatures(std::array::from_fn(|index| {
        let mut hasher = blake3::Hasher::new();
        maxima[index * GROUP..][..GROUP].iter().for_each(|max| {
            hasher.update(&max.to_le_bytes());
        });
        let mut word = [0; 8];
        word[..SUPER_FEATURE_BYTES].copy_from_slice(&hasher.finalize().as_bytes()[..SUPER_FEATURE_BYTES]);
        u64::from_le_bytes(word)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; len];
        PurposeKey::derive("noise", &seed.to_le_bytes()).expand(&mut out);
        out
    }

    fn shared(a: &SuperFeatures, b: &SuperFeatures) -> usize {
        a.0.iter().zip(&b.0).filter(|(a, b)| a == b).count()
    }

    #[test]
    fn edited_chunks_share_features_and_others_do_not() {
        let similarity = Similarity::new(&PurposeKey::derive("test", b"k"));
        let (mut found, mut strangers) = (0, 0);
        for seed in 0..100 {
            let base = noise(100_000, seed);
            let mut edited = base.clone();
            for at in (500..100_000).step_by(12_345) {
                edited[at] ^= 0x55;
            }
            edited.splice(40_000..40_000, *b"inserted");
            let base = similarity.features(&base).unwrap();
            found += usize::from(shared(&base, &similarity.features(&edited).unwrap()) > 0);
            strangers += shared(&base, &similarity.features(&noise(100_000, seed + 1000)).unwrap());
        }
        assert!(found >= 95, "{found} of 100");
        assert_eq!(strangers, 0);
    }

    #[test]
    fn half_of_a_chunk_that_was_cut_elsewhere_is_mostly_found() {
        let similarity = Similarity::new(&PurposeKey::derive("test", b"k"));
        let found = (0..100).filter(|seed| {
            let whole = noise(100_000, *seed);
            let features = |bytes| similarity.features(bytes).unwrap();
            shared(&features(&whole), &features(&whole[50_000..])) > 0
        });
        let found = found.count();
        assert!(found >= 45, "{found} of 100");
    }

    #[test]
    fn a_long_run_of_one_byte_changes_little() {
        let similarity = Similarity::new(&PurposeKey::derive("test", b"k"));
        for byte in [0, b' ', 0xff] {
            let padded = [noise(50_000, 8), vec![byte; 100_000]].concat();
            let features = similarity.features(&noise(50_000, 8)).unwrap();
            assert!(shared(&features, &similarity.features(&padded).unwrap()) > 0, "{byte}");
        }
    }

    #[test]
    fn short_chunks_have_none() {
        let similarity = Similarity::new(&PurposeKey::derive("test", b"k"));
        assert_eq!(similarity.features(&noise(SIMILAR_BYTES_MIN - 1, 1)), None);
        assert!(similarity.features(&noise(SIMILAR_BYTES_MIN + 3, 1)).is_some());
        assert_eq!(similarity.features(&[0; 100_000]), None);
    }

    #[test]
    fn features_are_frozen() {
        let similarity = Similarity::new(&PurposeKey::derive("test", b"k"));
        let features = similarity.features(&noise(50_001, 7)).unwrap();
        assert_eq!(features, SuperFeatures(GOLDEN_FEATURES));
        assert!(features.0.iter().all(|feature| feature >> (8 * SUPER_FEATURE_BYTES) == 0));
    }

    /// Features of the first version: a change here would hide old chunks from new ones.
    const GOLDEN_FEATURES: [u64; SUPER_FEATURES] = [155496547137054, 132001771938334, 5802439088716];
}
