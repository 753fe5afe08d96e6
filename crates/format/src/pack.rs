//! Packs: sealed chunk records, a sealed directory of them, and a trailer.

use std::sync::Arc;

use crate::bytes::{Reader, put_varint};
use crate::compress::Codec;
use crate::header::{HEADER_BYTES, Header, ObjectKind};
use crate::id::{ChunkId, PackName, RepoId, Salt};
use crate::keys::PurposeKey;
use crate::padding::padme;
use crate::seal::{Sealer, TAG_BYTES};
use crate::similarity::{SUPER_FEATURE_BYTES, SUPER_FEATURES, SuperFeatures};
use crate::{CHUNK_BYTES_MAX, DELTA_DEPTH_MAX, Error, Result};

/// Last bytes of a pack.
const TRAILER_MAGIC: [u8; 4] = *b"KCAP";

/// Length of the trailer, bytes: the sealed directory's length, and the magic.
pub const TRAILER_BYTES: usize = 8;

/// Seal part number of the directory; records use their ordinal.
const DIRECTORY_PART: u64 = u64::MAX;

/// Most records in a pack.
pub const RECORDS_MAX: usize = 1 << 20;

/// Largest pack, bytes.
pub const PACK_BYTES_MAX: usize = 256 << 20;

/// Length of the additional data of a record, with zeros behind it: Poly1305 takes 64 bytes at a time, and is a
/// sixth slower for all of a record that does not begin at a multiple of that.
const RECORD_AAD_BYTES: usize = 128;

/// What the directory says of one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkEntry {
    /// Id of the chunk.
    pub id: ChunkId,
    /// How its bytes are stored.
    pub codec: Codec,
    /// Chunks that must be decoded before this one; 0 but for [`Codec::Delta`].
    pub depth: u8,
    /// Length of the chunk, bytes.
    pub plain_len: u32,
    /// Length of its record, bytes, with the tag.
    pub sealed_len: u32,
    /// The chunk it is stored against; only and always for [`Codec::Delta`].
    pub base: Option<ChunkId>,
    /// Its super-features, where it can be a base.
    pub features: Option<SuperFeatures>,
}

const FLAG_CODEC: u8 = 0b0000_0011;
const FLAG_FEATURES: u8 = 0b0000_0100;
const FLAG_DEPTH_SHIFT: u32 = 3;

impl ChunkEntry {
    /// Appends the entry as it stands in directories and index segments.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let features = if self.features.is_some() { FLAG_FEATURES } else { 0 };
        out.extend_from_slice(self.id.as_bytes());
        out.push(self.codec as u8 | features | self.depth << FLAG_DEPTH_SHIFT);
        put_varint(out, u64::from(self.plain_len));
        put_varint(out, u64::from(self.sealed_len));
        if let Some(base) = &self.base {
            out.extend_from_slice(base.as_bytes());
        }
        if let Some(SuperFeatures(features)) = &self.features {
            features.iter().for_each(|f| out.extend_from_slice(&f.to_le_bytes()[..SUPER_FEATURE_BYTES]));
        }
    }

    /// Reads one entry.
    pub fn decode(reader: &mut Reader) -> Result<ChunkEntry> {
        let id = ChunkId(reader.array()?);
        let flags = reader.u8()?;
        let codec =
            Codec::from_number(flags & FLAG_CODEC).ok_or_else(|| reader.malformed("unknown codec"))?;
        let depth = flags >> FLAG_DEPTH_SHIFT;
        if (codec == Codec::Delta) != (depth > 0) {
            return Err(reader.malformed("depth and codec do not go together"));
        }
        let plain_len = reader.length(CHUNK_BYTES_MAX)? as u32;
        let sealed_len = reader.length(CHUNK_BYTES_MAX + TAG_BYTES)? as u32;
        if (sealed_len as usize) < TAG_BYTES {
            return Err(reader.malformed("record shorter than its tag"));
        }
        let base = if codec == Codec::Delta { Some(ChunkId(reader.array()?)) } else { None };
        let features = if flags & FLAG_FEATURES != 0 { Some(decode_features(reader)?) } else { None };
        Ok(ChunkEntry { id, codec, depth, plain_len, sealed_len, base, features })
    }

    /// What the seal of a record vouches for besides its bytes: all that decoding needs.
    fn aad(&self, repo: &RepoId) -> [u8; RECORD_AAD_BYTES] {
        let base = self.base.as_ref().map_or(&[][..], |base| base.as_bytes());
        let fields: [&[u8]; 8] = [
            repo.as_bytes(),
            &[ObjectKind::Pack as u8],
            self.id.as_bytes(),
            &[self.codec as u8],
            &[self.depth],
            &self.plain_len.to_le_bytes(),
            &self.sealed_len.to_le_bytes(),
            base,
        ];
        let mut aad = [0; RECORD_AAD_BYTES];
        fields.iter().copied().flatten().zip(&mut aad).for_each(|(byte, place)| *place = *byte);
        aad
    }
}

