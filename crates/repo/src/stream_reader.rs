//! Streams out of the repository: decoded by all cores, given out in order.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use dbvault_format::chunk_list::{Item, StreamRef, decode_node};
use dbvault_format::id::ChunkId;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord, decode_entries};

use crate::chunk_reader::ChunkReader;
use crate::index::ChunkIndex;
use crate::monitor::{Counter, Monitor, Phase};
use crate::view::View;
use crate::{Error, Repository, Result, layout};

/// Decoded bytes of one batch, about.
const BATCH_BYTES: u64 = 4 << 20;

/// Batches that are decoded or waiting beyond one a worker.
const BATCHES_AHEAD: usize = 2;

/// Reads archives. Many streams may be open at once.
#[derive(Debug)]
pub struct Reader {
    repo: Repository,
    index: Arc<ChunkIndex>,
    chunks: ChunkReader,
    monitor: Arc<dyn Monitor>,
    /// Held while the index is brought up to date.
    refresh: Mutex<()>,
}

impl Repository {
    /// Opens the index for reading.
    pub fn reader(&self, monitor: Arc<dyn Monitor>) -> Result<Arc<Reader>> {
        self.reader_at(&View::load(self)?, monitor)
    }

    /// Opens the index for reading what `view` shows.
    pub(crate) fn reader_at(&self, view: &View, monitor: Arc<dyn Monitor>) -> Result<Arc<Reader>> {
        let index = Arc::new(ChunkIndex::open(self, view, &*monitor)?);
        let chunks = ChunkReader::new(self, index.clone());
        Ok(Arc::new(Reader { repo: self.clone(), index, chunks, monitor, refresh: Mutex::default() }))
    }
}

impl Reader {
    /// The entries of an archive.
    pub fn entries(self: &Arc<Self>, manifest: &ArchiveManifest) -> Result<Vec<EntryRecord>> {
        let mut table = Vec::new();
        self.stream(&manifest.entries, false)?.read_to_end(&mut table).map_err(from_io)?;
        let object = layout::archive(&manifest.id);
        decode_entries(&table, manifest.entry_count).map_err(|e| Error::reading(object.as_str(), e))
    }

    /// Opens a stream at its beginning.
    pub fn open_stream(self: &Arc<Self>, stream: &StreamRef) -> Result<StreamReader> {
        self.monitor.phase(Phase::Read);
        self.monitor.expect(Counter::StreamBytes, stream.bytes);
        self.stream(stream, true)
    }

    fn stream(self: &Arc<Self>, stream: &StreamRef, counted: bool) -> Result<StreamReader> {
        stream.validate().map_err(|e| Error::reading("stream", e))?;
        Ok(StreamReader::start(self.clone(), *stream, counted))
    }

    /// The repository this reads.
    pub(crate) fn repo(&self) -> &Repository {
        &self.repo
    }

    /// The index this reads by.
    pub(crate) fn index(&self) -> &ChunkIndex {
        &self.index
    }

    /// The chunks this reads.
    pub(crate) fn chunks(&self) -> &ChunkReader {
        &self.chunks
    }

    /// Who hears of progress.
    pub(crate) fn monitor(&self) -> &dyn Monitor {
        &*self.monitor
    }

    /// Brings the index up to `view`.
    pub(crate) fn update(&self, view: &View) -> Result<()> {
        let _alone = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        self.index.update(&self.repo, view, &*self.monitor)?;
        Ok(())
    }

    /// The bytes of `ids`, in their order. What is not where the index says is looked for once more after the
    /// index was brought up to date: a collection may have moved it.
    pub(crate) fn fetch(&self, ids: &[ChunkId]) -> Result<Vec<Vec<u8>>> {
        let first: Result<Vec<_>> = self.chunks.fetch(ids).into_iter().collect();
        match first {
            Err(Error::ChunkMissing { .. } | Error::PackMissing { .. } | Error::Cache { .. }) => {
                let _alone = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
                let view = View::load(&self.repo)?;
                self.index.rebuild(&self.repo, &view, &*self.monitor)?;
                self.chunks.fetch(ids).into_iter().collect()
            }
            done => done,
        }
    }

    /// Calls `each` for every data chunk of a stream, in order, and with the nodes above them when `nodes` is
    /// set. Holds one node a level.
    pub(crate) fn walk(&self, stream: &StreamRef, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        let Some(id) = stream.root else { return Ok(()) };
        self.walk_below(Item { id, stream_bytes: stream.bytes }, stream.levels, each)
    }

    fn walk_below(&self, item: Item, level: u8, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        if level == 0 {
            return each(item);
        }
        let node = self.fetch(&[item.id])?.pop().unwrap_or_default();
        let items =
            decode_node(&node, level, item.stream_bytes).map_err(|e| Error::reading("chunk list", e))?;
        items.into_iter().try_for_each(|item| self.walk_below(item, level - 1, each))
    }
}

/// A job: consecutive chunks of a stream, and its number.
type Job = (u64, Vec<Item>);
type Decoded = (u64, Result<Vec<Vec<u8>>>);

/// Reads a stream from its beginning to its end. An error of [`Read`] holds an [`Error`]; [`from_io`] gives it.
/// The stream ends where it should, or with an error.
#[derive(Debug)]
pub struct StreamReader {
    reader: Arc<Reader>,
    counted: bool,
    /// One token a batch that may be in memory; given back when a batch has been read out.
    tokens: Option<Sender<()>>,
    decoded: Option<Receiver<Decoded>>,
    threads: Vec<JoinHandle<()>>,
    waiting: BTreeMap<u64, Result<Vec<Vec<u8>>>>,
    next: u64,
    /// Chunks of the current batch, last first, and how much of the last is read.
    current: Vec<Vec<u8>>,
    at: usize,
    left_bytes: u64,
}

