//! What is said of archives: tags, protection, and what drills found.

use dbvault_format::id::SessionId;
use dbvault_repo::{Error, PROOF_DETAIL_BYTES_MAX, Proof};
use dbvault_storage::MemoryStorage;

use crate::common::{backup, init, open, streams, temporary_dir};

fn proof(entry: &str, proven_ms: i64, ok: bool) -> Proof {
    let detail = if ok { "rows compared" } else { "3 rows are missing" };
    Proof { entry: entry.into(), proven_ms, ok, detail: detail.into(), rows: ok.then_some(100) }
}

#[test]
fn the_last_proof_of_each_entry_counts_and_tags_stay_beside_it() {
    let (storage, dir) = (MemoryStorage::new(), temporary_dir());
    let repo = init(storage.clone(), dir.path());
    let id = backup(&repo, "one", &streams(&[("users", b"1"), ("orders", b"2")])).unwrap().id;
    repo.remark(&id, |remarks| {
        remarks.tags.insert("keep".into());
    })
    .unwrap();
    repo.record_proof(&id, proof("users", 10, true)).unwrap();
    repo.record_proof(&id, proof("orders", 11, true)).unwrap();
    repo.record_proof(&id, proof("users", 12, false)).unwrap();
    repo.remark(&id, |remarks| remarks.protected = true).unwrap();
    let other = open(storage, dir.path()).unwrap();
    let remarks = other.find_archive("one").unwrap().remarks;
    assert!(remarks.protected && remarks.tags.contains("keep"));
    let proofs: Vec<Proof> = remarks.proofs.into_values().collect();
    assert_eq!(proofs, [proof("orders", 11, true), proof("users", 12, false)]);
}

#[test]
fn a_proof_belongs_to_an_archive_and_is_not_endless() {
    let (storage, dir) = (MemoryStorage::new(), temporary_dir());
    let repo = init(storage, dir.path());
    let nobody = repo.record_proof(&SessionId([9; 16]), proof("users", 1, true));
    assert!(matches!(nobody, Err(Error::NoSuchArchive { .. })), "{nobody:?}");
    let id = backup(&repo, "one", &streams(&[("users", b"1")])).unwrap().id;
    let long = Proof { detail: "é".repeat(PROOF_DETAIL_BYTES_MAX), ..proof("users", 1, false) };
    let remarks = repo.record_proof(&id, long).unwrap();
    assert_eq!(remarks.proofs["users"].detail, "é".repeat(PROOF_DETAIL_BYTES_MAX / 2));
}

#[test]
fn a_name_and_a_comment_given_later_are_those_that_count() {
    let (storage, dir) = (MemoryStorage::new(), temporary_dir());
    let repo = init(storage.clone(), dir.path());
    let id = backup(&repo, "one", &streams(&[("users", b"1")])).unwrap().id;
    let other_id = backup(&repo, "two", &streams(&[("users", b"2")])).unwrap().id;
    repo.rename(&id, "first").unwrap();
    repo.remark(&id, |remarks| remarks.comment = Some("before the upgrade".into())).unwrap();
    repo.remark(&id, |remarks| remarks.protected = true).unwrap();
    let other = open(storage, dir.path()).unwrap();
    let found = other.find_archive("first").unwrap();
    assert_eq!((found.manifest.id, found.manifest.name.as_str()), (id, "first"));
    assert_eq!(found.manifest.comment.as_deref(), Some("before the upgrade"));
    assert!(matches!(other.find_archive("one"), Err(Error::NoSuchArchive { .. })));
    let known = other.archives().unwrap();
    assert_eq!(other.archives_after(&known).unwrap().archives, known.archives);

    let taken = repo.rename(&other_id, "first");
    assert!(matches!(taken, Err(Error::NameTaken { .. })), "{taken:?}");
    for bad in ["", "a\nb", &"x".repeat(5000)] {
        assert!(matches!(repo.rename(&other_id, bad), Err(Error::BadName { .. })), "{bad}");
    }
    // Its old name is free again, its new one is not.
    backup(&repo, "first", &streams(&[])).unwrap_err();
    backup(&repo, "one", &streams(&[("users", b"3")])).unwrap();
    repo.rename(&id, "first").unwrap();
    repo.remark(&id, |remarks| remarks.comment = Some(String::new())).unwrap();
    assert_eq!(other.find_archive("first").unwrap().manifest.comment, None);
}
