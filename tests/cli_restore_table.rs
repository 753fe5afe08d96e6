//! One table put back: beside the live one or in its place, and nothing else is changed, whatever goes wrong.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_support::{Home, Run, run};
use dbvault_testkit::postgres_server::PostgresServer;

/// Customers, their orders, and items of orders; roles, an identity, a serial, a generated column, and a table that
/// refers to itself.
const SCHEMA: &str = "\
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE orders (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers, amount numeric(10,2) NOT NULL
  CHECK (amount >= 0), vat numeric GENERATED ALWAYS AS (amount * 0.19) STORED, note text DEFAULT 'a;b', tags text[],
  data bytea, facts jsonb);
CREATE INDEX orders_customer ON orders (customer) WHERE amount > 10;
CREATE TABLE items (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id int NOT NULL,
  CONSTRAINT items_order FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE);
COMMENT ON CONSTRAINT items_order ON items IS 'it''s kept';
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree);
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (TG_OP); RETURN NEW; END $$;
CREATE TABLE log (what text);
CREATE TRIGGER orders_log AFTER INSERT OR TRUNCATE ON orders FOR EACH STATEMENT EXECUTE FUNCTION log_it();
CREATE TRIGGER orders_off AFTER INSERT ON orders FOR EACH STATEMENT EXECUTE FUNCTION log_it();
ALTER TABLE orders DISABLE TRIGGER orders_off;
ALTER TABLE orders OWNER TO owner_1;
GRANT SELECT ON orders TO reader_1;
COMMENT ON TABLE orders IS 'what was ordered';
INSERT INTO customers SELECT id, 'customer ' || id FROM generate_series(1, 100) id;
INSERT INTO orders (customer, amount, note, tags, data, facts) SELECT 1 + id % 100, id, CASE id % 3 WHEN 0 THEN NULL
  WHEN 1 THEN E'tab\\t back\\\\slash\\nline' ELSE '\\.' END, ARRAY['x', NULL, 'ü'], '\\x00ff5c', '{\"a\": [1, null]}'
  FROM generate_series(1, 2000) id;
INSERT INTO items (order_id) SELECT id FROM orders WHERE id <= 500;
INSERT INTO tree SELECT id, NULLIF(id / 2, 0) FROM generate_series(1, 100) id;
TRUNCATE log;
CREATE SCHEMA \"Odd s\";
CREATE TABLE \"Odd s\".\"t \"\".; $dbvault$ (ü\" (\"a, (b\" int, \"ÿ\" text);
INSERT INTO \"Odd s\".\"t \"\".; $dbvault$ (ü\" VALUES (1, 'x'), (2, NULL);
CREATE TABLE parted (id int, at int) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
INSERT INTO parted VALUES (1, 1), (2, 2);
CREATE TABLE empty ();
";

/// A server with all of that, backed up as archive `a`.
fn backed_up(home: &Home) -> PostgresServer {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    for sql in ["CREATE ROLE owner_1", "CREATE ROLE reader_1", "CREATE DATABASE users"] {
        server.psql("postgres", sql).unwrap();
    }
    server.psql("users", SCHEMA).unwrap();
    let words = ["backup", "--postgres", "users", "--archive", "a", "--timestamp", "2026-11-21T03:04:05Z"];
    let done = dbvault(home, &server, &words);
    assert_eq!(done.code, 0, "{done:#?}");
    server
}

fn dbvault(home: &Home, server: &PostgresServer, words: &[&str]) -> Run {
    run(home.command().args(words).envs(server.env()))
}

fn restore(home: &Home, server: &PostgresServer, words: &[&str]) -> Run {
    let all = [&["restore", "--archive", "a", "--database", "users"], words].concat();
    dbvault(home, server, &all)
}

/// All that is in the database: rows, sequences, definitions, owners, grants.
fn state(server: &PostgresServer) -> String {
    let dump = server.command("pg_dump").args(["users"]).stdout(Stdio::piped()).output().unwrap();
    assert!(dump.status.success());
    // Newer ones have a word that is never the same.
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    text.lines().filter(|line| !line.contains("restrict ")).map(|line| format!("{line}\n")).collect()
}

