//! What one small table out of a large dump costs: storage reads and their bytes, counted.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test; the proof is printed")]

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use dbvault_dump::Format;
use dbvault_format::config::RepoParams;
use dbvault_format::key_slot::Secret;
use dbvault_jobs::{contents, selection};
use dbvault_repo::{BackupOptions, Client, NoMonitor, Repository};
use dbvault_source::{PostgresFormat, PostgresOptions, PostgresSource, Source};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::postgres_server::PostgresServer;
use dbvault_testkit::recording_storage::RecordingStorage;
use zeroize::Zeroizing;

/// Rows of the large table; `DBVAULT_TEST_MB` makes it larger.
fn megabytes() -> u64 {
    std::env::var("DBVAULT_TEST_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

fn repository(storage: &RecordingStorage, cache: &Path) -> Repository {
    let client = Client {
        host: "host".into(),
        user: "user".into(),
        cache_dir: cache.to_owned(),
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    let secret = Secret::KeyFile(Zeroizing::new(vec![1; 32]));
    Repository::init(Arc::new(storage.clone()), client, RepoParams::default(), &secret, "first").unwrap()
}

/// A table of a few kB between two large ones.
fn with_tables() -> PostgresServer {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    server.create_database("users").unwrap();
    let rows = megabytes() * 1_000;
    for name in ["a_large", "z_large"] {
        // Rows of about 500 bytes that nothing is saved of.
        let text = "string_agg(md5(i || '.' || j || current_setting('work_mem') || :'name'), '')"
            .replace(":'name'", &format!("'{name}'"));
        let sql = format!(
            "CREATE TABLE {name} AS SELECT i, (SELECT {text} FROM generate_series(1, 15) j) AS text \
             FROM generate_series(1, {rows}) i"
        );
        server.psql("users", &sql).unwrap();
    }
    server
        .psql("users", "CREATE TABLE small AS SELECT i, 'row ' || i AS text FROM generate_series(1, 100) i")
        .unwrap();
    server
}

#[test]
fn a_small_table_out_of_a_large_dump_costs_few_reads() {
    let server = with_tables();
    for format in [PostgresFormat::Custom, PostgresFormat::Plain] {
        let (storage, cache) =
            (RecordingStorage::new(Arc::new(MemoryStorage::new())), tempfile::tempdir().unwrap());
        let repository = repository(&storage, cache.path());
        let options = PostgresOptions {
            host: Some(server.socket_dir().to_string_lossy().into_owned()),
            user: Some(server.user().to_owned()),
            format,
            ..PostgresOptions::new("users")
        };
        let mut source: Box<dyn Source> = Box::new(PostgresSource::new(options).unwrap());
        let mut backup = repository
            .begin_backup(BackupOptions { archive_name: "first".into(), comment: None }, Arc::new(NoMonitor))
            .unwrap();
        let mut entry = source.open().unwrap();
        let pending = backup.add_entry(entry.meta, &mut entry.body).unwrap();
        backup.finish_entry(pending, source.finish().unwrap());
        backup.commit().unwrap();

        let info = repository.find_archive("first").unwrap();
        let total_bytes = info.manifest.sizes.original_bytes;
        let reader = repository.reader(Arc::new(NoMonitor)).unwrap();
        let entries = reader.entries(&info.manifest).unwrap();
        let whole = selection::find_whole("first", &entries, "users").unwrap();
        storage.take_records();
        let began = Instant::now();
        let contents = contents::open(&reader, &whole).unwrap();
        let mut csv = Vec::new();
        let small = contents.find("small").unwrap();
        contents.rows(small, Format::Csv { header: false }).unwrap().read_to_end(&mut csv).unwrap();
        let small_ms = began.elapsed();
        // What was decoded ahead may still be reading.
        std::thread::sleep(Duration::from_millis(500));
        let (gets, bytes) = (storage.gets_count(), storage.read_bytes());
        assert_eq!(csv.iter().filter(|byte| **byte == b'\n').count(), 100);

        let began = Instant::now();
        let large = contents.find("a_large").unwrap();
        let copied =
            std::io::copy(&mut contents.rows(large, Format::Copy).unwrap(), &mut std::io::sink()).unwrap();
        assert_eq!(Some(copied), large.bytes);
        println!(
            "proof: {}: a table of {} bytes out of {total_bytes}: {gets} storage reads of {bytes} bytes in {small_ms:?}; one of {copied} bytes in {:?}",
            format.name(),
            csv.len(),
            began.elapsed(),
        );
        assert!(gets <= 12 && bytes < 4 << 20, "{gets} reads of {bytes} bytes");
    }
}
