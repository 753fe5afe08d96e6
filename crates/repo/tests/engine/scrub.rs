//! Checks of a part, checks that go on where the last one ended, and checks without a key.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dbvault_format::id::PackName;
use dbvault_repo::{
    CheckDepth, Counter, Error, Monitor, NoMonitor, Part, Phase, Repository, ScrubReport, scrub,
};
use dbvault_storage::{MemoryStorage, Storage};

use crate::common::*;
use crate::crash::{small, two_archives};
use crate::sample::Sample;

fn check_at(repo: &Repository, depth: CheckDepth) -> dbvault_repo::CheckReport {
    repo.check(depth, Arc::new(NoMonitor)).unwrap()
}

fn scrubbed(storage: &MemoryStorage) -> ScrubReport {
    scrub(storage, &AtomicBool::new(false), &NoMonitor).unwrap()
}

fn flip(storage: &MemoryStorage, name: &str, at: usize) {
    let mut bytes = storage.read_raw(name).unwrap().to_vec();
    bytes[at] ^= 0x10;
    storage.replace_raw(name, bytes);
}

/// The file that remembers.
fn memory(repo: &Repository, cache: &std::path::Path) -> PathBuf {
    cache.join(repo.id().to_string()).join("checked")
}

#[test]
fn parts_that_follow_one_another_read_every_pack_once() {
    let (storage, _) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let packs = names_below(&storage, "packs").len() as u64;
    for of in [1, 2, 3, 7, 20, 100] {
        let explicit: u64 =
            (1..=of).map(|n| check_at(&repo, CheckDepth::Part(Part::new(n, of).unwrap())).packs_read).sum();
        assert_eq!(explicit, packs, "{of} parts");
        // From wherever the last one was: all of them in as many runs.
        let parts: Vec<_> = (0..of).map(|_| check_at(&repo, CheckDepth::NextPart { of })).collect();
        assert_eq!(parts.iter().map(|report| report.packs_read).sum::<u64>(), packs);
        let numbers: BTreeSet<_> = parts.iter().map(|report| report.part.unwrap()).collect();
        assert_eq!(numbers.len() as u32, of);
    }
    assert!(Part::new(0, 3).is_none() && Part::new(4, 3).is_none() && Part::new(1, 0).is_none());
    let last = PackName([0xff; 32]);
    assert!((1..=u32::MAX).step_by(1 << 28).all(|of| Part::new(of, of).unwrap().holds(&last)));
}

#[test]
fn a_part_finds_what_is_in_it_and_no_more() {
    let (storage, _) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let hurt = names_below(&storage, "packs")[1].clone();
    flip(&storage, &hurt, 100);
    let name: PackName = hurt.rsplit('/').next().unwrap().parse().unwrap();
    for number in 1..=5 {
        let part = Part::new(number, 5).unwrap();
        let report = check_at(&repo, CheckDepth::Part(part));
        assert_eq!(report.clean(), !part.holds(&name), "{report:?}");
    }
}

