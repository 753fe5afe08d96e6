//! The content of one file of a tree, with its holes, at any place.

use std::ops::Range;

use dbvault_format::file_table::{Extent, FileRecord};

use crate::table_reader::malformed;
use crate::{RandomReader, Result};

/// Reads a regular file of a tree: what lies between the extents of a sparse one reads as zeros.
#[derive(Debug)]
pub struct FileContent {
    random: RandomReader,
    /// Its bytes of the content stream.
    content: Range<u64>,
    size_bytes: u64,
    /// What is stored of a sparse file, and where in the content stream each begins.
    extents: Option<Vec<(Extent, u64)>>,
}

impl FileContent {
    /// The content of `record`, which is `content` of the stream that `random` reads.
    pub fn new(random: RandomReader, record: &FileRecord, content: Range<u64>) -> FileContent {
        let mut begin = content.start;
        let extents = record.extents.as_ref().map(|extents| {
            let placed = extents.iter().map(|extent| {
                let at = begin;
                begin += extent.bytes;
                (*extent, at)
            });
            placed.collect()
        });
        FileContent { random, content, size_bytes: record.size_bytes, extents }
    }

    /// Length of the file, holes included, bytes.
    pub fn len_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Calls `give` with up to `size` bytes from `offset` on, which are copied to `room` only where they are not in one
    /// piece; fewer only at the end of the file.
    ///
    /// Errors: as [`RandomReader::read_at`].
    pub fn read_with<T>(
        &self,
        offset: u64,
        size: usize,
        room: &mut Vec<u8>,
        give: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let end = self.size_bytes.min(offset.saturating_add(size as u64));
        if offset >= end {
            return Ok(give(&[]));
        }
        let len = (end - offset) as usize;
        let Some(extents) = &self.extents else {
            return self.random.read_with(self.content.start + offset, len, room, give);
        };
        room.resize(room.len().max(len), 0);
        let out = &mut room[..len];
        out.fill(0);
        let first = extents.partition_point(|(extent, _)| extent.offset + extent.bytes <= offset);
        for (extent, begin) in extents[first..].iter().take_while(|(extent, _)| extent.offset < end) {
            let (from, to) = (offset.max(extent.offset), end.min(extent.offset + extent.bytes));
            let piece = &mut out[(from - offset) as usize..(to - offset) as usize];
            if self.random.read_at(begin + (from - extent.offset), piece)? < piece.len() {
                return Err(malformed("a file behind the end of the content"));
            }
        }
        Ok(give(out))
    }

    /// Where data begins that is stored, at `offset` or behind it; `None` where there is only a hole up to the end.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let Some(extents) = &self.extents else { return (offset < self.size_bytes).then_some(offset) };
        let next = extents.partition_point(|(extent, _)| extent.offset + extent.bytes <= offset);
        extents.get(next).map(|(extent, _)| extent.offset.max(offset))
    }

    /// Where a hole begins, at `offset` or behind it; the end of the file is one.
    pub fn next_hole(&self, offset: u64) -> u64 {
        let mut at = offset.min(self.size_bytes);
        let Some(extents) = &self.extents else { return self.size_bytes };
        let next = extents.partition_point(|(extent, _)| extent.offset + extent.bytes <= at);
        for (extent, _) in extents[next..].iter().take_while(|(extent, _)| extent.offset <= offset) {
            at = at.max(extent.offset + extent.bytes);
        }
        at
    }
}
