//! What every storage promises, as tests that run over any of them.
//!
//! Durability is not here: a crash cannot be seen through the trait. [`crate::crashing_storage`] models
//! crashes for the layers above; the tests of each storage cover its own syncing.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use dbvault_storage::{Error, ErrorKind, Key, ObjectMeta, Result, Storage};

/// One promise: a name, and what shows it in a storage that holds nothing yet.
pub type Case = (&'static str, fn(&dyn Storage));

/// All promises.
pub const CASES: &[Case] = &[
    ("what_was_put_is_read", what_was_put_is_read),
    ("parts_are_joined_in_order", parts_are_joined_in_order),
    ("an_empty_object_is_an_object", an_empty_object_is_an_object),
    ("ranges_are_exact", ranges_are_exact),
    ("a_range_past_the_end_is_a_short_read", a_range_past_the_end_is_a_short_read),
    ("advice_changes_nothing", advice_changes_nothing),
    ("what_is_absent_is_not_found", what_is_absent_is_not_found),
    ("a_taken_name_keeps_its_object", a_taken_name_keeps_its_object),
    ("one_of_many_racing_puts_wins", one_of_many_racing_puts_wins),
    ("a_reader_never_sees_part_of_an_object", a_reader_never_sees_part_of_an_object),
    ("list_gives_what_is_below_a_prefix", list_gives_what_is_below_a_prefix),
    ("list_ends_at_the_first_error", list_ends_at_the_first_error),
    ("list_may_call_the_storage", list_may_call_the_storage),
    ("list_bears_concurrent_changes", list_bears_concurrent_changes),
    ("a_deleted_object_is_gone", a_deleted_object_is_gone),
    ("a_deleted_name_can_be_made_anew", a_deleted_name_can_be_made_anew),
    ("a_prefix_is_not_an_object", a_prefix_is_not_an_object),
    ("an_object_is_never_damaged_by_a_name_below_it", an_object_is_never_damaged_by_a_name_below_it),
    ("a_large_object_is_whole", a_large_object_is_whole),
    ("every_valid_key_works", every_valid_key_works),
    ("flush_may_be_called_at_any_time", flush_may_be_called_at_any_time),
    ("location_is_told", location_is_told),
];

/// Runs all [`CASES`], each over a new empty storage from `make`. Panics at the first broken promise, in
/// a thread that has the name of the case.
pub fn conformance(make: &dyn Fn() -> Box<dyn Storage>) {
    for (name, case) in CASES {
        let storage = make();
        let passed = thread::scope(|scope| {
            let run = thread::Builder::new().name((*name).to_owned());
            run.spawn_scoped(scope, || case(&*storage)).expect("a thread for a test").join().is_ok()
        });
        assert!(passed, "{} breaks this promise: {name}", storage.location());
    }
}

fn key(name: &str) -> Key {
    Key::new(name).expect("the suite uses valid names only, except where it says so")
}

fn put(storage: &dyn Storage, name: &str, bytes: &[u8]) {
    storage.put_new(&key(name), &[bytes]).unwrap_or_else(|error| panic!("put {name}: {error}"));
}

fn read(storage: &dyn Storage, name: &str) -> Vec<u8> {
    storage.get(&key(name), None).unwrap_or_else(|error| panic!("get {name}: {error}"))
}

#[track_caller]
fn assert_fails<T>(result: Result<T>, kind: ErrorKind) {
    match result {
        Ok(_) => panic!("expected {kind:?}, got Ok"),
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
    }
}

/// Names and lengths of all objects below `prefix`. Panics if one is listed twice.
fn listed(storage: &dyn Storage, prefix: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut each = |meta: ObjectMeta| {
        let before = found.insert(meta.key.as_str().to_owned(), meta.size_bytes);
        assert_eq!(before, None, "{} is listed twice", meta.key);
        Ok(())
    };
    storage.list(&key(prefix), &mut each).unwrap_or_else(|error| panic!("list {prefix}: {error}"));
    found
}

/// Bytes without a short period, so that a shifted or repeated piece shows.
fn pattern(length_bytes: usize) -> Vec<u8> {
    (0..length_bytes as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]).collect()
}

fn what_was_put_is_read(storage: &dyn Storage) {
    put(storage, "config", b"one");
    put(storage, "packs/0a/ff", b"three");
    assert_eq!(read(storage, "config"), b"one");
    assert_eq!(read(storage, "packs/0a/ff"), b"three");
    assert_eq!(storage.size(&key("config")).expect("size"), Some(3));
    assert_eq!(storage.size(&key("packs/0a/ff")).expect("size"), Some(5));
}

