//! The program with a PostgreSQL server of its own.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::process::Command;

use cli_support::{Home, Run, run};
use dbvault_testkit::dump_series::{DATABASE, DumpSeries};
use dbvault_testkit::postgres_server::PostgresServer;

fn with_users() -> PostgresServer {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    server.create_database("users").unwrap();
    server
        .psql("users", "CREATE TABLE t AS SELECT id, md5(id::text) AS text FROM generate_series(1, 1000) id")
        .unwrap();
    server
}

/// The program in `home`, led to `server` by the environment.
fn command(home: &Home, server: &PostgresServer, words: &str) -> Command {
    let mut command = home.command();
    command.args(words.split(' ')).envs(server.env());
    command
}

fn dbvault(home: &Home, server: &PostgresServer, words: &str) -> Run {
    run(&mut command(home, server, words))
}

fn count(server: &PostgresServer, database: &str) -> String {
    server.psql(database, "SELECT count(*) FROM t").unwrap().trim().to_owned()
}

#[test]
fn a_database_goes_in_and_comes_back() {
    let (home, server) = (Home::with_repository(), with_users());
    let before = server.row_hashes("users").unwrap();
    let backup = dbvault(&home, &server, "backup --postgres users");
    assert_eq!(backup.code, 0, "{backup:#?}");
    assert!(backup.stdout.contains("users  postgresql"), "{backup:#?}");
    let shown = dbvault(&home, &server, "show");
    assert!(shown.stdout.contains("users on "), "{shown:#?}");

    server.psql("users", "DELETE FROM t").unwrap();
    dbvault(&home, &server, "restore --archive latest").assert_failure(19, "database \"users\"");
    assert_eq!(count(&server, "users"), "0");
    let restored = dbvault(&home, &server, "restore --archive latest --yes");
    assert_eq!(restored.code, 0, "{restored:#?}");
    assert_eq!(server.row_hashes("users").unwrap(), before);

    let beside = dbvault(&home, &server, "restore --archive latest --database users --to users_test");
    assert_eq!(beside.code, 0, "{beside:#?}");
    assert_eq!(count(&server, "users_test"), "1000");
}

/// Megabytes of the large database; `DBVAULT_TEST_MB` makes it larger.
const LARGE_MEGABYTES: u32 = 30;

#[test]
fn a_large_database_comes_back_from_each_of_its_days() {
    let megabytes = std::env::var("DBVAULT_TEST_MB").ok().and_then(|megabytes| megabytes.parse().ok());
    let (home, server) = (Home::with_repository(), PostgresServer::start().unwrap());
    let mut series = DumpSeries::create(&server, megabytes.unwrap_or(LARGE_MEGABYTES)).unwrap();
    let mut days = Vec::new();
    for day in ["monday", "tuesday", "wednesday"] {
        let words = format!("backup --postgres {DATABASE} --archive {day} --json");
        let backup = dbvault(&home, &server, &words);
        assert_eq!(backup.code, 0, "{backup:#?}");
        days.push((day, server.row_hashes(DATABASE).unwrap()));
        series.next_day().unwrap();
    }
    for (day, rows) in days {
        let restored = dbvault(&home, &server, &format!("restore --archive {day} --to copy_of_{day}"));
        assert_eq!(restored.code, 0, "{restored:#?}");
        assert_eq!(server.row_hashes(&format!("copy_of_{day}")).unwrap(), rows, "{day}");
    }
    home.ok(["check", "--read-data"]);
}

#[test]
fn a_restore_finds_the_server_that_the_entry_came_from() {
    let (home, server) = (Home::with_repository(), with_users());
    let socket = server.socket_dir();
    let place = format!("--host {} --port {} --username {}", socket.display(), server.port(), server.user());
    let words = format!("backup --postgres users {place}");
    let backup = home.run(words.split(' '));
    assert_eq!(backup.code, 0, "{backup:#?}");
    server.psql("postgres", "DROP DATABASE users").unwrap();
    let words = format!("restore --archive latest --username {}", server.user());
    let restored = home.run(words.split(' '));
    assert_eq!(restored.code, 0, "{restored:#?}");
    assert_eq!(count(&server, "users"), "1000");
}

#[test]
fn a_database_that_is_not_there() {
    let (home, server) = (Home::with_repository(), with_users());
    let missing = dbvault(&home, &server, "backup --postgres nope");
    missing.assert_failure(13, "no such database: nope");
    assert_eq!(home.archives(), [""; 0]);
    let partly = dbvault(&home, &server, "backup --postgres users --postgres nope");
    partly.assert_failure(23, "no such database: nope");
    let restored = dbvault(&home, &server, "restore --archive latest --database users --to again");
    assert_eq!(restored.code, 0, "{restored:#?}");
    dbvault(&home, &server, "restore --archive latest --database nope")
        .assert_failure(12, "no entry named nope");
}

#[test]
fn a_whole_server_moves_to_another_one() {
    let (home, server) = (Home::with_repository(), with_users());
    let sql =
        "CREATE ROLE owner_of_all; CREATE DATABASE orders OWNER owner_of_all; CREATE DATABASE \"Odd name\"";
    server.psql("postgres", sql).unwrap();
    server
        .psql("orders", "CREATE SCHEMA a AUTHORIZATION owner_of_all; CREATE TABLE a.t AS SELECT 1 AS x")
        .unwrap();
    let backup = dbvault(&home, &server, "backup --postgres all");
    assert_eq!(backup.code, 0, "{backup:#?}");
    let rows = |server: &PostgresServer| {
        ["users", "orders", "Odd name"].map(|name| server.row_hashes(name).unwrap())
    };
    let before = rows(&server);
    let other = PostgresServer::start().unwrap();
    let restored = dbvault(&home, &other, "restore --archive latest --yes");
    assert_eq!(restored.code, 0, "{restored:#?}");
    assert!(
        restored.stdout.contains("Restored users (1 table, 1000 rows) to PostgreSQL database users"),
        "{restored:#?}"
    );
    assert_eq!(rows(&other), before);
    let owner =
        other.psql("postgres", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'orders'");
    assert_eq!(owner.unwrap().trim(), "owner_of_all");
}

#[test]
fn passwords_come_by_environment_and_are_never_shown() {
    let home = Home::with_repository();
    let server = PostgresServer::start_with_password().expect("PostgreSQL starts");
    server.create_database("users").unwrap();
    dbvault(&home, &server, "backup --postgres users").assert_failure(15, "cannot connect to");
    let password = server.password().unwrap().to_owned();
    let backup = run(command(&home, &server, "backup --postgres users -vv").env("PGPASSWORD", &password));
    assert_eq!(backup.code, 0, "{backup:#?}");
    assert!(!backup.stderr.contains(&password) && !backup.stdout.contains(&password), "{backup:#?}");
    let shown = home.ok(["show", "--json"]);
    assert!(!shown.contains(&password));
    let uri = "backup --postgres postgresql://u:geheim@localhost:1/users";
    let warned = dbvault(&home, &server, uri);
    assert!(warned.stderr.contains("warning: everybody on this machine can read a password"), "{warned:#?}");
    assert!(!warned.stderr.contains("geheim"), "{warned:#?}");
}
