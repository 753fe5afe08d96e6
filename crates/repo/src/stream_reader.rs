//! Streams out of the repository: decoded by all cores, given out in order.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use dbvault_format::CHUNK_BYTES_MAX;
use dbvault_format::chunk_list::{Item, StreamRef, decode_node};
use dbvault_format::id::ChunkId;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord, decode_entries};

use crate::chunk_reader::{Bench, ChunkReader};
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

    /// The bytes of one chunk.
    fn fetch_one(&self, id: &ChunkId) -> Result<Vec<u8>> {
        self.looking_twice(|| self.chunks.fetch_one(id))
    }

    /// What is not where the index says is looked for once more after the index was brought up to date: a
    /// collection may have moved it.
    fn looking_twice<T>(&self, mut fetch: impl FnMut() -> Result<T>) -> Result<T> {
        match fetch() {
            Err(Error::ChunkMissing { .. } | Error::PackMissing { .. } | Error::Cache { .. }) => {
                let _alone = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
                let view = View::load(&self.repo)?;
                self.index.rebuild(&self.repo, &view, &*self.monitor)?;
                fetch()
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
        let node = self.fetch_one(&item.id)?;
        let items =
            decode_node(&node, level, item.stream_bytes).map_err(|e| Error::reading("chunk list", e))?;
        items.into_iter().try_for_each(|item| self.walk_below(item, level - 1, each))
    }
}

/// Consecutive chunks of a stream, with their lengths; their number; and memory for their bytes.
type Job = (u64, Vec<(ChunkId, usize)>, Vec<u8>);
type Decoded = (u64, Result<Vec<u8>>);

/// Reads a stream from its beginning to its end. An error of [`Read`] holds an [`Error`]; [`from_io`] gives it.
/// The stream ends where it should, or with an error.
#[derive(Debug)]
pub struct StreamReader {
    reader: Arc<Reader>,
    counted: bool,
    /// Memory for one batch each, given back when the batch has been read out: no more batches are decoded.
    spare: Option<Sender<Vec<u8>>>,
    decoded: Option<Receiver<Decoded>>,
    threads: Vec<JoinHandle<()>>,
    waiting: BTreeMap<u64, Result<Vec<u8>>>,
    next: u64,
    /// The current batch, and how much of it is read.
    current: Vec<u8>,
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
        let (spare, memory) = bounded(in_memory);
        (0..in_memory).for_each(|_| {
            let _ = spare.send(Vec::new());
        });
        let (jobs, todo) = bounded::<Job>(workers);
        let (results, decoded) = bounded::<Decoded>(in_memory + 1);
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (reader, todo, results) = (reader.clone(), todo.clone(), results.clone());
            threads.push(thread::spawn(move || decode_jobs(&reader, &todo, &results)));
        }
        let planner = reader.clone();
        threads.push(thread::spawn(move || plan_jobs(&planner, &stream, &memory, &jobs, &results)));
        StreamReader {
            reader,
            counted,
            spare: Some(spare),
            decoded: Some(decoded),
            threads,
            waiting: BTreeMap::new(),
            next: 0,
            current: Vec::new(),
            at: 0,
            left_bytes: stream.bytes,
        }
    }

    /// The next bytes of the stream, as many as are there in one piece; empty at its end.
    fn next_bytes(&mut self) -> Result<&[u8]> {
        while self.left_bytes > 0 && self.at == self.current.len() {
            self.next_batch()?;
        }
        Ok(&self.current[self.at..])
    }

    fn next_batch(&mut self) -> Result<()> {
        let read_out = std::mem::take(&mut self.current);
        self.at = 0;
        if self.next > 0 {
            // The planner may have ended: then nobody wants it.
            let _ = self.spare.as_ref().map(|spare| spare.try_send(read_out));
        }
        loop {
            self.reader.repo.client.check_interrupt()?;
            if let Some(batch) = self.waiting.remove(&self.next) {
                self.next += 1;
                self.current = batch?;
                return Ok(());
            }
            let decoded = self.decoded.as_ref().and_then(|decoded| decoded.recv().ok());
            let (number, batch) = decoded.ok_or(Error::Poisoned)?;
            self.waiting.insert(number, batch);
        }
    }

    fn fail(&mut self, error: Error) -> io::Error {
        // What follows the gap must not be taken for what belongs in it: there is no reading on.
        self.decoded = None;
        self.waiting.clear();
        io::Error::other(error)
    }
}

impl BufRead for StreamReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Err(error) = self.next_bytes() {
            return Err(self.fail(error));
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = self.current.len().min(self.at + count);
        self.left_bytes = self.left_bytes.saturating_sub(count as u64);
        if self.counted {
            self.reader.monitor.add(Counter::StreamBytes, count as u64);
        }
    }
}

impl Read for StreamReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let len = piece.len().min(out.len());
        out[..len].copy_from_slice(&piece[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        // Without the channels' other ends the threads end.
        self.spare = None;
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
    memory: &Receiver<Vec<u8>>,
    jobs: &Sender<Job>,
    results: &Sender<Decoded>,
) {
    let (mut number, mut batch, mut bytes) = (0, Vec::new(), 0);
    // An error here only means that the stream is not wanted any more.
    let mut send = |batch| {
        let memory = memory.recv().map_err(|_| Error::Interrupted)?;
        jobs.send((number, batch, memory)).map_err(|_| Error::Interrupted)?;
        number += 1;
        Ok(())
    };
    let walked = reader.walk(stream, &mut |item| {
        let len = usize::try_from(item.stream_bytes).ok().filter(|len| *len <= CHUNK_BYTES_MAX);
        let too_long = || dbvault_format::Error::malformed("chunk list", "longer than a chunk may be");
        batch.push((item.id, len.ok_or_else(|| Error::reading("chunk list", too_long()))?));
        bytes += item.stream_bytes;
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
    let mut bench = Bench::default();
    for (number, chunks, mut memory) in todo {
        memory.resize(chunks.iter().map(|(_, len)| len).sum(), 0);
        let fetched = reader.looking_twice(|| reader.chunks.fetch_into(&chunks, &mut bench, &mut memory));
        if results.send((number, fetched.map(|()| memory))).is_err() {
            return;
        }
    }
}
