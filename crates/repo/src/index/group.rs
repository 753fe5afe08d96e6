//! Groups: what a pack's directory says of a few consecutive records, as one value of the index.
//!
//! Chunks that were stored together are asked for together, so that one read answers for many of them.
//!
//! ```text
//! offset of the first record, u32 | count, u16
//! count records: id, 32 | codec, u8 | depth, u8 | plain length, u32 | sealed length, u32
//! for each delta among them, in order: id of its base, 32
//! ```

use std::borrow::Cow;

use dbvault_format::bytes::Reader;
use dbvault_format::compress::Codec;
use dbvault_format::header::HEADER_BYTES;
use dbvault_format::id::ChunkId;
use dbvault_format::pack::ChunkEntry;
use dbvault_format::{Error, Result};

use super::location::{Location, Place};

/// Records of a group but for the last of its pack.
pub(super) const RECORDS: usize = 32;

const HEAD_BYTES: usize = 6;
const RECORD_BYTES: usize = ChunkId::BYTES + 10;

/// All groups of pack number `pack`, in order: where each begins, and its value.
pub(super) fn encode_all(pack: u32, entries: &[ChunkEntry]) -> Result<Vec<(Place, Vec<u8>)>> {
    let mut offset = HEADER_BYTES as u64;
    let groups = entries.chunks(RECORDS).zip(0..).map(|(group, number)| {
        let start = u32::try_from(offset).map_err(|e| Error::malformed("pack", e))?;
        offset += group.iter().map(|entry| u64::from(entry.sealed_len)).sum::<u64>();
        Ok((Place { pack, ordinal: number * RECORDS as u32 }, encode(start, group)))
    });
    groups.collect()
}

/// The value for consecutive records, the first of which begins at `offset`.
fn encode(offset: u32, entries: &[ChunkEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + entries.len() * (RECORD_BYTES + ChunkId::BYTES));
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    for entry in entries {
        out.extend_from_slice(entry.id.as_bytes());
        out.extend_from_slice(&[entry.codec as u8, entry.depth]);
        out.extend_from_slice(&entry.plain_len.to_le_bytes());
        out.extend_from_slice(&entry.sealed_len.to_le_bytes());
    }
    entries.iter().filter_map(|entry| entry.base).for_each(|base| out.extend_from_slice(base.as_bytes()));
    out
}

/// A group as it was read. Only the records that are asked for are decoded.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// Place of its first record.
    first: Place,
    offset: u32,
    records: Cow<'a, [u8]>,
    bases: Cow<'a, [u8]>,
}

impl<'a> Group<'a> {
    /// Reads the group whose first record is at `first`.
    pub(super) fn decode(first: Place, value: &'a [u8]) -> Result<Group<'a>> {
        let mut reader = Reader::new("cached group", value);
        let (offset, count) = (reader.u32()?, usize::from(reader.u16()?));
        let records = reader.slice(count * RECORD_BYTES)?;
        let bases = reader.rest();
        let group = Group { first, offset, records: records.into(), bases: bases.into() };
        let deltas = group.records().filter(|record| is_delta(record)).count();
        if count > RECORDS || bases.len() != deltas * ChunkId::BYTES {
            return Err(reader.malformed("lengths do not add up"));
        }
        Ok(group)
    }

    /// The same, in memory of its own.
    pub(super) fn into_owned(self) -> Group<'static> {
        let own = |bytes: Cow<[u8]>| Cow::Owned(bytes.into_owned());
        Group { records: own(self.records), bases: own(self.bases), ..self }
    }

    /// Ids of its chunks and how many records go before each.
    pub(super) fn ids(&self) -> impl Iterator<Item = (ChunkId, usize)> {
        let id = |record: &[u8]| record.first_chunk().map(|bytes| ChunkId(*bytes));
        self.records().map(id).zip(0..).filter_map(|(id, index)| Some((id?, index)))
    }

    /// Where record number `index` of the group is, and what it holds.
    pub(super) fn location(&self, index: usize) -> Result<Location> {
        let before = self.records().take(index);
        let offset =
            before.clone().fold(self.offset, |offset, record| offset.saturating_add(sealed_len(record)));
        let record = self.records().nth(index).unwrap_or_default();
        let mut reader = Reader::new("cached group", record);
        let id = ChunkId(reader.array()?);
        let codec = Codec::from_number(reader.u8()?).ok_or_else(|| reader.malformed("codec"))?;
        let (depth, plain_len, sealed_len) = (reader.u8()?, reader.u32()?, reader.u32()?);
        let base = match codec {
            Codec::Delta => {
                let deltas = before.filter(|record| is_delta(record)).count();
                let base = self.bases.chunks_exact(ChunkId::BYTES).nth(deltas).unwrap_or_default();
                Some(ChunkId(Reader::new("cached group", base).array()?))
            }
            _ => None,
        };
        let entry = ChunkEntry { id, codec, depth, plain_len, sealed_len, base, features: None };
        let ordinal = self.first.ordinal.saturating_add(index as u32);
        Ok(Location { pack: self.first.pack, ordinal, offset, entry })
    }

    fn records(&self) -> std::slice::ChunksExact<'_, u8> {
        self.records.chunks_exact(RECORD_BYTES)
    }
}

fn is_delta(record: &[u8]) -> bool {
    record[ChunkId::BYTES] == Codec::Delta as u8
}

fn sealed_len(record: &[u8]) -> u32 {
    record.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(byte: u8) -> ChunkEntry {
        let base = (byte.is_multiple_of(3)).then_some(ChunkId([byte ^ 0xff; 32]));
        ChunkEntry {
            id: ChunkId([byte; 32]),
            codec: if base.is_some() { Codec::Delta } else { Codec::Zstd },
            depth: u8::from(base.is_some()),
            plain_len: 1000 + u32::from(byte),
            sealed_len: 100 + u32::from(byte),
            base,
            features: None,
        }
    }

    #[test]
    fn every_record_is_found_where_it_is() {
        let entries: Vec<ChunkEntry> = (0..2 * RECORDS as u8 + 5).map(entry).collect();
        let (mut offset, mut ordinal) = (HEADER_BYTES as u32, 0);
        for (first, value) in encode_all(7, &entries).unwrap() {
            let group = Group::decode(first, &value).unwrap();
            for (id, index) in group.ids() {
                let entry = entries[ordinal as usize].clone();
                assert_eq!(id, entry.id);
                let sealed_len = entry.sealed_len;
                assert_eq!(group.location(index), Ok(Location { pack: 7, ordinal, offset, entry }));
                (offset, ordinal) = (offset + sealed_len, ordinal + 1);
            }
            assert!(group.location(RECORDS).is_err());
        }
        assert_eq!(ordinal as usize, entries.len());
    }

    #[test]
    fn every_cut_is_seen() {
        let value = encode(48, &[entry(1), entry(3)]);
        let place = Place { pack: 0, ordinal: 0 };
        assert!(Group::decode(place, &value).is_ok());
        (0..value.len()).for_each(|len| assert!(Group::decode(place, &value[..len]).is_err()));
        assert!(Group::decode(place, &[&value[..], &[0]].concat()).is_err());
    }
}
