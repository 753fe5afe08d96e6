//! The local cache can be lost, damaged, old or of somebody else: nothing but time is lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use dbvault_repo::Repository;
use dbvault_storage::MemoryStorage;
use tempfile::TempDir;

use crate::common::*;

/// A repository with two archives, and the cache of a client that has made them.
struct Known {
    storage: MemoryStorage,
    expected: Expected,
    cache: TempDir,
    id: String,
}

fn data(day: u64) -> Streams {
    let text = edited(&text(200 << 10, 1), 10, day);
    streams(&[("text", &text), ("noise", &noise(100 << 10, day))])
}

impl Known {
    fn new() -> Known {
        let (cache, storage) = (temporary_dir(), MemoryStorage::new());
        let repo = init(storage.clone(), cache.path());
        let expected: Expected = [("day 1".to_owned(), data(1)), ("day 2".to_owned(), data(2))].into();
        expected.iter().for_each(|(name, data)| drop(backup(&repo, name, data).unwrap()));
        let id = repo.id().to_string();
        Known { storage, expected, cache, id }
    }

    /// The directory of the index below a cache directory.
    fn index(&self, cache: &Path) -> PathBuf {
        cache.join(&self.id).join("index-0")
    }

    /// A copy of the cache, and the repository to use it with.
    fn copy(&self) -> (TempDir, MemoryStorage) {
        let copy = temporary_dir();
        copy_dir(self.cache.path(), copy.path());
        (copy, self.storage.duplicate())
    }

    /// Everything works with the cache in `cache`, and after at most one backup it is good again.
    fn assert_works(&self, storage: MemoryStorage, cache: &Path, what: &str) {
        let repo = open(storage.clone(), cache).unwrap();
        let show = |e: &dyn std::fmt::Debug| -> ! { panic!("{what}: {e:?}") };
        let mut expected = self.expected.clone();
        // A backup first: that it finds what is there must not depend on a reader having put things right.
        for name in ["next", "and next"] {
            let manifest = backup(&repo, name, &data(2)).unwrap_or_else(|e| show(&e));
            expected.insert(name.into(), data(2));
            let new = manifest.sizes.new_chunks;
            assert!(new == 0 || name == "next", "{what}: {new} chunks are stored again and again");
        }
        compare(&repo, &expected, None).unwrap_or_else(|e| show(&e));
        findings(&repo).unwrap_or_else(|e| show(&e));
        let elsewhere =
            open(storage, &cache.join("elsewhere")).or_else(|_| open(self.storage.clone(), cache));
        compare(&elsewhere.unwrap(), &expected, None).unwrap_or_else(|e| show(&e));
    }

