//! Tables of SQLite files, against what SQLite itself reads.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed; proofs are printed"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::{counting, open, read};
use dbvault_dump::{Contents, Error, Format, Part, Table, TableKind};
use dbvault_format::entry::EntryKind;
use rusqlite::Connection;
use rusqlite::types::Value;

const ODD_TABLES: &str = r#"
    CREATE TABLE plain (id INTEGER PRIMARY KEY, name TEXT, price REAL, data BLOB, any);
    INSERT INTO plain VALUES (1, 'a,b', 1.5, X'00ff', 7), (2, '', 2, X'', 'x"y'), (-5, NULL, NULL, NULL, NULL),
        (9223372036854775807, 'tab' || char(9) || char(10) || char(13) || '\', 1e300, X'0a', -9e999), (40, '\.', 0.1, 3, 2.0);
    CREATE TABLE "say ""x"", ü" ("a b" INT, "q""q" TEXT DEFAULT 'it''s', PRIMARY KEY ("q""q" DESC, "a b")) WITHOUT ROWID;
    INSERT INTO "say ""x"", ü" ("a b") VALUES (2), (1);
    CREATE TABLE `ticks` (i INTEGER PRIMARY KEY DESC, v); INSERT INTO ticks VALUES (7, 'seven');
    CREATE TABLE [brackets] (v); INSERT INTO brackets VALUES ('x');
    CREATE TABLE empty (a, b);
    CREATE TABLE generated (a INT, b INT AS (a * 2) VIRTUAL, c INT AS (a * 3) STORED, d TEXT);
    INSERT INTO generated (a, d) VALUES (1, 'one');
    CREATE TABLE added (a INT); INSERT INTO added VALUES (1);
    ALTER TABLE added ADD COLUMN b TEXT DEFAULT 'grün'; ALTER TABLE added ADD COLUMN c REAL DEFAULT 3;
    ALTER TABLE added ADD COLUMN d; ALTER TABLE added ADD COLUMN e NUMERIC DEFAULT '0012';
    INSERT INTO added VALUES (2, 'b', 1, 2, 3);
    CREATE TABLE big (id INTEGER PRIMARY KEY, t TEXT, n REAL);
    WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 5000)
        INSERT INTO big SELECT i * 3, 'row ' || hex(i) || substr(hex(zeroblob(i % 90)), 1, i % 97), i FROM c;
    INSERT INTO big VALUES (1, hex(zeroblob(300000)), 0.5);
    CREATE TABLE keyed (k TEXT, n INT, v TEXT, PRIMARY KEY (n, k)) WITHOUT ROWID;
    INSERT INTO keyed SELECT 'k' || id, id % 1000, hex(zeroblob(id % 700)) FROM big WHERE id > 1 AND id < 6000;
    CREATE INDEX by_name ON plain (name); CREATE VIEW seen AS SELECT id FROM plain;
    CREATE TRIGGER t AFTER INSERT ON plain BEGIN SELECT 1; END;
    DELETE FROM big WHERE id % 7 = 0;
"#;

fn database(setup: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(setup).unwrap();
    connection.execute_batch(ODD_TABLES).unwrap();
    connection.close().unwrap();
    std::fs::read(path).unwrap()
}

fn part(bytes: Vec<u8>) -> Part {
    Part {
        name: "app.db".into(),
        kind: EntryKind::Sqlite,
        attributes: Default::default(),
        bytes: Arc::new(bytes),
    }
}

