//! Streams out of the repository at any place: only what is needed is read and decoded, and ahead of those who read on.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbvault_format::CHUNK_BYTES_MAX;
use dbvault_format::chunk_list::{Item, StreamRef, decode_node};
use dbvault_format::id::ChunkId;
use parking_lot::Mutex;

use crate::chunk_reader::Bench;
use crate::decoded_cache::{Decoded, DecodedCache};
use crate::stream_reader::Reader;
use crate::{Error, Result};

/// Decoded chunks that a [`Reader`] keeps for all its [`RandomReader`]s, bytes, where nothing else is asked for.
pub const CACHE_BYTES: usize = 64 << 20;

/// Nodes of chunk lists that are kept beside them, bytes.
const NODES_BYTES_MAX: usize = 4 << 20;

/// Decoded bytes of one batch, about: its records and their bases are read together.
const BATCH_BYTES: u64 = 2 << 20;

/// Most bytes that are decoded ahead of one reader.
const AHEAD_BYTES_MAX: u64 = 16 << 20;

/// A read that begins no further than this from the end of the last one goes on with it, bytes: a system that reads
/// ahead itself sends such reads in any order.
const ON_BYTES: u64 = 256 << 10;

/// Read in one go before anything is decoded ahead, bytes.
const AHEAD_AFTER_BYTES: u64 = 256 << 10;

/// What all random readers of one [`Reader`] share.
#[derive(Debug)]
pub(crate) struct Shared {
    chunks: DecodedCache<Arc<Vec<u8>>>,
    nodes: DecodedCache<Arc<Node>>,
    /// Memory for decoding that nobody uses at the moment; one for each thread that has decoded at the same time.
    benches: Mutex<Vec<Bench>>,
    /// Readers that something is decoded ahead of.
    ahead_count: AtomicUsize,
}

impl Shared {
    /// Keeps `cache_bytes` of decoded chunks at most.
    pub(crate) fn new(cache_bytes: usize) -> Shared {
        Shared {
            chunks: DecodedCache::new(cache_bytes),
            nodes: DecodedCache::new(NODES_BYTES_MAX),
            benches: Mutex::default(),
            ahead_count: AtomicUsize::new(0),
        }
    }
}

/// A node of a chunk list.
#[derive(Debug)]
struct Node {
    level: u8,
    items: Vec<Item>,
    /// Where each item ends, bytes from the beginning of the node.
    ends: Vec<u64>,
}

impl Node {
    fn decode(bytes: &[u8], level: u8, stream_bytes: u64) -> Result<Node> {
        let items = decode_node(bytes, level, stream_bytes).map_err(in_chunk_list)?;
        let ends = items.iter().scan(0, |end, item| {
            *end += item.stream_bytes;
            Some(*end)
        });
        Ok(Node { level, ends: ends.collect(), items })
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Node>() + self.items.len() * (size_of::<Item>() + size_of::<u64>())
    }
}

/// A chunk, and where it is in its stream.
#[derive(Clone, Copy, Debug)]
struct Piece {
    id: ChunkId,
    begin: u64,
    bytes: u64,
}

/// Reads a stream at any place, for many threads at once. Clones share what they know of how the stream is read: who
/// reads it in another order opens it again.
///
/// Decoded chunks are kept for all readers of one [`Reader`], within its bound; each thread that reads uses some MiB
/// besides. Reads that go on with each other make other threads decode what comes next.
#[derive(Clone, Debug)]
pub struct RandomReader {
    stream: Arc<Stream>,
}

#[derive(Debug)]
struct Stream {
    reader: Arc<Reader>,
    stream: StreamRef,
    progress: Mutex<Progress>,
}

/// How a stream is being read.
#[derive(Debug, Default)]
struct Progress {
    /// Where the reads began that went on with each other up to now.
    begin: u64,
    /// Where the last of them ended.
    next: u64,
    /// How far is decoded ahead, bytes; 0 where nothing is.
    window_bytes: u64,
    /// Up to where that was asked for.
    asked: u64,
    /// Nothing is wanted from here on.
    limit: Option<u64>,
}

impl Reader {
    /// Opens a stream to be read at any place. Nothing is read yet.
    pub fn open_random(self: &Arc<Self>, stream: &StreamRef) -> Result<RandomReader> {
        stream.validate().map_err(|e| Error::reading("stream", e))?;
        let stream = Stream { reader: self.clone(), stream: *stream, progress: Mutex::default() };
        Ok(RandomReader { stream: Arc::new(stream) })
    }

