//! Files into an archive: a walk, beside the table of the archive before, so that what has not changed is not opened.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use dbvault_files::{
    Capture, Captured, FoundFile, HardLinks, Problem, Root, Walk, WalkOptions, is_unchanged,
};
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};
use dbvault_format::file_table::{FileKind, FileRecord, FileTime, compare_paths};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{BackupTxn, Error as RepoError, PendingEntry, Repository, TableReader, TreeWriter};
use dbvault_source::SnapshotOptions;
use rustix::io::Errno;

use crate::{Error, Result};

/// Name of the entry that has the files.
pub const TREE_NAME: &str = "files";
/// Files from this length on begin and end at a cut, so that the same file elsewhere has the same chunks, bytes.
pub(crate) const LARGE_BYTES: u64 = 256 << 10;
/// Problems that the archive tells by name; of more it tells the number.
const PROBLEMS_TOLD_MAX: usize = 100;
/// Longest list of paths that is kept with a tree as it is, bytes.
const PATHS_BYTES_MAX: usize = 1024;
/// Archives that are looked through for files of the same paths, newest first.
const ARCHIVES_MAX: usize = 100;

/// Which files.
#[derive(Clone, Debug, Default)]
pub struct TreeRequest {
    /// Where to begin.
    pub roots: Vec<Root>,
    /// What of it.
    pub options: WalkOptions,
    /// Where to begin too, but that is not there: problems.
    pub missing: Vec<PathBuf>,
    /// Where anything is missing, nothing is stored.
    pub must_exist: bool,
    /// Snapshots that files are read from.
    pub snapshots: SnapshotOptions,
}

/// How storing files went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Files of all kinds that are in the archive.
    pub files: u64,
    /// Those of them that were not opened, as they are what they were.
    pub unchanged: u64,
    /// What could not be stored, or not as it should be; the first hundred, the log has the others.
    pub problems: Vec<String>,
    /// How many these are in all.
    pub problem_count: u64,
    /// What is not as the user may expect, and no problem with a file.
    pub notes: Vec<String>,
    /// Snapshots that could not be dropped, and why.
    pub left: Vec<String>,
}

impl TreeReport {
    pub(crate) fn tell(&mut self, problem: impl std::fmt::Display) {
        self.problem_count += 1;
        let text = problem.to_string();
        if self.problems.len() < PROBLEMS_TOLD_MAX {
            self.problems.push(text);
        } else {
            tracing::warn!("{text}");
        }
    }

    /// What is kept with the entry.
    pub(crate) fn entry_report(&self) -> EntryReport {
        let mut warnings = [&*self.notes, &*self.problems].concat();
        let more = self.problem_count - self.problems.len() as u64;
        if more > 0 {
            warnings.push(format!("and {more} more"));
        }
        EntryReport { warnings, ..EntryReport::default() }
    }
}

/// The same files in an archive before.
struct Previous {
    entry: EntryRecord,
    /// When that backup began.
    began: FileTime,
}

/// Stores the files of `request` as an entry of `txn`; the report has `notes` too.
///
/// Errors: those of storing. Files that vanish, change or can't be read are problems of the report, and no errors.
pub(crate) fn store_tree(
    repository: &Repository,
    txn: &BackupTxn,
    host: &str,
    request: &TreeRequest,
    notes: &[String],
) -> Result<(PendingEntry, TreeReport)> {
    let walk = Walk::new(request.roots.clone(), request.options.clone()).map_err(Error::Files)?;
    let paths = paths(&request.roots);
    let previous = previous(repository, txn, host, &paths)?;
    let attributes = [(attribute::PATHS.to_owned(), paths)].into();
    let meta = EntryMeta { name: TREE_NAME.into(), kind: EntryKind::Tree, grid: Grid::Content, attributes };
    let base = previous.as_ref().map(|previous| previous.entry.stream);
    let table = previous.as_ref().map(|previous| txn.reader().open_table(&previous.entry)).transpose()?;
    let began = previous.map(|previous| previous.began).unwrap_or_default();
    Ok(txn.add_tree(meta, base.as_ref(), |writer| {
        let old = Old { table: table.map(Iterator::peekable), began };
        let mut store = Store {
            writer,
            old,
            capture: Capture::new(),
            links: HardLinks::new(),
            report: TreeReport { notes: notes.to_vec(), ..TreeReport::default() },
        };
        for path in &request.missing {
            let path = path.as_os_str().as_bytes();
            store.report.tell(Problem::new(path, "find", Errno::NOENT).from_root());
        }
        for found in walk {
            repository.check_interrupt()?;
            match found {
                Ok(file) => store.file(&file)?,
                Err(problem) => store.report.tell(problem.from_root()),
            }
        }
        Ok(store.report)
    })?)
}

/// What `roots` are, in at most some [`PATHS_BYTES_MAX`].
fn paths(roots: &[Root]) -> String {
    let absolute = |root: &Root| std::path::absolute(&root.path).unwrap_or_else(|_| root.path.clone());
    let all: Vec<String> = roots.iter().map(|root| absolute(root).to_string_lossy().into_owned()).collect();
    let text = all.join("\n");
    match text.len() {
        0..=PATHS_BYTES_MAX => text,
        _ => format!("{} paths, {}", all.len(), blake3::hash(text.as_bytes()).to_hex()),
    }
}

