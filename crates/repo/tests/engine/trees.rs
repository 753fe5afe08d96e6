//! Trees of files: what has not changed is taken over without a look, and every archive gives back what was there.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dbvault_format::entry::EntryReport;
use dbvault_format::file_table::{FileKind, FileRecord, Xattr};
use dbvault_format::manifest::ArchiveManifest;
use dbvault_repo::{CheckDepth, CollectOptions, DamagedEntry, Error, NoMonitor, Repository};
use dbvault_storage::{LocalStorage, MemoryStorage};
use dbvault_testkit::crashing_storage::{CrashState, CrashStateChoice, CrashingStorage};

use crate::common::*;
use crate::tree_model::*;

/// Many small files, some of them in large ones' company.
fn many(count: u64) -> Tree {
    let mut tree = everything();
    for number in 0..count {
        let content = match number % 50 {
            7 => noise(100_000, number),
            _ => text(200 + (number as usize * 37) % 3000, number),
        };
        tree.put(&format!("var/{}/{number}", number / 20), content, 100 + number);
    }
    tree
}

fn packs_bytes(storage: &MemoryStorage) -> u64 {
    bytes_below(storage, "packs")
}

fn collect(repo: &Repository) {
    let all = CollectOptions { trashed_before_ms: i64::MAX, ..CollectOptions::default() };
    repo.collect(&all, Arc::new(NoMonitor)).unwrap();
}

fn delete(repo: &Repository, manifest: &ArchiveManifest) {
    repo.delete_archive(&manifest.id).unwrap();
}

#[test]
fn a_tree_of_every_kind_comes_back() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    for (number, tree) in [everything(), many(500), Tree::default()].iter().enumerate() {
        let (manifest, walk) = backup_tree(&repo, &format!("{number}"), tree, None).unwrap();
        assert_eq!(walk.read_bytes, tree.content_bytes());
        assert_eq!(manifest.sizes.original_bytes, tree.content_bytes(), "a first tree has no gaps");
        assert_tree(&repo, &manifest, tree);
    }
    assert_clean(&repo);
}

#[test]
fn of_an_unchanged_tree_nothing_is_read_and_next_to_nothing_stored() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let tree = many(500);
    let (first, _) = backup_tree(&repo, "first", &tree, None).unwrap();
    let before = packs_bytes(&storage);
    let (second, walk) = backup_tree(&repo, "second", &tree, Some(&first)).unwrap();
    assert_eq!(walk, Walk { kept_files: tree.0.len(), ..Walk::default() });
    let grown = packs_bytes(&storage) - before;
    assert!(grown < 3 << 10, "{grown} bytes of packs");
    let reader = reader(&repo).unwrap();
    let (old, new) = (tree_entry(&reader, &first), tree_entry(&reader, &second));
    assert_eq!((old.stream, old.table), (new.stream, new.table));
    assert_eq!(new.sizes.new_chunks, 0);
    assert_tree(&repo, &second, &tree);
}

#[test]
fn one_file_of_many_that_changed_is_read_and_little_is_stored() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let mut tree = many(1000);
    let mut last = backup_tree(&repo, "first", &tree, None).unwrap().0;
    for (number, path) in ["etc/hosts", "var/3/77", "var/10/207", "var/49/999"].into_iter().enumerate() {
        let before = packs_bytes(&storage);
        let content = edited(&tree.0[&Path(path.into())].content, 1, 5);
        let changed_bytes = content.len() as u64;
        tree.put(path, content, 1_000_000 + number as u64);
        let (manifest, walk) = backup_tree(&repo, &format!("{number}"), &tree, Some(&last)).unwrap();
        assert_eq!((walk.read_bytes, walk.not_kept_files), (changed_bytes, 0), "{path}");
        assert_eq!(walk.kept_files, tree.0.len() - 1);
        let grown = packs_bytes(&storage) - before;
        assert!(grown < changed_bytes + (48 << 10), "{path}: {grown} bytes of packs");
        assert_tree(&repo, &manifest, &tree);
        last = manifest;
    }
    assert_clean(&repo);
}