/// Both have the same lines, in an order of their own: what is made anew is made later.
#[track_caller]
fn assert_same(found: &str, wanted: &str) {
    let sorted = |state: &str| {
        let mut lines: Vec<String> = state.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let (found, wanted) = (sorted(found), sorted(wanted));
    let more: Vec<&String> = found.iter().filter(|line| !wanted.contains(line)).collect();
    let less: Vec<&String> = wanted.iter().filter(|line| !found.contains(line)).collect();
    assert!(found == wanted, "more: {more:#?}, less: {less:#?}");
}

fn ask(server: &PostgresServer, sql: &str) -> String {
    server.psql("users", sql).unwrap().trim().to_owned()
}

#[test]
fn under_another_name_while_the_live_one_lives() {
    let home = Home::with_repository();
    let server = backed_up(&home);
    ask(&server, "DELETE FROM orders WHERE id > 1000; UPDATE orders SET note = 'live'");
    let before = state(&server);
    let dry = restore(&home, &server, &["--table", "orders", "--dry-run"]);
    assert!(dry.stdout.contains("orders_restored_") && dry.stdout.contains("2000"), "{dry:#?}");
    assert_eq!(state(&server), before);
    let done = restore(&home, &server, &["--table", "public.orders"]);
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(done.stdout.contains("Restored public.orders (2000 rows) to table"), "{done:#?}");
    assert!(done.stderr.contains("foreign key"), "what is left out is told: {done:#?}");
    let name = "orders_restored_20261121_030405";
    let name = if done.stdout.contains(name) { name.to_owned() } else { found_name(&server) };
    assert_eq!(
        ask(&server, &format!("SELECT count(*), sum(vat) FROM {name} WHERE note IS DISTINCT FROM 'live'")),
        "2000|380190.0000"
    );
    let owner = format!(
        "SELECT rolname FROM pg_roles r JOIN pg_class c ON c.relowner = r.oid WHERE relname = '{name}'"
    );
    assert_eq!(ask(&server, &owner), "owner_1");
    let again = restore(&home, &server, &["--table", "orders"]);
    again.assert_failure(11, "choose another name with --as");
    ask(&server, &format!("DROP TABLE {name}"));
    assert_eq!(state(&server), before, "nothing of the live one, its sequence or others was touched");
    // Rows are those of then.
    assert_eq!(restore(&home, &server, &["--table", "orders", "--as", "Old orders"]).code, 0);
    let rows = "SELECT count(*) FROM (SELECT id, customer, amount, tags, data, facts FROM orders EXCEPT SELECT id, \
                customer, amount, tags, data, facts FROM \"Old orders\") x";
    assert_eq!(ask(&server, rows), "0");
    // Defaults of sequences are not the copy's.
    let defaults = "SELECT count(*) FROM pg_attrdef WHERE adrelid = '\"Old orders\"'::regclass \
                    AND pg_get_expr(adbin, adrelid) LIKE '%nextval%'";
    assert_eq!(ask(&server, defaults), "0");
}

fn found_name(server: &PostgresServer) -> String {
    ask(server, "SELECT relname FROM pg_class WHERE relname LIKE 'orders\\_restored\\_%' AND relkind = 'r'")
}

#[test]
fn in_place_of_the_rows_that_are_there() {
    let home = Home::with_repository();
    let server = backed_up(&home);
    let before = state(&server);
    ask(&server, "UPDATE orders SET amount = 1; INSERT INTO orders (customer, amount) VALUES (1, 1), (2, 2)");
    ask(&server, "DELETE FROM log");
    let refused = restore(&home, &server, &["--table", "orders", "--in-place"]);
    refused.assert_failure(19, "no terminal to ask");
    let done = restore(&home, &server, &["--table", "orders", "--in-place", "--yes", "--json"]);
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(
        done.stdout.contains("\"how\": \"replaced\"") && done.stdout.contains("(2002 rows)"),
        "{done:#?}"
    );
    assert_same(&state(&server), &before);
    // Keys and triggers work.
    assert!(server.psql("users", "INSERT INTO items (order_id) VALUES (9999)").is_err());
    ask(&server, "INSERT INTO orders (customer, amount) VALUES (1, 1)");
    assert_eq!(ask(&server, "SELECT count(*) FROM log"), "1");
    // A table that refers to itself, and one with an identity, together.
    ask(&server, "DELETE FROM tree; DELETE FROM items");
    let both = ["--table", "tree", "--table", "items", "--table", "tree", "--in-place", "--yes"];
    let done = restore(&home, &server, &both);
    assert_eq!(done.code, 0, "{done:#?}");
    assert_eq!(ask(&server, "SELECT (SELECT count(*) FROM tree), (SELECT count(*) FROM items)"), "100|500");
}

#[test]
fn a_lost_table_comes_back_with_all_that_was_its_own() {
    let home = Home::with_repository();
    let server = backed_up(&home);
    let before = state(&server);
    ask(&server, "DROP TABLE orders CASCADE");
    let done = restore(&home, &server, &["--table", "orders", "--in-place"]);
    assert_eq!(done.code, 0, "{done:#?}");
    assert_same(&state(&server), &before);
    assert_eq!(
        ask(&server, "INSERT INTO orders (customer, amount) VALUES (1, 1) RETURNING id").lines().next(),
        Some("2001")
    );
    // A key of another table whose rows have nothing to refer to.
    ask(&server, "DROP TABLE orders CASCADE; INSERT INTO items (order_id) VALUES (77777)");
    let lost = state(&server);
    let failed = restore(&home, &server, &["--table", "orders", "--in-place"]);
    failed.assert_failure(11, "(77777) is not present");
    assert_eq!(state(&server), lost);
    // Its schema is gone too.
    ask(&server, "DROP SCHEMA \"Odd s\" CASCADE");
    let failed = restore(&home, &server, &["--table", "\"Odd s\".\"t \"\".; $dbvault$ (ü\"", "--in-place"]);
    failed.assert_failure(11, "has no schema \"Odd s\"");
}

#[test]
fn odd_names_empty_tables_and_partitions() {
    let home = Home::with_repository();
    let server = backed_up(&home);
    let odd = "\"Odd s\".\"t \"\".; $dbvault$ (ü\"";
    let before = state(&server);
    for how in [&["--as", "x\"y"][..], &["--in-place", "--yes"]] {
        let done = restore(&home, &server, &[&["--table", odd], how].concat());
        assert_eq!(done.code, 0, "{done:#?}");
        assert!(done.stdout.contains("(2 rows)"), "{done:#?}");
    }
    assert_eq!(
        ask(&server, "SELECT count(*) FROM \"Odd s\".\"x\"\"y\" WHERE \"ÿ\" IS NULL AND \"a, (b\" = 2"),
        "1"
    );
    ask(&server, "DROP TABLE \"Odd s\".\"x\"\"y\"");
    assert_eq!(state(&server), before);
    ask(&server, "DROP TABLE empty");
    assert_eq!(restore(&home, &server, &["--table", "empty", "--in-place"]).code, 0);
    assert_same(&state(&server), &before);
    let parted = restore(&home, &server, &["--table", "parted"]);
    parted.assert_failure(11, "they are in its partitions, which can be restored: public.parted_1");
    ask(&server, "DELETE FROM parted");
    assert_eq!(restore(&home, &server, &["--table", "parted_1", "--in-place", "--yes"]).code, 0);
    assert_eq!(ask(&server, "SELECT count(*) FROM parted"), "2");
    ask(&server, "DROP TABLE parted_1");
    assert_eq!(restore(&home, &server, &["--table", "parted_1", "--in-place"]).code, 0);
    assert_eq!(ask(&server, "SELECT count(*) FROM parted"), "2");
    let beside = restore(&home, &server, &["--table", "parted_1", "--as", "copy"]);
    assert_eq!((beside.code, ask(&server, "SELECT count(*) FROM parted").as_str()), (0, "2"), "{beside:#?}");
}

#[test]
fn what_can_not_be_done_changes_nothing() {
    let home = Home::with_repository();
    let server = backed_up(&home);
    ask(
        &server,
        "ALTER TABLE orders DROP COLUMN tags; ALTER TABLE orders ALTER COLUMN note TYPE varchar(50); \
                  ALTER TABLE orders ADD COLUMN more int",
    );
    let before = state(&server);
    let differs = restore(&home, &server, &["--table", "orders", "--in-place", "--yes"]);
    differs.assert_failure(11, "the columns of \"public\".\"orders\" are not those of the dump");
    for words in [
        "note is text in the dump and character varying(50) in the database",
        "more is missing in the dump",
        "tags is text[] in the dump and missing in the database",
    ] {
        assert!(differs.stderr.contains(words), "{differs:#?}");
    }
    let missing = restore(&home, &server, &["--table", "order"]);
    missing.assert_failure(12, "no table is called order");
    assert!(missing.stderr.contains("public.orders"), "{missing:#?}");
    restore(&home, &server, &["--table", "a", "--table", "b", "--as", "c"]).assert_failure(2, "--as");
    // A row that breaks a rule of today.
    ask(&server, "ALTER TABLE customers ADD CHECK (id > 50) NOT VALID");
    let with_rule = state(&server);
    let broken = restore(&home, &server, &["--table", "customers", "--in-place", "--yes"]);
    broken.assert_failure(11, "violates check constraint");
    assert_eq!(state(&server), with_rule);
    // Rows of others that would have nothing to refer to.
    ask(
        &server,
        "ALTER TABLE customers DROP CONSTRAINT customers_id_check; INSERT INTO customers VALUES (101, 'new'); \
                  INSERT INTO orders (customer, amount) VALUES (101, 1)",
    );
    let referring = state(&server);
    let broken = restore(&home, &server, &["--table", "customers", "--in-place", "--yes"]);
    broken.assert_failure(11, "Key (customer)=(101) is not present");
    assert_eq!(state(&server), referring);
    assert_ne!(before, referring);
}

/// Rows whose load is the first thing that is looked at.
const BIG: &str = "CREATE TABLE small AS SELECT 1 AS x; \
     CREATE TABLE big AS SELECT id, md5(id::text) || md5((id + 1)::text) AS text FROM generate_series(1, 400000) id";
/// Tells the session that loads a table.
const COPYING: &str = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY %' AND state = 'active'";

/// A rule of the live table that stops a load in its middle, long enough for whatever is to happen there.
fn rule(seconds: u32) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION wait(id int) RETURNS bool LANGUAGE plpgsql AS \
         $$ BEGIN IF id = 300000 THEN PERFORM pg_sleep({seconds}); END IF; RETURN true; END $$"
    )
}

