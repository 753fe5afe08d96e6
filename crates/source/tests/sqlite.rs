//! Backups of real SQLite databases: consistent, byte for byte, whatever goes on meanwhile.

mod common;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use dbvault_format::entry::{EntryKind, Grid, attribute};
use dbvault_source::{Error, Interrupt, Source, SqliteOptions, SqliteSource};
use rusqlite::Connection;
use tempfile::TempDir;

fn source(path: &Path) -> SqliteSource {
    SqliteSource::new(SqliteOptions::new(path)).expect("good options")
}

fn copying(path: &Path) -> SqliteSource {
    SqliteSource::new(SqliteOptions { always_copy: true, ..SqliteOptions::new(path) }).expect("good options")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn make(path: &Path, page_bytes: u32, mode: &str, rows: u32) -> Connection {
    let connection = Connection::open(path).expect("open");
    connection.busy_timeout(Duration::from_secs(10)).expect("busy time-out");
    let sql = format!(
        "PRAGMA page_size = {page_bytes}; PRAGMA journal_mode = {mode}; PRAGMA synchronous = OFF;
         CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, data BLOB);
         CREATE INDEX i ON t (text); CREATE VIEW v AS SELECT count(*) FROM t;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO t (text, data) SELECT hex(i * 7919), randomblob(i % 500) FROM n;"
    );
    connection.execute_batch(&sql).expect("fill");
    connection
}

