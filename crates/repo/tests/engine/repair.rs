//! Repair: the index comes back from packs, what is damaged goes to the quarantine, the next backup heals, and
//! whatever could be restored before can be restored after, wherever the repair ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use dbvault_repo::{CheckDepth, CollectOptions, Error, NoMonitor, RepairOptions, RepairReport, Repository};
use dbvault_storage::{Key, MemoryStorage, ObjectMeta, Storage};
use dbvault_testkit::crashing_storage::{CrashState, CrashStateChoice};
use dbvault_testkit::faulty_storage::{CallKind, Fault, FaultError, FaultMoment, FaultSpan, FaultyStorage};

use crate::common::*;
use crate::crash::{Story, small, two_archives};
use crate::sample::Sample;

fn repair(repo: &Repository) -> Result<RepairReport> {
    let options = RepairOptions { read_data: true, ..RepairOptions::default() };
    repo.repair(&options, Arc::new(NoMonitor))
}

pub(crate) fn flip(storage: &MemoryStorage, name: &str, at: usize) {
    let mut bytes = storage.read_raw(name).unwrap().to_vec();
    let at = at % bytes.len();
    bytes[at] ^= 0x41;
    storage.replace_raw(name, bytes);
}

/// What can be restored, by archive and entry; a piece that can't be is not in it.
fn restorable(storage: &MemoryStorage) -> BTreeMap<(String, String), Vec<u8>> {
    let dir = temporary_dir();
    let mut found = BTreeMap::new();
    let Ok(repo) = open(storage.clone(), dir.path()) else { return found };
    let Ok(list) = repo.archives() else { return found };
    let Ok(reader) = reader(&repo) else { return found };
    for archive in list.archives {
        let Ok(entries) = reader.entries(&archive.manifest) else { continue };
        for entry in entries {
            let mut bytes = Vec::new();
            let read = reader.open_stream(&entry.stream).map(|mut stream| stream.read_to_end(&mut bytes));
            if matches!(read, Ok(Ok(_))) {
                found.insert((archive.manifest.name.clone(), entry.meta.name.clone()), bytes);
            }
        }
    }
    found
}

#[test]
fn a_whole_repository_is_left_as_it_is() {
    let (storage, expected) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let before = storage.object_names();
    assert_eq!(repair(&repo).unwrap(), RepairReport::default());
    assert_eq!(storage.object_names(), before);
    assert_archives(&repo, &expected, None);
}

#[test]
fn every_set_of_lost_segments_is_made_anew() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let mut expected = Expected::new();
    for number in 0..4u64 {
        let data = streams(&[("noise", &noise(40 << 10, number)), ("text", &text(20 << 10, number))]);
        backup(&repo, &format!("{number}"), &data).unwrap();
        expected.insert(format!("{number}"), data);
    }
    // With a base, and sessions after it.
    repo.delete_archive(&repo.find_archive("0").unwrap().manifest.id).unwrap();
    expected.remove("0");
    let options = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    repo.collect(&options, Arc::new(NoMonitor)).unwrap();
    let more = std::env::var("DBVAULT_SEGMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(6u64);
    for number in 4..3 + more {
        let data = streams(&[("noise", &noise(30 << 10, number)), ("same", &noise(30 << 10, 3))]);
        backup(&repo, &format!("{number}"), &data).unwrap();
        expected.insert(format!("{number}"), data);
    }
    drop(repo);
    let segments = names_below(&storage, "index");
    println!("{} segments, {} sets", segments.len(), 1 << segments.len());
    assert!((5..=12).contains(&segments.len()));
    in_parallel(1..1usize << segments.len(), |set| {
        let storage = storage.duplicate();
        for (at, name) in segments.iter().enumerate() {
            if set >> at & 1 == 1 {
                storage.remove_raw(name);
            }
        }
        let cache = temporary_dir();
        let repo = open(storage.clone(), cache.path()).unwrap();
        let report = repo.repair(&RepairOptions::default(), Arc::new(NoMonitor)).unwrap();
        assert!(report.damage.is_empty(), "{set:b}: {report:?}");
        assert_archives(&repo, &expected, None);
        if set % 8 == 7 {
            assert_clean(&repo);
            // What counts is what a collection makes of it.
            repo.delete_archive(&repo.find_archive("5").unwrap().manifest.id).unwrap();
            repo.collect(&options, Arc::new(NoMonitor)).unwrap();
            let mut expected = expected.clone();
            expected.remove("5");
            assert_archives(&repo, &expected, None);
            assert_clean(&repo);
        }
    });
}