#[test]
fn what_is_kept_outlives_the_archive_it_came_from() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let mut tree = many(600);
    let (mut last, _) = backup_tree(&repo, "0", &tree, None).unwrap();
    for number in 1..8u64 {
        tree.0.remove(&Path(format!("var/{number}/{}", number * 20 + 5).into()));
        tree.put(&format!("var/{number}/new"), text(4000, number), 5000 + number);
        tree.put(&format!("var/{}/{}", number * 2, number * 40), text(700, number), 6000 + number);
        let (next, _) = backup_tree(&repo, &format!("{number}"), &tree, Some(&last)).unwrap();
        delete(&repo, &last);
        collect(&repo);
        assert_tree(&repo, &next, &tree);
        assert_clean(&repo);
        last = next;
    }
    let cache = temporary_dir();
    let elsewhere = open(storage, cache.path()).unwrap();
    assert_tree(&elsewhere, &last, &tree);
}

#[test]
fn what_may_not_be_reused_is_read_again() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let tree = many(300);
    let (first, _) = backup_tree(&repo, "first", &tree, None).unwrap();
    let mut read_again = 0;
    for (number, pack) in names_below(&storage, "packs").into_iter().enumerate() {
        let damaged = storage.duplicate();
        damaged.remove_raw(&pack);
        let cache = temporary_dir();
        copy_dir(dir.path(), cache.path());
        let repo = open(damaged, cache.path()).unwrap();
        // Without its entry table, chunk list or file table an archive is no help at all.
        let reader = reader(&repo).unwrap();
        let Ok(entries) = reader.entries(&first) else { continue };
        let mut txn = begin(&repo, "second").unwrap();
        let (pending, walk) = add_tree(&txn, &tree, Some(&entries[0])).unwrap();
        txn.finish_entry(pending, EntryReport::default());
        let second = txn.commit().unwrap();
        assert_tree(&repo, &second, &tree);
        read_again += usize::from(walk.not_kept_files > 0);
        assert_eq!(
            walk.read_bytes > 0,
            walk.not_kept_files > 0 || walk.kept_files < tree.0.len(),
            "{number}"
        );
    }
    assert!(read_again > 3, "{read_again} packs had content");
}

/// What of a tree can be read, one file at a time.
fn unreadable(repo: &Repository, manifest: &ArchiveManifest) -> (Vec<Vec<u8>>, bool) {
    let reader = reader(repo).unwrap();
    let entry = tree_entry(&reader, manifest);
    let content = reader.open_random(&entry.stream).unwrap();
    let (mut files, mut table_hurt) = (Vec::new(), false);
    for file in reader.open_table(&entry).unwrap() {
        let Ok((record, range)) = file else {
            table_hurt = true;
            break;
        };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if content.read_at(range.start, &mut bytes).is_err() {
            files.push(record.path.to_vec());
        }
    }
    (files, table_hurt)
}

#[test]
fn a_check_names_the_table_and_the_files_that_are_hurt() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let mut tree = many(150);
    // A table that is worth damaging: nothing of these compresses.
    for (number, file) in (0..).zip(tree.0.values_mut()) {
        let value = noise(400, 1000 + number).into();
        file.record.xattrs = vec![Xattr { name: b"user.noise".to_vec().into(), value }];
    }
    backup_tree(&repo, "first", &tree, None).unwrap();
    let manifest = backup_tree(&repo, "tree", &tree, None).unwrap().0;
    let (mut with_files, mut with_table) = (0, 0);
    let packs = names_below(&storage, "packs");
    for (pack, eighth) in packs.iter().flat_map(|pack| [1, 3, 6].map(|eighth| (pack, eighth))) {
        let damaged = storage.duplicate();
        let mut bytes = damaged.read_raw(pack).unwrap().to_vec();
        let at = bytes.len() * eighth / 8;
        bytes[at] ^= 1;
        damaged.replace_raw(pack, bytes);
        let cache = temporary_dir();
        let repo = open(damaged, cache.path()).unwrap();
        let report = repo.check(CheckDepth::Data, Arc::new(NoMonitor)).unwrap();
        if reader(&repo).unwrap().entries(&manifest).is_err() {
            continue;
        }
        let (files, table_hurt) = unreadable(&repo, &manifest);
        let damage: Vec<&DamagedEntry> =
            report.damage.iter().filter(|damage| damage.archive == "tree").collect();
        let content = damage.iter().find(|damage| !damage.table);
        let table = damage.iter().find(|damage| damage.table);
        let named = content.map(|damage| damage.files.clone()).unwrap_or_default();
        assert!(named == files, "{pack}: {} files are named, {} are hurt", named.len(), files.len());
        assert_eq!(content.map_or(0, |damage| damage.file_count), files.len() as u64);
        assert_eq!(table.is_some(), table_hurt, "{pack}: {damage:?}");
        assert!(damage.iter().all(|damage| damage.entry == "files" && !damage.ranges.is_empty()));
        with_files += usize::from(!files.is_empty());
        with_table += usize::from(table_hurt);
    }
    assert!(with_files > 3 && with_table > 3, "{with_files} packs with content, {with_table} with the table");
}