/// A restore that has come to the rows, and the number of its session.
fn in_the_middle(home: &Home, server: &PostgresServer, words: &[&str]) -> (Child, String) {
    let mut command = home.command();
    command.args(words).envs(server.env());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut pid = String::new();
    while pid.is_empty() && Instant::now() < deadline {
        pid = server.psql("postgres", COPYING).unwrap().trim().to_owned();
        sleep(Duration::from_millis(5));
    }
    (child, pid)
}

#[test]
fn failing_in_the_middle_leaves_the_live_table_as_it_was() {
    let home = Home::with_repository();
    let mut server = PostgresServer::start().expect("PostgreSQL starts");
    server.psql("postgres", "CREATE DATABASE users").unwrap();
    ask(&server, BIG);
    let backup = dbvault(&home, &server, &["backup", "--postgres", "users", "--archive", "a"]);
    assert_eq!(backup.code, 0, "{backup:#?}");
    ask(&server, "DELETE FROM big WHERE id > 10");
    ask(&server, &rule(8));
    ask(&server, "ALTER TABLE big ADD CHECK (wait(id)) NOT VALID");
    let before = state(&server);
    let words = ["restore", "--archive", "a", "--database", "users", "--table", "big", "--in-place", "--yes"];
    // The session is ended.
    let (child, pid) = in_the_middle(&home, &server, &words);
    server.psql("postgres", &format!("SELECT pg_terminate_backend({pid})")).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    assert_eq!(state(&server), before);
    // dbvault is killed.
    let (mut child, _) = in_the_middle(&home, &server, &words);
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.psql("postgres", COPYING).unwrap().trim().is_empty() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50));
    }
    assert_eq!(state(&server), before);
    // The server is killed.
    let (child, _) = in_the_middle(&home, &server, &words);
    server.kill();
    assert!(!child.wait_with_output().unwrap().status.success());
    server.restart().unwrap();
    assert_eq!(state(&server), before);
    ask(&server, &rule(0));
    let before = state(&server);
    // A chunk in the middle is damaged.
    for (path, mut bytes) in cli_support::files_below(&home.path("repo/packs")) {
        let (begin, end) = (bytes.len() / 3, bytes.len() / 3 + bytes.len() / 10);
        if bytes.len() > 1_000_000 {
            bytes[begin..end].iter_mut().for_each(|byte| *byte ^= 1);
            fs::write(path, bytes).unwrap();
        }
    }
    let damaged = dbvault(&home, &server, &words);
    damaged.assert_failure(9, "");
    assert_eq!(state(&server), before);
}

