//! Formats of `pg_dump`, and how each of them shows that it is whole.

use std::collections::BTreeMap;

use dbvault_dump::{CustomFormatChecker, PlainScanner, positions};

use crate::end_marker::Tail;

/// What `pg_dump` writes when it has written all of a plain dump.
const PLAIN_END: &str = "-- PostgreSQL database dump complete";
/// A tar archive is made of blocks of this length, bytes; two of zeroes end it.
const TAR_BLOCK_BYTES: u64 = 512;
/// Where the length of a member stands in its header, as octal digits.
const TAR_SIZE: std::ops::Range<usize> = 124..136;

/// In which form a database is dumped. A directory is dumped in parts: see `postgres_parts.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostgresFormat {
    /// The custom format: `pg_restore` can pick from it.
    #[default]
    Custom,
    /// SQL.
    Plain,
    /// A tar archive: like custom, with a file for each table of at most 8 GB.
    Tar,
}

impl PostgresFormat {
    /// The word for it, for `pg_dump --format` and in archives.
    pub fn name(self) -> &'static str {
        match self {
            PostgresFormat::Custom => "custom",
            PostgresFormat::Plain => "plain",
            PostgresFormat::Tar => "tar",
        }
    }

    /// The format of that name.
    pub fn by_name(name: &str) -> Option<PostgresFormat> {
        [PostgresFormat::Custom, PostgresFormat::Plain, PostgresFormat::Tar]
            .into_iter()
            .find(|format| format.name() == name)
    }
}

/// Follows a dump that streams by.
#[derive(Debug)]
pub(crate) enum Checker {
    Custom(Box<CustomFormatChecker>),
    Plain(Tail, Box<PlainScanner>),
    Tar(TarChecker),
}

impl Checker {
    pub(crate) fn new(format: PostgresFormat) -> Checker {
        match format {
            PostgresFormat::Custom => Checker::Custom(Box::default()),
            PostgresFormat::Plain => Checker::Plain(Tail::default(), Box::default()),
            PostgresFormat::Tar => Checker::Tar(TarChecker::default()),
        }
    }

    /// Takes the next bytes. Errors say in words what can't be.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Checker::Custom(checker) => checker.feed(bytes)?,
            Checker::Plain(tail, scanner) => {
                tail.feed(bytes);
                scanner.feed(bytes);
            }
            Checker::Tar(checker) => checker.feed(bytes)?,
        }
        Ok(())
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        match self {
            Checker::Custom(checker) => checker.total_bytes(),
            Checker::Plain(tail, _) => tail.total_bytes(),
            Checker::Tar(checker) => checker.total_bytes,
        }
    }

    /// The stream has ended: was it whole? Gives what is good to know all the same.
    pub(crate) fn finish(&self) -> Result<Vec<String>, String> {
        match self {
            Checker::Custom(checker) => {
                let summary = checker.finish()?;
                let (major, minor) = summary.version;
                let warning = format!(
                    "the dump has format version {major}.{minor}, which is newer than what is understood: \
                     that it is whole rests on the exit status of pg_dump alone"
                );
                Ok(if summary.checked { Vec::new() } else { vec![warning] })
            }
            Checker::Plain(tail, _) if tail.has_line(PLAIN_END) => Ok(Vec::new()),
            Checker::Plain(..) => Err(format!("its end lacks the line \"{PLAIN_END}\"")),
            Checker::Tar(checker) => checker.finish().map(|()| Vec::new()),
        }
    }

    /// Rows of each table, where the format tells.
    pub(crate) fn row_counts(&self) -> Option<&BTreeMap<String, u64>> {
        match self {
            Checker::Custom(checker) => Some(checker.row_counts()),
            Checker::Plain(_, scanner) => Some(scanner.row_counts()),
            Checker::Tar(_) => None,
        }
    }

    /// Where the rows of each table were, as an attribute tells it; only once [`Checker::finish`] was Ok.
    pub(crate) fn data_positions(&mut self) -> Option<String> {
        let blocks = match self {
            Checker::Custom(checker) => checker.data_blocks(),
            Checker::Plain(_, scanner) => scanner.data_blocks(),
            Checker::Tar(_) => return None,
        };
        Some(positions::to_text(blocks)).filter(|text| !text.is_empty())
    }
}

/// Walks from member to member of a tar archive (POSIX.1-1988 "ustar") to the two blocks of zeroes at its end.
#[derive(Debug, Default)]
pub(crate) struct TarChecker {
    header: Vec<u8>,
    /// Bytes of the current member, with what fills its last block.
    left: u64,
    zero_blocks: u32,
    total_bytes: u64,
}

impl TarChecker {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        self.total_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            let wanted = TAR_BLOCK_BYTES as usize - self.header.len();
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.header.extend_from_slice(taken);
            bytes = rest;
            if self.header.len() as u64 == TAR_BLOCK_BYTES {
                self.member()?;
                self.header.clear();
            }
        }
        Ok(())
    }

    fn member(&mut self) -> Result<(), String> {
        if self.header.iter().all(|byte| *byte == 0) {
            self.zero_blocks += 1;
            return Ok(());
        }
        if self.zero_blocks > 0 {
            return Err("a member behind the end of the tar archive".to_owned());
        }
        let digits = std::str::from_utf8(&self.header[TAR_SIZE]).unwrap_or("");
        let digits = digits.trim_matches(|c: char| c == ' ' || c == '\0');
        let size = u64::from_str_radix(digits, 8).map_err(|_| "a member of no length".to_owned())?;
        self.left = size.next_multiple_of(TAR_BLOCK_BYTES);
        Ok(())
    }

    fn finish(&self) -> Result<(), String> {
        if self.zero_blocks >= 2 && self.header.is_empty() {
            return Ok(());
        }
        Err(format!("the tar archive ended at byte {}, before its end", self.total_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_archive_is_whole_up_to_its_last_block() {
        let mut archive = vec![0; 512];
        archive[..5].copy_from_slice(b"a.dat");
        archive[TAR_SIZE].copy_from_slice(b"00000001001\0");
        archive.extend_from_slice(&[b'x'; 1024]);
        archive.extend_from_slice(&[0; 1024]);
        for end in 0..=archive.len() {
            let mut checker = Checker::new(PostgresFormat::Tar);
            let fed = archive[..end].chunks(100).try_for_each(|piece| checker.feed(piece));
            assert_eq!(fed.is_ok() && checker.finish().is_ok(), end == archive.len(), "{end}");
        }
    }

    #[test]
    fn a_plain_dump_needs_its_last_line() {
        let mut checker = Checker::new(PostgresFormat::Plain);
        checker.feed(b"COPY t FROM stdin;\n\\.\n").unwrap();
        assert!(checker.finish().is_err());
        checker.feed(b"--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n").unwrap();
        assert!(checker.finish().is_ok());
    }
}
