//! Follows the text that `mariadb-dump` and `mysqldump` write: is it whole, and how many rows does it hold?
//!
//! A dump that was killed ends anywhere, and what it wrote until then can be loaded without an error. So it must end
//! with the line that these programs write last, outside of any statement. Rows are counted where they are written,
//! which is exact and of the dump's own snapshot.

use std::collections::BTreeMap;

use crate::body::Inspect;
use crate::{Error, Result};

/// What the last line begins with.
const MARKER: &[u8] = b"-- Dump completed";
/// How much of a line is looked at to tell what it is, bytes: room for the longest name in quotes.
const HEAD_BYTES_MAX: usize = 700;

/// A reader of one dump, fed piece by piece.
#[derive(Debug)]
pub(crate) struct SqlDump {
    state: State,
    head: Vec<u8>,
    /// Inside of `DELIMITER ;;`, where routines and triggers are written as they are.
    in_body: bool,
    /// The beginning of the last line that was not empty.
    last: Vec<u8>,
    rows: BTreeMap<String, u64>,
    bytes: u64,
}

#[derive(Debug)]
enum State {
    /// At the beginning of a line, gathered in `head`.
    Head,
    /// In the rest of a line that does not matter.
    Skip,
    /// In a statement with rows.
    Rows(Rows),
}

#[derive(Debug)]
struct Rows {
    table: String,
    count: u64,
    depth: u32,
    /// The quote that a text or name is in.
    quote: Option<u8>,
    /// After a backslash in a text.
    escaped: bool,
    /// How much of the word VALUES has been seen; all of it: rows follow.
    values: usize,
}

const VALUES: &[u8] = b"VALUES";

impl Default for SqlDump {
    fn default() -> SqlDump {
        SqlDump {
            state: State::Head,
            head: Vec::new(),
            in_body: false,
            last: Vec::new(),
            rows: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl SqlDump {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Head => self.feed_head(bytes),
                State::Skip => match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(at) => {
                        self.state = State::Head;
                        &bytes[at + 1..]
                    }
                    None => &[],
                },
                State::Rows(rows) => match rows.feed(bytes) {
                    Some(used) => {
                        *self.rows.entry(std::mem::take(&mut rows.table)).or_default() += rows.count;
                        self.state = State::Skip;
                        &bytes[used..]
                    }
                    None => &[],
                },
            }
        }
    }

    fn feed_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let room = HEAD_BYTES_MAX - self.head.len();
        let take = end.unwrap_or(bytes.len()).min(room);
        self.head.extend_from_slice(&bytes[..take]);
        if end == Some(take) {
            self.line(true);
            &bytes[take + 1..]
        } else {
            if self.head.len() == HEAD_BYTES_MAX {
                self.line(false);
            }
            &bytes[take..]
        }
    }

    /// Tells what the line is that `head` has the beginning of, or all.
    fn line(&mut self, ended: bool) {
        let head = std::mem::take(&mut self.head);
        self.state = if ended { State::Head } else { State::Skip };
        if self.in_body || head.starts_with(b"DELIMITER ") {
            self.in_body = head != b"DELIMITER ;";
        } else if let Some(name) = head.strip_prefix(b"CREATE TABLE ").and_then(name) {
            self.rows.entry(name.0).or_default();
        } else if let Some((table, rest)) = row_statement(&head) {
            let mut rows = Rows { table, count: 0, depth: 0, quote: None, escaped: false, values: 0 };
            // The statement may end within its first line, and with it go on in the next one.
            let done = rows.feed(rest).is_some() || (ended && rows.feed(b"\n").is_some());
            if done {
                *self.rows.entry(rows.table).or_default() += rows.count;
            } else {
                self.state = State::Rows(rows);
            }
        }
        if !head.is_empty() {
            self.last = head;
        }
    }

    /// How many bytes were fed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rows of each table, when the dump is whole; else what is missing.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<String, u64>, String> {
        if !self.head.is_empty() {
            self.line(true);
        }
        match self.state {
            State::Rows(rows) => Err(format!("it ends within the rows of {}", rows.table)),
            _ if self.in_body => Err("it ends within a routine, trigger or event".to_owned()),
            _ if !self.last.starts_with(MARKER) => {
                Err("its last line is not the one that ends a whole dump".to_owned())
            }
            _ => Ok(self.rows),
        }
    }
}