fn parts_are_joined_in_order(storage: &dyn Storage) {
    let bytes = pattern(10_000);
    let mut body: Vec<&[u8]> = bytes.chunks(7).collect();
    body.insert(0, &[]);
    body.insert(500, &[]);
    body.push(&[]);
    storage.put_new(&key("parts"), &body).expect("put");
    assert_eq!(read(storage, "parts"), bytes);
}

fn an_empty_object_is_an_object(storage: &dyn Storage) {
    storage.put_new(&key("none"), &[]).expect("a body of no parts");
    storage.put_new(&key("empty"), &[&[], &[]]).expect("a body of empty parts");
    for name in ["none", "empty"] {
        assert_eq!(read(storage, name), b"");
        assert_eq!(storage.get(&key(name), Some(0..0)).expect("get"), b"");
        assert_eq!(storage.size(&key(name)).expect("size"), Some(0));
        assert_fails(storage.put_new(&key(name), &[b"x"]), ErrorKind::AlreadyExists);
        assert_fails(storage.get(&key(name), Some(0..1)), ErrorKind::ShortRead);
    }
}

fn ranges_are_exact(storage: &dyn Storage) {
    let bytes = pattern(70_000);
    put(storage, "a/object", &bytes);
    for range in [0..0, 0..1, 0..70_000, 69_999..70_000, 70_000..70_000, 4095..4097, 12_345..54_321] {
        let got = storage.get(&key("a/object"), Some(range.start as u64..range.end as u64)).expect("get");
        assert!(got == bytes[range.clone()], "{range:?}");
        let mut got = vec![0; range.len()];
        storage.get_into(&key("a/object"), range.start as u64, &mut got).expect("get_into");
        assert!(got == bytes[range.clone()], "{range:?}");
    }
}

fn a_range_past_the_end_is_a_short_read(storage: &dyn Storage) {
    put(storage, "object", b"0123456789");
    for range in [0..11, 10..11, 9..12, 11..11, 20..30, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
        assert_fails(storage.get(&key("object"), Some(range)), ErrorKind::ShortRead);
    }
    for (start, len) in [(0, 11), (10, 1), (9, 3), (11, 0), (20, 10), (u64::MAX - 1, 1), (u64::MAX, 1)] {
        assert_fails(storage.get_into(&key("object"), start, &mut vec![0; len]), ErrorKind::ShortRead);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "a range that a damaged index could hold")]
    let reversed = 5..3;
    assert_fails(storage.get(&key("object"), Some(reversed)), ErrorKind::Io);
}

fn advice_changes_nothing(storage: &dyn Storage) {
    put(storage, "object", b"0123456789");
    #[expect(clippy::reversed_empty_ranges, reason = "a range that a damaged index could hold")]
    let ranges = [0..10, 3..5, 5..3, 5..5, 9..20, 20..30, u64::MAX - 1..u64::MAX];
    for range in ranges {
        storage.will_read(&key("object"), range.clone());
        storage.will_read(&key("absent"), range);
    }
    assert_eq!(read(storage, "object"), b"0123456789");
    assert_fails(storage.get(&key("absent"), None), ErrorKind::NotFound);
    storage.delete(&key("object")).expect("delete");
    assert_fails(storage.get(&key("object"), Some(0..1)), ErrorKind::NotFound);
}

fn what_is_absent_is_not_found(storage: &dyn Storage) {
    put(storage, "here/object", b"x");
    for name in ["absent", "absent/too", "here/absent", "here/object/below", "here/object/below/that"] {
        assert_fails(storage.get(&key(name), None), ErrorKind::NotFound);
        assert_fails(storage.get(&key(name), Some(0..0)), ErrorKind::NotFound);
        assert_eq!(storage.size(&key(name)).expect("size"), None, "{name}");
        storage.delete(&key(name)).expect("deleting what is absent");
        assert!(listed(storage, name).is_empty());
    }
    assert_eq!(read(storage, "here/object"), b"x");
}

fn a_taken_name_keeps_its_object(storage: &dyn Storage) {
    for name in ["object", "deep/er/object"] {
        put(storage, name, b"first");
        for body in [&b"second"[..], b"first", b""] {
            assert_fails(storage.put_new(&key(name), &[body]), ErrorKind::AlreadyExists);
        }
        assert_eq!(read(storage, name), b"first");
        assert_eq!(storage.size(&key(name)).expect("size"), Some(5));
    }
}

