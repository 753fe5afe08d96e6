//! Trees looked into by path: every path is found, every directory has what it should, wherever one begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dbvault_format::file_table::Xattr;
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{FileContent, Found, Reader, TableIndex};
use dbvault_storage::MemoryStorage;

use crate::common::*;
use crate::tree_model::*;

/// `everything`, and so many files in directories that have no record, some with long paths.
fn many(count: u64) -> Tree {
    let mut tree = everything();
    for number in 0..count {
        let directory = format!("var/{}/{}", number / 300, "x".repeat(number as usize / 7 % 90));
        let path = format!("{directory}/{number}").replace("//", "/");
        tree.put(&path, text(20 + number as usize % 100, number), 100 + number);
        // So that the table is in several packs.
        let note = Xattr { name: b"user.note".to_vec().into(), value: noise(200, number).into() };
        tree.0.get_mut(&Path(path.into())).unwrap().record.xattrs = vec![note];
    }
    tree
}

fn stored(tree: &Tree, change: impl FnOnce(&MemoryStorage)) -> (Arc<Reader>, EntryRecord) {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let (manifest, _) = backup_tree(&repo, "tree", tree, None).unwrap();
    let entry = tree_entry(&reader(&repo).unwrap(), &manifest);
    change(&storage);
    (reader(&repo).unwrap(), entry)
}

/// Names in each directory, by its path.
fn directories(tree: &Tree) -> BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> {
    let mut directories = BTreeMap::<_, BTreeSet<_>>::from([(Vec::new(), BTreeSet::new())]);
    for Path(path) in tree.0.keys().filter(|path| !path.0.is_empty()) {
        let mut above = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            directories.entry(above.clone()).or_default().insert(name.to_vec());
            if !above.is_empty() {
                above.push(b'/');
            }
            above.extend_from_slice(name);
        }
    }
    directories
}

fn listed(index: &TableIndex, directory: &[u8], from: Option<u64>, max: usize) -> Vec<(Vec<u8>, u64)> {
    let mut found = Vec::new();
    index
        .list(directory, from, |listed| {
            found.push((listed.name.to_vec(), listed.next));
            found.len() < max
        })
        .unwrap();
    found
}

#[test]
fn every_path_is_found_and_every_directory_listed() {
    for tree in [Tree::default(), everything(), many(3000)] {
        let (reader, entry) = stored(&tree, |_| {});
        let index = TableIndex::build(&reader, &entry, Arc::default()).unwrap();
        assert!(!index.is_broken());
        for (Path(path), file) in tree.0.iter().filter(|(path, _)| !path.0.is_empty()) {
            let Ok(Some(Found::File(found))) = index.find(path) else { panic!("{path:?}") };
            assert_eq!((&found.record.path, &found.record.kind), (&file.record.path, &file.record.kind));
            assert_eq!(index.get(found.at).unwrap().as_deref(), Some(&*found));
            assert_eq!(index.get(found.at + 1).unwrap(), None);
            assert_eq!(index.find(&[path, b"-none".as_slice()].concat()).unwrap(), None);
        }
        for (directory, names) in directories(&tree) {
            let all = listed(&index, &directory, None, usize::MAX);
            let want: Vec<Vec<u8>> = names.into_iter().collect();
            assert_eq!(all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), want, "{directory:?}");
            for (number, (_, next)) in all.iter().enumerate().step_by(1 + all.len() / 20) {
                assert_eq!(
                    listed(&index, &directory, Some(*next), 5),
                    all[number + 1..].iter().take(5).cloned().collect::<Vec<_>>()
                );
            }
            if !directory.is_empty() && !tree.0.contains_key(&Path(directory.clone())) {
                let Ok(Some(Found::Implied(number))) = index.find(&directory) else {
                    panic!("{directory:?}")
                };
                assert_eq!(index.implied(number), Some(directory.as_slice()));
            }
        }
        if tree.0.len() > 3 {
            assert_eq!((index.name_count(b"etc/hosts"), index.name_count(b"etc/large")), (2, 1));
        }
        for path in ["a", "etc/", "etc/hosts/x", "etc/zzz", "zzz", "etc-/x"] {
            assert_eq!(index.find(path.as_bytes()).unwrap(), None, "{path}");
        }
    }
}

