//! Backup: every source read to its end and found good, then one archive of them all in each repository.
//!
//! Sources run side by side. One that fails is left out, and the archive says so; where all fail there is none. A
//! source is read once, however many repositories there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::{BackupOptions, BackupTxn, Error as RepoError, Monitor, Repository};
use dbvault_source::{Snapshots, Source};
use jiff::Timestamp;

use crate::lanes::{self, Lanes, Outcome, Sink};
use crate::tree_backup::{TREE_NAME, TreeReport, TreeRequest};
use crate::{Error, Result, Watcher, tree_snapshots};

/// How many names are tried when the ones made up are taken.
const NAME_ATTEMPTS_MAX: u32 = 1000;
/// Most sources that are read at once where nobody says how many: each is a process and a connection more for a server.
pub const LANES_DEFAULT_MAX: usize = 4;
/// A name that no archive may have, because it means another one every day.
pub const LATEST: &str = "latest";

/// What to call the archive.
#[derive(Clone, Debug, Default)]
pub struct BackupRequest {
    /// Its name; by default made of the host and the time.
    pub archive_name: Option<String>,
    /// What the user says of it.
    pub comment: Option<String>,
    /// When what is backed up was made; by default now.
    pub made_at: Option<Timestamp>,
    /// How many sources are read at once; by default as many as there are cores, and no more than
    /// [`LANES_DEFAULT_MAX`].
    pub lanes: Option<usize>,
    /// One source that fails fails all.
    pub all_or_nothing: bool,
    /// Files that go into it.
    pub files: Option<TreeRequest>,
}

/// The new archive.
#[derive(Clone, Debug)]
pub struct BackupOutcome {
    /// Its manifest; what it says of failed entries is in [`BackupReport::failed`] too.
    pub manifest: ArchiveManifest,
    /// Its entries.
    pub entries: Vec<EntryRecord>,
}

/// How a backup went.
#[derive(Debug)]
pub struct BackupReport {
    /// The archive of each repository, in their order.
    pub outcomes: Vec<Result<BackupOutcome>>,
    /// What is in none of them, and why.
    pub failed: Vec<(String, Error)>,
    /// What became of the files, in the last repository that has them.
    pub files: Option<TreeReport>,
}

/// Backs up all `sources` into one archive of each of `repositories`. `host` is for the name of the archive.
///
/// Errors: where no repository got an archive; what was stored so far is kept and used by the next backup.
pub fn backup(
    repositories: &[Repository],
    host: &str,
    sources: Vec<Box<dyn Source>>,
    request: &BackupRequest,
    watcher: Arc<dyn Watcher>,
) -> Result<BackupReport> {
    check_names(&sources, request.files.is_some())?;
    let name = request.archive_name.is_none().then(|| default_name(host, Timestamp::now()));
    let mut sinks = Vec::new();
    for repository in repositories {
        sinks.push(Sink::new(begin(repository, name.as_deref(), request, watcher.clone())));
    }
    if sinks.iter().all(Sink::is_dead) {
        return Err(first_failure(sinks));
    }
    let names: Vec<String> = sources.iter().map(|source| source.name().to_owned()).collect();
    let lanes = Lanes::new(&sinks, &*watcher, request.all_or_nothing);
    let outcomes = lanes::run(&lanes, sources, lane_count(request));
    // A backup that was stopped, or failed as a whole, needs no files; files that can't be walked are as a source that failed.
    let stopped = outcomes.iter().any(|outcome| match outcome {
        Outcome::Failed(error) => request.all_or_nothing || matches!(error, Error::Interrupted),
        _ => false,
    });
    let files = match &request.files {
        Some(files) if !stopped => store_files(&mut sinks, repositories, host, files, &*watcher),
        _ => Ok(None),
    };
    if matches!(files, Err(Error::Interrupted)) {
        sinks.into_iter().for_each(Sink::suspend);
        return Err(Error::Interrupted);
    }
    conclude(sinks, names, outcomes, files, request)
}

/// Stores the files in each repository that is not dead: each has its own archive before, so each has its own walk. All
/// read in the same snapshots, where there are any.
fn store_files(
    sinks: &mut [Sink],
    repositories: &[Repository],
    host: &str,
    files: &TreeRequest,
    watcher: &dyn Watcher,
) -> Result<Option<TreeReport>> {
    watcher.entry_begins(TREE_NAME, 0, 1, None);
    let stored = tree_snapshots::take(files).and_then(|(files, snapshots)| {
        let notes = snapshots.as_ref().map(tree_snapshots::notes).unwrap_or_default();
        let mut report = None;
        for (sink, repository) in sinks.iter_mut().zip(repositories) {
            report = sink.store_files(repository, host, &files, &notes)?.or(report);
        }
        let left = snapshots.map(Snapshots::drop_all).unwrap_or_default();
        Ok(report.map(|report| TreeReport { left, ..report }))
    });
    watcher.entry_ends(TREE_NAME);
    stored
}

