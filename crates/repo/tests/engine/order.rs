//! The order in which a backup writes: what is spoken of is durable before it is spoken of.

use std::collections::BTreeSet;
use std::sync::Arc;

use dbvault_format::entry::Grid;
use dbvault_format::header::ObjectKind;
use dbvault_format::index_segment::IndexSegment;
use dbvault_repo::Repository;
use dbvault_storage::{MemoryStorage, Storage};
use dbvault_testkit::recording_storage::{Call, Record, RecordingStorage};

use crate::common::*;
use crate::objects::*;

/// Objects made so far, and those of them that a flush has made durable since.
#[derive(Default)]
struct Seen {
    made: BTreeSet<String>,
    durable: BTreeSet<String>,
}

impl Seen {
    fn note(&mut self, call: &Call) {
        match call {
            Call::Put { key, .. } => drop(self.made.insert(key.as_str().to_owned())),
            Call::Flush => self.durable.extend(std::mem::take(&mut self.made)),
            _ => {}
        }
    }
}

/// Checks the calls of one backup that was committed.
fn assert_order(records: &[Record], storage: &MemoryStorage, repo: &Repository, id: &str) {
    let (mut seen, mut segments, mut committed) = (Seen::default(), 0, false);
    for Record { call, error } in records {
        assert_eq!(*error, None, "{call:?}");
        match call {
            Call::Put { key, .. } if key.as_str().starts_with("index/") => {
                let body = read_sealed(storage, repo, key.as_str(), ObjectKind::IndexSegment);
                for pack in IndexSegment::decode(&body).unwrap().packs {
                    assert!(seen.durable.contains(&pack_object(&pack.name)), "{key} lists {}", pack.name);
                }
                segments += 1;
            }
            Call::Put { key, .. } if key.as_str().starts_with("archives/") => {
                assert_eq!(key.as_str(), format!("archives/{id}"));
                assert_eq!(seen.made, BTreeSet::new(), "not durable at the commit");
                committed = true;
            }
            Call::Put { key, .. } => assert!(!committed, "{key} is put after the commit"),
            Call::List { prefix, .. } if prefix.as_str() == "condemned" => {
                let registration = format!("sessions/{id}/00000000");
                assert!(seen.durable.contains(&registration), "the view is read before the session counts");
            }
            Call::Delete { key } => {
                assert!(
                    seen.durable.contains(&format!("archives/{id}")),
                    "{key} goes before the archive counts"
                );
            }
            _ => {}
        }
        seen.note(call);
    }
    assert!(committed && segments > 1, "{segments} segments");
    assert_eq!(seen.made, BTreeSet::new(), "not durable at the end");
}

#[test]
fn packs_are_durable_before_segments_and_segments_before_the_archive() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let recording = RecordingStorage::new(Arc::new(storage.clone()));
    let repo = init(recording.clone(), dir.path());
    for (name, seed) in [("first", 1), ("second", 2)] {
        recording.take_records();
        // More packs than go into one segment.
        let data = streams(&[("noise", &noise(4 << 20, seed))]);
        let id = backup(&repo, name, &data).unwrap().id;
        // The first list of archives looks for the name only.
        let records = recording.take_records();
        assert_order(&records, &storage, &repo, &id.to_string());
    }
}

#[test]
fn the_view_is_read_in_the_order_of_the_protocol() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let recording = RecordingStorage::new(Arc::new(storage.clone()));
    let repo = init(recording.clone(), dir.path());
    recording.take_records();
    drop(begin(&repo, "archive").unwrap());
    let is = |call: &Call, wanted: &str| match call {
        Call::Put { key, .. } => wanted == "sessions" && key.as_str().starts_with("sessions/"),
        Call::List { prefix, .. } => prefix.as_str() == wanted,
        _ => false,
    };
    let calls = recording.calls();
    let last = |wanted: &str| calls.iter().rposition(|call| is(call, wanted)).unwrap();
    let order = ["sessions", "condemned", "roots", "archives", "index"].map(last);
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn nothing_is_written_by_what_only_reads() {
    let (dir, storage) = (temporary_dir(), MemoryStorage::new());
    let recording = RecordingStorage::new(Arc::new(storage));
    let repo = init(recording.clone(), dir.path());
    let data = streams(&[("noise", &noise(100 << 10, 1))]);
    backup_on(&repo, "archive", Grid::Content, &data).unwrap();
    recording.take_records();
    let repo = open(recording.clone(), &dir.path().join("elsewhere")).unwrap();
    assert_archives(&repo, &[("archive".to_owned(), data)].into(), None);
    assert_clean(&repo);
    repo.key_slots().unwrap();
    Repository::probe(&recording as &dyn Storage).unwrap();
    let writes = |call: &Call| matches!(call, Call::Put { .. } | Call::Delete { .. } | Call::Flush);
    assert_eq!(recording.count(writes), 0);
}
