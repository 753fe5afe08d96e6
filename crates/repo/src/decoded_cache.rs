//! What was decoded, kept in memory within a bound; what several want at once is decoded by one of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use dbvault_format::id::ChunkId;
use parking_lot::{Condvar, Mutex};

use crate::{Error, Result};

/// Most that is kept of what had to go, bytes.
const GONE_BYTES_MAX: usize = 4 << 20;

/// Values by the id of the chunk they come from. Those that were not asked for the longest go first.
#[derive(Debug)]
pub(crate) struct DecodedCache<V> {
    bytes_max: usize,
    state: Mutex<State<V>>,
    /// Something has come, or will not come.
    landed: Condvar,
}

/// What decoding gives: a value, and how many bytes of memory it takes.
pub(crate) type Decoded<V> = Result<(V, usize)>;

#[derive(Debug)]
struct State<V> {
    held: HashMap<ChunkId, Held<V>>,
    /// Ids by when they were last asked for.
    by_use: BTreeMap<u64, ChunkId>,
    next_use: u64,
    bytes: usize,
    /// Being decoded by somebody.
    in_flight: HashSet<ChunkId>,
    /// What had to go, for those who can use its memory again, and its bytes.
    gone: Vec<V>,
    gone_bytes: usize,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<V: Clone> DecodedCache<V> {
    /// Holds `bytes_max` bytes at most, and [`GONE_BYTES_MAX`] of what had to go. What is being decoded, or is still used
    /// by a caller, is not counted.
    pub(crate) fn new(bytes_max: usize) -> DecodedCache<V> {
        let (held, by_use, in_flight) = (HashMap::new(), BTreeMap::new(), HashSet::new());
        let (gone, gone_bytes) = (Vec::new(), 0);
        let state = State { held, by_use, next_use: 0, bytes: 0, in_flight, gone, gone_bytes };
        DecodedCache { bytes_max, state: Mutex::new(state), landed: Condvar::new() }
    }

    /// Most bytes it holds.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What had to go since this was asked last, [`GONE_BYTES_MAX`] at most.
    pub(crate) fn take_gone(&self) -> Vec<V> {
        let mut state = self.state.lock();
        state.gone_bytes = 0;
        std::mem::take(&mut state.gone)
    }

    /// The values of `ids`, in their order. `decode` is called with those that are not here and that nobody is
    /// decoding, and gives a result for each; others are waited for.
    ///
    /// Errors: [`Error::ChunkUnreadable`] for the first one that `decode` fails for; what it gave besides is kept.
    pub(crate) fn get(
        &self,
        ids: &[ChunkId],
        decode: &dyn Fn(&[ChunkId]) -> Vec<Decoded<V>>,
    ) -> Result<Vec<V>> {
        let mut found = HashMap::new();
        while let Some(claim) = self.claim_or_wait(ids, &mut found) {
            let decoded = decode(&claim.ids);
            for (id, value) in claim.land(decoded)? {
                found.insert(id, value);
            }
        }
        Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
    }

    /// As [`DecodedCache::get`], for somebody who will want the values soon: waits for nobody. What `decode` fails
    /// for is decoded again when it is asked for.
    pub(crate) fn warm(&self, ids: &[ChunkId], decode: &dyn Fn(&[ChunkId]) -> Vec<Decoded<V>>) {
        let claim = Claim { cache: self, ids: self.state.lock().claim(ids.iter()) };
        if !claim.ids.is_empty() {
            let decoded = decode(&claim.ids);
            let _ = claim.land(decoded);
        }
    }

    /// Puts what is here of `ids` into `found`, and claims of the rest what nobody is decoding. Waits while there is
    /// nothing of either. `None` when all is found.
    fn claim_or_wait(&self, ids: &[ChunkId], found: &mut HashMap<ChunkId, V>) -> Option<Claim<'_, V>> {
        let mut state = self.state.lock();
        loop {
            for id in ids {
                if !found.contains_key(id)
                    && let Some(value) = state.use_held(id)
                {
                    found.insert(*id, value);
                }
            }
            if found.len() >= ids.len() || ids.iter().all(|id| found.contains_key(id)) {
                return None;
            }
            let claimed = state.claim(ids.iter().filter(|id| !found.contains_key(*id)));
            if !claimed.is_empty() {
                return Some(Claim { cache: self, ids: claimed });
            }
            self.landed.wait(&mut state);
        }
    }
}

impl<V: Clone> State<V> {
    /// What is here of a chunk; it then counts as the last that was asked for.
    fn use_held(&mut self, id: &ChunkId) -> Option<V> {
        let held = self.held.get_mut(id)?;
        self.by_use.remove(&held.used);
        held.used = self.next_use;
        self.by_use.insert(self.next_use, *id);
        self.next_use += 1;
        Some(held.value.clone())
    }