#[test]
fn each_lost_or_damaged_pack_is_told_and_healed_by_the_next_backup() {
    let (storage, expected) = two_archives();
    let packs = names_below(&storage, "packs");
    let whole = restorable(&storage);
    in_parallel(
        packs.iter().enumerate().flat_map(|(at, name)| [(at, name, 0), (at, name, 1), (at, name, 2)]),
        |(at, name, how)| {
            let storage = storage.duplicate();
            let bytes = storage.read_raw(name).unwrap();
            match how {
                0 => assert!(storage.remove_raw(name)),
                1 => flip(&storage, name, 100 + 977 * at),
                _ => storage.replace_raw(name, bytes[..bytes.len() / 2].to_vec()),
            }
            let before = restorable(&storage);
            let dir = temporary_dir();
            let repo = open(storage.clone(), dir.path()).unwrap();
            let damage = check(&repo).unwrap().damage;
            let report = repair(&repo).unwrap();
            assert_eq!(report.damage, damage, "{name}: what is told after is what was hurt before");
            assert!(report.findings.iter().any(|finding| finding.object == *name), "{report:?}");
            assert_eq!(report.quarantined, if how == 0 { vec![] } else { vec![name.clone()] });
            if how == 1 {
                // A pack may have one record only, and then none is left of it.
                let records = report.saved_records + report.lost_records;
                assert!(records > 0 && report.lost_records <= 1, "{report:?}");
            }
            assert_eq!(restorable(&storage), before, "{name} {how}");
            // Exactly those entries are hurt that can't be read.
            let hurt: BTreeSet<(String, String)> = damage.into_iter().map(|d| (d.archive, d.entry)).collect();
            for key in whole.keys() {
                let told = hurt.contains(key) || hurt.contains(&(key.0.clone(), String::new()));
                assert_eq!(!before.contains_key(key), told, "{name} {how}: {key:?}");
            }
            for (archive, streams) in &expected {
                backup(&repo, &format!("{archive} again"), streams).unwrap();
            }
            let healed = check(&repo).unwrap();
            // Entry tables hold durations, so that of a new backup is another stream than a lost one.
            let tables = healed.damage.iter().filter(|damage| damage.entry.is_empty()).count();
            assert_eq!(healed.damage.len(), tables, "{name} {how}: {:?}", healed.damage);
            assert!(healed.findings.is_empty(), "{name} {how}: {:?}", healed.findings);
            for ((archive, entry), bytes) in &whole {
                if !hurt.contains(&(archive.clone(), String::new())) {
                    assert!(restorable(&storage)[&(archive.clone(), entry.clone())] == *bytes);
                }
            }
        },
    );
}

