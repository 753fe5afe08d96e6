//! Every byte of a small repository is damaged, and every object cut, lost, swapped and duplicated: a check
//! tells, and what is read is right or an error.
//!
//! What a check can't tell, for want of anything that speaks of the object, is in [`Sample::dispensable`]:
//! - an archive slot that is gone is an archive that never was; a trash mark that is gone, one never made;
//! - a key slot that is gone opens nothing, and the others go on;
//! - a root that is gone puts its condemned list in force again, which only costs space;
//! - registrations, fences, segments that are folded or that nothing was committed on may go at any time.
//!
//! An object under the name of another is always damage: the seal binds it to its name, a pack's name is its
//! hash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dbvault_repo::{Error, Reader, Repository};
use dbvault_storage::MemoryStorage;
use tempfile::TempDir;

use crate::common::*;
use crate::sample::Sample;

/// Threads that try mutants.
const WORKERS: usize = 2;

/// A change of objects: each name and its new bytes, or `None` for an object that goes away.
type Mutant = Vec<(String, Option<Arc<[u8]>>)>;

/// A repository of its own to damage, open and with a warm cache, as in a client that has been here before.
struct Patient<'a> {
    sample: &'a Sample,
    storage: MemoryStorage,
    repo: Repository,
    reader: Arc<Reader>,
    dir: TempDir,
    /// Mutants so far.
    turn: AtomicUsize,
}

/// What a mutant must lead to, besides never giving wrong bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// A check names one of its objects.
    Reported,
    /// A check finds nothing, and all archives that are there can be read.
    Unseen,
    /// A check names something, but not these objects: they are gone.
    Missed,
}

impl<'a> Patient<'a> {
    fn new(sample: &'a Sample) -> Patient<'a> {
        let (dir, storage) = (temporary_dir(), sample.storage.duplicate());
        let repo = open(storage.clone(), dir.path()).unwrap();
        let reader = reader(&repo).unwrap();
        Patient { sample, storage, repo, reader, dir, turn: AtomicUsize::new(0) }
    }

    fn apply(&self, mutant: &Mutant) {
        for (name, bytes) in mutant {
            match bytes {
                Some(bytes) => self.storage.replace_raw(name, bytes.clone()),
                None => drop(self.storage.remove_raw(name)),
            }
        }
    }

    fn heal(&self, mutant: &Mutant) {
        for (name, _) in mutant {
            match self.sample.storage.read_raw(name) {
                Some(bytes) => self.storage.replace_raw(name, bytes),
                None => drop(self.storage.remove_raw(name)),
            }
        }
    }

    /// Damages, looks at everything, and heals.
    fn try_mutant(&self, mutant: &Mutant, verdict: Verdict) {
        self.apply(mutant);
        let names: Vec<&str> = mutant.iter().map(|(name, _)| name.as_str()).collect();
        let told = told(&names, self.reader.check(dbvault_repo::CheckDepth::Data));
        assert!(told == verdict, "{names:?}: {}", told_text(told));
        // Nothing else is read but the cache, except now and then to make sure of that.
        let used = |name: &&str| ["packs/", "archives/"].iter().any(|prefix| name.starts_with(prefix));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let read = turn.is_multiple_of(8) || verdict == Verdict::Unseen || names.iter().any(used);
        let whole = !read || self.read_all(&self.repo, &self.reader, &names);
        assert!(whole || verdict != Verdict::Unseen, "{names:?}: reading fails, and a check finds nothing");
        if names.iter().any(|name| *name == "config" || name.starts_with("keys/")) {
            self.open_all();
        }
        self.heal(mutant);
    }

    /// The same for a client that has never been here.
    fn try_cold(&self, mutant: &Mutant) {
        self.apply(mutant);
        let names: Vec<&str> = mutant.iter().map(|(name, _)| name.as_str()).collect();
        let cache = tempfile::tempdir_in(self.dir.path()).unwrap();
        let opened = open(self.storage.clone(), cache.path());
        if let Ok((repo, reader)) = opened.and_then(|repo| Ok((repo.clone(), reader(&repo)?))) {
            self.read_all(&repo, &reader, &names);
            let told = told(&names, reader.check(dbvault_repo::CheckDepth::Data));
            assert!(told != Verdict::Unseen, "{names:?}: {}", told_text(told));
        }
        self.heal(mutant);
    }

    /// Reads all archives; gives whether all came out whole. Wrong bytes are never given.
    fn read_all(&self, repo: &Repository, reader: &Arc<Reader>, names: &[&str]) -> bool {
        let Ok(list) = repo.archives() else { return false };
        let mut whole = list.damaged.is_empty();
        for archive in list.archives {
            let name = &archive.manifest.name;
            let wanted = self.sample.expected.get(name);
            let wanted = wanted.unwrap_or_else(|| panic!("{names:?}: nobody made {name}"));
            match restore(reader, &archive.manifest) {
                Ok(streams) => assert!(streams == *wanted, "{names:?}: {name} has wrong bytes"),
                Err(_) => whole = false,
            }
        }
        whole
    }

    /// Opens with each secret: it works or says why not.
    fn open_all(&self) {
        for byte in [1, 2] {
            let client = client(self.dir.path());
            match Repository::open(Arc::new(self.storage.clone()), client, &secret(byte)) {
                Ok(repo) => assert_eq!(repo.id(), self.repo.id()),
                Err(
                    Error::WrongSecret { .. }
                    | Error::Damaged { .. }
                    | Error::Newer { .. }
                    | Error::NoRepository { .. },
                ) => {}
                Err(e) => panic!("{e:?}"),
            }
        }
    }
}

fn told(names: &[&str], checked: dbvault_repo::Result<dbvault_repo::CheckReport>) -> Verdict {
    let named = |text: &str| names.iter().any(|name| text.contains(name));
    match checked {
        Err(e) if named(&format!("{e:?}")) => Verdict::Reported,
        Err(_) => Verdict::Missed,
        Ok(report) if report.clean() => Verdict::Unseen,
        Ok(report) if report.findings.iter().any(|finding| named(&finding.object)) => Verdict::Reported,
        Ok(_) => Verdict::Missed,
    }
}

fn told_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reported => "a check names it",
        Verdict::Unseen => "a check finds nothing",
        Verdict::Missed => "a check finds something else",
    }
}

