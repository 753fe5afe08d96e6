//! Lanes of a backup: sources that are read side by side, each of them once, into every repository.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use dbvault_format::entry::{EntryMeta, EntryReport};
use dbvault_repo::{BackupTxn, Error as RepoError, PendingEntry, Repository};
use dbvault_source::{Entry, Error as SourceError, Source};
use parking_lot::Mutex;

use crate::backup::BackupOutcome;
use crate::tree_backup::{self, TreeReport, TreeRequest};
use crate::{Error, Result, Watcher};

/// Bytes of a source that are handed to the repositories at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that wait for a repository.
const BLOCKS_MAX: usize = 4;
/// Longest reason that an archive keeps of a source that failed, bytes.
const REASON_BYTES_MAX: usize = 1000;

/// One repository that is being backed up to.
pub(crate) struct Sink {
    txn: Option<BackupTxn>,
    /// Why there will be no archive.
    failure: Mutex<Option<Error>>,
}

impl Sink {
    /// A backup that has begun, or that could not.
    pub(crate) fn new(begun: Result<BackupTxn>) -> Sink {
        match begun {
            Ok(txn) => Sink { txn: Some(txn), failure: Mutex::new(None) },
            Err(error) => Sink { txn: None, failure: Mutex::new(Some(error)) },
        }
    }

    /// Whether there will be no archive.
    pub(crate) fn is_dead(&self) -> bool {
        self.failure.lock().is_some()
    }

    /// Makes what was stored of a source part of the archive.
    pub(crate) fn finish_entry(&mut self, pending: Option<PendingEntry>, report: &EntryReport) {
        if let (Some(txn), Some(pending)) = (&mut self.txn, pending) {
            txn.finish_entry(pending, report.clone());
        }
    }

    /// Stores files and makes them part of the archive; `None` where the repository failed: then it is dead.
    ///
    /// Errors: those of the files as a whole, and an interrupt.
    pub(crate) fn store_files(
        &mut self,
        repository: &Repository,
        host: &str,
        files: &TreeRequest,
        notes: &[String],
    ) -> Result<Option<TreeReport>> {
        let dead = self.is_dead();
        let Some(txn) = self.txn.as_mut().filter(|_| !dead) else { return Ok(None) };
        match tree_backup::store_tree(repository, txn, host, files, notes) {
            Ok((pending, report)) => {
                txn.finish_entry(pending, report.entry_report());
                Ok(Some(report))
            }
            Err(error @ (Error::Files(_) | Error::Interrupted)) => Err(error),
            Err(error) => {
                self.failure.lock().get_or_insert(error);
                Ok(None)
            }
        }
    }

    /// Notes a source that failed.
    pub(crate) fn leave_out(&mut self, name: &str, reason: &str) {
        if let Some(txn) = &mut self.txn {
            txn.leave_out(name, reason);
        }
    }

    /// The archive, or why there is none.
    pub(crate) fn commit(mut self) -> Result<BackupOutcome> {
        match (self.txn.take(), self.failure.lock().take()) {
            (Some(txn), None) => {
                let entries = txn.entries().to_vec();
                Ok(BackupOutcome { manifest: txn.commit()?, entries })
            }
            (txn, failure) => {
                suspend(txn);
                Err(failure.unwrap_or(Error::NoSources))
            }
        }
    }

    /// Ends without an archive; what was stored is kept for the next backup.
    pub(crate) fn suspend(mut self) {
        suspend(self.txn.take());
    }

    /// As [`Sink::suspend`]; gives why.
    pub(crate) fn into_failure(mut self) -> Option<Error> {
        suspend(self.txn.take());
        self.failure.lock().take()
    }

    /// Stores a stream. `None` where the repository failed: then it is dead. Errors: those of the source.
    fn store(&self, meta: EntryMeta, body: &mut dyn Read) -> Result<Option<PendingEntry>> {
        let Some(txn) = self.txn.as_ref().filter(|_| !self.is_dead()) else { return Ok(None) };
        match txn.add_entry(meta, body) {
            Ok(pending) => Ok(Some(pending)),
            Err(error @ (RepoError::Source { .. } | RepoError::Interrupted)) => Err(error.into()),
            Err(error) => {
                // The first one tells why; the others that it did.
                self.failure.lock().get_or_insert(error.into());
                Ok(None)
            }
        }
    }
}

