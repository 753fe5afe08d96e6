//! The way of a stream into the repository: cut, name, dedup, find a base, compress, seal, verify.
//!
//! One thread reads, one cuts, and as many workers as there are cores do the rest; bounded queues lie between
//! them. A last thread puts the results in order again and builds the chunk list. Memory does not depend on
//! the length of the stream. Chunks that are stored already may be put between the bytes of a stream: they go the
//! same way to their places, untouched.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use dbvault_format::CHUNK_BYTES_MAX;
use dbvault_format::chunk_list::{ChunkListBuilder, Item, StreamRef};
use dbvault_format::chunker::{Chunker, RecentCandidates};
use dbvault_format::compress::{Codec, DeltaEncoder, Encoder};
use dbvault_format::entry::Grid;
use dbvault_format::id::ChunkId;
use dbvault_format::manifest::Sizes;
use dbvault_format::pack::ChunkEntry;
use dbvault_format::similarity::{Similarity, SuperFeatures};

use crate::base_choice::find_base;
use crate::block_writer::{Block, BlockWriter};
use crate::chunk_reader::{Bench, ChunkReader};
use crate::monitor::{Counter, Monitor};
use crate::pack_writer::{Encoded, PackWriter, Verifier};
use crate::reuse::Reuse;
use crate::{Error, Repository, Result};

/// Bytes of a stream that are handed to a worker at once.
const BATCH_BYTES: usize = 4 << 20;

/// The same of a stream that has another beside it.
const MOST_BATCH_BYTES: usize = 2 << 20;

/// The same of a stream that is written beside another and has much less in it.
const ASIDE_BATCH_BYTES: usize = 1 << 20;

/// Batches that wait for a worker, and as many blocks for the one who cuts.
const BATCH_QUEUE_MAX: usize = 2;

/// A delta of at most this part of its chunk is taken without looking at the alternative.
const DELTA_CLEAR_WIN: usize = 8;

/// What a session stores streams with.
#[derive(Debug)]
pub(crate) struct Pipeline {
    repo: Repository,
    reuse: Arc<Reuse>,
    packs: PackWriter,
    reader: ChunkReader,
    chunker: Chunker,
    similarity: Similarity,
    monitor: Arc<dyn Monitor>,
}

/// How much of the machine a stream takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Threads that do the work.
    workers: usize,
    /// Bytes that are handed to one of them at once.
    batch_bytes: usize,
    /// Whether its bytes are progress that users hear of.
    counted: bool,
}

impl Share {
    /// That of a stream which all waits for.
    pub(crate) fn whole() -> Share {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        Share { workers, batch_bytes: BATCH_BYTES, counted: true }
    }

    /// That of a stream which has another beside it.
    pub(crate) fn most() -> Share {
        Share { batch_bytes: MOST_BATCH_BYTES, ..Share::whole() }
    }

    /// That of a stream which is written beside another.
    pub(crate) fn aside() -> Share {
        Share { workers: 1, batch_bytes: ASIDE_BATCH_BYTES, counted: false }
    }
}

/// Consecutive chunks of a stream.
struct Batch {
    number: u64,
    bytes: Vec<u8>,
    /// Where the first cut chunk begins.
    start: usize,
    /// In order; the lengths of cut chunks are together as much of `bytes` as belongs to this batch.
    pieces: Vec<Piece>,
}

/// A chunk of a batch.
#[derive(Clone, Copy, Debug)]
enum Piece {
    /// The next bytes, as many.
    Cut(usize),
    /// A chunk that is stored already.
    Stored(Item),
}

/// What a batch became.
struct Stored {
    number: u64,
    items: Vec<Item>,
    sizes: Sizes,
}

/// A chunk of a batch that has to be stored.
struct NewChunk<'a> {
    id: ChunkId,
    plain: &'a [u8],
    features: Option<SuperFeatures>,
    base: Option<(ChunkId, u8)>,
}

/// What one thread stores chunks with, from one batch to the next.
struct Tools {
    encoder: Encoder,
    verifier: Verifier,
    bases: Bench,
    /// A chunk as a delta.
    delta: Vec<u8>,
    /// A chunk that stands alone.
    whole: Vec<u8>,
}