/// The newest archive of this host that has files and can be read: of the same `paths`, where there is one.
fn previous(
    repository: &Repository,
    txn: &BackupTxn,
    host: &str,
    paths: &String,
) -> Result<Option<Previous>> {
    let archives = repository.archives()?.archives;
    let same = archives.iter().rev().filter(|info| info.manifest.host == host && info.deleted_ms.is_none());
    let mut newest = None;
    for info in same.take(ARCHIVES_MAX) {
        let entries = match txn.reader().entries(&info.manifest) {
            Ok(entries) => entries,
            Err(e @ RepoError::Interrupted) => return Err(e.into()),
            // Everything is read again then.
            Err(e) => {
                tracing::warn!("{}: {e}", info.manifest.name);
                continue;
            }
        };
        let Some(entry) = entries.into_iter().find(|entry| entry.meta.kind == EntryKind::Tree) else {
            continue;
        };
        let is_same = entry.meta.attributes.get(attribute::PATHS) == Some(paths);
        let began_ms = info.manifest.started_ms;
        let nanoseconds = began_ms.rem_euclid(1000) as u32 * 1_000_000;
        let found = Previous { entry, began: FileTime { seconds: began_ms.div_euclid(1000), nanoseconds } };
        if is_same {
            return Ok(Some(found));
        }
        newest.get_or_insert(found);
    }
    Ok(newest)
}

/// The table of the archive before, followed in the order of the walk.
struct Old {
    table: Option<Peekable<TableReader>>,
    began: FileTime,
}

impl Old {
    /// The record of `file`, where that is as it was.
    fn unchanged(&mut self, file: &FoundFile) -> Option<(FileRecord, Range<u64>)> {
        let table = self.table.as_mut()?;
        loop {
            match table.peek() {
                None => return None,
                Some(Err(e)) => {
                    tracing::warn!("files are read that may not have changed: {e}");
                    self.table = None;
                    return None;
                }
                Some(Ok((record, _))) => match compare_paths(&record.path, &file.path) {
                    Ordering::Less => drop(table.next()),
                    Ordering::Greater => return None,
                    Ordering::Equal => break,
                },
            }
        }
        let (record, content) = table.next()?.ok()?;
        is_unchanged(&file.stat, &record, self.began).then_some((record, content))
    }
}

/// Files on their way into an archive.
struct Store<'a, 'b> {
    writer: &'a mut TreeWriter<'b>,
    old: Old,
    capture: Capture,
    links: HardLinks,
    report: TreeReport,
}

impl Store<'_, '_> {
    fn file(&mut self, file: &FoundFile) -> dbvault_repo::Result<()> {
        let old = self.old.unchanged(file);
        if let Some(first) = self.links.first_name(file) {
            let record = self.capture.other_name(file, first);
            let position = self.writer.position();
            return self.record(file, record, position).map(drop);
        }
        if let Some((record, content)) = old
            && let Some(position) = self.writer.keep(&content)?
        {
            if self.record(file, record, position)? {
                self.report.unchanged += 1;
            }
            return Ok(());
        }
        // Once more where it changed meanwhile: most files are written in one go.
        if !self.read(file, false)? {
            self.read(file, true)?;
        }
        Ok(())
    }

    /// Stores a file as it is now; false where it changed meanwhile, and was not stored as this is not the `last` try.
    fn read(&mut self, file: &FoundFile, last: bool) -> dbvault_repo::Result<bool> {
        let Captured { record, content, problems } = match self.capture.capture(file) {
            Ok(captured) => captured,
            Err(problem) => {
                self.report.tell(problem.from_root());
                return Ok(true);
            }
        };
        let is_large = record.kind == FileKind::Regular && record.content_bytes() >= LARGE_BYTES;
        if is_large {
            self.writer.cut()?;
        }
        let position = self.writer.position();
        if let Some(mut content) = content {
            match self.writer.copy(&mut content, record.content_bytes()) {
                Ok(_) => {}
                Err(RepoError::Source { source, .. }) => {
                    self.report.tell(Problem::new(&file.path, "read", source).from_root());
                    return Ok(true);
                }
                Err(e) => return Err(e),
            }
            if is_large {
                self.writer.cut()?;
            }
            match content.finish() {
                Ok(end) if end.changed && !last => return Ok(false),
                Ok(end) if end.changed => {
                    self.report
                        .tell(Problem::found(&file.path, "read", "it changed while it was read").from_root());
                }
                Ok(_) => {}
                Err(error) => self.report.tell(Problem::new(&file.path, "read", error).from_root()),
            }
        }
        problems.into_iter().for_each(|problem| self.report.tell(problem.from_root()));
        self.record(file, record, position)?;
        Ok(true)
    }

    /// Adds the record; false where it can't be one.
    fn record(&mut self, file: &FoundFile, record: FileRecord, position: u64) -> dbvault_repo::Result<bool> {
        let is_other_name = record.same_as.is_some();
        match self.writer.record(record, position) {
            Ok(()) => {}
            Err(RepoError::Source { source, .. }) => {
                self.report.tell(Problem::new(&file.path, "store", source).from_root());
                return Ok(false);
            }
            Err(e) => return Err(e),
        }
        if !is_other_name {
            self.links.add(file);
        }
        self.report.files += 1;
        Ok(true)
    }
}
