//! Values of the index: where a chunk is, and what a pack is. A local matter, not part of the format.

use dbvault_format::bytes::Reader;
use dbvault_format::compress::Codec;
use dbvault_format::id::{ChunkId, PackName, Salt, SessionId};
use dbvault_format::pack::ChunkEntry;

/// Where one copy of a chunk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Number of the pack in this cache.
    pub(crate) pack: u32,
    /// Number of the record in the pack.
    pub(crate) ordinal: u32,
    /// Where the record begins, bytes from the start of the pack.
    pub(crate) offset: u32,
    /// What the pack's directory says; without features.
    pub(crate) entry: ChunkEntry,
}

impl Location {
    /// Appends the location as a value, which may be appended to others.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let entry = &self.entry;
        for number in [self.pack, self.ordinal, self.offset, entry.plain_len, entry.sealed_len] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[entry.codec as u8, entry.depth]);
        if let Some(base) = &entry.base {
            out.extend_from_slice(base.as_bytes());
        }
    }

    /// Reads a value: any number of locations of chunk `id`.
    pub(super) fn decode_all(id: &ChunkId, value: &[u8]) -> dbvault_format::Result<Vec<Location>> {
        let mut reader = Reader::new("cached location", value);
        let mut all: Vec<Location> = Vec::with_capacity(1);
        while !reader.rest().is_empty() {
            let (pack, ordinal, offset) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let (plain_len, sealed_len) = (reader.u32()?, reader.u32()?);
            let codec = Codec::from_number(reader.u8()?).ok_or_else(|| reader.malformed("codec"))?;
            let depth = reader.u8()?;
            let base = if codec == Codec::Delta { Some(ChunkId(reader.array()?)) } else { None };
            let entry = ChunkEntry { id: *id, codec, depth, plain_len, sealed_len, base, features: None };
            if !all.iter().any(|known| known.pack == pack) {
                all.push(Location { pack, ordinal, offset, entry });
            }
        }
        Ok(all)
    }
}

/// What is known of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackInfo {
    /// Its name.
    pub(crate) name: PackName,
    /// Salt of its header.
    pub(crate) salt: Salt,
    /// Its length, bytes.
    pub(crate) size_bytes: u64,
    /// Sessions whose segments list it.
    pub(crate) sessions: Vec<SessionId>,
}

impl PackInfo {
    /// The value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out =
            [self.name.as_bytes(), self.salt.as_bytes(), &self.size_bytes.to_le_bytes()[..]].concat();
        self.sessions.iter().for_each(|session| out.extend_from_slice(session.as_bytes()));
        out
    }

    /// Reads a value.
    pub(super) fn decode(value: &[u8]) -> dbvault_format::Result<PackInfo> {
        let mut reader = Reader::new("cached pack", value);
        let (name, salt) = (PackName(reader.array()?), Salt(reader.array()?));
        let size_bytes = u64::from_le_bytes(reader.array()?);
        let mut sessions = Vec::new();
        while !reader.rest().is_empty() {
            sessions.push(SessionId(reader.array()?));
        }
        Ok(PackInfo { name, salt, size_bytes, sessions })
    }
}