    /// Those of `ids` that are not here and that nobody is decoding, once each; from now on they are being decoded.
    fn claim<'a>(&mut self, ids: impl Iterator<Item = &'a ChunkId>) -> Vec<ChunkId> {
        let State { held, in_flight, .. } = self;
        ids.filter(|id| !held.contains_key(*id) && in_flight.insert(**id)).copied().collect()
    }

    fn keep(&mut self, id: ChunkId, value: V, bytes: usize, bytes_max: usize) {
        if bytes > bytes_max {
            return;
        }
        while self.bytes + bytes > bytes_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            let Some(held) = self.held.remove(&oldest) else { continue };
            self.bytes -= held.bytes;
            if self.gone_bytes + held.bytes <= GONE_BYTES_MAX {
                self.gone_bytes += held.bytes;
                self.gone.push(held.value);
            }
        }
        self.held.insert(id, Held { value, bytes, used: self.next_use });
        self.by_use.insert(self.next_use, id);
        self.next_use += 1;
        self.bytes += bytes;
    }
}

/// Chunks that one caller decodes. Others wait for them until this is dropped.
struct Claim<'a, V> {
    cache: &'a DecodedCache<V>,
    ids: Vec<ChunkId>,
}

impl<V: Clone> Claim<'_, V> {
    /// Keeps what was decoded, and gives it out.
    fn land(self, decoded: Vec<Decoded<V>>) -> Result<Vec<(ChunkId, V)>> {
        let mut state = self.cache.state.lock();
        let keep = |(id, result): (&ChunkId, Decoded<V>)| match result {
            Ok((value, bytes)) => {
                state.keep(*id, value.clone(), bytes, self.cache.bytes_max);
                Ok((*id, value))
            }
            Err(e) => Err(Error::ChunkUnreadable { id: *id, source: Box::new(e) }),
        };
        // All of them are kept before the first error ends it.
        let landed: Vec<Result<_>> = self.ids.iter().zip(decoded).map(keep).collect();
        drop(state);
        landed.into_iter().collect()
    }
}

impl<V> Drop for Claim<'_, V> {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        for id in &self.ids {
            state.in_flight.remove(id);
        }
        drop(state);
        self.cache.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    fn ids(range: std::ops::Range<u8>) -> Vec<ChunkId> {
        range.map(|n| ChunkId([n; 32])).collect()
    }

    /// The first byte of the id; ten bytes each.
    fn decode(ids: &[ChunkId]) -> Vec<Decoded<u8>> {
        ids.iter().map(|id| Ok((id.0[0], 10))).collect()
    }

    #[test]
    fn the_bound_holds_and_the_oldest_go_first() {
        let cache = DecodedCache::new(35);
        assert_eq!(cache.get(&ids(0..3), &decode).unwrap(), [0, 1, 2]);
        assert_eq!(cache.get(&ids(0..1), &|_| panic!("it is here")).unwrap(), [0]);
        cache.get(&ids(3..4), &decode).unwrap();
        let state = cache.state.lock();
        assert_eq!(state.bytes, 30);
        let mut held: Vec<u8> = state.held.keys().map(|id| id.0[0]).collect();
        held.sort_unstable();
        assert_eq!(held, [0, 2, 3]);
        assert_eq!(state.by_use.len(), state.held.len());
    }

    #[test]
    fn more_than_fits_is_given_all_the_same() {
        let cache = DecodedCache::new(5);
        assert_eq!(cache.get(&ids(0..20), &decode).unwrap().len(), 20);
        assert_eq!(cache.state.lock().bytes, 0);
    }

    #[test]
    fn an_error_names_its_chunk_and_hides_no_other() {
        let cache = DecodedCache::new(100);
        let fails = |ids: &[ChunkId]| -> Vec<Decoded<u8>> {
            let one = |id: &ChunkId| if id.0[0] == 1 { Err(Error::Poisoned) } else { Ok((id.0[0], 10)) };
            ids.iter().map(one).collect()
        };
        let failed = cache.get(&ids(0..3), &fails);
        assert!(matches!(failed, Err(Error::ChunkUnreadable { id: ChunkId(id), .. }) if id == [1; 32]));
        assert_eq!(cache.get(&[ChunkId([0; 32]), ChunkId([2; 32])], &|_| panic!("kept")).unwrap(), [0, 2]);
        assert_eq!(cache.get(&ids(1..2), &decode).unwrap(), [1], "an error is not kept");
    }

    #[test]
    fn what_many_want_at_once_is_decoded_once() {
        let (cache, decoded) = (DecodedCache::new(1000), AtomicUsize::new(0));
        let slow = |ids: &[ChunkId]| {
            decoded.fetch_add(ids.len(), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
            decode(ids)
        };
        thread::scope(|scope| {
            for begin in 0..6 {
                let (cache, slow) = (&cache, &slow);
                scope.spawn(move || {
                    cache.warm(&ids(begin..begin + 4), slow);
                    let wanted = cache.get(&ids(begin..begin + 8), slow).unwrap();
                    assert_eq!(wanted, (begin..begin + 8).collect::<Vec<u8>>());
                });
            }
        });
        assert_eq!(decoded.load(Ordering::Relaxed), 13);
    }

    #[test]
    fn who_waits_for_one_that_fails_tries_itself() {
        let cache = DecodedCache::new(1000);
        thread::scope(|scope| {
            scope.spawn(|| {
                cache.warm(&ids(0..1), &|_| {
                    thread::sleep(Duration::from_millis(50));
                    vec![Err(Error::Poisoned)]
                });
            });
            thread::sleep(Duration::from_millis(10));
            assert_eq!(cache.get(&ids(0..1), &decode).unwrap(), [0]);
        });
    }
}
