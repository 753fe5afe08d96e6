//! Progress: the library counts, a front end draws, a test asserts.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Bytes read from sources by a backup, or given out by a restore.
    StreamBytes,
    /// Bytes of chunks that the repository did not have.
    NewBytes,
    /// Bytes of records added to packs.
    StoredBytes,
    /// Index segments read into the local cache.
    Segments,
    /// Packs looked at by a check.
    Packs,
    /// Bytes of packs looked at by a check.
    PackBytes,
    /// Archives looked at by a check.
    Archives,
    /// Chunks that a collection tried to store against another base.
    Chunks,
}

/// What the engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading index segments into the local cache.
    LoadIndex,
    /// Reading streams and storing chunks.
    Store,
    /// Making the archive durable and visible.
    Commit,
    /// Giving out a stream.
    Read,
    /// Following archives to their chunks.
    CheckStructure,
    /// Reading and decoding all packs.
    CheckData,
    /// Finding out what archives need.
    Mark,
    /// Storing chunks against another base, or whole, where the one they have is needed for nothing else.
    Rebase,
    /// Storing what is needed of packs that are mostly waste again.
    Repack,
}

/// Receives progress; called from any thread, often: must be quick and must not block.
pub trait Monitor: Send + Sync {
    /// `amount` more of `counter`.
    fn add(&self, counter: Counter, amount: u64);

    /// How much of `counter` there will be in the current phase, where that is known.
    fn expect(&self, counter: Counter, total: u64);

    /// A new phase begins.
    fn phase(&self, phase: Phase);
}

/// A monitor that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMonitor;

impl Monitor for NoMonitor {
    fn add(&self, _: Counter, _: u64) {}
    fn expect(&self, _: Counter, _: u64) {}
    fn phase(&self, _: Phase) {}
}

impl std::fmt::Debug for dyn Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Monitor")
    }
}
