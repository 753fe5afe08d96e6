//! Doors for measurements: what no caller needs, but `benches/scale.rs` has to time by itself.

use std::time::{Duration, Instant};

use dbvault_format::id::ChunkId;

use crate::index::ChunkIndex;
use crate::monitor::NoMonitor;
use crate::view::View;
use crate::{Repository, Result};

/// An index that was opened as a backup opens it.
#[derive(Debug)]
pub struct OpenedIndex {
    index: ChunkIndex,
    /// Time that reading the view took.
    pub view: Duration,
    /// Time that opening the index took, what was not in it yet included.
    pub open: Duration,
}

impl OpenedIndex {
    /// Reads the view and opens the index.
    pub fn open(repo: &Repository) -> Result<OpenedIndex> {
        let started = Instant::now();
        let view = View::load(repo)?;
        let read = started.elapsed();
        let index = ChunkIndex::open(repo, &view, &NoMonitor)?;
        Ok(OpenedIndex { index, view: read, open: started.elapsed() - read })
    }

    /// How many of `ids` are stored.
    pub fn count_stored(&self, ids: &[ChunkId]) -> Result<usize> {
        Ok(self.index.locate_many(ids)?.iter().filter(|copies| !copies.is_empty()).count())
    }

    /// The same, all copies looked for, one chunk after the other.
    pub fn count_copies(&self, ids: &[ChunkId]) -> Result<usize> {
        ids.iter().map(|id| Ok(self.index.locate(id)?.len())).sum()
    }
}
