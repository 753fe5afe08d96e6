//! A tree of files on its way into an archive: content and file table, two streams that are written at the same time.

use std::io::{self, Read};
use std::ops::Range;

use dbvault_format::chunk_list::{Item, StreamRef};
use dbvault_format::entry::{EntryMeta, Grid};
use dbvault_format::file_table::{FileRecord, FileTableOrder, RECORD_BYTES_MAX};
use dbvault_format::id::ChunkId;
use dbvault_format::manifest::Sizes;

use crate::block_writer::BlockWriter;
use crate::pipeline::{Pipeline, Share};
use crate::reuse::Reuse;
use crate::splice::{SpliceTarget, Splicer};
use crate::stream_items::StreamItems;
use crate::{Error, Result};

/// Bytes of a content stream that may be nobody's, whatever its length. Beyond, at most half as many as are somebody's:
/// they cost nothing to store, but whoever reads the stream passes over them.
const WASTE_BYTES: u64 = 64 << 20;

/// Takes the files of a tree, one after the other in the order of the [file table](dbvault_format::file_table): the content of
/// each, then its record.
///
/// The content of a file that has to be read comes by [`TreeWriter::copy`] or [`TreeWriter::write`], in as many pieces as are
/// wanted; that of one that has not changed since the base by [`TreeWriter::keep`]. Content that no record follows does no
/// harm. Small files one after the other share chunks; [`TreeWriter::cut`] before and after a large one makes its chunks
/// those of the same file elsewhere.
#[derive(Debug)]
pub struct TreeWriter<'a> {
    content: &'a mut BlockWriter,
    table: &'a mut BlockWriter,
    reuse: &'a Reuse,
    splicer: Option<Splicer<StreamItems>>,
    name: &'a str,
    order: FileTableOrder,
    /// Where the content of the last record ends, bytes.
    content_end: u64,
    /// Content of all records, bytes.
    used_bytes: u64,
}

/// Stores what `write` writes: content, table, and their sizes.
pub(crate) fn store_tree<T>(
    pipeline: &Pipeline,
    meta: &EntryMeta,
    base: Option<StreamItems>,
    write: impl FnOnce(&mut TreeWriter<'_>) -> Result<T>,
) -> Result<(T, StreamRef, Option<StreamRef>, Sizes)> {
    let stored = pipeline.store_written(&meta.name, meta.grid, Share::most(), |content| {
        pipeline.store_written(&meta.name, Grid::Content, Share::aside(), |table| {
            write(&mut TreeWriter {
                content,
                table,
                reuse: pipeline.reuse(),
                splicer: base.map(Splicer::new),
                name: &meta.name,
                order: FileTableOrder::default(),
                content_end: 0,
                used_bytes: 0,
            })
        })
    })?;
    let ((value, table, table_sizes), content, mut sizes) = stored;
    // The table is a cost of storing, not part of what the user gave.
    sizes.stored_bytes += table_sizes.stored_bytes;
    Ok((value, content, Some(table), sizes))
}

impl TreeWriter<'_> {
    /// Length of the content stream so far, bytes: where the content of a file begins that comes next.
    pub fn position(&self) -> u64 {
        self.content.position()
    }

    /// Takes content from `body` until it ends, or until there are `bytes_max`; gives how many bytes.
    ///
    /// Errors: [`Error::Source`] where `body` fails: its file may be left out, or tried again at a new position, and the
    /// tree goes on. After any other error nothing more is taken.
    pub fn copy(&mut self, body: &mut dyn Read, bytes_max: u64) -> Result<u64> {
        self.content.copy(body, bytes_max)
    }

    /// Takes content that is in memory. Errors: as [`TreeWriter::copy`], but never [`Error::Source`].
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        self.content.copy(&mut bytes, len).map(drop)
    }

    /// Ends the chunk here: what comes next is cut as if a stream began with it.
    pub fn cut(&mut self) -> Result<()> {
        self.content.cut()
    }

    /// Takes over the bytes `old` of the base, without reading any of them; gives the position at which they begin now. Each
    /// range lies behind the one before it.
    ///
    /// `None` where they can't be had that way and have to be copied from the file: there is no base, or not so much of it;
    /// a chunk is gone or about to go; too much beside them would have to be taken along.
    pub fn keep(&mut self, old: &Range<u64>) -> Result<Option<u64>> {
        let Some(splicer) = &mut self.splicer else { return Ok(None) };
        let waste_bytes = self.content.position() - self.used_bytes;
        let waste_max = WASTE_BYTES + self.used_bytes / 2;
        let left = waste_max.saturating_sub(waste_bytes);
        splicer.keep(old, &mut Target { content: self.content, reuse: self.reuse, waste_bytes: left })
    }

    /// Adds the record of the next file. Its content, where it has any, begins at `position`, which [`TreeWriter::position`] or
    /// [`TreeWriter::keep`] gave; `gap_bytes` need not be set.
    ///
    /// Errors: [`Error::Source`] where the record is none that a table can have, is not behind the one before it, or has other
    /// content than was given: then the file is left out, and the tree may go on.
    pub fn record(&mut self, mut record: FileRecord, position: u64) -> Result<()> {
        let refuse = |source| Error::Source { entry: self.name.to_owned(), source };
        let misplaced = || io::Error::new(io::ErrorKind::InvalidInput, "content that was not given");
        let content_bytes = record.content_bytes();
        record.gap_bytes = match content_bytes {
            0 => 0,
            _ => position.checked_sub(self.content_end).ok_or_else(|| refuse(misplaced()))?,
        };
        let end = position.checked_add(content_bytes);
        if content_bytes > 0 && end.is_none_or(|end| end > self.content.position()) {
            return Err(refuse(misplaced()));
        }
        let encoded = record.encode();
        if encoded.len() > RECORD_BYTES_MAX {
            return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, "attributes are too long")));
        }
        let placed = record.validate().and_then(|()| self.order.next(&record));
        let range = placed.map_err(|e| refuse(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
        self.content_end = range.end;
        self.used_bytes += content_bytes;
        self.table.copy(&mut encoded.as_slice(), encoded.len() as u64).map(drop)
    }
}

/// The content stream, for a splice.
struct Target<'a> {
    content: &'a mut BlockWriter,
    reuse: &'a Reuse,
    /// How many more bytes may be nobody's.
    waste_bytes: u64,
}

impl SpliceTarget for Target<'_> {
    fn position(&self) -> u64 {
        self.content.position()
    }

    fn may_use(&mut self, id: &ChunkId) -> Result<bool> {
        Ok(self.reuse.find(id)?.is_some())
    }

    fn may_waste(&self, bytes: u64) -> bool {
        bytes <= self.waste_bytes
    }

    fn put(&mut self, item: Item) -> Result<()> {
        self.content.splice(item)
    }
}
