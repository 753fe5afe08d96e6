//! Parts that several tests share.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use dbvault_format::entry::{EntryMeta, EntryReport};
use dbvault_source::{Error, PostgresOptions, PostgresTargetOptions, Secret, Source, Target};
use dbvault_testkit::postgres_server::PostgresServer;
use tempfile::TempDir;

/// A server for tests that neither stop nor reconfigure it.
pub(crate) fn shared_server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start().expect("PostgreSQL starts"))
}

pub(crate) fn source_options(server: &PostgresServer, database: &str) -> PostgresOptions {
    PostgresOptions {
        host: Some(server.socket_dir().to_string_lossy().into_owned()),
        port: Some(server.port()),
        user: Some(server.user().to_owned()),
        password: server.password().map(Secret::new),
        ..PostgresOptions::new(conninfo_name(database))
    }
}

pub(crate) fn target_options(server: &PostgresServer, database: &str) -> PostgresTargetOptions {
    PostgresTargetOptions {
        host: Some(server.socket_dir().to_string_lossy().into_owned()),
        port: Some(server.port()),
        user: Some(server.user().to_owned()),
        password: server.password().map(Secret::new),
        ..PostgresTargetOptions::new(conninfo_name(database))
    }
}

/// A name with "=" is only a name inside a connection string.
fn conninfo_name(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Everything a source gives; the error of whatever failed first.
pub(crate) fn read_all(source: impl Source + 'static) -> Result<(EntryMeta, Vec<u8>, EntryReport), Error> {
    let mut source: Box<dyn Source> = Box::new(source);
    let mut entry = source.open()?;
    let mut bytes = Vec::new();
    entry.body.read_to_end(&mut bytes).map_err(|error| Error::from_io("read", error))?;
    let report = source.finish()?;
    Ok((entry.meta, bytes, report))
}

/// Loads and swaps in.
pub(crate) fn restore(
    mut target: impl Target + 'static,
    meta: &EntryMeta,
    bytes: &[u8],
) -> Result<EntryReport, Error> {
    target.load(meta, &mut &bytes[..])?;
    Box::new(target).finish()
}

/// A directory of programs: the real `psql` and `pg_restore`, and a `pg_dump` that does what `script` says.
pub(crate) fn stand_in_pg_dump(server: &PostgresServer, script: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("temporary directory");
    for program in ["psql", "pg_restore"] {
        symlink(server.bin_dir().join(program), directory.path().join(program)).expect("symlink");
    }
    let version = "case \"$1\" in --version) echo 'pg_dump (PostgreSQL) 15.99'; exit 0;; esac";
    write_script(&directory.path().join("pg_dump"), &format!("#!/bin/sh\n{version}\n{script}\n"));
    directory
}

/// Written by another process: a handle for writing that another test's child inherits would make it "busy".
pub(crate) fn write_script(path: &Path, text: &str) {
    let script = "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"";
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(path).arg(text).status();
    assert!(status.expect("run sh").success());
}

/// Process ids of this program's children and below whose command line has all of `words`.
pub(crate) fn processes_with(words: &[&str]) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        words.iter().all(|word| line.contains(word))
    })
    .collect()
}

/// Whether no process has these words on its command line, in a moment: one that was killed is there until the system
/// gets to it.
pub(crate) fn none_left(words: &[&str]) -> bool {
    (0..100).any(|_| {
        let none = processes_with(words).is_empty();
        if !none {
            thread::sleep(Duration::from_millis(20));
        }
        none
    })
}

/// A bit of everything, in a database that must exist.
pub(crate) fn fill(server: &PostgresServer, database: &str) {
    let sql = r#"
        CREATE SCHEMA "Odd ""Schema";
        CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
        CREATE TABLE "Odd ""Schema"."Tä ble" (id bigserial PRIMARY KEY, "Col umn" text, m mood, at timestamptz);
        INSERT INTO "Odd ""Schema"."Tä ble" ("Col umn", m, at)
            SELECT repeat(md5(i::text), i % 7) || E'\t\\\n', 'happy', 'epoch'::timestamptz + i * interval '1 h'
            FROM generate_series(1, 5000) i;
        CREATE TABLE empty_table (a int, b int GENERATED ALWAYS AS (a * 2) STORED);
        CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
        CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200);
        INSERT INTO parted SELECT i, 'v' || i FROM generate_series(0, 199) i;
        CREATE INDEX ON parted (v);
        CREATE SEQUENCE counter START 42 INCREMENT 3;
        SELECT nextval('counter'), nextval('counter');
        CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
        CREATE VIEW seen AS SELECT k, twice(k) AS double FROM parted;
        CREATE MATERIALIZED VIEW frozen AS SELECT count(*) AS n FROM parted;
        SELECT lo_from_bytea(1001, decode(repeat('00ff10', 50000), 'hex'));
        SELECT lo_from_bytea(1002, '\x');
        SELECT lo_from_bytea(4000000000::oid, 'above 2^31');
        COMMENT ON TABLE empty_table IS 'nothing -- ''here''';
    "#;
    server.psql(database, sql).expect("fill");
}

/// About `megabytes` of one table.
pub(crate) fn fill_big(server: &PostgresServer, database: &str, megabytes: u32) {
    let rows = megabytes * 1_000_000 / 100;
    let sql = format!(
        "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 3) AS t FROM generate_series(1, {rows}) i;"
    );
    server.psql(database, &sql).expect("fill");
}
