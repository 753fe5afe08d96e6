//! Roots and condemned lists that are damaged: the first thing to mend, for without them nobody reads anything.

use std::collections::BTreeSet;

use dbvault_format::header::ObjectKind;
use dbvault_format::object::{from_cbor, to_cbor};
use dbvault_format::root::{Condemned, Root};
use dbvault_storage::Key;

use super::quarantine;
use crate::check::Finding;
use crate::collect::{CollectReport, finish_decided};
use crate::{Error, Repository, Result, layout};

/// What is wrong with roots and condemned lists.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// Number of the latest root, readable or not; 0 where there is none.
    pub(super) latest: u32,
    /// The latest root, where it can be read.
    pub(super) root: Option<Root>,
    damaged_roots: BTreeSet<u32>,
    /// Numbers below the latest without a root: it is missing, for roots are never deleted.
    holes: BTreeSet<u32>,
    damaged_lists: BTreeSet<u32>,
    lists: BTreeSet<u32>,
    pub(super) findings: Vec<Finding>,
}

impl Epochs {
    /// Reads all roots and condemned lists. Errors: a newer version, failures of the storage.
    pub(super) fn look(repo: &Repository) -> Result<Epochs> {
        let mut epochs = Epochs::default();
        let mut seen = BTreeSet::new();
        for key in repo.list_keys(&layout::roots())? {
            let Some(number) = layout::parse_number(&key).filter(|number| layout::root(*number) == key)
            else {
                continue;
            };
            seen.insert(number);
            match open::<Root>(repo, &key, ObjectKind::Root)? {
                Ok(root) if number >= epochs.latest => epochs.root = Some(root),
                Ok(_) => {}
                Err(problem) => {
                    epochs.findings.push(Finding::new(&key, problem));
                    epochs.damaged_roots.insert(number);
                    epochs.root = epochs.root.filter(|_| number < epochs.latest);
                }
            }
            epochs.latest = epochs.latest.max(number);
        }
        epochs.holes = (1..epochs.latest).filter(|number| !seen.contains(number)).collect();
        for key in repo.list_keys(&layout::condemned())? {
            let name = |number: &u32| layout::condemned_list(*number) == key;
            let Some(number) = layout::parse_number(&key).filter(name) else { continue };
            epochs.lists.insert(number);
            if let Err(problem) = open::<Condemned>(repo, &key, ObjectKind::Condemned)? {
                epochs.findings.push(Finding::new(&key, problem));
                epochs.damaged_lists.insert(number);
            }
        }
        Ok(epochs)
    }

    /// Whether a new root is needed, so that the repository can be read at all.
    pub(super) fn need_root(&self) -> bool {
        self.latest > 0 && self.root.is_none() || self.damaged_lists.iter().any(|list| *list > self.latest)
    }

    /// Sees to it that whatever earlier roots decided is done: from then on only an epoch to come deletes packs.
    ///
    /// What a damaged root decided nobody knows any more: its packs stay.
    pub(super) fn finish(&self, repo: &Repository) -> Result<()> {
        let unknown = |list: &&u32| self.damaged_roots.contains(list) || self.holes.contains(list);
        let mut copied = Vec::new();
        for list in self.lists.iter().filter(|list| unknown(list) || self.damaged_lists.contains(list)) {
            copied.extend(quarantine::copy(repo, &layout::condemned_list(*list))?);
        }
        repo.storage.flush()?;
        for copy in &copied {
            let number = layout::parse_number(copy.key());
            if number.is_some_and(|number| number <= self.latest && unknown(&&number)) {
                copy.remove_original(repo)?;
            }
        }
        repo.storage.flush()?;
        finish_decided(repo, self.latest, &mut CollectReport::default())
    }

    /// Puts roots that decide nothing in place of damaged and missing ones below `root`, which is durable: a
    /// collector that slept must not find their numbers free.
    pub(super) fn replace_roots(&self, repo: &Repository, root: u32) -> Result<()> {
        let replaced: Vec<u32> = self.damaged_roots.iter().copied().filter(|number| *number < root).collect();
        let mut copied = Vec::new();
        for number in &replaced {
            let key = layout::root(*number);
            // As it was found, and not only as it was read.
            if matches!(open::<Root>(repo, &key, ObjectKind::Root), Ok(Err(_))) {
                copied.extend(quarantine::copy(repo, &key)?);
            }
        }
        repo.storage.flush()?;
        for copy in copied {
            copy.remove_original(repo)?;
        }
        let holes = self.holes.iter().copied().filter(|number| *number < root);
        for number in replaced.into_iter().chain(holes) {
            let key = layout::root(number);
            repo.put_sealed_if_free(&key, ObjectKind::Root, &to_cbor(&Root::default()))?;
        }
        repo.storage.flush()?;
        // The list of an epoch that was decided just now.
        finish_decided(repo, root, &mut CollectReport::default())
    }
}

/// Opens an object that holds a value, or tells what is wrong with it.
fn open<T: for<'b> minicbor::Decode<'b, ()>>(
    repo: &Repository,
    key: &Key,
    kind: ObjectKind,
) -> Result<Result<T, String>> {
    match repo.get_sealed(key, &[kind]) {
        Ok((_, body)) => Ok(from_cbor(kind.name(), &body).map_err(|e| e.to_string())),
        Err(Error::Damaged { source, .. }) => Ok(Err(source.to_string())),
        Err(e) => Err(e),
    }
}
