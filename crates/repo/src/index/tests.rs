use std::path::Path;

use dbvault_format::compress::Codec;
use dbvault_format::id::{ChunkId, PackName, RepoId, Salt, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::pack::ChunkEntry;
use dbvault_format::similarity::SuperFeatures;

use super::database::Database;
use super::load::{FileOptions, Load};

const REPO: RepoId = RepoId([1; 32]);
const SESSION: SessionId = SessionId([2; 16]);

/// Chunk number `number`; every third is a delta against the one before it.
fn entry(number: u64) -> ChunkEntry {
    let base = number.is_multiple_of(3).then(|| id(number.wrapping_sub(1)));
    ChunkEntry {
        id: id(number),
        codec: if base.is_some() { Codec::Delta } else { Codec::Zstd },
        depth: u8::from(base.is_some()),
        plain_len: 1000,
        sealed_len: 100 + number as u32 % 50,
        base,
        features: Some(SuperFeatures([number / 2, number / 3 + (1 << 40), number])),
    }
}

fn id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn pack(name: u8, chunks: impl IntoIterator<Item = u64>) -> PackListing {
    let entries = chunks.into_iter().map(entry).collect();
    PackListing { name: PackName([name; 32]), salt: Salt([name; 32]), size_bytes: 1 << 20, entries }
}

/// Chunks 100 to 199 have two copies, 150 to 159 three, and pack 1 is listed twice.
fn segment() -> IndexSegment {
    let packs = vec![pack(1, 0..200), pack(2, 100..300), pack(1, 0..200), pack(3, (150..160).rev())];
    IndexSegment { packs }
}

fn loaded(path: &Path) -> Database {
    let database = Database::create(path, &REPO).unwrap();
    let options = FileOptions::default();
    let mut load = Load::start(&database, &options);
    load.add_segment("segment", &SESSION, &segment()).unwrap();
    load.finish().unwrap();
    database
}

fn filled(path: &Path) -> Database {
    let database = Database::create(path, &REPO).unwrap();
    database.set_owner().unwrap();
    database.add_segment("segment", &SESSION, &segment()).unwrap();
    database
}

fn assert_answers(database: &Database) {
    let ids: Vec<ChunkId> = (0..310).map(id).collect();
    let some = database.locate_many(&ids).unwrap();
    for (number, some) in (0..310).zip(some) {
        let all = database.locate(&id(number)).unwrap();
        let mut packs: Vec<u32> = all.iter().map(|copy| copy.pack).collect();
        packs.sort_unstable();
        let expected: &[u32] = match number {
            150..160 => &[0, 1, 2],
            100..200 => &[0, 1],
            0..100 => &[0],
            200..300 => &[1],
            _ => &[],
        };
        assert_eq!(packs, expected, "chunk {number}");
        assert_eq!(some.is_empty(), all.is_empty());
        assert!(some.iter().all(|copy| all.contains(copy)));
        let as_listed = ChunkEntry { features: None, ..entry(number) };
        assert!(all.iter().all(|copy| copy.entry == as_listed));
    }
    // The newest that has the feature; one that has more of them goes first.
    let features = |number: u64| entry(number).features.unwrap();
    assert_eq!(database.similar(&features(220)).unwrap(), [id(221), id(220)]);
    assert_eq!(database.similar(&features(5_000)).unwrap(), []);
}

#[test]
fn an_index_that_is_loaded_and_one_that_is_filled_answer_alike() {
    let dir = tempfile::tempdir().unwrap();
    for make in [loaded, filled] {
        let path = dir.path().join("index");
        assert_answers(&make(&path));
        assert_answers(&Database::open(&path, &REPO).unwrap());
        assert!(Database::open(&path, &RepoId([9; 32])).is_err());
        std::fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_load_that_did_not_end_is_never_used() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(dir.path(), &REPO).unwrap();
    assert!(database.is_empty().unwrap() && !database.is_owned().unwrap());
    let options = FileOptions::default();
    let mut load = Load::start(&database, &options);
    load.add_segment("segment", &SESSION, &segment()).unwrap();
    assert!(!database.is_empty().unwrap() && !database.is_owned().unwrap());
    drop(load);
    drop(database);
    assert!(Database::open(dir.path(), &REPO).is_err());
}

#[test]
fn a_closed_database_knows_nothing_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = loaded(dir.path());
    assert_eq!(database.locate_many(&[id(1), id(2)]).unwrap().concat().len(), 2);
    database.close();
    // Numbers of packs will mean others: no neighbour may be found that was remembered before.
    assert!(database.locate_many(&[id(2)]).is_err());
}

#[test]
fn what_is_opened_to_be_read_answers_alike_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path()));
    let files = || {
        let mut names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        // What RocksDB says of its own work.
        names.retain(|name| !name.to_string_lossy().starts_with("LOG"));
        names.sort();
        names
    };
    let before = files();
    let database = Database::open_read_only(directory.path(), &REPO).unwrap();
    assert!(database.is_read_only());
    assert_answers(&database);
    database.set_root_number(7).unwrap_err();
    database.add_segment("another", &SESSION, &segment()).unwrap_err();
    drop(database);
    assert_eq!(files(), before);
    assert!(!Database::open(directory.path(), &REPO).unwrap().is_read_only());
    Database::open_read_only(directory.path(), &RepoId([9; 32])).unwrap_err();
}

#[test]
fn files_stay_few_however_often_something_is_added() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path()));
    for number in 0..60 {
        let database = Database::open(directory.path(), &REPO).unwrap();
        database
            .add_pack(
                &SESSION,
                &pack(number + 10, u64::from(number) * 50 + 1000..u64::from(number) * 50 + 1050),
            )
            .unwrap();
        database.add_segment_name(&format!("segment {number}")).unwrap();
    }
    let files = std::fs::read_dir(directory.path()).unwrap();
    let tables =
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "sst"));
    let count = tables.count();
    assert!(count <= 40, "{count} files");
    let database = Database::open_read_only(directory.path(), &REPO).unwrap();
    assert_eq!(database.locate_many(&[id(1000), id(1000 + 59 * 50)]).unwrap().concat().len(), 2);
}
