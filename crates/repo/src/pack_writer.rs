//! Packs of a running session: filled side by side, verified record by record, stored by threads of their own.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use dbvault_format::compress::Decoder;
use dbvault_format::id::{ChunkId, SessionId};
use dbvault_format::index_segment::PackListing;
use dbvault_format::pack::{ChunkEntry, PackBuilder, RecordOpener};
use parking_lot::Mutex;

use crate::index::ChunkIndex;
use crate::pack_reader::room;
use crate::segment_writer::SegmentWriter;
use crate::{Error, Repository, Result, entropy, layout, parity};

/// Threads that finish packs and give them to the storage.
const STORE_THREADS: usize = 2;

/// Finished packs that wait for a thread.
const STORE_QUEUE_PACKS_MAX: usize = 1;

/// A pack that is being filled.
#[derive(Debug)]
struct OpenPack {
    builder: PackBuilder,
    /// Records whose verification has not ended.
    unverified: usize,
    /// No more records: it is stored once all are verified.
    full: bool,
}

/// `None` once the pack has gone to be stored.
type SharedPack = Arc<Mutex<Option<OpenPack>>>;

/// What it takes to open a sealed record again.
struct Sealed {
    opener: Arc<RecordOpener>,
    ordinal: u32,
    entry: ChunkEntry,
}

/// What one thread verifies records with: memory that is used again for one after the other.
#[derive(Debug, Default)]
pub(crate) struct Verifier {
    decoder: Decoder,
    record: Vec<u8>,
    plain: Vec<u8>,
}

impl Verifier {
    /// Opens the record it holds, decodes it, and gives the chunk.
    fn open(&mut self, sealed: &Sealed, base: Option<&[u8]>) -> dbvault_format::Result<&[u8]> {
        let Sealed { opener, ordinal, entry } = sealed;
        let stored = opener.open_in_place(*ordinal, entry, &mut self.record)?;
        let plain = room(&mut self.plain, entry.plain_len as usize);
        self.decoder.decode_into(entry.codec, stored, base, plain)?;
        Ok(plain)
    }
}