fn one_of_many_racing_puts_wins(storage: &dyn Storage) {
    const THREADS: usize = 16;
    const ROUNDS: usize = 20;
    let body = |thread: usize| vec![b'a' + thread.to_le_bytes()[0]; 10_000 + thread];
    for round in 0..ROUNDS {
        // Every second round the directory is new too, so that making it is part of the race.
        let key = key(&format!("race/{}/object-{round}", round / 2));
        let start = Barrier::new(THREADS);
        let attempt = |thread: usize| {
            start.wait();
            match storage.put_new(&key, &[&body(thread)]) {
                Ok(()) => Some(thread),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
                Err(error) => panic!("thread {thread}: {error}"),
            }
        };
        let attempt = &attempt;
        let winners: Vec<usize> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || attempt(n))).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(winners.len(), 1, "round {round}: winners {winners:?}");
        assert!(read(storage, key.as_str()) == body(winners[0]), "round {round}: not the winner's bytes");
    }
    assert_eq!(listed(storage, "race").len(), ROUNDS);
}

fn a_reader_never_sees_part_of_an_object(storage: &dyn Storage) {
    const OBJECTS: usize = 20;
    let bytes = pattern(300_000);
    let size_bytes = bytes.len() as u64;
    let parts: Vec<&[u8]> = bytes.chunks(10_000).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..OBJECTS {
                storage.put_new(&key(&format!("whole/{n}")), &parts).expect("put");
            }
        });
        for n in 0..OBJECTS {
            let key = key(&format!("whole/{n}"));
            loop {
                match storage.get(&key, Some(size_bytes - 1..size_bytes)) {
                    Ok(_) => break,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                }
                for (name, listed_bytes) in listed(storage, "whole") {
                    assert_eq!(listed_bytes, size_bytes, "{name}");
                }
            }
            assert!(storage.get(&key, None).expect("get") == bytes);
        }
    });
}

fn list_gives_what_is_below_a_prefix(storage: &dyn Storage) {
    for name in ["a/x", "a/y/z", "a/y/w/v", "ab/x", "a-b/x", "a.x", "b", "c/a/x"] {
        put(storage, name, name.as_bytes());
    }
    let names = |prefix| listed(storage, prefix).into_keys().collect::<Vec<_>>();
    assert_eq!(names("a"), ["a/x", "a/y/w/v", "a/y/z"]);
    assert_eq!(names("a/y"), ["a/y/w/v", "a/y/z"]);
    assert_eq!(names("a/y/w"), ["a/y/w/v"]);
    assert_eq!(names("ab"), ["ab/x"]);
    assert_eq!(names("c"), ["c/a/x"]);
    for nothing in ["b", "a/x", "x", "a/y/z/x", "a/y/w/v/u"] {
        assert!(names(nothing).is_empty(), "{nothing}");
    }
    for (name, size_bytes) in listed(storage, "a") {
        assert_eq!(size_bytes, name.len() as u64);
    }
    storage.delete(&key("a/y/w/v")).expect("delete");
    assert!(names("a/y/w").is_empty(), "a prefix below which all is deleted");
}

fn list_ends_at_the_first_error(storage: &dyn Storage) {
    for n in 0..10 {
        put(storage, &format!("many/{n}"), b"x");
    }
    let mut calls_count = 0;
    let result = storage.list(&key("many"), &mut |_| {
        calls_count += 1;
        if calls_count == 3 { Err(Error::new(ErrorKind::NoSpace, "of the caller")) } else { Ok(()) }
    });
    assert_fails(result, ErrorKind::NoSpace);
    assert_eq!(calls_count, 3);
}

fn list_may_call_the_storage(storage: &dyn Storage) {
    for n in 0..10 {
        put(storage, &format!("old/{n}"), b"x");
    }
    let mut each = |meta: ObjectMeta| {
        storage.put_new(&key(&format!("new/{}", meta.key.file_name())), &[&storage.get(&meta.key, None)?])?;
        storage.delete(&meta.key)
    };
    storage.list(&key("old"), &mut each).expect("list");
    assert!(listed(storage, "old").is_empty());
    assert_eq!(listed(storage, "new").len(), 10);
}

fn list_bears_concurrent_changes(storage: &dyn Storage) {
    put(storage, "churn/steady/object", b"x");
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..100 {
                let key = key(&format!("churn/{}/{n}", n % 5));
                storage.put_new(&key, &[b"x"]).expect("put");
                storage.delete(&key).expect("delete");
            }
        });
        for _ in 0..100 {
            assert!(listed(storage, "churn").contains_key("churn/steady/object"));
        }
    });
    assert_eq!(listed(storage, "churn").len(), 1);
}

