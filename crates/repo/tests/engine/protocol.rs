//! What other parties of the protocol leave in the repository, made by hand: fences, condemned lists, roots.

use dbvault_format::entry::Grid;
use dbvault_format::header::ObjectKind;
use dbvault_format::id::{PackName, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::manifest::Fence;
use dbvault_format::object::to_cbor;
use dbvault_format::root::{Condemned, Root};
use dbvault_repo::{Error, Repository};
use dbvault_storage::MemoryStorage;
use tempfile::TempDir;

use crate::common::*;
use crate::objects::*;

struct Vault {
    dir: TempDir,
    storage: MemoryStorage,
    repo: Repository,
}

impl Vault {
    fn new() -> Vault {
        let (dir, storage) = (temporary_dir(), MemoryStorage::new());
        let repo = init(storage.clone(), dir.path());
        Vault { dir, storage, repo }
    }

    /// As seen by a client with an empty cache.
    fn elsewhere(&self) -> Repository {
        open(self.storage.clone(), &self.dir.path().join("elsewhere")).unwrap()
    }

    fn put(&self, name: &str, kind: ObjectKind, body: &[u8]) {
        put_sealed(&self.storage, &self.repo, name, kind, body);
    }

    fn fence(&self, session: &SessionId) {
        let fence = Fence { session: *session, fenced_ms: 5, host: "collector".into() };
        self.put(&format!("archives/{session}"), ObjectKind::Fence, &to_cbor(&fence));
    }

    fn condemn(&self, number: u32, packs: &[PackName]) {
        let list = Condemned { packs: packs.to_vec() };
        self.put(&format!("condemned/{number:08}"), ObjectKind::Condemned, &to_cbor(&list));
    }

    fn decide(&self, number: u32, root: &Root) {
        self.put(&format!("roots/{number:08}"), ObjectKind::Root, &to_cbor(root));
    }

    fn packs(&self) -> Vec<PackName> {
        names(&self.storage, "packs/").iter().map(|name| pack_name(name)).collect()
    }

    fn delete_packs(&self, packs: &[PackName]) {
        packs.iter().for_each(|pack| assert!(self.storage.remove_raw(&pack_object(pack))));
    }

    fn packs_listed_by(&self, session: &SessionId) -> Vec<PackName> {
        listings(&self.storage, &self.repo, session).into_iter().map(|pack| pack.name).collect()
    }
}

fn data() -> Streams {
    streams(&[("noise", &noise(300 << 10, 1)), ("text", &text(300 << 10, 2))])
}

fn one(name: &str, data: &Streams) -> Expected {
    [(name.to_owned(), data.clone())].into()
}

#[test]
fn a_fenced_session_does_not_commit_and_its_packs_are_not_built_on() {
    for cold in [false, true] {
        let vault = Vault::new();
        let mut txn = begin(&vault.repo, "fenced").unwrap();
        for (name, bytes) in &data() {
            add(&mut txn, name, Grid::Content, &mut &bytes[..]).unwrap();
        }
        let session = *txn.id();
        // A collector wants its packs, waits in vain for a sign of life, and takes its right to commit.
        let doomed = vault.packs();
        assert!(!doomed.is_empty());
        vault.condemn(1, &doomed);
        vault.fence(&session);
        assert!(matches!(txn.commit(), Err(Error::Fenced { id }) if id == session));
        assert_archives(&vault.repo, &Expected::new(), None);
        assert_clean(&vault.repo);
        let repo = if cold { vault.elsewhere() } else { vault.repo.clone() };
        backup(&repo, "next", &data()).unwrap();
        vault.delete_packs(&doomed);
        assert_archives(&vault.elsewhere(), &one("next", &data()), None);
        assert_clean(&vault.elsewhere());
    }
}

/// What a writer does with packs that `prepare` forbids: neither the same stream nor one like it may need them.
fn assert_not_reused(prepare: impl Fn(&Vault, &[PackName])) {
    for next in [data(), data().into_iter().map(|(name, bytes)| (name, edited(&bytes, 9, 3))).collect()] {
        let vault = Vault::new();
        backup(&vault.repo, "old", &data()).unwrap();
        let old = vault.packs();
        prepare(&vault, &old);
        let id = backup(&vault.repo, "new", &next).unwrap().id;
        assert!(vault.packs_listed_by(&id).iter().all(|pack| !old.contains(pack)));
        // The collection goes on: the archive that was given up, its packs, its segments.
        vault.delete_packs(&old);
        for archive in vault.repo.archives().unwrap().archives {
            if archive.manifest.name == "old" {
                let session = archive.manifest.id;
                vault.storage.remove_raw(&format!("archives/{session}"));
                names(&vault.storage, &format!("index/{session}/")).iter().for_each(|name| {
                    vault.storage.remove_raw(name);
                });
            }
        }
        assert_archives(&vault.repo, &one("new", &next), None);
        assert_clean(&vault.elsewhere());
    }
}

#[test]
fn packs_condemned_by_an_undecided_epoch_are_not_reused() {
    assert_not_reused(|vault, packs| vault.condemn(1, packs));
    // The epoch after one that is decided.
    assert_not_reused(|vault, packs| {
        vault.decide(1, &Root::default());
        vault.condemn(2, packs);
    });
}

#[test]
fn packs_that_a_root_deletes_are_not_reused() {
    let root = |packs: &[PackName]| Root { deleted: packs.to_vec(), ..Root::default() };
    assert_not_reused(|vault, packs| vault.decide(1, &root(packs)));
    assert_not_reused(|vault, packs| {
        vault.condemn(1, packs);
        vault.decide(1, &root(packs));
    });
}

/// A collector of epoch 1 may still be about to delete them, though nobody speaks of them any more but its list (W1,
/// rule 3).
#[test]
fn packs_of_the_list_of_a_decided_epoch_are_not_adopted() {
    let vault = Vault::new();
    suspend(&vault.repo, "interrupted", &data());
    let packs = vault.packs();
    vault.condemn(1, &packs);
    vault.decide(1, &Root { deleted: packs.clone(), ..Root::default() });
    vault.decide(2, &Root::default());
    let id = backup(&vault.repo, "new", &data()).unwrap().id;
    assert!(vault.packs_listed_by(&id).iter().all(|pack| !packs.contains(pack)));
    vault.delete_packs(&packs);
    assert_archives(&vault.elsewhere(), &one("new", &data()), None);
}

#[test]
fn packs_that_a_decided_epoch_has_spared_are_reused() {
    let vault = Vault::new();
    backup(&vault.repo, "old", &data()).unwrap();
    vault.condemn(1, &vault.packs());
    vault.decide(1, &Root::default());
    let before = bytes_below(&vault.storage, "packs");
    let manifest = backup(&vault.repo, "new", &data()).unwrap();
    assert_eq!(manifest.sizes.new_chunks, 0);
    assert!(bytes_below(&vault.storage, "packs") - before < 2 << 10);
}

/// Folds the session of an archive into a base segment. The folded one lists a pack more, which is deleted.
fn fold(vault: &Vault, session: &SessionId) {
    let base = SessionId([7; 16]);
    let segment = IndexSegment { packs: listings(&vault.storage, &vault.repo, session) };
    let dead = PackName([9; 32]);
    let listing = PackListing { name: dead, ..segment.packs[0].clone() };
    let folded = IndexSegment { packs: [vec![listing], segment.packs.clone()].concat() };
    vault.put(&format!("index/{session}/00000000"), ObjectKind::IndexSegment, &folded.encode());
    vault.put(&format!("index/{base}/00000000"), ObjectKind::IndexSegment, &segment.encode());
    let root =
        Root { base: vec![format!("index/{base}/00000000")], folded: vec![*session], deleted: vec![dead] };
    vault.decide(1, &root);
}

#[test]
fn segments_of_folded_sessions_are_ignored_and_those_of_the_base_used() {
    let vault = Vault::new();
    let id = backup(&vault.repo, "old", &data()).unwrap().id;
    fold(&vault, &id);
    for repo in [vault.repo.clone(), vault.elsewhere()] {
        assert_archives(&repo, &one("old", &data()), None);
        // A pack that the epoch has deleted is not missed, though the folded segment lists it still.
        assert_clean(&repo);
        let name = format!("next {}", names(&vault.storage, "archives/").len());
        assert_eq!(backup(&repo, &name, &data()).unwrap().sizes.new_chunks, 0);
        let session = repo.find_archive(&name).unwrap().manifest.id;
        vault.storage.remove_raw(&format!("archives/{session}"));
    }
    // Without the base there is nothing to read by: the folded segment is not taken in its place.
    vault.decide(2, &Root { folded: vec![id, SessionId([7; 16])], ..Root::default() });
    let (reader, list) = (reader(&vault.elsewhere()).unwrap(), vault.repo.archives().unwrap());
    assert!(restore(&reader, &list.archives[0].manifest).is_err());
    // Once the folded segments are gone too, nothing has changed.
    vault.storage.remove_raw("roots/00000002");
    vault.storage.remove_raw(&format!("index/{id}/00000000"));
    assert_archives(&vault.elsewhere(), &one("old", &data()), None);
    assert_clean(&vault.elsewhere());
}

#[test]
fn the_next_backup_adopts_what_an_interrupted_one_stored() {
    let data = streams(&[("noise", &noise(2 << 20, 1)), ("text", &text(2 << 20, 2))]);
    for cold in [false, true] {
        let vault = Vault::new();
        let interrupted = suspend(&vault.repo, "interrupted", &data);
        assert_archives(&vault.repo, &Expected::new(), None);
        assert_clean(&vault.repo);
        let (stored, kept) = (bytes_below(&vault.storage, "packs"), vault.packs());
        let repo = if cold { vault.elsewhere() } else { vault.repo.clone() };
        let id = backup(&repo, "next", &data).unwrap().id;
        let grown = bytes_below(&vault.storage, "packs") - stored;
        assert!(grown * 10 < stored, "{grown} bytes more after {stored}");
        let listed = vault.packs_listed_by(&id);
        assert!(kept.iter().all(|pack| listed.contains(pack)), "the packs are listed again");
        // What the interrupted one listed is not needed any more.
        vault.fence(&interrupted);
        names(&vault.storage, &format!("index/{interrupted}/")).iter().for_each(|name| {
            vault.storage.remove_raw(name);
        });
        assert_archives(&vault.elsewhere(), &one("next", &data), None);
        assert_clean(&vault.elsewhere());
    }
}

#[test]
fn an_abandoned_backup_leaves_nothing_that_hurts() {
    let vault = Vault::new();
    backup(&vault.repo, "old", &data()).unwrap();
    let mut txn = begin(&vault.repo, "abandoned").unwrap();
    add(&mut txn, "noise", Grid::Content, &mut &noise(900 << 10, 4)[..]).unwrap();
    let session = *txn.id();
    drop(txn);
    assert_eq!(names(&vault.storage, "sessions/").len(), 1, "as after a crash");
    assert!(vault.storage.read_raw(&format!("archives/{session}")).is_none());
    for repo in [vault.repo.clone(), vault.elsewhere()] {
        assert_archives(&repo, &one("old", &data()), None);
        assert_clean(&repo);
    }
    let next = streams(&[("noise", &noise(900 << 10, 4))]);
    backup(&vault.repo, "next", &next).unwrap();
    let expected = [("old".to_owned(), data()), ("next".to_owned(), next)].into();
    assert_archives(&vault.elsewhere(), &expected, None);
    assert_clean(&vault.elsewhere());
}