/// What SQLite reads: columns that are not generated, in the order in which the file has its rows.
fn expected(connection: &Connection, table: &Table, contents: &Contents) -> Vec<Vec<Value>> {
    let columns: Vec<String> =
        contents.columns(table).iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
    let name = table.name.replace('"', "\"\"");
    let mut statement =
        connection.prepare(&format!("SELECT {} FROM \"{name}\" NOT INDEXED", columns.join(", "))).unwrap();
    let count = columns.len();
    let rows = statement.query_map([], |row| (0..count).map(|index| row.get(index)).collect());
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn csv(rows: &[Vec<Value>]) -> String {
    let field = |value: &Value, alone: bool| match value {
        Value::Null => String::new(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) if value.is_infinite() => if *value > 0.0 { "Inf" } else { "-Inf" }.to_owned(),
        Value::Real(value) => format!("{value:?}"),
        Value::Blob(bytes) => {
            "\\x".to_owned() + &bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        }
        Value::Text(text)
            if text.is_empty() || text.contains(['"', ',', '\n', '\r']) || (alone && text == "\\.") =>
        {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::Text(text) => text.clone(),
    };
    let line = |row: &Vec<Value>| {
        row.iter().map(|value| field(value, row.len() == 1)).collect::<Vec<_>>().join(",") + "\n"
    };
    rows.iter().map(line).collect()
}

#[test]
fn every_table_is_what_sqlite_reads() {
    for setup in [
        "PRAGMA page_size = 512",
        "PRAGMA page_size = 65536; PRAGMA journal_mode = WAL",
        "PRAGMA encoding = 'UTF-16le'",
        "PRAGMA encoding = 'UTF-16be'; PRAGMA page_size = 1024; PRAGMA auto_vacuum = FULL",
    ] {
        let bytes = database(setup);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy.db");
        std::fs::write(&path, &bytes).unwrap();
        let original = Connection::open(&path).unwrap();
        let contents = open(vec![part(bytes)]);
        assert_eq!(contents.tables().len(), 10, "{:?}", contents.tables());
        for table in contents.tables().iter().filter(|table| table.has_rows) {
            let rows = expected(&original, table, &contents);
            let found = read(&contents, table, Format::Csv { header: false });
            assert!(
                found == csv(&rows).into_bytes(),
                "{setup}: {}: {}",
                table.name,
                String::from_utf8_lossy(&found[..found.len().min(300)])
            );
            let copy = read(&contents, table, Format::Copy);
            assert_eq!(copy.iter().filter(|byte| **byte == b'\n').count(), rows.len());

            let loaded = Connection::open_in_memory().unwrap();
            let script = String::from_utf8(read(&contents, table, Format::Sql)).unwrap();
            loaded.execute_batch(&script).unwrap();
            assert!(expected(&loaded, table, &contents) == rows, "{setup}: {}", table.name);
        }
    }
}

#[test]
fn generated_columns_are_left_out_and_rows_before_a_column_have_its_default() {
    let contents = open(vec![part(database(""))]);
    let text = |name: &str| {
        String::from_utf8(read(&contents, contents.find(name).unwrap(), Format::Csv { header: true }))
            .unwrap()
    };
    assert_eq!(text("generated"), "a,d\n1,one\n");
    assert_eq!(text("added"), "a,b,c,d,e\n1,grün,3.0,,12\n2,b,1.0,2,3\n");
    assert_eq!(text("empty"), "a,b\n");
    assert_eq!(text("ticks"), "i,v\n7,seven\n");
    assert_eq!(contents.find("seen").unwrap().kind, TableKind::View);
    assert!(matches!(contents.rows(contents.find("seen").unwrap(), Format::Copy), Err(Error::NoRows { .. })));
    let schema = String::from_utf8(contents.schema_sql()).unwrap();
    Connection::open_in_memory().unwrap().execute_batch(&schema).unwrap();
}

#[test]
fn a_small_table_costs_few_pages() {
    let bytes = database("");
    let total = bytes.len() as u64;
    let (part, read_bytes, _) = counting(part(bytes));
    let contents = open(vec![part]);
    read(&contents, contents.find("plain").unwrap(), Format::Copy);
    let used = read_bytes.load(Ordering::SeqCst);
    println!("proof: sqlite: {used} bytes of {total} read for a small table");
    assert!(used < 100_000, "{used} of {total}");
}

#[test]
fn what_is_damaged_is_an_error_and_never_a_panic() {
    let good = database("PRAGMA page_size = 512");
    let good = &good[..good.len().min(200_000)];
    let mut state = 7_u64;
    let mut errors = 0;
    for _ in 0..400 {
        let mut bytes = good.to_vec();
        for _ in 0..5 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len().min(60_000);
            bytes[at] = (state >> 20) as u8;
        }
        let Ok(contents) = Contents::open(vec![part(bytes)]) else {
            errors += 1;
            continue;
        };
        for table in contents.tables() {
            let Ok(mut rows) = contents.rows(table, Format::Csv { header: false }) else { continue };
            errors += usize::from(std::io::copy(&mut rows, &mut std::io::sink()).is_err());
        }
    }
    assert!(errors > 50, "{errors}");
}
