//! Two archives compared: what was added, removed and changed, and by how much.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;

use cli_support::Home;
use dbvault_testkit::postgres_server::PostgresServer;
use serde_json::Value;

/// Bytes that look random and are the same each time.
fn command(megabytes: u32, more: &str) -> String {
    format!(
        "openssl enc -aes-128-ctr -pass pass:x -nosalt -in /dev/zero 2>/dev/null | head -c {megabytes}000000; {more}"
    )
}

fn entry<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["entries"].as_array().unwrap().iter().find(|entry| entry["name"] == name).expect(name)
}

#[test]
fn entries_are_added_removed_changed_and_unchanged() {
    let home = Home::with_repository();
    let backup = |archive: &str, sources: &[(&str, String)]| {
        let mut words = vec!["backup".to_owned(), "--archive".into(), archive.into()];
        for (name, command) in sources {
            words.extend(["--command".into(), command.clone(), "--name".into(), (*name).to_owned()]);
        }
        home.ok(words);
    };
    let (same, grows) = (command(3, "true"), command(20, "true"));
    backup("one", &[("same", same.clone()), ("grows", grows), ("old", "echo old".into())]);
    backup("two", &[("same", same), ("grows", command(20, "echo and more")), ("new", "echo anew".into())]);
    let found = home.json(["diff", "one", "two", "--json"]);
    assert_eq!((&found["older"]["name"], &found["newer"]["name"]), (&"one".into(), &"two".into()));
    assert_eq!(found["differing"], 3);
    for (name, change, old, new) in [
        ("same", "unchanged", Some(3_000_000), Some(3_000_000)),
        ("grows", "changed", Some(20_000_000), Some(20_000_009)),
        ("old", "removed", Some(4), None),
        ("new", "added", None, Some(5)),
    ] {
        let entry = entry(&found, name);
        let (old, new): (Option<u64>, Option<u64>) = (old, new);
        assert_eq!((entry["change"].as_str(), entry["old_bytes"].as_u64()), (Some(change), old), "{entry}");
        assert_eq!(entry["new_bytes"].as_u64(), new, "{entry}");
    }
    let added = entry(&found, "grows")["added_bytes"].as_u64().unwrap();
    assert!((9..2_000_000).contains(&added), "{added}: the last chunk");
    assert_eq!(entry(&found, "old")["removed_bytes"], 4);
    assert_eq!(entry(&found, "same")["added_bytes"], 0);
    let text = home.ok(["diff", "one", "--database", "grows", "same"]);
    assert!(text.contains("20.0 MB") && text.lines().count() == 3, "{text}");
    // What users of diff may expect of exit codes is there for those who ask for it.
    home.fails(["diff", "one", "two", "--exit-code"], 27, "the archives differ in 3 entries");
    home.ok(["diff", "one", "two", "--exit-code", "--database", "same"]);
    home.ok(["diff", "one", "one", "--exit-code"]);
    home.fails(["diff", "one", "two", "--database", "nope"], 12, "no entry named nope");
    home.fails(["diff", "one", "nope"], 12, "nope");
    assert_eq!(home.json(["diff", "two", "--json"])["differing"], 0, "with the latest");
}

#[test]
fn a_database_in_parts_is_one() {
    let home = Home::with_repository();
    let server = PostgresServer::start().expect("PostgreSQL starts");
    server.psql("postgres", "CREATE DATABASE users").unwrap();
    server.psql("users", "CREATE TABLE t AS SELECT id FROM generate_series(1, 300000) id").unwrap();
    server.psql("users", "CREATE TABLE u AS SELECT 1 AS x; CREATE TABLE v AS SELECT 1 AS x").unwrap();
    let config = format!(
        "repositories: [{{path: {}}}]\npostgresql_databases:\n  - name: users\n    hostname: {}\n    username: {}\n    streams: 3\n",
        home.path("repo").display(),
        server.socket_dir().display(),
        server.user(),
    );
    fs::write(home.path("parts.yaml"), config).unwrap();
    let backup = ["backup", "--config", "parts.yaml", "--key-file", "key", "--archive"];
    home.ok(backup.iter().chain(&["one"]));
    server.psql("users", "INSERT INTO u VALUES (2)").unwrap();
    home.ok(backup.iter().chain(&["two"]));
    let found = home.json(["diff", "one", "two", "--json"]);
    assert_eq!(found["entries"].as_array().unwrap().len(), 2, "it, and the configuration: {found}");
    let users = entry(&found, "users");
    assert_eq!(users["change"], "changed");
    let (all, added) = (users["new_bytes"].as_u64().unwrap(), users["added_bytes"].as_u64().unwrap());
    assert!(added > 0 && added < all / 2, "{added} of {all}");
}

#[test]
fn tables_tell_of_their_rows() {
    let home = Home::with_repository();
    let server = PostgresServer::start().expect("PostgreSQL starts");
    server.psql("postgres", "CREATE DATABASE users").unwrap();
    server
        .psql("users", "CREATE TABLE t AS SELECT id FROM generate_series(1, 1000) id; CREATE TABLE u (x int)")
        .unwrap();
    home.make_sqlite("app.db", 10);
    let backup = |archive: &str| {
        let words = ["backup", "--postgres", "users", "--sqlite", "app.db", "--archive", archive];
        let done = cli_support::run(home.command().args(words).envs(server.env()));
        assert_eq!(done.code, 0, "{done:#?}");
    };
    backup("one");
    server.psql("users", "DELETE FROM t WHERE id <= 10; INSERT INTO t VALUES (5000)").unwrap();
    rusqlite::Connection::open(home.path("app.db"))
        .unwrap()
        .execute("DELETE FROM t WHERE id = 3", [])
        .unwrap();
    backup("two");
    let found = home.json(["diff", "one", "two", "--tables", "--json"]);
    let tables = entry(&found, "users")["tables"].as_array().unwrap();
    let of = |name: &str| tables.iter().find(|table| table["table"] == name).unwrap();
    assert_eq!((&of("public.t")["removed_rows"], &of("public.t")["added_rows"]), (&10.into(), &1.into()));
    assert_eq!(of("public.u")["change"], "unchanged");
    let sqlite = found["entries"].as_array().unwrap().iter().find(|entry| entry["kind"] == "sqlite").unwrap();
    assert_eq!(sqlite["tables"][0]["removed_rows"], 1, "{sqlite}");
    let text = home.ok(["diff", "one", "two", "--tables", "--database", "users"]);
    assert!(text.contains("public.t  changed         1000         991       10      1"), "{text}");
    assert!(text.contains("Unchanged: 1 table"), "{text}");
}
