//! A dump of PostgreSQL in the custom format: its table of contents, and the rows of one table.
//!
//! `custom_checker.rs` has the layout. The table of contents is at the beginning; where data blocks are is known from
//! when the dump was made, or by following the stream once.

use std::io::{self, Read};
use std::sync::Arc;

use crate::custom_checker::{
    COPY_END, CustomFormatChecker, START_BYTES, Start, compression_bytes, integer, piece_length,
};
use crate::custom_toc::{Field, Keep, RawEntry, TocReader};
use crate::positions::DataBlock;
use crate::produce::{PRODUCE_BYTES, Produce};
use crate::read_at::{RangeReader, ReadAt};
use crate::{Error, Result};

/// Largest table of contents that is read, bytes: 1,000 times that of 1,000 tables.
const TOC_BYTES_MAX: u64 = 1 << 30;

/// How numbers and rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) int_bytes: usize,
    /// What rows are compressed by; `None` where they are not.
    pub(crate) compression: Option<&'static str>,
}

/// The table of contents.
pub(crate) struct Toc {
    pub(crate) layout: Layout,
    pub(crate) entries: Vec<RawEntry>,
}

/// Reads the table of contents of the entry `name`, and nothing behind it but what a large read brings along.
/// It ends before `end`, if that is known.
pub(crate) fn read_toc(name: &str, bytes: &Arc<dyn ReadAt>, end: Option<u64>) -> Result<Toc> {
    let mut range = RangeReader::new(bytes.clone(), 0, end.unwrap_or(u64::MAX).min(TOC_BYTES_MAX));
    let damaged = |detail: String| Error::damaged(name, detail);
    let mut token = Vec::new();
    read_token(&mut range, START_BYTES, &mut token).map_err(Error::read(name))?;
    let (version, int_bytes, offset_bytes) = match Start::read(&token).map_err(damaged)? {
        Start::Known { version, int_bytes, offset_bytes } => (version, int_bytes, offset_bytes),
        Start::Newer((major, minor)) => {
            let detail = format!("its format version {major}.{minor} is newer than what is understood");
            return Err(Error::Unsupported { name: name.to_owned(), detail });
        }
    };
    read_token(&mut range, compression_bytes(version, int_bytes), &mut token).map_err(Error::read(name))?;
    let layout = Layout { int_bytes, compression: compression(&token).map_err(damaged)? };
    let mut reader = TocReader::new(Keep::All, version, int_bytes, offset_bytes);
    let mut entries = Vec::new();
    while !reader.is_complete() {
        read_token(&mut range, reader.token_bytes(), &mut token).map_err(Error::read(name))?;
        match reader.take(&token).map_err(damaged)? {
            Field::Done => {}
            Field::Text(length) => {
                read_token(&mut range, length, &mut token).map_err(Error::read(name))?;
                reader.take_text(&token);
            }
            Field::Skip(length) => skip(&mut range, length).map_err(Error::read(name))?,
        }
        entries.extend(reader.take_entry());
    }
    Ok(Toc { layout, entries })
}

/// Fills `token` with `count` bytes; makes no room for more than are there.
fn read_token(range: &mut RangeReader, count: usize, token: &mut Vec<u8>) -> io::Result<()> {
    if count as u64 > range.left() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    token.resize(count, 0);
    range.read_exact(token)
}

fn skip(range: &mut RangeReader, mut length: u64) -> io::Result<()> {
    while length > 0 {
        let ready = range.fill()?.len();
        if ready == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = usize::try_from(length).unwrap_or(usize::MAX).min(ready);
        range.consume(count);
        length -= count as u64;
    }
    Ok(())
}

/// The field is a number of a method, or before version 1.15 a level of gzip.
fn compression(token: &[u8]) -> Result<Option<&'static str>, String> {
    if let [method] = token {
        return match method {
            0 => Ok(None),
            1 => Ok(Some("gzip")),
            2 => Ok(Some("lz4")),
            3 => Ok(Some("zstd")),
            other => Err(format!("unknown compression {other}")),
        };
    }
    Ok(Some("gzip").filter(|_| integer(token) != Ok(0)))
}

/// Where the data of each entry is: follows the stream from its beginning to its end.
pub(crate) fn locate(name: &str, bytes: &Arc<dyn ReadAt>) -> Result<Vec<DataBlock>> {
    let mut checker = CustomFormatChecker::default();
    let mut range = RangeReader::new(bytes.clone(), 0, u64::MAX);
    loop {
        let piece = range.fill().map_err(Error::read(name))?;
        let count = piece.len();
        if count == 0 {
            break;
        }
        checker.feed(piece).map_err(|detail| Error::damaged(name, detail))?;
        range.consume(count);
    }
    checker.finish().map_err(|detail| Error::damaged(name, detail))?;
    Ok(checker.data_blocks().to_vec())
}

/// Makes the rows in a data block, as `COPY` writes them, or its commands.
pub(crate) struct CustomRows {
    name: String,
    range: RangeReader,
    int_bytes: usize,
    /// What is left of the piece.
    left: u64,
    /// Rows end with the line that ends `COPY`, which is not given.
    copied: bool,
    /// What may be that line.
    held: Vec<u8>,
    token: Vec<u8>,
}

impl CustomRows {
    /// Begins at `block`, which must be that of entry `id`.
    pub(crate) fn new(
        name: &str,
        bytes: Arc<dyn ReadAt>,
        layout: Layout,
        block: DataBlock,
        copied: bool,
    ) -> Result<CustomRows> {
        let mut range = RangeReader::new(bytes, block.offset, block.length);
        let mut token = Vec::new();
        read_token(&mut range, 1, &mut token).map_err(Error::read(name))?;
        let kind = token[0];
        read_token(&mut range, 1 + layout.int_bytes, &mut token).map_err(Error::read(name))?;
        if kind != 1 || integer(&token).ok() != block.id {
            return Err(Error::damaged(name, format!("no data of the entry at byte {}", block.offset)));
        }
        let int_bytes = layout.int_bytes;
        Ok(CustomRows { name: name.to_owned(), range, int_bytes, left: 0, copied, held: Vec::new(), token })
    }

    fn damaged(&self, detail: &str) -> io::Error {
        let detail = format!("{detail} at byte {}", self.range.position());
        Error::damaged(&self.name, detail).into_io()
    }

    /// Adds pieces; false at the end of the block.
    fn gather(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        while out.len() < PRODUCE_BYTES {
            if self.left == 0 {
                let mut token = std::mem::take(&mut self.token);
                let read = read_token(&mut self.range, 1 + self.int_bytes, &mut token);
                self.token = token;
                read.map_err(|error| Error::read(&self.name)(error).into_io())?;
                self.left = piece_length(&self.token).map_err(|detail| self.damaged(&detail))?;
                if self.left == 0 {
                    return Ok(false);
                }
            }
            let ready = self.range.fill()?;
            let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(ready.len());
            if count == 0 {
                return Err(self.damaged("rows end too early"));
            }
            out.extend_from_slice(&ready[..count]);
            self.range.consume(count);
            self.left -= count as u64;
        }
        Ok(true)
    }
}

impl Produce for CustomRows {
    fn produce(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        out.append(&mut self.held);
        let more = self.gather(out)?;
        if self.copied {
            self.held = out.split_off(out.len().saturating_sub(COPY_END.len()));
            if !more && self.held != COPY_END {
                return Err(self.damaged("rows without their last line"));
            }
        }
        Ok(more)
    }
}
