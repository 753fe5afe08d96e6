//! The trees of an SQLite database file: rows of one table, page by page.
//!
//! See "Database File Format" in SQLite's documentation. Any bytes are taken: a page is visited once, a chain of overflow
//! pages has no more pages than the file, and nothing is made longer than what is there.

use std::io;
use std::sync::Arc;

use crate::read_at::{ReadAt, read_exact_at};

/// Size of the header at the start of page 1, bytes.
const HEADER_BYTES: usize = 100;
/// More levels than any tree has.
const LEVELS_MAX: usize = 32;

/// What the header of a file says.
#[derive(Clone)]
pub(crate) struct Pages {
    bytes: Arc<dyn ReadAt>,
    page_bytes: usize,
    /// Without what is kept free at the end of each page.
    usable: usize,
    count: u64,
    pub(crate) text: TextEncoding,
}

/// How texts are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextEncoding {
    Utf8,
    Utf16Le,
    Utf16Be,
}

impl TextEncoding {
    /// The text as UTF-8, as far as it is text.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<u8> {
        let units = |from: fn([u8; 2]) -> u16| -> Vec<u16> {
            bytes.chunks_exact(2).map(|pair| from([pair[0], pair[1]])).collect()
        };
        match self {
            TextEncoding::Utf8 => bytes.to_vec(),
            TextEncoding::Utf16Le => String::from_utf16_lossy(&units(u16::from_le_bytes)).into_bytes(),
            TextEncoding::Utf16Be => String::from_utf16_lossy(&units(u16::from_be_bytes)).into_bytes(),
        }
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    /// In the encoding of the file.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

pub(crate) fn damaged(detail: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail.into())
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied();
    found.ok_or_else(|| damaged("a page that ends too early"))
}

fn number16(bytes: &[u8], at: usize) -> io::Result<usize> {
    Ok(usize::from(u16::from_be_bytes(number(bytes, at)?)))
}

fn number32(bytes: &[u8], at: usize) -> io::Result<u32> {
    Ok(u32::from_be_bytes(number(bytes, at)?))
}

