//! Collection: packs that no archive needs are deleted, whoever writes meanwhile.
//!
//! The steps G0 to G8 of `docs/protocol.md`, with no locks and no clocks: packs are condemned, sessions that
//! began before are waited for, what is condemned is decided once for all collectors in a root, and only what
//! the root names is deleted.

mod base;
mod epoch;
mod exclusive;
mod live;
mod rebase;
mod recompress;
mod repack;
mod sweep;
mod waiting;
mod waste;

use std::sync::Arc;
use std::time::Duration;

use crate::monitor::Monitor;
use crate::view::View;
use crate::{Error, Repository, Result};
pub(crate) use base::Writer as BaseWriter;
use epoch::{Decision, Epoch};
pub use exclusive::Exclusive;
pub use recompress::{RecompressOptions, RecompressReport};
pub(crate) use sweep::finish as finish_decided;
pub use waiting::RunningBackup;

/// Age of files that a writer left which crashed while it wrote them.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Epochs that are tried when other collectors are always first.
const TRIES_MAX: u32 = 8;

/// How a collection goes about it.
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// Archives in the trash since before this, milliseconds since 1970 UTC, are taken.
    pub trashed_before_ms: i64,
    /// How long to wait for backups that run; then what they might use is left to the next collection.
    pub wait: Duration,
    /// A backup on another machine that shows no sign of life for so long may not complete any more.
    pub silence: Duration,
    /// Bytes of chunks in use that may be stored again, to free the packs they are in.
    pub repack_bytes_max: u64,
}

impl Default for CollectOptions {
    /// Takes nothing from the trash, waits for nobody, and stores again as much as is of use.
    fn default() -> CollectOptions {
        CollectOptions {
            trashed_before_ms: i64::MIN,
            wait: Duration::ZERO,
            silence: Duration::from_secs(24 * 60 * 60),
            repack_bytes_max: u64::MAX,
        }
    }
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Packs that were deleted.
    pub packs: u64,
    /// Bytes of these.
    pub freed_bytes: u64,
    /// Bytes of chunks in use that were in these, and were stored again.
    pub repacked_bytes: u64,
    /// Archives whose slots were cleared.
    pub archives: u64,
    /// Backups that must end before condemned packs can go; nothing was deleted when there are any.
    pub waits_for: Vec<RunningBackup>,
    /// Bytes of the packs that wait.
    pub waiting_bytes: u64,
}

impl Repository {
    /// Frees what no archive needs but those it takes from the trash.
    ///
    /// May be interrupted, and crash, at any point: the next collection goes on. Errors: whatever could not be
    /// read; then nothing is deleted that was not decided before.
    pub fn collect(&self, options: &CollectOptions, monitor: Arc<dyn Monitor>) -> Result<CollectReport> {
        let mut report = CollectReport::default();
        // Others that are always first collect as well as this one would.
        for _ in 0..TRIES_MAX {
            let number = View::load(self)?.root_number + 1;
            sweep::finish(self, number - 1, &mut report)?;
            self.take_from_trash(options.trashed_before_ms)?;
            match self.epoch(number, options, None, &monitor) {
                Ok(Epoch::Decided(decision)) => {
                    let (cramped, freed_bytes) = (decision.cramped, report.freed_bytes);
                    self.sweep(number, *decision, &mut report)?;
                    // Now there is room for what there was none before.
                    if !cramped || report.freed_bytes == freed_bytes {
                        break;
                    }
                }
                Ok(Epoch::Waits(sessions, bytes)) => {
                    (report.waits_for, report.waiting_bytes) = (sessions, bytes);
                    break;
                }
                Ok(Epoch::Idle) => break,
                Ok(Epoch::Lost) => {}
                // Another collector cleared away what this one was reading.
                Err(e) if !matches!(e, Error::Interrupted) && self.is_decided(number)? => {
                    tracing::debug!("{e}")
                }
                Err(e) => return Err(e),
            }
        }
        Ok(report)
    }

    /// Whether there is a root of epoch `number`, or of a later one.
    fn is_decided(&self, number: u32) -> Result<bool> {
        Ok(View::load(self)?.root_number >= number)
    }

    /// Does what the root of epoch `number` decided, and clears what is of no use any more (G7, G8).
    fn sweep(&self, number: u32, decision: Decision, report: &mut CollectReport) -> Result<()> {
        let Decision { view, base, repacked_bytes, .. } = decision;
        report.repacked_bytes += repacked_bytes;
        sweep::finish(self, number, report)?;
        sweep::clear_folded(self, report)?;
        sweep::clear_abandoned(self, &view, &base)?;
        self.storage.remove_leftovers(LEFTOVER_AGE)?;
        Ok(())
    }
}
