//! Splicing: the chunks of a file that has not changed are put into a new stream as they are, without a look at a byte.
//!
//! Files and chunks do not begin and end together. A run of files that lie one behind the other in the old stream takes
//! each chunk once; where a run begins within a chunk, the chunk is taken whole, and its bytes before the run are in the
//! new stream without being anybody's.

use std::ops::Range;

use dbvault_format::chunk_list::Item;
use dbvault_format::id::ChunkId;

use crate::stream_items::StreamItems;
use crate::{Error, Result};

/// Chunks that are looked up before the first of them is put into the new stream.
const WAITING_MAX: usize = 1024;

/// The chunks of an old stream, in order.
pub(crate) trait OldItems {
    /// Where the next chunk begins that ends behind `offset`, and the chunk; `None` at the end of the stream.
    fn next_behind(&mut self, offset: u64) -> Result<Option<(u64, Item)>>;
}

impl OldItems for StreamItems {
    fn next_behind(&mut self, offset: u64) -> Result<Option<(u64, Item)>> {
        self.skip_to(offset);
        self.next().transpose()
    }
}

/// Where chunks go to.
pub(crate) trait SpliceTarget {
    /// Length of the new stream so far, bytes.
    fn position(&self) -> u64;

    /// Whether the new stream may use the chunk.
    fn may_use(&mut self, id: &ChunkId) -> Result<bool>;

    /// Whether the new stream may have `bytes` in it that are nobody's.
    fn may_waste(&self, bytes: u64) -> bool;

    /// Puts the chunk at the end of the new stream.
    fn put(&mut self, item: Item) -> Result<()>;
}

/// Follows an old stream while a new one is made.
#[derive(Debug)]
pub(crate) struct Splicer<S> {
    source: S,
    /// The chunk that was taken from the old stream last, and where it is there: the next file may begin in it.
    held: Option<(u64, Item)>,
    /// Where it ends in the new stream, where it has been put there.
    held_end: Option<u64>,
}

impl<S: OldItems> Splicer<S> {
    /// Follows `source` from its beginning.
    pub(crate) fn new(source: S) -> Splicer<S> {
        Splicer { source, held: None, held_end: None }
    }

    /// Has the bytes `old` of the old stream in the new one, and gives where they begin there. Each range lies behind the one
    /// before it; an empty one is at the end of the new stream.
    ///
    /// `None`: they can't be had that way, and their file has to be read. A few chunks of it may be in the new stream all
    /// the same, and are nobody's.
    pub(crate) fn keep(&mut self, old: &Range<u64>, target: &mut impl SpliceTarget) -> Result<Option<u64>> {
        let (mut new_begin, mut covered, mut new_end) = (None, old.start, target.position());
        if old.is_empty() {
            return Ok(Some(new_end));
        }
        // Nothing came behind the chunk that was put last: it need not be there once more.
        if let Some((begin, item)) = self.held_at(covered)
            && self.held_end == Some(new_end)
        {
            new_begin = Some(new_end - (begin + item.stream_bytes - covered));
            covered = begin + item.stream_bytes;
        }
        let mut waiting = Vec::new();
        while covered < old.end {
            let Some((begin, item)) = self.chunk_at(covered)? else { return Ok(None) };
            let unused = covered - begin;
            if unused > 0 && !target.may_waste(unused) || !target.may_use(&item.id)? {
                return Ok(None);
            }
            new_begin.get_or_insert(new_end + unused);
            covered = begin + item.stream_bytes;
            new_end += item.stream_bytes;
            waiting.push(item);
            if waiting.len() == WAITING_MAX {
                waiting.drain(..).try_for_each(|item| target.put(item))?;
            }
        }
        waiting.into_iter().try_for_each(|item| target.put(item))?;
        self.held_end = Some(new_end);
        Ok(Some(new_begin.unwrap_or(new_end)))
    }

