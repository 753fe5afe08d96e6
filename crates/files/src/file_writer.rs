//! Writes a regular file under a temporary name, and then gives it its own.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dbvault_format::file_table::{Extent, FileRecord};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, openat, unlinkat};
use rustix::io::{Errno, pwrite};

use crate::error::Problem;
use crate::metadata::Handle;
use crate::open_directory::Writing;
use crate::place::Shared;
use crate::{remove, temporary_name};

/// Stretches of zeros that become holes, bytes: a block of most file systems.
const HOLE_BYTES: usize = 4096;

/// A regular file that is to be written, by any thread. Where it is dropped, the file is not restored, and what was there
/// stays.
pub struct PendingFile {
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: Arc<OwnedFd>,
    pub(crate) name: Vec<u8>,
    /// Relative to the target.
    pub(crate) path: Vec<u8>,
    pub(crate) record: FileRecord,
    // Dropped in this order: who waits for the file may go on before its directory is finished.
    pub(crate) _in_flight: FlightGuard,
    pub(crate) _writing: Writing,
}

impl PendingFile {
    /// The record it is made from.
    pub fn record(&self) -> &FileRecord {
        &self.record
    }

    /// Begins to write it.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub fn create(self) -> Result<FileWriter, Problem> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..temporary_name::TRIES_MAX {
            let temporary = temporary_name::choose(&self.path)?;
            match openat(&self.directory, temporary.as_slice(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    let whole = Extent { offset: 0, bytes: self.record.size_bytes };
                    let extents = self.record.extents.clone().unwrap_or_else(|| vec![whole]);
                    let temporary = Some(temporary);
                    return Ok(FileWriter { file, temporary, extents, at: (0, 0), end: 0, pending: self });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Problem::new(&self.path, "create", error)),
            }
        }
        Err(Problem::new(&self.path, "create", Errno::EXIST))
    }
}

/// A regular file that is being written. Where it is dropped unfinished, nothing of it stays.
pub struct FileWriter {
    file: OwnedFd,
    temporary: Option<Vec<u8>>,
    extents: Vec<Extent>,
    /// Which extent is written, and how much of it has been.
    at: (usize, u64),
    /// How long the file is, bytes.
    end: u64,
    pending: PendingFile,
}

impl FileWriter {
    /// Writes the next bytes of the content stream that are this file's.
    ///
    /// # Errors
    /// They can't be written, or are more than the record promised.
    pub fn write(&mut self, mut content: &[u8]) -> Result<(), Problem> {
        while !content.is_empty() {
            let (index, done) = self.at;
            let Some(extent) = self.extents.get(index) else {
                return Err(self.problem("its content is longer than its record says"));
            };
            let left = extent.bytes - done;
            if left == 0 {
                self.at = (index + 1, 0);
                continue;
            }
            let offset = extent.offset + done;
            let (now, later) =
                content.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(content.len()));
            if self.pending.shared.options.make_sparse {
                self.put_sparse(now, offset)?;
            } else {
                self.put(now, offset)?;
            }
            self.at = (index, done + now.len() as u64);
            content = later;
        }
        Ok(())
    }

    /// Writes all but blocks of zeros.
    fn put_sparse(&mut self, bytes: &[u8], offset: u64) -> Result<(), Problem> {
        let aligned = HOLE_BYTES - usize::try_from(offset % HOLE_BYTES as u64).unwrap_or(0);
        // Where data that is not written yet begins, and where the next block does.
        let (mut data, mut at) = (0, 0);
        while at < bytes.len() {
            let end = if at == 0 { aligned } else { at + HOLE_BYTES }.min(bytes.len());
            if bytes[at..end].iter().all(|byte| *byte == 0) {
                self.put(&bytes[data..at], offset + data as u64)?;
                data = end;
            }
            at = end;
        }
        self.put(&bytes[data..], offset + data as u64)
    }

    fn put(&mut self, mut bytes: &[u8], mut offset: u64) -> Result<(), Problem> {
        while !bytes.is_empty() {
            match pwrite(&self.file, bytes, offset) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                    self.end = self.end.max(offset);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Problem::new(&self.pending.path, "write", error)),
            }
        }
        Ok(())
    }

    /// Sets all that the record says, and gives the file its name, in the place of what has it.
    ///
    /// # Errors
    /// Content is missing, or the name can't be given: nothing of the file stays. Metadata that can't be set is told to
    /// the report of the [`crate::Placer`] instead.
    pub fn finish(mut self) -> Result<(), Problem> {
        let (index, done) = self.at;
        let promised: u64 = self.extents.iter().skip(index).map(|extent| extent.bytes).sum();
        if promised != done {
            return Err(self.problem("its content is shorter than its record says"));
        }
        let pending = &self.pending;
        let (shared, record, path) = (&pending.shared, &pending.record, pending.path.as_slice());
        if self.end != record.size_bytes {
            ftruncate(&self.file, record.size_bytes).map_err(|error| Problem::new(path, "write", error))?;
        }
        shared.settings.apply(Handle::opened(&self.file), record, path);
        if let Some(temporary) = &self.temporary {
            let replaces = shared.options.delete_extra;
            remove::put_in_place(&pending.directory, temporary, &pending.name, replaces)
                .map_err(|error| Problem::new(path, "put in place", error))?;
        }
        self.temporary = None;
        if crate::flags::is_any(record.flags) {
            shared.settings.apply_flags(&self.file, record, path);
        }
        Ok(())
    }

    fn problem(&self, why: &'static str) -> Problem {
        Problem::found(&self.pending.path, "write", why)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            // Nobody could do more about it.
            let _ = unlinkat(&self.pending.directory, temporary, AtFlags::empty());
        }
    }
}

/// Files that are being written, by their paths: another name of one waits for it.
#[derive(Default)]
pub(crate) struct InFlight {
    paths: Mutex<HashSet<Vec<u8>>>,
    ended: Condvar,
}

impl InFlight {
    /// Waits until nobody writes this file any more.
    pub(crate) fn wait_for(&self, path: &[u8]) {
        let mut paths = self.paths.lock();
        while paths.contains(path) {
            self.ended.wait(&mut paths);
        }
    }
}

/// Takes a file from those that are being written.
pub(crate) struct FlightGuard {
    shared: Arc<Shared>,
    path: Vec<u8>,
}

impl FlightGuard {
    pub(crate) fn new(shared: &Arc<Shared>, path: &[u8]) -> Self {
        let mut paths = shared.in_flight.paths.lock();
        paths.insert(path.to_vec());
        FlightGuard { shared: Arc::clone(shared), path: path.to_vec() }
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        let in_flight = &self.shared.in_flight;
        in_flight.paths.lock().remove(&self.path);
        in_flight.ended.notify_all();
    }
}
