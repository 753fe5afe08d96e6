//! Streams out of the repository: decoded by all cores, given out in order.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use dbvault_format::CHUNK_BYTES_MAX;
use dbvault_format::chunk_list::StreamRef;
use dbvault_format::id::ChunkId;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord, decode_entries};
use parking_lot::Mutex;

use crate::chunk_reader::{Bench, ChunkReader};
use crate::index::ChunkIndex;
use crate::monitor::{Counter, Monitor, Phase};
use crate::random_reader::{CACHE_BYTES, Shared};
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
    shared: Shared,
    /// Held while the index is brought up to date.
    refresh: Mutex<Refreshed>,
    /// How often it was: what was located before may be elsewhere.
    generation: AtomicU64,
    /// Whether the index is that of a backup, which knows its packs by their numbers: it stays as it is.
    fixed: bool,
}

/// What the index was made anew for.
#[derive(Debug, Default)]
struct Refreshed {
    /// Number of the root and of the segments of the view.
    rebuilt_for: Option<(u32, usize)>,
}

impl Repository {
    /// Opens the index for reading.
    pub fn reader(&self, monitor: Arc<dyn Monitor>) -> Result<Arc<Reader>> {
        self.reader_at(&View::load(self)?, monitor)
    }

    /// The same, keeping `cache_bytes` of decoded chunks at most for [`Reader::open_random`] in place of
    /// [`crate::CACHE_BYTES`].
    pub fn reader_with_cache(&self, cache_bytes: usize, monitor: Arc<dyn Monitor>) -> Result<Arc<Reader>> {
        self.open_reader(&View::load(self)?, cache_bytes, monitor)
    }

    /// Opens the index for reading what `view` shows.
    pub(crate) fn reader_at(&self, view: &View, monitor: Arc<dyn Monitor>) -> Result<Arc<Reader>> {
        self.open_reader(view, CACHE_BYTES, monitor)
    }

    fn open_reader(&self, view: &View, cache_bytes: usize, monitor: Arc<dyn Monitor>) -> Result<Arc<Reader>> {
        let index = Arc::new(ChunkIndex::open_to_read(self, view, &*monitor)?);
        let chunks = ChunkReader::new(self, index.clone());
        Ok(Arc::new(Reader {
            repo: self.clone(),
            index,
            chunks,
            monitor,
            shared: Shared::new(cache_bytes),
            refresh: Mutex::default(),
            generation: AtomicU64::new(0),
            fixed: false,
        }))
    }
}

impl Reader {
    /// Errors: [`Error::Interrupted`] where the user wants to stop.
    pub fn check_interrupt(&self) -> Result<()> {
        self.repo.check_interrupt()
    }

    /// Reads by the index of a backup that runs.
    pub(crate) fn beside(
        repo: &Repository,
        index: Arc<ChunkIndex>,
        monitor: Arc<dyn Monitor>,
    ) -> Arc<Reader> {
        Arc::new(Reader {
            repo: repo.clone(),
            chunks: ChunkReader::new(repo, index.clone()),
            index,
            monitor,
            shared: Shared::new(CACHE_BYTES),
            refresh: Mutex::default(),
            generation: AtomicU64::new(0),
            fixed: true,
        })
    }

    /// The entries of an archive.
    pub fn entries(self: &Arc<Self>, manifest: &ArchiveManifest) -> Result<Vec<EntryRecord>> {
        let mut table = Vec::new();
        self.open_uncounted(&manifest.entries)?.read_to_end(&mut table).map_err(from_io)?;
        let object = layout::archive(&manifest.id);
        decode_entries(&table, manifest.entry_count).map_err(|e| Error::reading(object.as_str(), e))
    }

    /// Opens a stream at its beginning.
    pub fn open_stream(self: &Arc<Self>, stream: &StreamRef) -> Result<StreamReader> {
        self.monitor.phase(Phase::Read);
        self.monitor.expect(Counter::StreamBytes, stream.bytes);
        self.stream(stream, true)
    }

