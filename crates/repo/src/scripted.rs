//! Ids, salts and times that a test chooses, so that what it did can be done again in the same way, and fast.
//!
//! Only what the calling thread itself makes follows from them: for the others the system is asked as ever.

use std::cell::Cell;

/// What a thread is to take for random and for the time.
#[derive(Clone, Copy, Debug)]
struct Script {
    seed: u64,
    /// Random values given out.
    count: u64,
    now_ms: i64,
}

thread_local! {
    static SCRIPT: Cell<Option<Script>> = const { Cell::new(None) };
    static INDEXES_IN_MEMORY: Cell<bool> = const { Cell::new(false) };
}

/// From now on the ids, keys and salts that this thread makes follow from `seed`, and its clock stands still at
/// `now_ms`, milliseconds since 1970 UTC.
///
/// For tests alone: a key that follows from a number is no secret.
pub fn begin(seed: u64, now_ms: i64) {
    SCRIPT.set(Some(Script { seed, count: 0, now_ms }));
}

/// From now on the system is asked again.
pub fn end() {
    SCRIPT.set(None);
}

/// Whether indexes that this thread opens from now on are kept in memory, where to open one takes a hundredth of
/// the time. Nothing of them is left for the next time.
pub fn keep_indexes_in_memory(keep: bool) {
    INDEXES_IN_MEMORY.set(keep);
}

pub(crate) fn indexes_are_in_memory() -> bool {
    INDEXES_IN_MEMORY.get()
}

/// Fills `bytes` with the next values; `false` where this thread has no script.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    let Some(script) = SCRIPT.get() else { return false };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&script.seed.to_le_bytes()).update(&script.count.to_le_bytes());
    hasher.finalize_xof().fill(bytes);
    SCRIPT.set(Some(Script { count: script.count + 1, ..script }));
    true
}

/// The time that this thread is to take for the present, if it has a script.
pub(crate) fn now_ms() -> Option<i64> {
    SCRIPT.get().map(|script| script.now_ms)
}