fn decode_features(reader: &mut Reader) -> Result<SuperFeatures> {
    let mut features = [0; SUPER_FEATURES];
    for feature in &mut features {
        let mut word = [0; 8];
        word[..SUPER_FEATURE_BYTES].copy_from_slice(reader.slice(SUPER_FEATURE_BYTES)?);
        *feature = u64::from_le_bytes(word);
    }
    Ok(SuperFeatures(features))
}

/// Opens records of one pack.
#[derive(Debug)]
pub struct RecordOpener {
    repo: RepoId,
    sealer: Sealer,
}

impl RecordOpener {
    /// For the pack whose header has `salt`.
    pub fn new(key: &PurposeKey, repo: RepoId, salt: &Salt) -> RecordOpener {
        RecordOpener { repo, sealer: Sealer::new(key, salt) }
    }

    /// Opens record number `ordinal` in place: `record` becomes the stored form that `entry.codec` names.
    pub fn open(&self, ordinal: u32, entry: &ChunkEntry, record: &mut Vec<u8>) -> Result<()> {
        let len = self.open_in_place(ordinal, entry, record)?.len();
        record.truncate(len);
        Ok(())
    }

    /// As [`RecordOpener::open`]; gives the part of `record` that is the stored form.
    pub fn open_in_place<'a>(
        &self,
        ordinal: u32,
        entry: &ChunkEntry,
        record: &'a mut [u8],
    ) -> Result<&'a mut [u8]> {
        self.sealer.open_in_place("chunk record", u64::from(ordinal), &entry.aad(&self.repo), record)
    }
}

/// A pack that is being filled, in memory.
#[derive(Debug)]
pub struct PackBuilder {
    opener: Arc<RecordOpener>,
    salt: Salt,
    bytes: Vec<u8>,
    entries: Vec<ChunkEntry>,
    directory_bytes: usize,
}

/// A finished pack: its bytes never change again.
#[derive(Debug)]
pub struct FinishedPack {
    /// Hash of `bytes`.
    pub name: PackName,
    /// Salt of its header.
    pub salt: Salt,
    /// The whole object.
    pub bytes: Vec<u8>,
    /// Its directory, in the order of the records.
    pub entries: Vec<ChunkEntry>,
}

impl PackBuilder {
    /// An empty pack. `salt` must be random and fresh: it decides the key.
    pub fn new(key: &PurposeKey, repo: RepoId, salt: Salt, capacity_bytes: usize) -> PackBuilder {
        let mut bytes = Vec::with_capacity(capacity_bytes);
        bytes.extend_from_slice(&Header { kind: ObjectKind::Pack, salt }.encode());
        let opener = Arc::new(RecordOpener::new(key, repo, &salt));
        PackBuilder { opener, salt, bytes, entries: Vec::new(), directory_bytes: 10 }
    }

    /// What opens the records of this pack.
    pub fn opener(&self) -> &Arc<RecordOpener> {
        &self.opener
    }

