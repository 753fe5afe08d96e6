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

use dbvault_format::header::ObjectKind;
use dbvault_repo::{Error, Reader, Repository};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::tier::{either, is_long};
use tempfile::TempDir;

use crate::common::*;
use crate::sample::Sample;
use crate::tally::Tally;

/// What the entry that nothing compresses has in each of three archives, bytes.
const NOISE_BYTES: usize = 33 << 10;

/// Every byte of a repository of at least this length is changed.
const REPOSITORY_BYTES_MIN: usize = 100_000;

/// Where objects of each kind are. A new kind has to be in the sample and here.
const KINDS: [(ObjectKind, &str); 10] = [
    (ObjectKind::Config, "config"),
    (ObjectKind::KeySlot, "keys/"),
    (ObjectKind::Pack, "packs/"),
    (ObjectKind::IndexSegment, "index/"),
    (ObjectKind::Session, "sessions/"),
    (ObjectKind::Archive, "archives/"),
    (ObjectKind::Fence, "archives/"),
    (ObjectKind::Trash, "trash/"),
    (ObjectKind::Condemned, "condemned/"),
    (ObjectKind::Root, "roots/"),
];

/// Of the mutants of packs, one in so many is read as well as checked.
const PACKS_READ_ONE_IN: usize = 48;

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
    /// A check names all of its objects.
    AllReported,
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
        assert!(told.meets(verdict), "{names:?}: {}", told_text(told));
        // Nothing else is read but the cache, except now and then to make sure of that. What is wrong with a pack
        // makes a reader read its index anew: that takes longer than twenty checks.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let one_in = if names.iter().any(|name| name.starts_with("packs/")) { PACKS_READ_ONE_IN } else { 8 };
        let manifest = names.iter().any(|name| name.starts_with("archives/"));
        let read = turn.is_multiple_of(one_in) || verdict == Verdict::Unseen || manifest;
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
    let (text, clean) = match checked {
        Err(e) => (format!("{e:?}"), false),
        Ok(report) => {
            let objects: Vec<&str> = report.findings.iter().map(|finding| finding.object.as_str()).collect();
            (objects.join("\n"), report.clean())
        }
    };
    match names.iter().filter(|name| text.contains(*name)).count() {
        _ if clean => Verdict::Unseen,
        0 => Verdict::Missed,
        count if count == names.len() => Verdict::AllReported,
        _ => Verdict::Reported,
    }
}

impl Verdict {
    /// Whether this is as good as what was asked for.
    fn meets(self, wanted: Verdict) -> bool {
        self == wanted || (self == Verdict::AllReported && wanted == Verdict::Reported)
    }
}

fn told_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::AllReported => "a check names all of them",
        Verdict::Reported => "a check names some of them",
        Verdict::Unseen => "a check finds nothing",
        Verdict::Missed => "a check finds something else",
    }
}

