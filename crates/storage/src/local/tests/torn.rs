//! What a crash of the machine leaves of files and directories: bytes that were not synced may be anything, names
//! that were not synced may be there or not. Whatever has the name of an object is whole all the same.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;

use rustix::fs::fstat;

use super::*;

/// Crash states of each moment beside the two extremes.
const RANDOM_STATES: u64 = 24;

/// A name in a directory: of a file by its inode, or of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    File(u64),
    Directory,
}

/// All names below the root by path, and the bytes of files by inode.
#[derive(Clone, Debug, Default)]
struct Tree {
    names: BTreeMap<String, Named>,
    bytes: HashMap<u64, Vec<u8>>,
}

impl Tree {
    fn read(root: &Path, path: &str, tree: &mut Tree) {
        for entry in fs::read_dir(root.join(path)).unwrap() {
            let entry = entry.unwrap();
            let at = join(path, entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                tree.names.insert(at.clone(), Named::Directory);
                Tree::read(root, &at, tree);
            } else {
                let inode = entry.metadata().unwrap().ino();
                tree.names.insert(at, Named::File(inode));
                tree.bytes.insert(inode, fs::read(entry.path()).unwrap());
            }
        }
    }
}

/// What is on the disk for good at a moment, and what is not yet.
#[derive(Clone, Debug, Default)]
struct Moment {
    now: Tree,
    durable: Tree,
    /// Objects that must be there, as the calls that had returned promise.
    must: BTreeSet<String>,
    /// Objects that may be there.
    may: BTreeSet<String>,
}

#[derive(Default)]
struct Disk {
    root: PathBuf,
    durable: Tree,
    must: BTreeSet<String>,
    may: BTreeSet<String>,
    moments: Vec<Moment>,
    /// All files that were ever seen, open: no other file gets their inodes.
    held: HashMap<u64, File>,
}

thread_local! {
    static DISK: RefCell<Disk> = RefCell::default();
}

impl Disk {
    fn remember(&mut self) -> Tree {
        let mut now = Tree::default();
        Tree::read(&self.root, "", &mut now);
        for (path, named) in &now.names {
            if let Named::File(inode) = named {
                self.held.entry(*inode).or_insert_with(|| File::open(self.root.join(path)).unwrap());
            }
        }
        let (durable, must, may) = (self.durable.clone(), self.must.clone(), self.may.clone());
        self.moments.push(Moment { now: now.clone(), durable, must, may });
        now
    }
}

/// A crash may come just before the sync has its effect.
fn remembering_sync(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    DISK.with_borrow_mut(|disk| {
        let now = disk.remember();
        let inode = fstat(file).unwrap().st_ino;
        if let Some(bytes) = now.bytes.get(&inode) {
            disk.durable.bytes.insert(inode, bytes.clone());
            return;
        }
        let is_it = |path: &&String| fs::metadata(disk.root.join(path)).unwrap().ino() == inode;
        let directories = now.names.iter().filter(|(_, named)| **named == Named::Directory);
        let directory = directories.map(|(path, _)| path).find(is_it).cloned().unwrap_or_default();
        let inside = |path: &String| parent(path) == directory;
        disk.durable.names.retain(|path, _| !inside(path));
        let names = now.names.into_iter().filter(|(path, _)| inside(path));
        disk.durable.names.extend(names);
    });
    Ok(())
}