fn suspend(txn: Option<BackupTxn>) {
    // The first error is the one that tells; without a clean end more is stored again next time.
    if let Some(Err(error)) = txn.map(BackupTxn::suspend) {
        tracing::warn!(%error, "what was stored could not be kept for the next backup");
    }
}

/// What became of a source.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Stored, in each repository that is not dead, and found good.
    Stored(Vec<Option<PendingEntry>>, EntryReport),
    /// It failed, or belongs to one that did.
    Failed(Error),
    /// The backup ended before.
    NotRun,
}

/// What all lanes share.
pub(crate) struct Lanes<'a> {
    sinks: &'a [Sink],
    watcher: &'a dyn Watcher,
    all_or_nothing: bool,
    stop: AtomicBool,
    /// Groups of which a source has failed.
    failed_groups: Mutex<BTreeSet<String>>,
}

impl<'a> Lanes<'a> {
    /// Lanes into `sinks`.
    pub(crate) fn new(sinks: &'a [Sink], watcher: &'a dyn Watcher, all_or_nothing: bool) -> Lanes<'a> {
        let (stop, failed_groups) = (AtomicBool::new(false), Mutex::default());
        Lanes { sinks, watcher, all_or_nothing, stop, failed_groups }
    }

    fn source(&self, source: Box<dyn Source>, index: usize, count: usize) -> Outcome {
        let group = source.group().map(str::to_owned);
        let hopeless = group.as_ref().is_some_and(|group| self.failed_groups.lock().contains(group));
        if hopeless || self.stop.load(Ordering::Acquire) {
            return Outcome::NotRun;
        }
        let name = source.name().to_owned();
        self.watcher.entry_begins(&name, index, count, None);
        let stored = self.store(source, &name);
        self.watcher.entry_ends(&name);
        match stored {
            Ok((pending, report)) => {
                if self.sinks.iter().all(Sink::is_dead) {
                    self.stop.store(true, Ordering::Release);
                }
                Outcome::Stored(pending, report)
            }
            Err(error) => {
                self.failed_groups.lock().extend(group);
                if self.all_or_nothing || matches!(error, Error::Interrupted) {
                    self.stop.store(true, Ordering::Release);
                }
                Outcome::Failed(error)
            }
        }
    }

    fn store(
        &self,
        mut source: Box<dyn Source>,
        name: &str,
    ) -> Result<(Vec<Option<PendingEntry>>, EntryReport)> {
        let Entry { meta, mut body } = source.open().map_err(|error| Error::dump(name, error))?;
        let pending = match self.sinks {
            [sink] => vec![sink.store(meta, &mut *body)?],
            sinks => store_in_all(sinks, &meta, &mut *body)?,
        };
        drop(body);
        if pending.iter().all(Option::is_none) {
            // Nobody took its stream to the end: it has not failed, and is ended.
            return Ok((pending, EntryReport::default()));
        }
        let report = source.finish().map_err(|error| Error::dump(name, error))?;
        Ok((pending, report))
    }
}

/// Reads all `sources`, `count` at once, in their order; gives what became of each.
pub(crate) fn run(lanes: &Lanes, sources: Vec<Box<dyn Source>>, count: usize) -> Vec<Outcome> {
    let all = sources.len();
    let groups: Vec<Option<String>> =
        sources.iter().map(|source| source.group().map(str::to_owned)).collect();
    let waiting: Vec<Mutex<Option<Box<dyn Source>>>> =
        sources.into_iter().map(|source| Mutex::new(Some(source))).collect();
    let outcomes: Vec<Mutex<Outcome>> = (0..all).map(|_| Mutex::new(Outcome::NotRun)).collect();
    let next = AtomicUsize::new(0);
    let lane = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = waiting.get(index) else { return };
            let Some(source) = place.lock().take() else { return };
            *outcomes[index].lock() = lanes.source(source, index, all);
        }
    };
    thread::scope(|scope| {
        for _ in 1..count.min(all) {
            scope.spawn(lane);
        }
        lane();
    });
    let outcomes = outcomes.into_iter().map(|outcome| outcome.into_inner());
    whole_groups(groups, outcomes.collect())
}

