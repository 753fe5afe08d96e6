//! Values of the index: where a chunk is, and what a pack is. A local matter, not part of the format.

use dbvault_format::bytes::Reader;
use dbvault_format::id::{ChunkId, PackName, Salt, SessionId};
use dbvault_format::index_segment::PackListing;
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

/// A record in this cache: number of its pack, and its number in the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) pack: u32,
    pub(super) ordinal: u32,
}

impl Place {
    /// Length of a place as a value or key.
    pub(super) const BYTES: usize = 8;

    /// The places of all chunks of pack number `pack`.
    pub(super) fn of_all(pack: u32, listing: &PackListing) -> impl Iterator<Item = (Place, &ChunkEntry)> {
        (0..).map(move |ordinal| Place { pack, ordinal }).zip(&listing.entries)
    }

    /// The place as a value, which may be appended to others, or as a key, in order.
    pub(super) fn encode(self) -> [u8; Place::BYTES] {
        (u64::from(self.pack) << 32 | u64::from(self.ordinal)).to_be_bytes()
    }

    /// Reads a value: any number of places.
    pub(super) fn decode_all(value: &[u8]) -> dbvault_format::Result<Vec<Place>> {
        let mut reader = Reader::new("cached places", value);
        let mut all = Vec::with_capacity(1);
        while !reader.rest().is_empty() {
            let place = u64::from_be_bytes(reader.array()?);
            all.push(Place { pack: (place >> 32) as u32, ordinal: place as u32 });
        }
        Ok(all)
    }
}

/// The beginning of an id, by which chunks are looked up. Different chunks may share it: the group at a place
/// has the whole id. Ids are keyed hashes, so that nobody can make many share it.
pub(super) fn short(id: &ChunkId) -> u64 {
    id.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
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
