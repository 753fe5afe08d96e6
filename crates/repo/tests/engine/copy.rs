//! Copying: between repositories that share their keys records go over as they are, between others streams do; what
//! arrives is whole or not there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dbvault_format::config::RepoParams;
use dbvault_format::pack::ChunkEntry;
use dbvault_repo::{
    ArchiveInfo, Copied, Counter, Counterpart, Error, Monitor, NoMonitor, Phase, Reader, Repository,
};
use dbvault_storage::{MemoryStorage, Storage};

use crate::common::*;
use crate::objects::all_chunks;
use crate::tree_model::*;

/// A repository beside another: with the same keys, or its own.
fn other(like: Option<&Repository>, storage: impl Storage + 'static, dir: &Path) -> Repository {
    match like {
        // Whatever is encoded there has other bytes than what is carried.
        Some(like) => {
            let params = RepoParams { level: 19, ..like.params().clone() };
            like.init_like(Arc::new(storage), params, &secret(2), "other").unwrap()
        }
        None => init(storage, dir),
    }
}

fn infos(repo: &Repository) -> Vec<ArchiveInfo> {
    repo.archives().unwrap().archives
}

fn copy(from: &Arc<Reader>, to: &Repository, info: &ArchiveInfo) -> Result<Copied> {
    to.copy_archive(from, info, Arc::new(NoMonitor))
}

/// Three days of a stream, each stored against the one before, and one of noise; and what they should be.
fn days(repo: &Repository) -> Expected {
    let mut day = text(300 << 10, 1);
    let mut expected = Expected::new();
    for number in 0..3 {
        let streams = streams(&[("rows", &day), ("noise", &noise(40 << 10, number)), ("empty", b"")]);
        backup(repo, &format!("day {number}"), &streams).unwrap();
        expected.insert(format!("day {number}"), streams);
        day = edited(&day, 20, number);
    }
    expected
}

