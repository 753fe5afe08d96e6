//! Tables of two archives compared: right to the row, and cheap where little changed.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dbvault_format::config::RepoParams;
use dbvault_format::key_slot::Secret;
use dbvault_jobs::backup::{BackupRequest, backup};
use dbvault_jobs::diff::{Change, diff};
use dbvault_jobs::diff_tables::{TableDiff, tables};
use dbvault_repo::{Client, NoMonitor, Repository};
use dbvault_source::{PostgresFormat, PostgresOptions, PostgresSource, Source};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::postgres_server::PostgresServer;
use dbvault_testkit::recording_storage::RecordingStorage;
use zeroize::Zeroizing;

fn repository(storage: RecordingStorage, cache: &Path) -> Repository {
    let client = Client {
        host: "host".into(),
        user: "user".into(),
        cache_dir: cache.to_owned(),
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    let secret = Secret::KeyFile(Zeroizing::new(vec![1; 32]));
    Repository::init(Arc::new(storage), client, RepoParams::default(), &secret, "first").unwrap()
}

fn back_up(repository: &Repository, server: &PostgresServer, archive: &str, format: PostgresFormat) {
    let options = PostgresOptions {
        host: Some(server.socket_dir().display().to_string()),
        port: Some(server.port()),
        user: Some(server.user().to_owned()),
        format,
        ..PostgresOptions::new("users")
    };
    let source: Box<dyn Source> = Box::new(PostgresSource::new(options).unwrap());
    let request = BackupRequest { archive_name: Some(archive.to_owned()), ..BackupRequest::default() };
    backup(std::slice::from_ref(repository), "host", vec![source], &request, Arc::new(NoMonitor)).unwrap();
}

/// The tables of `users`, and how many times and bytes the storage was read for it.
fn compare(
    repository: &Repository,
    storage: &RecordingStorage,
    (older, newer): (&str, &str),
) -> (Vec<TableDiff>, usize, u64) {
    let manifest = |name: &str| repository.find_archive(name).unwrap().manifest;
    let (older, newer) = (manifest(older), manifest(newer));
    let reader = repository.reader(Arc::new(NoMonitor)).unwrap();
    storage.take_records();
    let entries = diff(&reader, &older, &newer, &[]).unwrap();
    let found = tables(&reader, &entries[0]).unwrap().unwrap();
    (found, storage.gets_count(), storage.read_bytes())
}

fn of<'a>(tables: &'a [TableDiff], name: &str) -> &'a TableDiff {
    tables.iter().find(|table| table.table == name).unwrap()
}

fn compares(format: PostgresFormat) {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    let sql = |sql: &str| server.psql("users", sql).unwrap();
    server.psql("postgres", "CREATE DATABASE users").unwrap();
    sql(
        "CREATE TABLE big AS SELECT id, md5(id::text) || md5(id::text || 'x') || md5(id::text || 'y') AS text \
         FROM generate_series(1, 600000) id; CREATE TABLE gone AS SELECT 1 AS x; CREATE TABLE same AS SELECT 2 AS x; \
         CREATE TABLE columns AS SELECT 3 AS x; CREATE TABLE empty (x text); CREATE TABLE twice AS SELECT 'a' AS x \
         FROM generate_series(1, 5)",
    );
    let (cache, storage) =
        (tempfile::tempdir().unwrap(), RecordingStorage::new(Arc::new(MemoryStorage::new())));
    let repository = repository(storage.clone(), cache.path());
    back_up(&repository, &server, "one", format);
    sql("INSERT INTO big VALUES (-1, 'new'), (-2, E'two\\nlines'); DELETE FROM big WHERE id = 300000; \
         DROP TABLE gone; CREATE TABLE came AS SELECT 1 AS x UNION ALL SELECT 2; \
         ALTER TABLE columns ADD y int; INSERT INTO empty VALUES (''), (NULL), (E'\\\\.'); \
         DELETE FROM twice WHERE ctid IN (SELECT ctid FROM twice LIMIT 2)");
    back_up(&repository, &server, "two", format);
    let stored_bytes = 600_000 * 100;
    let (found, gets, bytes) = compare(&repository, &storage, ("one", "two"));
    let rows = |name: &str| {
        let table = of(&found, name);
        (table.change, table.old_rows, table.new_rows, table.removed_rows, table.added_rows)
    };
    assert_eq!(rows("public.big"), (Change::Changed, Some(600_000), Some(600_001), Some(1), Some(2)));
    assert_eq!(rows("public.gone"), (Change::Removed, Some(1), None, Some(1), Some(0)));
    assert_eq!(rows("public.came"), (Change::Added, None, Some(2), Some(0), Some(2)));
    assert_eq!(rows("public.same"), (Change::Unchanged, Some(1), Some(1), Some(0), Some(0)));
    assert_eq!(rows("public.empty"), (Change::Changed, Some(0), Some(3), Some(0), Some(3)));
    assert_eq!(rows("public.twice"), (Change::Changed, Some(5), Some(3), Some(2), Some(0)));
    assert!(of(&found, "public.columns").columns_changed);
    assert_eq!(rows("public.columns").3, None);
    assert!(bytes < stored_bytes / 8, "{format:?}: {bytes} bytes of the storage were read, in {gets} reads");
    assert!(gets < 100, "{format:?}: {gets} reads");
    // Other rows everywhere, and the same rows in another order.
    sql("UPDATE big SET text = text || 'z' WHERE id % 1000 = 0; UPDATE same SET x = x");
    back_up(&repository, &server, "three", format);
    let (found, ..) = compare(&repository, &storage, ("two", "three"));
    let big = of(&found, "public.big");
    assert_eq!((big.removed_rows, big.added_rows), (Some(599), Some(599)));
    assert_eq!(of(&found, "public.same").change, Change::Unchanged);
    let (found, ..) = compare(&repository, &storage, ("three", "three"));
    assert!(found.iter().all(|table| table.change == Change::Unchanged));
}

#[test]
fn tables_of_custom_dumps_are_compared_by_what_changed() {
    compares(PostgresFormat::Custom);
}

#[test]
fn tables_of_plain_dumps_are_compared_by_what_changed() {
    compares(PostgresFormat::Plain);
}
