//! What is fuzzed: every reader of bytes that an attacker or a broken disk may have written.
//!
//! Each target takes any bytes, and tells whether they were accepted as what it reads. It panics on what must never
//! be: damage that passes, a value that does not come back as it was written. Where a seal would refuse all but the
//! right bytes, the target seals its input first, so that what lies behind the seal is reached as well.
//!
//! On stable, `tests/fuzz_smoke.rs` runs the same functions over `fuzz/seeds` and some thousand mutations of them.

use std::io;
use std::sync::Arc;

use dbvault_dump::{Contents, CustomFormatChecker, Format, Part, PlainScanner};
use dbvault_format::bytes::{Reader, put_varint};
use dbvault_format::chunk_list::{self, ChunkListBuilder, Item};
use dbvault_format::chunker::Chunker;
use dbvault_format::compress::{Codec, Decoder, DeltaEncoder, LEVEL_DEFAULT};
use dbvault_format::config;
use dbvault_format::entry::EntryKind;
use dbvault_format::file_table::{FileTableOrder, decode_record};
use dbvault_format::header::{HEADER_BYTES, Header, ObjectKind};
use dbvault_format::id::{ChunkId, PackName, RepoId, Salt, SessionId, SlotId};
use dbvault_format::index_segment::IndexSegment;
use dbvault_format::key_slot::{self, KdfWork, Secret, SlotNote};
use dbvault_format::keys::{MasterKey, PurposeKey, context};
use dbvault_format::manifest::{self, ArchiveManifest, Fence};
use dbvault_format::object::{Place, from_cbor, open_object, seal_object, to_cbor};
use dbvault_format::pack::{self, ChunkEntry, PackBuilder, PackShape, RecordOpener};
use dbvault_format::parity::{self, Parity};
use dbvault_format::root::{Condemned, Root};
use dbvault_format::seal::{Sealer, TAG_BYTES};
use dbvault_format::session::SessionRecord;
use dbvault_format::trash::TrashMark;
use dbvault_source::{PostgresOptions, PostgresSource};
use dbvault_storage::Key;
use jiff::Timestamp;
use jiff::tz::{self, TimeZone};

use crate::retention::{Candidate, Rules, Why, decide};

/// A target: takes any bytes, and tells whether they were accepted.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name. Each has seeds in `fuzz/seeds/<name>` and a program in `fuzz/fuzz_targets/<name>.rs`.
pub const TARGETS: [(&str, Target); 17] = [
    ("chunk_list", chunk_list),
    ("config", config),
    ("contents", contents),
    ("delta", delta),
    ("entry_table", entry_table),
    ("file_table", file_table),
    ("index_segment", index_segment),
    ("key_slot", key_slot),
    ("manifest", manifest),
    ("names", names),
    ("object", object),
    ("pack", pack),
    ("pack_directory", pack_directory),
    ("parity", parity),
    ("pgdump", pgdump),
    ("record", record),
    ("retention", retention),
];

/// The repository that all inputs belong to.
pub const REPO: RepoId = RepoId([3; 32]);
/// The salt of what targets seal.
pub const SALT: Salt = Salt([5; 32]);
/// The archive that manifests belong to.
pub const SESSION: SessionId = SessionId([1; 16]);
/// The slot that key slots are in.
pub const SLOT: SlotId = SlotId([2; 8]);
/// The master key in key slots.
pub const MASTER: [u8; 32] = [7; 32];
/// Part number of a pack's directory, by `docs/format.md`.
const DIRECTORY_PART: u64 = u64::MAX;

/// Whether `data` is accepted as the CBOR of a type; what is must come back from its own encoding.
macro_rules! comes_back {
    ($data:expr, $type:ty) => {
        from_cbor::<$type>("fuzz", $data).is_ok_and(|value| {
            assert_eq!(from_cbor("fuzz", &to_cbor(&value)), Ok(value));
            true
        })
    };
}

