//! Formats of dumps, dumps in parts, roles and tablespaces: there and back on real PostgreSQL servers.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::io::Read;
use std::thread;

use common::{fill, read_all, restore, shared_server, source_options, target_options};
use dbvault_format::entry::{EntryMeta, EntryReport, attribute, part};
use dbvault_source::{
    Error, Part, PostgresFormat, PostgresGlobalsSource, PostgresGlobalsTarget, PostgresOptions,
    PostgresSource, PostgresTarget, PostgresTargetOptions, Source, Target, postgres_databases,
    postgres_parts, row_counts,
};
use dbvault_testkit::postgres_server::PostgresServer;

type Dump = (EntryMeta, Vec<u8>, EntryReport);

fn dump(server: &PostgresServer, database: &str, format: PostgresFormat) -> Dump {
    let options = PostgresOptions { format, ..source_options(server, database) };
    read_all(PostgresSource::new(options).unwrap()).unwrap()
}

fn read(mut source: Box<dyn Source>) -> Result<Dump, Error> {
    let mut entry = source.open()?;
    let mut bytes = Vec::new();
    entry.body.read_to_end(&mut bytes).map_err(|error| Error::from_io("read", error))?;
    drop(entry.body);
    Ok((entry.meta, bytes, source.finish()?))
}

fn target(server: &PostgresServer, database: &str) -> PostgresTarget {
    PostgresTarget::new(target_options(server, database)).unwrap()
}

fn count(server: &PostgresServer, database: &str, table: &str) -> u64 {
    server.psql(database, &format!("SELECT count(*) FROM {table}")).unwrap().trim().parse().unwrap()
}

/// Whether nobody is connected to a database any more, within a few seconds.
fn sessions_end(server: &PostgresServer, database: &str) -> bool {
    let question = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'");
    (0..100).any(|_| {
        thread::sleep(std::time::Duration::from_millis(50));
        server.psql("postgres", &question).unwrap().trim() == "0"
    })
}

#[test]
fn rows_are_counted_on_their_way_out_and_in() {
    let server = shared_server();
    server.create_database("counted").unwrap();
    fill(server, "counted");
    let sql = "CREATE SCHEMA \"Odd \"\"S\"; CREATE TABLE \"Odd \"\"S\".\"T\" (a text); \
               INSERT INTO \"Odd \"\"S\".\"T\" VALUES (E'two\\nlines'), (E'\\\\.'), (NULL), (''); \
               CREATE TABLE nothing (a int); \
               CREATE TABLE wide AS SELECT repeat('x', 3000000) || i AS a FROM generate_series(1, 3) i; \
               CREATE TABLE cut (a int) PARTITION BY RANGE (a); \
               CREATE TABLE cut_1 PARTITION OF cut FOR VALUES FROM (0) TO (100); \
               INSERT INTO cut SELECT generate_series(1, 42)";
    server.psql("counted", sql).unwrap();
    let (meta, bytes, report) = dump(server, "counted", PostgresFormat::Custom);
    let counts = row_counts::from_json(&report.attributes[attribute::ROW_COUNTS]);
    assert!(counts.len() > 4, "{counts:?}");
    for (table, rows) in &counts {
        assert_eq!(count(server, "counted", table), *rows, "{table}");
    }
    assert_eq!(counts["\"Odd \"\"S\".\"T\""], 4);
    assert_eq!((counts["public.nothing"], counts["public.wide"], counts["public.cut_1"]), (0, 3, 42));
    let loaded = restore(target(server, "counted back"), &meta, &bytes).unwrap();
    assert_eq!(row_counts::from_json(&loaded.attributes[attribute::ROW_COUNTS]), counts);
}

#[test]
fn plain_and_tar_dumps_come_back_and_none_that_was_cut() {
    let server = shared_server();
    let sql = "CREATE DATABASE scripts TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'";
    server.psql("postgres", sql).unwrap();
    fill(server, "scripts");
    server.psql("scripts", "CREATE TABLE l (a text); INSERT INTO l VALUES ('\u{e9}')").unwrap();
    let hashes = server.row_hashes("scripts").unwrap();
    for format in [PostgresFormat::Plain, PostgresFormat::Tar] {
        let (meta, bytes, _) = dump(server, "scripts", format);
        assert_eq!(meta.attributes[attribute::FORMAT], format.name());
        let name = format!("from {}", format.name());
        restore(target(server, &name), &meta, &bytes).unwrap();
        assert_eq!(server.row_hashes(&name).unwrap(), hashes);
        let encoding = server.psql(&name, "SHOW server_encoding").unwrap();
        assert_eq!(encoding.trim(), "LATIN1");
        // Over a live one, cut anywhere: the live one stays as it is, and nothing stays beside it.
        for cut in [200, 1500, bytes.len() / 2, bytes.len() - 40] {
            let error = restore(target(server, &name), &meta, &bytes[..bytes.len() - cut]).unwrap_err();
            assert!(
                matches!(error, Error::Incomplete { .. } | Error::ProgramFailed { .. }),
                "{name} less {cut}: {error:?}"
            );
            assert_eq!(server.row_hashes(&name).unwrap(), hashes);
        }
        // In place, too.
        let options = PostgresTargetOptions { in_place: true, ..target_options(server, &name) };
        server.psql(&name, "CREATE TABLE beside (a int)").unwrap();
        let mut cut = PostgresTarget::new(options).unwrap();
        cut.occupied().unwrap();
        cut.load(&meta, &mut &bytes[..bytes.len() / 2]).unwrap_err();
        assert_eq!(count(server, &name, "beside"), 0);
    }
    let beside =
        server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_\\_dbvault%'");
    assert_eq!(beside.unwrap().trim(), "0");
}

