//! The memory of a backup does not grow with its stream, nor with the number of files of a tree. A process measures its own
//! peak, so each is stored by a process of its own: this test program, started again.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{self, Read};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dbvault_format::config::RepoParams;
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::file_table::{FileKind, FileRecord, FileTime};
use dbvault_format::key_slot::Secret;
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{BackupOptions, BackupTxn, Client, NoMonitor, Repository};
use dbvault_storage::LocalStorage;

/// Tells a child how long its stream is, MiB.
const STREAM_MIB: &str = "DBVAULT_TEST_STREAM_MIB";

/// Tells a child how many files its tree has.
const TREE_FILES: &str = "DBVAULT_TEST_TREE_FILES";

/// Most memory that a backup may need beyond that of the program itself, KiB.
const GROWTH_KIB_MAX: i64 = 300 << 10;

/// Most that a tree of four times as many files may need more, KiB.
const SPREAD_KIB_MAX: i64 = 30 << 10;

/// Most that [`WINDOW_MIB`] more of a stream may need more, KiB: were it kept, a terabyte would need two gigabytes.
const RISE_KIB_MAX: i64 = 1 << 10;

/// How much of a stream is looked at together, MiB.
const WINDOW_MIB: usize = 500;

/// The memory in use is looked at once for so much of a stream, MiB.
const SAMPLE_MIB: usize = 10;

const BLOCK_BYTES: usize = 1 << 20;

/// A stream made on the fly: blocks that are new, that were there before, and that are nearly as before.
struct Synthetic {
    left_bytes: u64,
    number: u64,
    old: Vec<u8>,
    block: Vec<u8>,
    at: usize,
    /// Memory in use along the stream, KiB.
    samples_kib: Vec<i64>,
}

impl Synthetic {
    fn new(len: u64) -> Synthetic {
        let mut old = String::new();
        for row in 0u64.. {
            if old.len() >= 8 * BLOCK_BYTES {
                break;
            }
            let number = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            old.push_str(&format!("{row}\tuser{}\t{number:x}\n", number % 997));
        }
        Synthetic {
            left_bytes: len,
            number: 0,
            old: old.into_bytes(),
            block: Vec::new(),
            at: 0,
            samples_kib: Vec::new(),
        }
    }

    fn next_block(&mut self) {
        self.number += 1;
        if self.number.is_multiple_of(SAMPLE_MIB as u64) {
            self.samples_kib.push(memory_kib("VmRSS:") as i64);
        }
        let from = (self.number as usize % 7) * BLOCK_BYTES;
        self.block.clear();
        self.block.extend_from_slice(&self.old[from..from + BLOCK_BYTES]);
        let word = self.number.to_string();
        match self.number % 4 {
            0 => {
                let key = blake3::derive_key("dbvault tests memory", word.as_bytes());
                blake3::Hasher::new_keyed(&key).finalize_xof().fill(&mut self.block);
            }
            1 => {}
            // A row here and there has changed.
            _ => (5000..BLOCK_BYTES - 100)
                .step_by(50_000)
                .for_each(|at| self.block[at..at + word.len()].copy_from_slice(word.as_bytes())),
        }
        self.at = 0;
    }
}

impl Read for Synthetic {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            self.next_block();
        }
        let left = usize::try_from(self.left_bytes).unwrap_or(usize::MAX);
        let len = out.len().min(self.block.len() - self.at).min(left);
        out[..len].copy_from_slice(&self.block[self.at..self.at + len]);
        self.at += len;
        self.left_bytes -= len as u64;
        Ok(len)
    }
}

/// Memory of this process, KiB: a line of its status, see proc_pid_status(5).
fn memory_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Most memory that this process has had so far, KiB.
fn peak_kib() -> u64 {
    memory_kib("VmHWM:")
}

