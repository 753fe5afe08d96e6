//! Recompressing: what gets smaller is stored anew, what does not stays, and it is tried once.

use std::sync::Arc;
use std::time::Duration;

use dbvault_format::config::RepoParams;
use dbvault_repo::{NoMonitor, RecompressOptions, RecompressReport, Repository};
use dbvault_storage::MemoryStorage;

use crate::common::*;

fn options(level: i32) -> RecompressOptions {
    RecompressOptions {
        level,
        larger: false,
        bytes_max: u64::MAX,
        dry_run: false,
        wait: Duration::ZERO,
        silence: Duration::from_secs(24 * 60 * 60),
    }
}

fn recompress(repo: &Repository, options: &RecompressOptions) -> RecompressReport {
    repo.recompress(options, Arc::new(NoMonitor)).unwrap()
}

/// Days of rows at a low level, and noise.
fn days(storage: &MemoryStorage, cache: &std::path::Path) -> (Repository, Expected) {
    let params = RepoParams { level: -7, ..small_params() };
    let repo = init_on(Arc::new(storage.clone()), cache, params);
    let (mut day, mut expected) = (text(400 << 10, 1), Expected::new());
    for number in 0..3 {
        let streams = streams(&[("rows", &day)]);
        backup(&repo, &format!("day {number}"), &streams).unwrap();
        expected.insert(format!("day {number}"), streams);
        day = edited(&day, 30, number);
    }
    let streams = streams(&[("noise", &noise(200 << 10, 1))]);
    backup(&repo, "noise", &streams).unwrap();
    expected.insert("noise".into(), streams);
    (repo, expected)
}

#[test]
fn what_gets_smaller_is_stored_anew_and_tried_once() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let (repo, expected) = days(&storage, dir.path());
    let before = bytes_below(&storage, "packs");
    let names = storage.object_names();
    let tried = recompress(&repo, &RecompressOptions { dry_run: true, ..options(19) });
    assert_eq!(storage.object_names(), names, "a dry run changes nothing");
    let done = recompress(&repo, &options(19));
    assert_eq!(done, tried, "a dry run tells what will be");
    assert!(done.packs > 0 && done.packs < done.tried_packs && done.left_packs == 0, "{done:?}");
    let after = bytes_below(&storage, "packs");
    let saved = done.before_bytes - done.after_bytes;
    assert!(after + saved * 3 / 4 < before, "{before} became {after}: {done:?}");
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
    // All is known by now, to this client; another finds out that there is nothing to gain.
    let again = recompress(&repo, &options(19));
    assert_eq!((again.tried_packs, again.packs), (0, 0), "{again:?}");
    assert!(again.known_packs > 0);
    let elsewhere = temporary_dir();
    let other = open(storage.clone(), elsewhere.path()).unwrap();
    let again = recompress(&other, &options(19));
    assert_eq!(again.packs, 0, "{again:?}");
    assert!(again.tried_packs > 0);
    assert_eq!(bytes_below(&storage, "packs"), after);
    assert_archives(&other, &expected, None);
    for prefix in ["sessions", "condemned"] {
        assert_eq!(names_below(&storage, prefix), [""; 0]);
    }
}

#[test]
fn a_lower_level_never_costs_room_unless_it_is_wanted() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let (repo, expected) = days(&storage, dir.path());
    recompress(&repo, &options(19));
    let small = bytes_below(&storage, "packs");
    assert_eq!(recompress(&repo, &options(-7)).packs, 0);
    assert_eq!(bytes_below(&storage, "packs"), small);
    let done = recompress(&repo, &RecompressOptions { larger: true, ..options(-7) });
    assert!(done.packs > 0 && done.after_bytes > done.before_bytes, "{done:?}");
    assert!(bytes_below(&storage, "packs") > small);
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}

#[test]
fn a_budget_is_kept_to_and_the_next_run_goes_on() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let (repo, expected) = days(&storage, dir.path());
    let few = RecompressOptions { bytes_max: 64 << 10, ..options(19) };
    let before = bytes_below(&storage, "packs");
    let mut rounds = 0;
    loop {
        let done = recompress(&repo, &few);
        assert!(done.before_bytes <= few.bytes_max && done.after_bytes <= done.before_bytes, "{done:?}");
        assert_archives(&repo, &expected, None);
        rounds += 1;
        if done.left_packs == 0 {
            break;
        }
        assert!(rounds < 100, "{done:?}");
    }
    assert!(rounds > 3, "{rounds} rounds");
    assert!(bytes_below(&storage, "packs") < before);
    assert_clean(&repo);
    assert_eq!(recompress(&repo, &options(19)).packs, 0);
}

#[test]
fn nothing_is_condemned_while_a_backup_runs() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let (repo, mut expected) = days(&storage, dir.path());
    let running = begin(&repo, "running").unwrap();
    let done = recompress(&repo, &options(19));
    assert_eq!((done.packs, done.waits_for.len()), (0, 1), "{done:?}");
    assert_eq!(names_below(&storage, "condemned"), [""; 0]);
    let mut running = running;
    let rows = expected["day 2"].clone();
    add(&mut running, "rows", dbvault_format::entry::Grid::Content, &mut rows["rows"].as_slice()).unwrap();
    assert_eq!(running.commit().unwrap().sizes.new_bytes, 0);
    expected.insert("running".into(), rows);
    assert!(recompress(&repo, &options(19)).packs > 0);
    assert_archives(&repo, &expected, None);
    assert_clean(&repo);
}
