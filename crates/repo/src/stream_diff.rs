//! Two streams compared by their chunk lists: what of each is not in the other, without reading a byte of data.
//!
//! Both trees are walked down together, a level at a time. Subtrees and chunks that both have are taken off both, each
//! as often as both have it, and only what is left is looked into. So what is left of the left one, and what is left of
//! the right one, differ by exactly what the streams differ by, whatever was moved.
//!
//! Memory: about 100 bytes for each chunk that differs, 100 MiB at most; of what is more, whole subtrees are taken for
//! different.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use dbvault_format::chunk_list::{Item, StreamRef, decode_node};
use dbvault_format::id::ChunkId;

use crate::{Error, Reader, Result};

/// Chunks and subtrees of one side that are looked at in one level, at most.
const ITEMS_MAX: usize = 1 << 19;

/// A stretch of bytes that both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRun {
    /// Where it begins on the left side, bytes.
    pub left: u64,
    /// Where it begins on the right side, bytes.
    pub right: u64,
    /// Its length, bytes.
    pub bytes: u64,
}

/// What two sides have in common. Each side is one stream, or several one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamDiff {
    /// Length of the left side, bytes.
    pub left_bytes: u64,
    /// Length of the right side, bytes.
    pub right_bytes: u64,
    /// What both have, in the order of the left side; no byte of either side is in two of them. Runs that go on with
    /// each other on both sides are one.
    pub shared: Vec<SharedRun>,
    /// It was too much to look at all of it: some of what both have may be missing above.
    pub coarse: bool,
}

impl StreamDiff {
    /// Bytes that both have.
    pub fn shared_bytes(&self) -> u64 {
        self.shared.iter().map(|run| run.bytes).sum()
    }

    /// What of the left side lies between shared runs. An empty range is a seam: two runs meet there that do not meet on
    /// the right side.
    pub fn left_only(&self) -> Vec<Range<u64>> {
        gaps(self.shared.iter().map(|run| run.left..run.left + run.bytes), self.left_bytes)
    }

    /// The same of the right side.
    pub fn right_only(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> =
            self.shared.iter().map(|run| run.right..run.right + run.bytes).collect();
        runs.sort_unstable_by_key(|run| run.start);
        gaps(runs.into_iter(), self.right_bytes)
    }
}

/// What is before, between and behind `runs`, which are in order; nothing that is empty at the beginning and the end.
fn gaps(runs: impl Iterator<Item = Range<u64>>, bytes: u64) -> Vec<Range<u64>> {
    let (mut gaps, mut at) = (Vec::new(), 0);
    for run in runs {
        if run.start > 0 {
            gaps.push(at..run.start);
        }
        at = run.end;
    }
    if at < bytes {
        gaps.push(at..bytes);
    }
    gaps
}

/// A chunk or a subtree, and where it begins.
#[derive(Clone, Copy, Debug)]
struct Placed {
    item: Item,
    begin: u64,
}

/// One side on its way down.
#[derive(Debug, Default)]
struct Side {
    /// Streams that are not reached yet, with their levels.
    roots: Vec<(u8, Placed)>,
    /// What is looked at, all of one level.
    open: Vec<Placed>,
    bytes: u64,
}

impl Side {
    fn new(streams: &[StreamRef]) -> Result<Side> {
        let mut side = Side::default();
        for stream in streams {
            stream.validate().map_err(|e| Error::reading("stream", e))?;
            if let Some(id) = stream.root {
                let item = Item { id, stream_bytes: stream.bytes };
                side.roots.push((stream.levels, Placed { item, begin: side.bytes }));
            }
            let sum = side.bytes.checked_add(stream.bytes);
            let too_long = || dbvault_format::Error::malformed("stream", "lengths overflow");
            side.bytes = sum.ok_or_else(|| Error::reading("stream", too_long()))?;
        }
        Ok(side)
    }

    /// Goes down to `level`; false where that would be too much.
    fn go_down(&mut self, reader: &Reader, level: u8) -> Result<bool> {
        let mut below = Vec::new();
        for placed in &self.open {
            if below.len() > ITEMS_MAX {
                return Ok(false);
            }
            let Placed { item: Item { id, stream_bytes }, begin: mut at } = *placed;
            let node = reader.fetch_one(&id)?;
            let items =
                decode_node(&node, level + 1, stream_bytes).map_err(|e| Error::reading("chunk list", e))?;
            for item in items {
                below.push(Placed { item, begin: at });
                at += item.stream_bytes;
            }
        }
        below.extend(self.roots.iter().filter(|(of, _)| *of == level).map(|(_, placed)| *placed));
        below.sort_unstable_by_key(|placed| placed.begin);
        self.open = below;
        Ok(true)
    }
}

/// Takes off both sides what both have.
fn take_shared(left: &mut Vec<Placed>, right: &mut Vec<Placed>, runs: &mut Vec<SharedRun>) {
    let mut places: HashMap<ChunkId, VecDeque<u64>> = HashMap::new();
    for placed in right.iter() {
        places.entry(placed.item.id).or_default().push_back(placed.begin);
    }
    let mut taken = std::collections::HashSet::new();
    left.retain(|placed| {
        let Some(begin) = places.get_mut(&placed.item.id).and_then(VecDeque::pop_front) else { return true };
        taken.insert(begin);
        runs.push(SharedRun { left: placed.begin, right: begin, bytes: placed.item.stream_bytes });
        false
    });
    right.retain(|placed| !taken.contains(&placed.begin));
}

/// Joins runs that go on with each other on both sides.
fn joined(mut runs: Vec<SharedRun>) -> Vec<SharedRun> {
    runs.sort_unstable_by_key(|run| run.left);
    let mut joined: Vec<SharedRun> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last) if last.left + last.bytes == run.left && last.right + last.bytes == run.right => {
                last.bytes += run.bytes;
            }
            _ => joined.push(run),
        }
    }
    joined
}

impl Reader {
    /// Compares two sides by their chunk lists: reads nodes that only one of them has, and no data.
    pub fn diff_streams(&self, left: &[StreamRef], right: &[StreamRef]) -> Result<StreamDiff> {
        let (mut left, mut right) = (Side::new(left)?, Side::new(right)?);
        let mut runs = Vec::new();
        let mut coarse = false;
        let top = left.roots.iter().chain(&right.roots).map(|(levels, _)| *levels).max().unwrap_or(0);
        for level in (0..=top).rev() {
            self.repo().client.check_interrupt()?;
            // Where one side can't go on, all that is left of both is taken for different.
            if !(left.go_down(self, level)? && right.go_down(self, level)?) {
                coarse = true;
                break;
            }
            take_shared(&mut left.open, &mut right.open, &mut runs);
        }
        Ok(StreamDiff { left_bytes: left.bytes, right_bytes: right.bytes, shared: joined(runs), coarse })
    }
}