#[test]
fn dumps_in_parts_and_plain_dumps_have_tables_too() {
    let home = Home::with_repository();
    let server = backed_up(&home);
    for (archive, more) in [("parts", "streams: 3"), ("plain", "format: plain")] {
        let config = format!(
            "repositories: [{{path: {}}}]\npostgresql_databases:\n  - name: users\n    hostname: {}\n    username: {}\n    {more}\n",
            home.path("repo").display(),
            server.socket_dir().display(),
            server.user(),
        );
        fs::write(home.path("config.yaml"), config).unwrap();
        let backup = ["backup", "--config", "config.yaml", "--key-file", "key", "--archive", archive];
        home.ok(backup);
        let before = state(&server);
        ask(&server, "DELETE FROM orders WHERE id > 10");
        let words = [
            "restore",
            "--archive",
            archive,
            "--database",
            "users",
            "--table",
            "orders",
            "--in-place",
            "--yes",
        ];
        let done = dbvault(&home, &server, &words);
        // Ten orders are left, and the items of the others went with them.
        assert_eq!(done.code, 0, "{archive}: {done:#?}");
        assert_eq!(ask(&server, "SELECT count(*) FROM orders"), "2000");
        ask(&server, "DROP TABLE orders CASCADE");
        let done = dbvault(&home, &server, &words);
        assert_eq!(done.code, 0, "{archive}: {done:#?}");
        ask(
            &server,
            "INSERT INTO items (id, order_id) OVERRIDING SYSTEM VALUE SELECT id, id FROM generate_series(11, 500) id",
        );
        assert_same(&state(&server), &before);
    }
}