    /// The same for reading.
    fn assert_reads(&self, storage: MemoryStorage, cache: &Path, what: &str) {
        let repo = open(storage, cache).unwrap();
        compare(&repo, &self.expected, None).unwrap_or_else(|e| panic!("{what}: {e}"));
        findings(&repo).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_cache_that_is_not_there_is_made() {
    let known = Known::new();
    let (copy, storage) = known.copy();
    fs::remove_dir_all(copy.path().join(&known.id)).unwrap();
    known.assert_works(storage, copy.path(), "deleted");
    let (copy, storage) = known.copy();
    fs::remove_dir_all(known.index(copy.path())).unwrap();
    fs::write(known.index(copy.path()), b"a file").unwrap();
    known.assert_works(storage, copy.path(), "a file in the place of the index");
}

/// A way to damage a file.
type Harm = (&'static str, fn(Vec<u8>) -> Option<Vec<u8>>);

const HARMS: [Harm; 6] = [
    ("deleted", |_| None),
    ("empty", |_| Some(Vec::new())),
    ("half", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
    ("noise", |bytes| Some(noise(bytes.len(), 1))),
    ("noise at its beginning", |bytes| {
        let at = bytes.len().min(100);
        Some([noise(at, 2), bytes[at..].to_vec()].concat())
    }),
    ("noise in its middle", |mut bytes| {
        let (from, to) = (bytes.len() / 3, bytes.len() / 3 * 2);
        bytes[from..to].copy_from_slice(&noise(to - from, 3));
        Some(bytes)
    }),
];

#[test]
fn any_damaged_file_of_a_cache_is_survived() {
    let known = Known::new();
    let count = files(&known.index(known.cache.path())).len();
    println!("{count} files, {} kinds of harm", HARMS.len());
    let cases = (0..count).flat_map(|file| HARMS.iter().map(move |harm| (file, harm)));
    in_parallel(cases, |(file, (harm, change))| {
        for reads in [false, true] {
            let (copy, storage) = known.copy();
            let path = &files(&known.index(copy.path()))[file];
            match change(fs::read(path).unwrap()) {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let what = format!("{} {harm}", path.file_name().unwrap().display());
            match reads {
                true => known.assert_reads(storage, copy.path(), &what),
                false => known.assert_works(storage, copy.path(), &what),
            }
        }
    });
}

#[test]
fn a_cache_of_another_repository_is_not_believed() {
    let (known, foreign) = (Known::new(), Known::new());
    let (copy, storage) = known.copy();
    fs::remove_dir_all(known.index(copy.path())).unwrap();
    copy_dir(&foreign.index(foreign.cache.path()), &known.index(copy.path()));
    known.assert_works(storage, copy.path(), "foreign");
}

#[test]
fn an_old_cache_is_brought_up_to_date() {
    let (cache, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), cache.path());
    backup(&repo, "day 1", &data(1)).unwrap();
    let old = temporary_dir();
    copy_dir(cache.path(), old.path());
    // An abandoned backup too, of which the old cache knows nothing.
    drop(begin(&repo, "abandoned").unwrap());
    suspend(&repo, "interrupted", &data(3));
    backup(&repo, "day 2", &data(2)).unwrap();
    let id = repo.id().to_string();
    let expected = [("day 1".to_owned(), data(1)), ("day 2".to_owned(), data(2))].into();
    let known = Known { storage, expected, cache, id };
    known.assert_works(known.storage.duplicate(), old.path(), "stale");
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let known = Known::new();
    let dir = temporary_dir();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    known.assert_works_without_keeping(&file, "a file");
    known.assert_works_without_keeping(&file.join("below"), "below a file");
    let (copy, _) = known.copy();
    let index = known.index(copy.path());
    fs::remove_dir_all(&index).unwrap();
    symlink(dir.path().join("nowhere/at all"), &index).unwrap();
    known.assert_works_without_keeping(copy.path(), "an index that can't be made");
    // Says nothing where the tests run as a user whom permissions do not bind.
    let (copy, _) = known.copy();
    let lock = |mode: u32| {
        let index = known.index(copy.path());
        for path in files(&index).into_iter().chain([index.clone(), index.parent().unwrap().to_owned()]) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    lock(0o555);
    known.assert_works_without_keeping(copy.path(), "read-only");
    lock(0o755);
}

impl Known {
    fn assert_works_without_keeping(&self, cache: &Path, what: &str) {
        let storage = self.storage.duplicate();
        let repo = open(storage, cache).unwrap();
        let manifest = backup(&repo, "next", &data(2)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(manifest.sizes.new_chunks, 0, "{what}");
        let mut expected = self.expected.clone();
        expected.insert("next".into(), data(2));
        compare(&repo, &expected, None).unwrap_or_else(|e| panic!("{what}: {e}"));
        findings(&repo).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

/// Backs up `day` with a cache that knows more than the repository has, and reads it back.
fn assert_not_deceived(repo: &Repository, storage: &MemoryStorage, before: &Expected, day: &Streams) {
    backup(repo, "next", day).unwrap();
    let mut expected = before.clone();
    expected.insert("next".into(), day.clone());
    compare(repo, &expected, None).unwrap();
    let dir = temporary_dir();
    let elsewhere = open(storage.clone(), dir.path()).unwrap();
    compare(&elsewhere, &expected, None).unwrap();
    assert_clean(&elsewhere);
}

#[test]
fn a_cache_that_knows_more_than_the_repository_has_is_not_believed() {
    // The same stream again, and one that is like it, for which the cache would have bases.
    for day in [data(2), data(5)] {
        let (cache, storage) = (temporary_dir(), MemoryStorage::new());
        let repo = init(storage.clone(), cache.path());
        backup(&repo, "day 1", &data(1)).unwrap();
        let older = storage.duplicate();
        backup(&repo, "day 2", &data(2)).unwrap();
        let mut txn = begin(&repo, "abandoned").unwrap();
        add(&mut txn, "noise", dbvault_format::entry::Grid::Content, &mut &day["noise"][..]).unwrap();
        drop(txn);
        // The repository is put back from a copy of it; the cache stays.
        let repo = open(older.clone(), cache.path()).unwrap();
        assert_not_deceived(&repo, &older, &[("day 1".to_owned(), data(1))].into(), &day);
    }
}

#[test]
fn packs_that_are_lost_or_cut_are_not_built_on_but_stored_again() {
    for cut in [false, true] {
        let known = Known::new();
        let (copy, storage) = known.copy();
        for name in crate::objects::names(&storage, "packs/") {
            let bytes = storage.read_raw(&name).unwrap();
            match cut {
                true => storage.replace_raw(&name, bytes[..bytes.len() - 1].to_vec()),
                false => drop(storage.remove_raw(&name)),
            }
        }
        let repo = open(storage.clone(), copy.path()).unwrap();
        assert!(!check(&repo).unwrap().clean());
        backup(&repo, "next", &data(2)).unwrap();
        // What the lost packs held of the same stream is there again, for the old archives too.
        let reader = reader(&repo).unwrap();
        let next = repo.find_archive("next").unwrap().manifest;
        assert!(restore(&reader, &next).unwrap() == data(2), "cut: {cut}");
        let elsewhere = open(storage, &copy.path().join("elsewhere")).unwrap();
        assert!(
            restore(&crate::common::reader(&elsewhere).unwrap(), &next).unwrap() == data(2),
            "cut: {cut}"
        );
    }
}

#[test]
fn packs_may_get_other_numbers_under_an_open_reader() {
    use crate::objects::{listings, names, put_sealed};
    use dbvault_format::header::ObjectKind;
    use dbvault_format::id::SessionId;
    use dbvault_format::index_segment::IndexSegment;
    let known = Known::new();
    let repo = open(known.storage.clone(), known.cache.path()).unwrap();
    let reader = reader(&repo).unwrap();
    let read = || {
        for (name, data) in &known.expected {
            let manifest = repo.find_archive(name).unwrap().manifest;
            assert!(restore(&reader, &manifest).unwrap() == *data, "{name}");
        }
    };
    read();
    // As if a collection had put the segments of all sessions into one, in another order.
    let mut sessions: Vec<SessionId> =
        repo.archives().unwrap().archives.iter().map(|archive| archive.manifest.id).collect();
    sessions.sort_unstable_by(|one, other| other.cmp(one));
    let packs = sessions.iter().flat_map(|id| listings(&known.storage, &repo, id)).rev().collect();
    names(&known.storage, "index/").iter().for_each(|name| assert!(known.storage.remove_raw(name)));
    let name = format!("index/{}/00000000", sessions[0]);
    put_sealed(&known.storage, &repo, &name, ObjectKind::IndexSegment, &IndexSegment { packs }.encode());
    let report = reader.check(dbvault_repo::CheckDepth::Data).unwrap();
    assert!(report.clean(), "{:?} {:?}", report.findings, report.damage);
    read();
}