#[test]
fn a_walk_that_fails_leaves_no_tree() {
    let dir = temporary_dir();
    let repo = init(MemoryStorage::new(), dir.path());
    let fail = || Error::Source { entry: "files".into(), source: io::Error::other("gone") };
    let mut txn = begin(&repo, "now").unwrap();
    add(&mut txn, "good", dbvault_format::entry::Grid::Content, &mut &noise(9000, 1)[..]).unwrap();
    let failed = txn.add_tree(tree_meta(), None, |writer| {
        writer.write(&noise(100_000, 2))?;
        writer.record(record("a", 100_000), 0)?;
        Err::<(), Error>(fail())
    });
    assert!(matches!(failed, Err(Error::Source { .. })), "{failed:?}");
    txn.leave_out("files", "gone");
    let manifest = txn.commit().unwrap();
    assert_eq!(restore(&reader(&repo).unwrap(), &manifest), Ok(streams(&[("good", &noise(9000, 1))])));
    assert_clean(&repo);

    let txn = begin(&repo, "again").unwrap();
    let failed = txn.add_tree(tree_meta(), None, |_| Err::<(), Error>(Error::Interrupted));
    assert!(matches!(failed, Err(Error::Interrupted)), "{failed:?}");
    assert!(matches!(txn.commit(), Err(Error::Poisoned)));
    assert_eq!(repo.archives().unwrap().archives.len(), 1);
}

/// A file that goes away while it is read.
struct Vanishing(usize);

impl Read for Vanishing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.0.min(out.len());
        self.0 -= len;
        out[..len].fill(7);
        if len == 0 { Err(io::Error::other("vanished")) } else { Ok(len) }
    }
}

#[test]
fn a_file_that_can_not_be_stored_is_left_out_and_the_tree_goes_on() {
    let dir = temporary_dir();
    let repo = init(MemoryStorage::new(), dir.path());
    let mut txn = begin(&repo, "now").unwrap();
    let (pending, ()) = txn
        .add_tree(tree_meta(), None, |writer| {
            let refused = |result: Result<()>| match result {
                Err(Error::Source { entry, .. }) => assert_eq!(entry, "files"),
                other => panic!("{other:?}"),
            };
            refused(writer.copy(&mut Vanishing(50_000), u64::MAX).map(drop));
            let position = writer.position();
            assert_eq!(position, 50_000);
            writer.write(b"good")?;
            writer.record(record("b", 4), position)?;
            // Before the last one, twice, more than was given, what the last one has, no path.
            refused(writer.record(record("a", 0), 0));
            refused(writer.record(record("b", 0), 0));
            refused(writer.record(record("c", 1), writer.position()));
            refused(writer.record(record("c", 1), writer.position() - 1));
            refused(writer.record(record(&"c/".repeat(3000), 0), 0));
            refused(writer.record(record("c", u64::MAX), 1));
            assert_eq!(writer.copy(&mut io::repeat(1), 10)?, 10);
            assert_eq!(writer.keep(&(0..4))?, None, "there is no base");
            writer.record(record("c", 3), writer.position() - 3)
        })
        .unwrap();
    txn.finish_entry(pending, EntryReport::default());
    let manifest = txn.commit().unwrap();
    let mut tree = Tree::default();
    tree.put_record(record("b", 4), b"good".to_vec());
    tree.put_record(record("c", 3), vec![1; 3]);
    assert_tree(&repo, &manifest, &tree);
    assert_clean(&repo);
}

