//! A restore for which the server has no room: it fails, what is live stays, and nothing is left that takes up the room
//! there is.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::path::Path;
use std::process::Command;

use cli_support::Home;
use cli_support::small_disk::SmallDisk;
use dbvault_testkit::mariadb_server::MariadbServer;
use dbvault_testkit::postgres_server::PostgresServer;
use dbvault_testkit::redis_server::RedisServer;

/// Room that is left on a server's disk, MiB: less than the database takes.
const ROOM_MIB: u64 = 12;
const PLENTY: &str = "size=2g";

/// Puts a directory, with all that is in it, on a disk of its own.
fn move_to_small_disk<'a>(directory: &'a Path, test: &str) -> Option<SmallDisk<'a>> {
    let away = directory.with_extension("away");
    std::fs::rename(directory, &away).unwrap();
    let disk = SmallDisk::mount(directory, PLENTY, test);
    let from = if disk.is_some() { away.join(".") } else { away };
    let copied = Command::new("cp").arg("-a").arg(from).arg(directory).status().unwrap();
    assert!(copied.success());
    disk
}

/// Leaves [`ROOM_MIB`] of it.
fn fill(disk: &SmallDisk, directory: &Path) {
    let used = Command::new("du").arg("-sm").arg(directory).output().unwrap().stdout;
    let used: u64 = String::from_utf8(used).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    disk.resize(&format!("size={}m", used + ROOM_MIB));
}

fn words(first: &[&str], rest: &[&str]) -> Vec<String> {
    first.iter().chain(rest).map(|word| (*word).to_owned()).collect()
}

#[test]
fn postgres_without_room_keeps_what_it_has() {
    let mut server = PostgresServer::start().unwrap();
    server.create_database("users").unwrap();
    let sql =
        "CREATE TABLE t AS SELECT id, repeat(md5(id::text), 8) AS text FROM generate_series(1, 100000) id";
    server.psql("users", sql).unwrap();
    let home = Home::with_repository();
    let host = server.socket_dir().display().to_string();
    let place = ["--host", &host, "--username", server.user()].map(str::to_owned);
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    home.ok(words(&["backup", "--postgres", "users"], &place));
    let backed_up = server.row_hashes("users").unwrap();
    server.psql("users", "DELETE FROM t WHERE id % 2 = 0").unwrap();
    let live = server.row_hashes("users").unwrap();

    server.kill();
    let base = server.data_dir().join("base");
    let Some(disk) = move_to_small_disk(&base, "postgres_without_room_keeps_what_it_has") else { return };
    server.restart().unwrap();
    fill(&disk, &base);
    let restore = words(&["restore", "--archive", "latest", "--yes"], &place);
    home.fails(&restore, 11, "No space left on device");
    assert!(server.row_hashes("users").unwrap() == live, "the rows differ");
    let left =
        server.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE '%dbvault%'").unwrap();
    assert_eq!(left.trim(), "");
    disk.resize(PLENTY);
    home.ok(&restore);
    assert!(server.row_hashes("users").unwrap() == backed_up, "the rows differ");
    // Before the directory goes, in which it is mounted.
    server.kill();
    drop(disk);
}

#[test]
fn mariadb_without_room_keeps_what_it_has() {
    let mut server = MariadbServer::start().unwrap();
    server.sql("", "CREATE DATABASE users").unwrap();
    let sql = "CREATE TABLE t (id INT PRIMARY KEY, text TEXT); \
               INSERT INTO t SELECT seq, REPEAT(MD5(seq), 8) FROM seq_1_to_100000";
    server.sql("users", sql).unwrap();
    let home = Home::with_repository();
    let socket = server.socket().display().to_string();
    let place = ["--host", &socket, "--username", server.user()].map(str::to_owned);
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    home.ok(words(&["backup", "--mariadb", "users"], &place));
    let backed_up = server.row_hashes("users").unwrap();
    server.sql("users", "DELETE FROM t WHERE id % 2 = 0").unwrap();
    let live = server.row_hashes("users").unwrap();

    server.kill();
    let data = server.data_dir();
    let Some(disk) = move_to_small_disk(&data, "mariadb_without_room_keeps_what_it_has") else { return };
    server.restart().unwrap();
    fill(&disk, &data);
    let restore = words(&["restore", "--archive", "latest", "--yes"], &place);
    let failed = home.fails(&restore, 11, "cannot restore users");
    // Which of them depends on what there was no room for: a table's rows or its file.
    assert!(
        ["is full", "No space left", "No more room"].iter().any(|why| failed.stderr.contains(why)),
        "{failed:#?}"
    );
    assert!(server.row_hashes("users").unwrap() == live, "the rows differ");
    assert_eq!(server.sql("", "SHOW DATABASES LIKE '%dbvault%'").unwrap().trim(), "");
    disk.resize(PLENTY);
    home.ok(&restore);
    assert!(server.row_hashes("users").unwrap() == backed_up, "the rows differ");
    // Before the directory goes, in which it is mounted.
    server.kill();
    drop(disk);
}

#[test]
fn redis_without_memory_keeps_what_it_has() {
    let server = RedisServer::start(&[]).unwrap();
    let sets =
        |from: u32| (from..from + 50_000).map(|n| format!("SET key{n} value{n}\n")).collect::<String>();
    server.commands(&sets(0)).unwrap();
    let home = Home::with_repository();
    let socket = server.socket().display().to_string();
    home.ok(["backup", "--redis", "all", "--host", &socket]);
    let backed_up = server.digest(0).unwrap();
    server.command(&["FLUSHALL"]).unwrap();
    server.command(&["SET", "live", "1"]).unwrap();
    let live = server.digest(0).unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "3mb"]).unwrap();
    let restore = ["restore", "--archive", "latest", "--yes", "--host", &socket];
    home.fails(restore, 11, "maxmemory");
    assert_eq!(server.digest(0).unwrap(), live);
    assert!(!server.command(&["INFO", "keyspace"]).unwrap().contains("db1:"));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    home.ok(restore);
    assert_eq!(server.digest(0).unwrap(), backed_up);
}

#[test]
fn sqlite_without_room_keeps_what_it_has() {
    let home = Home::with_repository();
    let directory = home.path("disk");
    let Some(disk) = SmallDisk::mount(&directory, PLENTY, "sqlite_without_room_keeps_what_it_has") else {
        return;
    };
    let file = directory.join("app.db");
    let app = rusqlite::Connection::open(&file).unwrap();
    let sql = "CREATE TABLE t AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 100000) \
               SELECT id, hex(randomblob(100)) AS text FROM n";
    app.execute_batch(sql).unwrap();
    drop(app);
    let path = file.display().to_string();
    home.ok(["backup", "--sqlite", &path]);
    let backed_up = std::fs::read(&file).unwrap();
    rusqlite::Connection::open(&file).unwrap().execute_batch("DELETE FROM t WHERE id % 2 = 0").unwrap();
    let live = std::fs::read(&file).unwrap();
    fill(&disk, &directory);
    home.fails(["restore", "--archive", "latest", "--yes"], 16, "No space left on device");
    assert!(std::fs::read(&file).unwrap() == live);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    disk.resize(PLENTY);
    home.ok(["restore", "--archive", "latest", "--yes"]);
    assert_eq!(std::fs::read(&file).unwrap().len(), backed_up.len());
}
