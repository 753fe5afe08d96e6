//! Parity: what is damaged within its budget comes back bit for bit, anything beyond is refused, and nothing needs it.

use std::sync::Arc;

use dbvault_format::config::RepoParams;
use dbvault_repo::{CollectOptions, NoMonitor, RepairOptions, RepairReport, Repository};
use dbvault_storage::{MemoryStorage, Storage};
use dbvault_testkit::crashing_storage::{CrashState, CrashStateChoice};

use crate::common::*;
use crate::crash::{Story, small};

/// A repository with parity, and what is in it.
fn with_parity(percent: u8) -> (MemoryStorage, Expected) {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let params = RepoParams { parity_percent: Some(percent), pack_bytes: 256 << 10, ..small_params() };
    let repo = init_on(Arc::new(storage.clone()), dir.path(), params);
    let mut expected = Expected::new();
    for number in 1..=2u64 {
        let data = streams(&[("noise", &noise(500 << 10, number)), ("text", &text(200 << 10, number))]);
        backup(&repo, &format!("{number}"), &data).unwrap();
        expected.insert(format!("{number}"), data);
    }
    (storage, expected)
}

fn repair(repo: &Repository) -> Result<RepairReport> {
    let options = RepairOptions { read_data: true, ..RepairOptions::default() };
    repo.repair(&options, Arc::new(NoMonitor))
}

/// Overwrites a run of bytes.
fn burst(storage: &MemoryStorage, name: &str, at: usize, len: usize, seed: u64) {
    let mut bytes = storage.read_raw(name).unwrap().to_vec();
    let end = (at + len).min(bytes.len());
    bytes[at..end].copy_from_slice(&noise(end - at, seed));
    storage.replace_raw(name, bytes);
}

fn largest(storage: &MemoryStorage, prefix: &str) -> String {
    names_below(storage, prefix).into_iter().max_by_key(|name| storage.read_raw(name).unwrap().len()).unwrap()
}

#[test]
fn every_pack_has_parity_and_a_check_tells_which_has_none() {
    let (storage, expected) = with_parity(10);
    let packs = names_below(&storage, "packs");
    let parities: Vec<String> = packs.iter().map(|name| name.replacen("packs", "parity", 1)).collect();
    assert_eq!(names_below(&storage, "parity"), parities);
    let (bytes, more) = (bytes_below(&storage, "packs"), bytes_below(&storage, "parity"));
    assert!(more * 100 > bytes * 10 && more * 100 < bytes * 15, "{more} of {bytes}");
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    assert!(check(&repo).unwrap().notes.is_empty());
    storage.remove_raw(&parities[0]);
    let report = check(&repo).unwrap();
    assert!(report.clean(), "parity that is missing is no damage");
    assert_eq!(report.notes.iter().map(|note| &note.object).collect::<Vec<_>>(), [&packs[0]]);
    burst(&storage, &parities[1], 500, 10, 1);
    let report = check(&repo).unwrap();
    assert_eq!(report.findings.iter().map(|f| &f.object).collect::<Vec<_>>(), [&parities[1]]);
    let report = repair(&repo).unwrap();
    assert_eq!((report.parity_added, report.quarantined.as_slice()), (2, &parities[1..2]));
    assert_clean(&repo);
    assert_eq!(names_below(&storage, "parity"), parities);
    assert_archives(&repo, &expected, None);
}

#[test]
fn random_bursts_are_repaired_bit_for_bit_or_refused() {
    let (storage, expected) = with_parity(10);
    let whole = storage.duplicate();
    let packs = names_below(&storage, "packs");
    let count = std::env::var("DBVAULT_BURSTS").ok().and_then(|text| text.parse().ok()).unwrap_or(40u64);
    let tried = std::sync::Mutex::new((0, 0));
    in_parallel(0..count, |seed| {
        let storage = whole.duplicate();
        let mut numbers = Numbers::new(seed);
        let mut hurt = std::collections::BTreeSet::new();
        for _ in 0..1 + numbers.below(3) {
            let name = &packs[numbers.below(packs.len())];
            let len = [512, 4 << 10, 16 << 10, 64 << 10][numbers.below(4)];
            let at = numbers.below(storage.read_raw(name).unwrap().len());
            burst(&storage, name, at, len, seed);
            hurt.insert(name.clone());
        }
        let dir = temporary_dir();
        let repo = open(storage.clone(), dir.path()).unwrap();
        let report = repair(&repo).unwrap();
        for name in &hurt {
            let good = whole.read_raw(name).unwrap();
            match storage.read_raw(name) {
                Some(bytes) => {
                    assert!(report.restored.contains(name), "seed {seed}");
                    assert!(bytes == good, "seed {seed}: {name} has other bytes");
                    tried.lock().unwrap().0 += 1;
                }
                None => {
                    assert!(report.quarantined.contains(name), "seed {seed}: {report:?}");
                    tried.lock().unwrap().1 += 1;
                }
            }
        }
        if report.restored.len() == hurt.len() {
            assert_archives(&repo, &expected, None);
            assert_clean(&repo);
        }
        assert!(check(&repo).unwrap().findings.is_empty());
    });
    let (repaired, refused) = *tried.lock().unwrap();
    println!("{repaired} packs repaired, {refused} refused, 0 wrong");
    assert!(repaired > 0 && refused > 0);
}