fn median<T: Copy + Ord>(numbers: &[T]) -> T {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// How much more memory is in use from one window of a stream to the next, KiB. Whole buffers come and go by chance, in
/// a few windows; what is kept for all that was stored shows in each.
fn rise_kib(samples: &[i64]) -> i64 {
    let windows: Vec<i64> = samples.chunks_exact(WINDOW_MIB / SAMPLE_MIB).map(median).collect();
    // The first gigabyte fills whatever has a bound.
    let rises: Vec<i64> = windows[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    median(&rises)
}

fn init(dir: &std::path::Path) -> Repository {
    let client = Client {
        host: "host".into(),
        user: "user".into(),
        cache_dir: dir.join("cache"),
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    let storage = Arc::new(LocalStorage::create(dir.join("repository")).unwrap());
    let secret = Secret::KeyFile(zeroize::Zeroizing::new(vec![1; 32]));
    Repository::init(storage, client, RepoParams::default(), &secret, "").unwrap()
}

fn begin(repo: &Repository, name: &str) -> BackupTxn {
    let options = BackupOptions { archive_name: name.into(), comment: None };
    repo.begin_backup(options, Arc::new(NoMonitor)).unwrap()
}

fn meta(kind: EntryKind) -> EntryMeta {
    EntryMeta { name: "entry".into(), kind, grid: Grid::Content, attributes: Default::default() }
}

/// Stores a stream of at least two gigabytes; tells how much the peak grew, and how much from window to window.
fn store(len: u64) {
    let dir = tempfile::tempdir().unwrap();
    let repo = init(dir.path());
    let mut stream = Synthetic::new(len);
    let before = peak_kib();
    let mut txn = begin(&repo, "archive");
    let pending = txn.add_entry(meta(EntryKind::Stdin), &mut stream).unwrap();
    txn.finish_entry(pending, EntryReport::default());
    let manifest = txn.commit().unwrap();
    assert_eq!(manifest.sizes.original_bytes, len);
    assert!(manifest.sizes.delta_chunks > 0 && manifest.sizes.new_chunks < manifest.sizes.chunks);
    println!("grown: {}\nrise: {}", peak_kib() - before, rise_kib(&stream.samples_kib));
}

fn small_file(number: u64) -> (FileRecord, Vec<u8>) {
    let content = format!(
        "{number} is the number of this file, and {:x}\n",
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    );
    let content = content.repeat(1 + number as usize % 50).into_bytes();
    let path = format!("usr/share/{:04}/{:07}.txt", number / 1000, number);
    let record = FileRecord {
        path: path.into_bytes().into(),
        kind: FileKind::Regular,
        mode: 0o644,
        uid: 0,
        gid: 0,
        user: Some("root".into()),
        group: Some("root".into()),
        modified: FileTime { seconds: 1_700_000_000 + number as i64, nanoseconds: number as u32 },
        size_bytes: content.len() as u64,
        gap_bytes: 0,
        extents: None,
        target: None,
        same_as: None,
        device: None,
        xattrs: Vec::new(),
        flags: 0,
        changed: FileTime { seconds: 1_700_000_000, nanoseconds: number as u32 },
        inode: number,
    };
    (record, content)
}

/// Stores a tree of small files, then again without one change; gives how much the peak grew, KiB.
fn store_tree(count: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let repo = init(dir.path());
    let before = peak_kib();
    let mut old: Option<EntryRecord> = None;
    for name in ["first", "second"] {
        let began = std::time::Instant::now();
        let mut txn = begin(&repo, name);
        let base = old.as_ref().map(|old| old.stream);
        let mut known = old.as_ref().map(|old| txn.reader().open_table(old).unwrap());
        let (pending, ()) = txn
            .add_tree(meta(EntryKind::Tree), base.as_ref(), |writer| {
                for number in 0..count {
                    let (record, position) = match known.as_mut().and_then(Iterator::next).transpose()? {
                        Some((record, content)) => (record, writer.keep(&content)?.unwrap()),
                        None => {
                            let (record, content) = small_file(number);
                            let position = writer.position();
                            writer.write(&content)?;
                            (record, position)
                        }
                    };
                    writer.record(record, position)?;
                }
                Ok(())
            })
            .unwrap();
        txn.finish_entry(pending, EntryReport::default());
        old = txn.entries().first().cloned();
        let sizes = txn.commit().unwrap().sizes;
        println!("{count} files, {name}: {:?}, {} bytes stored", began.elapsed(), sizes.stored_bytes);
    }
    peak_kib() - before
}

#[test]
fn child() {
    // Only what the tests below start does anything.
    if let Ok(count) = std::env::var(TREE_FILES) {
        println!("grown: {}", store_tree(count.parse().unwrap()));
    }
    if let Ok(mib) = std::env::var(STREAM_MIB) {
        store(mib.parse::<u64>().unwrap() << 20);
    }
}

/// What a child says. With `one_arena` all its threads allocate from one heap: else the C library keeps one a
/// thread, and how much lies unused in each is a matter of chance.
fn told_by_child(what: &str, amount: u64, one_arena: bool) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture"]).env(what, amount.to_string());
    if one_arena {
        child.env("MALLOC_ARENA_MAX", "1");
    }
    let child = child.output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said} {}", String::from_utf8_lossy(&child.stderr));
    said.lines().filter(|line| line.contains(" files, ")).for_each(|line| println!("{line}"));
    said
}

/// The number that a child has told under this name, KiB.
fn told_kib(said: &str, name: &str) -> i64 {
    let number = said.split(name).nth(1).and_then(|rest| rest.split_whitespace().next());
    number.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_stream() {
    let peak = told_kib(&told_by_child(STREAM_MIB, 2000, false), "grown: ");
    println!("2,000 MiB: {peak} KiB");
    assert!(peak < GROWTH_KIB_MAX, "{peak} KiB");
    // Of a stream four times as long. Its peak is no measure of growth: how full queues are at the worst moment depends
    // on what else runs, and a long stream has more moments than a short one.
    let said = told_by_child(STREAM_MIB, 8000, true);
    let (peak, rise) = (told_kib(&said, "grown: "), told_kib(&said, "rise: "));
    println!("with one arena: 8,000 MiB: {peak} KiB, from one {WINDOW_MIB} MiB to the next {rise} KiB more");
    assert!(peak < GROWTH_KIB_MAX, "{peak} KiB");
    assert!(rise < RISE_KIB_MAX, "{rise} KiB more in use for each {WINDOW_MIB} MiB");
}

#[test]
fn memory_does_not_grow_with_the_number_of_files() {
    let grown = |count| told_kib(&told_by_child(TREE_FILES, count, true), "grown: ");
    let least = |count| (0..2).map(|_| grown(count)).min().unwrap_or(0);
    let (few, many) = (least(100_000), least(400_000));
    println!("with one arena: 100,000 files: {few} KiB, 400,000 files: {many} KiB");
    assert!(many < GROWTH_KIB_MAX, "{many} KiB");
    assert!(many < few + SPREAD_KIB_MAX, "{few} KiB for few files, {many} KiB for many");
}