/// The whole SQLite file in words: definitions and rows.
fn sqlite_state(path: &std::path::Path) -> Vec<String> {
    let database = rusqlite::Connection::open(path).unwrap();
    let lines = |sql: &str| -> Vec<String> {
        let mut found = database.prepare(sql).unwrap();
        found.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect()
    };
    let mut state = lines("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name");
    for table in ["orders", "items", "log", "sqlite_sequence"] {
        let quoted = "'\"' || replace(name, '\"', '\"\"') || '\"'";
        let names = lines(&format!("SELECT {quoted} FROM pragma_table_info('{table}')")).join(", ");
        state.extend(lines(&format!("SELECT '{table} ' || json_array({names}) FROM {table} ORDER BY rowid")));
    }
    state
}

#[test]
fn tables_of_sqlite_files_are_put_back_too() {
    let home = Home::with_repository();
    let path = home.path("app.db");
    let sql = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, \"odd \"\"x\" TEXT, twice INT AS (id * 2)); \
         CREATE TABLE items (id INTEGER PRIMARY KEY, of_order INT REFERENCES orders); CREATE TABLE log (x); \
         CREATE INDEX orders_x ON orders (\"odd \"\"x\"); \
         CREATE TRIGGER orders_log AFTER INSERT ON orders BEGIN INSERT INTO log VALUES (new.id); END; \
         INSERT INTO orders (\"odd \"\"x\") VALUES ('a'), (NULL), ('c'); INSERT INTO items VALUES (1, 1), (2, 3); \
         DELETE FROM log",
    );
    let before = sqlite_state(&path);
    home.ok(["backup", "--sqlite", "app.db", "--archive", "a"]);
    let restore = |words: &[&str]| {
        let all =
            [&["restore", "--archive", "a", "--database", "app.db", "--table", "orders"], words].concat();
        home.run(all)
    };
    sql("DELETE FROM orders WHERE id = 2; UPDATE orders SET \"odd \"\"x\" = 'live'");
    let live = sqlite_state(&path);
    let done = restore(&["--as", "old orders"]);
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(done.stdout.contains("(3 rows)") && done.stderr.contains("index orders_x"), "{done:#?}");
    let database = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT sum(twice) FROM \"old orders\" WHERE \"odd \"\"x\" IS NOT 'live'"), 12);
    restore(&["--as", "old orders"]).assert_failure(11, "choose another name");
    sql("DROP TABLE \"old orders\"");
    assert_eq!(sqlite_state(&path), live);
    restore(&["--in-place"]).assert_failure(19, "no terminal");
    let done = restore(&["--in-place", "--yes"]);
    assert_eq!(done.code, 0, "{done:#?}");
    assert_eq!(sqlite_state(&path), before);
    sql("PRAGMA foreign_keys = OFF; DROP TABLE orders");
    let done = restore(&["--in-place"]);
    assert_eq!(done.code, 0, "{done:#?}");
    assert_eq!(sqlite_state(&path), before);
    // What would break today's rows, or does not fit, changes nothing.
    sql("INSERT INTO orders (id) VALUES (77); INSERT INTO items VALUES (3, 77)");
    let live = sqlite_state(&path);
    restore(&["--in-place", "--yes"]).assert_failure(11, "would refer to nothing in \"orders\"");
    assert_eq!(sqlite_state(&path), live);
    sql("ALTER TABLE orders ADD COLUMN more TEXT");
    restore(&["--in-place", "--yes"]).assert_failure(11, "\"more\" TEXT only in the live table");
}
