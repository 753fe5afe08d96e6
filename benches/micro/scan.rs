//! Steps that read every byte: cutting, hashing, features.

use std::hint::black_box;

use dbvault_format::chunker::{Chunker, ChunkerParams, RecentCandidates};
use dbvault_format::keys::context;
use dbvault_format::similarity::{Similarity, SuperFeatures};
use fastcdc::v2020::{FastCDC, Normalization};

use crate::material::Material;
use crate::step::{Amount, Step, Way};

/// The chunks themselves are the results: that all are as long as the stream is checked by their sum.
pub(crate) fn cut(material: &Material) -> Step<'_> {
    let params = ChunkerParams::default();
    let (min, average, max) =
        (params.min_bytes as usize, params.average_bytes as usize, params.max_bytes as usize);
    let data = material.day0.as_slice();
    let chunker = Chunker::new(params, &material.keys.chunker).expect("the default parameters are valid");
    let ours = Way::new(
        "dbvault",
        move |sink| {
            let (mut rest, mut recent) = (data, RecentCandidates::default());
            for number in 0.. {
                if rest.is_empty() {
                    break;
                }
                let (chunk, behind) = rest.split_at(chunker.cut(rest, &mut recent));
                sink(number, chunk);
                rest = behind;
            }
        },
        |number, chunk| chunk == material.chunk(number),
    );
    let bare = Way::new(
        "fastcdc (skips what is below the minimum)",
        move |sink| {
            let chunks = FastCDC::with_level(data, min, average, max, Normalization::Level1);
            for (number, chunk) in chunks.enumerate() {
                sink(number, &data[chunk.offset..][..chunk.length]);
            }
        },
        move |_, chunk| !chunk.is_empty() && chunk.len() <= max,
    );
    Step::new("cut", Amount::Bytes(data.len()), vec![ours, bare])
}

pub(crate) fn hash(material: &Material) -> Step<'_> {
    let key = blake3::derive_key(context::CHUNK_ID, &material.master.0);
    // Piece by piece: both ways must agree with a third.
    let is_right = move |number, id: &[u8]| {
        let mut hasher = blake3::Hasher::new_keyed(&key);
        material.chunk(number).chunks(1000).for_each(|piece| {
            hasher.update(piece);
        });
        hasher.finalize().as_bytes() == id
    };
    let ours = Way::new(
        "dbvault",
        |sink| {
            for (number, chunk) in material.chunks().enumerate() {
                sink(number, material.keys.chunk_id(chunk).as_bytes());
            }
        },
        is_right,
    );
    let bare = Way::new(
        "blake3::keyed_hash",
        move |sink| {
            for (number, chunk) in material.chunks().enumerate() {
                sink(number, blake3::keyed_hash(&key, chunk).as_bytes());
            }
        },
        is_right,
    );
    Step::new("hash", Amount::Bytes(material.day0.len()), vec![ours, bare])
}

/// There is no bare library: a pass of one gear hash over the data, which is what most of them begin with.
pub(crate) fn features(material: &Material) -> Step<'_> {
    let similarity = Similarity::new(&material.keys.similarity);
    let same = Similarity::new(&material.keys.similarity);
    let bytes = |features: Option<SuperFeatures>| {
        features.map_or(Vec::new(), |features| features.0.map(u64::to_le_bytes).concat())
    };
    let ours = Way::new(
        "dbvault",
        move |sink| {
            for (number, chunk) in material.chunks().enumerate() {
                sink(number, &bytes(similarity.features(chunk)));
            }
        },
        move |number, features| {
            // One byte more or less leaves at least one of them as it is.
            let mut edited = material.chunk(number).to_vec();
            edited.insert(edited.len() / 3, b'#');
            let edited = bytes(same.features(&edited));
            edited.is_empty() || edited.chunks(8).zip(features.chunks(8)).any(|(edited, was)| edited == was)
        },
    );
    let mut gear = [0u8; 1024];
    material.keys.similarity.expand(&mut gear);
    let gear: [u32; 256] =
        std::array::from_fn(|byte| u32::from_le_bytes(*gear.as_chunks().0.get(byte).expect("1024 bytes")));
    let plain = Way::new(
        "a gear hash, no more",
        move |sink| {
            for (number, chunk) in material.chunks().enumerate() {
                let add = |hash: u32, byte: &u8| (hash << 1).wrapping_add(gear[usize::from(*byte)]);
                sink(number, &black_box(chunk.iter().fold(0, add)).to_le_bytes());
            }
        },
        |_, hash| hash.len() == 4,
    );
    Step::new("features", Amount::Bytes(material.day0.len()), vec![ours, plain])
}
