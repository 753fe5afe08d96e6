//! Looks at one storage after another through one open reader: opening an index costs more than all the rest.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use dbvault_format::key_slot::Secret;
use dbvault_repo::{CheckDepth, Reader, Repository};
use dbvault_storage::{Key, MemoryStorage, ObjectMeta, Storage};
use tempfile::TempDir;

use crate::common::*;

/// A storage whose objects are exchanged for those of another.
#[derive(Clone, Debug, Default)]
struct Switched(Arc<Mutex<MemoryStorage>>);

impl Switched {
    fn now(&self) -> MemoryStorage {
        self.0.lock().unwrap().clone()
    }
}

impl Storage for Switched {
    fn location(&self) -> String {
        "one of many".into()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> dbvault_storage::Result<()> {
        self.now().put_new(key, body)
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> dbvault_storage::Result<Vec<u8>> {
        self.now().get(key, range)
    }

    fn size(&self, key: &Key) -> dbvault_storage::Result<Option<u64>> {
        self.now().size(key)
    }

    fn list(
        &self,
        prefix: &Key,
        each: &mut dyn FnMut(ObjectMeta) -> dbvault_storage::Result<()>,
    ) -> dbvault_storage::Result<()> {
        self.now().list(prefix, each)
    }

    fn delete(&self, key: &Key) -> dbvault_storage::Result<()> {
        self.now().delete(key)
    }

    fn flush(&self) -> dbvault_storage::Result<()> {
        self.now().flush()
    }
}

/// A client that has seen other states of the repository before: its index follows what it is shown.
pub(crate) struct Eye {
    storage: Switched,
    cache: TempDir,
    seen: Option<(Repository, Arc<Reader>)>,
}

impl Eye {
    pub(crate) fn new() -> Eye {
        Eye { storage: Switched::default(), cache: temporary_dir(), seen: None }
    }

    /// Opens what `state` holds with the first of `secrets` that does, and checks it with all data. Gives the
    /// repository and its reader, or what is wrong. For `foreign_slots` see [`clean`].
    pub(crate) fn look(
        &mut self,
        state: &MemoryStorage,
        secrets: &[Secret],
        foreign_slots: bool,
    ) -> Result<(Repository, Arc<Reader>), String> {
        *self.storage.0.lock().unwrap() = state.clone();
        let repo = open_with(Arc::new(self.storage.clone()), self.cache.path(), secrets)?;
        let same = |seen: &&(Repository, Arc<Reader>)| seen.0.id() == repo.id();
        let reader = match self.seen.as_ref().filter(same) {
            Some((_, reader)) => reader.clone(),
            None => {
                self.seen = None;
                reader(&repo).map_err(|e| format!("no reader: {e:?}"))?
            }
        };
        self.seen = Some((repo.clone(), reader.clone()));
        clean(&reader, foreign_slots)?;
        Ok((repo, reader))
    }
}

/// Opens with the first of `secrets` that does.
pub(crate) fn open_with(
    storage: Arc<dyn Storage>,
    cache: &Path,
    secrets: &[Secret],
) -> Result<Repository, String> {
    let mut last = String::new();
    for secret in secrets {
        match Repository::open(storage.clone(), client(cache), secret) {
            Ok(repo) => return Ok(repo),
            Err(e) => last = format!("does not open: {e:?}"),
        }
    }
    Err(last)
}

/// What a check with all data finds wrong. Where `init` itself has crashed twice, a key slot of the first may be
/// left for good (`foreign_slots`): it opens nothing, a check names it, and it can be removed like any other.
pub(crate) fn clean(reader: &Arc<Reader>, foreign_slots: bool) -> Result<(), String> {
    let mut report = reader.check(CheckDepth::Data).map_err(|e| format!("can't check: {e:?}"))?;
    if foreign_slots {
        report.findings.retain(|finding| !finding.object.starts_with("keys/"));
    }
    let text = || format!("check: {:?} {:?}", report.findings, report.damage);
    if report.clean() { Ok(()) } else { Err(text()) }
}
