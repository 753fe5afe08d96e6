//! Who may open a repository, and what is said to those who may not.

use std::sync::Arc;

use dbvault_format::header::MAGIC;
use dbvault_format::id::SlotId;
use dbvault_format::key_slot::{Secret, SlotKind};
use dbvault_format::keys::MasterKey;
use dbvault_repo::{Error, Repository};
use dbvault_storage::MemoryStorage;
use zeroize::Zeroizing;

use crate::common::*;
use crate::objects::{names, pack_object};
use crate::sample::Sample;

/// Where the format version stands in every object.
const VERSION_AT: usize = 10;

fn try_open(storage: &MemoryStorage, dir: &tempfile::TempDir, secret: &Secret) -> Result<Repository> {
    Repository::open(Arc::new(storage.clone()), client(dir.path()), secret)
}

fn passphrase(words: &str) -> Secret {
    Secret::Passphrase(Zeroizing::new(words.into()))
}

fn vault() -> (MemoryStorage, tempfile::TempDir, Repository) {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let repo = init(storage.clone(), dir.path());
    backup(&repo, "archive", &streams(&[("entry", b"bytes")])).unwrap();
    (storage, dir, repo)
}

#[test]
fn a_wrong_secret_no_repository_and_one_that_is_there_are_told_apart() {
    let (storage, dir, _) = vault();
    for wrong in [secret(9), Secret::KeyFile(Zeroizing::new(Vec::new())), passphrase("words")] {
        assert!(matches!(try_open(&storage, &dir, &wrong), Err(Error::WrongSecret { .. })), "{wrong:?}");
    }
    let nothing = MemoryStorage::new();
    assert!(matches!(try_open(&nothing, &dir, &secret(1)), Err(Error::NoRepository { .. })));
    assert!(matches!(Repository::probe(&nothing), Err(Error::NoRepository { .. })));
    let objects = storage.object_names();
    let client = client(dir.path());
    let again = Repository::init(Arc::new(storage.clone()), client, small_params(), &secret(1), "");
    assert!(matches!(again, Err(Error::RepositoryExists { .. })));
    assert_eq!(storage.object_names(), objects, "nothing is changed");
}

#[test]
fn each_of_two_slots_opens_and_the_last_one_stays() {
    let (storage, dir, repo) = vault();
    let second = repo.add_key(&secret(2), "second").unwrap();
    let slots = repo.key_slots().unwrap();
    let labels: Vec<(&str, bool)> = slots.iter().map(|slot| (slot.label.as_str(), slot.current)).collect();
    assert!(labels.contains(&("first", true)) && labels.contains(&("second", false)), "{labels:?}");
    for byte in [1, 2] {
        let repo = try_open(&storage, &dir, &secret(byte)).unwrap();
        let archive = repo.find_archive("archive").unwrap();
        assert_eq!(restore(&reader(&repo).unwrap(), &archive.manifest).unwrap()["entry"], b"bytes");
    }
    let first = slots.iter().find(|slot| slot.current).unwrap().id;
    repo.remove_key(&first).unwrap();
    assert!(matches!(try_open(&storage, &dir, &secret(1)), Err(Error::WrongSecret { .. })));
    assert!(matches!(repo.remove_key(&second), Err(Error::LastSlot { id }) if id == second));
    assert!(matches!(repo.remove_key(&first), Err(Error::NoSuchSlot { id }) if id == first));
    assert!(matches!(repo.remove_key(&SlotId([0; 8])), Err(Error::NoSuchSlot { .. })));
    try_open(&storage, &dir, &secret(2)).unwrap();
    assert!(repo.add_key(&secret(3), &"x".repeat(129)).is_err(), "a label that is too long");
    assert_eq!(names(&storage, "keys/").len(), 1);
    assert_clean(&repo);
}

#[test]
fn a_slot_is_replaced_under_its_label() {
    let (storage, dir, repo) = vault();
    let id = repo.replace_key(&passphrase("correct horse")).unwrap();
    assert!(matches!(try_open(&storage, &dir, &secret(1)), Err(Error::WrongSecret { .. })));
    assert!(matches!(try_open(&storage, &dir, &passphrase("wrong")), Err(Error::WrongSecret { .. })));
    let repo = try_open(&storage, &dir, &passphrase("correct horse")).unwrap();
    let slots = repo.key_slots().unwrap();
    assert_eq!((slots.len(), slots[0].id, slots[0].label.as_str()), (1, id, "first"));
    assert_eq!((slots[0].kind, slots[0].current), (SlotKind::Passphrase, true));
    assert_eq!(Repository::probe(&storage).unwrap().slot_kinds, [SlotKind::Passphrase]);
}

