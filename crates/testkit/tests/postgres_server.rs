//! The private PostgreSQL server: starts, answers, hashes, and leaves nothing behind.

use dbvault_testkit::postgres_server::{PostgresServer, ServerOptions};

const SAMPLE: &str = r"
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE SCHEMA odd;
CREATE TABLE odd.people (id serial PRIMARY KEY, name text NOT NULL, mood mood, born timestamptz DEFAULT now());
INSERT INTO odd.people (name, mood) SELECT 'name ' || n, 'good' FROM generate_series(1, 1000) n;
CREATE VIEW odd.names AS SELECT name FROM odd.people;
CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql AS 'SELECT x * 2';
CREATE TABLE parted (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (10);
INSERT INTO parted VALUES (1, 'a');
CREATE MATERIALIZED VIEW counts AS SELECT count(*) FROM parted;
SELECT lo_from_bytea(4242, 'large');
";

#[test]
fn starts_answers_and_leaves_nothing() -> Result<(), String> {
    let server = PostgresServer::start()?;
    let directory = server.socket_dir();
    assert_eq!(server.psql("postgres", "SELECT 1, 'a'")?, "1|a");
    assert_eq!(server.psql("postgres", "SHOW listen_addresses")?, "");
    let error = server.psql("postgres", "SELECT nonsense").expect_err("a faulty statement must fail");
    assert!(error.contains("nonsense"), "{error}");
    drop(server);
    assert!(!directory.exists());
    Ok(())
}

#[test]
fn row_hashes_tell_databases_apart() -> Result<(), String> {
    let server = PostgresServer::start()?;
    server.create_database("a b")?;
    server.psql("a b", SAMPLE)?;
    let before = server.row_hashes("a b")?;
    for fact in [
        "enum public.mood",
        "column odd.people.id",
        "constraint odd.people",
        "index CREATE",
        "view odd.names",
    ] {
        assert!(before.contains(fact), "{fact} is missing in:\n{before}");
    }
    for fact in [
        "function public.twice",
        "table odd.people 1000 rows",
        "sequence odd.people_id_seq 1000 called",
        "4242",
    ] {
        assert!(before.contains(fact), "{fact} is missing in:\n{before}");
    }
    assert_eq!(before, server.row_hashes("a b")?);
    server.psql("a b", "UPDATE odd.people SET name = 'other' WHERE id = 500")?;
    assert_ne!(before, server.row_hashes("a b")?);
    Ok(())
}

#[test]
fn asks_for_a_password_and_survives_a_crash() -> Result<(), String> {
    let mut server =
        PostgresServer::start_with(ServerOptions { password: true, tcp: true, ..ServerOptions::default() })?;
    server.create_database("kept")?;
    server.kill();
    server.restart()?;
    assert_eq!(server.psql("kept", "SELECT 1")?, "1");
    let refused = server
        .command("psql")
        .env("PGPASSWORD", "wrong")
        .args(["-h", "127.0.0.1", "-w", "-d", "kept", "-c", "SELECT 1"])
        .output()
        .map_err(|error| error.to_string())?;
    assert!(!refused.status.success());
    Ok(())
}

#[test]
fn what_was_committed_survives_a_server_that_is_killed() {
    let mut server = PostgresServer::start().unwrap();
    server.psql("postgres", "CREATE TABLE numbers (n INT)").unwrap();
    for number in 1..=4 {
        server.psql("postgres", "INSERT INTO numbers VALUES (1)").unwrap();
        if number % 2 == 0 {
            server.kill()
        } else {
            server.stop_immediate()
        }
        server.restart().unwrap();
        assert_eq!(server.psql("postgres", "SELECT count(*) FROM numbers").unwrap(), number.to_string());
    }
}