impl StreamReader {
    fn start(reader: Arc<Reader>, stream: StreamRef, counted: bool) -> StreamReader {
        let workers = if stream.bytes <= BATCH_BYTES {
            1
        } else {
            thread::available_parallelism().map_or(1, usize::from)
        };
        let in_memory = workers + BATCHES_AHEAD;
        let (tokens, may_start) = bounded(in_memory);
        (0..in_memory).for_each(|_| {
            let _ = tokens.send(());
        });
        let (jobs, todo) = bounded::<Job>(workers);
        let (results, decoded) = bounded::<Decoded>(in_memory + 1);
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (reader, todo, results) = (reader.clone(), todo.clone(), results.clone());
            threads.push(thread::spawn(move || decode_jobs(&reader, &todo, &results)));
        }
        let planner = reader.clone();
        threads.push(thread::spawn(move || plan_jobs(&planner, &stream, &may_start, &jobs, &results)));
        StreamReader {
            reader,
            counted,
            tokens: Some(tokens),
            decoded: Some(decoded),
            threads,
            waiting: BTreeMap::new(),
            next: 0,
            current: Vec::new(),
            at: 0,
            left_bytes: stream.bytes,
        }
    }

    /// The next bytes of the stream, as many as are there in one piece, at most `max`; empty at its end.
    fn next_bytes(&mut self, max: usize) -> Result<&[u8]> {
        if self.left_bytes == 0 {
            return Ok(&[]);
        }
        while self.current.last().is_none_or(|chunk| self.at == chunk.len()) {
            self.at = 0;
            if self.current.pop().is_none() || self.current.is_empty() {
                self.next_batch()?;
            }
        }
        let chunk = self.current.last().map(Vec::as_slice).unwrap_or_default();
        let piece = &chunk[self.at..][..max.min(chunk.len() - self.at)];
        self.at += piece.len();
        self.left_bytes = self.left_bytes.saturating_sub(piece.len() as u64);
        if self.counted {
            self.reader.monitor.add(Counter::StreamBytes, piece.len() as u64);
        }
        Ok(piece)
    }

    fn next_batch(&mut self) -> Result<()> {
        if self.next > 0 {
            // The planner may have ended: then nobody wants the token.
            let _ = self.tokens.as_ref().map(|tokens| tokens.try_send(()));
        }
        loop {
            self.reader.repo.client.check_interrupt()?;
            if let Some(batch) = self.waiting.remove(&self.next) {
                self.next += 1;
                self.current = batch?;
                self.current.reverse();
                return Ok(());
            }
            let decoded = self.decoded.as_ref().and_then(|decoded| decoded.recv().ok());
            let (number, batch) = decoded.ok_or(Error::Poisoned)?;
            self.waiting.insert(number, batch);
        }
    }
}

impl Read for StreamReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.next_bytes(out.len()) {
            Ok(piece) => {
                let len = piece.len();
                out[..len].copy_from_slice(piece);
                Ok(len)
            }
            Err(e) => {
                // What follows the gap must not be taken for what belongs in it: there is no reading on.
                self.decoded = None;
                self.waiting.clear();
                Err(io::Error::other(e))
            }
        }
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        // Without the channels' other ends the threads end.
        self.tokens = None;
        self.decoded = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The repository error inside an error of a [`StreamReader`].
pub(crate) fn from_io(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Source { entry: String::new(), source },
    }
}

fn plan_jobs(
    reader: &Reader,
    stream: &StreamRef,
    may_start: &Receiver<()>,
    jobs: &Sender<Job>,
    results: &Sender<Decoded>,
) {
    let (mut number, mut batch, mut bytes) = (0, Vec::new(), 0);
    // An error here only means that the stream is not wanted any more.
    let mut send = |batch: Vec<Item>| {
        may_start.recv().map_err(|_| Error::Interrupted)?;
        jobs.send((number, batch)).map_err(|_| Error::Interrupted)?;
        number += 1;
        Ok(())
    };
    let walked = reader.walk(stream, &mut |item| {
        bytes += item.stream_bytes;
        batch.push(item);
        if bytes < BATCH_BYTES {
            return Ok(());
        }
        bytes = 0;
        send(std::mem::take(&mut batch))
    });
    let sent = walked.and_then(|()| if batch.is_empty() { Ok(()) } else { send(batch) });
    if let Err(e) = sent {
        let _ = results.send((number, Err(e)));
    }
}

fn decode_jobs(reader: &Reader, todo: &Receiver<Job>, results: &Sender<Decoded>) {
    for (number, items) in todo {
        let ids: Vec<ChunkId> = items.iter().map(|item| item.id).collect();
        let chunks = reader.fetch(&ids).and_then(|chunks| {
            let fits = chunks.iter().zip(&items).all(|(chunk, item)| chunk.len() as u64 == item.stream_bytes);
            let wrong = || {
                Error::reading("chunk list", dbvault_format::Error::malformed("chunk list", "length differs"))
            };
            if fits { Ok(chunks) } else { Err(wrong()) }
        });
        if results.send((number, chunks)).is_err() {
            return;
        }
    }
}
