//! Writes good inputs of every target to `fuzz/seeds`: `cargo run --example make_seeds` in `fuzz/`.
//!
//! Those that only other programs make, such as dumps, are in `fuzz/seeds` already and left alone.

use std::fs;
use std::path::Path;

use dbvault_fuzz::targets::{MASTER, REPO, SALT, SESSION, SLOT, key, key_file};

use dbvault_format::chunk_list::{ChunkListBuilder, Item, StreamRef};
use dbvault_format::compress::{Codec, DeltaEncoder, Encoder, LEVEL_DEFAULT};
use dbvault_format::config::{self, RepoParams};
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};
use dbvault_format::file_table::{DeviceNumber, Extent, FileKind, FileRecord, FileTime, Xattr};
use dbvault_format::header::HEADER_BYTES;
use dbvault_format::id::{ChunkId, PackName};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::key_slot::{self, KdfWork, SlotNote};
use dbvault_format::keys::MasterKey;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord, FailedEntry, Fence, Sizes, encode_entries};
use dbvault_format::object::to_cbor;
use dbvault_format::pack::{ChunkEntry, PackBuilder};
use dbvault_format::root::{Condemned, Root};
use dbvault_format::session::SessionRecord;
use dbvault_format::similarity::SuperFeatures;
use dbvault_format::trash::{TrashAction, TrashMark};

fn main() {
    configuration_and_keys();
    small_objects();
    archives();
    chunks();
    for (name, text) in [("key", "packs/0a/ff00"), ("name", "users"), ("id", "ab".repeat(32).as_str())] {
        write("names", name, text.as_bytes());
    }
    let address = "postgresql://me:secret@db1:5432/users?sslmode=require";
    write("names", "address", address.as_bytes());
    write("names", "keywords", b"host=/run/pg dbname='it''s' user=me password=x");
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder).expect("a directory for seeds");
    fs::write(folder.join(name), bytes).expect("a seed is written");
}

fn configuration_and_keys() {
    let whole = config::encode(&key(), &REPO, &RepoParams::default());
    write("config", "whole", &whole);
    write("config", "body", &whole[HEADER_BYTES..whole.len() - 32]);

    let note = SlotNote { label: "laptop".into(), created_ms: 1_700_000_000_000 };
    let master = MasterKey(MASTER);
    let slot = key_slot::encode(&key_file(), KdfWork::MIN, &master, (&REPO, &SLOT), SALT, &note);
    write("key_slot", "key_file", &slot.expect("a slot"));
    write("key_slot", "note", &to_cbor(&note));
}

fn small_objects() {
    let host = || "db1".to_owned();
    let session = SessionRecord {
        session: SESSION,
        written_ms: 5,
        host: host(),
        process: 77,
        program_version: "0.1.0".into(),
    };
    write("object", "session", &to_cbor(&session));
    let mark = TrashMark { archive: SESSION, action: TrashAction::Delete, marked_ms: 5, host: host() };
    write("object", "trash", &to_cbor(&mark));
    write("object", "fence", &to_cbor(&Fence { session: SESSION, fenced_ms: 5, host: host() }));
    write("object", "condemned", &to_cbor(&Condemned { packs: vec![PackName([4; 32]); 2] }));
    let root =
        Root { base: vec!["index/0/1".into()], folded: vec![SESSION], deleted: vec![PackName([4; 32])] };
    write("object", "root", &to_cbor(&root));
}

fn archives() {
    let stream = StreamRef { bytes: 5000, levels: 1, root: Some(ChunkId([6; 32])) };
    let sizes = Sizes { original_bytes: 5000, new_bytes: 400, stored_bytes: 90, ..Sizes::default() };
    let manifest = ArchiveManifest {
        id: SESSION,
        name: "nightly".into(),
        started_ms: 1_700_000_000_000,
        finished_ms: 1_700_000_001_000,
        host: "db1".into(),
        user: "backup".into(),
        program_version: "0.1.0".into(),
        entries: stream,
        entry_count: 2,
        sizes,
        comment: Some("before the upgrade".into()),
        failed: vec![FailedEntry { name: "orders".into(), reason: "no such database".into() }],
    };
    write("manifest", "nightly", &manifest.encode());

    let entry = |name: &str, kind, grid| EntryRecord {
        meta: EntryMeta {
            name: name.into(),
            kind,
            grid,
            attributes: [(attribute::HOST.to_owned(), "db1".to_owned())].into(),
        },
        stream,
        sizes,
        duration_ms: 9,
        report: EntryReport { attributes: [].into(), warnings: vec!["careful".into()] },
        table: None,
    };
    let entries = [
        entry("users", EntryKind::Postgresql, Grid::Content),
        entry("app.db", EntryKind::Sqlite, Grid::Fixed(16384)),
    ];
    write("entry_table", "two", &[&[2], &encode_entries(&entries)[..]].concat());
    write("file_table", "tree", &tree().concat());
}

