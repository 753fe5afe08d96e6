//! Progress of a job: what the engine counts, and which entry it is counting for.

use dbvault_repo::Monitor;

/// Receives the progress of a job; see [`Monitor`] for the rules.
pub trait Watcher: Monitor {
    /// Entry number `index` (from 0) of `count` begins. `bytes` is the length of its stream, where it is known.
    fn entry_begins(&self, name: &str, index: usize, count: usize, bytes: Option<u64>);

    /// An entry that began has ended, well or not. Others may have begun before and still run.
    fn entry_ends(&self, name: &str);
}

impl Watcher for dbvault_repo::NoMonitor {
    fn entry_begins(&self, _: &str, _: usize, _: usize, _: Option<u64>) {}
    fn entry_ends(&self, _: &str) {}
}
