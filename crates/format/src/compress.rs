//! Compression of one chunk: zstd (RFC 8878), alone or against a similar chunk as its prefix.

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, ErrorCode, ResetDirective, Strategy, compress_bound, get_error_name,
};

use crate::{CHUNK_BYTES_MAX, Error, Result};

/// How the bytes of a chunk are stored. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// One zstd frame whose prefix is the plaintext of another chunk, the base.
    Delta = 2,
}

impl Codec {
    /// The codec with this number.
    pub fn from_number(number: u8) -> Option<Codec> {
        [Codec::Raw, Codec::Zstd, Codec::Delta].into_iter().find(|codec| *codec as u8 == number)
    }
}

/// Default level. It stands for parameters of our own between the zstd levels 1 and 3, see `docs/format.md`;
/// every other level is that of zstd.
pub const LEVEL_DEFAULT: i32 = 1;

/// Levels that are allowed.
pub const LEVELS: std::ops::RangeInclusive<i32> = -7..=19;

/// Compresses chunks, each alone. Keeps its working memory from one to the next.
pub struct Encoder(CCtx<'static>);

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// An encoder for zstd level `level`.
    pub fn new(level: i32) -> Result<Encoder> {
        let mut context = context(level)?;
        if level == LEVEL_DEFAULT {
            // zstd has no parameters for inputs of this size that are as small at this speed: against its
            // levels 1 and 3, chunks of database dumps are 2.7% and 3% smaller, at 0.85 and 1.3 of the speed.
            let tuned = [
                CParameter::Strategy(Strategy::ZSTD_dfast),
                CParameter::HashLog(16),
                CParameter::ChainLog(15),
                CParameter::MinMatch(6),
            ];
            tuned
                .into_iter()
                .try_for_each(|tuned| context.set_parameter(tuned).map(drop))
                .map_err(compressing)?;
        }
        Ok(Encoder(context))
    }

    /// Fills `out` with the stored form of `plain`, and says which codec that is.
    pub fn encode(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<Codec> {
        compress(&mut self.0, plain, out)?;
        if out.len() < plain.len() {
            return Ok(Codec::Zstd);
        }
        out.clear();
        out.extend_from_slice(plain);
        Ok(Codec::Raw)
    }
}

/// Compresses chunks against bases that live as long as `'base`.
pub struct DeltaEncoder<'base>(CCtx<'base>);

impl std::fmt::Debug for DeltaEncoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeltaEncoder")
    }
}

impl<'base> DeltaEncoder<'base> {
    /// An encoder for zstd level `level`.
    pub fn new(level: i32) -> Result<DeltaEncoder<'base>> {
        Ok(DeltaEncoder(context(level)?))
    }

    /// Fills `out` with the [`Codec::Delta`] form of `plain` against `base`.
    pub fn encode(&mut self, base: &'base [u8], plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        // The window must reach back over all of the base from the last byte of the chunk.
        let window_log = (base.len() + plain.len()).next_power_of_two().ilog2().clamp(10, 25);
        self.0.set_parameter(CParameter::WindowLog(window_log)).map_err(compressing)?;
        // zstd looks at no more of a prefix than eight bytes a slot of its hash table, and clears the table
        // for every chunk: a quarter of a slot a byte loses nothing and costs least.
        let hash_log = (base.len().next_power_of_two().ilog2().saturating_sub(2)).clamp(12, 19);
        self.0.set_parameter(CParameter::HashLog(hash_log)).map_err(compressing)?;
        self.0.ref_prefix(base).map_err(compressing)?;
        compress(&mut self.0, plain, out)
    }
}

fn context<'base>(level: i32) -> Result<CCtx<'base>> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level)).map_err(compressing)?;
    // The id and the seal vouch for the content, and the record for its length.
    context.set_parameter(CParameter::ChecksumFlag(false)).map_err(compressing)?;
    context.set_parameter(CParameter::ContentSizeFlag(false)).map_err(compressing)?;
    Ok(context)
}

fn compress(context: &mut CCtx, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    out.reserve(compress_bound(plain.len()));
    match context.compress2(out, plain) {
        Ok(_) => Ok(()),
        Err(code) => {
            // Drops what is half done, so that the next chunk starts clean.
            let _ = context.reset(ResetDirective::SessionOnly);
            Err(compressing(code))
        }
    }
}

fn compressing(code: ErrorCode) -> Error {
    Error::Library { what: "compress a chunk", detail: get_error_name(code).to_string() }
}

/// How a zstd dictionary begins (RFC 8878, 6). A base may begin like this too, and is none all the same.
const DICTIONARY_MAGIC: [u8; 4] = 0xEC30_A437_u32.to_le_bytes();