#[test]
fn a_copy_elsewhere_makes_it_whole() {
    let (dir, elsewhere, storage) = (temporary_dir(), temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let other = open(storage.clone(), elsewhere.path()).unwrap();
    let data = streams(&[("noise", &noise(60 << 10, 1))]);
    // Two that run side by side store all chunks twice.
    let (mut one, mut two) = (begin(&repo, "one").unwrap(), begin(&other, "two").unwrap());
    for txn in [&mut one, &mut two] {
        add(txn, "noise", dbvault_format::entry::Grid::Content, &mut &data["noise"][..]).unwrap();
    }
    one.commit().unwrap();
    let first = names_below(&storage, "packs");
    two.commit().unwrap();
    let hurt = first.iter().find(|name| storage.read_raw(name).unwrap().len() > 8 << 10).unwrap();
    flip(&storage, hurt, 3000);
    let report = repair(&repo).unwrap();
    assert!(report.damage.is_empty() && report.quarantined == [hurt.clone()], "{report:?}");
    assert_archives(&repo, &[("one".into(), data.clone()), ("two".into(), data)].into(), None);
    assert_clean(&repo);
}

/// Objects of every kind: whatever is damaged, what can be read of it stays, and a check finds nothing new.
#[test]
fn each_damaged_object_of_every_kind_is_repaired() {
    let sample = Sample::new();
    let names: Vec<String> = sample.storage.object_names();
    let mut left = BTreeSet::new();
    for name in names.iter().filter(|name| *name != "config") {
        for at in [9, 20, 70] {
            let storage = sample.storage.duplicate();
            flip(&storage, name, at);
            let before = restorable(&storage);
            let dir = temporary_dir();
            let Ok(repo) = open(storage.clone(), dir.path()) else { continue };
            let report = match repair(&repo) {
                // What says that it is newer may be: it is not for this version to move it.
                Err(Error::Newer { .. }) if at == 9 => continue,
                report => report.unwrap_or_else(|e| panic!("{name} {at}: {e:?}")),
            };
            assert!(report.findings.iter().any(|finding| finding.object == *name), "{name}: {report:?}");
            let after = restorable(&storage);
            assert!(
                before.iter().all(|(key, bytes)| after.get(key) == Some(bytes)),
                "{name} {at}: {report:?}"
            );
            let checked = check(&open(storage.clone(), dir.path()).unwrap()).unwrap();
            match report.left.is_empty() {
                true => {
                    assert!(checked.findings.is_empty(), "{name} {at}: {:?} {report:?}", checked.findings)
                }
                false => drop(left.insert(name.split('/').next().unwrap().to_owned())),
            }
            assert_eq!(checked.damage, report.damage);
            let quarantined = report.quarantined.iter().chain(report.left.iter().map(|left| &left.object));
            let numbered = ["roots/", "condemned/"].iter().any(|prefix| name.starts_with(prefix));
            assert!(numbered || quarantined.clone().any(|other| other == name), "{name}: {report:?}");
            let aside = format!("quarantine/00000000/{name}");
            assert!(!report.left.is_empty() || storage.read_raw(&aside).is_some(), "{name} {at}");
            assert_eq!(repair(&repo).unwrap().quarantined, [""; 0], "{name}: once is enough");
        }
    }
    assert_eq!(left, ["keys".to_owned(), "sessions".to_owned()].into(), "what is for a person to decide");
}

#[test]
fn a_damaged_mark_never_brings_an_older_one_back() {
    let (storage, expected) = two_archives();
    let dir = temporary_dir();
    let repo = open(storage.clone(), dir.path()).unwrap();
    let id = repo.find_archive("old").unwrap().manifest.id;
    repo.delete_archive(&id).unwrap();
    repo.undelete_archive(&id).unwrap();
    flip(&storage, &format!("trash/{id}/00000001"), 60);
    repo.remark(&id, |remarks| remarks.protected = true).unwrap();
    repo.remark(&id, |remarks| remarks.protected = false).unwrap();
    repo.remark(&id, |remarks| remarks.protected = true).unwrap();
    flip(&storage, &format!("notes/{id}/00000002"), 60);
    repair(&repo).unwrap();
    assert!(repo.find_archive("old").unwrap().remarks.protected);
    assert_eq!(repo.find_archive("old").unwrap().deleted_ms, None);
    let options = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    repo.collect(&options, Arc::new(NoMonitor)).unwrap();
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn a_dry_run_changes_nothing() {
    let sample = Sample::new();
    for name in sample.storage.object_names().iter().filter(|name| *name != "config") {
        let storage = sample.storage.duplicate();
        flip(&storage, name, 60);
        let dir = temporary_dir();
        let Ok(repo) = open(storage.clone(), dir.path()) else { continue };
        let before: Vec<_> = storage.object_names().into_iter().map(|n| (storage.read_raw(&n), n)).collect();
        let options = RepairOptions { read_data: true, dry_run: true, ..RepairOptions::default() };
        let report = repo.repair(&options, Arc::new(NoMonitor)).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert!(report.findings.iter().any(|finding| finding.object == *name), "{name}: {report:?}");
        let after: Vec<_> = storage.object_names().into_iter().map(|n| (storage.read_raw(&n), n)).collect();
        assert!(before == after, "{name}");
    }
}

/// Damage of all kinds at once, anywhere, from a seed.
fn damage_at_random(storage: &MemoryStorage, numbers: &mut Numbers) {
    let names: Vec<String> = storage
        .object_names()
        .into_iter()
        .filter(|name| !name.starts_with("keys/") && name != "config")
        .collect();
    for _ in 0..1 + numbers.below(4) {
        let name = &names[numbers.below(names.len())];
        let Some(bytes) = storage.read_raw(name) else { continue };
        match numbers.below(5) {
            0 => assert!(storage.remove_raw(name)),
            1 => storage.replace_raw(name, bytes[..numbers.below(bytes.len())].to_vec()),
            2 => {
                let other = &names[numbers.below(names.len())];
                if let Some(other) = storage.read_raw(other) {
                    storage.replace_raw(name, other);
                }
            }
            // The first bytes tell of a newer version, which a repair does not touch.
            _ if bytes.len() > 48 => flip(storage, name, 16 + numbers.below(bytes.len() - 16)),
            _ => {}
        }
    }
}

#[test]
fn whatever_is_damaged_a_repair_never_shrinks_what_can_be_restored() {
    let samples: Vec<Sample> = (0..4).map(|_| Sample::new()).collect();
    let count = std::env::var("DBVAULT_REPAIRS").ok().and_then(|text| text.parse().ok()).unwrap_or(120u64);
    in_parallel(0..count, |seed| {
        let sample = &samples[(seed % 4) as usize];
        let storage = sample.storage.duplicate();
        let mut numbers = Numbers::new(seed);
        damage_at_random(&storage, &mut numbers);
        let before = restorable(&storage);
        let objects: Vec<Arc<[u8]>> =
            storage.object_names().iter().filter_map(|name| storage.read_raw(name)).collect();
        let dir = temporary_dir();
        let Ok(repo) = open(storage.clone(), dir.path()) else { return };
        let report = repair(&repo).unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
        let after = restorable(&storage);
        for (key, bytes) in &before {
            assert!(after.get(key) == Some(bytes), "seed {seed}: {key:?} {report:?}");
        }
        for ((archive, entry), bytes) in &after {
            assert!(sample.expected[archive][entry] == *bytes, "seed {seed}: wrong bytes");
        }
        // Every damaged object is somewhere; only a condemned list that is done with goes.
        let now: BTreeSet<Arc<[u8]>> =
            storage.object_names().iter().filter_map(|name| storage.read_raw(name)).collect();
        let lost = objects.iter().filter(|bytes| !now.contains(*bytes) && bytes[8] != 9).count();
        assert_eq!(lost, 0, "seed {seed}: {report:?}");
        backup(&repo, "next", &small(1)).unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
    });
    println!("{count} repairs");
}

fn crash_states(what: &str, storage: &MemoryStorage, expected: &Expected) {
    let before = restorable(storage);
    let story = Story::tell(storage, expected, None, |repo| drop(repair(repo).unwrap()));
    let choice = CrashStateChoice { exhaustive_operations_max: 5, random_subsets_count: 10, seed: 3 };
    let states: Vec<CrashState> = story.storage.crash_states(choice).collect();
    println!("{what}: {} states, {} operations", states.len(), story.done);
    in_parallel(states, |state| {
        let told = || format!("{what}: after {} operations, kept {:?}", state.prefix_len, state.kept);
        let lessened = |when: &str| {
            let now = restorable(&state.storage);
            let lost = before.iter().find(|(key, bytes)| now.get(*key) != Some(*bytes));
            assert!(lost.is_none(), "{}: {when} {:?} is lost", told(), lost.map(|(key, _)| key));
        };
        lessened("after the crash");
        let cache = temporary_dir();
        let repo = open(state.storage.clone(), cache.path()).unwrap();
        let report = repair(&repo).unwrap_or_else(|e| panic!("{}: {e:?}", told()));
        lessened("after the next repair");
        assert!(report.left.is_empty(), "{}: {report:?}", told());
        let checked = check(&repo).unwrap();
        assert!(checked.findings.is_empty(), "{}: {:?}", told(), checked.findings);
        backup(&repo, "next", &small(1)).unwrap_or_else(|e| panic!("{}: {e:?}", told()));
    });
}

#[test]
fn a_crash_of_a_repair() {
    let (storage, expected) = two_archives();
    let lost = storage.duplicate();
    names_below(&lost, "index").iter().for_each(|name| assert!(lost.remove_raw(name)));
    crash_states("lost index", &lost, &expected);
    let hurt = storage.duplicate();
    flip(&hurt, &names_below(&hurt, "packs")[2], 5000);
    flip(&hurt, &names_below(&hurt, "index")[0], 100);
    flip(&hurt, &names_below(&hurt, "archives")[0], 100);
    crash_states("damaged pack, segment and manifest", &hurt, &expected);
    let sample = Sample::new();
    for prefix in ["roots", "condemned"] {
        let hurt = sample.storage.duplicate();
        names_below(&hurt, prefix).iter().for_each(|name| flip(&hurt, name, 90));
        // The registration of the sample's backup that never ended stays as it is, and whole.
        crash_states(&format!("damaged {prefix}"), &hurt, &sample.expected);
    }
}

#[test]
fn backups_go_on_beside_a_repair() {
    let (storage, _) = two_archives();
    let (dir, elsewhere) = (temporary_dir(), temporary_dir());
    let writer = open(storage.clone(), elsewhere.path()).unwrap();
    let repairer = open(storage.clone(), dir.path()).unwrap();
    // It has found what it builds on before the repair moves it.
    let mut txn = begin(&writer, "now").unwrap();
    let data = small(1);
    let half = data["text"].clone();
    add(&mut txn, "text", dbvault_format::entry::Grid::Content, &mut &half[..]).unwrap();
    names_below(&storage, "index").iter().for_each(|name| assert!(storage.remove_raw(name)));
    let report = repair(&repairer).unwrap();
    assert!(report.root.is_some() && report.damage.is_empty(), "{report:?}");
    add(&mut txn, "noise", dbvault_format::entry::Grid::Content, &mut &data["noise"][..]).unwrap();
    txn.commit().unwrap();
    let options = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    repairer.collect(&options, Arc::new(NoMonitor)).unwrap();
    let expected: Expected =
        [("old".to_owned(), small(1)), ("other".to_owned(), small(2)), ("now".to_owned(), data)].into();
    assert_archives(&repairer, &expected, None);
    assert_clean(&repairer);
}

/// Calls of the storage that fail, once or from then on: what could be restored can be, and the next repair ends it.
#[test]
fn a_repair_that_fails_anywhere_loses_nothing() {
    let (storage, _) = two_archives();
    flip(&storage, &names_below(&storage, "packs")[2], 5000);
    flip(&storage, &names_below(&storage, "index")[0], 100);
    flip(&storage, &names_below(&storage, "archives")[0], 100);
    let before = restorable(&storage);
    let run = |storage: FaultyStorage| {
        let dir = temporary_dir();
        repair(&open(storage, dir.path())?)
    };
    let counted = FaultyStorage::new(Arc::new(storage.duplicate()));
    run(counted.clone()).unwrap();
    let mut faults = Vec::new();
    for kind in CallKind::ALL {
        let count = counted.calls_count(Some(kind));
        for nth in (1..=count).step_by((count as usize / 12).max(1)) {
            for span in [FaultSpan::Once, FaultSpan::Forever] {
                let error = [FaultError::InputOutput, FaultError::NoSpace][faults.len() / 2 % 2];
                let moment = [FaultMoment::Before, FaultMoment::After][faults.len() / 4 % 2];
                faults.push(Fault { call: Some(kind), nth, error, span, moment });
            }
        }
    }
    println!("{} faults", faults.len());
    in_parallel(faults, |fault| {
        let what = format!("{fault:?}");
        let inner = storage.duplicate();
        let faulty = FaultyStorage::new(Arc::new(inner.clone()));
        faulty.arm(fault);
        let result = run(faulty);
        let lost = |when: &str| {
            let now = restorable(&inner);
            assert!(
                before.iter().all(|(key, bytes)| now.get(key) == Some(bytes)),
                "{what}: {when} {result:?}"
            );
        };
        lost("after the fault");
        let dir = temporary_dir();
        let repo = open(inner.clone(), dir.path()).unwrap();
        repair(&repo).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        lost("after the next repair");
        assert_eq!(check(&repo).unwrap().findings, [], "{what}");
    });
}

/// A storage, or the way to it, that reads one object wrongly for some times.
#[derive(Clone, Debug)]
struct Misreading {
    inner: MemoryStorage,
    name: String,
    left: Arc<AtomicU32>,
}

impl Storage for Misreading {
    fn location(&self) -> String {
        "misread".into()
    }
    fn put_new(&self, key: &Key, body: &[&[u8]]) -> dbvault_storage::Result<()> {
        self.inner.put_new(key, body)
    }
    fn get(&self, key: &Key, range: Option<Range<u64>>) -> dbvault_storage::Result<Vec<u8>> {
        let mut bytes = self.inner.get(key, range)?;
        let mine = key.as_str() == self.name;
        if mine && self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        Ok(bytes)
    }
    fn size(&self, key: &Key) -> dbvault_storage::Result<Option<u64>> {
        self.inner.size(key)
    }
    fn list(
        &self,
        prefix: &Key,
        each: &mut dyn FnMut(ObjectMeta) -> dbvault_storage::Result<()>,
    ) -> dbvault_storage::Result<()> {
        self.inner.list(prefix, each)
    }
    fn delete(&self, key: &Key) -> dbvault_storage::Result<()> {
        self.inner.delete(key)
    }
    fn flush(&self) -> dbvault_storage::Result<()> {
        self.inner.flush()
    }
}

#[test]
fn what_is_only_misread_stays_where_it_is() {
    let sample = Sample::new();
    // A root that is misread twice gives way to one that decides nothing, below the new root that lists all packs.
    let kept = ["packs/", "index/", "archives/", "trash/"];
    for name in sample.storage.object_names() {
        for times in 1..4 {
            let inner = sample.storage.duplicate();
            let left = Arc::new(AtomicU32::new(0));
            let storage = Misreading { inner: inner.clone(), name: name.clone(), left: left.clone() };
            let dir = temporary_dir();
            let repo = open(storage, dir.path()).unwrap();
            left.store(times, SeqCst);
            let report = repair(&repo).unwrap_or_else(|e| panic!("{name} {times}: {e:?}"));
            left.store(0, SeqCst);
            let stays = kept.iter().any(|prefix| name.starts_with(prefix));
            let there = inner.read_raw(&name) == sample.storage.read_raw(&name);
            assert!(there || !stays || report.quarantined.contains(&name) && times > 2, "{name}: {report:?}");
            let elsewhere = temporary_dir();
            let repo = open(inner, elsewhere.path()).unwrap();
            if times < 3 {
                assert_archives(&repo, &sample.expected, None);
            }
        }
    }
}

#[test]
fn two_repairs_at_once_end_with_one_good_repository() {
    let samples: Vec<Sample> = (0..2).map(|_| Sample::new()).collect();
    for seed in 0..24u64 {
        let storage = samples[(seed % 2) as usize].storage.duplicate();
        let mut numbers = Numbers::new(1000 + seed);
        damage_at_random(&storage, &mut numbers);
        damage_at_random(&storage, &mut numbers);
        let before = restorable(&storage);
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let dir = temporary_dir();
                    let repo = open(storage.clone(), dir.path()).unwrap();
                    start.wait();
                    repair(&repo).unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
                });
            }
        });
        let after = restorable(&storage);
        assert!(before.iter().all(|(key, bytes)| after.get(key) == Some(bytes)), "seed {seed}");
        let dir = temporary_dir();
        let repo = open(storage.clone(), dir.path()).unwrap();
        let report = repair(&repo).unwrap();
        let left: BTreeSet<&str> = report.left.iter().map(|left| left.object.as_str()).collect();
        let found = check(&repo).unwrap().findings;
        assert!(found.iter().all(|finding| left.contains(finding.object.as_str())), "seed {seed}: {found:?}");
        backup(&repo, "next", &small(1)).unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
    }
}