#[test]
fn a_damaged_pack_is_read_by_its_parity() {
    let (storage, expected) = with_parity(10);
    let packs = names_below(&storage, "packs");
    for (seed, name) in packs.iter().enumerate() {
        burst(&storage, name, 1000, 1500, seed as u64);
    }
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    assert_archives(&repo, &expected, None);
    let report = check(&repo).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    for name in &packs {
        assert!(report.findings.iter().any(|finding| finding.object == *name), "{name}");
    }
    assert_eq!(repair(&repo).unwrap().restored, packs);
    assert_clean(&repo);
}

#[test]
fn parity_can_be_added_later_and_never_to_damage() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    backup(&repo, "old", &small(1)).unwrap();
    assert!(names_below(&storage, "parity").is_empty());
    let packs = names_below(&storage, "packs");
    let good = storage.read_raw(&packs[0]).unwrap();
    burst(&storage, &packs[0], 2000, 3, 1);
    let options = RepairOptions { add_parity_percent: Some(20), ..RepairOptions::default() };
    let report = repo.repair(&options, Arc::new(NoMonitor)).unwrap();
    assert_eq!(report.parity_added as usize, packs.len() - 1);
    assert_eq!(report.left.len(), 1, "{report:?}");
    storage.replace_raw(&packs[0], good);
    assert_eq!(repo.repair(&options, Arc::new(NoMonitor)).unwrap().parity_added, 1);
    assert_eq!(repo.repair(&options, Arc::new(NoMonitor)).unwrap().parity_added, 0);
    let hurt = largest(&storage, "packs");
    let before = storage.read_raw(&hurt).unwrap();
    burst(&storage, &hurt, 40, 4000, 1);
    assert_eq!(repair(&repo).unwrap().restored, std::slice::from_ref(&hurt));
    assert!(storage.read_raw(&hurt).unwrap() == before);
    assert_clean(&repo);
}

#[test]
fn parity_goes_with_its_pack() {
    let (storage, mut expected) = with_parity(10);
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    repo.delete_archive(&repo.find_archive("1").unwrap().manifest.id).unwrap();
    expected.remove("1");
    let options = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    assert!(repo.collect(&options, Arc::new(NoMonitor)).unwrap().packs > 0);
    let there = |prefix: &str| -> Vec<String> {
        let names = names_below(&storage, prefix).into_iter();
        names.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(there("parity"), there("packs"));
    assert_archives(&repo, &expected, None);
    // What a crash left, or a hand took.
    let orphan = names_below(&storage, "packs")[0].clone();
    let kept = storage.read_raw(&orphan).unwrap();
    storage.remove_raw(&orphan);
    repair(&repo).unwrap();
    assert!(!there("parity").contains(&orphan.rsplit('/').next().unwrap().to_owned()));
    storage.put_new(&key(orphan), &[&kept]).unwrap();
    assert!(!repair(&repo).unwrap().clean());
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn a_crash_of_a_repair_by_parity() {
    let (storage, expected) = with_parity(10);
    let whole = storage.duplicate();
    let packs = names_below(&storage, "packs");
    packs.iter().take(2).for_each(|name| burst(&storage, name, 700, 600, 1));
    let story = Story::tell(&storage, &expected, None, |repo| {
        assert_eq!(repair(repo).unwrap().restored.len(), 2);
    });
    let choice = CrashStateChoice { exhaustive_operations_max: 5, random_subsets_count: 12, seed: 3 };
    let states: Vec<CrashState> = story.storage.crash_states(choice).collect();
    println!("repair by parity: {} states, {} operations", states.len(), story.done);
    in_parallel(states, |state| {
        let told = || format!("after {} operations, kept {:?}", state.prefix_len, state.kept);
        let cache = temporary_dir();
        let repo = open(state.storage.clone(), cache.path()).unwrap();
        compare(&repo, &expected, None).unwrap_or_else(|e| panic!("{}: {e}", told()));
        repair(&repo).unwrap_or_else(|e| panic!("{}: {e:?}", told()));
        for name in &packs {
            assert!(state.storage.read_raw(name) == whole.read_raw(name), "{}: {name}", told());
        }
        compare(&repo, &expected, None).unwrap_or_else(|e| panic!("{}: {e}", told()));
        findings(&repo).unwrap_or_else(|e| panic!("{}: {e}", told()));
    });
}