fn a_deleted_object_is_gone(storage: &dyn Storage) {
    put(storage, "a/object", b"bytes");
    put(storage, "a/other", b"bytes");
    // Read by range before, so that a storage that keeps files open must let go of this one.
    storage.get(&key("a/object"), Some(0..2)).expect("get");
    storage.delete(&key("a/object")).expect("delete");
    assert_fails(storage.get(&key("a/object"), None), ErrorKind::NotFound);
    assert_fails(storage.get(&key("a/object"), Some(0..2)), ErrorKind::NotFound);
    assert_fails(storage.get_into(&key("a/object"), 0, &mut [0; 2]), ErrorKind::NotFound);
    assert_eq!(storage.size(&key("a/object")).expect("size"), None);
    assert_eq!(listed(storage, "a").len(), 1);
    storage.delete(&key("a/object")).expect("a second delete");
    assert_eq!(read(storage, "a/other"), b"bytes");
}

fn a_deleted_name_can_be_made_anew(storage: &dyn Storage) {
    for round in 0..5u8 {
        storage.put_new(&key("slots/1"), &[&[round; 10]]).expect("put");
        assert_eq!(storage.get(&key("slots/1"), Some(3..5)).expect("get"), [round; 2]);
        storage.delete(&key("slots/1")).expect("delete");
    }
}

fn a_prefix_is_not_an_object(storage: &dyn Storage) {
    put(storage, "a/b/c", b"x");
    for name in ["a", "a/b"] {
        assert_fails(storage.get(&key(name), None), ErrorKind::NotFound);
        assert_fails(storage.get(&key(name), Some(0..0)), ErrorKind::NotFound);
        assert_eq!(storage.size(&key(name)).expect("size"), None);
        storage.delete(&key(name)).expect("deleting what is absent");
    }
    assert_eq!(read(storage, "a/b/c"), b"x");
}

fn an_object_is_never_damaged_by_a_name_below_it(storage: &dyn Storage) {
    put(storage, "a", b"first");
    put(storage, "b/c", b"first");
    for (taken, beside) in [("a", "a/b"), ("b/c", "b")] {
        // A storage may refuse or allow this, but it must tell which.
        let made = storage.put_new(&key(beside), &[b"second"]).is_ok();
        assert_eq!(read(storage, taken), b"first");
        let size_bytes = made.then_some(6);
        assert_eq!(storage.size(&key(beside)).expect("size"), size_bytes, "{beside}");
    }
}

fn a_large_object_is_whole(storage: &dyn Storage) {
    const SIZE_BYTES: usize = 40 << 20;
    let bytes = pattern(SIZE_BYTES);
    let (head, tail) = bytes.split_at(SIZE_BYTES / 3);
    storage.put_new(&key("packs/large"), &[head, tail]).expect("put");
    assert!(read(storage, "packs/large") == bytes);
    let middle = SIZE_BYTES as u64 / 3;
    let got = storage.get(&key("packs/large"), Some(middle - 1000..middle + 1000)).expect("get");
    assert!(got == bytes[SIZE_BYTES / 3 - 1000..SIZE_BYTES / 3 + 1000]);
    assert_eq!(listed(storage, "packs"), BTreeMap::from([("packs/large".to_owned(), SIZE_BYTES as u64)]));
}

fn every_valid_key_works(storage: &dyn Storage) {
    let long_part = format!("long/{}", "p".repeat(250));
    let many_parts = format!("many{}", "/m".repeat(125));
    let names = ["0", "-", "_", "a.b-c_d", "x..y", "z/0/-/_/a.", &long_part, &many_parts];
    for name in names {
        put(storage, name, name.as_bytes());
    }
    for name in names {
        assert_eq!(read(storage, name), name.as_bytes());
        let top = name.split('/').next().expect("a first part");
        assert_eq!(listed(storage, top).contains_key(name), name.contains('/'), "{name}");
    }
    for bad in ["", ".", "..", "../x", "/x", "x/", "x//y", ".tmp-1", "a/.b", "A", "a b", "a\\b", "ä"] {
        assert_fails(Key::new(bad), ErrorKind::InvalidKey);
    }
}

fn flush_may_be_called_at_any_time(storage: &dyn Storage) {
    storage.flush().expect("with nothing done");
    put(storage, "a/b", b"x");
    storage.flush().expect("after a put");
    storage.flush().expect("with nothing done since");
    storage.delete(&key("a/b")).expect("delete");
    storage.flush().expect("after a delete");
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for n in 0..10 {
                    put(storage, &format!("{thread}/{n}"), b"x");
                    storage.flush().expect("beside other threads");
                }
            });
        }
    });
    assert_eq!(listed(storage, "3").len(), 10);
}

fn location_is_told(storage: &dyn Storage) {
    assert!(!storage.location().is_empty());
}
