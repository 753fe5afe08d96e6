//! What all tests of the engine use: repositories, streams, and how to look at what came of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dbvault_format::chunker::ChunkerParams;
use dbvault_format::config::RepoParams;
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::id::SessionId;
use dbvault_format::key_slot::Secret;
use dbvault_format::manifest::ArchiveManifest;
use dbvault_repo::{
    BackupOptions, BackupTxn, CheckDepth, CheckReport, Client, Error, NoMonitor, Reader, Repository,
};
use dbvault_storage::{Key, Storage};
pub(crate) use dbvault_testkit::noise;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// Result of the engine, unless said otherwise.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Streams by name.
pub(crate) type Streams = BTreeMap<String, Vec<u8>>;

/// What each archive should hold, by name.
pub(crate) type Expected = BTreeMap<String, Streams>;

/// Small chunks and packs, so that little data makes many objects.
pub(crate) fn small_params() -> RepoParams {
    let chunker = ChunkerParams { min_bytes: 1 << 10, average_bytes: 4 << 10, max_bytes: 16 << 10 };
    RepoParams { chunker, pack_bytes: 32 << 10, ..RepoParams::default() }
}

/// Key files open without work, unlike passphrases.
pub(crate) fn secret(byte: u8) -> Secret {
    Secret::KeyFile(Zeroizing::new(vec![byte; 32]))
}

/// A directory for caches that goes away with the test, in memory where the system has such a place.
pub(crate) fn temporary_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn client(cache_dir: &Path) -> Client {
    Client {
        host: "host".into(),
        user: "user".into(),
        cache_dir: cache_dir.into(),
        interrupt: Arc::new(AtomicBool::new(false)),
    }
}

pub(crate) fn init(storage: impl Storage + 'static, cache_dir: &Path) -> Repository {
    init_on(Arc::new(storage), cache_dir, small_params())
}

pub(crate) fn init_on(storage: Arc<dyn Storage>, cache_dir: &Path, params: RepoParams) -> Repository {
    Repository::init(storage, client(cache_dir), params, &secret(1), "first").unwrap()
}

pub(crate) fn open(storage: impl Storage + 'static, cache_dir: &Path) -> Result<Repository> {
    open_on(Arc::new(storage), cache_dir)
}

pub(crate) fn open_on(storage: Arc<dyn Storage>, cache_dir: &Path) -> Result<Repository> {
    Repository::open(storage, client(cache_dir), &secret(1))
}

pub(crate) fn key(name: impl Into<String>) -> Key {
    Key::new(name).unwrap()
}

/// Names of all objects below `prefix`, sorted.
pub(crate) fn names_below(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut each = |object: dbvault_storage::ObjectMeta| {
        names.push(object.key.as_str().to_owned());
        Ok(())
    };
    storage.list(&key(prefix), &mut each).unwrap();
    names.sort_unstable();
    names
}

/// Bytes of all objects below `prefix`.
pub(crate) fn bytes_below(storage: &dyn Storage, prefix: &str) -> u64 {
    let mut sum = 0;
    let mut each = |object: dbvault_storage::ObjectMeta| {
        sum += object.size_bytes;
        Ok(())
    };
    storage.list(&key(prefix), &mut each).unwrap();
    sum
}