fn lane_count(request: &BackupRequest) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(LANES_DEFAULT_MAX);
    request.lanes.unwrap_or_else(cores).max(1)
}

/// Puts what was stored into the archives, in the order of the sources, and commits them.
fn conclude(
    mut sinks: Vec<Sink>,
    names: Vec<String>,
    outcomes: Vec<Outcome>,
    files: Result<Option<TreeReport>>,
    request: &BackupRequest,
) -> Result<BackupReport> {
    let (mut failed, mut stored, mut fatal) = (Vec::new(), 0, None);
    let (files, files_failed) = match files {
        Ok(report) => (report, None),
        Err(error) => (None, Some((TREE_NAME.to_owned(), Outcome::Failed(error)))),
    };
    for (name, outcome) in names.into_iter().zip(outcomes).chain(files_failed) {
        match outcome {
            Outcome::Stored(pending, report) => {
                stored += 1;
                sinks.iter_mut().zip(pending).for_each(|(sink, pending)| sink.finish_entry(pending, &report));
            }
            Outcome::Failed(Error::Interrupted) => fatal = Some(Error::Interrupted),
            Outcome::Failed(error) => {
                let reason = lanes::reason(&error);
                sinks.iter_mut().for_each(|sink| sink.leave_out(&name, &reason));
                failed.push((name, error));
            }
            Outcome::NotRun => {}
        }
    }
    let stored = stored + u64::from(files.is_some());
    if fatal.is_none() && (stored == 0 || request.all_or_nothing) && !failed.is_empty() {
        let mut failures = failed.into_iter();
        fatal = failures.next().map(|(_, error)| error);
        failures.for_each(|(_, error)| tracing::error!("{}", lanes::reason(&error)));
        failed = Vec::new();
    }
    if let Some(fatal) = fatal {
        sinks.into_iter().for_each(Sink::suspend);
        return Err(fatal);
    }
    if sinks.iter().all(Sink::is_dead) {
        return Err(first_failure(sinks));
    }
    let mut outcomes: Vec<Result<BackupOutcome>> = sinks.into_iter().map(Sink::commit).collect();
    if outcomes.iter().all(Result::is_err) {
        outcomes.truncate(1);
        return Err(outcomes.pop().and_then(Result::err).unwrap_or(Error::NoSources));
    }
    Ok(BackupReport { outcomes, failed, files })
}

fn first_failure(sinks: Vec<Sink>) -> Error {
    sinks.into_iter().find_map(Sink::into_failure).unwrap_or(Error::NoSources)
}

/// Finds two entries of one name before anything runs.
fn check_names(sources: &[Box<dyn Source>], with_files: bool) -> Result<()> {
    if sources.is_empty() && !with_files {
        return Err(Error::NoSources);
    }
    let mut names = BTreeSet::from_iter(with_files.then_some(TREE_NAME));
    match sources.iter().map(|source| source.name()).find(|name| !names.insert(*name)) {
        Some(name) => Err(Error::EntryNamedTwice { name: name.to_owned() }),
        None => Ok(()),
    }
}

fn begin(
    repository: &Repository,
    made_up: Option<&str>,
    request: &BackupRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<BackupTxn> {
    let mut txn = begin_named(repository, made_up, request, monitor)?;
    if let Some(made_at) = request.made_at {
        txn.date(made_at.as_millisecond());
    }
    Ok(txn)
}

fn begin_named(
    repository: &Repository,
    made_up: Option<&str>,
    request: &BackupRequest,
    monitor: Arc<dyn Monitor>,
) -> Result<BackupTxn> {
    let comment = &request.comment;
    if let Some(name) = &request.archive_name {
        if name == LATEST || name.contains(char::is_control) {
            return Err(RepoError::BadName { name: name.clone() }.into());
        }
        let options = BackupOptions { archive_name: name.clone(), comment: comment.clone() };
        return Ok(repository.begin_backup(options, monitor)?);
    }
    let name = made_up.unwrap_or_default();
    let mut attempt = 1;
    loop {
        let archive_name = if attempt == 1 { name.to_owned() } else { format!("{name}-{attempt}") };
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
        assert!(check_names(&[source("a"), source(TREE_NAME)], false).is_ok());
        assert!(check_names(&[], true).is_ok() && check_names(&[source(TREE_NAME)], true).is_err());
        assert!(matches!(check_names(&[], false), Err(Error::NoSources)));
        let twice = check_names(&[source("a"), source("b"), source("a")], false);
        assert!(matches!(twice, Err(Error::EntryNamedTwice { name }) if name == "a"));
    }
}
