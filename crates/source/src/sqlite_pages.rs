//! Pages of an SQLite database: read in order from a live one, and checked as a stream.
//!
//! See "Database File Format" and "The SQLITE_DBPAGE Virtual Table" in SQLite's documentation.

use std::io::{self, Read};

use rusqlite::Connection;

use crate::body::Inspect;
use crate::interrupt::{self, Interrupt};
use crate::{Error, Result};

/// The first bytes of every database file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Size of the header at the start of page 1, bytes.
pub(crate) const HEADER_BYTES: usize = 100;

/// Reads the pages that an open read transaction sees, from the first to the last.
///
/// The page that holds the lock bytes (at 1 GiB) is never written by SQLite; it is given as zeros.
pub(crate) struct PageReader {
    /// Closed once the last page was read: an open snapshot makes the WAL grow.
    connection: Option<Connection>,
    page_bytes: usize,
    pages: u32,
    /// The next page, from 1.
    next: u32,
    /// The part of a page that did not fit in the caller's buffer.
    rest: Vec<u8>,
    rest_start: usize,
    interrupt: Interrupt,
}

impl PageReader {
    pub(crate) fn new(
        connection: Connection,
        page_bytes: u32,
        pages: u32,
        interrupt: Interrupt,
    ) -> PageReader {
        let page_bytes = page_bytes as usize;
        let connection = Some(connection);
        PageReader { connection, page_bytes, pages, next: 1, rest: Vec::new(), rest_start: 0, interrupt }
    }

    /// Fills `buffer` with as many whole pages as fit, at least one.
    fn read_pages(&mut self, buffer: &mut [u8]) -> rusqlite::Result<usize> {
        let Some(connection) = &self.connection else { return Ok(0) };
        let mut statement = connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let mut filled = 0;
        for target in buffer.chunks_exact_mut(self.page_bytes) {
            if self.next > self.pages {
                break;
            }
            let mut rows = statement.query([self.next])?;
            let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            let page = row.get_ref(0)?.as_blob().map_err(|_| rusqlite::Error::InvalidQuery)?;
            if page.len() != self.page_bytes {
                return Err(rusqlite::Error::InvalidQuery);
            }
            target.copy_from_slice(page);
            filled += page.len();
            self.next += 1;
        }
        drop(statement);
        if self.next > self.pages {
            self.connection = None;
        }
        Ok(filled)
    }
}

impl Read for PageReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        interrupt::check(&self.interrupt).map_err(Error::into_io)?;
        if self.rest_start == self.rest.len() && self.next <= self.pages && !buffer.is_empty() {
            let next = self.next;
            let failed = |error: rusqlite::Error| {
                let what = format!("read page {next} of the database");
                Error::Database { what, message: error.to_string() }.into_io()
            };
            if buffer.len() >= self.page_bytes {
                return self.read_pages(buffer).map_err(failed);
            }
            let mut page = std::mem::take(&mut self.rest);
            page.resize(self.page_bytes, 0);
            self.read_pages(&mut page).map_err(failed)?;
            (self.rest, self.rest_start) = (page, 0);
        }
        let count = buffer.len().min(self.rest.len() - self.rest_start);
        buffer[..count].copy_from_slice(&self.rest[self.rest_start..self.rest_start + count]);
        self.rest_start += count;
        Ok(count)
    }
}

/// Checks that a stream is a database file of the announced size.
#[derive(Debug)]
pub(crate) struct PageCheck {
    name: String,
    page_bytes: u32,
    pages: u32,
    header: Vec<u8>,
    bytes: u64,
}

impl PageCheck {
    pub(crate) fn new(name: &str, page_bytes: u32, pages: u32) -> PageCheck {
        PageCheck { name: name.to_owned(), page_bytes, pages, header: Vec::new(), bytes: 0 }
    }

    pub(crate) fn expected_bytes(&self) -> u64 {
        u64::from(self.page_bytes) * u64::from(self.pages)
    }

    pub(crate) fn finish(self) -> Result<()> {
        let incomplete = |detail: String| Err(Error::Incomplete { name: self.name.clone(), detail });
        if self.bytes != self.expected_bytes() {
            return incomplete(format!("{} bytes in place of {}", self.bytes, self.expected_bytes()));
        }
        match read_header(&self.header) {
            Err(detail) => incomplete(detail),
            Ok(header) if header.page_bytes != self.page_bytes => {
                incomplete(format!("its header says pages of {} bytes", header.page_bytes))
            }
            Ok(Header { pages: Some(pages), .. }) if pages != self.pages => {
                incomplete(format!("its header says {pages} pages, there are {}", self.pages))
            }
            Ok(_) => Ok(()),
        }
    }
}

impl Inspect for PageCheck {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        let wanted = HEADER_BYTES - self.header.len();
        self.header.extend_from_slice(&bytes[..wanted.min(bytes.len())]);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// What the header of a database file says of its size.
pub(crate) struct Header {
    pub(crate) page_bytes: u32,
    /// Known only where no ancient SQLite wrote the file last.
    pub(crate) pages: Option<u32>,
}

/// Reads the header; the error says why it is none.
pub(crate) fn read_header(bytes: &[u8]) -> Result<Header, String> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return Err("no SQLite header".to_owned());
    }
    let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let page_bytes = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65_536,
        size => u32::from(size),
    };
    if !page_bytes.is_power_of_two() || page_bytes < 512 {
        return Err(format!("pages of {page_bytes} bytes"));
    }
    let (pages, changes, valid_for) = (number(28), number(24), number(92));
    Ok(Header { page_bytes, pages: (pages > 0 && changes == valid_for).then_some(pages) })
}