    /// The chunk that holds the byte `offset` of the old stream, and where it begins.
    fn chunk_at(&mut self, offset: u64) -> Result<Option<(u64, Item)>> {
        if let Some(held) = self.held_at(offset) {
            return Ok(Some(held));
        }
        self.held_end = None;
        self.held = match self.source.next_behind(offset) {
            // What can't be read of the old stream is read from the files.
            Err(e) if !matches!(e, Error::Interrupted) => {
                tracing::warn!("files are read again that have not changed: {e}");
                None
            }
            found => found?,
        };
        Ok(self.held_at(offset))
    }

    fn held_at(&self, offset: u64) -> Option<(u64, Item)> {
        self.held.filter(|(begin, item)| (*begin..begin + item.stream_bytes).contains(&offset))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// An old stream of chunks with these lengths; the id of a chunk tells which one it is.
    struct Old {
        lens: Vec<u64>,
        next: usize,
        /// Number of a chunk whose part of the chunk list can't be read.
        unreadable: Option<usize>,
    }

    impl Old {
        fn new(lens: &[u64]) -> Old {
            Old { lens: lens.to_vec(), next: 0, unreadable: None }
        }
    }

    fn id(number: usize) -> ChunkId {
        ChunkId([number as u8; 32])
    }

    impl OldItems for Old {
        fn next_behind(&mut self, offset: u64) -> Result<Option<(u64, Item)>> {
            while let Some(len) = self.lens.get(self.next) {
                let begin: u64 = self.lens[..self.next].iter().sum();
                self.next += 1;
                if begin + len > offset {
                    if self.unreadable == Some(self.next - 1) {
                        return Err(Error::ChunkMissing { id: id(0) });
                    }
                    return Ok(Some((begin, Item { id: id(self.next - 1), stream_bytes: *len })));
                }
            }
            Ok(None)
        }
    }

    /// A new stream: for each byte the chunk it is of and its place in it, or nothing.
    #[derive(Default)]
    struct New {
        bytes: Vec<Option<(usize, u64)>>,
        put: Vec<usize>,
        condemned: HashSet<ChunkId>,
        thrifty: bool,
    }

    impl New {
        /// Other bytes come.
        fn write(&mut self, len: usize) {
            self.bytes.resize(self.bytes.len() + len, None);
        }
    }

    impl SpliceTarget for New {
        fn position(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn may_use(&mut self, id: &ChunkId) -> Result<bool> {
            Ok(!self.condemned.contains(id))
        }

        fn may_waste(&self, _: u64) -> bool {
            !self.thrifty
        }

        fn put(&mut self, item: Item) -> Result<()> {
            let number = usize::from(item.id.0[0]);
            self.put.push(number);
            self.bytes.extend((0..item.stream_bytes).map(|at| Some((number, at))));
            Ok(())
        }
    }

    /// Keeps the bytes and sees to it that it is them.
    fn keep(splicer: &mut Splicer<Old>, new: &mut New, old: Range<u64>) -> Option<u64> {
        let begin = splicer.keep(&old, new).unwrap()?;
        for (place, at) in (begin..).zip(old) {
            let mut chunk_begin = 0;
            let number = splicer.source.lens.iter().position(|len| {
                chunk_begin += len;
                at < chunk_begin
            });
            let number = number.unwrap();
            let in_chunk = at + splicer.source.lens[number] - chunk_begin;
            assert_eq!(new.bytes[place as usize], Some((number, in_chunk)), "byte {at}");
        }
        Some(begin)
    }

    #[test]
    fn a_run_takes_each_chunk_once() {
        let (mut splicer, mut new) = (Splicer::new(Old::new(&[10, 5, 20, 7])), New::default());
        // Several files in a chunk, one over many, one that ends with a chunk.
        assert_eq!(keep(&mut splicer, &mut new, 0..0), Some(0));
        for old in [0..3, 3..4, 4..30, 30..35, 35..40, 40..42] {
            assert_eq!(keep(&mut splicer, &mut new, old.clone()), Some(old.start));
        }
        assert_eq!(new.put, [0, 1, 2, 3]);
    }

    #[test]
    fn deleted_files_leave_gaps_and_whole_chunks_of_them_are_not_taken() {
        let (mut splicer, mut new) = (Splicer::new(Old::new(&[10, 5, 20, 7])), New::default());
        assert_eq!(keep(&mut splicer, &mut new, 2..4), Some(2));
        assert_eq!(keep(&mut splicer, &mut new, 8..9), Some(8));
        // Chunk 1 is nobody's any more.
        assert_eq!(keep(&mut splicer, &mut new, 18..20), Some(13));
        assert_eq!(keep(&mut splicer, &mut new, 36..42), Some(31));
        assert_eq!(new.put, [0, 2, 3]);
    }

    #[test]
    fn behind_other_bytes_the_chunk_is_taken_again() {
        let (mut splicer, mut new) = (Splicer::new(Old::new(&[10, 5])), New::default());
        assert_eq!(keep(&mut splicer, &mut new, 0..3), Some(0));
        new.write(4);
        assert_eq!(keep(&mut splicer, &mut new, 5..8), Some(19));
        assert_eq!(keep(&mut splicer, &mut new, 8..12), Some(22));
        new.write(1);
        assert_eq!(keep(&mut splicer, &mut new, 13..15), Some(14 + 10 + 5 + 1 + 3));
        assert_eq!(new.put, [0, 0, 1, 1]);
        new.write(1);
        new.thrifty = true;
        assert_eq!(keep(&mut splicer, &mut new, 14..15), None, "it would take four bytes along");
    }

    #[test]
    fn what_can_not_be_had_is_refused_and_what_follows_is_right() {
        let (mut splicer, mut new) = (Splicer::new(Old::new(&[10, 5, 20, 7])), New::default());
        new.condemned.insert(id(1));
        assert_eq!(keep(&mut splicer, &mut new, 0..9), Some(0));
        assert_eq!(keep(&mut splicer, &mut new, 9..20), None);
        assert_eq!(keep(&mut splicer, &mut new, 20..22), Some(15));
        assert_eq!(keep(&mut splicer, &mut new, 40..43), None, "behind the end");
        assert_eq!(keep(&mut splicer, &mut new, 3..4), None, "not in order");
        assert_eq!(new.put, [0, 2]);
        let mut splicer = Splicer::new(Old { unreadable: Some(1), ..Old::new(&[10, 5, 20]) });
        let mut new = New::default();
        assert_eq!(keep(&mut splicer, &mut new, 9..12), None);
        assert_eq!(keep(&mut splicer, &mut new, 13..14), None);
        assert_eq!(keep(&mut splicer, &mut new, 15..16), Some(0));
    }

    #[test]
    fn any_files_in_any_chunks() {
        let mut state = 1u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..3000 {
            let lens: Vec<u64> = (0..1 + below(20)).map(|_| 1 + below(12)).collect();
            let total: u64 = lens.iter().sum();
            let mut splicer = Splicer::new(Old::new(&lens));
            let mut new = New::default();
            new.condemned.extend((0..below(3)).map(|_| id(below(20) as usize)));
            let (mut at, mut end) = (0, 0);
            while at < total {
                let old = at..total.min(at + 1 + below(9));
                at = old.end + below(3) * below(6);
                match below(4) {
                    0 => new.write(below(5) as usize),
                    _ => {
                        let (before, put) = (new.position(), new.put.len());
                        let Some(begin) = keep(&mut splicer, &mut new, old.clone()) else { continue };
                        assert!(begin >= end, "files in the order of their content");
                        end = begin + (old.end - old.start);
                        assert!(end <= new.position());
                        assert_eq!(before == new.position(), put == new.put.len());
                    }
                }
            }
        }
    }
}