/// Tries all mutants on all cores.
fn try_all(sample: &Sample, mutants: &[Mutant], try_one: impl Fn(&Patient, &Mutant) + Sync) {
    let next = AtomicUsize::new(0);
    let panics = PANICS.load(Ordering::SeqCst);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let patient = Patient::new(sample);
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    try_one(&patient, mutant);
                }
                // All damage is healed: so is what it did to the cache.
                assert!(patient.reader.check(dbvault_repo::CheckDepth::Data).unwrap().clean());
                assert!(patient.read_all(&patient.repo, &patient.reader, &[]));
            });
        }
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), panics, "a thread panicked, if only one of the engine");
    println!("{} mutants", mutants.len());
}

/// Panics in this process, also those in threads of the engine, which would only show as errors.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
}

fn with(name: &str, bytes: Vec<u8>) -> Mutant {
    vec![(name.to_owned(), Some(bytes.into()))]
}

/// All objects with their bytes.
fn objects(sample: &Sample) -> Vec<(String, Arc<[u8]>)> {
    let names = sample.storage.object_names().into_iter();
    names.map(|name| (name.clone(), sample.storage.read_raw(&name).unwrap())).collect()
}

/// Each byte, all its bits and one of them.
fn flips(name: &str, bytes: &[u8]) -> Vec<Mutant> {
    let flip = |at: usize, mask: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= mask;
        with(name, bytes)
    };
    (0..bytes.len()).flat_map(|at| [flip(at, 0xff), flip(at, 1 << (at % 8))]).collect()
}

#[test]
fn every_changed_byte_is_reported_and_nothing_wrong_is_read() {
    count_panics();
    let sample = Sample::new();
    let objects = objects(&sample);
    let total: usize = objects.iter().map(|(_, bytes)| bytes.len()).sum();
    println!("{} objects, {total} bytes", objects.len());
    assert!(total <= 60 << 10);
    let mutants: Vec<Mutant> = objects.iter().flat_map(|(name, bytes)| flips(name, bytes)).collect();
    try_all(&sample, &mutants, |patient, mutant| patient.try_mutant(mutant, Verdict::Reported));
    // What a client reads that has no cache yet.
    let prefixes = ["index/", "archives/", "roots/", "condemned/"];
    let cold =
        mutants.into_iter().filter(|mutant| prefixes.iter().any(|prefix| mutant[0].0.starts_with(prefix)));
    let cold: Vec<Mutant> = cold.step_by(31).collect();
    try_all(&sample, &cold, |patient, mutant| patient.try_cold(mutant));
}

