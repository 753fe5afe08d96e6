//! Makes a golden repository: every kind of object and every codec, in little room.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use dbvault_format::chunker::ChunkerParams;
use dbvault_format::config::RepoParams;
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::header::{HEADER_BYTES, Header, ObjectKind};
use dbvault_format::id::{PackName, Salt, SessionId};
use dbvault_format::key_slot::Secret;
use dbvault_format::keys::{Keys, PurposeKey, context};
use dbvault_format::manifest::Fence;
use dbvault_format::object::{Place, open_object, seal_object, to_cbor};
use dbvault_format::root::{Condemned, Root};
use dbvault_repo::{BackupOptions, NoMonitor, Repository};
use dbvault_storage::{Key, LocalStorage, Storage};

use super::{client, files, open};

/// A pack that was deleted by the only epoch of the repository.
const DELETED_PACK: PackName = PackName([0xde; 32]);

/// When the fence was made, milliseconds since 1970 UTC.
const FENCED_MS: i64 = 1_700_000_000_000;

/// Rows of the dump that changes from day to day.
const ROWS: u64 = 4_000;

/// Numbers that look random and are the same for ever (SplitMix64, Steele et al., OOPSLA 2014).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes()).take(len.div_ceil(8));
        words.flatten().take(len).collect()
    }
}

/// A dump in which one row in a hundred is another on every day but the first.
fn rows(day: u64) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..ROWS {
        let mut numbers = Numbers(row);
        let changed = (1..day).any(|day| Numbers(row ^ day << 32).next().is_multiple_of(100));
        let balance = numbers.next() % 1_000_000 + u64::from(changed) * day;
        let _ = writeln!(text, "{row}\tuser{:05x}\t{balance}\tactive", numbers.next() % 0x10_0000);
    }
    text.into_bytes()
}

/// Pages, every third of them empty.
fn pages() -> Vec<u8> {
    let mut numbers = Numbers(7);
    let page = |number: u64| match number % 3 {
        0 => vec![0; 4096],
        1 => numbers.bytes(4096),
        _ => format!("page {number} ").repeat(1024).into_bytes()[..4096].to_vec(),
    };
    (0..24).flat_map(page).collect()
}

/// Few chunks in a long list: more than one level of nodes.
fn long_list() -> Vec<u8> {
    let mut numbers = Numbers(11);
    let pieces: Vec<Vec<u8>> = (0..60).map(|_| numbers.bytes(64)).collect();
    (0..2_500).flat_map(|_| pieces[(numbers.next() % 60) as usize].clone()).collect()
}

pub(super) fn meta(name: &str, kind: EntryKind, grid: Grid, attributes: &[(&str, &str)]) -> EntryMeta {
    let attributes: BTreeMap<String, String> =
        attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    EntryMeta { name: name.into(), kind, grid, attributes }
}

fn users(day: u64) -> (EntryMeta, Vec<u8>) {
    let facts = [("database", "users"), ("format", "custom"), ("server_version", "15.18")];
    (meta("users", EntryKind::Postgresql, Grid::Content, &facts), rows(day))
}

fn app_db() -> (EntryMeta, Vec<u8>) {
    let facts = [("path", "/srv/app.db"), ("page_size_bytes", "4096"), ("mode", "0600")];
    (meta("app.db", EntryKind::Sqlite, Grid::Fixed(4096), &facts), pages())
}

fn list() -> (EntryMeta, Vec<u8>) {
    let facts = [("command", "make-list")];
    (meta("list", EntryKind::Command, Grid::Fixed(64), &facts), long_list())
}

fn stdin(name: &str, bytes: Vec<u8>) -> (EntryMeta, Vec<u8>) {
    (meta(name, EntryKind::Stdin, Grid::Content, &[]), bytes)
}

/// Streams that the repository has all chunks of; the last one is of the backup that was interrupted.
pub(super) fn known_streams() -> Vec<(EntryMeta, Vec<u8>)> {
    vec![users(1), app_db(), list(), stdin("interrupted", Numbers(23).bytes(60_000))]
}

fn archive(
    repo: &Repository,
    name: &str,
    comment: Option<&str>,
    entries: Vec<(EntryMeta, Vec<u8>)>,
) -> SessionId {
    let options = BackupOptions { archive_name: name.into(), comment: comment.map(str::to_owned) };
    let mut txn = repo.begin_backup(options, Arc::new(NoMonitor)).unwrap();
    for (meta, bytes) in entries {
        let warnings = if meta.name == "users" { vec!["a warning".to_owned()] } else { Vec::new() };
        let pending = txn.add_entry(meta, &mut bytes.as_slice()).unwrap();
        txn.finish_entry(pending, EntryReport { attributes: BTreeMap::new(), warnings });
    }
    txn.commit().unwrap().id
}