/// The file table of a tree with something of everything.
fn tree() -> Vec<Vec<u8>> {
    let record = |path: &[u8], kind| FileRecord {
        path: path.to_vec().into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 1000,
        user: Some("root".into()),
        group: None,
        modified: FileTime { seconds: 1_700_000_000, nanoseconds: 5 },
        size_bytes: 0,
        gap_bytes: 0,
        extents: None,
        target: None,
        same_as: None,
        device: None,
        xattrs: Vec::new(),
        flags: 0,
        changed: FileTime { seconds: -1, nanoseconds: 999_999_999 },
        inode: 7,
    };
    let file = |path, size_bytes| FileRecord { size_bytes, ..record(path, FileKind::Regular) };
    let note = Xattr { name: b"user.note".to_vec().into(), value: vec![0, 255].into() };
    let extent = |offset, bytes| Extent { offset, bytes };
    let device = Some(DeviceNumber { major: 8, minor: 1 });
    let files = [
        record(b"", FileKind::Directory),
        FileRecord { mode: 0o1777, ..record(b"a", FileKind::Directory) },
        FileRecord { xattrs: vec![note], gap_bytes: 5, ..file(b"a/b", 10) },
        FileRecord { same_as: Some(b"a/b".to_vec().into()), ..file(b"a/c", 10) },
        FileRecord { device, ..record(b"a/disk", FileKind::BlockDevice) },
        FileRecord { extents: Some(vec![extent(4096, 10), extent(8192, 1)]), ..file(b"a/sparse \xff", 9000) },
        FileRecord {
            target: Some(b"../x".to_vec().into()),
            size_bytes: 4,
            ..record(b"l", FileKind::Symlink)
        },
        FileRecord { flags: 16, ..record(b"pipe", FileKind::Fifo) },
    ];
    files.iter().map(FileRecord::encode).collect()
}

fn chunk_entries() -> Vec<ChunkEntry> {
    let entry = |byte: u8, codec, base: Option<u8>, features| ChunkEntry {
        id: ChunkId([byte; 32]),
        codec,
        depth: u8::from(base.is_some()),
        plain_len: 70_000,
        sealed_len: 300,
        base: base.map(|byte| ChunkId([byte; 32])),
        features,
    };
    let features = Some(SuperFeatures([1, 2, (1 << 48) - 1]));
    vec![
        entry(1, Codec::Zstd, None, features),
        entry(2, Codec::Delta, Some(1), features),
        entry(3, Codec::Raw, None, None),
    ]
}

fn chunks() {
    let entries = chunk_entries();
    let listing = |entries| PackListing { name: PackName([8; 32]), salt: SALT, size_bytes: 1 << 20, entries };
    let packs = vec![listing(entries.clone()), listing(Vec::new())];
    write("index_segment", "two_packs", &IndexSegment { packs }.encode());
    let mut directory = vec![entries.len() as u8];
    entries.iter().for_each(|entry| entry.encode(&mut directory));
    write("pack_directory", "three", &directory);
    directory.extend_from_slice(&[0; 40]);
    write("pack_directory", "padded", &directory);

    let mut builder = PackBuilder::new(&key(), REPO, SALT, 0);
    for entry in entries {
        builder.append(entry, b"stored form").expect("a record");
    }
    write("pack", "three", &builder.finish().expect("a pack").bytes);

    let pack: Vec<u8> = (0..1500u32).flat_map(|n| (n * n).to_le_bytes()).take(1500).collect();
    let name = PackName(*blake3::hash(&pack).as_bytes());
    let parity = dbvault_format::parity::encode(&name, &pack, 10).expect("parity");
    let mut damaged = pack.clone();
    damaged[700] ^= 1;
    let length = &(pack.len() as u16).to_le_bytes()[..];
    write("parity", "whole", &[length, &pack, &parity].concat());
    write("parity", "damaged", &[length, &damaged, &parity].concat());

    let base = "INSERT INTO users VALUES (17, 'somebody');\n".repeat(20).into_bytes();
    let mut plain = base.clone();
    plain[400..403].copy_from_slice(b"xyz");
    let length = &(plain.len() as u32).to_le_bytes()[..3];
    let (mut stored, mut delta) = (Vec::new(), Vec::new());
    Encoder::new(LEVEL_DEFAULT).and_then(|mut encoder| encoder.encode(&plain, &mut stored)).expect("zstd");
    write("record", "zstd", &[&[0], length, &stored].concat());
    write("record", "raw", &[&[1], length, &plain].concat());
    DeltaEncoder::new(LEVEL_DEFAULT).and_then(|mut e| e.encode(&base, &plain, &mut delta)).expect("a delta");
    let base_length = &(base.len() as u16).to_le_bytes()[..];
    write("delta", "three_bytes", &[base_length, length, &base, &delta].concat());
    chunk_lists();
}

fn chunk_lists() {
    let mut nodes = Vec::new();
    let mut store = |node: Vec<u8>| {
        nodes.push(node);
        Ok::<_, std::convert::Infallible>(ChunkId([nodes.len() as u8; 32]))
    };
    let mut builder = ChunkListBuilder::default();
    for n in 0..70 {
        let Ok(()) =
            builder.push(Item { id: ChunkId([n; 32]), stream_bytes: 1000 + u64::from(n) }, &mut store);
    }
    let Ok(stream) = builder.finish(&mut store);
    let node = nodes.last().expect("a node");
    write("chunk_list", "node", &[&stream.bytes.to_le_bytes()[..], node].concat());
}