/// The key of all that is sealed here.
pub fn key() -> PurposeKey {
    PurposeKey::derive("dbvault fuzzing", b"")
}

/// The key file that opens the key slots here.
pub fn key_file() -> Secret {
    Secret::KeyFile(vec![9; 32].into())
}

/// `config`: the input as a whole, then as an authentic body.
pub fn config(data: &[u8]) -> bool {
    let _ = config::repo_id(data);
    let forged = config::decode(&key(), data);
    assert!(forged.is_err() || data.len() > HEADER_BYTES + 32, "a config without room for its code");
    let mut bytes = Header { kind: ObjectKind::Config, salt: Salt(REPO.0) }.encode().to_vec();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(&key().mac(&[&bytes]));
    let Ok(params) = config::decode(&key(), &bytes) else { return false };
    assert_eq!(params.validate(), Ok(()));
    assert!(Chunker::new(params.chunker, &key()).is_ok(), "valid parameters cut");
    assert_eq!(config::decode(&key(), &config::encode(&key(), &REPO, &params)), Ok(params));
    true
}

/// Key slots of a key file: the input as a whole, then as what a good slot says of itself.
pub fn key_slot(data: &[u8]) -> bool {
    let place = (&REPO, &SLOT);
    let _ = key_slot::kind(data);
    let whole = key_slot::decode(&key_file(), place, data);
    let opened = whole.is_ok();
    assert!(whole.is_err() || whole.is_ok_and(|master| master.0 == MASTER), "a forged slot opened");

    let note = SlotNote { label: String::new(), created_ms: 0 };
    let slot = key_slot::encode(&key_file(), KdfWork::MIN, &MasterKey(MASTER), place, SALT, &note);
    let mut slot = slot.expect("a good slot is made");
    let note_start = HEADER_BYTES + 16 + 32 + 32 + TAG_BYTES;
    let note_bytes = slot.len() - TAG_BYTES - note_start;
    let aad = [&slot[..HEADER_BYTES + 16 + 32], REPO.as_bytes(), SLOT.as_bytes(), b"note"].concat();
    let mut body = data.to_vec();
    body.resize(note_bytes, 0);
    slot.truncate(note_start);
    slot.extend_from_slice(&body);
    let sealer = Sealer::new(&PurposeKey::derive(context::OBJECT, &MASTER), &SALT);
    sealer.seal(0, &aad, &mut slot, note_start).expect("a short body is sealed");
    key_slot::note(&MasterKey(MASTER), place, &slot).is_ok() || opened
}

/// Sealed objects: the input as a whole, then as a body; the small bodies that are CBOR.
pub fn object(data: &[u8]) -> bool {
    let place = Place { repo: &REPO, name: "trash/00" };
    let kinds = [ObjectKind::Trash, ObjectKind::Session];
    let _ = open_object(&key(), place, &kinds, data);
    let sealed = seal_object(&key(), place, ObjectKind::Trash, SALT, data).expect("any body is sealed");
    let opened = open_object(&key(), place, &kinds, &sealed).expect("what was sealed opens");
    assert_eq!(opened, (ObjectKind::Trash, data.to_vec()));
    let mut damaged = sealed;
    let at = data.iter().fold(0, |at, byte| (at * 31 + usize::from(*byte)) % damaged.len());
    damaged[at] ^= 1 << (data.len() % 8);
    assert!(open_object(&key(), place, &kinds, &damaged).is_err(), "damage at byte {at} passed");

    let decided = comes_back!(data, Condemned) || comes_back!(data, Root);
    let marked = comes_back!(data, TrashMark) || comes_back!(data, Fence);
    comes_back!(data, SessionRecord) || marked || decided
}

/// Index segments: one value has one encoding.
pub fn index_segment(data: &[u8]) -> bool {
    let Ok(segment) = IndexSegment::decode(data) else { return false };
    assert_eq!(segment.encode(), data);
    true
}