#[test]
fn files_read_at_any_place_as_they_were_with_their_holes() {
    let tree = everything();
    let (reader, entry) = stored(&tree, |_| {});
    let index = TableIndex::build(&reader, &entry, Arc::default()).unwrap();
    let open = |path: &str| {
        let Ok(Some(Found::File(found))) = index.find(path.as_bytes()) else { panic!("{path}") };
        let random = reader.open_random(&entry.stream).unwrap();
        FileContent::new(random, &found.record, found.content.clone())
    };
    let read =
        |file: &FileContent, at, size| file.read_with(at, size, &mut vec![7; 3], <[u8]>::to_vec).unwrap();
    let large = &tree.0[&Path(b"etc/large".to_vec())].content;
    let file = open("etc/large");
    assert_eq!(read(&file, 0, 1 << 20), *large);
    assert_eq!(read(&file, 199_990, 100), large[199_990..]);
    assert_eq!(read(&file, 200_000, 100), [0; 0]);
    assert_eq!((file.next_data(5), file.next_hole(5), file.next_data(200_000)), (Some(5), 200_000, None));

    let stored = &tree.0[&Path(b"etc/sparse".to_vec())].content;
    let file = open("etc/sparse");
    let first = [&[0; 10], &stored[..100], &[0; 90]].concat();
    assert_eq!(read(&file, 0, 200), first);
    assert_eq!(read(&file, 50, 100), first[50..150]);
    assert_eq!(read(&file, (1 << 40) - 10, 6000)[..5020], [&[0; 10], &stored[100..], &[0; 10]].concat()[..]);
    assert_eq!(read(&file, (1 << 41) - 5, 100), [0; 5]);
    assert_eq!(
        [0, 10, 109, 110].map(|at| file.next_data(at)),
        [Some(10), Some(10), Some(109), Some(1 << 40)]
    );
    assert_eq!(file.next_data((1 << 40) + 5000), None);
    assert_eq!([0, 10, 109, 110, 1 << 40].map(|at| file.next_hole(at)), [0, 110, 110, 110, (1 << 40) + 5000]);
}

#[test]
fn what_is_before_damage_is_found_and_what_is_behind_an_error() {
    let tree = many(6000);
    let (mut broken, mut whole) = (0, 0);
    let names = {
        let (dir, storage) = (temporary_dir(), MemoryStorage::new());
        let repo = init(storage.clone(), dir.path());
        let (manifest, _) = backup_tree(&repo, "tree", &tree, None).unwrap();
        let entry = tree_entry(&reader(&repo).unwrap(), &manifest);
        let packs = names_below(&storage, "packs");
        packs
            .into_iter()
            .map(|pack| (pack, storage.duplicate(), entry.clone(), dir.path().to_owned()))
            .collect::<Vec<_>>()
    };
    for (pack, storage, entry, _) in names {
        storage.remove_raw(&pack);
        let cache = temporary_dir();
        let Ok(repo) = open(storage, cache.path()) else { continue };
        let reader = reader(&repo).unwrap();
        let index = TableIndex::build(&reader, &entry, Arc::default()).unwrap();
        if !index.is_broken() {
            assert!(index.find(b"zzz").unwrap().is_none());
            whole += 1;
            continue;
        }
        index.find(b"zzz").unwrap_err();
        let mut shown = 0;
        let listed = index.list(b"", None, |_| {
            shown += 1;
            true
        });
        listed.unwrap_err();
        broken += 1;
        if shown > 1 {
            assert!(matches!(index.find(b"etc/hosts"), Ok(Some(Found::File(_)))));
        }
    }
    assert!(broken > 0 && whole > 0, "{broken} packs have the table, {whole} have not");
}
