//! Drills: what restores is proven, what does not is told, and no server of the user's is touched.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use cli_support::{Home, Run, run};
use dbvault_testkit::postgres_server::PostgresServer;
use rusqlite::Connection;

fn dbvault(home: &Home, server: &PostgresServer, words: &[&str]) -> Run {
    run(home.command().args(words).envs(server.env()))
}

fn with_data() -> PostgresServer {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    let sql = "CREATE ROLE owner_1; CREATE ROLE \"Odd role\"; CREATE DATABASE users OWNER owner_1";
    server.psql("postgres", sql).unwrap();
    let sql = "CREATE TABLE t AS SELECT id, md5(id::text) AS text FROM generate_series(1, 1000) id; \
               CREATE TABLE o (x int); ALTER TABLE o OWNER TO \"Odd role\"; GRANT SELECT ON t TO owner_1; \
               ALTER TABLE o ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON o TO owner_1 USING (x > 0)";
    server.psql("users", sql).unwrap();
    server
}

#[test]
fn what_restores_is_proven_without_the_server_it_came_from() {
    let (home, server) = (Home::with_repository(), with_data());
    let file = home.path("app.db");
    let app = Connection::open(&file).unwrap();
    app.execute_batch("CREATE TABLE a (x); INSERT INTO a VALUES (1), (2); CREATE TABLE \"b\"\"c\" (y)")
        .unwrap();
    drop(app);
    let path = file.display().to_string();
    let words = ["backup", "--postgres", "users", "--sqlite", &path, "--command", "echo x", "--name", "x"];
    let backup = dbvault(&home, &server, &words);
    assert_eq!(backup.code, 0, "{backup:#?}");
    drop(server);
    std::fs::remove_file(&file).unwrap();
    let drill = home.run(["drill"]);
    assert_eq!(drill.code, 0, "{drill:#?}");
    assert!(drill.stdout.contains("restored: 2 tables, 1000 rows, as when it was backed up"), "{drill:#?}");
    assert!(drill.stdout.contains("restored: 2 tables, 2 rows\n"), "{drill:#?}");
    assert!(drill.stdout.contains("not tried"), "{drill:#?}");
    assert!(!file.exists());
    let asked = ["drill", "--database", "users", "--query", "SELECT count(*) = 1000 FROM t"];
    assert_eq!(home.run(asked).code, 0);
    let wrong = ["drill", "--database", "users", "--query", "SELECT count(*) = 7 FROM t"];
    home.fails(wrong, 26, "1 database of archive");
    home.fails(["drill", "--database", "x"], 26, "nothing that can be tried");
    home.fails(["drill", "--database", "nope"], 12, "no entry named nope");
}

#[test]
fn what_was_damaged_is_not_proven() {
    let (home, server) = (Home::with_repository(), with_data());
    server
        .psql("users", "INSERT INTO t SELECT id, md5(id::text) FROM generate_series(1, 200000) id")
        .unwrap();
    let backup = dbvault(&home, &server, &["backup", "--postgres", "all"]);
    assert_eq!(backup.code, 0, "{backup:#?}");
    let drill = home.run(["drill", "--json"]);
    assert_eq!(drill.code, 0, "{drill:#?}");
    assert!(drill.stdout.contains("\"compared\": true"), "{drill:#?}");
    // Early in the largest pack: what was stored last, the table of entries, stays.
    let packs = cli_support::files_below(&home.path("repo/packs"));
    let (path, mut bytes) = packs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let tenth = bytes.len() / 10;
    bytes[tenth..2 * tenth].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(path, bytes).unwrap();
    let drill = home.run(["drill"]);
    assert_eq!(drill.code, 26, "{drill:#?}");
    assert!(drill.stdout.contains("FAILED"), "{drill:#?}");
}

#[test]
fn the_configuration_asks_questions_too() {
    let home = Home::with_repository();
    let file = home.path("app.db");
    Connection::open(&file)
        .unwrap()
        .execute_batch("CREATE TABLE a (x); INSERT INTO a VALUES (1), (2)")
        .unwrap();
    let configured = |query: &str| {
        let text = format!(
            "repositories: [{}]\nkey_file: {}\n\
             sqlite_databases:\n- name: app\n  path: {}\n  drill_queries: ['{query}']\n",
            home.path("repo").display(),
            home.path("key").display(),
            file.display()
        );
        let config = home.path("config.yaml");
        std::fs::write(&config, text).unwrap();
        config.display().to_string()
    };
    let right = configured("SELECT count(*) = 2 FROM a");
    home.ok(["--config", &right, "backup"]);
    home.ok(["--config", &right, "drill"]);
    for (query, answer) in [
        ("SELECT count(*) = 3 FROM a", "0"),
        ("SELECT x FROM a WHERE x > 2", "nothing"),
        ("SELECT max(x) FROM a WHERE x > 2", "NULL"),
    ] {
        let drill = home.run(["--config", &configured(query), "drill"]);
        assert_eq!(drill.code, 26, "{drill:#?}");
        assert!(drill.stdout.contains(&format!("is answered by {answer}")), "{drill:#?}");
    }
}