#[test]
fn in_place_is_one_transaction_and_leaves_alone_what_is_not_in_the_dump() {
    let server = shared_server();
    server.create_database("place").unwrap();
    fill(server, "place");
    server
        .psql("place", "CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS a; CREATE TABLE u AS SELECT 2 AS a")
        .unwrap();
    let (meta, bytes, _) = dump(server, "place", PostgresFormat::Custom);
    let hashes = server.row_hashes("place").unwrap();
    server.psql("place", "CREATE TABLE mine (a int); DELETE FROM u; DELETE FROM s.t").unwrap();
    let restore = |options: PostgresTargetOptions, bytes: &[u8]| {
        let mut target = Box::new(PostgresTarget::new(options).unwrap());
        assert!(target.occupied().unwrap().is_some());
        target.load(&meta, &mut &bytes[..])?;
        (target as Box<dyn Target>).finish()
    };
    let in_place = PostgresTargetOptions { in_place: true, ..target_options(server, "place") };
    restore(in_place.clone(), &bytes[..bytes.len() - 30]).unwrap_err();
    assert_eq!(count(server, "place", "u"), 0);
    // One schema of it.
    let schema = PostgresTargetOptions { schemas: vec!["s".into()], ..target_options(server, "place") };
    restore(schema, &bytes).unwrap();
    assert_eq!((count(server, "place", "s.t"), count(server, "place", "u")), (1, 0));
    restore(in_place, &bytes).unwrap();
    assert_eq!(count(server, "place", "mine"), 0);
    server.psql("place", "DROP TABLE mine").unwrap();
    assert_eq!(server.row_hashes("place").unwrap(), hashes);
}

#[test]
fn a_database_in_parts_is_of_one_moment_and_comes_back_as_one() {
    let server = shared_server();
    server.create_database("parted").unwrap();
    fill(server, "parted");
    let sql = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int REFERENCES a); \
               CREATE TABLE \"C\"\"?*\" AS SELECT generate_series(1, 100) AS x; \
               INSERT INTO a SELECT generate_series(1, 1000); INSERT INTO b SELECT id FROM a; \
               CREATE SEQUENCE q START 77; SELECT nextval('q'); SELECT lo_from_bytea(9, 'nine'); \
               CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM b";
    server.psql("parted", sql).unwrap();
    let hashes = server.row_hashes("parted").unwrap();
    let sources = postgres_parts("parted", source_options(server, "parted"), 3).unwrap();
    assert!(sources.iter().all(|source| source.group() == Some("parted")));
    let names: Vec<&str> = sources.iter().map(|source| source.name()).collect();
    assert_eq!(
        names,
        ["parted/pre-data", "parted/data-1", "parted/data-2", "parted/data-3", "parted/post-data"]
    );
    let mut sources = sources.into_iter();
    let first = read(sources.next().unwrap()).unwrap();
    // What is committed after the first part has begun is in none.
    server.psql("parted", "INSERT INTO a VALUES (5000); INSERT INTO b VALUES (5000)").unwrap();
    let rest: Vec<_> = sources.map(|source| thread::spawn(move || read(source).unwrap())).collect();
    let mut dumps = vec![first];
    dumps.extend(rest.into_iter().map(|dump| dump.join().unwrap()));
    let rows: u64 = dumps
        .iter()
        .filter_map(|(_, _, report)| {
            row_counts::from_json(report.attributes.get(attribute::ROW_COUNTS)?).get("public.b").copied()
        })
        .sum();
    assert_eq!(rows, 1000);
    assert_eq!(dumps[0].0.attributes[attribute::PART], part::PRE_DATA);
    assert!(sessions_end(server, "parted"), "the session that held the snapshot has ended");

    let load = |dumps: &[Dump]| {
        let options = PostgresTargetOptions { parallel: 3, ..target_options(server, "parted") };
        let mut target = Box::new(PostgresTarget::new(options).unwrap());
        target.occupied().unwrap();
        let parts =
            dumps.iter().map(|(meta, bytes, _)| Part { meta: meta.clone(), body: Box::new(&bytes[..]) });
        target.load_parts(parts.collect())?;
        (target as Box<dyn Target>).finish()
    };
    let live = server.row_hashes("parted").unwrap();
    assert_ne!(live, hashes);
    for missing in 0..dumps.len() {
        let mut some = dumps.clone();
        some.remove(missing);
        assert!(matches!(load(&some), Err(Error::Incomplete { .. })), "without {missing}");
        let mut cut = dumps.clone();
        let whole = cut[missing].1.len();
        cut[missing].1.truncate(whole - 1);
        load(&cut).unwrap_err();
    }
    assert_eq!(server.row_hashes("parted").unwrap(), live, "nothing of these was put in place");
    load(&dumps).unwrap();
    assert_eq!(server.row_hashes("parted").unwrap(), hashes);
    let next = server.psql("parted", "SELECT nextval('q'), convert_from(lo_get(9), 'UTF8')").unwrap();
    assert_eq!(next.trim(), "78|nine");
}