/// Makes the repository.
pub(super) fn make(place: &Path, cache: &Path, key_file: &Secret, passphrase: &Secret) {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::create(place).unwrap());
    let params = RepoParams {
        chunker: ChunkerParams { min_bytes: 2 << 10, average_bytes: 8 << 10, max_bytes: 32 << 10 },
        pack_bytes: 64 << 10,
        ..RepoParams::default()
    };
    let repo = Repository::init(storage.clone(), client(cache), params, key_file, "golden key file").unwrap();
    repo.add_key(passphrase, "golden passphrase").unwrap();
    let note = stdin("Notiz \u{fc}ber nichts", b"nothing to say\n".to_vec());
    let day_1 = archive(&repo, "day-1", None, vec![users(1), app_db(), note, stdin("empty", Vec::new())]);
    archive(&repo, "day-2", Some("with deltas"), vec![users(2), list()]);
    let day_3 = archive(&repo, "day-3", None, vec![users(3)]);
    repo.delete_archive(&day_1).unwrap();
    repo.undelete_archive(&day_1).unwrap();
    repo.delete_archive(&day_3).unwrap();

    let options = |name: &str| BackupOptions { archive_name: name.into(), comment: None };
    let interrupted = repo.begin_backup(options("interrupted"), Arc::new(NoMonitor)).unwrap();
    for (meta, bytes) in known_streams().into_iter().skip(3) {
        let _never_finished = interrupted.add_entry(meta, &mut bytes.as_slice()).unwrap();
    }
    interrupted.suspend().unwrap();
    // Died without a word: its registration stays, and a collector fenced it.
    let died = repo.begin_backup(options("died"), Arc::new(NoMonitor)).unwrap();
    let session = *died.id();
    drop(died);
    put_epoch(&repo, &*storage, session);
    storage.flush().unwrap();
}

/// What collectors write. There is none yet: only the formats are fixed.
fn put_epoch(repo: &Repository, storage: &dyn Storage, session: SessionId) {
    let keys = Keys::derive(&repo.export_key());
    let put = |name: String, kind: ObjectKind, salt: u8, body: Vec<u8>| {
        let place = Place { repo: repo.id(), name: &name };
        let object = seal_object(&keys.object, place, kind, Salt([salt; 32]), &body).unwrap();
        storage.put_new(&Key::new(name.as_str()).unwrap(), &[&object]).unwrap();
    };
    let fence = Fence { session, fenced_ms: FENCED_MS, host: "golden".into() };
    put(format!("archives/{session}"), ObjectKind::Fence, 1, to_cbor(&fence));
    let condemned = Condemned { packs: vec![DELETED_PACK] };
    put("condemned/00000001".into(), ObjectKind::Condemned, 2, to_cbor(&condemned));
    let root = Root { base: vec![], folded: vec![session], deleted: vec![DELETED_PACK] };
    put("roots/00000001".into(), ObjectKind::Root, 3, to_cbor(&root));
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, line) in bytes.chunks(16).enumerate() {
        let words: Vec<String> = line.chunks(8).map(hexadecimal).collect();
        let _ = writeln!(text, "{:04x}  {}", row * 16, words.join(" "));
    }
    text
}

/// The first trash mark of a golden repository, sealed and open, as it stands in `docs/format.md`.
pub(super) fn worked_example(place: &Path, secret: &Secret) -> String {
    let cache = tempfile::tempdir().unwrap();
    let repo = open(place, cache.path(), secret);
    let name = files(place).into_iter().find(|name| name.starts_with("trash/")).unwrap();
    let object = std::fs::read(place.join(&name)).unwrap();
    let master = repo.export_key();
    let object_key = PurposeKey::derive(context::OBJECT, &master.0);
    let here = Place { repo: repo.id(), name: &name };
    let (_, body) = open_object(&object_key, here, &[ObjectKind::Trash], &object).unwrap();
    let (header, _) = Header::decode(&object[..HEADER_BYTES], &[ObjectKind::Trash]).unwrap();
    format!(
        "```text\nname            {name}\nrepository id   {}\nmaster key      {}\nobject key      {}\n\
         key of this one {}\n\nsealed, {} bytes\n{}\nbody, {} bytes\n{}```\n",
        repo.id(),
        hexadecimal(&master.0),
        hexadecimal(object_key.as_bytes()),
        hexadecimal(&*object_key.for_salt(&header.salt)),
        object.len(),
        dump(&object),
        body.len(),
        dump(&body),
    )
}