/// A day in the life of a tree.
fn edit(tree: &mut Tree, numbers: &mut Numbers, version: &mut u64) {
    let edits = [0, 1, 3, 15, 50][numbers.below(5)];
    for _ in 0..edits {
        *version += 1;
        let paths: Vec<Path> = tree.0.keys().cloned().collect();
        let some = (!paths.is_empty()).then(|| paths[numbers.below(paths.len().max(1))].clone());
        let len = [0, 1, 300, 5000, 20_000, 150_000][numbers.below(6)];
        let new = format!("d{}/f{}", numbers.below(20), numbers.below(40));
        match (numbers.below(6), some) {
            (0, Some(path)) => drop(tree.0.remove(&path)),
            (1, Some(path)) => {
                let file = tree.0.remove(&path).unwrap();
                tree.put(&new, file.content, *version);
            }
            (2, Some(path)) if tree.0[&path].content.len() > 100 => {
                let content = edited(&tree.0[&path].content, 2, *version);
                tree.put(&String::from_utf8(path.0).unwrap(), content, *version);
            }
            (3, Some(path)) => {
                // Only the record.
                let file = tree.0.get_mut(&path).unwrap();
                file.record.mode ^= 0o111;
            }
            (4, _) => {
                let directory = FileRecord { kind: FileKind::Directory, ..record(&new, 0) };
                tree.put_record(directory, Vec::new());
            }
            _ => tree.put(&new, text(len, *version), *version),
        }
    }
}

#[test]
fn every_generation_of_a_tree_that_lives_restores_exactly() {
    const GENERATIONS: usize = 20;
    for seed in 0..4 {
        let (dir, storage) = (temporary_dir(), MemoryStorage::new());
        let repo = init(storage.clone(), dir.path());
        let (mut numbers, mut version) = (Numbers::new(seed), 0);
        let (mut tree, mut all): (_, Vec<(ArchiveManifest, Tree)>) = (Tree::default(), Vec::new());
        (0..10).for_each(|_| edit(&mut tree, &mut numbers, &mut version));
        for generation in 0..GENERATIONS {
            let old = all.last().map(|(manifest, _)| manifest.clone());
            let (manifest, walk) = backup_tree(&repo, &format!("{generation}"), &tree, old.as_ref()).unwrap();
            assert_eq!(walk.not_kept_files, 0, "seed {seed}, generation {generation}");
            assert_tree(&repo, &manifest, &tree);
            all.push((manifest, tree.clone()));
            edit(&mut tree, &mut numbers, &mut version);
            if numbers.below(4) == 0 && all.len() > 2 {
                let (gone, _) = all.remove(numbers.below(all.len() - 1));
                delete(&repo, &gone);
                collect(&repo);
            }
        }
        let cache = temporary_dir();
        let elsewhere = open(storage, cache.path()).unwrap();
        all.iter().for_each(|(manifest, tree)| assert_tree(&elsewhere, manifest, tree));
        assert_clean(&elsewhere);
    }
}