/// All rows, and SQLite's own opinion.
fn content(path: &Path) -> Vec<(i64, String, Vec<u8>)> {
    let connection = Connection::open(path).expect("open");
    let words: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
    assert_eq!(words, "ok");
    let mut statement = connection.prepare("SELECT id, text, data FROM t ORDER BY id").expect("select");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

fn written(directory: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join("copy.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    fs::write(&path, bytes).expect("write");
    path
}

/// All bytes are those of the file; but where SQLite has no `sqlite_dbpage` the backup API writes the header anew.
fn first_exact_byte(path: &Path) -> usize {
    let connection = Connection::open(path).expect("open");
    if connection.prepare("SELECT 1 FROM sqlite_dbpage").is_ok() { 0 } else { 100 }
}

#[test]
fn every_page_size_and_mode_comes_out_byte_for_byte() {
    let dir = directory();
    for page_bytes in [512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536] {
        for mode in ["delete", "wal", "persist"] {
            let path = dir.path().join(format!("{page_bytes} {mode} ö'%?.db"));
            drop(make(&path, page_bytes, mode, 500));
            let file = fs::read(&path).unwrap();
            let (meta, bytes, _) = common::read_all(source(&path)).unwrap();
            assert_eq!(bytes.len(), file.len());
            let from = first_exact_byte(&path);
            assert!(bytes[from..] == file[from..], "{page_bytes} {mode}");
            for suffix in ["-wal", "-shm", "-journal"] {
                let left =
                    fs::metadata(format!("{}{suffix}", path.display())).is_ok_and(|left| left.len() > 0);
                assert!(!left || (mode, suffix) == ("persist", "-journal"), "{suffix} was left behind");
            }
            assert_eq!(meta.grid, Grid::Fixed(131_072));
            assert_eq!((meta.kind, meta.name.as_str()), (EntryKind::Sqlite, path.to_str().unwrap()));
            assert_eq!(meta.attributes[attribute::PAGE_SIZE_BYTES], page_bytes.to_string());
            assert_eq!(meta.attributes[attribute::MODE], "0644");
            let recorded = if mode == "wal" { "wal" } else { "delete" };
            assert_eq!(meta.attributes[attribute::JOURNAL_MODE], recorded);
            let (_, copied, _) = common::read_all(copying(&path)).unwrap();
            assert_eq!(copied.len(), file.len());
            assert_eq!(content(&written(&dir, &copied)), content(&path));
        }
    }
}

#[test]
fn odd_read_sizes_give_the_same_bytes() {
    let dir = directory();
    let path = dir.path().join("a.db");
    drop(make(&path, 1_024, "wal", 300));
    let (whole, from) = (fs::read(&path).unwrap(), first_exact_byte(&path));
    for size in [1, 7, 1_000, 1_023, 1_024, 1_025, 5_000] {
        let mut source: Box<dyn Source> = Box::new(source(&path));
        let mut body = source.open().unwrap().body;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; size]);
        loop {
            match body.read(&mut buffer).unwrap() {
                0 => break,
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        assert!(bytes.len() == whole.len() && bytes[from..] == whole[from..], "{size}");
        source.finish().unwrap();
    }
}

#[test]
fn rows_that_are_only_in_the_wal_are_there() {
    let dir = directory();
    let path = dir.path().join("a.db");
    let writer = make(&path, 4_096, "wal", 1_000);
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    for _ in 0..99 {
        writer.execute("INSERT INTO t (text) VALUES ('late')", []).unwrap();
    }
    writer.execute_batch("BEGIN; INSERT INTO t (text) VALUES ('not committed')").unwrap();
    for source in [source(&path), copying(&path)] {
        let (_, bytes, _) = common::read_all(source).unwrap();
        let copy = Connection::open(written(&dir, &bytes)).unwrap();
        let count: u32 = copy.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1_099);
    }
}

/// Writes all the time while backups are made. Each transaction moves an amount from one row to another.
fn with_a_busy_writer(mode: &str, make_source: impl Fn(&Path) -> SqliteSource) {
    let dir = directory();
    let path = dir.path().join("a.db");
    let writer = make(&path, 4_096, mode, 20_000);
    writer
        .execute_batch("CREATE TABLE m (id INTEGER PRIMARY KEY, amount INTEGER); CREATE TABLE log (n INTEGER);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO m SELECT i, 100 FROM n")
        .expect("works");
    let (done, committed) = (AtomicBool::new(false), AtomicI64::new(0));
    thread::scope(|scope| {
        let (done_seen, count) = (&done, &committed);
        scope.spawn(move || {
            let mut number: i64 = 0;
            while !done_seen.load(Ordering::Relaxed) {
                let (from, to) = (number * 7 % 2_000 + 1, number * 13 % 2_000 + 1);
                let sql = format!(
                    "BEGIN IMMEDIATE; UPDATE m SET amount = amount - 5 WHERE id = {from};
                     UPDATE m SET amount = amount + 5 WHERE id = {to}; INSERT INTO log VALUES ({number}); COMMIT"
                );
                writer.execute_batch(&sql).expect("the writer is never locked out");
                number += 1;
                count.store(number, Ordering::SeqCst);
            }
        });
        for _ in 0..8 {
            thread::sleep(Duration::from_millis(30));
            let before = committed.load(Ordering::SeqCst);
            let (_, bytes, _) = common::read_all(make_source(&path)).expect("backup");
            let copy = Connection::open(written(&dir, &bytes)).expect("open");
            let words: String =
                copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
            let sum: i64 = copy.query_row("SELECT sum(amount) FROM m", [], |row| row.get(0)).expect("sum");
            let log: i64 = copy.query_row("SELECT count(*) FROM log", [], |row| row.get(0)).expect("log");
            let last: i64 = copy
                .query_row("SELECT coalesce(max(n), -1) + 1 FROM log", [], |row| row.get(0))
                .expect("log");
            assert_eq!((words.as_str(), sum), ("ok", 200_000));
            assert!(log >= before && log == last, "{log} of {before}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_busy_writer_in_wal_mode_does_no_harm() {
    with_a_busy_writer("wal", source);
}

#[test]
fn a_busy_writer_in_rollback_mode_does_no_harm() {
    with_a_busy_writer("delete", source);
}

#[test]
fn a_busy_writer_does_no_harm_to_a_copy() {
    with_a_busy_writer("wal", copying);
    with_a_busy_writer("truncate", copying);
}

#[test]
fn a_writer_in_wal_mode_is_not_held_back_by_a_backup_that_stands_still() {
    let dir = directory();
    let path = dir.path().join("a.db");
    let writer = make(&path, 4_096, "wal", 20_000);
    writer.busy_timeout(Duration::ZERO).unwrap();
    let before = content(&path);
    let mut source: Box<dyn Source> = Box::new(source(&path));
    let mut body = source.open().unwrap().body;
    let mut bytes = vec![0; 10_000];
    body.read_exact(&mut bytes).unwrap();
    writer.execute_batch("DELETE FROM t WHERE id % 2 = 0; PRAGMA wal_checkpoint(PASSIVE); VACUUM").unwrap();
    body.read_to_end(&mut bytes).unwrap();
    source.finish().unwrap();
    assert_eq!(content(&written(&dir, &bytes)), before);
}

#[test]
fn what_is_no_database_is_told_apart() {
    let dir = directory();
    let open = |name: &str| source(&dir.path().join(name)).open().map(|_| ()).unwrap_err();
    assert!(matches!(open("absent.db"), Error::NoSuchDatabase { .. }));
    fs::create_dir(dir.path().join("dir.db")).unwrap();
    assert!(matches!(open("dir.db"), Error::Unsuitable { .. }));
    fs::write(dir.path().join("empty.db"), b"").unwrap();
    assert!(matches!(open("empty.db"), Error::Empty { .. }));
    fs::write(dir.path().join("text.db"), "no database ".repeat(1_000)).unwrap();
    match open("text.db") {
        Error::Database { message, .. } => assert!(message.contains("not an SQLite database, or encrypted")),
        other => panic!("{other:?}"),
    }
    let path = dir.path().join("cut.db");
    drop(make(&path, 4_096, "delete", 2_000));
    let whole = fs::read(&path).unwrap();
    for cut in [whole.len() - 1, whole.len() - 4_096, whole.len() / 2, 4_096, 200] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(common::read_all(source(&path)).is_err(), "{cut}");
        assert!(common::read_all(copying(&path)).is_err(), "{cut} copied");
    }
}

#[test]
fn a_lock_is_waited_for_and_the_wait_can_be_interrupted() {
    let dir = directory();
    let path = dir.path().join("a.db");
    let writer = make(&path, 4_096, "delete", 10);
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let interrupt = Interrupt::default();
    let options = SqliteOptions { interrupt: interrupt.clone(), ..SqliteOptions::new(&path) };
    let mut waiting = SqliteSource::new(options).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            interrupt.store(true, Ordering::Relaxed);
        });
        assert!(matches!(waiting.open(), Err(Error::Interrupted)));
        interrupt.store(false, Ordering::Relaxed);
    });
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(300));
            writer.execute_batch("COMMIT").unwrap();
        });
        waiting.open().unwrap();
    });
}