/// A number that follows from `seed` and `place` (SplitMix64).
fn number(seed: u64, place: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(place);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A directory in memory where the system has such a place.
fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What may be left of bytes that were never synced.
fn torn(bytes: &[u8], choice: u64) -> Vec<u8> {
    let len = bytes.len();
    let cut = |at: usize| bytes[..at.min(len)].to_vec();
    match choice % 8 {
        0 => bytes.to_vec(),
        1 => Vec::new(),
        2 => cut(1),
        3 => cut(512),
        4 => vec![0; len],
        5 => [cut(512), vec![0; len - len.min(512)]].concat(),
        6 => [vec![0; len.min(512)], bytes[len.min(512)..].to_vec()].concat(),
        _ => cut(number(choice, 1) as usize % (len + 1)),
    }
}

impl Moment {
    /// Makes one of the states below `root`. `choice` 0 keeps nothing that was not synced, 1 all of it.
    fn make(&self, root: &Path, choice: u64) {
        let mut names: BTreeMap<&String, Named> = BTreeMap::new();
        for (place, (path, named)) in self.now.names.iter().chain(&self.durable.names).enumerate() {
            let sure = self.now.names.get(path) == self.durable.names.get(path);
            let kept = match choice {
                0 => self.durable.names.contains_key(path),
                1 => self.now.names.contains_key(path),
                _ => number(choice, place as u64) & 1 == 1,
            };
            if sure || kept {
                names.insert(path, *named);
            }
        }
        // Sorted: a directory comes before what is in it.
        for (path, named) in names {
            let at = root.join(path);
            if !at.parent().unwrap().is_dir() {
                continue;
            }
            match named {
                Named::Directory => fs::create_dir(at).unwrap(),
                Named::File(inode) => fs::write(at, self.left_of(inode, choice)).unwrap(),
            }
        }
    }

    fn left_of(&self, inode: u64, choice: u64) -> Vec<u8> {
        let (now, synced) = (self.now.bytes.get(&inode), self.durable.bytes.get(&inode));
        match (now, synced) {
            (_, Some(synced)) => synced.clone(),
            (Some(now), None) => torn(now, number(choice, inode)),
            (None, None) => Vec::new(),
        }
    }

    /// Whether a storage over one of the states keeps its promises.
    fn examine(&self, choice: u64, bytes_of: &dyn Fn(&str) -> Vec<u8>) {
        let directory = memory_dir();
        self.make(directory.path(), choice);
        let mut storage = LocalStorage::open(directory.path()).unwrap();
        storage.sync = |_| Ok(());
        for name in &self.may {
            let found = storage.size(&key(name)).unwrap();
            assert!(found.is_some() || !self.must.contains(name), "{name} is lost: {self:?}, {choice}");
            if found.is_some() {
                assert!(
                    storage.get(&key(name), None).unwrap() == bytes_of(name),
                    "{name}: {self:?}, {choice}"
                );
            }
        }
        let mut listed = 0;
        let mut each = |object: ObjectMeta| {
            assert!(self.may.contains(object.key.as_str()), "{} was never made", object.key);
            listed += 1;
            Ok(())
        };
        ["packs", "index"].iter().for_each(|prefix| storage.list(&key(prefix), &mut each).unwrap());
        assert!(listed >= self.must.iter().filter(|name| name.contains('/')).count());
        storage.remove_stale_temporaries(Duration::ZERO).unwrap();
        for name in &self.may {
            match storage.put_new(&key(name), &[&bytes_of(name)]) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
                Ok(()) => assert!(!self.must.contains(name)),
            }
        }
        storage.flush().unwrap();
    }
}

#[test]
fn whatever_a_crash_leaves_an_object_is_whole_or_absent() {
    let directory = memory_dir();
    let mut storage = LocalStorage::open(directory.path()).unwrap();
    storage.sync = remembering_sync;
    DISK.set(Disk { root: directory.path().to_owned(), ..Disk::default() });
    let bytes_of = |name: &str| name.bytes().cycle().take(40 * name.len() + 500).collect::<Vec<u8>>();
    let there = |name: &String| directory.path().join(name).exists();
    let mut names: Vec<String> = (0..12).map(|n| format!("packs/{:02x}/{n}", n % 4)).collect();
    names.extend((0..3).map(|n| format!("index/a/{n}")));
    names.push("config".into());
    for (turn, name) in names.iter().enumerate() {
        DISK.with_borrow_mut(|disk| disk.may.insert(name.clone()));
        let bytes = bytes_of(name);
        storage.put_new(&key(name), &[&bytes[..9], &bytes[9..]]).unwrap();
        DISK.with_borrow_mut(Disk::remember);
        if turn % 5 == 4 {
            storage.flush().unwrap();
            DISK.with_borrow_mut(|disk| {
                disk.must = disk.may.iter().filter(|name| there(name)).cloned().collect();
            });
        }
        if turn % 6 == 5 {
            let gone = &names[turn - 3];
            DISK.with_borrow_mut(|disk| disk.must.remove(gone));
            storage.delete(&key(gone)).unwrap();
        }
        if turn % 6 == 3 {
            // What was deleted before is gone for good from here on.
            storage.flush().unwrap();
            DISK.with_borrow_mut(|disk| {
                disk.may.retain(there);
                disk.must = disk.may.clone();
            });
        }
        DISK.with_borrow_mut(Disk::remember);
    }
    let moments = DISK.take().moments;
    let mut states = 0;
    for (place, moment) in moments.iter().enumerate() {
        for choice in 0..2 + RANDOM_STATES {
            let seed = if choice < 2 { choice } else { 2 + number(place as u64, choice) };
            moment.examine(seed, &bytes_of);
            states += 1;
        }
    }
    println!("proof: torn files: {states} states, 0 violations");
    assert!(states > 1000);
}
