//! Parity of a pack: what brings its bytes back where a part of them is damaged.
//!
//! The pack is cut into shards of one length. Reed-Solomon code makes more shards of them, and any so many of all
//! together give the pack back. A code by itself can't tell which shards are good, so each has a checksum here.
//! Nothing here needs a key: what comes out is right if and only if it has the hash that is the name of the pack.

use crate::bytes::Reader;
use crate::header::{Header, ObjectKind};
use crate::id::{PackName, Salt};
use crate::pack::PACK_BYTES_MAX;
use crate::{Error, Result};

/// Shards that a pack is cut into, at most: what a burst hits is a small part of what can be made good.
const DATA_SHARDS_MAX: usize = 200;

/// Shards a reader takes, of either kind.
const SHARDS_MAX: usize = 1024;

/// Lengths of shards are multiples of this, bytes: what the code works on at once.
const SHARD_STEP_BYTES: usize = 64;

/// Bytes of BLAKE3 that a shard is recognised by.
const CHECKSUM_BYTES: usize = 16;

/// Bytes of the hash at the end.
const HASH_BYTES: usize = 32;

/// Least and most parity, percent of the pack.
pub const PERCENT: std::ops::RangeInclusive<u8> = 1..=100;

/// A parity object, as far as it can be read.
#[derive(Debug)]
pub struct Parity<'a> {
    pack_bytes: usize,
    shard_bytes: usize,
    data_shards: usize,
    checksums: Vec<&'a [u8]>,
    shards: Vec<&'a [u8]>,
    whole: bool,
}

/// Makes the parity object of the pack `name` with these bytes, about `percent` of its length.
///
/// Errors: `percent` is out of [`PERCENT`], the pack is empty or too long.
pub fn encode(name: &PackName, pack: &[u8], percent: u8) -> Result<Vec<u8>> {
    if !PERCENT.contains(&percent) || !(1..=PACK_BYTES_MAX).contains(&pack.len()) {
        let detail = format!("{percent} percent of {} bytes", pack.len());
        return Err(Error::malformed("parity", detail));
    }
    let shard_bytes = pack.len().div_ceil(DATA_SHARDS_MAX).next_multiple_of(SHARD_STEP_BYTES);
    let data = cut(pack, shard_bytes);
    let parity_shards = (data.len() * usize::from(percent)).div_ceil(100);
    let parity = reed_solomon_simd::encode(data.len(), parity_shards, &data).map_err(library)?;
    let mut out = Header { kind: ObjectKind::Parity, salt: Salt(name.0) }.encode().to_vec();
    out.extend_from_slice(&(pack.len() as u32).to_le_bytes());
    out.extend_from_slice(&(shard_bytes as u32).to_le_bytes());
    out.extend_from_slice(&(data.len() as u16).to_le_bytes());
    out.extend_from_slice(&(parity_shards as u16).to_le_bytes());
    data.iter().chain(&parity).for_each(|shard| out.extend_from_slice(&checksum(shard)));
    parity.iter().for_each(|shard| out.extend_from_slice(shard));
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    Ok(out)
}

impl<'a> Parity<'a> {
    /// Reads the parity object of the pack `name`. What is damaged behind its first fields shows in
    /// [`Parity::is_whole`] only: what is left of it may still do.
    pub fn decode(name: &PackName, bytes: &'a [u8]) -> Result<Parity<'a>> {
        let (header, body) = Header::decode(bytes, &[ObjectKind::Parity])?;
        let mut reader = Reader::new("parity", body);
        if header.salt.0 != name.0 {
            return Err(reader.malformed("of another pack"));
        }
        let (pack_bytes, shard_bytes) = (reader.u32()? as usize, reader.u32()? as usize);
        let (data_shards, parity_shards) = (usize::from(reader.u16()?), usize::from(reader.u16()?));
        let sound = (1..=PACK_BYTES_MAX).contains(&pack_bytes)
            && (1..=SHARDS_MAX).contains(&data_shards)
            && (1..=SHARDS_MAX).contains(&parity_shards)
            && shard_bytes > 0
            && shard_bytes.is_multiple_of(SHARD_STEP_BYTES)
            && pack_bytes.div_ceil(shard_bytes) == data_shards;
        if !sound {
            return Err(reader.malformed("numbers of shards do not fit the pack"));
        }
        let checksums = (0..data_shards + parity_shards).map(|_| reader.slice(CHECKSUM_BYTES));
        let checksums = checksums.collect::<Result<Vec<_>>>()?;
        let shards = (0..parity_shards).map(|_| reader.slice(shard_bytes)).collect::<Result<Vec<_>>>()?;
        let hash = reader.slice(HASH_BYTES)?;
        reader.end()?;
        let whole = blake3::hash(&bytes[..bytes.len() - HASH_BYTES]).as_bytes() == hash;
        Ok(Parity { pack_bytes, shard_bytes, data_shards, checksums, shards, whole })
    }

    /// Whether every byte of the object is what it was.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Length of the pack, bytes.
    pub fn pack_bytes(&self) -> usize {
        self.pack_bytes
    }

    /// Most damaged shards that can be made good.
    pub fn budget_shards(&self) -> usize {
        self.shards.len()
    }

    /// The bytes of the pack `name`, from what `damaged` and this still have of them.
    ///
    /// Never wrong bytes: Ok has the hash that is the name. Errors: more is damaged than can be made good.
    pub fn restore(&self, name: &PackName, damaged: &[u8]) -> Result<Vec<u8>> {
        let mut pack = damaged.to_vec();
        // What was cut off is damage like any other.
        pack.resize(self.pack_bytes, 0);
        let data = cut(&pack, self.shard_bytes);
        let (data_sums, parity_sums) = self.checksums.split_at(self.data_shards);
        let left = good(&data, data_sums);
        let parity = good(&self.shards, parity_sums);
        let lost = self.data_shards - left.len();
        if lost > parity.len() {
            let detail = format!(
                "{lost} of {} shards are damaged, at most {} can be restored",
                data.len(),
                parity.len()
            );
            return Err(Error::malformed("pack", detail));
        }
        if lost > 0 {
            let restored = reed_solomon_simd::decode(self.data_shards, self.shards.len(), left, parity);
            for (at, shard) in restored.map_err(library)? {
                let begin = at * self.shard_bytes;
                let end = (begin + self.shard_bytes).min(pack.len());
                pack[begin..end].copy_from_slice(&shard[..end - begin]);
            }
        }
        match *blake3::hash(&pack).as_bytes() == name.0 {
            true => Ok(pack),
            false => {
                Err(Error::malformed("pack", "what parity gives does not have the hash that is its name"))
            }
        }
    }
}

/// Shards of a pack, zeros behind the last.
fn cut(pack: &[u8], shard_bytes: usize) -> Vec<Vec<u8>> {
    let fill = |shard: &[u8]| {
        let mut shard = shard.to_vec();
        shard.resize(shard_bytes, 0);
        shard
    };
    pack.chunks(shard_bytes).map(fill).collect()
}

/// Those of `shards` that have their checksums, with their places.
fn good<'s, T: AsRef<[u8]>>(shards: &'s [T], sums: &[&[u8]]) -> Vec<(usize, &'s [u8])> {
    let all = shards.iter().map(AsRef::as_ref).zip(sums).enumerate();
    all.filter(|(_, (shard, sum))| checksum(shard) == **sum).map(|(at, (shard, _))| (at, shard)).collect()
}