/// Manifests of archives.
pub fn manifest(data: &[u8]) -> bool {
    let Ok(manifest) = ArchiveManifest::decode(&SESSION, data) else { return false };
    assert_eq!(ArchiveManifest::decode(&SESSION, &manifest.encode()), Ok(manifest));
    true
}

/// Entry tables. The first byte is the count that the manifest tells.
pub fn entry_table(data: &[u8]) -> bool {
    let Some((count, table)) = data.split_first() else { return false };
    let Ok(entries) = manifest::decode_entries(table, u64::from(*count)) else { return false };
    let again = manifest::encode_entries(&entries);
    assert_eq!(manifest::decode_entries(&again, u64::from(*count)), Ok(entries));
    true
}

/// File tables: records one after the other, in order, up to the end of the input.
pub fn file_table(data: &[u8]) -> bool {
    let (mut rest, mut order) = (data, FileTableOrder::default());
    while let Ok(Some((record, len))) = decode_record(rest) {
        assert_eq!(record.validate(), Ok(()));
        let again = record.encode();
        assert_eq!(decode_record(&again), Ok(Some((record.clone(), again.len()))));
        let Ok(content) = order.next(&record) else { return false };
        assert_eq!(content.end - content.start, record.content_bytes());
        rest = &rest[len..];
    }
    rest.is_empty() && !data.is_empty()
}

/// Chunk lists: a node, behind the eight bytes of the length it is expected to stand for; then the input as the
/// lengths of a stream's chunks.
pub fn chunk_list(data: &[u8]) -> bool {
    list_of_any_chunks(data);
    let mut reader = Reader::new("fuzz", data);
    let Ok(expected) = reader.array().map(u64::from_le_bytes) else { return false };
    let level = reader.rest().first().copied().unwrap_or(1);
    let Ok(items) = chunk_list::decode_node(reader.rest(), level, expected) else { return false };
    assert!(items.len() <= chunk_list::NODE_ITEMS_MAX);
    assert_eq!(items.iter().map(|item| item.stream_bytes).sum::<u64>(), expected);
    true
}

fn list_of_any_chunks(data: &[u8]) {
    let item = |byte: &u8| Item { id: ChunkId([*byte; 32]), stream_bytes: u64::from(*byte) + 1 };
    let chunks: Vec<Item> = data.iter().map(item).collect();
    let mut nodes = Vec::new();
    let mut store = |node: Vec<u8>| {
        nodes.push(node);
        Ok::<_, std::convert::Infallible>(ChunkId([nodes.len() as u8; 32]))
    };
    let mut builder = ChunkListBuilder::default();
    let Ok(()) = chunks.iter().try_for_each(|chunk| builder.push(*chunk, &mut store));
    let Ok(stream) = builder.finish(&mut store);
    assert_eq!(stream.validate(), Ok(()));
    assert_eq!(stream.bytes, chunks.iter().map(|chunk| chunk.stream_bytes).sum::<u64>());
    // The lowest nodes hold all chunks in order.
    let lowest = nodes.iter().filter(|node| node[0] == 1);
    let below =
        |node: &Vec<u8>| chunk_list::decode_node(node, 1, node_bytes(node)).expect("what was made is read");
    let decoded: Vec<Item> = lowest.flat_map(below).collect();
    assert!(chunks.len() < 2 || decoded == chunks, "chunks lost");
}

/// What a lowest node stands for, read by hand.
fn node_bytes(node: &[u8]) -> u64 {
    let mut reader = Reader::new("fuzz", &node[1..]);
    let count = reader.varint().expect("a count");
    let lengths = (0..count).map(|_| {
        reader.array::<32>().expect("an id");
        reader.varint().expect("a length")
    });
    lengths.sum()
}