#[test]
fn what_is_passed_over_is_not_read() {
    let dir = temporary_dir();
    let repo = init(MemoryStorage::new(), dir.path());
    let bytes = noise(40 << 20, 1);
    let manifest = backup(&repo, "large", &streams(&[("x", &bytes)])).unwrap();
    let reader = reader(&repo).unwrap();
    let stream = reader.entries(&manifest).unwrap()[0].stream;
    let mut numbers = Numbers::new(3);
    for _ in 0..20 {
        let mut found = reader.open_stream(&stream).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let bound = [1, 1000, 1 << 20, 10 << 20, 60 << 20][numbers.below(5)];
            let skipped = numbers.below(bound);
            found.skip(skipped as u64);
            at = bytes.len().min(at + skipped);
            let len = numbers.below(bound.min(2 << 20)).min(bytes.len() - at);
            let mut read = vec![0; len];
            found.read_exact(&mut read).unwrap();
            assert!(read == bytes[at..at + len], "at {at}");
            at += len;
        }
        assert_eq!(found.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn the_chunks_of_a_stream_are_found_from_any_place() {
    let dir = temporary_dir();
    let repo = init(MemoryStorage::new(), dir.path());
    let bytes = noise(6 << 20, 1);
    let manifest = backup(&repo, "large", &streams(&[("x", &bytes)])).unwrap();
    let reader = reader(&repo).unwrap();
    let stream = reader.entries(&manifest).unwrap()[0].stream;
    let all: Vec<_> = reader.open_items(&stream).unwrap().map(Result::unwrap).collect();
    assert!(stream.levels > 1 && all.len() > 1000);
    let mut end = 0;
    for (begin, item) in &all {
        assert_eq!(*begin, end);
        end += item.stream_bytes;
    }
    assert_eq!(end, stream.bytes);
    for from in (0..all.len()).step_by(97) {
        let mut items = reader.open_items(&stream).unwrap();
        items.skip_to(all[from].0);
        assert!(items.map(Result::unwrap).eq(all[from..].iter().copied()), "{from}");
        let mut items = reader.open_items(&stream).unwrap();
        items.skip_to(all[from].0 + 1);
        let next = items.next().unwrap().unwrap();
        assert_eq!(next, all[from]);
    }
}

#[test]
fn a_crash_of_a_backup_of_a_tree() {
    let before = MemoryStorage::new();
    let dir = temporary_dir();
    let repo = init(before.clone(), dir.path());
    let first_tree = many(40);
    let (first, _) = backup_tree(&repo, "first", &first_tree, None).unwrap();
    let mut tree = first_tree.clone();
    tree.put("var/0/3", text(5000, 9), 9000);
    tree.put("var/1/23", noise(90_000, 9), 9001);
    let storage = CrashingStorage::starting_from(&before);
    let cache = temporary_dir();
    let (second, _) =
        backup_tree(&open(storage.clone(), cache.path()).unwrap(), "second", &tree, Some(&first)).unwrap();
    let done = storage.operations().len();
    let choice = CrashStateChoice { exhaustive_operations_max: 4, random_subsets_count: 6, seed: 1 };
    let states: Vec<CrashState> = storage.crash_states(choice).collect();
    println!("proof: a crash of a backup of a tree: {} states", states.len());
    in_parallel(&states, |state| {
        let cache = temporary_dir();
        let repo = open(state.storage.clone(), cache.path()).unwrap();
        assert_tree(&repo, &first, &first_tree);
        let there = repo.archives().unwrap().archives.len() == 2;
        assert!(there || state.prefix_len < done);
        if there {
            assert_tree(&repo, &second, &tree);
        }
        assert_clean(&repo);
        let (next, walk) = backup_tree(&repo, "next", &tree, Some(&first)).unwrap();
        assert_eq!(walk.not_kept_files, 0);
        assert_tree(&repo, &next, &tree);
        assert_clean(&repo);
    });
}

/// What `tests/golden/reader.py` needs.
const PYTHON_MODULES: &str = "import blake3, cryptography, argon2, zstandard";

#[test]
fn another_program_reads_a_tree() {
    let python = std::env::var("DBVAULT_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let modules = Command::new(&python).args(["-c", PYTHON_MODULES]).stderr(Stdio::null()).status();
    if !modules.is_ok_and(|status| status.success()) {
        println!("skipped: another_program_reads_a_tree: {python} lacks the modules of reader.py");
        return;
    }
    let dir = temporary_dir();
    let place = dir.path().join("repository");
    let repo = init(LocalStorage::create(&place).unwrap(), &dir.path().join("cache"));
    let mut tree = many(200);
    let (first, _) = backup_tree(&repo, "first", &tree, None).unwrap();
    let before = tree.clone();
    tree.0.remove(&Path("var/2/55".into()));
    tree.put("var/3/70", text(3000, 70), 9000);
    backup_tree(&repo, "second", &tree, Some(&first)).unwrap();
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, format!("dbvault key file v1\nkey: {}\n", "01".repeat(32))).unwrap();
    let out = dir.path().join("out");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/reader.py");
    let mut reader = Command::new(&python);
    let done = reader.arg(program).arg("--key-file").args([&key_file, &place, &out]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for (name, tree) in [("first", before), ("second", tree)] {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = |(Path(path), file): (&Path, &File)| {
            format!("{} {} {}\n", blake3::hash(&file.content), file.record.kind as u8, hex(path))
        };
        let sums = std::fs::read_to_string(out.join(name).join("files.sums")).unwrap();
        assert!(sums == tree.0.iter().map(line).collect::<String>(), "{name}");
    }
}
