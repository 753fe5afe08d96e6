//! What two streams have in common is found without reading them.

use std::sync::Arc;

use dbvault_format::chunk_list::StreamRef;
use dbvault_format::entry::Grid;
use dbvault_repo::{NoMonitor, Reader, Repository, StreamDiff};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::recording_storage::RecordingStorage;

use crate::common::*;

fn stream(repo: &Repository, reader: &Arc<Reader>, archive: &str) -> Vec<StreamRef> {
    let manifest = repo.find_archive(archive).unwrap().manifest;
    reader.entries(&manifest).unwrap().iter().map(|entry| entry.stream).collect()
}

/// Whatever is shared is the same on both sides, and nothing is in two runs.
fn assert_true(diff: &StreamDiff, left: &[u8], right: &[u8]) {
    assert_eq!((diff.left_bytes, diff.right_bytes), (left.len() as u64, right.len() as u64));
    let at = |begin: u64, bytes: u64| begin as usize..(begin + bytes) as usize;
    for run in &diff.shared {
        assert!(left[at(run.left, run.bytes)] == right[at(run.right, run.bytes)], "{run:?}");
    }
    for (gaps, whole) in [(diff.left_only(), left), (diff.right_only(), right)] {
        let sum: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        assert_eq!(sum + diff.shared_bytes(), whole.len() as u64);
        assert!(gaps.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }
}

#[test]
fn only_what_differs_is_left_whatever_was_done() {
    let cache = temporary_dir();
    let recording = RecordingStorage::new(Arc::new(MemoryStorage::new()));
    let repo = init(recording.clone(), cache.path());
    let before = noise(8 << 20, 1);
    let inserted = [&before[..3 << 20], b"some new bytes", &before[3 << 20..]].concat();
    let removed = [&before[..1 << 20], &before[2 << 20..]].concat();
    let moved = [&before[4 << 20..], &before[..4 << 20]].concat();
    let twice = [&before[..1 << 20], &before[..1 << 20], &before[1 << 20..]].concat();
    let other = noise(5 << 20, 2);
    let all = [
        before.clone(),
        inserted,
        removed,
        moved,
        twice,
        other,
        Vec::new(),
        before[..2000].to_vec(),
        before.clone(),
    ];
    for (number, bytes) in all.iter().enumerate() {
        backup_on(&repo, &format!("archive {number}"), Grid::Content, &streams(&[("x", bytes)])).unwrap();
    }
    let reader = repo.reader(Arc::new(NoMonitor)).unwrap();
    let first = stream(&repo, &reader, "archive 0");
    let mut differing = Vec::new();
    for (number, bytes) in all.iter().enumerate() {
        let second = stream(&repo, &reader, &format!("archive {number}"));
        recording.take_records();
        let diff = reader.diff_streams(&first, &second).unwrap();
        let read = recording.read_bytes();
        assert!(read < 500_000, "{read} bytes read: only lists of chunks are needed");
        assert_true(&diff, &before, bytes);
        assert!(!diff.coarse);
        let (left, right) = (diff.left_bytes - diff.shared_bytes(), diff.right_bytes - diff.shared_bytes());
        differing.push((left, right));
    }
    let small = 100 << 10;
    let (megabyte, all_of_it) = (1 << 20, 8 << 20);
    let near = |found: u64, want: u64| found >= want.saturating_sub(small) && found <= want + small;
    let wanted: [(u64, u64); 9] = [
        (0, 0),
        (0, 0),
        (megabyte, 0),
        (0, 0),
        (0, megabyte),
        (all_of_it, 5 << 20),
        (all_of_it, 0),
        (all_of_it, 2000),
        (0, 0),
    ];
    for (found, want) in differing.iter().zip(wanted) {
        assert!(near(found.0, want.0) && near(found.1, want.1), "{differing:?}");
    }
    assert_eq!((differing[0], differing[8]), ((0, 0), (0, 0)));
}

fn bounds(ranges: Vec<std::ops::Range<u64>>) -> Vec<(u64, u64)> {
    ranges.into_iter().map(|range| (range.start, range.end)).collect()
}

#[test]
fn several_streams_are_one_side() {
    let cache = temporary_dir();
    let repo = init(MemoryStorage::new(), cache.path());
    let (one, two, three) = (noise(1 << 20, 1), noise(2 << 20, 2), noise(100, 3));
    backup_on(&repo, "a", Grid::Content, &streams(&[("1", &one), ("2", &two)])).unwrap();
    backup_on(&repo, "b", Grid::Content, &streams(&[("1", &two), ("2", &three), ("3", &one)])).unwrap();
    let reader = repo.reader(Arc::new(NoMonitor)).unwrap();
    let diff = reader.diff_streams(&stream(&repo, &reader, "a"), &stream(&repo, &reader, "b")).unwrap();
    assert_true(&diff, &[one.clone(), two.clone()].concat(), &[two, three, one].concat());
    assert_eq!(diff.shared_bytes(), 3 << 20);
    assert_eq!(bounds(diff.left_only()), [(1 << 20, 1 << 20)], "a seam");
    assert_eq!(bounds(diff.right_only()), [(2 << 20, (2 << 20) + 100)]);
}