/// Packs as a whole: shape and name of the input; then the input as records, there and back and damaged.
pub fn pack(data: &[u8]) -> bool {
    assert!(pack::open_pack(&key(), &REPO, &PackName([0; 32]), data).is_err(), "a wrong name passed");
    let trailer = &data[data.len().saturating_sub(pack::TRAILER_BYTES)..];
    let shape = PackShape::from_trailer(trailer, data.len() as u64);
    let inside = |shape: &PackShape| shape.directory.start <= shape.directory.end;
    assert!(shape.as_ref().is_ok_and(inside) || shape.is_err());

    let mut builder = PackBuilder::new(&key(), REPO, SALT, 0);
    for stored in data.chunks(100) {
        let (id, plain_len) = (ChunkId([stored[0]; 32]), stored.len() as u32);
        let entry = ChunkEntry {
            id,
            codec: Codec::Raw,
            depth: 0,
            plain_len,
            sealed_len: 0,
            base: None,
            features: None,
        };
        builder.append(entry, stored).expect("any record is sealed");
    }
    let mut made = builder.finish().expect("any pack is finished");
    let opened = pack::open_pack(&key(), &REPO, &made.name, &made.bytes);
    assert_eq!(opened, Ok((made.salt, made.entries)));
    let at = data.iter().fold(0, |at, byte| (at * 31 + usize::from(*byte)) % made.bytes.len());
    made.bytes[at] ^= 1 << (data.len() % 8);
    assert!(pack::open_pack(&key(), &REPO, &made.name, &made.bytes).is_err(), "damage at byte {at} passed");
    shape.is_ok()
}

/// Parity: two bytes length of a pack, the pack, damaged as it may be, then its parity object. Then there and back.
pub fn parity(data: &[u8]) -> bool {
    let Some((head, rest)) = data.split_at_checked(2) else { return false };
    let (pack, object) = rest.split_at(usize::from(u16::from_le_bytes([head[0], head[1]])).min(rest.len()));
    let hash_of = |bytes: &[u8]| PackName(*blake3::hash(bytes).as_bytes());

    if !pack.is_empty() {
        let (name, mut damaged) = (hash_of(pack), pack.to_vec());
        let made = parity::encode(&name, pack, 1 + head[0] % 100).expect("any pack has parity");
        let made = Parity::decode(&name, &made).expect("what was made is read");
        assert!(made.is_whole() && made.pack_bytes() == pack.len());
        damaged[usize::from(head[1]) % pack.len()] ^= 1 << (head[0] % 8);
        assert_eq!(made.restore(&name, &damaged).as_deref(), Ok(pack), "one damaged shard");
    }

    let name = object.get(16..HEADER_BYTES).and_then(|salt| salt.try_into().ok()).map(PackName);
    let Some(Ok(parity)) = name.map(|name| Parity::decode(&name, object)) else { return false };
    let restored = name.and_then(|name| parity.restore(&name, pack).ok().zip(Some(name)));
    restored.is_none_or(|(bytes, name)| {
        assert_eq!(hash_of(&bytes), name, "wrong bytes came out");
        true
    })
}

/// Directories of packs, behind their seal.
pub fn pack_directory(data: &[u8]) -> bool {
    let header = Header { kind: ObjectKind::Pack, salt: SALT }.encode();
    let mut sealed = data.to_vec();
    let sealed_len = (data.len() + TAG_BYTES) as u32;
    let aad = [REPO.as_bytes(), &header[..], b"directory", &sealed_len.to_le_bytes()[..]].concat();
    let sealer = Sealer::new(&key(), &SALT);
    sealer.seal(DIRECTORY_PART, &aad, &mut sealed, 0).expect("any directory is sealed");
    let start = HEADER_BYTES as u64 + record_bytes(data);
    let shape = PackShape { directory: start..start + u64::from(sealed_len) };
    let Ok((salt, entries)) = pack::open_directory(&key(), &REPO, &header, &shape, sealed) else {
        return false;
    };
    assert_eq!(salt, SALT);
    let mut again = Vec::new();
    put_varint(&mut again, entries.len() as u64);
    entries.iter().for_each(|entry| entry.encode(&mut again));
    assert!(data.starts_with(&again), "one value, two encodings");
    true
}