    /// The bytes of `ids`, in their order; what is not where the index says is looked for once more.
    fn decode(&self, ids: &[ChunkId]) -> Vec<Decoded<Arc<Vec<u8>>>> {
        let shared = self.shared();
        let benches = || shared.benches.lock();
        let mut bench = benches().pop().unwrap_or_default();
        // Fresh memory costs as much as copying: what nobody uses any more is used again.
        let mut spare = shared.chunks.take_gone().into_iter().filter_map(Arc::into_inner);
        let before = self.generation();
        let fetched = self.chunks().fetch_apart(ids, &mut bench, &mut || spare.next().unwrap_or_default());
        benches().push(bench);
        let found = |(id, found): (&ChunkId, Result<Vec<u8>>)| {
            let bytes = found.or_else(|e| self.look_again(e, before, || self.chunks().fetch_one(id)))?;
            let memory_bytes = bytes.capacity();
            Ok((Arc::new(bytes), memory_bytes))
        };
        ids.iter().zip(fetched).map(found).collect()
    }
}

impl RandomReader {
    /// Length of the stream, bytes.
    pub fn len_bytes(&self) -> u64 {
        self.stream.stream.bytes
    }

    /// Has nothing decoded ahead from `end` on: for those who know that they will stop there.
    pub fn stop_ahead_at(&self, end: u64) {
        self.stream.progress.lock().limit = Some(end);
    }

    /// Reads bytes from `offset` on into `out`; gives how many, which are fewer than `out` takes only at the end of
    /// the stream, and none behind it.
    ///
    /// Errors: [`Error::ChunkUnreadable`] where a chunk that is needed can't be had. Then `out` may hold anything;
    /// what is in other chunks can be read all the same.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let end = self.len_bytes().min(offset.saturating_add(out.len() as u64));
        if offset >= end {
            return Ok(0);
        }
        self.read_ahead(offset..end);
        let out = &mut out[..(end - offset) as usize];
        self.stream.read(offset, out)?;
        Ok(out.len())
    }

    /// As [`RandomReader::read_at`], for up to `size` bytes: calls `give` with them, which are copied to `room` only where
    /// they are in several chunks.
    pub fn read_with<T>(
        &self,
        offset: u64,
        size: usize,
        room: &mut Vec<u8>,
        give: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let end = self.len_bytes().min(offset.saturating_add(size as u64));
        if offset >= end {
            return Ok(give(&[]));
        }
        self.read_ahead(offset..end);
        if let [piece] = self.stream.pieces(&(offset..end))?.as_slice() {
            let chunk = self.stream.chunks(std::slice::from_ref(piece))?.remove(0);
            let begin = (offset - piece.begin) as usize;
            return Ok(give(&chunk[begin..begin + (end - offset) as usize]));
        }
        room.resize(room.len().max((end - offset) as usize), 0);
        let out = &mut room[..(end - offset) as usize];
        self.stream.read(offset, out)?;
        Ok(give(out))
    }

    /// Notes that `range` is being read, and has others decode what is likely to be read next.
    fn read_ahead(&self, range: Range<u64>) {
        let shared = self.stream.reader.shared();
        let mut ahead = self.stream.note(range, shared);
        while !ahead.is_empty() {
            let batch = ahead.start..ahead.end.min(ahead.start + BATCH_BYTES);
            ahead.start = batch.end;
            // Whoever closes the stream wants no more of it.
            let stream = Arc::downgrade(&self.stream);
            rayon::spawn(move || {
                if let Some(stream) = stream.upgrade() {
                    stream.warm(batch);
                }
            });
        }
    }
}

impl Stream {
    /// Notes that `range` is being read; gives what is to be decoded ahead now.
    fn note(&self, range: Range<u64>, shared: &Shared) -> Range<u64> {
        let mut progress = self.progress.lock();
        if range.start.abs_diff(progress.next) > ON_BYTES {
            if progress.window_bytes > 0 {
                shared.ahead_count.fetch_sub(1, Ordering::Relaxed);
            }
            let (begin, next, limit) = (range.start, range.end, progress.limit);
            *progress = Progress { begin, next, limit, ..Progress::default() };
            return 0..0;
        }
        progress.next = progress.next.max(range.end);
        let read_bytes = progress.next - progress.begin;
        if read_bytes < AHEAD_AFTER_BYTES {
            return 0..0;
        }
        if progress.window_bytes == 0 {
            shared.ahead_count.fetch_add(1, Ordering::Relaxed);
        }
        // All that is decoded ahead takes half of the cache: what is read goes on being there for a while.
        let share = shared.chunks.bytes_max() / 2 / shared.ahead_count.load(Ordering::Relaxed).max(1);
        let window_max = (share as u64).clamp(BATCH_BYTES, AHEAD_BYTES_MAX);
        progress.window_bytes = (2 * read_bytes).min(window_max);
        let stop = progress.limit.unwrap_or(u64::MAX).min(self.stream.bytes);
        let end = (progress.next + progress.window_bytes).min(stop);
        let begin = progress.asked.max(progress.next);
        let worth_bytes = BATCH_BYTES.min(progress.window_bytes / 2);
        if begin >= end || (end < begin + worth_bytes && end < stop) {
            return 0..0;
        }
        progress.asked = end;
        begin..end
    }