/// Tries all mutants, or what they are made of, on all cores.
fn try_all<T: Sync>(sample: &Sample, mutants: &[T], try_one: impl Fn(&Patient, &T) + Sync) {
    let next = AtomicUsize::new(0);
    let panics = PANICS.load(Ordering::SeqCst);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let next = &next;
            let try_one = &try_one;
            scope.spawn(move || {
                dbvault_repo::scripted::keep_indexes_in_memory(worker > 0);
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

/// A byte of an object, by its place among the objects, and the bits of it that change. Mutants are made of this
/// when they are tried: all of them would not fit into memory.
type Flip = (usize, usize, u8);

/// Each byte of an object with one of its bits changed, or all of them, in turn; in the long tier each bit of each
/// byte, and all.
fn flips(object: usize, len: usize) -> Vec<Flip> {
    let masks = |at: usize| match is_long() {
        true => (0..8).map(|bit| 1 << bit).chain([0xff]).collect(),
        false if at.is_multiple_of(2) => vec![0xff],
        false => vec![1 << (at / 2 % 8)],
    };
    (0..len).flat_map(|at| masks(at).into_iter().map(move |mask| (object, at, mask))).collect()
}

/// The mutant with all of `flips`, each of another object.
fn flipped(objects: &[(String, Arc<[u8]>)], flips: &[Flip]) -> Mutant {
    let flip = |(object, at, mask): &Flip| {
        let (name, bytes) = &objects[*object];
        let mut bytes = bytes.to_vec();
        bytes[*at] ^= mask;
        (name.clone(), Some(bytes.into()))
    };
    flips.iter().map(flip).collect()
}

/// The first of all lists, then the second of all, and so on.
fn side_by_side(lists: &[Vec<Flip>]) -> Vec<Vec<Flip>> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let at = |place: usize| lists.iter().filter_map(|list| list.get(place)).copied().collect();
    (0..longest).map(at).collect()
}

#[test]
fn the_sample_has_an_object_of_every_kind_and_no_other() {
    let sample = Sample::new();
    // The ninth byte of every object is the number of its kind.
    let is = |name: &str, bytes: &[u8], (kind, prefix): &(ObjectKind, &str)| {
        name.starts_with(prefix) && bytes[8] == *kind as u8
    };
    let objects = objects(&sample);
    for (name, bytes) in &objects {
        assert!(KINDS.iter().any(|kind| is(name, bytes, kind)), "{name} is of no kind that is listed");
    }
    for kind in &KINDS {
        assert!(objects.iter().any(|(name, bytes)| is(name, bytes, kind)), "no {}", kind.0.name());
    }
}

#[test]
fn every_changed_byte_is_reported_and_nothing_wrong_is_read() {
    count_panics();
    let (tally, sample) = (Tally::new("bytes changed"), Sample::sized(NOISE_BYTES));
    let objects = objects(&sample);
    let total: usize = objects.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(total >= REPOSITORY_BYTES_MIN, "{total} bytes");
    let all = (0..objects.len()).map(|object| (object, flips(object, objects[object].1.len())));
    let (packs, others): (Vec<_>, Vec<_>) =
        all.partition(|(object, _)| objects[*object].0.starts_with("packs/"));
    let [packs, others] =
        [packs, others].map(|of| of.into_iter().map(|(_, flips)| flips).collect::<Vec<_>>());
    let count = |lists: &[Vec<Flip>]| lists.iter().map(Vec::len).sum::<usize>();
    // A check goes on after its first finding: all packs are damaged at once, a byte in each.
    let mut mutants: Vec<Vec<Flip>> = others.iter().flatten().map(|flip| vec![*flip]).collect();
    mutants.extend(side_by_side(&packs));
    if is_long() {
        mutants.extend(packs.iter().flatten().step_by(9).map(|flip| vec![*flip]));
    }
    try_all(&sample, &mutants, |patient, flips| {
        patient.try_mutant(&flipped(&objects, flips), Verdict::AllReported);
    });
    // What a client reads that has no cache yet.
    let prefixes = ["index/", "archives/", "roots/", "condemned/"];
    let read = |flip: &&Flip| prefixes.iter().any(|prefix| objects[flip.0].0.starts_with(prefix));
    let cold: Vec<Flip> = others.iter().flatten().filter(read).step_by(31).copied().collect();
    try_all(&sample, &cold, |patient, flip| patient.try_cold(&flipped(&objects, &[*flip])));
    let flips_count = count(&packs) + count(&others);
    tally.end(&[
        (objects.len(), "objects"),
        (total, "bytes"),
        (flips_count, "changes"),
        (mutants.len() + cold.len(), "checks"),
    ]);
}

#[test]
fn every_cut_and_every_byte_too_many_is_reported() {
    let (tally, sample) = (Tally::new("bytes cut off and added"), Sample::sized(NOISE_BYTES));
    let objects = objects(&sample);
    let (mut cuts, mut mutants) = (Vec::new(), Vec::new());
    for (object, (name, bytes)) in objects.iter().enumerate() {
        let step = if bytes.len() <= 600 { 1 } else { either(61, 1) };
        cuts.extend((0..bytes.len()).step_by(step).chain([bytes.len() - 1]).map(|len| (object, len)));
        mutants.push(with(name, [&bytes[..], &[0]].concat()));
        mutants.push(with(name, [&[0], &bytes[..]].concat()));
        mutants.push(with(name, [&bytes[..], &noise(600, 1)].concat()));
    }
    try_all(&sample, &cuts, |patient, (object, len)| {
        let (name, bytes) = &objects[*object];
        patient.try_mutant(&with(name, bytes[..*len].to_vec()), Verdict::Reported);
    });
    try_all(&sample, &mutants, |patient, mutant| patient.try_mutant(mutant, Verdict::Reported));
    tally.end(&[(cuts.len() + mutants.len(), "mutants")]);
}

#[test]
fn every_block_of_zeroes_is_reported() {
    let (tally, sample) = (Tally::new("bytes zeroed"), Sample::sized(NOISE_BYTES));
    let mut mutants = Vec::new();
    for (name, bytes) in objects(&sample) {
        for block_bytes in [1, 16, 512, 4096, bytes.len()] {
            // Single zeroes are among the flips; here a few of them at any place.
            let step = if block_bytes < 512 { either(211, 11) } else { block_bytes };
            for start in (0..bytes.len()).step_by(step) {
                let end = bytes.len().min(start + block_bytes);
                let mut zeroed = bytes.to_vec();
                zeroed[start..end].fill(0);
                if zeroed != *bytes {
                    mutants.push(with(&name, zeroed));
                }
            }
        }
    }
    try_all(&sample, &mutants, |patient, mutant| patient.try_mutant(mutant, Verdict::Reported));
    tally.end(&[(mutants.len(), "mutants")]);
}

#[test]
fn every_lost_object_is_missed_unless_nothing_speaks_of_it() {
    let (tally, sample) = (Tally::new("objects lost"), Sample::sized(NOISE_BYTES));
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
    tally.end(&[(mutants.len(), "mutants")]);
}

#[test]
fn every_two_objects_swapped_are_reported() {
    let (tally, sample) = (Tally::new("objects swapped"), Sample::sized(NOISE_BYTES));
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
    tally.end(&[(mutants.len(), "mutants")]);
}

#[test]
fn an_object_under_another_name_is_reported() {
    let (tally, sample) = (Tally::new("objects under other names"), Sample::sized(NOISE_BYTES));
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
            aliases.insert(format!("packs/a0/{last}"));
        }
        aliases.remove(&name);
        mutants.extend(aliases.into_iter().map(|alias| vec![(alias, Some(bytes.clone()))]));
    }
    try_all(&sample, &mutants, |patient, mutant| patient.try_mutant(mutant, Verdict::Reported));
    tally.end(&[(mutants.len(), "mutants")]);
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
