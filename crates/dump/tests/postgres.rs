//! Tables of real PostgreSQL dumps: each must give what `\copy` gives on the database that was dumped.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed; proofs are printed"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use common::{counting, dump, open, part, psql_copy, read, server};
use dbvault_dump::{Contents, Error, Format, Table, TableKind};
use dbvault_testkit::postgres_server::PostgresServer;

const CSV: Format = Format::Csv { header: false };

fn tables_with_rows(contents: &Contents) -> Vec<Table> {
    contents.tables().iter().filter(|table| table.has_rows).cloned().collect()
}

/// Every table in every form, against `\copy`.
fn compare(server: &PostgresServer, database: &str, contents: &Contents) -> usize {
    let tables = tables_with_rows(contents);
    for table in &tables {
        let name = table.sql_name();
        let copy = read(contents, table, Format::Copy);
        assert_eq!(copy, psql_copy(server, database, table, ""), "{name}");
        assert_eq!(read(contents, table, CSV), psql_copy(server, database, table, "csv"), "{name}");
        let header = read(contents, table, Format::Csv { header: true });
        assert_eq!(header, psql_copy(server, database, table, "csv header"), "{name}");
        let rows = copy.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(table.rows, Some(rows), "{name}");
        assert_eq!(table.bytes, Some(copy.len() as u64), "{name}");
    }
    tables.len()
}

#[test]
fn every_table_of_every_format_is_what_copy_gives_on_the_source() {
    let server = server("every_table", "");
    let custom = open(vec![part(dump(&server.server, "every_table", &["-Fc", "-Z0"]), true)]);
    let tables = compare(&server.server, "every_table", &custom);
    assert!(tables >= 15, "{tables}");

    let plain = open(vec![part(dump(&server.server, "every_table", &["-Fp"]), true)]);
    assert_eq!(compare(&server.server, "every_table", &plain), tables);
    assert_eq!(
        plain.tables(),
        &custom.tables().iter().map(|table| with_place(&plain, table)).collect::<Vec<_>>()
    );

    // As dumped in parts; the order of data differs from that of definitions.
    let sections =
        [&["--section=pre-data"][..], &["--section=data", "-t", "public.people", "-t", "public.one"]];
    let rest = ["--section=data", "-T", "public.people", "-T", "public.one"];
    let sections = sections.into_iter().chain([&rest[..], &["--section=post-data"]]);
    let parts = sections
        .map(|section| part(dump(&server.server, "every_table", &[&["-Fc", "-Z0"], section].concat()), true));
    let parts = open(parts.collect());
    assert_eq!(compare(&server.server, "every_table", &parts), tables);

    let kinds: BTreeSet<TableKind> = custom.tables().iter().map(|table| table.kind).collect();
    let all = [TableKind::Table, TableKind::PartitionedTable, TableKind::View, TableKind::MaterializedView];
    assert_eq!(kinds, all.into());
}

/// The same table as the other dump has it.
fn with_place(contents: &Contents, table: &Table) -> Table {
    let found = contents.find(&table.sql_name()).unwrap();
    assert_eq!((&found.schema, &found.name), (&table.schema, &table.name));
    found.clone()
}

#[test]
fn without_positions_the_stream_is_followed_once() {
    let server = server("no_positions", "");
    for format in ["-Fc", "-Fp"] {
        let bytes = dump(&server.server, "no_positions", &[format, "-Z0"]);
        let contents = open(vec![part(bytes, false)]);
        assert_eq!(contents.knows_positions(), format == "-Fp");
        for table in tables_with_rows(&contents) {
            let csv = read(&contents, &table, CSV);
            assert_eq!(csv, psql_copy(&server.server, "no_positions", &table, "csv"), "{}", table.sql_name());
        }
        assert!(contents.knows_positions());
    }
}