impl Pipeline {
    /// A pipeline into `packs`.
    pub(crate) fn new(
        repo: &Repository,
        reuse: Arc<Reuse>,
        packs: PackWriter,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Pipeline> {
        Ok(Pipeline {
            repo: repo.clone(),
            reader: ChunkReader::new(repo, reuse.index().clone()),
            reuse,
            packs,
            chunker: Chunker::new(repo.params.chunker, &repo.keys.chunker).map_err(Error::Format)?,
            similarity: Similarity::new(&repo.keys.similarity),
            monitor,
        })
    }

    /// Stores a stream to its end. `name` is for errors.
    ///
    /// Errors: [`Error::Source`] where `body` fails; any failure of storing, after which the session can't
    /// commit.
    pub(crate) fn store_stream(
        &self,
        name: &str,
        grid: Grid,
        body: &mut dyn Read,
    ) -> Result<(StreamRef, Sizes)> {
        let (_, stream, sizes) =
            self.store_written(name, grid, Share::whole(), |blocks| blocks.copy(body, u64::MAX))?;
        Ok((stream, sizes))
    }

    /// Stores the stream that `write` writes; gives what `write` gave, too.
    ///
    /// Errors: those of `write`; any failure of storing, after which the session can't commit.
    pub(crate) fn store_written<T>(
        &self,
        name: &str,
        grid: Grid,
        share: Share,
        write: impl FnOnce(&mut BlockWriter) -> Result<T>,
    ) -> Result<(T, StreamRef, Sizes)> {
        let room = match grid {
            Grid::Content => self.chunker.window_bytes(),
            Grid::Fixed(bytes) => (bytes as usize).clamp(1, CHUNK_BYTES_MAX),
        };
        let (blocks, uncut) = bounded::<Block>(BATCH_QUEUE_MAX);
        let (batches, jobs) = bounded::<Batch>(BATCH_QUEUE_MAX);
        let (results, stored) = unbounded::<Result<Stored>>();
        let (spent, buffers) = unbounded::<Vec<u8>>();
        thread::scope(|scope| {
            for _ in 0..share.workers {
                let (jobs, results, spent) = (jobs.clone(), results.clone(), spent.clone());
                scope.spawn(move || self.work(&jobs, &results, &spent));
            }
            drop((jobs, results, spent));
            scope.spawn(move || self.cut_blocks(grid, room, &uncut, &batches));
            let list = scope.spawn(move || self.build_list(&stored));
            let monitor = share.counted.then(|| self.monitor.clone());
            let sizes = (room, share.batch_bytes);
            let mut writer = BlockWriter::new(&self.repo, monitor, name, sizes, (blocks, buffers));
            let written = match write(&mut writer) {
                Ok(written) => writer.end().map(|()| written),
                Err(e) => {
                    drop(writer);
                    Err(e)
                }
            };
            let list = list.join().unwrap_or(Err(Error::Poisoned));
            // When storing fails, writing ends because nobody takes blocks any more.
            match (written, list) {
                (Err(Error::Poisoned), Err(e)) => Err(e),
                (Err(e), _) | (Ok(_), Err(e)) => Err(e),
                (Ok(written), Ok((stream, sizes))) => Ok((written, stream, sizes)),
            }
        })
    }

    /// Ends storing; see [`PackWriter::finish`].
    pub(crate) fn finish(self) -> Result<()> {
        self.packs.finish()
    }

    /// How hard chunks are compressed.
    pub(crate) fn level(&self) -> i32 {
        i32::from(self.repo.params.level)
    }

    /// Where chunks are stored.
    pub(crate) fn packs(&self) -> &PackWriter {
        &self.packs
    }

    /// What may be reused.
    pub(crate) fn reuse(&self) -> &Reuse {
        &self.reuse
    }

    /// Cuts blocks into batches of chunks. What is left of a block, too short to cut without seeing more, goes
    /// before the next one. Ends when the stream does, or reading, or storing.
    fn cut_blocks(&self, grid: Grid, room: usize, blocks: &Receiver<Block>, batches: &Sender<Batch>) {
        let mut recent = RecentCandidates::default();
        let cut = |window: &[u8], recent: &mut RecentCandidates| match grid {
            Grid::Content => self.chunker.cut(window, recent),
            Grid::Fixed(_) => room.min(window.len()),
        };
        let mut rest = Vec::new();
        for (number, Block { mut bytes, end, breaks, ended }) in (0..).zip(blocks) {
            let start = room - rest.len();
            bytes[start..room].copy_from_slice(&rest);
            let (mut pieces, mut at) = (Vec::new(), start);
            for place in breaks {
                while at < place.at {
                    let len = cut(&bytes[at..place.at], &mut recent);
                    pieces.push(Piece::Cut(len));
                    at += len;
                }
                recent = RecentCandidates::default();
                pieces.extend(place.stored.map(Piece::Stored));
            }
            while at < end && (ended || end - at >= room) {
                let len = cut(&bytes[at..end], &mut recent);
                pieces.push(Piece::Cut(len));
                at += len;
            }
            rest.clear();
            rest.extend_from_slice(&bytes[at..end]);
            if batches.send(Batch { number, bytes, start, pieces }).is_err() {
                return;
            }
        }
    }

    fn work(&self, jobs: &Receiver<Batch>, results: &Sender<Result<Stored>>, spent: &Sender<Vec<u8>>) {
        let mut tools = match self.tools() {
            Ok(tools) => tools,
            Err(e) => {
                let _ = results.send(Err(e));
                return;
            }
        };
        for batch in jobs {
            let stored = self.store_batch(&batch, &mut tools);
            let failed = stored.is_err();
            if failed {
                self.packs.poison();
            }
            // Nobody is there to hear of it only when another worker has failed already.
            let _ = results.send(stored);
            let _ = spent.send(batch.bytes);
            if failed {
                return;
            }
        }
    }

    fn tools(&self) -> Result<Tools> {
        Ok(Tools {
            encoder: Encoder::new(i32::from(self.repo.params.level)).map_err(Error::Format)?,
            verifier: Verifier::default(),
            bases: Bench::default(),
            delta: Vec::new(),
            whole: Vec::new(),
        })
    }

    fn store_batch(&self, batch: &Batch, tools: &mut Tools) -> Result<Stored> {
        let mut stored = Stored { number: batch.number, items: Vec::new(), sizes: Sizes::default() };
        let mut new = Vec::new();
        let mut at = batch.start;
        for piece in &batch.pieces {
            let (item, plain) = match *piece {
                Piece::Stored(item) => (item, None),
                Piece::Cut(len) => {
                    let plain = &batch.bytes[at..at + len];
                    at += len;
                    let id = self.repo.keys.chunk_id(plain);
                    (Item { id, stream_bytes: len as u64 }, Some(plain))
                }
            };
            stored.items.push(item);
            stored.sizes.original_bytes += item.stream_bytes;
            stored.sizes.chunks += 1;
            let Some(plain) = plain else { continue };
            let id = item.id;
            if self.is_new(&id)? {
                let features =
                    self.similarity.features(plain).filter(|_| self.repo.params.delta_depth_max > 0);
                let depth_max = self.repo.params.delta_depth_max;
                let base = features
                    .and_then(|features| find_base(&self.reuse, &features, depth_max).transpose())
                    .transpose()?;
                new.push(NewChunk { id, plain, features, base });
            }
        }
        self.store_new(&new, tools, &mut stored.sizes)?;
        Ok(stored)
    }

    /// Claims the chunk, unless the repository has it. The claim goes first: between a look and a claim,
    /// another worker could store it.
    fn is_new(&self, id: &ChunkId) -> Result<bool> {
        if !self.packs.claim(id) {
            return Ok(false);
        }
        let known = self.reuse.find(id)?.is_some();
        if known {
            self.packs.release(id);
        }
        Ok(!known)
    }

    fn store_new(&self, new: &[NewChunk], tools: &mut Tools, sizes: &mut Sizes) -> Result<()> {
        let Tools { encoder, verifier, bases, delta: delta_form, whole: whole_form } = tools;
        let wanted: Vec<ChunkId> = new.iter().filter_map(|chunk| Some(chunk.base?.0)).collect();
        // A base that can't be read is no base: the chunk is stored whole.
        let mut bases = self.reader.fetch(&wanted, bases).into_iter().map(Result::ok);
        let mut delta_encoder = match wanted.is_empty() {
            true => None,
            false => Some(DeltaEncoder::new(i32::from(self.repo.params.level)).map_err(Error::Format)?),
        };
        for chunk in new {
            let base = chunk.base.and_then(|(id, depth)| Some((id, depth, bases.next()??)));
            let delta = match (&mut delta_encoder, base) {
                (Some(encoder), Some((_, _, base))) => {
                    encoder.encode(base, chunk.plain, delta_form).map_err(Error::Format)?;
                    true
                }
                _ => false,
            };
            let clear = delta && delta_form.len() * DELTA_CLEAR_WIN <= chunk.plain.len();
            let whole = if clear {
                None
            } else {
                Some(encoder.encode(chunk.plain, whole_form).map_err(Error::Format)?)
            };
            // A chunk that stands alone is worth a fifth more bytes.
            let delta = delta && (clear || delta_form.len() * 5 < whole_form.len() * 4);
            let base = base.filter(|_| delta);
            let entry = ChunkEntry {
                id: chunk.id,
                codec: if delta { Codec::Delta } else { whole.unwrap_or(Codec::Raw) },
                depth: base.map_or(0, |(_, depth, _)| depth + 1),
                plain_len: chunk.plain.len() as u32,
                sealed_len: 0,
                base: base.map(|(id, _, _)| id),
                features: chunk.features,
            };
            let stored: &[u8] = if delta { delta_form } else { whole_form };
            let base = base.map(|(_, _, plain)| plain);
            self.store_one(&Encoded { entry, stored, base }, verifier, sizes)?;
        }
        Ok(())
    }

    fn store_one(&self, chunk: &Encoded, verifier: &mut Verifier, sizes: &mut Sizes) -> Result<()> {
        let stored_bytes = u64::from(self.packs.store(chunk, verifier)?);
        let new_bytes = u64::from(chunk.entry.plain_len);
        sizes.new_bytes += new_bytes;
        sizes.stored_bytes += stored_bytes;
        sizes.new_chunks += 1;
        sizes.delta_chunks += u64::from(chunk.entry.base.is_some());
        self.monitor.add(Counter::NewBytes, new_bytes);
        self.monitor.add(Counter::StoredBytes, stored_bytes);
        Ok(())
    }

    /// Puts the batches in order and builds the chunk list of the stream.
    fn build_list(&self, stored: &Receiver<Result<Stored>>) -> Result<(StreamRef, Sizes)> {
        let mut builder = ChunkListBuilder::default();
        let mut sizes = Sizes::default();
        let mut tools = self.tools()?;
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        let mut nodes = Sizes::default();
        let mut store = |node: Vec<u8>| self.store_node(&node, &mut tools, &mut nodes);
        let mut failure = None;
        for result in stored {
            match result {
                // The first one to fail tells why; the others only that it did.
                Err(e) if failure.is_none() || matches!(failure, Some(Error::Poisoned)) => failure = Some(e),
                Err(_) => {}
                Ok(batch) => drop(waiting.insert(batch.number, batch)),
            }
            while let Some(batch) = waiting.remove(&next) {
                next += 1;
                sizes.add(&batch.sizes);
                let built = batch.items.into_iter().try_for_each(|item| builder.push(item, &mut store));
                if let Err(e) = built {
                    failure.get_or_insert(e);
                }
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let stream = builder.finish(&mut store)?;
        // Nodes are a cost of storing, not part of what the user gave.
        sizes.stored_bytes += nodes.stored_bytes;
        Ok((stream, sizes))
    }

    fn store_node(&self, node: &[u8], tools: &mut Tools, sizes: &mut Sizes) -> Result<ChunkId> {
        let id = self.repo.keys.chunk_id(node);
        if self.is_new(&id)? {
            let Tools { encoder, verifier, whole, .. } = tools;
            let codec = encoder.encode(node, whole).map_err(Error::Format)?;
            let plain_len = node.len() as u32;
            let entry =
                ChunkEntry { id, codec, depth: 0, plain_len, sealed_len: 0, base: None, features: None };
            self.store_one(&Encoded { entry, stored: whole, base: None }, verifier, sizes)?;
        }
        Ok(id)
    }
}