/// What a backup and a collection would not build on counts as lost, even if it can be read by chance: else the check
/// is content, no repair lists the pack that has it, and every collection stops.
#[test]
fn a_check_asks_as_much_of_bases_as_a_collection() {
    let (storage, mut expected) = (MemoryStorage::new(), Expected::new());
    let streams = |day: u64| {
        let mut bytes = noise(60 << 10, 7);
        bytes.chunks_mut(997).for_each(|piece| piece[0] ^= day as u8);
        streams(&[("table", &bytes)])
    };
    let first_home = temporary_dir();
    let repo = init(storage.clone(), first_home.path());
    let mut store = |repo: &Repository, name: &str, day: u64| {
        backup(repo, name, &streams(day)).unwrap();
        expected.insert(name.to_owned(), streams(day));
    };
    store(&repo, "base", 0);
    let segments = names_below(&storage, "index");
    store(&repo, "against it", 1);
    // Nothing asks for the rest of it: it is taken from the trash, while a backup runs.
    let running = begin(&repo, "running").unwrap();
    repo.delete_archive(&repo.find_archive("base").unwrap().manifest.id).unwrap();
    let take = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    assert!(!repo.collect(&take, Arc::new(NoMonitor)).unwrap().waits_for.is_empty());
    running.suspend().unwrap();
    segments.iter().for_each(|name| assert!(storage.remove_raw(name)));
    // Who does not know the base stores it again, against something else.
    let second_home = temporary_dir();
    let repo = open(storage.clone(), second_home.path()).unwrap();
    store(&repo, "other", 2);
    store(&repo, "base again", 0);
    expected.remove("base");
    let collected = repo.collect(&CollectOptions::default(), Arc::new(NoMonitor));
    assert!(matches!(collected, Err(Error::ChunkMissing { .. })), "{collected:?}");
    assert_ne!(repo.check(CheckDepth::Structure, Arc::new(NoMonitor)).unwrap().damage, []);
    assert!(repair(&repo).unwrap().root.is_some());
    assert_archives(&repo, &expected, None);
    repo.collect(&CollectOptions::default(), Arc::new(NoMonitor)).unwrap();
    assert_archives(&repo, &expected, None);
}

