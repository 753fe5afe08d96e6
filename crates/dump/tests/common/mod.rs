//! Parts that several tests share.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbvault_dump::{
    Contents, CustomFormatChecker, Format, Part, PlainScanner, ReadAt, Table, positions, row_counts,
};
use dbvault_format::entry::{EntryKind, attribute};
use dbvault_testkit::postgres_server::PostgresServer;

/// Tables that are hard to get right.
pub(crate) const ODD_TABLES: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
    CREATE DOMAIN short AS text CHECK (length(VALUE) < 100);
    CREATE TABLE people (id serial PRIMARY KEY, name text, m mood, boss int REFERENCES people,
        g int GENERATED ALWAYS AS (1) STORED, s short);
    INSERT INTO people (name, m, boss) VALUES ('a,b', 'sad', NULL), ('say "x"', 'it''s ok', 1), ('', NULL, 1),
        (NULL, NULL, 2), (E'tab\t line\n return\r back\\slash \\. \b\f\v', 'sad', 1), (E'\\.', NULL, NULL);
    CREATE TABLE "people name" (id int PRIMARY KEY, other int CONSTRAINT x REFERENCES people);
    INSERT INTO "people name" VALUES (1, 1);
    CREATE TABLE one (t text);
    INSERT INTO one VALUES (''), (NULL), (E'\\.'), (E'\\N'), ('x'), (E'\n');
    CREATE TABLE e ();
    INSERT INTO e DEFAULT VALUES; INSERT INTO e DEFAULT VALUES;
    CREATE TABLE nothing (a int, b text);
    CREATE TABLE kinds (b bytea, a int[], t text[], ts timestamptz, f float8, n numeric);
    INSERT INTO kinds VALUES ('\x00ff0a5c', '{1,NULL,3}', '{"a,b","c\"d",NULL,"NULL"}', 'epoch', 0.1, 1e100),
        ('', '{}', '{}', 'infinity', 'NaN', 'NaN'), (NULL, NULL, NULL, NULL, '-Infinity', 0.00);
    CREATE TABLE long (id int GENERATED ALWAYS AS IDENTITY, t text);
    INSERT INTO long (t) SELECT repeat('x' || chr(9) || '"', 1000000);
    INSERT INTO long (t) SELECT repeat(md5(i::text), 100) FROM generate_series(1, 100) i;
    CREATE TABLE parted (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
    INSERT INTO parted SELECT i, 'v' || i FROM generate_series(0, 19) i;
    CREATE INDEX ON parted (v);
    CREATE TABLE base (a int DEFAULT 1); CREATE TABLE child (c mood) INHERITS (base);
    INSERT INTO base VALUES (1); INSERT INTO child VALUES (2, 'sad');
    CREATE UNLOGGED TABLE unlogged (a int); INSERT INTO unlogged VALUES (1);
    CREATE SCHEMA "Odd ""Schema";
    CREATE TABLE "Odd ""Schema"."Upper.dot" ("select" int, "a b" text, "q""q" text);
    INSERT INTO "Odd ""Schema"."Upper.dot" VALUES (1, 'x', 'y');
    CREATE TABLE twice (a int); CREATE TABLE "Odd ""Schema".twice (a int);
    CREATE TABLE "; DROP -- COPY x FROM stdin;" ("a
b" int, ");" int);
    INSERT INTO "; DROP -- COPY x FROM stdin;" VALUES (1, 2);
    CREATE TABLE "Tä ble" (id int, "Größe, ""x""" text);
    INSERT INTO "Tä ble" VALUES (1, 'größer'), (2, 'ÿ');
    CREATE VIEW seen AS SELECT id, name FROM people;
    CREATE MATERIALIZED VIEW frozen AS SELECT count(*) AS n FROM people;
    COMMENT ON TABLE people IS 'it''s; COPY public.no (a) FROM stdin;
1
';
    COMMENT ON COLUMN people.name IS '--'; CREATE INDEX by_name ON people (lower(name), ((id > 1)));
    COMMENT ON INDEX by_name IS 'ON x'; COMMENT ON CONSTRAINT people_pkey ON people IS 'k';
    GRANT SELECT ON people TO PUBLIC; GRANT UPDATE (name) ON people TO PUBLIC;
    ALTER TABLE people ENABLE ROW LEVEL SECURITY; CREATE POLICY "all" ON people USING (true);
    CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $x$BEGIN
COPY public.no (a) FROM stdin;
-- Data for Name: x; Type: TABLE DATA; Schema: public; Owner: x
    RETURN new; END$x$;
    CREATE FUNCTION atomic() RETURNS void BEGIN ATOMIC INSERT INTO nothing VALUES (1); INSERT INTO nothing VALUES (2); END;
    CREATE TRIGGER touch BEFORE INSERT OR UPDATE OF name ON people FOR EACH ROW EXECUTE FUNCTION touched();
    CREATE RULE quiet AS ON DELETE TO people DO ALSO (SELECT 1; INSERT INTO nothing VALUES (3));
    CREATE STATISTICS people_stats ON id, name FROM people;
"#;

/// A server with a database that has [`ODD_TABLES`].
pub(crate) struct Server {
    pub(crate) server: PostgresServer,
}

pub(crate) fn server(database: &str, options: &str) -> Server {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    server.psql("postgres", &format!("CREATE DATABASE {database} {options}")).expect("works");
    let sql = format!("SET client_encoding = 'UTF8'; {ODD_TABLES}");
    server.psql(database, &sql).expect("works");
    Server { server }
}

/// What `pg_dump` writes.
pub(crate) fn dump(server: &PostgresServer, database: &str, arguments: &[&str]) -> Vec<u8> {
    let plain = arguments.contains(&"-Fp");
    let arguments = arguments.iter().filter(|argument| !(plain && argument.starts_with("-Z")));
    let output = server.command("pg_dump").args(arguments).args(["-d", database]).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A part as a backup makes it: with what was noted while it passed, or as an old one.
pub(crate) fn part(bytes: Vec<u8>, noted: bool) -> Part {
    let mut attributes = std::collections::BTreeMap::new();
    if noted {
        let (rows, blocks) = if bytes.starts_with(b"PGDMP") {
            let mut checker = CustomFormatChecker::default();
            bytes.chunks(1_000_003).try_for_each(|piece| checker.feed(piece)).expect("a dump");
            (checker.row_counts().clone(), checker.data_blocks().to_vec())
        } else {
            let mut scanner = PlainScanner::default();
            bytes.chunks(1_000_003).for_each(|piece| scanner.feed(piece));
            (scanner.row_counts().clone(), scanner.data_blocks().to_vec())
        };
        attributes.insert(attribute::ROW_COUNTS.to_owned(), row_counts::to_json(&rows));
        attributes.insert(attribute::DATA_POSITIONS.to_owned(), positions::to_text(&blocks));
    }
    Part { name: "users".to_owned(), kind: EntryKind::Postgresql, attributes, bytes: Arc::new(bytes) }
}

pub(crate) fn open(parts: Vec<Part>) -> Contents {
    Contents::open(parts).expect("opens")
}

pub(crate) fn read(contents: &Contents, table: &Table, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    let name = table.sql_name();
    let mut rows = contents.rows(table, format).unwrap_or_else(|error| panic!("{name}: {error}"));
    rows.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    bytes
}

pub(crate) fn psql_copy(server: &PostgresServer, database: &str, table: &Table, options: &str) -> Vec<u8> {
    psql_copy_in(server, database, table, options, "UTF8")
}

pub(crate) fn psql_copy_in(
    server: &PostgresServer,
    database: &str,
    table: &Table,
    options: &str,
    encoding: &str,
) -> Vec<u8> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let schema = table.schema.as_deref().expect("a schema");
    let copy = format!("COPY {}.{} TO STDOUT {options}", quoted(schema), quoted(&table.name));
    let mut command = server.command("psql");
    let copy: Vec<u8> = match encoding {
        "LATIN1" => copy.chars().map(|letter| u8::try_from(u32::from(letter)).expect("LATIN1")).collect(),
        _ => copy.into_bytes(),
    };
    command.args(["-X", "-q", "-d", database, "-c"]).arg(OsStr::from_bytes(&copy));
    command.env("PGCLIENTENCODING", encoding);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Runs a script as `psql -X -v ON_ERROR_STOP=1 -f` does.
pub(crate) fn load(server: &PostgresServer, database: &str, script: &[u8]) -> Result<(), String> {
    let mut psql = server.command("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
    let mut child =
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("runs");
    let written = child.stdin.take().expect("a pipe").write_all(script);
    let output = child.wait_with_output().expect("ends");
    match output.status.success() {
        true => written.map_err(|error| error.to_string()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Counts what is read.
struct Counting {
    bytes: Arc<dyn ReadAt>,
    read_bytes: Arc<AtomicU64>,
    reads: Arc<AtomicU64>,
}

impl ReadAt for Counting {
    fn len_bytes(&self) -> u64 {
        self.bytes.len_bytes()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read_at(offset, out)?;
        self.read_bytes.fetch_add(count as u64, Ordering::SeqCst);
        self.reads.fetch_add(1, Ordering::SeqCst);
        Ok(count)
    }
}

/// The same part, and bytes and reads that it has cost.
pub(crate) fn counting(part: Part) -> (Part, Arc<AtomicU64>, Arc<AtomicU64>) {
    let (read_bytes, reads) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
    let bytes = Counting { bytes: part.bytes.clone(), read_bytes: read_bytes.clone(), reads: reads.clone() };
    (Part { bytes: Arc::new(bytes), ..part }, read_bytes, reads)
}