    /// Whether nothing has been added yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Length of the pack if it were finished now, without padding, bytes.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len() + self.directory_bytes + TAG_BYTES + TRAILER_BYTES
    }

    /// Length it would have, without padding, with one more record of `stored_len` bytes.
    pub fn len_with_bytes(&self, stored_len: usize) -> usize {
        // An entry is never longer than 2 ids, flags, 2 lengths and the features.
        self.len_bytes()
            + stored_len
            + TAG_BYTES
            + 2 * ChunkId::BYTES
            + 11
            + SUPER_FEATURES * SUPER_FEATURE_BYTES
    }

    /// Seals `stored` as the next record. `entry.sealed_len` is set here. Gives the record's ordinal and
    /// its sealed bytes, for the caller to open and verify.
    pub fn append(&mut self, mut entry: ChunkEntry, stored: &[u8]) -> Result<(u32, &ChunkEntry, &[u8])> {
        debug_assert!(entry.depth <= DELTA_DEPTH_MAX);
        let ordinal = self.entries.len() as u32;
        entry.sealed_len = (stored.len() + TAG_BYTES) as u32;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(stored);
        let aad = entry.aad(&self.opener.repo);
        self.opener.sealer.seal(u64::from(ordinal), &aad, &mut self.bytes, start)?;
        let mut encoded = Vec::with_capacity(128);
        entry.encode(&mut encoded);
        self.directory_bytes += encoded.len();
        self.entries.push(entry);
        Ok((ordinal, &self.entries[ordinal as usize], &self.bytes[start..]))
    }

    /// Seals the directory, pads the pack to a Padmé length, and names it.
    pub fn finish(mut self) -> Result<FinishedPack> {
        let mut directory = Vec::with_capacity(self.directory_bytes);
        put_varint(&mut directory, self.entries.len() as u64);
        self.entries.iter().for_each(|entry| entry.encode(&mut directory));
        let plain_total = self.bytes.len() + directory.len() + TAG_BYTES + TRAILER_BYTES;
        let padding = padme(plain_total as u64) as usize - plain_total;
        directory.resize(directory.len() + padding, 0);
        let sealed_len = (directory.len() + TAG_BYTES) as u32;
        let aad = directory_aad(&self.opener.repo, &self.bytes[..HEADER_BYTES], sealed_len);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&directory);
        self.opener.sealer.seal(DIRECTORY_PART, &aad, &mut self.bytes, start)?;
        self.bytes.extend_from_slice(&sealed_len.to_le_bytes());
        self.bytes.extend_from_slice(&TRAILER_MAGIC);
        let name = PackName(*blake3::hash(&self.bytes).as_bytes());
        Ok(FinishedPack { name, salt: self.salt, bytes: self.bytes, entries: self.entries })
    }
}

fn directory_aad(repo: &RepoId, header: &[u8], sealed_len: u32) -> Vec<u8> {
    [repo.as_bytes(), header, b"directory", &sealed_len.to_le_bytes()[..]].concat()
}

/// Where the parts of a pack are, from its length and its trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackShape {
    /// Byte range of the sealed directory within the pack.
    pub directory: std::ops::Range<u64>,
}

impl PackShape {
    /// Reads the last [`TRAILER_BYTES`] bytes of a pack that is `pack_bytes` long.
    pub fn from_trailer(trailer: &[u8], pack_bytes: u64) -> Result<PackShape> {
        let mut reader = Reader::new("pack trailer", trailer);
        let sealed_len = u64::from(reader.u32()?);
        if reader.array::<4>()? != TRAILER_MAGIC {
            return Err(reader.malformed("magic"));
        }
        reader.end()?;
        let end = pack_bytes.checked_sub(TRAILER_BYTES as u64);
        let start =
            end.and_then(|end| end.checked_sub(sealed_len)).filter(|start| *start >= HEADER_BYTES as u64);
        match (start, end) {
            (Some(start), Some(end)) => Ok(PackShape { directory: start..end }),
            _ => Err(reader.malformed("directory does not fit")),
        }
    }
}

/// Opens the directory of a pack from its header and its sealed directory.
///
/// Checks that the lengths of the records add up to the place where the directory begins.
pub fn open_directory(
    key: &PurposeKey,
    repo: &RepoId,
    header_bytes: &[u8],
    shape: &PackShape,
    mut sealed: Vec<u8>,
) -> Result<(Salt, Vec<ChunkEntry>)> {
    let (header, _) = Header::decode(header_bytes, &[ObjectKind::Pack])?;
    let aad = directory_aad(repo, &header_bytes[..HEADER_BYTES], sealed.len() as u32);
    Sealer::new(key, &header.salt).open("pack directory", DIRECTORY_PART, &aad, &mut sealed)?;
    let mut reader = Reader::new("pack directory", &sealed);
    let entries = decode_entries(&mut reader)?;
    if reader.rest().iter().any(|byte| *byte != 0) {
        return Err(reader.malformed("padding is not zero"));
    }
    let records: u64 = entries.iter().map(|entry| u64::from(entry.sealed_len)).sum();
    if HEADER_BYTES as u64 + records != shape.directory.start {
        return Err(reader.malformed("records do not add up"));
    }
    Ok((header.salt, entries))
}