pub(crate) fn streams(entries: &[(&str, &[u8])]) -> Streams {
    entries.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

pub(crate) fn meta(name: &str, grid: Grid) -> EntryMeta {
    EntryMeta { name: name.into(), kind: EntryKind::Stdin, grid, attributes: BTreeMap::new() }
}

pub(crate) fn begin(repo: &Repository, name: &str) -> Result<BackupTxn> {
    let options = BackupOptions { archive_name: name.into(), comment: None };
    repo.begin_backup(options, Arc::new(NoMonitor))
}

/// Stores one stream and makes it part of the archive.
pub(crate) fn add(txn: &mut BackupTxn, name: &str, grid: Grid, body: &mut dyn Read) -> Result<()> {
    let pending = txn.add_entry(meta(name, grid), body)?;
    txn.finish_entry(pending, EntryReport::default());
    Ok(())
}

pub(crate) fn backup(repo: &Repository, name: &str, streams: &Streams) -> Result<ArchiveManifest> {
    backup_on(repo, name, Grid::Content, streams)
}

pub(crate) fn backup_on(
    repo: &Repository,
    name: &str,
    grid: Grid,
    streams: &Streams,
) -> Result<ArchiveManifest> {
    let mut txn = begin(repo, name)?;
    for (entry, bytes) in streams {
        if let Err(e) = add(&mut txn, entry, grid, &mut Cursor::new(bytes)) {
            // The first error tells; what was stored is kept as the command line does it.
            let _ = txn.suspend();
            return Err(e);
        }
    }
    txn.commit()
}

/// Keeps what was stored of `streams`, without an archive.
pub(crate) fn suspend(repo: &Repository, name: &str, streams: &Streams) -> SessionId {
    let mut txn = begin(repo, name).unwrap();
    let id = *txn.id();
    streams.iter().for_each(|(entry, bytes)| {
        add(&mut txn, entry, Grid::Content, &mut Cursor::new(bytes)).unwrap();
    });
    txn.suspend().unwrap();
    id
}

pub(crate) fn reader(repo: &Repository) -> Result<Arc<Reader>> {
    repo.reader(Arc::new(NoMonitor))
}

/// All streams of an archive.
pub(crate) fn restore(reader: &Arc<Reader>, manifest: &ArchiveManifest) -> Result<Streams, String> {
    let entries = reader.entries(manifest).map_err(|e| format!("{e:?}"))?;
    let read = |entry: &dbvault_format::manifest::EntryRecord| {
        let mut stream = reader.open_stream(&entry.stream).map_err(|e| format!("{e:?}"))?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(|e| format!("{e:?}"))?;
        Ok((entry.meta.name.clone(), bytes))
    };
    entries.iter().map(read).collect()
}

/// All archives that are there, deleted ones too, must be those expected, bit for bit. `optional` names one
/// that may be there or not; if it is, it must be whole. Gives whether it is, or what is wrong.
pub(crate) fn compare(
    repo: &Repository,
    expected: &Expected,
    optional: Option<&str>,
) -> Result<bool, String> {
    let list = repo.archives().map_err(|e| format!("archives can't be listed: {e:?}"))?;
    if let Some((id, e)) = list.damaged.first() {
        return Err(format!("archive {id} is damaged: {e:?}"));
    }
    let reader = reader(repo).map_err(|e| format!("no reader: {e:?}"))?;
    let mut missing: Vec<&str> = expected.keys().map(String::as_str).collect();
    for archive in &list.archives {
        let name = archive.manifest.name.as_str();
        let wanted = expected.get(name).ok_or_else(|| format!("nobody made {name}"))?;
        let streams = restore(&reader, &archive.manifest).map_err(|e| format!("archive {name}: {e}"))?;
        if streams != *wanted {
            return Err(format!("archive {name} has other bytes"));
        }
        missing.retain(|other| *other != name);
    }
    let absent = optional.is_some_and(|name| missing.contains(&name));
    missing.retain(|name| Some(*name) != optional);
    if missing.is_empty() { Ok(!absent) } else { Err(format!("archives lost: {missing:?}")) }
}

/// Panics where [`compare`] finds something wrong.
pub(crate) fn assert_archives(repo: &Repository, expected: &Expected, optional: Option<&str>) -> bool {
    compare(repo, expected, optional).unwrap()
}

pub(crate) fn check(repo: &Repository) -> Result<CheckReport> {
    repo.check(CheckDepth::Data, Arc::new(NoMonitor))
}

/// What a check with all data finds wrong.
pub(crate) fn findings(repo: &Repository) -> Result<(), String> {
    let report = check(repo).map_err(|e| format!("can't check: {e:?}"))?;
    let text = || format!("check: {:?} {:?}", report.findings, report.damage);
    if report.clean() { Ok(()) } else { Err(text()) }
}

pub(crate) fn assert_clean(repo: &Repository) {
    findings(repo).unwrap();
}

/// Calls `work` for every item, on two threads.
pub(crate) fn in_parallel<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let items = Mutex::new(items.into_iter().collect::<Vec<T>>().into_iter());
    let next = || items.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| std::iter::from_fn(next).for_each(&work));
        }
    });
}

/// Runs `work` in a thread of its own; panics if it takes longer than `limit`.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(work());
    });
    match ended.recv_timeout(limit) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: still not ended after {limit:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it sent nothing"))
        }
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The numbers of one seed: the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// The next number (SplitMix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Rows as in a dump.
pub(crate) fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let mut text = String::with_capacity(len + 100);
    let mut row = 0;
    while text.len() < len {
        row += 1;
        let number = numbers.next();
        text.push_str(&format!("{row}\tuser{}\t{:x}\t2026-01-01\n", number % 997, number >> 20));
    }
    text.truncate(len);
    text.into_bytes()
}

/// The next day of a stream: `edits` short runs are overwritten, all over it.
pub(crate) fn edited(bytes: &[u8], edits: usize, seed: u64) -> Vec<u8> {
    let (mut bytes, mut numbers) = (bytes.to_vec(), Numbers::new(seed));
    for _ in 0..edits {
        let word = numbers.next().to_string();
        let at = numbers.below(bytes.len() - word.len());
        bytes[at..at + word.len()].copy_from_slice(word.as_bytes());
    }
    bytes
}
