//! What must be durable before what: every barrier that the protocol needs is looked for among the calls of every
//! command. Without one of them, one of these tests fails (`tests/mutants`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dbvault_repo::Repository;
use dbvault_storage::MemoryStorage;
use dbvault_testkit::recording_storage::{Call, Record, RecordingStorage};

use crate::common::*;
use crate::world::{NO_CACHE, NOW_MS, WORLD, begin_script, collect, data};

/// When a call of the second kind is made, no change of the third kinds may be without a barrier after it.
const ORDERS: [(&str, &str, &[&str]); 17] = [
    ("a session counts before it looks around", "list condemned", &["put sessions"]),
    ("a segment lists packs that stay", "put index", &["put packs"]),
    ("an archive needs packs and segments that stay", "put archives", &["put packs", "put index"]),
    ("a session ends after its archive", "delete sessions", &["put archives"]),
    ("sessions are looked for after packs are condemned", "list sessions", &["put condemned"]),
    ("packs are marked again after a fence", "list packs", &["put archives"]),
    ("a root needs its base, and the packs in it", "put roots", &["put index", "put packs", "put condemned"]),
    ("packs go after the root that says so", "delete packs", &["put roots"]),
    ("segments go after the root that folds them", "delete index", &["put roots"]),
    ("a repacking session ends after the root", "delete sessions", &["put roots"]),
    ("a condemned list goes after its packs", "delete condemned", &["put roots", "delete packs"]),
    ("an archive goes after its segments", "delete archives", &["put roots", "delete index"]),
    ("marks go after their archive", "delete trash", &["delete archives"]),
    ("a mark counts before packs are condemned", "put condemned", &["put trash"]),
    ("a repository has a key", "put config", &["put keys"]),
    ("a key goes after the new one", "delete keys", &["put keys"]),
    ("keys of others go after the repository is there", "delete keys", &["put config"]),
];

/// What ends something, what may not come after it, and what begins it anew.
const ENDS: [(&str, &str, &str, &str); 1] =
    [("packs go while their condemned list forbids them", "delete condemned", "delete packs", "put roots")];

/// Looks at the calls of one command; gives the orders that were put to the test.
fn look(what: &str, records: &[Record], at_the_end: &[&str]) -> BTreeSet<&'static str> {
    let mut open = BTreeMap::<String, String>::new();
    let (mut tested, mut seen, mut ended) = (BTreeSet::new(), BTreeSet::<String>::new(), BTreeSet::new());
    for Record { call, error } in records {
        let folder = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
        let (kind, name) = match call {
            Call::Put { key, .. } => (format!("put {}", folder(key.as_str())), key.to_string()),
            Call::Delete { key } => (format!("delete {}", folder(key.as_str())), key.to_string()),
            Call::List { prefix, .. } => (format!("list {}", folder(prefix.as_str())), String::new()),
            Call::Flush => {
                open.clear();
                continue;
            }
            _ => continue,
        };
        for (why, _, before) in ORDERS.iter().filter(|(_, wanted, _)| *wanted == kind) {
            if before.iter().any(|earlier| seen.contains(*earlier)) {
                tested.insert(*why);
            }
            let breach = open.iter().find(|(_, earlier)| before.contains(&earlier.as_str()));
            assert!(breach.is_none(), "{what}: {kind} {name}: {why}, but not durable: {breach:?}");
        }
        for (why, end, late, anew) in ENDS {
            assert!(kind != late || !ended.contains(end), "{what}: {kind} {name}: {why}");
            ended.retain(|kept| *kept != end || kind != anew);
            ended.extend((kind == end).then_some(end));
        }
        if error.is_none() && !kind.starts_with("list") {
            seen.insert(kind.clone());
            open.insert(name, kind);
        }
    }
    open.retain(|_, kind| !at_the_end.contains(&kind.as_str()));
    assert!(open.is_empty(), "{what}: not durable at the end: {open:?}");
    tested
}

/// A client of the world, and what it asks of its storage.
fn client_of_the_world() -> (Repository, RecordingStorage) {
    begin_script(7, NOW_MS);
    let recording = RecordingStorage::new(Arc::new(WORLD.storage.duplicate()));
    (open(recording.clone(), Path::new(NO_CACHE)).unwrap(), recording)
}

#[test]
fn of_backups() {
    let (repo, recording) = client_of_the_world();
    for name in ["one", "two", "three"] {
        recording.take_records();
        backup(&repo, name, &data(name)).unwrap();
        let tested = look(name, &recording.take_records(), &["delete sessions"]);
        assert!(tested.len() >= 3, "{name}: {tested:?}");
    }
    suspend(&repo, "half again", &data("other"));
    look("an interrupted backup", &recording.take_records(), &[]);
}

#[test]
fn of_marks_in_the_trash() {
    let (repo, recording) = client_of_the_world();
    let id = repo.find_archive("kept").unwrap().manifest.id;
    repo.delete_archive(&id).unwrap();
    look("delete", &recording.take_records(), &[]);
    repo.undelete_archive(&id).unwrap();
    look("undelete", &recording.take_records(), &[]);
    repo.remark(&id, |remarks| remarks.protected = true).unwrap();
    look("protect", &recording.take_records(), &[]);
}

#[test]
fn of_collections() {
    let (repo, recording) = client_of_the_world();
    // One that has died, and is fenced.
    let dead = begin(&repo, "dead").unwrap();
    recording.take_records();
    // What comes back in a crash is taken away again by the next one.
    let at_the_end = ["delete condemned", "delete sessions", "delete trash", "delete index"];
    collect(&repo, Duration::ZERO).unwrap();
    let mut tested = look("first collection", &recording.take_records(), &at_the_end);
    drop(dead);
    for name in ["kept", "delta"] {
        repo.delete_archive(&repo.find_archive(name).unwrap().manifest.id).unwrap();
        recording.take_records();
        collect(&repo, Duration::ZERO).unwrap();
        tested.extend(look("next collection", &recording.take_records(), &at_the_end));
    }
    println!("{tested:#?}");
    assert!(tested.len() >= 10, "{} orders were put to the test", tested.len());
}

#[test]
fn of_keys_and_of_a_new_repository() {
    begin_script(8, NOW_MS);
    let storage = MemoryStorage::new();
    let recording = RecordingStorage::new(Arc::new(storage.clone()));
    // What an init has left that died.
    storage.replace_raw("keys/0123456789abcdef", *b"slot");
    let repo = init_on(Arc::new(recording.clone()), Path::new(NO_CACHE), small_params());
    let tested = look("init", &recording.take_records(), &[]);
    assert!(tested.len() >= 2, "{tested:?}");
    let second = repo.add_key(&secret(2), "second").unwrap();
    look("key add", &recording.take_records(), &[]);
    repo.remove_key(&second).unwrap();
    look("key remove", &recording.take_records(), &[]);
    repo.replace_key(&secret(3)).unwrap();
    assert!(!look("key change", &recording.take_records(), &[]).is_empty());
}