#[test]
fn an_exported_key_opens_a_repository_whose_slots_are_lost() {
    let (storage, dir, repo) = vault();
    let exported = repo.export_key();
    names(&storage, "keys/").iter().for_each(|name| assert!(storage.remove_raw(name)));
    assert!(matches!(try_open(&storage, &dir, &secret(1)), Err(Error::WrongSecret { .. })));
    let import = |master: &MasterKey| {
        let client = client(dir.path());
        Repository::import_key(Arc::new(storage.clone()), client, master, &secret(5), "found")
    };
    assert!(matches!(import(&MasterKey([3; 32])), Err(Error::WrongSecret { .. })));
    assert!(names(&storage, "keys/").is_empty(), "a wrong key makes no slot");
    import(&exported).unwrap();
    let repo = try_open(&storage, &dir, &secret(5)).unwrap();
    assert_eq!(restore_one(&repo), b"bytes");
    assert_clean(&repo);
}

fn restore_one(repo: &Repository) -> Vec<u8> {
    let manifest = repo.find_archive("archive").unwrap().manifest;
    restore(&reader(repo).unwrap(), &manifest).unwrap().remove("entry").unwrap()
}

/// Whatever is done that needs the object ends with [`Error::Newer`], naming it; what does not need it works.
#[test]
fn an_object_of_a_newer_format_is_said_to_be_newer() {
    let sample = Sample::new();
    let mut kinds = std::collections::BTreeSet::new();
    for name in sample.storage.object_names() {
        let mut bytes = sample.storage.read_raw(&name).unwrap().to_vec();
        assert_eq!(bytes[..8], MAGIC);
        let kind = bytes[8];
        kinds.insert(kind);
        bytes[VERSION_AT] += 1;
        let (dir, storage) = (temporary_dir(), sample.storage.duplicate());
        if kind == 3 {
            // A pack is named by its bytes: this is how a later version would store it.
            storage.remove_raw(&name);
            let hash = dbvault_format::id::PackName(*blake3::hash(&bytes).as_bytes());
            storage.replace_raw(&pack_object(&hash), bytes);
            let report = check(&try_open(&storage, &dir, &secret(1)).unwrap()).unwrap();
            let newer = |problem: &str| problem.contains("newer than this program");
            assert!(report.findings.iter().any(|f| f.object == pack_object(&hash) && newer(&f.problem)));
            continue;
        }
        storage.replace_raw(&name, bytes);
        let newer =
            |e: Error| assert!(matches!(&e, Error::Newer { location, .. } if *location == name), "{e:?}");
        let opened = try_open(&storage, &dir, &secret(1));
        match (kind, name.split('/').next().unwrap()) {
            (1, _) => newer(opened.unwrap_err()),
            // One of two slots: the other one opens.
            (_, "keys") => {
                let opened = [1, 2].map(|byte| try_open(&storage, &dir, &secret(byte)).is_ok());
                assert_eq!(opened.iter().filter(|opened| **opened).count(), 1);
            }
            (_, "sessions") => newer(check(&opened.unwrap()).unwrap_err()),
            (_, "trash") if !name.ends_with("00000002") => newer(check(&opened.unwrap()).unwrap_err()),
            (_, "trash") => newer(opened.unwrap().archives().unwrap_err()),
            (_, "archives" | "index" | "condemned" | "roots") => {
                let repo = opened.unwrap();
                let folded = sample.dispensable.contains(&name) && name.starts_with("index/");
                if !folded {
                    newer(reader(&repo).unwrap_err());
                    newer(begin(&repo, "next").unwrap_err());
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), (1..=10).collect::<Vec<u8>>(), "every kind of object");
}

#[test]
fn slots_that_are_all_newer_are_said_to_be_newer() {
    let (storage, dir, _) = vault();
    for name in names(&storage, "keys/") {
        let mut bytes = storage.read_raw(&name).unwrap().to_vec();
        bytes[VERSION_AT] += 1;
        storage.replace_raw(&name, bytes);
    }
    assert!(matches!(try_open(&storage, &dir, &secret(1)), Err(Error::Newer { .. })));
}
