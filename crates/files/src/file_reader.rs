//! The content of a file as its record promises it, whatever happens to the file meanwhile.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use dbvault_format::file_table::Extent;
use rustix::io::{Errno, pread};

use crate::directory;
use crate::file_stat::FileStat;

/// How reading a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadEnd {
    /// Whether its size or one of its times is not what it was: what was read may be part of before and part of after.
    pub changed: bool,
    /// Bytes at the end that were gone when they were to be read; zeros were given for them.
    pub missing_bytes: u64,
}

/// Reads what of a file is stored, extent after extent: always as many bytes as the record promises.
#[derive(Debug)]
pub struct FileReader {
    file: OwnedFd,
    stat: FileStat,
    extents: Vec<Extent>,
    /// Which extent is read, and how much of it has been.
    at: (usize, u64),
    missing_bytes: u64,
}

impl FileReader {
    pub(crate) fn new(file: OwnedFd, stat: FileStat, extents: Option<Vec<Extent>>) -> Self {
        let whole =
            || Vec::from_iter((stat.size_bytes > 0).then_some(Extent { offset: 0, bytes: stat.size_bytes }));
        let extents = extents.unwrap_or_else(whole);
        FileReader { file, stat, extents, at: (0, 0), missing_bytes: 0 }
    }

    /// Bytes that are still to be read.
    pub fn remaining_bytes(&self) -> u64 {
        let (index, done) = self.at;
        self.extents.iter().skip(index).map(|extent| extent.bytes).sum::<u64>() - done
    }

    /// Tells whether the file is as it was when it was opened.
    ///
    /// # Errors
    /// The system can't tell.
    pub fn finish(self) -> io::Result<ReadEnd> {
        let now = directory::stat_open(&self.file)?;
        let key = |stat: &FileStat| (stat.size_bytes, stat.modified, stat.changed);
        let changed = self.missing_bytes > 0 || key(&now) != key(&self.stat);
        Ok(ReadEnd { changed, missing_bytes: self.missing_bytes })
    }
}

impl Read for FileReader {
    /// Gives zeros for what is behind the end of a file that became shorter.
    ///
    /// # Errors
    /// The file can't be read here: a bad disk. The same place is tried again by the next call.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (index, done) = self.at;
        let Some(extent) = self.extents.get(index) else { return Ok(0) };
        let left = extent.bytes - done;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let mut bytes = loop {
            match pread(&self.file, &mut buffer[..wanted], extent.offset + done) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        if bytes == 0 {
            buffer[..wanted].fill(0);
            self.missing_bytes += wanted as u64;
            bytes = wanted;
        }
        let done = done + bytes as u64;
        self.at = if done == extent.bytes { (index + 1, 0) } else { (index, done) };
        Ok(bytes)
    }
}
