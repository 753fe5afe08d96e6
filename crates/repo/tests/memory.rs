//! The memory of a backup does not grow with its stream. A process measures its own peak, so each stream is
//! stored by a process of its own: this test program, started again.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{self, Read};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dbvault_format::config::RepoParams;
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::key_slot::Secret;
use dbvault_repo::{BackupOptions, Client, NoMonitor, Repository};
use dbvault_storage::LocalStorage;

/// Tells a child how long its stream is, MiB.
const STREAM_MIB: &str = "DBVAULT_TEST_STREAM_MIB";

/// Most memory that a backup may need beyond that of the program itself, KiB.
const GROWTH_KIB_MAX: u64 = 300 << 10;

/// Most that a stream four times as long may need more, KiB.
const SPREAD_KIB_MAX: u64 = 30 << 10;

const BLOCK_BYTES: usize = 1 << 20;

/// A stream made on the fly: blocks that are new, that were there before, and that are nearly as before.
struct Synthetic {
    left_bytes: u64,
    number: u64,
    old: Vec<u8>,
    block: Vec<u8>,
    at: usize,
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
        Synthetic { left_bytes: len, number: 0, old: old.into_bytes(), block: Vec::new(), at: 0 }
    }

    fn next_block(&mut self) {
        self.number += 1;
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

/// Most memory that this process has had so far, KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Stores a stream; gives how much the peak grew, KiB.
fn store(len: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let client = Client {
        host: "host".into(),
        user: "user".into(),
        cache_dir: dir.path().join("cache"),
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    let storage = Arc::new(LocalStorage::create(dir.path().join("repository")).unwrap());
    let secret = Secret::KeyFile(zeroize::Zeroizing::new(vec![1; 32]));
    let repo = Repository::init(storage, client, RepoParams::default(), &secret, "").unwrap();
    let mut stream = Synthetic::new(len);
    let before = peak_kib();
    let options = BackupOptions { archive_name: "archive".into(), comment: None };
    let mut txn = repo.begin_backup(options, Arc::new(NoMonitor)).unwrap();
    let meta = EntryMeta {
        name: "stream".into(),
        kind: EntryKind::Stdin,
        grid: Grid::Content,
        attributes: Default::default(),
    };
    let pending = txn.add_entry(meta, &mut stream).unwrap();
    txn.finish_entry(pending, EntryReport::default());
    let manifest = txn.commit().unwrap();
    assert_eq!(manifest.sizes.original_bytes, len);
    assert!(manifest.sizes.delta_chunks > 0 && manifest.sizes.new_chunks < manifest.sizes.chunks);
    peak_kib() - before
}

#[test]
fn child() {
    // Only what the test below starts does anything.
    if let Ok(mib) = std::env::var(STREAM_MIB) {
        println!("grown: {}", store(mib.parse::<u64>().unwrap() << 20));
    }
}

/// What a child says. With `one_arena` all its threads allocate from one heap: else the C library keeps one a
/// thread, and how much lies unused in each is a matter of chance.
fn grown_kib(mib: u64, one_arena: bool) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture"]).env(STREAM_MIB, mib.to_string());
    if one_arena {
        child.env("MALLOC_ARENA_MAX", "1");
    }
    let child = child.output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said} {}", String::from_utf8_lossy(&child.stderr));
    let number = said.split("grown: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    number.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_stream() {
    let long = grown_kib(2000, false);
    println!("2,000 MiB: {long} KiB");
    assert!(long < GROWTH_KIB_MAX, "{long} KiB");
    let (short, long) = (grown_kib(500, true), grown_kib(2000, true));
    println!("with one arena: 500 MiB: {short} KiB, 2,000 MiB: {long} KiB");
    assert!(long < short + SPREAD_KIB_MAX, "{short} KiB for the short stream, {long} KiB for the long one");
}