/// Of a group all are good, or none: what is left of one that failed is of no use.
fn whole_groups(groups: Vec<Option<String>>, mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let failed: BTreeSet<String> = groups
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
        .filter_map(|(group, _)| group.clone())
        .collect();
    for (group, outcome) in groups.iter().zip(&mut outcomes) {
        let hopeless = group.as_ref().is_some_and(|group| failed.contains(group));
        if hopeless && !matches!(outcome, Outcome::Failed(_)) {
            *outcome = Outcome::NotRun;
        }
    }
    outcomes
}

/// What a reader of a shared stream gets.
type Block = Result<Arc<Vec<u8>>, ()>;

/// Stores one stream in several repositories at once. Errors: those of the source.
fn store_in_all(sinks: &[Sink], meta: &EntryMeta, body: &mut dyn Read) -> Result<Vec<Option<PendingEntry>>> {
    thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut stores = Vec::new();
        for sink in sinks {
            let (sender, receiver) = bounded::<Block>(BLOCKS_MAX);
            senders.push(sender);
            let mut shared = Shared { receiver, block: Arc::default(), at: 0, ended: false };
            stores.push(scope.spawn(move || sink.store(meta.clone(), &mut shared)));
        }
        let read = share(body, &senders);
        drop(senders);
        let stored: Vec<Result<Option<PendingEntry>>> =
            stores.into_iter().map(|store| store.join().unwrap_or(Err(Error::Interrupted))).collect();
        // Why the source failed is known here, and only that it did there.
        read.map_err(|source| Error::from(RepoError::Source { entry: meta.name.clone(), source }))?;
        stored.into_iter().collect()
    })
}

/// Reads a stream to its end and gives every block to all; who does not take it any more has failed.
fn share(body: &mut dyn Read, senders: &[Sender<Block>]) -> io::Result<()> {
    let mut open = vec![true; senders.len()];
    loop {
        let mut block = vec![0; BLOCK_BYTES];
        let filled = fill(body, &mut block);
        let block = match &filled {
            Ok(len) => {
                block.truncate(*len);
                Ok(Arc::new(block))
            }
            Err(_) => Err(()),
        };
        for (sender, open) in senders.iter().zip(&mut open) {
            *open = *open && sender.send(block.clone()).is_ok();
        }
        match filled {
            Ok(0) => return Ok(()),
            Ok(_) if !open.contains(&true) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

fn fill(body: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < block.len() {
        match body.read(&mut block[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// A stream that several repositories read.
struct Shared {
    receiver: Receiver<Block>,
    block: Arc<Vec<u8>>,
    at: usize,
    ended: bool,
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && !self.ended {
            // An empty block is the end; that nobody sends any more is none.
            self.block = match self.receiver.recv() {
                Ok(Ok(block)) => block,
                Ok(Err(())) | Err(_) => return Err(io::Error::other("the source failed")),
            };
            (self.at, self.ended) = (0, self.block.is_empty());
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Why a source or a restore failed, in words: its error, the causes of it, and what its program said: what it calls an
/// error, else what came last.
pub(crate) fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    let said = match error {
        Error::Dump { source: SourceError::ProgramFailed { stderr, .. }, .. } => {
            stderr.trim_end().lines().next_back()
        }
        Error::Restore { source: SourceError::ProgramFailed { stderr, .. }, .. } => {
            let mut lines = stderr.trim_end().lines();
            lines.clone().find(|line| line.contains("ERROR")).or_else(|| lines.next_back())
        }
        _ => None,
    };
    if let Some(line) = said {
        text += &format!(": {line}");
    }
    while text.len() > REASON_BYTES_MAX {
        text.pop();
    }
    text
}
