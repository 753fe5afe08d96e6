//! The 48 bytes that every object begins with.

use crate::bytes::Reader;
use crate::id::Salt;
use crate::{Error, Result};

/// First bytes of every object.
pub const MAGIC: [u8; 8] = *b"DBVAULT\0";

/// Length of the header, bytes.
pub const HEADER_BYTES: usize = 48;

/// The format this program writes, and the newest it reads.
pub const FORMAT_VERSION: u16 = 1;

/// Feature bits this program knows. An object with any other bit set is refused.
pub const FEATURES_KNOWN: u32 = 0;

/// What an object is. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// `config`
    Config = 1,
    /// `keys/<slot>`
    KeySlot = 2,
    /// `packs/<xx>/<name>`
    Pack = 3,
    /// `index/<session>/<n>`
    IndexSegment = 4,
    /// `sessions/<session>/<n>`
    Session = 5,
    /// `archives/<session>`, a manifest
    Archive = 6,
    /// `archives/<session>`, the tombstone of a session that may not commit any more
    Fence = 7,
    /// `trash/<session>/<n>`
    Trash = 8,
    /// `condemned/<n>`
    Condemned = 9,
    /// `roots/<n>`
    Root = 10,
    /// `notes/<session>/<n>`
    Note = 11,
    /// `parity/<xx>/<name>`
    Parity = 12,
}

impl ObjectKind {
    /// The word for this kind in messages.
    pub fn name(self) -> &'static str {
        match self {
            ObjectKind::Config => "config",
            ObjectKind::KeySlot => "key slot",
            ObjectKind::Pack => "pack",
            ObjectKind::IndexSegment => "index segment",
            ObjectKind::Session => "session",
            ObjectKind::Archive => "archive manifest",
            ObjectKind::Fence => "fence",
            ObjectKind::Trash => "trash mark",
            ObjectKind::Condemned => "condemned list",
            ObjectKind::Root => "root",
            ObjectKind::Note => "note",
            ObjectKind::Parity => "parity",
        }
    }
}

/// How the key of an object is made from its header. Other numbers are reserved, for one for keys
/// wrapped to a public key, whose wrapped form would follow the header.
pub const KEY_DERIVED: u8 = 0;

/// The header of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectKind,
    /// Random input to the object's key; in `config`, the repository id.
    pub salt: Salt,
}

impl Header {
    /// The header as bytes, in the current format version.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8] = self.kind as u8;
        out[9] = KEY_DERIVED;
        out[10..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&0u32.to_le_bytes());
        out[16..].copy_from_slice(self.salt.as_bytes());
        out
    }

    /// Reads the header of an object of one of the kinds `expected`; gives it and the bytes behind it.
    ///
    /// Errors: [`Error::NotDbvault`], [`Error::Newer`], [`Error::WrongKind`], in this order of looking.
    pub fn decode<'a>(bytes: &'a [u8], expected: &[ObjectKind]) -> Result<(Header, &'a [u8])> {
        let mut reader = Reader::new("object header", bytes);
        if reader.array::<8>().map_err(|_| Error::NotDbvault)? != MAGIC {
            return Err(Error::NotDbvault);
        }
        let (kind, wrap, version, features) = (reader.u8()?, reader.u8()?, reader.u16()?, reader.u32()?);
        let unknown = features & !FEATURES_KNOWN;
        if version > FORMAT_VERSION || unknown != 0 || wrap != KEY_DERIVED {
            return Err(Error::Newer { found: version, features: unknown, supported: FORMAT_VERSION });
        }
        if version == 0 {
            return Err(reader.malformed("version 0"));
        }
        let first = expected.first().map_or("dbvault", |kind| kind.name());
        let kind = expected.iter().find(|want| **want as u8 == kind).copied();
        let kind = kind.ok_or(Error::WrongKind { expected: first, found: bytes[8] })?;
        Ok((Header { kind, salt: Salt(reader.array()?) }, reader.rest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { kind: ObjectKind::Pack, salt: Salt([7; 32]) };

    #[test]
    fn a_header_goes_both_ways() {
        let bytes = HEADER.encode();
        assert_eq!(Header::decode(&bytes, &[ObjectKind::Pack]), Ok((HEADER, &[][..])));
        let wrong = Header::decode(&bytes, &[ObjectKind::Archive, ObjectKind::Fence]);
        assert_eq!(wrong, Err(Error::WrongKind { expected: "archive manifest", found: 3 }));
    }

    #[test]
    fn foreign_newer_and_short_headers_are_told_apart() {
        let good = HEADER.encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Header::decode(&bytes, &[ObjectKind::Pack]).unwrap_err()
        };
        assert_eq!(with(0, b'X'), Error::NotDbvault);
        for (at, byte) in [(9, 1), (10, 2), (12, 1), (15, 0x80)] {
            assert!(matches!(with(at, byte), Error::Newer { .. }), "byte {at}");
        }
        assert!(matches!(with(10, 0), Error::Malformed { .. }));
        for len in 0..HEADER_BYTES {
            assert!(Header::decode(&good[..len], &[ObjectKind::Pack]).is_err());
        }
    }
}