/// Length of the records that a directory tells of, as far as it can be read.
fn record_bytes(directory: &[u8]) -> u64 {
    let mut reader = Reader::new("fuzz", directory);
    let count = reader.varint().unwrap_or(0);
    let entries = (0..count).map_while(|_| ChunkEntry::decode(&mut reader).ok());
    entries.map(|entry| u64::from(entry.sealed_len)).sum()
}

/// Records: one byte codec, three bytes length of the chunk, then the stored form. Sealed, opened, decoded.
pub fn record(data: &[u8]) -> bool {
    let Some((head, stored)) = data.split_at_checked(4) else { return false };
    let codec = if head[0].is_multiple_of(2) { Codec::Zstd } else { Codec::Raw };
    let plain_len = u32::from_le_bytes([head[1], head[2], head[3], 0]);
    let id = ChunkId([head[0]; 32]);
    let entry = ChunkEntry { id, codec, depth: 0, plain_len, sealed_len: 0, base: None, features: None };
    let mut builder = PackBuilder::new(&key(), REPO, SALT, 0);
    let (ordinal, entry, sealed) = builder.append(entry, stored).expect("any record is sealed");
    let (entry, mut sealed) = (entry.clone(), sealed.to_vec());

    let opener = RecordOpener::new(&key(), REPO, &SALT);
    assert!(opener.open(ordinal, &entry, &mut data.to_vec()).is_err(), "a forged record opened");
    assert!(opener.open(ordinal + 1, &entry, &mut sealed.clone()).is_err(), "a moved record opened");
    opener.open(ordinal, &entry, &mut sealed).expect("what was sealed opens");
    assert_eq!(sealed, stored);
    let decoded = Decoder::new().decode(codec, &sealed, plain_len as usize, None);
    decoded.is_ok_and(|plain| plain.len() == plain_len as usize)
}

/// Deltas: two bytes length of the base, three bytes length of the chunk, the base, then the stored form. Then
/// there and back, with the stored form as the chunk.
pub fn delta(data: &[u8]) -> bool {
    let Some((head, rest)) = data.split_at_checked(5) else { return false };
    let base_len = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let plain_len = u32::from_le_bytes([head[2], head[3], head[4], 0]) as usize;
    let (base, stored) = rest.split_at(base_len.min(rest.len()));

    let (mut delta, mut encoder) = (Vec::new(), DeltaEncoder::new(LEVEL_DEFAULT).expect("an encoder"));
    encoder.encode(base, stored, &mut delta).expect("anything is encoded");
    let back = Decoder::new().decode(Codec::Delta, &delta, stored.len(), Some(base));
    assert_eq!(back.as_deref(), Ok(stored));

    let decoded = Decoder::new().decode(Codec::Delta, stored, plain_len, Some(base));
    decoded.is_ok_and(|plain| plain.len() == plain_len)
}

/// Tables in dumps, and their rows in every form; and what follows plain dumps does not depend on the pieces they come in.
pub fn contents(data: &[u8]) -> bool {
    let scan = |piece: usize| {
        let mut scanner = PlainScanner::default();
        data.chunks(piece).for_each(|bytes| scanner.feed(bytes));
        (scanner.data_blocks().to_vec(), scanner.row_counts().clone())
    };
    assert_eq!(scan(data.len().max(1)), scan(1 + data.len() % 7));

    let bytes = Arc::new(data.to_vec());
    let (name, kind, attributes) = ("fuzzed".to_owned(), EntryKind::File, Default::default());
    let Ok(contents) = Contents::open(vec![Part { name, kind, attributes, bytes }]) else { return false };
    contents.schema_sql();
    for table in contents.tables() {
        contents.entries_of(table);
        contents.needs_of(table);
        let _ = contents.extents(table);
        for format in [Format::Copy, Format::Csv { header: true }, Format::Sql] {
            if let Ok(mut rows) = contents.rows(table, format) {
                let _ = io::copy(&mut rows, &mut io::sink());
            }
        }
    }
    !contents.tables().is_empty()
}

