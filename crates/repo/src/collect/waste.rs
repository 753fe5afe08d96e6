//! Packs that hold so much that nothing needs that their live records are better stored again elsewhere.

use std::collections::HashSet;

use dbvault_format::id::PackName;

use super::live::Live;
use crate::index::PackInfo;
use crate::{Reader, Result};

/// A pack is worth it from this share of dead bytes on: one in so many.
const DEAD_ONE_IN: u64 = 16;

/// A pack with live records and dead ones.
#[derive(Clone, Debug)]
pub(super) struct Wasteful {
    /// Number in the index.
    pub(super) number: u32,
    pub(super) info: PackInfo,
    bytes: Bytes,
}

/// Sealed bytes of the records of a pack.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bytes {
    /// Of those that are needed.
    live: u64,
    /// Of those that are not, or would not be if one delta were stored against another base.
    waste: u64,
}

impl Bytes {
    /// Adds a record.
    pub(super) fn add(&mut self, sealed_bytes: u32, live: bool, waste: bool) {
        self.live += if live { u64::from(sealed_bytes) } else { 0 };
        self.waste += if waste { u64::from(sealed_bytes) } else { 0 };
    }

    /// Whether any of it is waste.
    pub(super) fn any_waste(self) -> bool {
        self.waste > 0
    }

    /// Whether enough of it is waste.
    pub(super) fn is_worth(self) -> bool {
        self.waste > 0 && self.waste * DEAD_ONE_IN >= self.live.max(self.waste)
    }
}

/// Packs worth repacking, of those in `among` if that is given: the most wasteful first, as many as have no more
/// than `live_bytes_max` of live records.
pub(super) fn wasteful(
    reader: &Reader,
    live: &Live,
    among: Option<&HashSet<PackName>>,
    live_bytes_max: u64,
) -> Result<Vec<Wasteful>> {
    let mut found = Vec::new();
    for number in live.packs().filter(|_| live_bytes_max > 0) {
        let info = reader.index().pack(number)?;
        if among.is_some_and(|among| !among.contains(&info.name)) {
            continue;
        }
        reader.repo().client.check_interrupt()?;
        // What is no record is not waste: the directory, and what fills the pack up to its length.
        let mut bytes = Bytes::default();
        for (ordinal, entry) in (0..).zip(reader.index().entries(&info.name)?) {
            let live_one = live.has((number, ordinal));
            bytes.add(entry.sealed_len, live_one, !live_one || live.is_between((number, ordinal)));
        }
        if bytes.is_worth() {
            found.push(Wasteful { number, info, bytes });
        }
    }
    // By waste for each live byte, without fractions.
    found.sort_by_key(|Wasteful { bytes, info, .. }| {
        (std::cmp::Reverse((u128::from(bytes.waste) << 32) / u128::from(bytes.live.max(1))), info.name)
    });
    let mut sum_bytes = 0u64;
    found.retain(|Wasteful { bytes, .. }| {
        let fits = sum_bytes.saturating_add(bytes.live) <= live_bytes_max;
        sum_bytes += if fits { bytes.live } else { 0 };
        fits
    });
    Ok(found)
}