    /// Decodes the chunks that begin in `range`, unless the reader is elsewhere by now.
    fn warm(&self, range: Range<u64>) {
        let (next, window_bytes) = {
            let progress = self.progress.lock();
            (progress.next, progress.window_bytes)
        };
        if window_bytes == 0 || next >= range.end {
            return;
        }
        // An error comes back when somebody reads the same.
        let Ok(pieces) = self.pieces(&range) else { return };
        let ids: Vec<ChunkId> =
            pieces.iter().filter(|piece| piece.begin >= range.start).map(|piece| piece.id).collect();
        self.reader.shared().chunks.warm(&ids, &|ids| self.reader.decode(ids));
    }

    /// Fills `out`, all of which is in the stream, batch by batch.
    fn read(&self, mut begin: u64, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            let (batch, after) = out.split_at_mut(out.len().min(BATCH_BYTES as usize));
            self.read_batch(begin, batch)?;
            begin += batch.len() as u64;
            out = after;
        }
        Ok(())
    }

    /// The bytes of chunks, each as long as the list says.
    fn chunks(&self, pieces: &[Piece]) -> Result<Vec<Arc<Vec<u8>>>> {
        let ids: Vec<ChunkId> = pieces.iter().map(|piece| piece.id).collect();
        let chunks = self.reader.shared().chunks.get(&ids, &|ids| self.reader.decode(ids))?;
        let fits = |(piece, chunk): (&Piece, &Arc<Vec<u8>>)| chunk.len() as u64 == piece.bytes;
        if chunks.len() == pieces.len() && pieces.iter().zip(&chunks).all(fits) {
            return Ok(chunks);
        }
        Err(in_chunk_list(dbvault_format::Error::malformed("chunk list", "length differs")))
    }

    fn read_batch(&self, begin: u64, out: &mut [u8]) -> Result<()> {
        let range = begin..begin + out.len() as u64;
        let pieces = self.pieces(&range)?;
        let chunks = self.chunks(&pieces)?;
        for (piece, chunk) in pieces.iter().zip(chunks) {
            let (from, to) = (range.start.max(piece.begin), range.end.min(piece.begin + piece.bytes));
            let in_chunk = (from - piece.begin) as usize..(to - piece.begin) as usize;
            out[(from - begin) as usize..(to - begin) as usize].copy_from_slice(&chunk[in_chunk]);
        }
        Ok(())
    }

    /// The chunks that `range` is in, in order: all of it, and not empty.
    fn pieces(&self, range: &Range<u64>) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        if let Some(id) = self.stream.root {
            let root = Piece { id, begin: 0, bytes: self.stream.bytes };
            self.pieces_below(root, self.stream.levels, range, &mut pieces)?;
        }
        Ok(pieces)
    }

    fn pieces_below(
        &self,
        piece: Piece,
        level: u8,
        range: &Range<u64>,
        found: &mut Vec<Piece>,
    ) -> Result<()> {
        if level == 0 {
            if piece.bytes > CHUNK_BYTES_MAX as u64 {
                let too_long = "longer than a chunk may be";
                return Err(in_chunk_list(dbvault_format::Error::malformed("chunk list", too_long)));
            }
            found.push(piece);
            return Ok(());
        }
        let node = self.node(piece.id, level, piece.bytes)?;
        let first = node.ends.partition_point(|end| piece.begin + end <= range.start);
        for (item, end) in node.items[first..].iter().zip(&node.ends[first..]) {
            let begin = piece.begin + end - item.stream_bytes;
            if begin >= range.end {
                break;
            }
            self.pieces_below(
                Piece { id: item.id, begin, bytes: item.stream_bytes },
                level - 1,
                range,
                found,
            )?;
        }
        Ok(())
    }

    fn node(&self, id: ChunkId, level: u8, stream_bytes: u64) -> Result<Arc<Node>> {
        let decode = |ids: &[ChunkId]| {
            let decode = |decoded: Decoded<Arc<Vec<u8>>>| {
                let node = Node::decode(&decoded?.0, level, stream_bytes)?;
                let bytes = node.memory_bytes();
                Ok((Arc::new(node), bytes))
            };
            self.reader.decode(ids).into_iter().map(decode).collect()
        };
        let node = self.reader.shared().nodes.get(&[id], &decode)?.pop();
        // The same chunk may be a node of another stream, which says something else of it.
        let fits = |node: &Arc<Node>| node.level == level && node.ends.last() == Some(&stream_bytes);
        node.filter(fits).ok_or_else(|| {
            in_chunk_list(dbvault_format::Error::malformed("chunk list", "level or length differs"))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.progress.lock().window_bytes > 0 {
            self.reader.shared().ahead_count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn in_chunk_list(error: dbvault_format::Error) -> Error {
    Error::reading("chunk list", error)
}
