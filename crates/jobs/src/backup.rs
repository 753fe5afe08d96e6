//! Backup: every source read to its end and found good, then one archive of them all, or none.

use std::collections::BTreeSet;
use std::sync::Arc;

use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::{BackupOptions, BackupTxn, Error as RepoError, Monitor, Repository};
use dbvault_source::{Entry, Source};
use jiff::Timestamp;

use crate::{Error, Result, Watcher};

/// How many names are tried when the ones made up are taken.
const NAME_ATTEMPTS_MAX: u32 = 1000;
/// A name that no archive may have, because it means another one every day.
pub const LATEST: &str = "latest";

/// What to call the archive.
#[derive(Clone, Debug, Default)]
pub struct BackupRequest {
    /// Its name; by default made of the host and the time.
    pub archive_name: Option<String>,
    /// What the user says of it.
    pub comment: Option<String>,
}

/// The new archive.
#[derive(Clone, Debug)]
pub struct BackupOutcome {
    /// Its manifest.
    pub manifest: ArchiveManifest,
    /// Its entries.
    pub entries: Vec<EntryRecord>,
}

/// Backs up all `sources` into one archive of `repository`. `host` is for the name of the archive.
///
/// Errors: no archive exists; what was stored so far is kept and used by the next backup.
pub fn backup(
    repository: &Repository,
    host: &str,
    sources: Vec<Box<dyn Source>>,
    request: BackupRequest,
    watcher: Arc<dyn Watcher>,
) -> Result<BackupOutcome> {
    check_names(&sources)?;
    let mut txn = begin(repository, host, request, watcher.clone())?;
    match store(&mut txn, sources, &*watcher) {
        Ok(()) => {
            let entries = txn.entries().to_vec();
            Ok(BackupOutcome { manifest: txn.commit()?, entries })
        }
        Err(error) => {
            // The first error is the one that tells; without a clean end more is stored again next time.
            if let Err(second) = txn.suspend() {
                tracing::warn!(error = %second, "what was stored could not be kept for the next backup");
            }
            Err(error)
        }
    }
}

/// Finds two entries of one name before anything runs.
fn check_names(sources: &[Box<dyn Source>]) -> Result<()> {
    if sources.is_empty() {
        return Err(Error::NoSources);
    }
    let mut names = BTreeSet::new();
    match sources.iter().map(|source| source.name()).find(|name| !names.insert(*name)) {
        Some(name) => Err(Error::EntryNamedTwice { name: name.to_owned() }),
        None => Ok(()),
    }
}

fn begin(
    repository: &Repository,
    host: &str,
    request: BackupRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<BackupTxn> {
    let BackupRequest { archive_name, comment } = request;
    if let Some(name) = archive_name {
        if name == LATEST || name.contains(char::is_control) {
            return Err(RepoError::BadName { name }.into());
        }
        return Ok(repository.begin_backup(BackupOptions { archive_name: name, comment }, monitor)?);
    }
    let name = default_name(host, Timestamp::now());
    let mut attempt = 1;
    loop {
        let archive_name = if attempt == 1 { name.clone() } else { format!("{name}-{attempt}") };
        let options = BackupOptions { archive_name, comment: comment.clone() };
        match repository.begin_backup(options, monitor.clone()) {
            Err(RepoError::NameTaken { .. }) if attempt < NAME_ATTEMPTS_MAX => attempt += 1,
            outcome => return Ok(outcome?),
        }
    }
}

fn default_name(host: &str, now: Timestamp) -> String {
    let host = host.replace(char::is_control, "_");
    format!("{host}-{}", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

fn store(txn: &mut BackupTxn, sources: Vec<Box<dyn Source>>, watcher: &dyn Watcher) -> Result<()> {
    let count = sources.len();
    for (index, mut source) in sources.into_iter().enumerate() {
        let name = source.name().to_owned();
        watcher.entry_begins(&name, index, count, None);
        let Entry { meta, mut body } = source.open().map_err(|error| Error::dump(&name, error))?;
        let pending = txn.add_entry(meta, &mut *body)?;
        drop(body);
        let report = source.finish().map_err(|error| Error::dump(&name, error))?;
        txn.finish_entry(pending, report);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbvault_source::StdinSource;

    #[test]
    fn names_are_made_of_host_and_time() {
        let time = "2026-11-21T03:04:05.678Z".parse().unwrap();
        assert_eq!(default_name("db\u{1b}1", time), "db_1-2026-11-21T03:04:05Z");
    }

    #[test]
    fn names_given_twice_are_found_before_anything_runs() {
        let source = |name: &str| Box::new(StdinSource::new(name, Default::default())) as Box<dyn Source>;
        assert!(check_names(&[source("a"), source("b")]).is_ok());
        assert!(matches!(check_names(&[]), Err(Error::NoSources)));
        let twice = check_names(&[source("a"), source("b"), source("a")]);
        assert!(matches!(twice, Err(Error::EntryNamedTwice { name }) if name == "a"));
    }
}