impl Rows {
    /// Takes bytes; where the statement ends, how many of them it took.
    fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            if let Some(quote) = self.quote {
                if self.escaped {
                    self.escaped = false;
                } else if byte == b'\\' && quote != b'`' {
                    self.escaped = true;
                } else if byte == quote {
                    // A doubled one ends the text here and begins it again with the next byte.
                    self.quote = None;
                }
                continue;
            }
            match byte {
                b'\'' | b'"' | b'`' => self.quote = Some(byte),
                b'(' => {
                    self.count += u64::from(self.depth == 0 && self.values == VALUES.len());
                    self.depth += 1;
                }
                b')' => self.depth = self.depth.saturating_sub(1),
                b';' if self.depth == 0 => return Some(at + 1),
                _ if self.depth == 0 && self.values < VALUES.len() => {
                    let next = byte.to_ascii_uppercase() == VALUES[self.values];
                    self.values = if next { self.values + 1 } else { 0 };
                }
                _ => {}
            }
        }
        None
    }
}

/// Table and what follows it of `INSERT INTO`, `INSERT IGNORE INTO`, `REPLACE INTO` and their like.
fn row_statement(head: &[u8]) -> Option<(String, &[u8])> {
    if !head.starts_with(b"INSERT ") && !head.starts_with(b"REPLACE ") {
        return None;
    }
    let into = head.windows(6).take(32).position(|window| window == b" INTO ")?;
    name(&head[into + 6..])
}

/// The name, quoted or not, that `text` begins with, and what follows.
fn name(text: &[u8]) -> Option<(String, &[u8])> {
    let (first, rest) = text.split_first()?;
    if *first != b'`' && *first != b'"' {
        let end = text.iter().position(|byte| b" (;".contains(byte))?;
        return Some((String::from_utf8_lossy(&text[..end]).into_owned(), &text[end..]));
    }
    let mut name = Vec::new();
    let mut at = 0;
    loop {
        match (rest.get(at)?, rest.get(at + 1)) {
            (byte, Some(next)) if byte == first && next == first => {
                name.push(*first);
                at += 2;
            }
            (byte, _) if byte == first => {
                return Some((String::from_utf8_lossy(&name).into_owned(), &rest[at + 1..]));
            }
            (byte, _) => {
                name.push(*byte);
                at += 1;
            }
        }
    }
}

/// Follows a dump as it streams by.
#[derive(Debug, Default)]
pub(crate) struct WatchedDump(pub(crate) SqlDump);

impl Inspect for WatchedDump {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.feed(bytes);
        Ok(())
    }
}

/// What a dump of the entry `name` says at its end.
pub(crate) fn finish(dump: SqlDump, name: &str) -> Result<BTreeMap<String, u64>> {
    if dump.bytes() == 0 {
        return Err(Error::Empty { name: name.to_owned() });
    }
    dump.finish().map_err(|detail| Error::Incomplete { name: name.to_owned(), detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "-- MariaDB dump\n\nCREATE TABLE `a``b` (\n  `x` int\n);\n\
        INSERT INTO `a``b` VALUES\n(1,'x\\'),(y','--'),\n(2,'it''s (',0x00),(3,now());\n\
        INSERT IGNORE INTO `c` (`VALUES`, `(`) VALUES (1,2);\nCREATE TABLE `empty` (\n);\n\
        DELIMITER ;;\nCREATE TRIGGER x\nINSERT INTO `c` VALUES (1);\n-- Dump completed\nEND ;;\nDELIMITER ;\n\
        /*!40101 SET x */;\n\n-- Dump completed\n";

    fn counts(pieces: impl Iterator<Item = &'static [u8]>) -> Result<BTreeMap<String, u64>, String> {
        let mut dump = SqlDump::default();
        pieces.for_each(|piece| dump.feed(piece));
        dump.finish()
    }

    #[test]
    fn rows_are_counted_whatever_is_in_them() {
        let want: BTreeMap<String, u64> =
            [("a`b", 3), ("c", 1), ("empty", 0)].map(|(n, c)| (n.to_owned(), c)).into();
        for size in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(counts(DUMP.as_bytes().chunks(size)).unwrap(), want, "pieces of {size} bytes");
        }
    }

    #[test]
    fn a_dump_that_was_cut_anywhere_is_not_whole() {
        // Without the end of the last line nothing is missing.
        let shortest = DUMP.len() - 1;
        for length in 0..shortest {
            assert!(counts(std::iter::once(&DUMP.as_bytes()[..length])).is_err(), "cut after {length} bytes");
        }
        assert!(counts(std::iter::once(&DUMP.as_bytes()[..shortest])).is_ok());
    }

    #[test]
    fn long_lines_are_followed() {
        let long = "x".repeat(5000);
        let text =
            format!("INSERT INTO `t` VALUES ('{long}'),('{long};');\n-- {long}\n-- Dump completed on 2026\n");
        let mut dump = SqlDump::default();
        text.as_bytes().chunks(333).for_each(|piece| dump.feed(piece));
        assert_eq!(dump.finish().unwrap(), BTreeMap::from([("t".to_owned(), 2)]));
    }
}