#[test]
fn what_was_read_lately_is_not_read_again_and_what_is_damaged_is() {
    let (storage, _) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let packs = names_below(&storage, "packs");
    let month = CheckDepth::Unread { max_age_ms: 30 * 24 * 60 * 60 * 1000 };
    assert_eq!(check_at(&repo, month).packs_read, packs.len() as u64);
    assert_eq!(check_at(&repo, month).packs_read, 0);
    backup(&repo, "now", &small(5)).unwrap();
    let more = names_below(&storage, "packs").len();
    assert_eq!(check_at(&repo, month).packs_read, (more - packs.len()) as u64, "new packs");
    assert_eq!(check_at(&repo, CheckDepth::Unread { max_age_ms: -1 }).packs_read, more as u64);
    flip(&storage, &packs[0], 900);
    assert!(check_at(&repo, month).clean(), "it was read lately");
    assert!(!check_at(&repo, CheckDepth::Data).clean());
    for _ in 0..2 {
        let report = check_at(&repo, CheckDepth::Unread { max_age_ms: 10_000 });
        assert!(report.clean() || report.findings[0].object == packs[0]);
    }
    // A file that is lost, or full of nonsense, or of times to come, only means to read again.
    let file = memory(&repo, dir.path());
    let good = fs::read_to_string(&file).unwrap();
    let later: String = good.lines().map(|line| format!("{}\n", line.replace(" 1", " 9"))).collect();
    for text in ["", "pack\npart x y\n\u{0}", later.as_str()] {
        fs::write(&file, text).unwrap();
        let report = check_at(&repo, month);
        assert!(report.packs_read > 0 && !report.clean(), "{report:?}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(check_at(&repo, month).packs_read, more as u64);
    assert_eq!(check_at(&repo, month).packs_read, 1, "the damaged one, each time");
}

/// Interrupts after some packs.
struct Impatient {
    interrupt: Arc<AtomicBool>,
    left: AtomicU64,
}

impl Monitor for Impatient {
    fn add(&self, counter: Counter, _: u64) {
        if counter == Counter::Packs && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.interrupt.store(true, Ordering::SeqCst);
        }
    }
    fn expect(&self, _: Counter, _: u64) {}
    fn phase(&self, _: Phase) {}
}

#[test]
fn an_interrupted_check_goes_on_where_it_ended() {
    let (storage, _) = two_archives();
    let dir = temporary_dir();
    let packs = names_below(&storage, "packs").len() as u64;
    let month = CheckDepth::Unread { max_age_ms: 30 * 24 * 60 * 60 * 1000 };
    let mut client = client(dir.path());
    client.interrupt = Arc::new(AtomicBool::new(false));
    let interrupt = client.interrupt.clone();
    let repo = Repository::open(Arc::new(storage.clone()), client, &secret(1)).unwrap();
    let monitor = Impatient { interrupt: interrupt.clone(), left: AtomicU64::new(4) };
    assert!(matches!(repo.check(month, Arc::new(monitor)), Err(Error::Interrupted)));
    interrupt.store(false, Ordering::SeqCst);
    let report = check_at(&repo, month);
    assert!(report.packs_read <= packs - 4 && report.packs_read > 0, "{} of {packs}", report.packs_read);
    assert_eq!(check_at(&repo, month).packs_read, 0);
}

#[test]
fn without_a_key_every_flip_in_a_pack_is_found() {
    let sample = Sample::new();
    let storage = &sample.storage;
    assert_eq!(scrubbed(storage).findings, []);
    let packs = names_below(storage, "packs");
    let mut tried = 0;
    for name in &packs {
        let good = storage.read_raw(name).unwrap();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << (at % 8);
            storage.replace_raw(name, bad);
            let report = scrubbed(storage);
            assert_eq!(report.findings.len(), 1, "{name} {at}");
            assert_eq!(report.findings[0].object, *name);
            tried += 1;
            storage.replace_raw(name, good.clone());
        }
    }
    println!("{tried} flips");
    assert_eq!(scrubbed(storage).packs as usize, packs.len());
}

#[test]
fn without_a_key_cuts_swaps_and_headers_are_found() {
    let sample = Sample::new();
    let names = sample.storage.object_names();
    for name in &names {
        let storage = sample.storage.duplicate();
        let good = storage.read_raw(name).unwrap();
        for len in [0, 20, 47, good.len() - 1] {
            storage.replace_raw(name, good[..len].to_vec());
            // `config` has any length, and nothing in it can be judged without the key.
            let seen = scrubbed(&storage).findings.iter().any(|finding| finding.object == *name);
            assert!(seen || name == "config" && len > 47, "{name} cut to {len}");
        }
        for at in 0..12 {
            storage.replace_raw(name, good.clone());
            flip(&storage, name, at);
            assert!(scrubbed(&storage).findings.iter().any(|f| f.object == *name), "{name} byte {at}");
        }
        storage.replace_raw(name, vec![0; good.len()]);
        assert!(scrubbed(&storage).findings.iter().any(|finding| finding.object == *name), "{name} of zeros");
    }
    let storage = sample.storage.duplicate();
    storage.put_new(&key("packs/00/name"), &[b"something"]).unwrap();
    storage.put_new(&key("archives/name"), &[b"something"]).unwrap();
    assert_eq!(scrubbed(&storage).findings.len(), 2);
    let stopped = scrub(&storage, &AtomicBool::new(true), &NoMonitor);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}
