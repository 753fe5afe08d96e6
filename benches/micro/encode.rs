//! Compression and decompression, alone and against a similar chunk.

use dbvault_format::compress::{Codec, Decoder, DeltaEncoder, Encoder, LEVEL_DEFAULT};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound};

use crate::material::Material;
use crate::step::{Amount, Step, Way};

pub(crate) fn compress(material: &Material) -> Step<'_> {
    let mut encoder = Encoder::new(LEVEL_DEFAULT).expect("the default level is valid");
    let mut stored = Vec::new();
    let ours = Way::new(
        "dbvault",
        move |sink| {
            for (number, chunk) in material.chunks().enumerate() {
                encoder.encode(chunk, &mut stored).expect("chunks are compressed");
                sink(number, &stored);
            }
        },
        |number, stored| {
            let (codec, plain) = (material.stored[number].codec, material.chunk(number));
            Decoder::new().decode(codec, stored, plain.len(), None).is_ok_and(|decoded| decoded == plain)
        },
    );
    let bare = |name, level| {
        let mut compressor = Compressor::new(level).expect("levels 1 and 3 are valid");
        let mut stored = Vec::new();
        Way::new(
            name,
            move |sink| {
                for (number, chunk) in material.chunks().enumerate() {
                    stored.clear();
                    stored.reserve(compress_bound(chunk.len()));
                    compressor.compress_to_buffer(chunk, &mut stored).expect("chunks are compressed");
                    sink(number, &stored);
                }
            },
            |number, stored| {
                let plain = material.chunk(number);
                zstd::bulk::decompress(stored, plain.len()).is_ok_and(|decoded| decoded == plain)
            },
        )
    };
    let ways = vec![ours, bare("zstd 1", 1), bare("zstd 3", 3)];
    Step::new("compress", Amount::Bytes(material.day0.len()), ways)
}

pub(crate) fn decompress(material: &Material) -> Step<'_> {
    let is_right = |number, plain: &[u8]| plain == material.chunk(number);
    let ours = Way::new(
        "dbvault",
        |sink| {
            let mut decoder = Decoder::new();
            for (number, (chunk, stored)) in material.chunks().zip(&material.stored).enumerate() {
                let plain = decoder.decode(stored.codec, &stored.bytes, chunk.len(), None);
                sink(number, &plain.expect("what was encoded decodes"));
            }
        },
        is_right,
    );
    let mut decompressor = Decompressor::new().expect("there is memory for a context");
    let mut plain = Vec::new();
    let bare = Way::new(
        "zstd",
        move |sink| {
            for (number, (chunk, stored)) in material.chunks().zip(&material.stored).enumerate() {
                plain.clear();
                plain.reserve(chunk.len());
                match stored.codec {
                    Codec::Raw => plain.extend_from_slice(&stored.bytes),
                    _ => drop(decompressor.decompress_to_buffer(&stored.bytes, &mut plain)),
                }
                sink(number, &plain);
            }
        },
        is_right,
    );
    Step::new("decompress", Amount::Bytes(material.day0.len()), vec![ours, bare])
}

pub(crate) fn compress_delta(material: &Material) -> Step<'_> {
    let is_right = |number, stored: &[u8]| {
        let (base, plain) = material.pair(number);
        let decoded = Decoder::new().decode(Codec::Delta, stored, plain.len(), Some(base));
        decoded.is_ok_and(|decoded| decoded == plain)
    };
    let mut stored = Vec::new();
    let ours = Way::new(
        "dbvault",
        move |sink| {
            let mut encoder = DeltaEncoder::new(LEVEL_DEFAULT).expect("the default level is valid");
            for (number, (base, plain)) in material.pairs().enumerate() {
                encoder.encode(base, plain, &mut stored).expect("chunks are compressed");
                sink(number, &stored);
            }
        },
        is_right,
    );
    let bare = |name, level| {
        let mut stored = Vec::new();
        Way::new(
            name,
            move |sink| {
                let mut context = CCtx::create();
                context.set_parameter(CParameter::CompressionLevel(level)).expect("the level is valid");
                for (number, (base, plain)) in material.pairs().enumerate() {
                    stored.clear();
                    stored.reserve(compress_bound(plain.len()));
                    context.ref_prefix(base).expect("a prefix may be any bytes");
                    context.compress2(&mut stored, plain).expect("chunks are compressed");
                    sink(number, &stored);
                }
            },
            is_right,
        )
    };
    let ways = vec![ours, bare("zstd 1 with a prefix", 1), bare("zstd 3 with a prefix", 3)];
    Step::new("delta", Amount::Bytes(delta_bytes(material)), ways)
}

pub(crate) fn decompress_delta(material: &Material) -> Step<'_> {
    let is_right = |number, plain: &[u8]| plain == material.pair(number).1;
    let ours = Way::new(
        "dbvault",
        |sink| {
            let mut decoder = Decoder::new();
            for (number, ((base, plain), delta)) in material.pairs().zip(&material.deltas).enumerate() {
                let plain = decoder.decode(Codec::Delta, delta, plain.len(), Some(base));
                sink(number, &plain.expect("what was encoded decodes"));
            }
        },
        is_right,
    );
    let mut decoded = Vec::new();
    let bare = Way::new(
        "zstd with a prefix",
        move |sink| {
            let mut context = DCtx::create();
            for (number, ((base, plain), delta)) in material.pairs().zip(&material.deltas).enumerate() {
                decoded.clear();
                decoded.reserve(plain.len());
                context.ref_prefix(base).expect("a prefix may be any bytes");
                context.decompress(&mut decoded, delta).expect("what was encoded decodes");
                sink(number, &decoded);
            }
        },
        is_right,
    );
    Step::new("decompress a delta", Amount::Bytes(delta_bytes(material)), vec![ours, bare])
}

fn delta_bytes(material: &Material) -> usize {
    material.pairs().map(|(_, plain)| plain.len()).sum()
}
