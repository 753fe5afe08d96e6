//! What only some archives use.

use std::collections::HashSet;
use std::sync::Arc;

use dbvault_format::id::SessionId;

use super::live::{Ground, Live};
use crate::monitor::{Monitor, Phase};
use crate::view::View;
use crate::{Repository, Result};

/// What no other archive uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exclusive {
    /// Chunks, those of lists of chunks among them.
    pub chunks: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

impl Repository {
    /// What `archives` alone use: about what is freed once they are deleted and collected. Archives that are deleted do
    /// not count as users. Reads the lists of chunks of all archives, none of their data.
    ///
    /// Errors: whatever of them can't be read.
    pub fn used_only_by(&self, archives: &[SessionId], monitor: Arc<dyn Monitor>) -> Result<Exclusive> {
        let list = self.archives()?.archives;
        let others = list.iter().filter(|info| info.deleted_ms.is_none()).map(|info| info.manifest.id);
        let others: Vec<SessionId> = others.filter(|id| !archives.contains(id)).collect();
        let view = View::load(self)?;
        let (reader, stored) = (self.reader_at(&view, monitor)?, self.list_packs(&mut |_| {})?);
        reader.monitor().phase(Phase::Mark);
        let avoid = HashSet::new();
        let ground = Ground { reader: &reader, view: &view, own: None, stored: &stored, avoid: &avoid };
        let mut live = Live::mark(&ground, &others)?;
        let before = live.sum();
        live.mark_also(&ground, archives)?;
        let after = live.sum();
        Ok(Exclusive { chunks: after.0 - before.0, bytes: after.1 - before.1 })
    }
}
