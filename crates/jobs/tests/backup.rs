//! Backups of several sources to several repositories, some of which fail.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dbvault_format::config::RepoParams;
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::key_slot::Secret;
use dbvault_jobs::backup::{BackupReport, BackupRequest, backup};
use dbvault_jobs::{Error, Result};
use dbvault_repo::{Client, NoMonitor, Repository};
use dbvault_source::{Entry, Error as SourceError, Result as SourceResult, Source};
use dbvault_storage::{MemoryStorage, Storage};
use dbvault_testkit::faulty_storage::{CallKind, Fault, FaultError, FaultMoment, FaultSpan, FaultyStorage};
use zeroize::Zeroizing;

const STREAM_BYTES: u64 = 5 << 20;

/// How a source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Good,
    /// Its stream breaks off.
    Broken,
    /// Its stream ends well, and its program did not.
    Bad,
    /// It can't begin.
    Absent,
}

struct Made {
    name: String,
    group: Option<String>,
    end: End,
    /// Bytes that were read of it.
    read: Arc<AtomicU64>,
}

impl Source for Made {
    fn name(&self) -> &str {
        &self.name
    }

    fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    fn open(&mut self) -> SourceResult<Entry> {
        if self.end == End::Absent {
            return Err(SourceError::NoSuchDatabase { name: self.name.clone() });
        }
        let meta = EntryMeta {
            name: self.name.clone(),
            kind: EntryKind::Command,
            grid: Grid::Content,
            attributes: BTreeMap::new(),
        };
        let body =
            Stream { left: STREAM_BYTES, at: 0, broken: self.end == End::Broken, read: self.read.clone() };
        Ok(Entry { meta, body: Box::new(body) })
    }

    fn finish(self: Box<Self>) -> SourceResult<EntryReport> {
        match self.end {
            End::Bad => Err(SourceError::Incomplete { name: self.name, detail: "cut".into() }),
            _ => Ok(EntryReport::default()),
        }
    }
}

struct Stream {
    left: u64,
    at: u64,
    broken: bool,
    read: Arc<AtomicU64>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && self.broken {
            return Err(std::io::Error::other("the connection is gone"));
        }
        let count = buffer.len().min(usize::try_from(self.left).unwrap()).min(10_000);
        for byte in &mut buffer[..count] {
            *byte = (self.at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
            self.at += 1;
        }
        self.left -= count as u64;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn repository(storage: impl Storage + 'static, cache: &Path) -> Repository {
    let client = Client {
        host: "host".into(),
        user: "user".into(),
        cache_dir: cache.to_owned(),
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    let secret = Secret::KeyFile(Zeroizing::new(vec![1; 32]));
    Repository::init(Arc::new(storage), client, RepoParams::default(), &secret, "first").unwrap()
}

/// Backs up sources `a`, `b`, … that end so; those with the same word are one group.
fn run(
    repositories: &[Repository],
    ends: &[(End, Option<&str>)],
    all_or_nothing: bool,
) -> (Result<BackupReport>, u64) {
    let read = Arc::new(AtomicU64::new(0));
    let source = |(name, (end, group)): (u8, &(End, Option<&str>))| -> Box<dyn Source> {
        let (name, group) = (char::from(name).to_string(), group.map(str::to_owned));
        Box::new(Made { name, group, end: *end, read: read.clone() })
    };
    let sources = (b'a'..).zip(ends).map(source).collect();
    let request = BackupRequest { all_or_nothing, lanes: Some(3), ..BackupRequest::default() };
    let report = backup(repositories, "host", sources, &request, Arc::new(NoMonitor));
    (report, read.load(Ordering::Relaxed))
}

fn names(report: &BackupReport, repository: usize) -> Vec<String> {
    let outcome = report.outcomes[repository].as_ref().unwrap();
    outcome.entries.iter().map(|entry| entry.meta.name.clone()).collect()
}

#[test]
fn what_fails_is_left_out_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let repositories = [repository(MemoryStorage::new(), dir.path())];
    let ends = [End::Good, End::Broken, End::Good, End::Bad, End::Absent, End::Good].map(|end| (end, None));
    let (report, _) = run(&repositories, &ends, false);
    let report = report.unwrap();
    assert_eq!(names(&report, 0), ["a", "c", "f"]);
    let failed: Vec<&str> = report.failed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(failed, ["b", "d", "e"]);
    let manifest = &report.outcomes[0].as_ref().unwrap().manifest;
    let told: Vec<&str> = manifest.failed.iter().map(|failed| failed.reason.as_str()).collect();
    assert!(told[0].contains("the connection is gone"), "{told:?}");
    assert_eq!(told[2], "cannot back up e: no such database: e");
    // All fail, or one of all or nothing: no archive.
    let archives = || repositories[0].archives().unwrap().archives.len();
    assert!(matches!(run(&repositories, &ends[3..5], false).0, Err(Error::Dump { .. })));
    assert!(matches!(run(&repositories, &ends, true).0, Err(Error::Dump { .. })));
    assert_eq!(archives(), 1);
    assert!(run(&repositories, &ends[..1], true).0.is_ok());
    assert_eq!(archives(), 2);
}

#[test]
fn of_a_group_all_are_good_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let repositories = [repository(MemoryStorage::new(), dir.path())];
    for bad in [End::Broken, End::Bad, End::Absent] {
        let ends = [
            (End::Good, Some("x")),
            (End::Good, None),
            (bad, Some("x")),
            (End::Good, Some("x")),
            (End::Good, Some("y")),
        ];
        let report = run(&repositories, &ends, false).0.unwrap();
        assert_eq!(names(&report, 0), ["b", "e"]);
    }
}

#[test]
fn a_source_is_read_once_for_all_repositories_and_one_that_fails_spoils_no_other() {
    let caches: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let faulty = FaultyStorage::new(Arc::new(MemoryStorage::new()));
    let repositories = [
        repository(MemoryStorage::new(), caches[0].path()),
        repository(faulty.clone(), caches[1].path()),
        repository(MemoryStorage::new(), caches[2].path()),
    ];
    let ends = [End::Good, End::Bad, End::Good].map(|end| (end, None));
    let (report, read) = run(&repositories, &ends, false);
    let report = report.unwrap();
    assert_eq!(read, 3 * STREAM_BYTES);
    assert!((0..3).all(|number| names(&report, number) == ["a", "c"]));
    for nth in 1..12 {
        let (call, error) = (Some(CallKind::Put), FaultError::NoSpace);
        faulty.arm(Fault { call, nth, error, span: FaultSpan::Forever, moment: FaultMoment::Before });
        let (report, _) = run(&repositories, &ends, false);
        faulty.disarm();
        let report = report.unwrap();
        assert!(report.outcomes[1].is_err() || nth > 3, "{nth}");
        for number in [0, 2] {
            assert_eq!(names(&report, number), ["a", "c"], "{nth}");
        }
        for repository in &repositories {
            let checked = repository.check(dbvault_repo::CheckDepth::Data, Arc::new(NoMonitor)).unwrap();
            assert!(checked.clean(), "{nth}: {checked:?}");
        }
    }
}
