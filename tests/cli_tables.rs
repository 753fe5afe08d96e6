//! Tables out of archives: listed, and one of them given without the rest.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;
use std::process::Command;

use cli_support::{Home, Run, run};
use dbvault_testkit::postgres_server::PostgresServer;

/// Tables in every form that a backup can have them.
const TABLES: &str = r#"
    CREATE TABLE people (id serial PRIMARY KEY, name text, g int GENERATED ALWAYS AS (1) STORED);
    INSERT INTO people (name) VALUES ('a,b'), (NULL), (''), (E'line\n"x"\t\\');
    CREATE SCHEMA "Odd.Schema"; CREATE TABLE "Odd.Schema"."Tä ""ble" (b bytea, j jsonb, a text[]);
    INSERT INTO "Odd.Schema"."Tä ""ble" VALUES ('\x00ff', '{"a": [1, null]}', '{"x,y",NULL}');
    CREATE TABLE nothing (a int); CREATE TABLE e (); INSERT INTO e DEFAULT VALUES;
    CREATE VIEW seen AS SELECT id FROM people;
    CREATE TABLE big AS SELECT i, md5(i::text) AS text FROM generate_series(1, 20000) i;
"#;
const WITH_ROWS: [(&str, &str); 5] = [
    ("public.people", "public.people"),
    (r#""Odd.Schema"."Tä ""ble""#, r#""Odd.Schema"."Tä ""ble""#),
    ("nothing", "nothing"),
    ("e", "e"),
    ("big", "public.big"),
];

fn with_users() -> PostgresServer {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    server.create_database("users").unwrap();
    server.psql("users", &format!("SET client_encoding = 'UTF8'; {TABLES}")).unwrap();
    server
}

fn in_world(home: &Home, server: &PostgresServer, args: &[&str]) -> Command {
    let mut command = home.command();
    command.args(args).envs(server.env());
    command
}

fn dbvault(home: &Home, server: &PostgresServer, args: &[&str]) -> Run {
    run(&mut in_world(home, server, args))
}

fn bytes(home: &Home, server: &PostgresServer, args: &[&str]) -> Vec<u8> {
    let output = in_world(home, server, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn copied(server: &PostgresServer, database: &str, table: &str, options: &str) -> Vec<u8> {
    let copy = format!("COPY {table} TO STDOUT {options}");
    let mut psql = server.command("psql");
    let output =
        psql.args(["-X", "-q", "-d", database, "-c", &copy]).env("PGCLIENTENCODING", "UTF8").output();
    output.unwrap().stdout
}

fn backup(home: &Home, server: &PostgresServer, lines: &str) {
    let config = "postgresql_databases:\n  - name: users\n".to_owned() + lines;
    fs::write(home.path("users.yaml"), config).unwrap();
    let made =
        dbvault(home, server, &["backup", "--config", "users.yaml", "--repo", "repo", "--key-file", "key"]);
    assert_eq!(made.code, 0, "{made:#?}");
}

#[test]
fn every_table_is_what_copy_gives_on_the_source_however_it_was_dumped() {
    let (home, server) = (Home::with_repository(), with_users());
    for lines in ["", "    format: plain\n", "    streams: 3\n"] {
        backup(&home, &server, lines);
        let tables = dbvault(&home, &server, &["tables", "--database", "users"]);
        assert_eq!(tables.code, 0, "{tables:#?}");
        assert!(tables.stdout.contains("public.big"), "{tables:#?}");
        let listed = dbvault(&home, &server, &["tables", "--json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
        let tables = listed["databases"][0]["tables"].as_array().unwrap();
        assert_eq!(listed["databases"][0]["name"], "users", "{lines}");
        assert_eq!(tables.len(), 6, "{lines}: {tables:#?}");
        let big = tables.iter().find(|table| table["name"] == "big").unwrap();
        let text = copied(&server, "users", "big", "");
        assert_eq!((big["rows"].as_u64(), big["bytes"].as_u64()), (Some(20_000), Some(text.len() as u64)));
        for (table, quoted) in WITH_ROWS {
            let extract = |more: &[&str]| {
                let fixed = ["extract", "--archive", "latest", "--database", "users", "--table", table];
                bytes(&home, &server, &[&fixed, more].concat())
            };
            assert_eq!(
                extract(&["--format", "copy"]),
                copied(&server, "users", quoted, ""),
                "{lines}{table}"
            );
            assert_eq!(extract(&[]), copied(&server, "users", quoted, "csv"), "{lines}{table}");
            let header = extract(&["--header"]);
            assert_eq!(header, copied(&server, "users", quoted, "csv header"), "{lines}{table}");
            server.psql("postgres", "DROP DATABASE IF EXISTS scratch").unwrap();
            server.create_database("scratch").unwrap();
            server.psql("scratch", std::str::from_utf8(&extract(&["--format", "sql"])).unwrap()).unwrap();
            assert_eq!(copied(&server, "scratch", quoted, "csv"), copied(&server, "users", quoted, "csv"));
        }
    }
}

#[test]
fn a_table_goes_to_a_file_as_an_entry_does() {
    let (home, server) = (Home::with_repository(), with_users());
    backup(&home, &server, "");
    let args = ["extract", "--archive", "latest", "--table", "people", "--output", "people.csv"];
    let json = dbvault(&home, &server, &[&args[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["table"], &json["format"]), (&"public.people".into(), &"csv".into()));
    assert_eq!(fs::read(home.path("people.csv")).unwrap(), copied(&server, "users", "people", "csv"));
    dbvault(&home, &server, &args).assert_failure(6, "people.csv");
    let forced = dbvault(&home, &server, &[&args[..], &["--force"]].concat());
    assert_eq!(forced.code, 0, "{forced:#?}");
}

#[test]
fn what_is_not_there_is_told_with_what_is_like_it() {
    let (home, server) = (Home::with_repository(), with_users());
    backup(&home, &server, "");
    let extract = |table: &str, more: &[&str]| {
        let fixed = ["extract", "--archive", "latest", "--database", "users", "--table", table];
        dbvault(&home, &server, &[&fixed, more].concat())
    };
    let unknown = extract("poeple", &[]);
    unknown.assert_failure(12, "no table is called poeple");
    assert!(unknown.stderr.contains("public.people"), "{unknown:#?}");
    extract("seen", &[]).assert_failure(1, "has no rows of public.seen, a view");
    let view = extract("seen", &["--format", "sql"]);
    assert!(view.code == 0 && view.stdout.contains("CREATE VIEW public.seen"), "{view:#?}");
    assert_eq!(extract("people", &["--format", "xml"]).code, 2);
    let no_table = dbvault(&home, &server, &["extract", "--archive", "latest", "--format", "csv"]);
    assert_eq!(no_table.code, 2, "{no_table:#?}");
}

#[test]
fn sqlite_files_have_tables_and_other_streams_have_none() {
    let home = Home::with_repository();
    home.make_sqlite("app.db", 3);
    home.ok([
        "backup",
        "--sqlite",
        "app.db",
        "--name",
        "app",
        "--command",
        "echo hello",
        "--name",
        "greeting",
    ]);
    let tables = home.run(["tables"]);
    assert!(
        tables.code == 0 && tables.stdout.contains("app       t") || tables.stdout.contains("t "),
        "{tables:#?}"
    );
    assert!(tables.stderr.contains("tables of greeting can't be looked into"), "{tables:#?}");
    home.fails(["tables", "--database", "greeting"], 1, "can't be looked into");
    let csv = home.ok(["extract", "--archive", "latest", "--database", "app", "--table", "t", "--header"]);
    assert_eq!(csv, "id,text\n0,row 0\n1,row 1\n2,row 2\n");
    let json = home.json(["tables", "--json"]);
    assert_eq!(json["left_out"][0]["name"], "greeting");
    assert_eq!(json["databases"][0]["tables"][0]["table"], "t");
}
