//! Rows of a table in two dumps: how many are in one and not in the other?
//!
//! What both dumps share is not read. Inside of a stretch that both have, the first row that begins near its start and
//! the last that begins near its end are found by the bytes alone, so at the same places in both: between them are the
//! same rows. All other rows are taken as a multiset, by hashes of 128 bits; a row that was changed is one removed and
//! one added.
//!
//! Memory: 64 bytes for each row that differs, of [`DIFFERING_MAX`] rows.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use dbvault_dump::ReadAt;

/// Most rows that may differ and are counted.
pub const DIFFERING_MAX: usize = 1_000_000;

/// How far into a shared stretch a row is looked for, bytes; a stretch that is not much longer is read.
const WINDOW_BYTES: u64 = 16 << 10;
/// Read at once, bytes: no more than is wanted of a short stretch.
const READ_BYTES: usize = 128 << 10;
/// Rows of one side that are taken before it is the other's turn: what both have is soon forgotten.
const TURN_ROWS: usize = 1_000;
/// In the custom format, the bytes before the first piece of a block: its type, and an integer.
const BLOCK_HEAD_BYTES: u64 = 6;
/// The length of a piece: a sign and four bytes.
const PIECE_HEAD_BYTES: usize = 5;
/// The piece that follows the last row.
const COPY_END: &[u8] = b"\\.\n\n\n";
/// Longest piece that is believed, bytes.
const PIECE_BYTES_MAX: usize = 1 << 30;

/// How rows stand in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As lines.
    Lines,
    /// As lines in pieces, each with its length before it.
    Pieces,
}

/// The rows of a table in one dump.
pub(crate) struct Side {
    pub(crate) stream: Arc<dyn ReadAt>,
    /// Where in the stream they are.
    pub(crate) range: Range<u64>,
}

/// A stretch that both sides have: where it begins in either stream, and its length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Both {
    pub(crate) old: u64,
    pub(crate) new: u64,
    pub(crate) bytes: u64,
}

/// Rows that one side has and the other has not: removed, added. `None` where too many differ.
///
/// Errors: [`io::ErrorKind::InvalidData`] where the rows do not stand there in that form.
pub(crate) fn count(old: &Side, new: &Side, both: &[Both], form: Form) -> io::Result<Option<(u64, u64)>> {
    let mut skipped = Vec::new();
    for stretch in both {
        skipped.extend(inner(old, stretch, form)?);
    }
    let skip = |begin: fn(&Both) -> u64| {
        let mut ranges: Vec<Range<u64>> =
            skipped.iter().map(|both| begin(both)..begin(both) + both.bytes).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    };
    let mut old_rows = Rows::new(old, skip(|both| both.old), form);
    let mut new_rows = Rows::new(new, skip(|both| both.new), form);
    Multiset::default().fill(&mut |row| old_rows.next(row), &mut |row| new_rows.next(row))
}

/// The same of rows that come as lines.
pub(crate) fn count_all(old: impl Read, new: impl Read) -> io::Result<Option<(u64, u64)>> {
    let (mut old, mut new) = (BufReader::new(old), BufReader::new(new));
    let mut from_old = |row: &mut Vec<u8>| old.read_until(b'\n', row).map(|count| count > 0);
    let mut from_new = |row: &mut Vec<u8>| new.read_until(b'\n', row).map(|count| count > 0);
    Multiset::default().fill(&mut from_old, &mut from_new)
}

/// What of a stretch is whole rows, wherever it stands. Nothing where it is too short to be worth it.
fn inner(side: &Side, both: &Both, form: Form) -> io::Result<Option<Both>> {
    if both.bytes < 3 * WINDOW_BYTES {
        return Ok(None);
    }
    let tail_at = both.bytes - WINDOW_BYTES;
    let mut window = vec![0; WINDOW_BYTES as usize];
    let mut first_row = |at: u64| -> io::Result<Option<u64>> {
        read_exact_at(&*side.stream, both.old + at, &mut window)?;
        Ok(row_begins(&window, form).map(|place| at + place as u64))
    };
    let (Some(begin), Some(end)) = (first_row(0)?, first_row(tail_at)?) else { return Ok(None) };
    Ok(Some(Both { old: both.old + begin, new: both.new + begin, bytes: end - begin }))
}