#[test]
fn every_cut_and_every_byte_too_many_is_reported() {
    let sample = Sample::new();
    let mut mutants = Vec::new();
    for (name, bytes) in objects(&sample) {
        let step = if bytes.len() <= 600 { 1 } else { 7 };
        mutants.extend((0..bytes.len()).step_by(step).map(|len| with(&name, bytes[..len].to_vec())));
        mutants.push(with(&name, bytes[..bytes.len() - 1].to_vec()));
        mutants.push(with(&name, [&bytes[..], &[0]].concat()));
        mutants.push(with(&name, [&[0], &bytes[..]].concat()));
        mutants.push(with(&name, vec![0; bytes.len()]));
    }
    try_all(&sample, &mutants, |patient, mutant| patient.try_mutant(mutant, Verdict::Reported));
}

#[test]
fn every_lost_object_is_missed_unless_nothing_speaks_of_it() {
    let sample = Sample::new();
    let mutants: Vec<Mutant> = objects(&sample).into_iter().map(|(name, _)| vec![(name, None)]).collect();
    try_all(&sample, &mutants, |patient, mutant| {
        let name = &mutant[0].0;
        let verdict = match sample.dispensable.contains(name) {
            true => Verdict::Unseen,
            // The packs of a lost segment are not named, but what that does to archives is.
            false if name.starts_with("index/") => Verdict::Missed,
            false => Verdict::Reported,
        };
        patient.try_mutant(mutant, verdict);
        if verdict != Verdict::Unseen {
            patient.try_cold(mutant);
        }
    });
}

#[test]
fn every_two_objects_swapped_are_reported() {
    let sample = Sample::new();
    let objects = objects(&sample);
    let mut mutants = Vec::new();
    for (at, (one, one_bytes)) in objects.iter().enumerate() {
        for (other, other_bytes) in &objects[at + 1..] {
            mutants.push(vec![
                (one.clone(), Some(other_bytes.clone())),
                (other.clone(), Some(one_bytes.clone())),
            ]);
        }
    }
    try_all(&sample, &mutants, |patient, mutant| patient.try_mutant(mutant, Verdict::Reported));
}

#[test]
fn an_object_under_another_name_is_reported() {
    let sample = Sample::new();
    let mut mutants = Vec::new();
    for (name, bytes) in objects(&sample) {
        let mut aliases = BTreeSet::new();
        // Every digit of the last part another: another number, another id, another hash; another shard.
        let (parent, last) = name.rsplit_once('/').unwrap_or(("", &name));
        if name == "config" {
            continue;
        }
        for at in 0..last.len() {
            let digit = if last.as_bytes()[at] == b'1' { "2" } else { "1" };
            aliases.insert(format!("{parent}/{}{digit}{}", &last[..at], &last[at + 1..]));
        }
        if name.starts_with("packs/") {
            aliases.insert(name.replacen(&name[6..8], "a0", 1));
        }
        aliases.remove(&name);
        mutants.extend(aliases.into_iter().map(|alias| vec![(alias, Some(bytes.clone()))]));
    }
    try_all(&sample, &mutants, |patient, mutant| patient.try_mutant(mutant, Verdict::Reported));
}

/// The kind of an object stands in its header as one number, that of a manifest beside that of a tombstone.
#[test]
fn a_manifest_that_looks_like_a_tombstone_takes_no_other_archive_with_it() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let data = streams(&[("noise", &noise(50 << 10, 1))]);
    let first = backup(&repo, "first", &data).unwrap();
    let second = backup(&repo, "second", &data).unwrap();
    assert_eq!(second.sizes.new_chunks, 0, "all its chunks are listed by the first session");
    let name = format!("archives/{}", first.id);
    let mut bytes = storage.read_raw(&name).unwrap().to_vec();
    bytes[8] ^= 1;
    storage.replace_raw(&name, bytes);
    for cache in [dir.path().to_owned(), dir.path().join("elsewhere")] {
        let repo = open(storage.clone(), &cache).unwrap();
        assert_eq!(repo.archives().unwrap().damaged[0].0, first.id);
        assert!(restore(&reader(&repo).unwrap(), &second).unwrap() == data);
        assert!(check(&repo).unwrap().findings.iter().any(|finding| finding.object == name));
    }
}
