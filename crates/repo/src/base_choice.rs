//! The base of a chunk: which stored chunk is a new one stored against?
//!
//! The newest similar chunk makes the smallest delta, and yesterday's chunk was stored against that of the day
//! before: chains grow by a day at a time, until a chunk would take too many others to read. Then a chunk
//! further down the chain serves, at the cost of all that has changed since.

use dbvault_format::id::ChunkId;
use dbvault_format::similarity::SuperFeatures;

use crate::index::Location;
use crate::reuse::Reuse;
use crate::{Error, Result};

/// A stored chunk that is similar, and its depth, which is less than `depth_max`.
pub(crate) fn find_base(
    reuse: &Reuse,
    features: &SuperFeatures,
    depth_max: u8,
) -> Result<Option<(ChunkId, u8)>> {
    let candidates = match reuse.index().similar(features) {
        Err(Error::Cache { .. }) => return Ok(None),
        candidates => candidates?,
    };
    for candidate in candidates {
        let Some(found) = reuse.find(&candidate)? else { continue };
        if found.entry.depth < depth_max {
            return Ok(Some((found.entry.id, found.entry.depth)));
        }
        let chain = chain_of(reuse, found)?;
        let links: Vec<Link> = chain.iter().map(Link::of).collect();
        if let Some(place) = cheapest_below(&links, depth_max) {
            return Ok(Some((chain[place].entry.id, chain[place].entry.depth)));
        }
    }
    Ok(None)
}

/// A chunk and all that it is stored against, one below the other.
fn chain_of(reuse: &Reuse, top: Location) -> Result<Vec<Location>> {
    let (mut next, mut limit) = (top.entry.base, top.entry.depth);
    let mut chain = vec![top];
    while let Some(base) = next {
        let Some(below) = reuse.find_below(&base, limit)? else { break };
        (next, limit) = (below.entry.base, below.entry.depth);
        chain.push(below);
    }
    Ok(chain)
}

/// What the choice looks at.
#[derive(Clone, Copy, Debug)]
struct Link {
    depth: u8,
    /// Bytes of the record: of a delta, about what has changed since the chunk below.
    stored_bytes: u64,
}

impl Link {
    fn of(location: &Location) -> Link {
        Link { depth: location.entry.depth, stored_bytes: location.entry.sealed_len.into() }
    }
}

/// The place of the base in a full chain, topmost first; only those less deep than `depth_max` count.
///
/// A delta against a chunk further down holds the deltas above it once more. That is the price, and what it
/// buys are the steps of depth that are free again for the days to come: the fewest bytes a step win. So short
/// ways back are gone often and long ones seldom. Always the root would be dearer with every time.
fn cheapest_below(chain: &[Link], depth_max: u8) -> Option<usize> {
    let top = chain.first()?;
    let mut repeated_bytes = 0;
    let mut cheapest: Option<(usize, u64, u64)> = None;
    for (place, link) in chain.iter().enumerate() {
        let freed = u64::from(top.depth - link.depth);
        let cheaper = cheapest.is_none_or(|(_, bytes, steps)| repeated_bytes * steps < bytes * freed);
        if link.depth < depth_max && freed > 0 && cheaper {
            cheapest = Some((place, repeated_bytes, freed));
        }
        repeated_bytes += link.stored_bytes;
    }
    cheapest.map(|(place, ..)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of days, of which each day changes as much: what every day costs, and the deepest chain.
    fn days(count: u64, depth_max: u8) -> (Vec<u64>, u8) {
        let mut days_of_chain = vec![0];
        let mut costs = Vec::new();
        let mut deepest = 0;
        for day in 1..=count {
            let links: Vec<Link> = (0..days_of_chain.len())
                .rev()
                .map(|at| {
                    let below = if at > 0 { days_of_chain[at - 1] } else { 0 };
                    Link { depth: at as u8, stored_bytes: days_of_chain[at] - below }
                })
                .collect();
            if links[0].depth >= depth_max {
                let place = cheapest_below(&links, depth_max).unwrap();
                days_of_chain.truncate(links.len() - place);
            }
            costs.push(day - days_of_chain[days_of_chain.len() - 1]);
            days_of_chain.push(day);
            deepest = deepest.max(days_of_chain.len() as u8 - 1);
        }
        (costs, deepest)
    }

    #[test]
    fn a_month_costs_less_than_two_days_a_day_and_no_jump_is_long() {
        let (costs, deepest) = days(30, 8);
        assert_eq!(deepest, 8);
        assert!(costs.iter().sum::<u64>() < 60, "{costs:?}");
        assert!(costs.iter().all(|cost| *cost <= 10), "{costs:?}");
    }

    #[test]
    fn every_depth_is_kept_to() {
        for depth_max in 1..=12 {
            assert_eq!(days(100, depth_max).1, depth_max);
        }
    }

    #[test]
    fn the_fewest_bytes_a_step_win() {
        let link = |depth, stored_bytes| Link { depth, stored_bytes };
        let chain = [link(3, 10), link(2, 40), link(1, 10), link(0, 5000)];
        assert_eq!(cheapest_below(&chain, 3), Some(1));
        let chain = [link(3, 40), link(2, 10), link(1, 10), link(0, 5000)];
        assert_eq!(cheapest_below(&chain, 3), Some(3));
        // A lower limit than that of the chain, as no client has it today.
        assert_eq!(cheapest_below(&chain[..3], 1), None);
        assert_eq!(cheapest_below(&chain[..1], 3), None);
    }
}