/// Decompresses chunks. Keeps its working memory from one to the next: it is large enough that the system would
/// be asked for it anew for each chunk.
#[derive(Default)]
pub struct Decoder(Option<DCtx<'static>>);

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// A decoder.
    pub fn new() -> Decoder {
        Decoder(None)
    }

    /// The `plain_len` bytes that `stored` stands for. `base` is given exactly for [`Codec::Delta`].
    ///
    /// Never allocates more than `plain_len`, itself at most [`CHUNK_BYTES_MAX`]. An error means the stored
    /// bytes are not what a writer makes: the caller authenticates before it decodes.
    pub fn decode(
        &mut self,
        codec: Codec,
        stored: &[u8],
        plain_len: usize,
        base: Option<&[u8]>,
    ) -> Result<Vec<u8>> {
        if plain_len > CHUNK_BYTES_MAX {
            return Err(wrong("longer than a chunk may be"));
        }
        let mut plain = vec![0; plain_len];
        self.decode_into(codec, stored, base, &mut plain)?;
        Ok(plain)
    }

    /// As [`Decoder::decode`], into `plain`, whose length is that of the chunk. An error leaves its content
    /// undefined.
    pub fn decode_into(
        &mut self,
        codec: Codec,
        stored: &[u8],
        base: Option<&[u8]>,
        plain: &mut [u8],
    ) -> Result<()> {
        let decoded = match (codec, base) {
            (Codec::Raw, None) if stored.len() == plain.len() => {
                plain.copy_from_slice(stored);
                Ok(stored.len())
            }
            (Codec::Raw, None) => return Err(wrong("length differs")),
            (Codec::Zstd, None) => self.context().decompress(plain, stored),
            // The working memory can't outlive what it holds by reference, so it is not kept for this one.
            (Codec::Delta, Some(base)) if base.starts_with(&DICTIONARY_MAGIC) => {
                let mut context = DCtx::create();
                context.ref_prefix(base).and_then(|_| context.decompress(plain, stored))
            }
            // Any other dictionary is a prefix.
            (Codec::Delta, Some(base)) => self.context().decompress_using_dict(plain, stored, base),
            _ => return Err(wrong("base and codec do not go together")),
        };
        match decoded {
            Ok(len) if len == plain.len() => Ok(()),
            Ok(_) => Err(wrong("length differs")),
            Err(code) => Err(wrong(get_error_name(code))),
        }
    }

    fn context(&mut self) -> &mut DCtx<'static> {
        self.0.get_or_insert_with(DCtx::create)
    }
}

fn wrong(detail: &str) -> Error {
    Error::malformed("chunk", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut word = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{} ", state >> 22)
        };
        let mut out = String::new();
        while out.len() < len {
            out.push_str(&word());
        }
        out.into_bytes()[..len].to_vec()
    }

    #[test]
    fn text_noise_and_nothing_go_both_ways() {
        let mut encoder = Encoder::new(LEVEL_DEFAULT).unwrap();
        let mut noise = vec![0; 5000];
        crate::keys::PurposeKey::derive("noise", b"").expand(&mut noise);
        for (plain, codec) in [(text(100_000, 1), Codec::Zstd), (noise, Codec::Raw), (Vec::new(), Codec::Raw)]
        {
            let mut stored = Vec::new();
            assert_eq!(encoder.encode(&plain, &mut stored), Ok(codec));
            assert_eq!(Decoder::new().decode(codec, &stored, plain.len(), None), Ok(plain));
        }
    }

    #[test]
    fn a_delta_is_small_and_needs_its_base() {
        let base = text(400_000, 2);
        let mut plain = base.clone();
        plain[200_000..200_010].copy_from_slice(b"0123456789");
        let mut stored = Vec::new();
        DeltaEncoder::new(LEVEL_DEFAULT).unwrap().encode(&base, &plain, &mut stored).unwrap();
        assert!(stored.len() < 200, "{}", stored.len());
        let mut decoder = Decoder::new();
        assert_eq!(decoder.decode(Codec::Delta, &stored, plain.len(), Some(&base)), Ok(plain.clone()));
        assert!(decoder.decode(Codec::Delta, &stored, plain.len(), None).is_err());
        assert_ne!(decoder.decode(Codec::Delta, &stored, plain.len(), Some(&text(400_000, 3))), Ok(plain));
    }

    #[test]
    fn a_base_that_begins_like_a_dictionary_is_none() {
        let base = [&DICTIONARY_MAGIC[..], &text(100_000, 4)].concat();
        let plain = base[1..].to_vec();
        let mut stored = Vec::new();
        DeltaEncoder::new(LEVEL_DEFAULT).unwrap().encode(&base, &plain, &mut stored).unwrap();
        let mut decoder = Decoder::new();
        for _ in 0..2 {
            assert_eq!(decoder.decode(Codec::Delta, &stored, plain.len(), Some(&base)), Ok(plain.clone()));
        }
    }

    #[test]
    fn a_decoder_is_as_good_as_new_after_a_failure() {
        let plain = text(100_000, 5);
        let mut stored = Vec::new();
        Encoder::new(LEVEL_DEFAULT).unwrap().encode(&plain, &mut stored).unwrap();
        let mut decoder = Decoder::new();
        for len in [1, stored.len() / 2, stored.len() - 1] {
            assert!(decoder.decode(Codec::Zstd, &stored[..len], plain.len(), None).is_err(), "{len}");
            assert_eq!(decoder.decode(Codec::Zstd, &stored, plain.len(), None), Ok(plain.clone()), "{len}");
        }
    }

    #[test]
    fn lying_lengths_are_refused() {
        let mut stored = Vec::new();
        let plain = vec![0; 1 << 20];
        Encoder::new(LEVEL_DEFAULT).unwrap().encode(&plain, &mut stored).unwrap();
        let mut decoder = Decoder::new();
        for len in [0, 1, plain.len() - 1, plain.len() + 1, CHUNK_BYTES_MAX + 1, usize::MAX] {
            assert!(decoder.decode(Codec::Zstd, &stored, len, None).is_err(), "{len}");
        }
    }
}