/// Seals chunks into packs and stores the packs.
#[derive(Debug)]
pub(crate) struct PackWriter {
    repo: Repository,
    open: Vec<Mutex<SharedPack>>,
    turn: AtomicUsize,
    queue: Option<Sender<PackBuilder>>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What the storing threads and the writers share.
#[derive(Debug)]
struct Shared {
    repo: Repository,
    session: SessionId,
    index: Arc<ChunkIndex>,
    segments: Mutex<SegmentWriter>,
    /// Chunks that this session is about to store: claimed, and not in the index yet.
    claims: Mutex<HashSet<ChunkId>>,
    /// Set by the first failure: the session can't commit any more.
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

/// A chunk that is ready to be stored.
pub(crate) struct Encoded<'a> {
    /// All but `sealed_len`, which the pack sets.
    pub(crate) entry: ChunkEntry,
    /// The stored form.
    pub(crate) stored: &'a [u8],
    /// Plaintext of the base, for a delta.
    pub(crate) base: Option<&'a [u8]>,
}

impl PackWriter {
    /// Starts the storing threads.
    pub(crate) fn new(
        repo: &Repository,
        session: SessionId,
        segments: SegmentWriter,
        index: Arc<ChunkIndex>,
    ) -> Result<PackWriter> {
        let shared = Arc::new(Shared {
            repo: repo.clone(),
            session,
            index,
            segments: Mutex::new(segments),
            claims: Mutex::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let open =
            (0..repo.params.packs_open).map(|_| new_pack(repo).map(Mutex::new)).collect::<Result<_>>()?;
        let (queue, jobs) = bounded::<PackBuilder>(STORE_QUEUE_PACKS_MAX);
        let start = |_| {
            let (jobs, shared) = (jobs.clone(), shared.clone());
            std::thread::spawn(move || jobs.iter().for_each(|pack| shared.store_pack(pack)))
        };
        let threads = (0..STORE_THREADS).map(start).collect();
        Ok(PackWriter {
            repo: repo.clone(),
            open,
            turn: AtomicUsize::new(0),
            queue: Some(queue),
            threads,
            shared,
        })
    }

    /// Claims a chunk for storing. `false`: somebody else in this session has it.
    pub(crate) fn claim(&self, id: &ChunkId) -> bool {
        self.shared.claims.lock().insert(*id)
    }

    /// Gives a claim back: the chunk is in the repository already.
    pub(crate) fn release(&self, id: &ChunkId) {
        self.shared.claims.lock().remove(id);
    }

    /// Ends storing: a part of the session has failed, so that it can't commit, and nothing more is worth while.
    pub(crate) fn poison(&self) {
        self.shared.failed.store(true, Ordering::SeqCst);
    }

    /// Seals a claimed chunk into one of the open packs, then opens it again, decodes it and compares its id,
    /// so that nothing is published that could not be read. Gives the length of the record, bytes.
    ///
    /// Errors: [`Error::Verify`] and failures of the storage; the session can't commit after any.
    pub(crate) fn store(&self, chunk: &Encoded, verifier: &mut Verifier) -> Result<u32> {
        self.shared.check()?;
        let (pack, sealed) = self.append(chunk, &mut verifier.record)?;
        let plain = verifier.open(&sealed, chunk.base);
        let entry = sealed.entry;
        if !plain.is_ok_and(|plain| self.repo.keys.chunk_id(plain) == entry.id) {
            self.poison();
            return Err(Error::Verify { id: entry.id });
        }
        self.verified(&pack)?;
        Ok(entry.sealed_len)
    }

    /// Seals a record of another pack, or of another repository with the same keys, as it is: neither is it decoded to be put here, nor to be
    /// verified. Who wrote it did that; here it is compared that what was sealed opens to what went in.
    ///
    /// Errors: as those of [`PackWriter::store`].
    pub(crate) fn carry(&self, chunk: &Encoded, verifier: &mut Verifier) -> Result<u32> {
        self.shared.check()?;
        let (pack, sealed) = self.append(chunk, &mut verifier.record)?;
        let opened = sealed.opener.open_in_place(sealed.ordinal, &sealed.entry, &mut verifier.record);
        if !opened.is_ok_and(|opened| opened == chunk.stored) {
            self.poison();
            return Err(Error::Verify { id: sealed.entry.id });
        }
        self.verified(&pack)?;
        Ok(sealed.entry.sealed_len)
    }

    /// Whether a chunk is claimed and not in the index yet.
    pub(crate) fn is_claimed(&self, id: &ChunkId) -> bool {
        self.shared.claims.lock().contains(id)
    }

    /// One more record of a pack is verified: it may be the last.
    fn verified(&self, pack: &SharedPack) -> Result<()> {
        self.send(take_if(pack, |pack| {
            pack.unverified -= 1;
            pack.full && pack.unverified == 0
        }))
    }

    /// Seals a chunk into an open pack; `copy` becomes the sealed bytes.
    fn append(&self, chunk: &Encoded, copy: &mut Vec<u8>) -> Result<(SharedPack, Sealed)> {
        let first = self.pick();
        let mut fullest = (0, first);
        for at in (first..self.open.len()).chain(0..first) {
            let slot = self.open[at].lock();
            match self.len_if_full(&slot, chunk) {
                None => return seal_into(&slot, chunk, copy),
                Some(len_bytes) => fullest = fullest.max((len_bytes, at)),
            }
        }
        // It fits nowhere: the pack that loses the least room by it is closed.
        let mut slot = self.open[fullest.1].lock();
        if self.len_if_full(&slot, chunk).is_some() {
            let old = std::mem::replace(&mut *slot, new_pack(&self.repo)?);
            self.close(&old)?;
        }
        seal_into(&slot, chunk, copy)
    }

    /// Length of a pack that has no room for the record, bytes; `None` where there is room.
    fn len_if_full(&self, pack: &SharedPack, chunk: &Encoded) -> Option<usize> {
        let pack = pack.lock();
        let Some(OpenPack { builder, .. }) = pack.as_ref() else { return Some(usize::MAX) };
        let fits = builder.len_with_bytes(chunk.stored.len()) <= self.repo.params.pack_bytes as usize;
        if fits || builder.is_empty() { None } else { Some(builder.len_bytes()) }
    }

    /// Which open pack the next record goes to: not to be guessed from the order of the stream.
    fn pick(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        usize::from(self.repo.keys.chunker.mac(&[&turn.to_le_bytes()])[0]) % self.open.len()
    }

    fn close(&self, pack: &SharedPack) -> Result<()> {
        let whole = take_if(pack, |pack| {
            pack.full = true;
            pack.unverified == 0
        });
        self.send(whole)
    }

    fn send(&self, pack: Option<OpenPack>) -> Result<()> {
        let Some(pack) = pack.filter(|pack| !pack.builder.is_empty()) else { return Ok(()) };
        let queue = self.queue.as_ref().ok_or(Error::Poisoned)?;
        queue.send(pack.builder).map_err(|_| Error::Poisoned)
    }

    /// Stores all open packs, waits for all storing, and writes the last segment. Only Ok means that
    /// everything stored can be built on.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.shared.check()?;
        for slot in &self.open {
            self.close(&slot.lock())?;
        }
        self.join();
        self.shared.check()?;
        self.shared.segments.lock().write()
    }

    /// Waits until the threads have stored what they were given.
    fn join(&mut self) {
        self.queue = None;
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                self.poison();
            }
        }
    }
}