fn checksum(shard: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&blake3::hash(shard).as_bytes()[..CHECKSUM_BYTES]);
    sum
}

fn library(error: reed_solomon_simd::Error) -> Error {
    Error::Library { what: "parity", detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(len: usize) -> (PackName, Vec<u8>) {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        (PackName(*blake3::hash(&bytes).as_bytes()), bytes)
    }

    #[test]
    fn any_two_of_twenty_two_shards_may_be_lost_and_no_three() {
        // 20 shards of 64 bytes, and 2 more: what is lost is among all of them.
        let (name, bytes) = pack(20 * 64);
        let object = encode(&name, &bytes, 10).unwrap();
        let parity_at = object.len() - HASH_BYTES - 2 * 64;
        let mut tried = 0;
        for first in 0..22 {
            for second in first..22 {
                let (mut damaged, mut object) = (bytes.clone(), object.clone());
                for shard in [first, second] {
                    match shard {
                        0..20 => damaged[shard * 64 + 5] ^= 0x10,
                        _ => object[parity_at + (shard - 20) * 64 + 7] ^= 0x20,
                    }
                }
                if first == second {
                    // Flipped twice: once more.
                    match first {
                        0..20 => damaged[first * 64] ^= 1,
                        _ => object[parity_at + (first - 20) * 64] ^= 1,
                    }
                }
                let parity = Parity::decode(&name, &object).unwrap();
                assert_eq!(parity.budget_shards(), 2);
                assert_eq!(parity.restore(&name, &damaged).as_ref(), Ok(&bytes), "{first} {second}");
                let third = (0..20).find(|at| *at != first && *at != second).unwrap();
                damaged[third * 64] ^= 0x80;
                let lost = parity.restore(&name, &damaged);
                assert_eq!(lost.is_err(), first != second, "{first} {second} {third}");
                tried += 1;
            }
        }
        assert_eq!(tried, 253);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_restored() {
        for len in [1, 63, 64, 65, 5000, 40_000, 1 << 20] {
            let (name, bytes) = pack(len);
            let object = encode(&name, &bytes, 10).unwrap();
            let parity = Parity::decode(&name, &object).unwrap();
            assert!(parity.is_whole() && parity.pack_bytes() == len);
            let shorter = &bytes[..len - len / 40];
            assert_eq!(parity.restore(&name, shorter).as_ref(), Ok(&bytes));
            let longer = [&bytes[..], b"more"].concat();
            assert_eq!(parity.restore(&name, &longer).as_ref(), Ok(&bytes));
        }
    }

    #[test]
    fn every_changed_byte_of_the_object_is_seen_and_gives_nothing_wrong() {
        let (name, bytes) = pack(1500);
        let object = encode(&name, &bytes, 10).unwrap();
        let mut damaged = bytes.clone();
        damaged[700] ^= 1;
        for at in 0..object.len() {
            let mut bad = object.clone();
            bad[at] ^= 0x40;
            if let Ok(parity) = Parity::decode(&name, &bad) {
                assert!(!parity.is_whole(), "byte {at}");
                if let Ok(restored) = parity.restore(&name, &damaged) {
                    assert!(restored == bytes, "byte {at}");
                }
            }
            assert!(Parity::decode(&name, &object[..at]).is_err(), "length {at}");
        }
        assert!(Parity::decode(&PackName([1; 32]), &object).is_err());
        assert!(encode(&name, &bytes, 0).is_err() && encode(&name, &[], 10).is_err());
    }
}
