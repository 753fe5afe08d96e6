//! A tar into an archive.
//!
//! A file table is sorted and content lies in its order, a tar is in any order: so the headers are read first and sorted, and
//! then the content is read where it is. That needs a file. What comes through a pipe is copied into one first: to store it as
//! it comes and to bring it into order afterwards would cost chunks that the order cuts through, and dedup with them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use dbvault_format::file_table::FileRecord;
use dbvault_format::manifest::ArchiveManifest;
use dbvault_repo::{Error as RepoError, Monitor, Repository};
use jiff::Timestamp;

use super::index::{Index, Is};
use super::member::{Member, TarFile};
use super::spool::Spool;
use crate::tree_backup::{TREE_NAME, TreeReport};
use crate::tree_import::{Provenance, Stored, TreeSink, store_archive};
use crate::{Error, Result, Watcher};

/// What the archive is called.
#[derive(Clone, Debug)]
pub struct TarImport {
    /// Its name.
    pub archive_name: String,
    /// What the user says of it.
    pub comment: Option<String>,
    /// When what is in it was made; by default now.
    pub made_at: Option<Timestamp>,
    /// Where a stream is put that can only be read once.
    pub spool: Spool,
}

/// What was made of a tar.
#[derive(Clone, Debug)]
pub struct TarImported {
    /// The archive.
    pub manifest: ArchiveManifest,
    /// What became of its files.
    pub report: TreeReport,
}

/// Makes an archive of the files in a tar, which errors call `name`.
///
/// Memory: about 80 bytes for each file, and its path.
///
/// Errors: [`Error::Tar`] where it is none, is cut short or can't be read; those of storing. There is no archive then. What no
/// record can be (a name that leads outside, a kind that is not known) is left out, and a problem of the report.
pub fn import_tar(
    repository: &Repository,
    input: File,
    name: &str,
    request: TarImport,
    watcher: Arc<dyn Watcher>,
) -> Result<TarImported> {
    let unreadable = |error| unreadable(name, error);
    let spooled = request.spool.take(input, &mut || interrupt(repository)).map_err(unreadable)?;
    let provenance = Provenance {
        name: request.archive_name,
        comment: request.comment,
        started_ms: request.made_at.map(Timestamp::as_millisecond),
        ..Provenance::default()
    };
    watcher.entry_begins(TREE_NAME, 0, 1, None);
    let stored = store_tar(repository, spooled, name, provenance, watcher.clone(), false);
    watcher.entry_ends(TREE_NAME);
    let Stored { manifest, report } = stored?;
    Ok(TarImported { manifest, report })
}

/// Makes an archive of a tar file. Errors: as those of [`import_tar`].
pub(crate) fn store_tar(
    repository: &Repository,
    file: File,
    name: &str,
    provenance: Provenance,
    monitor: Arc<dyn Monitor>,
    proven: bool,
) -> Result<Stored> {
    let (mut tar, mut report) = (TarFile::new(file), TreeReport::default());
    let index = Index::read(&mut tar, &mut |path, why| {
        report.tell(left_out(path, why));
        interrupt(repository)
    });
    let index = index.map_err(|error| unreadable(name, error))?;
    store_archive(repository, provenance, monitor, proven, |sink| {
        sink.report = report;
        store_members(repository, &mut tar, &index, sink)
    })
}

/// A stop, on its way through what reads.
fn interrupt(repository: &Repository) -> io::Result<()> {
    repository.check_interrupt().map_err(io::Error::other)
}

fn unreadable(name: &str, error: io::Error) -> Error {
    match error.downcast::<RepoError>() {
        Ok(inner) => inner.into(),
        Err(source) => Error::Tar { name: name.to_owned(), source },
    }
}

fn left_out(path: &[u8], why: &str) -> String {
    format!("left out {}: {why}", String::from_utf8_lossy(path))
}

fn store_members(
    repository: &Repository,
    tar: &mut TarFile,
    index: &Index,
    sink: &mut TreeSink<'_, '_>,
) -> dbvault_repo::Result<()> {
    let failed = |source| RepoError::Source { entry: TREE_NAME.into(), source };
    // Of files with several names, the one that is in the table already.
    let mut firsts: HashMap<usize, Option<Box<[u8]>>> = HashMap::new();
    for number in index.links() {
        if let Is::Member(member) = index.is(number) {
            firsts.insert(member, None);
        }
    }
    let mut last_file: Option<&[u8]> = None;
    for (number, name) in index.names.iter().enumerate().filter(|(number, _)| !index.is_replaced(*number)) {
        repository.check_interrupt()?;
        if last_file.is_some_and(|file| is_below(&name.path, file)) {
            sink.report.tell(left_out(&name.path, "what should be its directory is none"));
            continue;
        }
        let Is::Member(member) = index.is(number) else {
            sink.report.tell(left_out(&name.path, "it is another name of a file that is not there"));
            continue;
        };
        let origin = &index.names[member];
        last_file = (!origin.is_directory).then_some(&name.path);
        let found = tar.again(origin.at, origin.global).map_err(failed)?;
        for lack in &found.lacks {
            sink.report.tell(format!("{}: {lack}", String::from_utf8_lossy(&name.path)));
        }
        let first = firsts.get_mut(&member);
        let is_stored = store_member(tar.file(), found, &name.path, first.as_deref(), sink)?;
        if let Some(first @ None) = first.filter(|_| is_stored) {
            *first = Some(name.path.clone());
        }
    }
    Ok(())
}

/// Stores a member under the name `path`: as another name of `first`, where there is one.
fn store_member(
    file: &File,
    member: Member,
    path: &[u8],
    first: Option<&Option<Box<[u8]>>>,
    sink: &mut TreeSink<'_, '_>,
) -> dbvault_repo::Result<bool> {
    let record = FileRecord { path: path.to_vec().into(), ..member.record };
    if let Some(Some(first)) = first {
        let record = FileRecord {
            same_as: Some(first.to_vec().into()),
            extents: None,
            target: None,
            xattrs: Vec::new(),
            flags: 0,
            ..record
        };
        return sink.file(record, None);
    }
    let mut content = Content { file, at: member.content };
    sink.file(record, Some(&mut content))
}

fn is_below(path: &[u8], around: &[u8]) -> bool {
    path.strip_prefix(around).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Bytes of a file from a place on.
struct Content<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(room, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}