#[test]
fn roles_come_back_and_those_that_are_there_stay() {
    let server = PostgresServer::start().unwrap();
    let sql = "CREATE ROLE reader; CREATE ROLE \"Wri ter\" LOGIN PASSWORD 'old;''x'; GRANT reader TO \"Wri ter\"; \
               COMMENT ON ROLE reader IS 'two\nlines; '; ALTER ROLE reader SET work_mem = '5MB'; CREATE DATABASE one";
    server.psql("postgres", sql).unwrap();
    assert_eq!(postgres_databases(&source_options(&server, "postgres"), &[]).unwrap(), ["one", "postgres"]);
    let globals = PostgresGlobalsSource::new("globals", source_options(&server, "postgres"));
    let (meta, bytes, _) = read_all(globals).unwrap();
    assert_eq!(meta.attributes[attribute::PART], part::GLOBALS);
    let secret = "SELECT rolpassword FROM pg_authid WHERE rolname = 'Wri ter'";
    let before = server.psql("postgres", secret).unwrap();
    server.psql("postgres", "DROP ROLE reader; ALTER ROLE \"Wri ter\" PASSWORD 'new'").unwrap();
    let now = server.psql("postgres", secret).unwrap();
    assert_ne!(now, before);
    let target = || PostgresGlobalsTarget::new(source_options(&server, "postgres"));
    for cut in [1, bytes.len() / 2, bytes.len() - 60] {
        if let Err(error) = restore(target(), &meta, &bytes[..cut]) {
            assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
        }
    }
    let report = restore(target(), &meta, &bytes).unwrap();
    assert!(report.warnings[0].contains("1 of them made"), "{report:?}");
    assert_eq!(server.psql("postgres", secret).unwrap(), now, "it was there, and stays as it is");
    let facts = "SELECT shobj_description(r.oid, 'pg_authid'), rolconfig, pg_has_role('Wri ter', 'reader', 'member') \
                 FROM pg_roles r WHERE rolname = 'reader'";
    assert_eq!(server.psql("postgres", facts).unwrap().trim(), "two\nlines; |{work_mem=5MB}|t");
    server.psql("postgres", "DROP ROLE \"Wri ter\"").unwrap();
    restore(target(), &meta, &bytes).unwrap();
    assert_eq!(server.psql("postgres", secret).unwrap(), before, "made again with its password");
}

#[test]
fn statistics_are_there_after_a_restore_unless_they_can_not_be_had() {
    let server = shared_server();
    server.create_database("analyzed").unwrap();
    server.psql("analyzed", "CREATE TABLE t AS SELECT generate_series(1, 500) AS a").unwrap();
    let (meta, bytes, _) = dump(server, "analyzed", PostgresFormat::Custom);
    let known = "SELECT count(*) FROM pg_stats WHERE tablename = 't'";
    for (arguments, count) in [(&[][..], "1"), (&["--no-such-option".to_owned()][..], "0")] {
        let options = PostgresTargetOptions {
            analyze_arguments: arguments.to_vec(),
            ..target_options(server, "analyzed again")
        };
        let report = restore(PostgresTarget::new(options).unwrap(), &meta, &bytes).unwrap();
        assert_eq!(server.psql("analyzed again", known).unwrap().trim(), count);
        let told = report.warnings.iter().any(|line| line.contains("statistics were not collected"));
        assert_eq!(told, count == "0", "{report:?}");
    }
}
