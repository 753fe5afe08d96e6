//! Similarity: super-features that two chunks share when most of their bytes are the same.
//!
//! The Odess family: a rolling gear hash is sampled by content at about one position in 128, twelve linear
//! transforms of the samples each keep their maximum, and groups of four maxima are hashed into three
//! super-features. Chunks that share one are likely to share nearly all of their bytes.
//!
//! Source: Zou et al., "From Hyper-dimensional Structures to Linear Structures: Maintaining Deduplicated
//! Data's Locality" / "Odess", ACM ToS 2023, doi 10.1145/3584663; Kulkarni et al., REBL, USENIX ATC 2004.

use crate::keys::PurposeKey;

/// Super-features of a chunk.
pub const SUPER_FEATURES: usize = 3;

/// Features that are hashed into one super-feature.
const GROUP: usize = 4;

/// Maxima that are kept.
const FEATURES: usize = SUPER_FEATURES * GROUP;

/// Bytes of a super-feature as it is stored.
pub const SUPER_FEATURE_BYTES: usize = 6;

/// A position is a sample when these bits of its hash are zero: one in 128. Bits this high depend on the
/// last 32 bytes.
const SAMPLE_MASK: u32 = 0x7f << 25;

/// Chunks below this length have too few samples to compare, bytes.
pub const SIMILAR_BYTES_MIN: usize = 4 << 10;

/// Runs of a chunk that are hashed side by side: the loop waits for its own additions, so several at a time
/// cost no more than one.
const LANES: usize = 8;

/// The three super-features of a chunk, 48 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SuperFeatures(pub [u64; SUPER_FEATURES]);

/// Computes super-features with secret tables.
pub struct Similarity {
    gear: Box<[u32; 256]>,
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
        let mut bytes = [0; (256 + 2 * FEATURES) * 4];
        key.expand(&mut bytes);
        let mut words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        let mut gear = Box::new([0; 256]);
        gear.iter_mut().for_each(|value| *value = next());
        // An odd factor makes the transform a permutation.
        let transforms = std::array::from_fn(|_| (next() | 1, next()));
        Similarity { gear, transforms }
    }

    /// Super-features of `chunk`, or `None` where it is too short or has no samples.
    pub fn features(&self, chunk: &[u8]) -> Option<SuperFeatures> {
        if chunk.len() < SIMILAR_BYTES_MIN {
            return None;
        }
        let mut maxima = [0; FEATURES];
        let mut sampled = false;
        let mut sample = |hash: u32| {
            sampled = true;
            for (max, (factor, term)) in maxima.iter_mut().zip(&self.transforms) {
                *max = (*max).max(hash.wrapping_mul(*factor).wrapping_add(*term));
            }
        };
        let lane_len = chunk.len() / LANES;
        let (lanes, tail) = chunk.split_at(lane_len * LANES);
        let lanes: [&[u8]; LANES] = std::array::from_fn(|lane| &lanes[lane * lane_len..][..lane_len]);
        let mut hashes = [0u32; LANES];
        for at in 0..lane_len {
            let mut least = u32::MAX;
            for (hash, lane) in hashes.iter_mut().zip(&lanes) {
                *hash = (*hash << 1).wrapping_add(self.gear[usize::from(lane[at])]);
                least = least.min(*hash & SAMPLE_MASK);
            }
            if least == 0 {
                hashes.iter().filter(|hash| **hash & SAMPLE_MASK == 0).for_each(|hash| sample(*hash));
            }
        }
        let mut hash = hashes[LANES - 1];
        for byte in tail {
            hash = (hash << 1).wrapping_add(self.gear[usize::from(*byte)]);
            if hash & SAMPLE_MASK == 0 {
                sample(hash);
            }
        }
        sampled.then(|| group(&maxima))
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
    fn short_chunks_have_none() {
        let similarity = Similarity::new(&PurposeKey::derive("test", b"k"));
        assert_eq!(similarity.features(&noise(SIMILAR_BYTES_MIN - 1, 1)), None);
        assert!(similarity.features(&noise(SIMILAR_BYTES_MIN + 3, 1)).is_some());
    }

    #[test]
    fn features_are_frozen() {
        let similarity = Similarity::new(&PurposeKey::derive("test", b"k"));
        let features = similarity.features(&noise(50_001, 7)).unwrap();
        assert_eq!(features, SuperFeatures(GOLDEN_FEATURES));
        assert!(features.0.iter().all(|feature| feature >> (8 * SUPER_FEATURE_BYTES) == 0));
    }

    /// Features of the first version: a change here would hide old chunks from new ones.
    const GOLDEN_FEATURES: [u64; SUPER_FEATURES] = [79804765732135, 68093673772480, 113435731514272];
}