#[test]
fn what_a_crashed_writer_left_half_done_is_undone_first() {
    let dir = directory();
    let path = dir.path().join("a.db");
    let writer = make(&path, 4_096, "delete", 2_000);
    let before = content(&path);
    // A hot journal: the files as they are in the middle of a transaction that no longer fits in memory.
    writer.execute_batch("PRAGMA cache_size = 5; BEGIN; UPDATE t SET text = 'half'").unwrap();
    let crashed = dir.path().join("b.db");
    fs::copy(&path, &crashed).unwrap();
    fs::copy(dir.path().join("a.db-journal"), dir.path().join("b.db-journal")).unwrap();
    let (_, bytes, _) = common::read_all(source(&crashed)).unwrap();
    assert_eq!(content(&written(&dir, &bytes)), before);
}

#[test]
#[ignore = "writes 2 GB"]
fn the_lock_byte_page_is_passed_over() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = dir.path().join("a.db");
    let connection = make(&path, 65_536, "wal", 10);
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100)
         INSERT INTO t (text, data) SELECT 'big', zeroblob(1000000) FROM n";
    connection.execute_batch(sql).unwrap();
    drop(connection);
    for source in [source(&path), copying(&path)] {
        let (_, bytes, _) = common::read_all(source).unwrap();
        assert!(bytes.len() > 1 << 30);
        assert!(bytes[4_096..] == fs::read(&path).unwrap()[4_096..]);
    }
}
