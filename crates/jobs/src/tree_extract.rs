//! Files out of an archive, below a directory: one thread follows the table, several write.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use dbvault_files::{FileWriter, PendingFile, PlaceOptions, Placed, Placer, Problem};
use dbvault_format::file_table::FileRecord;
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{Counter, Error as RepoError, Monitor, RandomReader, Reader};
use parking_lot::Mutex;

use crate::{Error, Result};

/// Content of files that a thread is given at once, about, bytes.
const BATCH_BYTES: u64 = 8 << 20;
/// Files that a thread is given at once.
const BATCH_FILES: usize = 256;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Threads that write at once: some wait for the disk.
const THREADS_MIN: usize = 4;
/// Problems that are told by name.
const PROBLEMS_TOLD_MAX: usize = 100;

/// How files are extracted.
#[derive(Debug)]
pub struct TreeExtract {
    /// The directory, which is there.
    pub to: PathBuf,
    /// Which files, and how.
    pub options: PlaceOptions,
}

/// What an extract did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeExtracted {
    /// Files of all kinds that were made.
    pub made: u64,
    /// Files that were there already.
    pub kept: u64,
    /// What could not be made, or not as it was; the first hundred.
    pub problems: Vec<String>,
    /// How many these are in all.
    pub problem_count: u64,
}

/// A file to be written, and where its content is.
type Job = (Box<PendingFile>, Range<u64>);

/// What all threads know.
struct Shared {
    problems: Mutex<(Vec<String>, u64)>,
    made: AtomicU64,
    /// A thread has failed: the others stop.
    stop: AtomicBool,
}

impl Shared {
    fn tell(&self, problem: impl std::fmt::Display) {
        let text = problem.to_string();
        tracing::warn!("{text}");
        let mut problems = self.problems.lock();
        problems.1 += 1;
        if problems.0.len() < PROBLEMS_TOLD_MAX {
            problems.0.push(text);
        }
    }
}

/// Extracts the files of the tree `entry`.
///
/// Errors: the target or the table can't be read, or there is no more room. A file that can't be made, or of which the content
/// can't be read, is a problem of the report: what was there before stays.
pub fn extract_tree(
    reader: &Arc<Reader>,
    entry: &EntryRecord,
    request: TreeExtract,
    monitor: &Arc<dyn Monitor>,
) -> Result<TreeExtracted> {
    monitor.expect(Counter::StreamBytes, entry.stream.bytes);
    let shared = Arc::new(Shared {
        problems: Mutex::default(),
        made: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let told = shared.clone();
    let report = Arc::new(move |problem: Problem| told.tell(problem));
    let TreeExtract { to, options } = request;
    let again = Again { to: to.clone(), options: options.clone(), report: report.clone() };
    let placer = Placer::new(&to, options, report).map_err(Error::Files)?;
    let threads = thread::available_parallelism().map_or(1, usize::from).max(THREADS_MIN);
    let kept = thread::scope(|scope| -> Result<u64> {
        let (jobs, batches) = bounded::<Vec<Job>>(threads);
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (batches, shared) = (batches.clone(), shared.clone());
                scope.spawn(move || write_files(reader, entry, &batches, &shared, monitor))
            })
            .collect();
        drop(batches);
        let placed = follow(reader, entry, placer, &jobs, &shared, again);
        drop(jobs);
        let written =
            workers.into_iter().map(|worker| worker.join().unwrap_or(Err(RepoError::Poisoned.into())));
        let written: Result<Vec<()>> = written.collect();
        placed.and_then(|kept| written.map(|_| kept))
    })?;
    let (problems, problem_count) = std::mem::take(&mut *shared.problems.lock());
    Ok(TreeExtracted { made: shared.made.load(Ordering::Relaxed), kept, problems, problem_count })
}

/// Other names of files that were not extracted themselves are given their content in a second turn.
struct Again {
    to: PathBuf,
    options: PlaceOptions,
    report: dbvault_files::Report,
}

/// Places all records, and hands out the files to be written; gives how many were there already.
fn follow(
    reader: &Arc<Reader>,
    entry: &EntryRecord,
    mut placer: Placer,
    jobs: &Sender<Vec<Job>>,
    shared: &Shared,
    again: Again,
) -> Result<u64> {
    let (mut kept, mut batch, mut lacking) =
        (0, Batch::new(jobs), BTreeMap::<Vec<u8>, Vec<FileRecord>>::new());
    for step in reader.open_table(entry)? {
        let (record, content) = step?;
        reader.check_interrupt()?;
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        if record.same_as.is_some() {
            // The file it is another name of may be among those that nobody writes yet.
            batch.send();
        }
        match placer.place(&record) {
            Placed::Content(pending) => batch.add(pending, content),
            Placed::Made => drop(shared.made.fetch_add(1, Ordering::Relaxed)),
            Placed::Kept => kept += 1,
            Placed::NeedsOriginal => {
                let original = record.same_as.as_ref().map(|path| path.to_vec()).unwrap_or_default();
                lacking.entry(original).or_default().push(record);
            }
            Placed::NotSelected | Placed::Failed => {}
        }
    }
    batch.send();
    placer.finish();
    if !lacking.is_empty() && !shared.stop.load(Ordering::Relaxed) {
        place_lacking(reader, entry, again, batch, shared, lacking)?;
    }
    Ok(kept)
}

