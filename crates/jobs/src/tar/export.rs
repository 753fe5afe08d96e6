//! The files of an archive as a tar stream, with bounded memory.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use dbvault_files::Patterns;
use dbvault_format::file_table::{FileKind, FileRecord};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{Counter, Error as RepoError, Monitor, RandomReader, Reader};

use super::writer::TarWriter;
use crate::tree_backup::TreeReport;
use crate::{Error, Result};

/// What is read of the content at once, bytes.
const READ_BYTES: usize = 1 << 20;
/// What is written at once, bytes.
const WRITE_BYTES: usize = 256 << 10;

/// Which files go into a tar.
#[derive(Clone, Debug, Default)]
pub struct TarExport {
    /// Of all the files.
    pub patterns: Patterns,
    /// Components that are taken from the beginning of each path; a path that has no more is left out.
    pub strip_components: usize,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TarExported {
    /// Length of the tar, bytes.
    pub bytes: u64,
    /// Files of all kinds in it, and what could not be put into it.
    pub report: TreeReport,
}

/// Writes the files of the tree `entry` to `out`, which errors call `output`.
///
/// Memory: what [`Reader::open_random`] holds, and a record for each file that is chosen under another name only.
///
/// Errors: [`Error::Output`]; those of reading, after which what was written is no whole tar.
pub fn export_tar(
    reader: &Arc<Reader>,
    entry: &EntryRecord,
    request: &TarExport,
    out: &mut dyn Write,
    output: &str,
    monitor: &Arc<dyn Monitor>,
) -> Result<TarExported> {
    monitor.expect(Counter::StreamBytes, entry.stream.bytes);
    let mut out = io::BufWriter::with_capacity(WRITE_BYTES, out);
    let mut export = Export {
        reader,
        content: reader.open_random(&entry.stream)?,
        tar: TarWriter::new(&mut out),
        output,
        monitor,
        room: vec![0; READ_BYTES],
        report: TreeReport::default(),
    };
    let mut choice = Choice { request, lacking: originals_left_out(reader, entry, request)? };
    for step in reader.open_table(entry)? {
        let (record, content) = step?;
        reader.check_interrupt()?;
        if let Some((record, content)) = choice.choose(record, content, &mut export.report) {
            export.file(&record, content)?;
        }
    }
    let Export { tar, report, .. } = export;
    let bytes = tar.finish().map_err(|source| failed(output, source))?;
    Ok(TarExported { bytes, report })
}

fn failed(output: &str, source: io::Error) -> Error {
    Error::Output { output: output.to_owned(), source }
}

/// The path without its first components; `None` where nothing is left.
fn stripped(path: &[u8], components: usize) -> Option<&[u8]> {
    (0..components).try_fold(path, |path, _| {
        let slash = path.iter().position(|byte| *byte == b'/')?;
        Some(&path[slash + 1..])
    })
}

fn is_chosen(record: &FileRecord, request: &TarExport) -> bool {
    request.patterns.takes(&record.path) && stripped(&record.path, request.strip_components).is_some()
}

/// A file that is chosen, but not under the name that has its content.
enum Lacking {
    /// It has not come by yet.
    Awaited,
    /// What the table says of it, until the first chosen name takes it.
    Met(Box<FileRecord>, Range<u64>),
    /// The name under which it is in the tar, as a record of this archive has it.
    Named(Vec<u8>),
}

/// Files of which another name is chosen, and not the one that has the content.
fn originals_left_out(
    reader: &Arc<Reader>,
    entry: &EntryRecord,
    request: &TarExport,
) -> Result<HashMap<Vec<u8>, Lacking>> {
    let mut lacking = HashMap::new();
    for step in reader.open_table(entry)? {
        let (record, _) = step?;
        reader.check_interrupt()?;
        let Some(first) = record.same_as.as_ref().filter(|_| is_chosen(&record, request)) else { continue };
        let original = FileRecord { path: first.clone(), ..record.clone() };
        if !is_chosen(&original, request) {
            lacking.insert(first.to_vec(), Lacking::Awaited);
        }
    }
    Ok(lacking)
}

struct Choice<'a> {
    request: &'a TarExport,
    lacking: HashMap<Vec<u8>, Lacking>,
}

impl Choice<'_> {
    /// What is written of a record, if anything.
    fn choose(
        &mut self,
        record: FileRecord,
        content: Range<u64>,
        report: &mut TreeReport,
    ) -> Option<(FileRecord, Range<u64>)> {
        if let Some(lacking) = self.lacking.get_mut(record.path.as_slice()) {
            *lacking = Lacking::Met(Box::new(record), content);
            return None;
        }
        let components = self.request.strip_components;
        if !is_chosen(&record, self.request) {
            return None;
        }
        if record.kind == FileKind::Socket {
            report.tell(format!("left out {}: a tar has no sockets", String::from_utf8_lossy(&record.path)));
            return None;
        }
        let path = stripped(&record.path, components)?.to_vec();
        let Some(first) = record.same_as.clone() else {
            return Some((FileRecord { path: path.into(), ..record }, content));
        };
        match self.lacking.get_mut(first.as_slice()) {
            None => {
                let first = stripped(&first, components)?.to_vec();
                Some((FileRecord { path: path.into(), same_as: Some(first.into()), ..record }, content))
            }
            Some(Lacking::Awaited) => {
                report.tell(format!("left out {}: its file is not there", String::from_utf8_lossy(&path)));
                None
            }
            Some(Lacking::Named(name)) => {
                let same_as = Some(name.clone().into());
                Some((FileRecord { path: path.into(), same_as, ..record }, content))
            }
            Some(lacking) => match std::mem::replace(lacking, Lacking::Named(path.clone())) {
                Lacking::Met(original, content) => {
                    Some((FileRecord { path: path.into(), ..*original }, content))
                }
                Lacking::Awaited | Lacking::Named(_) => None,
            },
        }
    }
}

struct Export<'a, 'b> {
    reader: &'a Arc<Reader>,
    content: RandomReader,
    tar: TarWriter<'b>,
    output: &'a str,
    monitor: &'a Arc<dyn Monitor>,
    room: Vec<u8>,
    report: TreeReport,
}

impl Export<'_, '_> {
    fn file(&mut self, record: &FileRecord, content: Range<u64>) -> Result<()> {
        self.tar.begin(record).map_err(|source| failed(self.output, source))?;
        let mut at = content.start;
        while at < content.end {
            self.reader.check_interrupt()?;
            let wanted = (content.end - at).min(self.room.len() as u64) as usize;
            let read = self.content.read_at(at, &mut self.room[..wanted])?;
            if read == 0 {
                let what = dbvault_format::Error::malformed("tree", "the content ends too early");
                return Err(RepoError::Format(what).into());
            }
            self.tar.content(&self.room[..read]).map_err(|source| failed(self.output, source))?;
            self.monitor.add(Counter::StreamBytes, read as u64);
            at += read as u64;
        }
        self.report.files += 1;
        Ok(())
    }
}