impl Drop for PackWriter {
    /// No thread outlives the writer: one that is in the index when the process ends would bring it down.
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    /// Errors: the first failure of this session, or [`Error::Poisoned`] when that was given out before.
    fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(self.failure.lock().take().unwrap_or(Error::Poisoned));
        }
        Ok(())
    }

    /// After a failure packs are still taken, so that nobody waits for ever, and thrown away.
    fn store_pack(&self, builder: PackBuilder) {
        if self.failed.load(Ordering::SeqCst) {
            return;
        }
        if let Err(error) = self.try_store_pack(builder) {
            self.failure.lock().get_or_insert(error);
            self.failed.store(true, Ordering::SeqCst);
        }
    }

    fn try_store_pack(&self, builder: PackBuilder) -> Result<()> {
        let pack = builder.finish().map_err(Error::Format)?;
        self.repo.storage.put_new(&layout::pack(&pack.name), &[&pack.bytes])?;
        parity::put_if_wanted(&self.repo, &pack.name, &pack.bytes)?;
        let size_bytes = pack.bytes.len() as u64;
        drop(pack.bytes);
        let listing = PackListing { name: pack.name, salt: pack.salt, size_bytes, entries: pack.entries };
        let indexed = self.index.add_pack(&self.session, &listing);
        if let Err(e @ Error::Cache { .. }) = &indexed {
            // The chunks stay claimed, so that this session finds them again without the cache.
            tracing::warn!("{e}");
        } else {
            indexed?;
            let mut claims = self.claims.lock();
            listing.entries.iter().for_each(|entry| {
                claims.remove(&entry.id);
            });
        }
        self.segments.lock().add(listing)
    }
}

fn new_pack(repo: &Repository) -> Result<SharedPack> {
    let capacity_bytes = repo.params.pack_bytes as usize;
    let builder = PackBuilder::new(&repo.keys.pack, repo.id, entropy::salt()?, capacity_bytes);
    Ok(Arc::new(Mutex::new(Some(OpenPack { builder, unverified: 0, full: false }))))
}

fn seal_into(pack: &SharedPack, chunk: &Encoded, copy: &mut Vec<u8>) -> Result<(SharedPack, Sealed)> {
    let mut guard = pack.lock();
    let open = guard.as_mut().ok_or(Error::Poisoned)?;
    let opener = open.builder.opener().clone();
    let (ordinal, entry, record) =
        open.builder.append(chunk.entry.clone(), chunk.stored).map_err(Error::Format)?;
    let sealed = Sealed { opener, ordinal, entry: entry.clone() };
    copy.clear();
    copy.extend_from_slice(record);
    open.unverified += 1;
    Ok((pack.clone(), sealed))
}

fn take_if(pack: &SharedPack, test: impl FnOnce(&mut OpenPack) -> bool) -> Option<OpenPack> {
    let mut pack = pack.lock();
    if pack.as_mut().is_some_and(test) { pack.take() } else { None }
}
