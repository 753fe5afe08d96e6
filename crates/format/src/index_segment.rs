//! Index segments: which packs a session wrote, and which chunks are in them.

use crate::bytes::{Reader, put_varint};
use crate::id::{PackName, Salt};
use crate::pack::{ChunkEntry, PACK_BYTES_MAX, decode_entries};
use crate::{Error, Result};

/// Most packs in one segment.
pub const PACKS_MAX: usize = 1 << 20;

/// One pack and its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackListing {
    /// Name of the pack.
    pub name: PackName,
    /// Salt of its header: with it a record is read without reading the header first.
    pub salt: Salt,
    /// Length of the pack, bytes.
    pub size_bytes: u64,
    /// Its directory, in the order of the records.
    pub entries: Vec<ChunkEntry>,
}

/// Body of `index/<session>/<n>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSegment {
    /// The packs, in no order.
    pub packs: Vec<PackListing>,
}

impl IndexSegment {
    /// The body as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.packs.len() as u64);
        for pack in &self.packs {
            out.extend_from_slice(pack.name.as_bytes());
            out.extend_from_slice(pack.salt.as_bytes());
            put_varint(&mut out, pack.size_bytes);
            put_varint(&mut out, pack.entries.len() as u64);
            pack.entries.iter().for_each(|entry| entry.encode(&mut out));
        }
        out
    }

    /// Reads a body.
    pub fn decode(bytes: &[u8]) -> Result<IndexSegment> {
        let mut reader = Reader::new("index segment", bytes);
        let count = reader.length(PACKS_MAX)?;
        if count > bytes.len() / 66 {
            return Err(Error::malformed("index segment", "more packs than bytes"));
        }
        let packs = (0..count).map(|_| {
            Ok(PackListing {
                name: PackName(reader.array()?),
                salt: Salt(reader.array()?),
                size_bytes: reader.varint_max(PACK_BYTES_MAX as u64)?,
                entries: decode_entries(&mut reader)?,
            })
        });
        let packs = packs.collect::<Result<_>>()?;
        reader.end()?;
        Ok(IndexSegment { packs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Codec;
    use crate::id::ChunkId;

    #[test]
    fn a_segment_goes_both_ways_and_every_cut_is_seen() {
        let id = ChunkId([4; 32]);
        let entry = ChunkEntry {
            id,
            codec: Codec::Zstd,
            depth: 0,
            plain_len: 900,
            sealed_len: 300,
            base: None,
            features: None,
        };
        let pack = |byte, entries| PackListing {
            name: PackName([byte; 32]),
            salt: Salt([9; 32]),
            size_bytes: 1 << 20,
            entries,
        };
        let segment = IndexSegment { packs: vec![pack(1, vec![entry.clone(), entry]), pack(2, vec![])] };
        let bytes = segment.encode();
        assert_eq!(IndexSegment::decode(&bytes), Ok(segment));
        for len in 0..bytes.len() {
            assert!(IndexSegment::decode(&bytes[..len]).is_err());
        }
        assert!(IndexSegment::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(IndexSegment::decode(&[0xff, 0xff, 0x3f]).is_err());
    }
}