/// Places files under their other names: the first of them gets the content, the rest are names of that.
fn place_lacking(
    reader: &Arc<Reader>,
    entry: &EntryRecord,
    again: Again,
    mut batch: Batch,
    shared: &Shared,
    mut lacking: BTreeMap<Vec<u8>, Vec<FileRecord>>,
) -> Result<()> {
    let mut found: Vec<(FileRecord, Range<u64>)> = Vec::new();
    for step in reader.open_table(entry)? {
        let (original, content) = step?;
        let Some(names) = lacking.remove(original.path.as_slice()) else { continue };
        let first = names.first().map(|name| name.path.clone());
        for (number, name) in names.into_iter().enumerate() {
            let record = match number {
                0 => FileRecord { path: name.path, ..original.clone() },
                _ => FileRecord { same_as: first.clone(), ..name },
            };
            found.push((record, content.clone()));
        }
    }
    found.sort_by(|(a, _), (b, _)| dbvault_format::file_table::compare_paths(&a.path, &b.path));
    let mut placer =
        Placer::new(&again.to, PlaceOptions { delete_extra: false, ..again.options }, again.report)
            .map_err(Error::Files)?;
    for (record, content) in found {
        if record.same_as.is_some() {
            batch.send();
        }
        match placer.place(&record) {
            Placed::Content(pending) => batch.add(pending, content),
            Placed::Made => drop(shared.made.fetch_add(1, Ordering::Relaxed)),
            Placed::NeedsOriginal => {
                shared.tell(Problem::found(&record.path, "link", "its file is not there"))
            }
            Placed::Kept | Placed::NotSelected | Placed::Failed => {}
        }
    }
    batch.send();
    placer.finish();
    Ok(())
}

/// Files that lie near each other in the content, for one thread.
struct Batch<'a> {
    jobs: &'a Sender<Vec<Job>>,
    files: Vec<Job>,
    bytes: u64,
}

impl<'a> Batch<'a> {
    fn new(jobs: &'a Sender<Vec<Job>>) -> Batch<'a> {
        Batch { jobs, files: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, file: Box<PendingFile>, content: Range<u64>) {
        self.bytes += content.end - content.start;
        self.files.push((file, content));
        if self.bytes >= BATCH_BYTES || self.files.len() >= BATCH_FILES {
            self.send();
        }
    }

    fn send(&mut self) {
        self.bytes = 0;
        // Nobody takes them only where all threads have failed: they tell why.
        let _ = self.jobs.send(std::mem::take(&mut self.files));
    }
}

fn write_files(
    reader: &Arc<Reader>,
    entry: &EntryRecord,
    batches: &Receiver<Vec<Job>>,
    shared: &Shared,
    monitor: &Arc<dyn Monitor>,
) -> Result<()> {
    let content = reader.open_random(&entry.stream)?;
    let mut room = vec![0; READ_BYTES];
    for batch in batches {
        for (pending, range) in batch {
            // What is left is dropped: those files stay as they were.
            if shared.stop.load(Ordering::Relaxed) {
                break;
            }
            if let Err(e) = reader.check_interrupt() {
                shared.stop.store(true, Ordering::Relaxed);
                return Err(e.into());
            }
            let bytes = range.end - range.start;
            match write_file(&content, pending, range, &mut room) {
                Ok(()) => drop(shared.made.fetch_add(1, Ordering::Relaxed)),
                Err(problem) => shared.tell(problem),
            }
            monitor.add(Counter::StreamBytes, bytes);
        }
    }
    Ok(())
}

fn write_file(
    content: &RandomReader,
    pending: Box<PendingFile>,
    range: Range<u64>,
    room: &mut [u8],
) -> std::result::Result<(), Problem> {
    let path = pending.record().path.to_vec();
    let mut writer: FileWriter = pending.create()?;
    let mut at = range.start;
    while at < range.end {
        let wanted = (range.end - at).min(room.len() as u64) as usize;
        let unreadable = |error: RepoError| Problem::new(&path, "read", std::io::Error::other(error));
        let read = content.read_at(at, &mut room[..wanted]).map_err(unreadable)?;
        if read == 0 {
            return Err(Problem::found(&path, "read", "the content ends too early"));
        }
        writer.write(&room[..read])?;
        at += read as u64;
    }
    writer.finish()
}

/// Makes the directory that files are extracted to, where it is not there.
///
/// Errors: it can't be made.
pub fn make_target(to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(|source| Error::Output { output: to.display().to_string(), source })
}