#[test]
fn shared_keys_carry_records_as_they_are() {
    let (dir, storage, there) = (temporary_dir(), MemoryStorage::new(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    let mut expected = days(&repo);
    let to = other(Some(&repo), there.clone(), dir.path());
    assert!(repo.shares_keys_with(&to) && repo.id() != to.id());
    let from = reader(&repo).unwrap();
    // The last day first: all that it is stored against comes along.
    let mut archives = infos(&repo);
    archives.reverse();
    let first = copy(&from, &to, &archives[0]).unwrap();
    assert!(first.counts.carried_chunks > 0 && first.manifest.sizes.delta_chunks > 0, "{first:?}");
    assert_eq!(first.counts.recoded_chunks, 0);
    for info in &archives[1..] {
        let copied = copy(&from, &to, info).unwrap();
        assert_eq!(copied.counts.recoded_chunks, 0);
        assert!(copied.manifest.sizes.stored_bytes < first.manifest.sizes.stored_bytes, "{copied:?}");
    }
    assert_archives(&to, &expected, None);
    assert_clean(&to);
    // Forms, depths and bases of all but the lists of entries are those that were stored here, features too.
    let key = |entry: ChunkEntry| {
        (entry.id, entry.codec as u8, entry.depth, entry.sealed_len, entry.base, entry.features)
    };
    let here: Vec<_> = all_chunks(&storage, &repo).into_iter().map(key).collect();
    let (known, new): (Vec<_>, Vec<_>) =
        all_chunks(&there, &to).into_iter().map(key).partition(|entry| here.contains(entry));
    assert!(known.len() > 100 && new.len() <= 3 * 2, "{} and {}", known.len(), new.len());
    // The same once more, from a client that has seen nothing, and a backup there that builds on what was carried.
    let counterparts = to.counterparts(&infos(&repo)).unwrap();
    assert!(counterparts.iter().all(|found| matches!(found, Counterpart::There { deleted: false, .. })));
    let elsewhere = temporary_dir();
    let again = Repository::open(Arc::new(there), client(elsewhere.path()), &secret(2)).unwrap();
    let today = streams(&[("rows", &edited(&expected["day 2"]["rows"], 5, 9))]);
    let manifest = backup(&again, "today", &today).unwrap();
    assert!(manifest.sizes.new_chunks * 5 < manifest.sizes.chunks, "{manifest:?}");
    assert!(manifest.sizes.delta_chunks > 0, "{manifest:?}");
    expected.insert("today".into(), today);
    assert_archives(&again, &expected, None);
}

#[test]
fn other_keys_read_streams_and_trees_anew() {
    for shared in [false, true] {
        let (dir, there) = (temporary_dir(), MemoryStorage::new());
        let repo = init(MemoryStorage::new(), dir.path());
        let tree = everything();
        let (made, _) = backup_tree(&repo, "tree", &tree, None).unwrap();
        backup(&repo, "stream", &streams(&[("rows", &text(200 << 10, 2))])).unwrap();
        repo.remark(&made.id, |remarks| {
            remarks.tags = BTreeSet::from(["kept".to_owned()]);
            remarks.protected = true;
            remarks.comment = Some("of the other".into());
        })
        .unwrap();
        repo.rename(&made.id, "renamed").unwrap();
        let to = other(shared.then_some(&repo), there, dir.path());
        let from = reader(&repo).unwrap();
        for info in infos(&repo) {
            let Copied { manifest, counts } = copy(&from, &to, &info).unwrap();
            assert_eq!(counts.recoded_chunks > 0, !shared, "{counts:?}");
            assert_eq!(counts.carried_chunks > 0, shared, "{counts:?}");
            let (old, new) = (&info.manifest, &manifest);
            assert_eq!((new.started_ms, new.finished_ms), (old.started_ms, old.finished_ms));
            assert_eq!((&new.host, &new.user, &new.name), (&old.host, &old.user, &old.name));
            assert_eq!(new.comment, old.comment);
        }
        let copy = to.find_archive("renamed").unwrap();
        assert!(copy.remarks.protected && copy.remarks.tags.contains("kept"));
        assert_eq!(copy.manifest.comment.as_deref(), Some("of the other"));
        assert_tree(&to, &copy.manifest, &tree);
        let streams = restore(&reader(&to).unwrap(), &to.find_archive("stream").unwrap().manifest).unwrap();
        assert_eq!(streams["rows"], text(200 << 10, 2));
        assert_clean(&to);
        // A copy that was renamed there is still one; another archive of the name is none.
        to.rename(&copy.manifest.id, "mine").unwrap();
        let found = to.counterparts(&infos(&repo)).unwrap();
        assert!(found.iter().all(|found| matches!(found, Counterpart::There { .. })), "{found:?}");
        backup(&repo, "mine", &Streams::new()).unwrap();
        let found = to.counterparts(&infos(&repo)).unwrap();
        assert_eq!(found.last(), Some(&Counterpart::NameTaken));
    }
}

#[test]
fn a_damaged_archive_is_named_and_the_others_are_copied() {
    for shared in [false, true] {
        let (dir, storage, there) = (temporary_dir(), MemoryStorage::new(), MemoryStorage::new());
        let repo = init(storage.clone(), dir.path());
        let good = streams(&[("rows", &noise(60 << 10, 1))]);
        backup(&repo, "good", &good).unwrap();
        let before = names_below(&storage, "packs");
        backup(&repo, "bad", &streams(&[("rows", &noise(60 << 10, 2))])).unwrap();
        for name in names_below(&storage, "packs").into_iter().filter(|name| !before.contains(name)) {
            let mut bytes = storage.read_raw(&name).unwrap().to_vec();
            bytes[200] ^= 1;
            storage.replace_raw(&name, bytes);
        }
        let to = other(shared.then_some(&repo), there, dir.path());
        let from = reader(&repo).unwrap();
        for info in infos(&repo) {
            let copied = copy(&from, &to, &info);
            if info.manifest.name == "good" {
                copied.unwrap();
                continue;
            }
            let Err(Error::Unreadable { archive, entry, .. }) = copied else { panic!("{copied:?}") };
            assert_eq!((archive.as_str(), entry.as_str()), ("bad", "rows"));
        }
        assert_archives(&to, &[("good".to_owned(), good)].into(), None);
        assert_clean(&to);
    }
}

/// Asks for a stop once something has been stored.
struct StopAfterAnEntry(Arc<AtomicBool>);

impl Monitor for StopAfterAnEntry {
    fn add(&self, counter: Counter, _: u64) {
        if counter == Counter::StoredBytes {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    fn expect(&self, _: Counter, _: u64) {}
    fn phase(&self, _: Phase) {}
}

#[test]
fn a_copy_that_was_stopped_goes_on_where_it_was() {
    for shared in [false, true] {
        let (dir, params) = (temporary_dir(), small_params());
        let client = client(dir.path());
        let make = || {
            Repository::init(Arc::new(MemoryStorage::new()), client.clone(), params.clone(), &secret(1), "")
        };
        let repo = make().unwrap();
        let names: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
        let all: Streams =
            names.iter().zip(0..).map(|(name, seed)| (name.clone(), noise(100 << 10, seed))).collect();
        backup(&repo, "all", &all).unwrap();
        let info = infos(&repo).remove(0);
        let to = match shared {
            true => repo.init_like(Arc::new(MemoryStorage::new()), params.clone(), &secret(1), "").unwrap(),
            false => make().unwrap(),
        };
        let monitor = Arc::new(StopAfterAnEntry(client.interrupt.clone()));
        let from = repo.reader(monitor.clone()).unwrap();
        let stopped = to.copy_archive(&from, &info, monitor);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
        client.interrupt.store(false, Ordering::Relaxed);
        assert_archives(&to, &Expected::new(), None);
        let copied = copy(&reader(&repo).unwrap(), &to, &info).unwrap();
        let sizes = copied.manifest.sizes;
        assert!(sizes.new_bytes < sizes.original_bytes, "{sizes:?}");
        assert_archives(&to, &[("all".to_owned(), all)].into(), None);
        assert_clean(&to);
    }
}