/// Reads a count and that many entries.
pub(crate) fn decode_entries(reader: &mut Reader) -> Result<Vec<ChunkEntry>> {
    let count = reader.length(RECORDS_MAX)?;
    // An entry has at least 35 bytes: a lying count can't make us allocate more than is there.
    if count > reader.rest().len() / 35 {
        return Err(reader.malformed("more entries than bytes"));
    }
    (0..count).map(|_| ChunkEntry::decode(reader)).collect()
}

/// Opens a whole pack: its name, its directory. Records are left to [`RecordOpener`].
pub fn open_pack(
    key: &PurposeKey,
    repo: &RepoId,
    name: &PackName,
    bytes: &[u8],
) -> Result<(Salt, Vec<ChunkEntry>)> {
    if blake3::hash(bytes) != blake3::Hash::from_bytes(name.0) {
        return Err(Error::malformed("pack", "its bytes do not have the hash that is its name"));
    }
    let trailer = bytes.len().checked_sub(TRAILER_BYTES).map(|at| &bytes[at..]);
    let trailer = trailer.ok_or_else(|| Error::malformed("pack", "ends too early"))?;
    let shape = PackShape::from_trailer(trailer, bytes.len() as u64)?;
    let sealed = &bytes[shape.directory.start as usize..shape.directory.end as usize];
    open_directory(key, repo, bytes, &shape, sealed.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(byte: u8, base: Option<u8>) -> ChunkEntry {
        ChunkEntry {
            id: ChunkId([byte; 32]),
            codec: if base.is_some() { Codec::Delta } else { Codec::Raw },
            depth: u8::from(base.is_some()),
            plain_len: 5,
            sealed_len: 0,
            base: base.map(|byte| ChunkId([byte; 32])),
            features: base.map(|_| SuperFeatures([1, 2, (1 << 48) - 1])),
        }
    }

    const REPO: RepoId = RepoId([3; 32]);

    fn sample(key: &PurposeKey) -> FinishedPack {
        let mut builder = PackBuilder::new(key, REPO, Salt([5; 32]), 0);
        assert!(builder.is_empty());
        builder.append(entry(1, None), b"plain").unwrap();
        builder.append(entry(2, Some(1)), b"delta").unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn a_pack_opens_to_what_went_in() {
        let key = PurposeKey::derive("test", b"k");
        let pack = sample(&key);
        assert_eq!(padme(pack.bytes.len() as u64), pack.bytes.len() as u64);
        let (salt, entries) = open_pack(&key, &REPO, &pack.name, &pack.bytes).unwrap();
        assert_eq!((salt, &entries), (pack.salt, &pack.entries));
        let opener = RecordOpener::new(&key, REPO, &salt);
        let mut record = pack.bytes[HEADER_BYTES..][..entries[0].sealed_len as usize].to_vec();
        let mut swapped = record.clone();
        opener.open(0, &entries[0], &mut record).unwrap();
        assert_eq!(record, b"plain");
        assert!(opener.open(1, &entries[1], &mut swapped).is_err());
    }

    #[test]
    fn every_damaged_byte_and_length_is_seen_by_name() {
        let key = PurposeKey::derive("test", b"k");
        let pack = sample(&key);
        for at in 0..pack.bytes.len() {
            let mut bad = pack.bytes.clone();
            bad[at] ^= 1;
            assert!(open_pack(&key, &REPO, &pack.name, &bad).is_err(), "byte {at}");
            assert!(open_pack(&key, &REPO, &pack.name, &pack.bytes[..at]).is_err(), "length {at}");
            // The seals alone see it too, but for bytes inside records, which their own seal covers.
            let name = PackName(*blake3::hash(&bad).as_bytes());
            let in_records = (HEADER_BYTES..HEADER_BYTES + 2 * (5 + TAG_BYTES)).contains(&at);
            assert_eq!(open_pack(&key, &REPO, &name, &bad).is_ok(), in_records, "byte {at}");
        }
    }

    #[test]
    fn the_length_estimate_is_an_upper_bound() {
        let key = PurposeKey::derive("test", b"k");
        let mut builder = PackBuilder::new(&key, REPO, Salt([5; 32]), 0);
        for n in 0..50 {
            let bound = builder.len_with_bytes(5);
            builder.append(entry(n, Some(n)), b"delta").unwrap();
            assert!(builder.len_bytes() <= bound);
        }
    }

    #[test]
    fn lying_counts_allocate_nothing() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, RECORDS_MAX as u64);
        assert!(decode_entries(&mut Reader::new("test", &bytes)).is_err());
    }
}
