//! What was promised of each archive, and since when: the oracle beside a repository.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbvault_repo::{ArchiveInfo, Reader, Repository};

use crate::common::*;

/// Archives that a collection is taking are read after one operation in so many: what is missing makes a reader
/// read its index anew, every time.
const GOING_READ_ONE_IN: usize = 8;

/// What is known of an archive, in numbers of operations of the storage.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) streams: Arc<Streams>,
    /// From this many operations on it must be there. Before, it may be: whole.
    pub(crate) there_from: usize,
    /// After this many, a collection may be taking it.
    pub(crate) there_until: usize,
}

/// All archives that somebody made, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(pub(crate) BTreeMap<String, Life>);

impl Ledger {
    /// Archives that are there, and always will be.
    pub(crate) fn of(expected: &Expected) -> Ledger {
        let life = |streams: &Streams| Life {
            streams: Arc::new(streams.clone()),
            there_from: 0,
            there_until: usize::MAX,
        };
        Ledger(expected.iter().map(|(name, streams)| (name.clone(), life(streams))).collect())
    }

    pub(crate) fn insert(&mut self, name: &str, streams: &Streams, there_from: usize) {
        let streams = Arc::new(streams.clone());
        self.0.insert(name.to_owned(), Life { streams, there_from, there_until: usize::MAX });
    }

    /// Names of the archives that must be there after `done` operations.
    pub(crate) fn due(&self, done: usize) -> Vec<String> {
        let due = self.0.iter().filter(|(_, life)| (life.there_from..=life.there_until).contains(&done));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// What must hold from here on, for one who goes on after a crash that followed `prefix_len` operations,
    /// which left the archives `found`.
    pub(crate) fn after(&self, prefix_len: usize, found: &[String]) -> Ledger {
        let mut ledger = Ledger::default();
        for (name, life) in &self.0 {
            if !found.contains(name) {
                continue;
            }
            let there_until = if prefix_len > life.there_until { 0 } else { usize::MAX };
            // What a collection has begun to take may go on going; the others are to stay.
            let there_from = if there_until == 0 { usize::MAX } else { 0 };
            ledger.0.insert(name.clone(), Life { there_from, there_until, ..life.clone() });
        }
        ledger
    }

    /// Compares all archives that are there, deleted ones too, with what was promised after `done` operations.
    /// Gives the names of those that are there, or what is wrong.
    pub(crate) fn compare(
        &self,
        repo: &Repository,
        reader: &Arc<Reader>,
        done: usize,
    ) -> Result<Vec<String>, String> {
        let list = repo.archives().map_err(|e| format!("archives can't be listed: {e:?}"))?;
        if let Some((id, e)) = list.damaged.first() {
            return Err(format!("archive {id} is damaged: {e:?}"));
        }
        let found: Result<Vec<String>, String> =
            list.archives.iter().map(|archive| self.compare_one(reader, archive, done)).collect();
        let found = found?;
        match self.due(done).into_iter().find(|name| !found.contains(name)) {
            Some(lost) => Err(format!("archive {lost} is lost")),
            None => Ok(found),
        }
    }

    fn compare_one(
        &self,
        reader: &Arc<Reader>,
        archive: &ArchiveInfo,
        done: usize,
    ) -> Result<String, String> {
        let name = archive.manifest.name.clone();
        let life = self.0.get(&name).ok_or_else(|| format!("nobody made {name}"))?;
        let going = done > life.there_until && archive.deleted_ms.is_some();
        if going && !done.is_multiple_of(GOING_READ_ONE_IN) {
            return Ok(name);
        }
        match restore(reader, &archive.manifest) {
            Ok(streams) if streams == *life.streams => Ok(name),
            Ok(_) => Err(format!("archive {name} has other bytes")),
            // Its packs are going, and its slot is the last to go.
            Err(_) if going => Ok(name),
            Err(e) => Err(format!("archive {name}: {e}")),
        }
    }
}
