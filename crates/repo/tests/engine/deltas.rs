//! Streams that change a little from day to day, for longer than chains of deltas may be.

use std::sync::Arc;

use dbvault_format::config::RepoParams;
use dbvault_format::entry::Grid;
use dbvault_storage::{MemoryStorage, Storage};

use crate::common::*;
use crate::objects::all_chunks;

const DAYS: u64 = 24;

/// Backs up a stream on each of [`DAYS`] days, changed a little from one to the next; gives what was stored
/// for each.
fn many_days(storage: &MemoryStorage, params: RepoParams, grid: Grid) -> Vec<u64> {
    let dir = temporary_dir();
    let depth_max = params.delta_depth_max;
    let repo = init_on(Arc::new(storage.clone()), dir.path(), params);
    let mut expected = Expected::new();
    let (mut stream, mut stored_before, mut growth) = (text(1 << 20, 1), 0, Vec::new());
    for day in 0..DAYS {
        let data = streams(&[("dump", &stream)]);
        backup_on(&repo, &format!("day {day}"), grid, &data).unwrap();
        expected.insert(format!("day {day}"), data);
        let stored = bytes_below(storage as &dyn Storage, "packs");
        growth.push(stored - stored_before);
        stored_before = stored;
        stream = edited(&stream, 100, day);
    }
    let deepest = all_chunks(storage, &repo).into_iter().map(|chunk| chunk.depth).max();
    assert_eq!(deepest, Some(depth_max), "chains are as long as they may be, and no longer");
    assert_archives(&repo, &expected, None);
    let elsewhere = open_on(Arc::new(storage.clone()), &dir.path().join("elsewhere")).unwrap();
    assert_archives(&elsewhere, &expected, None);
    assert_clean(&elsewhere);
    growth
}

fn most(growth: &[u64]) -> u64 {
    growth.iter().copied().max().unwrap()
}

#[test]
fn every_day_comes_back_when_chains_are_full() {
    for (depth_max, grid) in [(3, Grid::Content), (8, Grid::Content), (2, Grid::Fixed(8192))] {
        let storage = MemoryStorage::new();
        let params = RepoParams { delta_depth_max: depth_max, ..small_params() };
        let growth = many_days(&storage, params, grid);
        assert!(most(&growth[1..]) * 3 < growth[0], "depth {depth_max}: {growth:?}");
        let (early, late) = growth[1..].split_at(growth.len() / 2);
        assert!(most(late) * 2 < most(early) * 3, "depth {depth_max}: {growth:?} does not stay flat");
    }
}

#[test]
fn without_deltas_every_chunk_stands_alone() {
    let storage = MemoryStorage::new();
    many_days(&storage, RepoParams { delta_depth_max: 0, ..small_params() }, Grid::Content);
}
