//! Repacking: live records of condemned packs are stored again, so that the packs can go.
//!
//! The new packs are written as a backup would, under a session id that is never registered and fills no slot: the
//! root of the epoch lists them. If another root is quicker, they are waste. Nobody has to wait for it: what it
//! builds on goes in no epoch before the next, and that begins with the root of this one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbvault_format::header::HEADER_BYTES;
use dbvault_format::id::SessionId;
use dbvault_format::index_segment::PackListing;
use parking_lot::Mutex;
use rayon::prelude::*;

use super::live::{Live, Record};
use super::recompress::{Candidate, Recode};
use super::waste::{Bytes, Wasteful};
use crate::chunk_reader::Bench;
use crate::index::{Location, PackInfo, read_listing};
use crate::monitor::{Counter, Phase};
use crate::pack_reader::{PackReader, Records};
use crate::pack_writer::{Encoded, PackWriter, Verifier};
use crate::reuse::Reuse;
use crate::segment_writer::SegmentWriter;
use crate::view::View;
use crate::{Error, Reader, Result, entropy};

/// Records that are read together.
const BATCH_RECORDS: usize = 32;

/// What has been stored again.
#[derive(Debug)]
pub(super) struct Repacked {
    /// Its segments list the new packs.
    pub(super) session: SessionId,
    /// Bytes of records that were stored again.
    pub(super) stored_bytes: u64,
}

/// What one thread repacks with.
#[derive(Default)]
pub(super) struct Tools {
    pub(super) verifier: Verifier,
    pub(super) bench: Bench,
    pub(super) records: Records,
    pub(super) delta: Vec<u8>,
    pub(super) whole: Vec<u8>,
}

/// Stores records again.
pub(super) struct Repack<'a> {
    pub(super) reader: &'a Arc<Reader>,
    pub(super) live: &'a Live,
    packs: PackWriter,
    pub(super) records: PackReader,
    stored_bytes: AtomicU64,
    /// What failed first: after that others only know that something has.
    failure: Mutex<Option<Error>>,
}

/// Stores the live records of `chosen` packs again, durably. Records that can't be read stay where they are, and
/// so do their packs. Those of `recoding` are stored again only where they gain by another form.
pub(super) fn run(
    reader: &Arc<Reader>,
    live: &Live,
    chosen: &[Wasteful],
    recoding: Option<(&Recode, &[Candidate])>,
) -> Result<Repacked> {
    let (repo, index, session) = (reader.repo(), reader.index(), entropy::session_id()?);
    index.make_writable(repo)?;
    let reuse = Arc::new(Reuse::new(repo, index.clone(), View::default(), session));
    let segments = SegmentWriter::new(repo, reuse, session);
    let repack = Repack {
        reader,
        live,
        packs: PackWriter::new(repo, session, segments, index.clone())?,
        records: PackReader::new(repo, index.clone()),
        stored_bytes: AtomicU64::new(0),
        failure: Mutex::default(),
    };
    let stored = repack.store_all(chosen, recoding);
    let Repack { packs, stored_bytes, failure, .. } = repack;
    // Of several threads only one is told why storing failed, and it may be one of the writer's own.
    let finished = packs.finish();
    if let Err(last) = stored {
        let first = failure.into_inner();
        return Err(first.or(finished.err()).unwrap_or(last));
    }
    finished?;
    repo.storage.flush()?;
    Ok(Repacked { session, stored_bytes: stored_bytes.into_inner() })
}

impl Repack<'_> {
    fn store_all(&self, chosen: &[Wasteful], recoding: Option<(&Recode, &[Candidate])>) -> Result<()> {
        let done = self.rebase_all(chosen)?;
        let monitor = self.reader.monitor();
        let packs = chosen.len() + recoding.map_or(0, |(_, candidates)| candidates.len());
        monitor.phase(Phase::Repack);
        monitor.expect(Counter::Packs, packs as u64);
        chosen.par_iter().try_for_each_init(Tools::default, |tools, pack| {
            self.copy(pack, &done, tools)?;
            monitor.add(Counter::Packs, 1);
            Ok::<_, Error>(())
        })?;
        match recoding {
            Some((recode, candidates)) => self.recompress(candidates, recode),
            None => Ok(()),
        }
    }

    /// Copies the live records of a pack but for those in `done`, as they are. Where none is dead after all, the pack stays.
    fn copy(&self, pack: &Wasteful, done: &HashSet<Record>, tools: &mut Tools) -> Result<()> {
        let mut bytes = Bytes::default();
        let live = |ordinal| self.live.has((pack.number, ordinal)) && !done.contains(&(pack.number, ordinal));
        for (ordinal, entry) in (0..).zip(self.reader.index().entries(&pack.info.name)?) {
            bytes.add(entry.sealed_len, live(ordinal), !live(ordinal));
        }
        if !bytes.any_waste() {
            return Ok(());
        }
        let mut copies = self.live_copies(pack.number, &pack.info)?;
        copies.retain(|copy| live(copy.ordinal));
        let Tools { verifier, records, .. } = tools;
        for batch in copies.chunks(BATCH_RECORDS) {
            self.reader.repo().client.check_interrupt()?;
            self.records.read(batch, records);
            for (at, copy) in batch.iter().enumerate() {
                let Ok(stored) = records.get(at) else {
                    tracing::warn!("chunk {} can't be read: see dbvault check", copy.entry.id);
                    continue;
                };
                let record = Encoded { entry: copy.entry.clone(), stored, base: None };
                self.count(self.packs.carry(&record, verifier))?;
            }
        }
        Ok(())
    }

    /// Keeps an error that tells something.
    fn first_failure(&self, error: Error) -> Error {
        if matches!(error, Error::Poisoned) {
            return error;
        }
        self.failure.lock().get_or_insert(error);
        Error::Poisoned
    }

    /// Stores a record of another form.
    pub(super) fn put(&self, chunk: &Encoded, verifier: &mut Verifier) -> Result<()> {
        self.count(self.packs.store(chunk, verifier))
    }

    fn count(&self, stored_bytes: Result<u32>) -> Result<()> {
        let stored_bytes = stored_bytes.map_err(|e| self.first_failure(e))?;
        self.stored_bytes.fetch_add(u64::from(stored_bytes), Ordering::Relaxed);
        Ok(())
    }

    /// Where the live records of a pack are. By its own directory, which has the features that later deltas look
    /// for; none where that can't be read.
    pub(super) fn live_copies(&self, number: u32, info: &PackInfo) -> Result<Vec<Location>> {
        let entries = match read_listing(self.reader.repo(), info.name, info.salt, info.size_bytes) {
            Ok(PackListing { entries, .. }) => entries,
            Err(e @ Error::Damaged { .. }) => {
                tracing::warn!("{e}");
                Vec::new()
            }
            Err(e) => return Err(e),
        };
        let mut offset = HEADER_BYTES as u32;
        let locate = (0..).zip(entries).map(|(ordinal, entry)| {
            let begin = offset;
            offset += entry.sealed_len;
            Location { pack: number, ordinal, offset: begin, entry }
        });
        Ok(locate.filter(|copy| self.live.has((copy.pack, copy.ordinal))).collect())
    }
}