    /// The same, of a stream that is not what the user wants to read: it is no progress.
    pub(crate) fn open_uncounted(self: &Arc<Self>, stream: &StreamRef) -> Result<StreamReader> {
        self.stream(stream, false)
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
    pub(crate) fn index(&self) -> &Arc<ChunkIndex> {
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

    /// What random readers share.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Brings the index up to what is in the repository now: archives that were made meanwhile can be read at once. That
    /// of a backup stays as it is.
    pub fn refresh(&self) -> Result<()> {
        self.update(&View::load(&self.repo)?)
    }

    /// Brings the index up to `view`.
    pub(crate) fn update(&self, view: &View) -> Result<()> {
        if self.fixed {
            return Ok(());
        }
        let _alone = self.refresh.lock();
        self.index.update(&self.repo, view, &*self.monitor)?;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// To be asked before anything is looked for that [`Reader::look_again`] may be called for.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The bytes of one chunk.
    pub(crate) fn fetch_one(&self, id: &ChunkId) -> Result<Vec<u8>> {
        self.looking_twice(|| self.chunks.fetch_one(id))
    }

    /// What is not where the index says is looked for once more after the index was brought up to date: a
    /// collection may have moved it.
    fn looking_twice<T>(&self, mut fetch: impl FnMut() -> Result<T>) -> Result<T> {
        let before = self.generation();
        fetch().or_else(|e| self.look_again(e, before, fetch))
    }

    /// Looks once more for what `error` says could not be had when the index was of generation `before`.
    ///
    /// Errors: those of `fetch`, or `error` where there is no reason to look again.
    pub(crate) fn look_again<T>(
        &self,
        error: Error,
        before: u64,
        fetch: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.fixed {
            return Err(error);
        }
        let mut refreshed = self.refresh.lock();
        // Where the index was brought up to date meanwhile, that may be all that was wrong: a number may have meant
        // another pack.
        if self.generation() == before {
            let failed = matches!(error, Error::Cache { .. });
            if !failed && !matches!(error, Error::ChunkMissing { .. } | Error::PackMissing { .. }) {
                return Err(error);
            }
            let view = View::load(&self.repo)?;
            let state = Some((view.root_number, view.segments().count()));
            // Made anew from the same segments it would be the same.
            if refreshed.rebuilt_for == state && !failed {
                return Err(error);
            }
            self.index.rebuild(&self.repo, &view, &*self.monitor)?;
            refreshed.rebuilt_for = state;
            self.generation.fetch_add(1, Ordering::Release);
        }
        drop(refreshed);
        fetch()
    }
}

/// Consecutive chunks of a stream.
struct Job {
    number: u64,
    /// Where the first of them begins in the stream.
    begin: u64,
    /// With their lengths.
    chunks: Vec<(ChunkId, usize)>,
    /// For their bytes.
    memory: Vec<u8>,
}

/// The bytes of a job; none where they are not wanted any more.
struct Decoded {
    number: u64,
    begin: u64,
    bytes: Result<Vec<u8>>,
}

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
    waiting: BTreeMap<u64, (u64, Result<Vec<u8>>)>,
    next: u64,
    /// The current batch, and how much of it is read.
    current: Vec<u8>,
    at: usize,
    /// Where in the stream that is, and how much is left.
    position: u64,
    left_bytes: u64,
    /// Nothing is wanted before here.
    wanted_from: Arc<AtomicU64>,
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
        let wanted_from = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (reader, todo, results) = (reader.clone(), todo.clone(), results.clone());
            let wanted_from = wanted_from.clone();
            threads.push(thread::spawn(move || decode_jobs(&reader, &todo, &results, &wanted_from)));
        }
        let (planner, from) = (reader.clone(), wanted_from.clone());
        threads.push(thread::spawn(move || {
            let mut plan = Plan { memory, jobs, number: 0 };
            if let Err(e) = plan.jobs_of(&planner, &stream, &from) {
                let _ = results.send(Decoded { number: plan.number, begin: 0, bytes: Err(e) });
            }
        }));
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
            position: 0,
            left_bytes: stream.bytes,
            wanted_from,
        }
    }

    /// Passes over the next `count` bytes, or over what is left. Chunks of them that no thread is at yet are not read.
    pub fn skip(&mut self, count: u64) {
        let count = count.min(self.left_bytes);
        let here = count.min((self.current.len() - self.at) as u64);
        self.consume(here as usize);
        if here < count {
            self.position += count - here;
            self.left_bytes -= count - here;
            self.wanted_from.store(self.position, Ordering::Release);
            if self.counted {
                self.reader.monitor.add(Counter::StreamBytes, count - here);
            }
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
            if let Some((begin, bytes)) = self.waiting.remove(&self.next) {
                self.next += 1;
                self.current = bytes?;
                // Of what was decoded before it was passed over, nothing is read.
                let passed = self.position.saturating_sub(begin);
                self.at = usize::try_from(passed).unwrap_or(usize::MAX).min(self.current.len());
                return Ok(());
            }
            let decoded = self.decoded.as_ref().and_then(|decoded| decoded.recv().ok());
            let Decoded { number, begin, bytes } = decoded.ok_or(Error::Poisoned)?;
            self.waiting.insert(number, (begin, bytes));
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
        self.position += count as u64;
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

/// Makes jobs of a stream.
struct Plan {
    memory: Receiver<Vec<u8>>,
    jobs: Sender<Job>,
    /// Of the next job.
    number: u64,
}

impl Plan {
    /// Sends the jobs for all that is wanted.
    fn jobs_of(&mut self, reader: &Arc<Reader>, stream: &StreamRef, wanted_from: &AtomicU64) -> Result<()> {
        let (mut begin, mut end, mut chunks) = (0, 0, Vec::new());
        let mut items = reader.open_items(stream)?;
        loop {
            items.skip_to(wanted_from.load(Ordering::Acquire));
            let Some((at, item)) = items.next().transpose()? else { break };
            if at != end || end - begin >= BATCH_BYTES {
                self.send(begin, std::mem::take(&mut chunks))?;
                begin = at;
            }
            let len = usize::try_from(item.stream_bytes).ok().filter(|len| *len <= CHUNK_BYTES_MAX);
            let too_long = || dbvault_format::Error::malformed("chunk list", "longer than a chunk may be");
            chunks.push((item.id, len.ok_or_else(|| Error::reading("chunk list", too_long()))?));
            end = at + item.stream_bytes;
        }
        self.send(begin, chunks)
    }

    /// An error here only means that the stream is not wanted any more.
    fn send(&mut self, begin: u64, chunks: Vec<(ChunkId, usize)>) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let memory = self.memory.recv().map_err(|_| Error::Interrupted)?;
        let job = Job { number: self.number, begin, chunks, memory };
        self.jobs.send(job).map_err(|_| Error::Interrupted)?;
        self.number += 1;
        Ok(())
    }
}

fn decode_jobs(reader: &Reader, todo: &Receiver<Job>, results: &Sender<Decoded>, wanted_from: &AtomicU64) {
    let mut bench = Bench::default();
    for Job { number, begin, chunks, mut memory } in todo {
        let len: usize = chunks.iter().map(|(_, len)| len).sum();
        let bytes = if begin + len as u64 <= wanted_from.load(Ordering::Acquire) {
            memory.clear();
            Ok(memory)
        } else {
            memory.resize(len, 0);
            let fetched = reader.looking_twice(|| reader.chunks.fetch_into(&chunks, &mut bench, &mut memory));
            fetched.map(|()| memory)
        };
        if results.send(Decoded { number, begin, bytes }).is_err() {
            return;
        }
    }
}