/// Dumps of PostgreSQL: what is said of one does not depend on the pieces it comes in.
pub fn pgdump(data: &[u8]) -> bool {
    let piece = 1 + data.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 97;
    let [whole, pieces] = [data.len().max(1), piece].map(|piece| {
        let mut checker = CustomFormatChecker::default();
        let fed = data.chunks(piece).try_for_each(|bytes| checker.feed(bytes));
        fed.and_then(|()| checker.finish()).map_err(|_| ())
    });
    assert_eq!(whole, pieces);
    whole.is_ok()
}

/// Names: of objects, of ids, and of databases.
pub fn names(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = text.parse::<ChunkId>() {
        assert_eq!(id.to_string(), text);
    }
    let options = PostgresOptions { bin_dir: Some("/".into()), ..PostgresOptions::new(text.clone()) };
    let database = PostgresSource::new(options).is_ok();
    let Ok(key) = Key::new(text.clone()) else { return database };
    assert_eq!(key.as_str(), text);
    let path = std::path::Path::new(key.as_str());
    assert!(
        path.components().all(|part| matches!(part, std::path::Component::Normal(_))),
        "{text:?} escapes"
    );
    true
}

/// Retention: one byte for each rule, one for the time zone, eight for the time it is, then twelve for each archive.
/// What no rule may drop stays.
pub fn retention(data: &[u8]) -> bool {
    let Some((head, rest)) = data.split_at_checked(16) else { return false };
    let number = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let [within, last, hourly, daily, weekly, monthly, yearly, zone] = std::array::from_fn(|at| head[at]);
    let rules = Rules {
        within_ms: (within > 0).then(|| i64::from(within) << 28),
        last: last.into(),
        hourly: hourly.into(),
        daily: daily.into(),
        weekly: weekly.into(),
        monthly: monthly.into(),
        yearly: yearly.into(),
    };
    let now = Timestamp::from_millisecond(number(&head[8..])).unwrap_or(Timestamp::MAX);
    let zone = TimeZone::fixed(tz::offset((zone % 25) as i8 - 12));
    let archives: Vec<Candidate<usize>> = rest.chunks_exact(12).enumerate().map(candidate).collect();
    let verdicts = decide(&archives, &rules, now, &zone);
    assert_eq!(verdicts.len(), archives.len());
    for (archive, verdict) in archives.iter().zip(&verdicts) {
        let future = archive.started_ms > now.as_millisecond();
        assert!(verdict.is_some() || (archive.good && !archive.protected && !future), "{archive:?}");
        // Of several of the same moment one is enough.
        let newer = |other: &&Candidate<usize>| {
            let judged = other.good && other.started_ms <= now.as_millisecond();
            judged && other.series == archive.series && other.started_ms >= archive.started_ms
        };
        let newest = archives.iter().filter(newer).all(|other| other.started_ms == archive.started_ms);
        let kept = |other: &Candidate<usize>| verdicts[other.id].is_some_and(|why| why != Why::Future);
        let one_is_kept = archives.iter().filter(newer).any(kept);
        assert!(
            !archive.good || future || !newest || one_is_kept,
            "{archive:?} and its like are all dropped"
        );
    }
    !archives.is_empty()
}

/// Eight bytes when, one which series, one what it is, two spare ones.
fn candidate((id, bytes): (usize, &[u8])) -> Candidate<usize> {
    let (time, rest) = bytes.split_at(8);
    Candidate {
        id,
        series: (rest[0] % 3).to_string(),
        started_ms: i64::from_le_bytes(time.try_into().expect("eight bytes")),
        protected: rest[1] & 1 == 1,
        good: rest[1] & 2 == 0,
        complete: rest[1] & 8 == 0,
        tagged: rest[1] & 4 == 4,
    }
}
