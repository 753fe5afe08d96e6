//! Index segments of a running session: what it has stored so far, safe for others to build on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::index_segment::{IndexSegment, PackListing};

use crate::index::read_listing;
use crate::reuse::Reuse;
use crate::{Repository, Result, layout};

/// Packs after which a segment is written.
const SEGMENT_PACKS: usize = 64;

/// Time after which a segment is written: what a crash makes a session lose at most.
const SEGMENT_INTERVAL: Duration = Duration::from_secs(60);

/// Collects stored packs and writes them into segments.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    repo: Repository,
    reuse: Arc<Reuse>,
    session: SessionId,
    number: u32,
    packs: Vec<PackListing>,
    written: Instant,
}

impl SegmentWriter {
    /// For a session that has written none.
    pub(crate) fn new(repo: &Repository, reuse: Arc<Reuse>, session: SessionId) -> SegmentWriter {
        SegmentWriter {
            repo: repo.clone(),
            reuse,
            session,
            number: 0,
            packs: Vec::new(),
            written: Instant::now(),
        }
    }

    /// Adds a pack that is stored; writes a segment where one is due.
    pub(crate) fn add(&mut self, pack: PackListing) -> Result<()> {
        self.packs.push(pack);
        let due = self.packs.len() >= SEGMENT_PACKS || self.written.elapsed() >= SEGMENT_INTERVAL;
        if due { self.write() } else { Ok(()) }
    }

    /// Writes what has not been written, adopted packs included. The packs are made durable first: a segment
    /// never speaks of a pack that a crash can take away.
    pub(crate) fn write(&mut self) -> Result<()> {
        for number in self.reuse.take_adopted() {
            let info = self.reuse.index().pack(number)?;
            self.packs.push(read_listing(&self.repo, info.name, info.salt, info.size_bytes)?);
        }
        if self.packs.is_empty() {
            return Ok(());
        }
        self.repo.storage.flush()?;
        let segment = IndexSegment { packs: std::mem::take(&mut self.packs) };
        let key = layout::index_segment(&self.session, self.number);
        self.repo.put_sealed(&key, ObjectKind::IndexSegment, &segment.encode())?;
        self.number += 1;
        self.written = Instant::now();
        Ok(())
    }
}
