//! Restores of SQLite databases over live, stale, busy and broken ones.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use common::{read_all, restore};
use dbvault_format::entry::EntryMeta;
use dbvault_source::{
    Error, Interrupt, SqliteOptions, SqliteSource, SqliteTarget, SqliteTargetOptions, Target,
};
use rusqlite::Connection;
use tempfile::TempDir;

fn target(path: &Path) -> SqliteTarget {
    SqliteTarget::new(SqliteTargetOptions::new(path)).expect("good options")
}

fn make(path: &Path, mode: &str, value: &str) -> Connection {
    let connection = Connection::open(path).expect("open");
    let sql = format!(
        "PRAGMA journal_mode = {mode}; CREATE TABLE t (v TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO t SELECT '{value}' || i FROM n"
    );
    connection.execute_batch(&sql).expect("fill");
    connection
}

fn first(path: &Path) -> String {
    let connection = Connection::open(path).expect("open");
    let words: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
    assert_eq!(words, "ok");
    connection.query_row("SELECT v FROM t ORDER BY rowid LIMIT 1", [], |row| row.get(0)).expect("select")
}

fn backup(path: &Path) -> (EntryMeta, Vec<u8>) {
    let source = SqliteSource::new(SqliteOptions::new(path)).expect("good options");
    let (meta, bytes, _) = read_all(source).expect("backup");
    (meta, bytes)
}

/// A backup of a database in this mode whose first value is "new1".
fn new_one(dir: &TempDir, mode: &str) -> (EntryMeta, Vec<u8>) {
    let path = dir.path().join(format!("origin-{mode}.db"));
    drop(make(&path, mode, "new"));
    let backed_up = backup(&path);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&path, suffix));
    }
    backed_up
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn names(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).expect("list").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_database_comes_back_where_none_is() {
    for mode in ["delete", "wal"] {
        let dir = tempfile::tempdir().unwrap();
        let (meta, bytes) = new_one(&dir, mode);
        let path = dir.path().join("live ö'%.db");
        // Companions of a database that is gone.
        fs::write(beside(&path, "-wal"), b"stale").unwrap();
        fs::write(beside(&path, "-journal"), b"stale").unwrap();
        assert_eq!(target(&path).occupied().unwrap(), None);
        restore(target(&path), &meta, &bytes).unwrap();
        assert_eq!(names(&dir), ["live ö'%.db"]);
        assert!(fs::read(&path).unwrap() == bytes);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(first(&path), "new1");
    }
}

#[test]
fn a_stale_wal_of_the_old_database_is_never_applied_to_the_new_one() {
    for (old_mode, new_mode) in [("wal", "wal"), ("wal", "delete"), ("delete", "wal"), ("persist", "delete")]
    {
        let dir = tempfile::tempdir().unwrap();
        let (meta, bytes) = new_one(&dir, new_mode);
        // A crash: the files of an open database, copied as they are.
        let running = dir.path().join("running.db");
        let connection = make(&running, old_mode, "old");
        connection.execute("UPDATE t SET v = 'older'", []).unwrap();
        let path = dir.path().join("live.db");
        for suffix in ["", "-wal", "-journal"] {
            let _ = fs::copy(beside(&running, suffix), beside(&path, suffix));
        }
        drop(connection);
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(beside(&running, suffix));
        }
        assert_eq!(beside(&path, "-wal").exists(), old_mode == "wal");
        assert!(target(&path).occupied().unwrap().unwrap().contains("live.db"));
        restore(target(&path), &meta, &bytes).unwrap();
        assert_eq!(names(&dir), ["live.db"], "{old_mode} {new_mode}");
        assert!(fs::read(&path).unwrap() == bytes);
        assert_eq!(first(&path), "new1");
    }
}

#[test]
fn a_database_in_use_is_left_alone() {
    for mode in ["wal", "delete"] {
        let dir = tempfile::tempdir().unwrap();
        let (meta, bytes) = new_one(&dir, mode);
        let path = dir.path().join("live.db");
        let user = make(&path, mode, "old");
        user.execute_batch("BEGIN; SELECT * FROM t LIMIT 1").unwrap();
        user.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap();
        match restore(target(&path), &meta, &bytes) {
            Err(Error::Database { message, .. }) => assert!(message.contains("lock"), "{message}"),
            other => panic!("{other:?}"),
        }
        user.execute_batch("COMMIT; INSERT INTO t VALUES ('still mine')").unwrap();
        let now: String = user.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        drop(user);
        assert_eq!((first(&path).as_str(), now.as_str()), ("old1", mode));
        assert_eq!(names(&dir), ["live.db"]);
    }
}

#[test]
fn a_program_that_keeps_the_old_file_open_cannot_write_to_it_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (meta, bytes) = new_one(&dir, "delete");
    let path = dir.path().join("live.db");
    let idle = make(&path, "delete", "old");
    restore(target(&path), &meta, &bytes).unwrap();
    assert!(idle.execute("INSERT INTO t VALUES ('lost')", []).is_err());
    drop(idle);
    assert!(fs::read(&path).unwrap() == bytes);
    assert_eq!(names(&dir), ["live.db"]);
}

#[test]
fn a_broken_database_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (meta, bytes) = new_one(&dir, "wal");
    let path = dir.path().join("live.db");
    fs::write(&path, "scrambled ".repeat(5_000)).unwrap();
    fs::write(beside(&path, "-wal"), b"of the scrambled one").unwrap();
    restore(target(&path), &meta, &bytes).unwrap();
    assert_eq!(names(&dir), ["live.db"]);
    assert_eq!(first(&path), "new1");
    fs::write(&path, b"").unwrap();
    restore(target(&path), &meta, &bytes).unwrap();
    assert_eq!(first(&path), "new1");
}

#[test]
fn what_is_not_whole_is_refused_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (meta, bytes) = new_one(&dir, "delete");
    let path = dir.path().join("live.db");
    drop(make(&path, "wal", "old"));
    let before = fs::read(&path).unwrap();
    for cut in [0, 1, 99, 100, 4_096, bytes.len() - 4_096, bytes.len() - 1] {
        let error = restore(target(&path), &meta, &bytes[..cut]).unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. } | Error::Empty { .. }), "{cut}: {error:?}");
    }
    let mut damaged = bytes.clone();
    let half = damaged.len() / 2;
    damaged[half..half + 3_000].fill(0xAA);
    assert!(matches!(restore(target(&path), &meta, &damaged), Err(Error::Database { .. })));

    let interrupt = Interrupt::default();
    let options = SqliteTargetOptions { interrupt: interrupt.clone(), ..SqliteTargetOptions::new(&path) };
    let mut stopped = SqliteTarget::new(options).unwrap();
    stopped.load(&meta, &mut &bytes[..]).unwrap();
    assert_eq!(names(&dir).len(), 2);
    interrupt.store(true, Ordering::Relaxed);
    assert!(matches!(Box::new(stopped).finish(), Err(Error::Interrupted)));
    assert_eq!(names(&dir), ["live.db"]);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_symbolic_link_stays_one_and_owner_and_mode_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut meta, bytes) = new_one(&dir, "delete");
    meta.attributes.remove("mode");
    let (path, link) = (dir.path().join("live.db"), dir.path().join("link.db"));
    drop(make(&path, "delete", "old"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
    }
    std::os::unix::fs::symlink(&path, &link).unwrap();
    restore(target(&link), &meta, &bytes).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    if root {
        use std::os::unix::fs::MetadataExt;
        assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
    }
    assert_eq!(first(&path), "new1");
}