/// A number of up to 9 bytes, and how many they are.
fn varint(bytes: &[u8], at: usize) -> io::Result<(u64, usize)> {
    let mut value = 0_u64;
    for index in 0..9 {
        let [byte] = number::<1>(bytes, at + index)?;
        if index == 8 {
            return Ok((value << 8 | u64::from(byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(damaged("a number without end"))
}

impl Pages {
    /// Reads the header.
    pub(crate) fn open(bytes: Arc<dyn ReadAt>) -> io::Result<Pages> {
        let mut header = [0; HEADER_BYTES];
        read_exact_at(&*bytes, 0, &mut header)?;
        let page_bytes = match number16(&header, 16)? {
            1 => 65_536,
            size => size,
        };
        let usable = page_bytes.saturating_sub(usize::from(header[20]));
        if !page_bytes.is_power_of_two() || page_bytes < 512 || usable < 480 {
            return Err(damaged(format!("pages of {page_bytes} bytes")));
        }
        let text = match number32(&header, 56)? {
            2 => TextEncoding::Utf16Le,
            3 => TextEncoding::Utf16Be,
            _ => TextEncoding::Utf8,
        };
        let count = bytes.len_bytes() / page_bytes as u64;
        Ok(Pages { bytes, page_bytes, usable, count, text })
    }

    fn page(&self, number: u32) -> io::Result<Vec<u8>> {
        if number == 0 || u64::from(number) > self.count {
            return Err(damaged(format!("there is no page {number}")));
        }
        let mut page = vec![0; self.page_bytes];
        read_exact_at(&*self.bytes, u64::from(number - 1) * self.page_bytes as u64, &mut page)?;
        page.truncate(self.usable);
        Ok(page)
    }

    /// How many bytes of a payload stand in its cell.
    fn local_bytes(&self, payload: u64, index: bool) -> usize {
        let usable = self.usable as u64;
        let most = if index { (usable - 12) * 64 / 255 - 23 } else { usable - 35 };
        let least = (usable - 12) * 32 / 255 - 23;
        let local = if payload <= most {
            payload
        } else {
            let some = least + (payload - least) % (usable - 4);
            if some <= most { some } else { least }
        };
        usize::try_from(local).unwrap_or(usize::MAX)
    }

    /// The payload that begins in a page, with what is on overflow pages.
    fn payload(&self, page: &[u8], at: usize, length: u64, index: bool) -> io::Result<Vec<u8>> {
        if length > self.count * self.page_bytes as u64 {
            return Err(damaged("a row that is longer than the file"));
        }
        let local = self.local_bytes(length, index);
        let cell = page.get(at..).and_then(|rest| rest.get(..local));
        let mut payload = cell.ok_or_else(|| damaged("a row beyond its page"))?.to_vec();
        let mut next = if (local as u64) < length { number32(page, at + local)? } else { 0 };
        while (payload.len() as u64) < length {
            // Each page adds some bytes, so this ends.
            let overflow = self.page(next)?;
            next = number32(&overflow, 0)?;
            let wanted = usize::try_from(length - payload.len() as u64).unwrap_or(usize::MAX);
            payload.extend_from_slice(&overflow[4..][..wanted.min(overflow.len() - 4)]);
        }
        Ok(payload)
    }
}

/// A page on the way from the root to the current row.
struct Step {
    page: Vec<u8>,
    /// Where the header of the tree begins.
    header: usize,
    leaf: bool,
    index: bool,
    cells: usize,
    next: usize,
    /// The subtree before the next cell was visited.
    descended: bool,
}

/// Goes through the rows of a tree in their order.
pub(crate) struct Rows {
    pages: Pages,
    steps: Vec<Step>,
    visited: u64,
}

impl Rows {
    /// Begins before the first row of the tree with this root page.
    pub(crate) fn new(pages: Pages, root: u32) -> io::Result<Rows> {
        let mut rows = Rows { pages, steps: Vec::new(), visited: 0 };
        rows.descend(root)?;
        Ok(rows)
    }

    fn descend(&mut self, number: u32) -> io::Result<()> {
        self.visited += 1;
        if self.visited > self.pages.count || self.steps.len() >= LEVELS_MAX {
            return Err(damaged(format!("page {number} is in a tree twice")));
        }
        let page = self.pages.page(number)?;
        let header = if number == 1 { HEADER_BYTES } else { 0 };
        let [kind] = self::number(&page, header)?;
        let (leaf, index) = match kind {
            2 => (false, true),
            5 => (false, false),
            10 => (true, true),
            13 => (true, false),
            other => return Err(damaged(format!("page {number} is of no known kind: {other}"))),
        };
        let cells = number16(&page, header + 3)?;
        self.steps.push(Step { page, header, leaf, index, cells, next: 0, descended: false });
        Ok(())
    }

    /// The next row: its id, where rows of the tree have one, and its record.
    pub(crate) fn next(&mut self) -> io::Result<Option<(i64, Vec<u8>)>> {
        loop {
            let Some(step) = self.steps.last_mut() else { return Ok(None) };
            let header_bytes = if step.leaf { 8 } else { 12 };
            if !step.leaf && !step.descended {
                let child = if step.next < step.cells {
                    let cell = number16(&step.page, step.header + header_bytes + 2 * step.next)?;
                    number32(&step.page, cell)?
                } else {
                    number32(&step.page, step.header + 8)?
                };
                step.descended = true;
                self.descend(child)?;
                continue;
            }
            if step.next >= step.cells {
                self.steps.pop();
                continue;
            }
            let mut at = number16(&step.page, step.header + header_bytes + 2 * step.next)?;
            step.next += 1;
            step.descended = false;
            if !step.leaf && !step.index {
                // Only a key.
                continue;
            }
            if !step.leaf {
                at += 4;
            }
            let (length, used) = varint(&step.page, at)?;
            at += used;
            let mut id = 0;
            if !step.index {
                let (value, used) = varint(&step.page, at)?;
                id = i64::from_be_bytes(value.to_be_bytes());
                at += used;
            }
            return Ok(Some((id, self.pages.payload(&step.page, at, length, step.index)?)));
        }
    }
}

/// The values of a record.
pub(crate) fn values(record: &[u8]) -> io::Result<Vec<Value>> {
    let (header_bytes, mut at) = varint(record, 0)?;
    let header_bytes = usize::try_from(header_bytes).unwrap_or(usize::MAX);
    if header_bytes > record.len() {
        return Err(damaged("a record that ends in its header"));
    }
    let mut body = &record[header_bytes..];
    let mut values = Vec::new();
    while at < header_bytes {
        let (kind, used) = varint(record, at)?;
        at += used;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(damaged("a value of a kind that is reserved")),
            _ => (kind - 12) / 2,
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (bytes, rest) =
            body.split_at_checked(length).ok_or_else(|| damaged("a value beyond its record"))?;
        body = rest;
        values.push(match kind {
            0 => Value::Null,
            1..=6 => Value::Integer(integer(bytes)),
            7 => Value::Real(f64::from_be_bytes(number(bytes, 0)?)),
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            _ if kind % 2 == 0 => Value::Blob(bytes.to_vec()),
            _ => Value::Text(bytes.to_vec()),
        });
    }
    Ok(values)
}

/// Two's complement, the most significant byte first.
fn integer(bytes: &[u8]) -> i64 {
    let sign = bytes.first().is_some_and(|first| *first >= 0x80);
    bytes.iter().fold(if sign { -1 } else { 0 }, |value, byte| value << 8 | i64::from(*byte))
}
