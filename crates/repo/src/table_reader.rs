//! File tables out of the repository, a record at a time.

use std::io::BufRead;
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::file_table::{FileRecord, FileTableOrder, decode_record};
use dbvault_format::manifest::EntryRecord;

use crate::stream_reader::from_io;
use crate::{Error, Reader, Result, StreamReader};

/// Bytes that are taken from the stream at a time.
const READ_BYTES: usize = 64 << 10;

/// Reads the file table of a tree from its beginning: each record, and where its content is in the content stream.
///
/// What it gives is in order, and within the content stream. Holds one batch of the stream and one record.
#[derive(Debug)]
pub struct TableReader {
    /// `None` after the end.
    stream: Option<StreamReader>,
    order: FileTableOrder,
    content_bytes: u64,
    /// Bytes of all records that were given.
    position: u64,
    /// Bytes that were read, and how many of them are read out.
    buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    /// Opens the file table of a tree.
    ///
    /// Errors: [`Error::Damaged`] where the entry is no tree.
    pub fn open_table(self: &Arc<Self>, entry: &EntryRecord) -> Result<TableReader> {
        let table = entry.table.as_ref().ok_or_else(|| malformed("the entry is no tree"))?;
        Ok(TableReader {
            stream: Some(self.open_uncounted(table)?),
            order: FileTableOrder::default(),
            content_bytes: entry.stream.bytes,
            position: 0,
            buffer: Vec::new(),
            at: 0,
        })
    }
}

/// Where the content of the next record is, in a content stream of `content_bytes`.
pub(crate) fn placed(
    order: &mut FileTableOrder,
    record: &FileRecord,
    content_bytes: u64,
) -> Result<Range<u64>> {
    let content = order.next(record).map_err(damaged)?;
    if content.end > content_bytes {
        return Err(malformed("a file behind the end of the content"));
    }
    Ok(content)
}

pub(crate) fn malformed(detail: &'static str) -> Error {
    damaged(dbvault_format::Error::malformed("file table", detail))
}

pub(crate) fn damaged(source: dbvault_format::Error) -> Error {
    Error::reading("file table", source)
}

impl TableReader {
    /// Bytes of the table before the next record. Behind an error: before what can't be read.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn step(&mut self) -> Result<Option<(FileRecord, Range<u64>)>> {
        loop {
            if let Some((record, len)) = decode_record(&self.buffer[self.at..]).map_err(damaged)? {
                let content = placed(&mut self.order, &record, self.content_bytes)?;
                self.at += len;
                self.position += len as u64;
                return Ok(Some((record, content)));
            }
            self.buffer.drain(..std::mem::take(&mut self.at));
            if !self.read_on()? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(malformed("ends within a record"))
                };
            }
        }
    }

    /// Reads some more bytes; `false` at the end.
    fn read_on(&mut self) -> Result<bool> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let piece = stream.fill_buf().map_err(from_io)?;
        let len = piece.len().min(READ_BYTES);
        self.buffer.extend_from_slice(&piece[..len]);
        stream.consume(len);
        Ok(len > 0)
    }
}

/// Each record, and the bytes of the content stream that are its content. After an error there is nothing more.
impl Iterator for TableReader {
    type Item = Result<(FileRecord, Range<u64>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.stream = None;
            self.buffer.clear();
            self.at = 0;
        }
        step.transpose()
    }
}
