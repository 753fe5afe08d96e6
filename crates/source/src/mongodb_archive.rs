//! The frame of what `mongodump --archive` writes: is it whole?
//!
//! A magic number; then documents that describe collections, up to a terminator; then blocks. A block is a document
//! that names a collection, documents with its data, and a terminator. The last block of each collection says so.

use std::collections::BTreeSet;

const MAGIC: u32 = 0x8199_e26d;
const TERMINATOR: u32 = 0xFFFF_FFFF;
/// Shortest document of BSON, bytes: its length and its end.
const DOCUMENT_BYTES_MIN: u32 = 5;
/// Longest document that is taken, bytes; servers allow 16 MiB and a little.
const DOCUMENT_BYTES_MAX: u32 = 64 << 20;
/// Longest document that names a collection, bytes.
const HEADER_BYTES_MAX: u32 = 1 << 20;

/// A reader of one archive, fed piece by piece.
#[derive(Debug)]
pub(crate) struct MongoArchive {
    state: State,
    /// What of a number or a header was seen.
    gathered: Vec<u8>,
    /// Collections with data whose last block was not seen.
    open: BTreeSet<(String, String)>,
    collections: u64,
    /// Documents that describe the archive and its collections.
    described: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Magic,
    /// Before a document or terminator.
    Length(Place),
    /// In a document that need not be understood: so many bytes are left.
    Skip(Place, u32),
    /// In a document that names a collection, of so many bytes.
    Header(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Prelude,
    /// Between blocks.
    Between,
    Block,
}

impl Default for MongoArchive {
    fn default() -> MongoArchive {
        let (gathered, open) = (Vec::new(), BTreeSet::new());
        MongoArchive { state: State::Magic, gathered, open, collections: 0, described: 0, bytes: 0 }
    }
}

impl MongoArchive {
    /// Takes the next bytes. Errors: what is wrong; nothing may be fed after one.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            match self.state {
                State::Magic => {
                    if let Some(number) = self.number(&mut bytes) {
                        if number != MAGIC {
                            return Err("it does not begin like an archive of mongodump".to_owned());
                        }
                        self.state = State::Length(Place::Prelude);
                    }
                }
                State::Length(place) => {
                    if let Some(number) = self.number(&mut bytes) {
                        self.state = self.after_number(place, number)?;
                    }
                }
                State::Skip(place, left) => {
                    let count = (left as usize).min(bytes.len());
                    bytes = &bytes[count..];
                    let left = left - count as u32;
                    self.state = if left == 0 { State::Length(place) } else { State::Skip(place, left) };
                }
                State::Header(length) => {
                    let missing = (length as usize - self.gathered.len()).min(bytes.len());
                    self.gathered.extend_from_slice(&bytes[..missing]);
                    bytes = &bytes[missing..];
                    if self.gathered.len() == length as usize {
                        self.header()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, bytes: &mut &[u8]) -> Option<u32> {
        let missing = (4 - self.gathered.len()).min(bytes.len());
        self.gathered.extend_from_slice(&bytes[..missing]);
        *bytes = &bytes[missing..];
        let number = <[u8; 4]>::try_from(self.gathered.as_slice()).ok()?;
        self.gathered.clear();
        Some(u32::from_le_bytes(number))
    }

    fn after_number(&mut self, place: Place, number: u32) -> Result<State, String> {
        match (place, number) {
            (Place::Prelude | Place::Block, TERMINATOR) => Ok(State::Length(Place::Between)),
            (Place::Between, TERMINATOR) => Err("it has a block without a name".to_owned()),
            (_, length) if !(DOCUMENT_BYTES_MIN..=DOCUMENT_BYTES_MAX).contains(&length) => {
                Err(format!("it has a document of {length} bytes"))
            }
            (Place::Between, length) if length > HEADER_BYTES_MAX => {
                Err(format!("it has a name of {length} bytes"))
            }
            (Place::Between, length) => {
                self.gathered.extend_from_slice(&length.to_le_bytes());
                Ok(State::Header(length))
            }
            (place, length) => {
                self.described += u64::from(place == Place::Prelude);
                Ok(State::Skip(place, length - 4))
            }
        }
    }

    fn header(&mut self) -> Result<(), String> {
        let document = std::mem::take(&mut self.gathered);
        let header = Header::parse(&document).ok_or("it has a name that can't be understood")?;
        let name = (header.database, header.collection);
        if header.ended {
            self.open.remove(&name);
            self.collections += 1;
        } else {
            self.open.insert(name);
        }
        self.state = State::Length(Place::Block);
        Ok(())
    }

    /// How many bytes were fed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many collections it has, when it is whole; else what is missing.
    pub(crate) fn finish(self) -> Result<u64, String> {
        if self.state != State::Length(Place::Between) || !self.gathered.is_empty() {
            return Err("it ends within a block".to_owned());
        }
        match self.open.first() {
            Some((database, collection)) => Err(format!("the end of {database}.{collection} is missing")),
            // The first one describes the archive.
            None if self.described > 1 && self.collections == 0 => Err("it has no data".to_owned()),
            None => Ok(self.collections),
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    database: String,
    collection: String,
    ended: bool,
}

impl Header {
    fn parse(document: &[u8]) -> Option<Header> {
        let mut header = Header::default();
        let mut rest = document.get(4..)?;
        loop {
            let (kind, after) = rest.split_first()?;
            if *kind == 0 {
                return after.is_empty().then_some(header);
            }
            let end = after.iter().position(|byte| *byte == 0)?;
            let (key, value) = (&after[..end], after.get(end + 1..)?);
            let word = || Some(u32::from_le_bytes(value.get(..4)?.try_into().ok()?) as usize);
            let length = match kind {
                0x01 | 0x09 | 0x11 | 0x12 => 8,
                0x02 => 4_usize.checked_add(word()?)?,
                0x03 | 0x04 => word()?,
                0x08 => 1,
                0x0A => 0,
                0x10 => 4,
                _ => return None,
            };
            let bytes = value.get(..length)?;
            let text = || Some(String::from_utf8_lossy(bytes.get(4..length.checked_sub(1)?)?).into_owned());
            match (key, kind) {
                (b"db", 0x02) => header.database = text()?,
                (b"collection", 0x02) => header.collection = text()?,
                (b"EOF", 0x08) => header.ended = bytes == [1],
                _ => {}
            }
            rest = &value[length..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 5).to_le_bytes(), body, &[0]].concat()
    }

    fn text(key: &str, value: &str) -> Vec<u8> {
        let length = value.len() as u32 + 1;
        [&[2], key.as_bytes(), &[0], &length.to_le_bytes(), value.as_bytes(), &[0]].concat()
    }

    fn header(collection: &str, ended: bool) -> Vec<u8> {
        let end = [b"\x08EOF\0".as_slice(), &[u8::from(ended)], b"\x12CRC\0", &[7; 8]].concat();
        document(&[text("db", "shop"), text("collection", collection), end].concat())
    }

    fn archive() -> Vec<u8> {
        let terminator = TERMINATOR.to_le_bytes().to_vec();
        let data = document(&text("x", &"y".repeat(5000)));
        [
            MAGIC.to_le_bytes().to_vec(),
            document(&text("version", "0.1")),
            document(&text("db", "shop")),
            terminator.clone(),
            header("a", false),
            data.clone(),
            data.clone(),
            terminator.clone(),
            header("b", false),
            data,
            terminator.clone(),
            header("a", true),
            terminator.clone(),
            header("b", true),
            terminator,
        ]
        .concat()
    }

    fn outcome(bytes: &[u8], piece: usize) -> Result<u64, String> {
        let mut archive = MongoArchive::default();
        for piece in bytes.chunks(piece) {
            archive.feed(piece)?;
        }
        archive.finish()
    }

    #[test]
    fn whole_archives_are_whole_in_whatever_pieces() {
        for piece in [1, 3, 4, 5, 1000, 100_000] {
            assert_eq!(outcome(&archive(), piece), Ok(2), "pieces of {piece} bytes");
        }
    }

    #[test]
    fn an_archive_that_was_cut_anywhere_is_not() {
        let whole = archive();
        for length in 0..whole.len() {
            assert!(outcome(&whole[..length], 4096).is_err(), "cut after {length} bytes");
        }
        assert!(outcome(b"REDIS0011", 9).is_err());
        assert!(outcome(&[whole.as_slice(), &[0xFF; 4]].concat(), 4096).is_err());
    }
}