#[test]
fn a_database_in_another_encoding_is_given_in_it() {
    let server = server("latin", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    for format in ["-Fc", "-Fp"] {
        let contents = open(vec![part(dump(&server.server, "latin", &[format, "-Z0"]), true)]);
        let table = contents.find("\"Tä ble\"").unwrap().clone();
        assert_eq!(contents.columns(&table), ["id", "Größe, \"x\""]);
        let csv = read(&contents, &table, Format::Csv { header: true });
        assert!(std::str::from_utf8(&csv).is_err(), "it is in LATIN1");
        for table in tables_with_rows(&contents) {
            let (csv, name) = (read(&contents, &table, CSV), table.sql_name());
            assert_eq!(csv, common::psql_copy_in(&server.server, "latin", &table, "csv", "LATIN1"), "{name}");
        }
    }
}

#[test]
fn the_sql_of_each_table_loads_into_an_empty_database() {
    let server = server("scripts", "");
    for (number, format) in ["-Fc", "-Fp"].into_iter().enumerate() {
        let contents = open(vec![part(dump(&server.server, "scripts", &[format, "-Z0"]), true)]);
        for (index, table) in contents.tables().iter().enumerate() {
            let database = format!("loaded_{number}_{index}");
            server.server.create_database(&database).unwrap();
            let script = read(&contents, table, Format::Sql);
            common::load(&server.server, &database, &script).unwrap_or_else(|error| {
                panic!("{format} {}: {error}\n{}", table.sql_name(), String::from_utf8_lossy(&script))
            });
            if table.has_rows {
                let rows = psql_copy(&server.server, &database, table, "csv");
                assert_eq!(rows, read(&contents, table, CSV), "{}", table.sql_name());
            }
        }
        let database = format!("schema_{number}");
        server.server.create_database(&database).unwrap();
        common::load(&server.server, &database, &contents.schema_sql()).unwrap();
    }
}

#[test]
fn what_belongs_to_a_table_is_found_and_nothing_else() {
    let server = server("belongs", "");
    let custom = open(vec![part(dump(&server.server, "belongs", &["-Fc", "-Z0"]), true)]);
    let sections = ["--section=pre-data", "--section=data", "--section=post-data"];
    let parts = sections.map(|section| part(dump(&server.server, "belongs", &["-Fc", "-Z0", section]), true));
    let parts = open(parts.into());
    let plain = open(vec![part(dump(&server.server, "belongs", &["-Fp"]), true)]);
    let belongs = |contents: &Contents, name: &str| -> Vec<String> {
        let table = contents.find(name).unwrap();
        let entries = contents.entries_of(table);
        entries.iter().map(|entry| format!("{}: {}", entry.kind, entry.tag)).collect()
    };
    let people = belongs(&custom, "people");
    for wanted in [
        "TABLE: people",
        "SEQUENCE: people_id_seq",
        "SEQUENCE OWNED BY: people_id_seq",
        "DEFAULT: people id",
        "COMMENT: TABLE people",
        "COMMENT: COLUMN people.name",
        "ACL: TABLE people",
        "ACL: COLUMN people.name",
        "TABLE DATA: people",
        "SEQUENCE SET: people_id_seq",
        "CONSTRAINT: people people_pkey",
        "FK CONSTRAINT: people people_boss_fkey",
        "INDEX: by_name",
        "COMMENT: INDEX by_name",
        "TRIGGER: people touch",
        "RULE: people quiet",
        "POLICY: people all",
        "ROW SECURITY: people",
        "STATISTICS: people_stats",
        "COMMENT: CONSTRAINT people_pkey ON people",
    ] {
        assert!(people.iter().any(|entry| entry == wanted), "{wanted} is missing: {people:#?}");
    }
    assert_eq!(people.len(), 20, "{people:#?}");
    assert_eq!(
        belongs(&custom, "\"people name\""),
        [
            "TABLE: people name",
            "TABLE DATA: people name",
            "CONSTRAINT: people name people name_pkey",
            "FK CONSTRAINT: people name x"
        ]
    );
    for table in custom.tables() {
        let name = table.sql_name();
        let expected = belongs(&custom, &name);
        assert_eq!(belongs(&parts, &name), expected, "{name}");
        let sorted = |entries: Vec<String>| entries.into_iter().collect::<BTreeSet<_>>();
        assert_eq!(sorted(belongs(&plain, &name)), sorted(expected), "{name}");
    }
    let table = custom.find("people").unwrap();
    let needs: Vec<_> =
        custom.needs_of(table).iter().map(|entry| format!("{} {}", entry.kind, entry.tag)).collect();
    assert_eq!(needs, ["TYPE mood", "DOMAIN short"]);
}

#[test]
fn a_small_table_costs_few_bytes_to_read() {
    let server = server("costs", "");
    let sql =
        "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 10) AS text FROM generate_series(1, 200000) i";
    server.server.psql("costs", sql).unwrap();
    for format in ["-Fc", "-Fp"] {
        let bytes = dump(&server.server, "costs", &[format, "-Z0"]);
        let total = bytes.len() as u64;
        let (part, read_bytes, reads) = counting(part(bytes, true));
        let contents = open(vec![part]);
        let (listed, listing) = (read_bytes.load(Ordering::SeqCst), reads.load(Ordering::SeqCst));
        assert!(listed < 700_000 && listing < 120, "{format}: {listed} bytes in {listing} reads to list");
        let table = contents.find("people").unwrap();
        read(&contents, table, CSV);
        let small = read_bytes.load(Ordering::SeqCst) - listed;
        assert!(small < 200_000, "{format}: {small} bytes for {:?}", table.bytes);
        println!("proof: {format}: {listed} bytes listed, {small} bytes of {total} read for a small table");
        let extents = contents.extents(contents.find("big").unwrap()).unwrap();
        assert!(extents[0].length > total * 9 / 10, "{extents:?}");
    }
}

#[test]
fn inserts_are_given_as_they_are() {
    let server = server("inserts", "");
    for format in ["-Fc", "-Fp"] {
        let contents = open(vec![part(dump(&server.server, "inserts", &[format, "-Z0", "--inserts"]), true)]);
        let table = contents.find("public.people").unwrap();
        assert_eq!((table.has_rows, table.rows), (true, None));
        assert!(matches!(contents.rows(table, CSV), Err(Error::Form { format: "csv", .. })));
        let database = format!("inserted{}", format.to_lowercase().replace('-', "_"));
        server.server.create_database(&database).unwrap();
        common::load(&server.server, &database, &read(&contents, table, Format::Sql)).unwrap();
        let rows = psql_copy(&server.server, &database, table, "csv");
        assert_eq!(rows, psql_copy(&server.server, "inserts", table, "csv"));
    }
}

#[test]
fn what_can_not_be_given_says_why() {
    let server = server("can_not", "");
    let contents = open(vec![part(dump(&server.server, "can_not", &["-Fc", "-Z0"]), true)]);
    for view in ["seen", "frozen", "parted"] {
        let table = contents.find(view).unwrap();
        assert!(matches!(contents.rows(table, CSV), Err(Error::NoRows { .. })), "{view}");
    }
    let Err(Error::NoSuchTable { nearest, .. }) = contents.find("poeple") else { panic!() };
    assert_eq!(nearest[0], "public.people");
    let Err(Error::NoSuchTable { nearest, .. }) = contents.find("twice") else { panic!() };
    assert_eq!(nearest, ["\"Odd \"\"Schema\".twice", "public.twice"]);
    assert!(contents.find("PUBLIC.People").is_ok());

    let compressed = open(vec![part(dump(&server.server, "can_not", &["-Fc", "-Z6"]), true)]);
    let table = compressed.find("people").unwrap();
    assert!(matches!(compressed.rows(table, CSV), Err(Error::Unsupported { .. })));
    let tar = part(dump(&server.server, "can_not", &["-Ft"]), false);
    assert!(matches!(Contents::open(vec![tar]), Err(Error::Unsupported { .. })));
}