/// Where the first row begins that can be told to, by these bytes alone.
fn row_begins(bytes: &[u8], form: Form) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
        if form == Form::Lines {
            return Some(at).filter(|at| *at < bytes.len());
        }
        // Rows have no byte 0, so this is in a length; whether it begins one shows by what follows.
        let mut next = at;
        let follows = (0..2).all(|_| match piece_bytes(&bytes[next.min(bytes.len())..]) {
            Some(length) if length > 0 => {
                next += PIECE_HEAD_BYTES + length;
                next < bytes.len() && bytes[next - 1] == b'\n'
            }
            _ => false,
        });
        if follows {
            return Some(at);
        }
    }
}

/// The length that a piece begins with.
fn piece_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..PIECE_HEAD_BYTES)?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    (head[0] == 0 && length <= PIECE_BYTES_MAX).then_some(length)
}

fn read_exact_at(stream: &dyn ReadAt, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match stream.read_at(offset, out)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                out = &mut out[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

/// The rows of one side, without what is skipped.
struct Rows {
    stream: Arc<dyn ReadAt>,
    /// Ranges that are still to be read; each begins and ends with a row, or with the block.
    ranges: std::vec::IntoIter<Range<u64>>,
    current: Range<u64>,
    form: Form,
    buffer: Vec<u8>,
    at: usize,
    /// Bytes left of the piece.
    piece: usize,
    ended: bool,
}

impl Rows {
    fn new(side: &Side, skipped: Vec<Range<u64>>, form: Form) -> Rows {
        let head = if form == Form::Pieces { BLOCK_HEAD_BYTES } else { 0 };
        let mut at = (side.range.start + head).min(side.range.end);
        let mut ranges = Vec::new();
        for skip in skipped {
            ranges.push(at..skip.start);
            at = skip.end;
        }
        ranges.push(at..side.range.end);
        let (stream, ranges) = (side.stream.clone(), ranges.into_iter());
        Rows { stream, ranges, current: 0..0, form, buffer: Vec::new(), at: 0, piece: 0, ended: false }
    }

    /// What is read of the current range and not taken; empty at its end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() && !self.current.is_empty() {
            let left = usize::try_from(self.current.end - self.current.start).unwrap_or(usize::MAX);
            self.buffer.resize(left.min(READ_BYTES), 0);
            read_exact_at(&*self.stream, self.current.start, &mut self.buffer)?;
            self.current.start += self.buffer.len() as u64;
            self.at = 0;
        }
        Ok(&self.buffer[self.at..])
    }

    /// Takes the next row, with the end of its line; false at the end of all.
    fn next(&mut self, row: &mut Vec<u8>) -> io::Result<bool> {
        while !self.ended {
            if self.fill()?.is_empty() {
                // A row does not go on behind what is skipped.
                if !row.is_empty() || self.piece > 0 {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let Some(range) = self.ranges.next() else { break };
                self.current = range;
                continue;
            }
            if self.form == Form::Pieces && self.piece == 0 {
                self.begin_piece()?;
                continue;
            }
            let most = if self.form == Form::Pieces { self.piece } else { usize::MAX };
            let ready = &self.buffer[self.at..];
            let ready = &ready[..ready.len().min(most)];
            let end = ready.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(ready.len(), |end| end + 1);
            row.extend_from_slice(&ready[..taken]);
            self.at += taken;
            self.piece = self.piece.saturating_sub(taken);
            if end.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn begin_piece(&mut self) -> io::Result<()> {
        let mut head = [0; PIECE_HEAD_BYTES];
        self.take(&mut head)?;
        self.piece = piece_bytes(&head).ok_or(io::ErrorKind::InvalidData)?;
        self.ended = self.piece == 0;
        if self.piece == COPY_END.len() {
            // Rows of one column may look so, one by one; the last piece is all of it.
            let mut end = [0; COPY_END.len()];
            self.take(&mut end)?;
            if end == COPY_END {
                self.ended = true;
            } else {
                self.buffer.drain(..self.at);
                self.buffer.splice(..0, end);
                self.at = 0;
            }
        }
        Ok(())
    }

    fn take(&mut self, out: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            let ready = self.fill()?;
            if ready.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let count = ready.len().min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&ready[..count]);
            filled += count;
            self.at += count;
        }
        Ok(())
    }
}

/// Rows that one side has more of than the other.
#[derive(Default)]
struct Multiset {
    hashers: [RandomState; 2],
    rows: HashMap<(u64, u64), i64>,
}

/// Gives the next row into an empty buffer; false at the end.
type NextRow<'a> = &'a mut dyn FnMut(&mut Vec<u8>) -> io::Result<bool>;

impl Multiset {
    fn fill(mut self, old: NextRow<'_>, new: NextRow<'_>) -> io::Result<Option<(u64, u64)>> {
        let (mut more_old, mut more_new) = (true, true);
        while more_old || more_new {
            more_old = more_old && self.take(old, 1)?;
            more_new = more_new && self.take(new, -1)?;
            if self.rows.len() > DIFFERING_MAX {
                return Ok(None);
            }
        }
        let sum = |sign: i64| self.rows.values().map(|count| (count * sign).max(0).unsigned_abs()).sum();
        Ok(Some((sum(1), sum(-1))))
    }

    /// Takes rows of one side; false at their end.
    fn take(&mut self, next: NextRow<'_>, sign: i64) -> io::Result<bool> {
        let mut row = Vec::new();
        for _ in 0..TURN_ROWS {
            row.clear();
            if !next(&mut row)? {
                return Ok(false);
            }
            self.add(&row, sign);
        }
        Ok(true)
    }

    fn add(&mut self, row: &[u8], sign: i64) {
        let [first, second] = &self.hashers;
        let key = (first.hash_one(row), second.hash_one(row));
        let count = self.rows.entry(key).or_default();
        *count += sign;
        if *count == 0 {
            self.rows.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(rows: &[String]) -> Vec<u8> {
        let mut block = vec![1, 0, 9, 0, 0, 0];
        let mut piece = |bytes: &[u8]| {
            block.push(0);
            block.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            block.extend_from_slice(bytes);
        };
        rows.iter().for_each(|row| piece(row.as_bytes()));
        piece(COPY_END);
        block.extend([0; 5]);
        block
    }

    fn side(bytes: Vec<u8>) -> Side {
        Side { range: 0..bytes.len() as u64, stream: Arc::new(bytes) }
    }

    #[test]
    fn only_rows_that_differ_are_counted_whatever_is_shared() {
        let rows: Vec<String> = (0..20_000).map(|id| format!("{id}\trow {}\n", id * 7 % 1000)).collect();
        let mut changed = rows.clone();
        changed[100] = "100\tchanged\n".to_owned();
        changed.insert(9_000, "\n".to_owned());
        changed.insert(9_000, "\n".to_owned());
        changed.remove(15_000);
        for form in [Form::Lines, Form::Pieces] {
            let bytes = |rows: &[String]| match form {
                Form::Lines => rows.concat().into_bytes(),
                Form::Pieces => pieces(rows),
            };
            let (old, new) = (bytes(&rows), bytes(&changed));
            let tail = 50_000;
            let behind = Both { old: old.len() as u64 - tail, new: new.len() as u64 - tail, bytes: tail };
            let (old, new) = (side(old), side(new));
            for both in [&[][..], &[behind]] {
                assert_eq!(count(&old, &new, both, form).unwrap(), Some((2, 3)), "{form:?}");
            }
            let all = [Both { old: 0, new: 0, bytes: old.range.end }];
            assert_eq!(count(&old, &old, &all, form).unwrap(), Some((0, 0)));
        }
        assert_eq!(count_all(&b"a\nb\na\n"[..], &b"a\nc\n"[..]).unwrap(), Some((2, 1)));
        assert!(count(&side(vec![1; 100]), &side(vec![1; 100]), &[], Form::Pieces).is_err());
    }
}