/// Segments are lost all the time, those of sessions that run too; repairs put roots beside those of collections.
#[test]
fn collections_and_backups_and_repairs_that_never_stop() {
    let (storage, _) = two_archives();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(6);
    let goes_on = || std::time::Instant::now() < until;
    let elsewhere = || {
        let dir = temporary_dir();
        let repo = open(storage.clone(), dir.path()).unwrap();
        (dir, repo)
    };
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            scope.spawn(move || {
                let (_dir, repo) = elsewhere();
                for number in (0..).take_while(|_| goes_on()) {
                    let seed = (writer + number) % 3;
                    // What a lost segment makes unreadable may stop it, as it stops a collection.
                    let Ok(manifest) = backup(&repo, &format!("{writer} {number} {seed}"), &small(seed))
                    else {
                        continue;
                    };
                    if number % 3 != 2 {
                        repo.delete_archive(&manifest.id).unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            let (_dir, repo) = elsewhere();
            let (mut done, mut stopped) = (0, 0);
            while goes_on() {
                let options = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
                match repo.collect(&options, Arc::new(NoMonitor)) {
                    Ok(_) => done += 1,
                    Err(_) => stopped += 1,
                }
            }
            println!("{done} collections, {stopped} stopped");
        });
        scope.spawn(|| {
            let ((_dir, repo), mut numbers) = (elsewhere(), Numbers::new(1));
            let (mut roots, mut lost) = (0, 0);
            while goes_on() {
                let segments = names_below(&storage, "index");
                if let Some(name) = segments.get(numbers.below(segments.len().max(1))) {
                    lost += usize::from(storage.remove_raw(name));
                }
                let report = repo.repair(&RepairOptions::default(), Arc::new(NoMonitor)).unwrap();
                roots += usize::from(report.root.is_some());
                assert_eq!(report.quarantined, [""; 0], "nothing was damaged: {report:?}");
            }
            println!("{lost} segments lost, {roots} roots of repairs");
        });
    });
    let (_dir, repo) = elsewhere();
    repair(&repo).unwrap();
    let reader = reader(&repo).unwrap();
    let archives = repo.archives().unwrap().archives;
    println!("{} archives", archives.len());
    for archive in archives {
        let name = archive.manifest.name.as_str();
        let seed = match name {
            "old" => 1,
            "other" => 2,
            name => name.rsplit(' ').next().unwrap().parse().unwrap(),
        };
        assert!(restore(&reader, &archive.manifest).as_ref() == Ok(&small(seed)), "{name}");
    }
    assert_eq!(repo.check(CheckDepth::Data, Arc::new(NoMonitor)).unwrap().damage, []);
    assert!(storage.size(&key("config")).unwrap().is_some());
}
