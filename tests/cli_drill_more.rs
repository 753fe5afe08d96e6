//! Drills of MariaDB and Redis: proven without the server it came from, told where damaged, and nothing runs after.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and one that is skipped says why"
)]

mod cli_support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_support::{Home, Run, run};
use dbvault_testkit::{mariadb_server, redis_server};

/// How long a server may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

fn mariadb() -> Option<mariadb_server::MariadbServer> {
    match mariadb_server::MariadbServer::start() {
        Ok(server) => Some(server),
        Err(error) => {
            assert!(error.starts_with(mariadb_server::NOT_INSTALLED), "{error}");
            println!("skipped: {error}");
            None
        }
    }
}

fn redis() -> Option<redis_server::RedisServer> {
    match redis_server::RedisServer::start(&[]) {
        Ok(server) => Some(server),
        Err(error) => {
            assert!(error.starts_with(redis_server::NOT_INSTALLED), "{error}");
            println!("skipped: {error}");
            None
        }
    }
}

/// A drill with a directory for temporary files of its own: no server must be left there.
fn drill(home: &Home, words: &[&str]) -> Run {
    let temporary = tempfile::Builder::new().prefix("dbvault-t-").tempdir_in("/tmp").unwrap();
    // Servers are run by other users than root.
    fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut command = home.command();
    // What a user has set for servers of theirs.
    fs::write(home.path("home/.my.cnf"), "[client]\npassword=wrong\nuser=nobody\n").unwrap();
    command.env("MYSQL_PWD", "wrong").env("REDISCLI_AUTH", "wrong");
    let run = run(command.env("TMPDIR", temporary.path()).arg("drill").args(words));
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new(), "{run:#?}");
    assert_eq!(processes_with(temporary.path()), Vec::<String>::new());
    run
}

#[test]
fn no_server_outlives_a_drill_that_is_killed() {
    let (home, Some(server)) = (Home::with_repository(), mariadb()) else { return };
    server.sql("", "CREATE DATABASE shop; CREATE TABLE shop.t (x INT)").unwrap();
    back_up(&home, &["--mariadb", &address(&server.socket(), "shop")]);
    let temporary = tempfile::Builder::new().prefix("dbvault-t-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut command = home.command();
    command.env("TMPDIR", temporary.path()).arg("drill").stdout(Stdio::null()).stderr(Stdio::null());
    let mut drill = command.spawn().unwrap();
    let since = Instant::now();
    let is_server = |line: &String| line.contains("--skip-networking");
    while !processes_with(temporary.path()).iter().any(is_server) {
        assert!(since.elapsed() < PATIENCE && drill.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(5));
    }
    drill.kill().unwrap();
    drill.wait().unwrap();
    let since = Instant::now();
    let servers = || -> Vec<_> {
        let all = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name());
        all.filter(|name| name.to_string_lossy().starts_with("dbvault-my-")).collect()
    };
    while !processes_with(temporary.path()).is_empty() || !servers().is_empty() {
        assert!(since.elapsed() < PATIENCE, "{:?} {:?}", processes_with(temporary.path()), servers());
        sleep(Duration::from_millis(5));
    }
}

/// Command lines of all processes that name a path.
fn processes_with(path: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(path.to_str().unwrap())).collect()
}

/// Changes a tenth of the largest pack, early in it: what was stored last, the table of entries, stays.
fn damage(home: &Home) {
    let packs = cli_support::files_below(&home.path("repo/packs"));
    let (path, mut bytes) = packs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let tenth = bytes.len() / 10;
    bytes[tenth..2 * tenth].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(path, bytes).unwrap();
}

fn back_up(home: &Home, words: &[&str]) {
    let backup = run(home.command().arg("backup").args(words));
    assert_eq!(backup.code, 0, "{backup:#?}");
}

fn address(socket: &Path, database: &str) -> String {
    format!("mariadb://root@{}/{database}", socket.to_str().unwrap().replace('/', "%2F"))
}

const SHOP: &str = "CREATE DATABASE shop; CREATE USER clerk@'%'; GRANT ALL ON shop.* TO clerk@'%'; USE shop; \
     CREATE TABLE item (id INT PRIMARY KEY, text TEXT); CREATE TABLE `od``d \"na'me\\\\` (x INT); \
     INSERT INTO item SELECT seq, MD5(seq) FROM seq_1_to_5000; \
     CREATE TABLE past (x INT) WITH SYSTEM VERSIONING; INSERT INTO past VALUES (1), (2); DELETE FROM past WHERE x = 1; \
     CREATE SEQUENCE s; CREATE DEFINER=clerk@'%' VIEW v AS SELECT id FROM item; \
     CREATE DEFINER=clerk@'%' PROCEDURE p() SELECT COUNT(*) FROM item; \
     CREATE DEFINER=clerk@'%' TRIGGER t BEFORE INSERT ON item FOR EACH ROW SET NEW.text = UPPER(NEW.text); \
     CREATE DEFINER=clerk@'%' EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' DO DELETE FROM item; \
     CREATE DATABASE empty";

#[test]
fn mariadb_is_proven_without_the_server_it_came_from() {
    let (home, Some(server)) = (Home::with_repository(), mariadb()) else { return };
    server.sql("", SHOP).unwrap();
    let all = address(&server.socket(), "all");
    back_up(&home, &["--mariadb", &all, "--archive", "whole"]);
    back_up(&home, &["--mariadb", &address(&server.socket(), "shop"), "--archive", "one"]);
    drop(server);
    // With its users, and without: what belongs to them is restored all the same.
    for archive in ["whole", "one"] {
        let run = drill(&home, &["--archive", archive]);
        assert_eq!(run.code, 0, "{run:#?}");
        let want = "restored: 3 tables, 5001 rows, as when it was backed up";
        assert!(run.stdout.contains(want), "{run:#?}");
        assert_eq!(run.stdout.contains("restored: 0 tables, 0 rows"), archive == "whole", "{run:#?}");
    }
    let run = drill(&home, &["--archive", "whole", "--database", "mariadb-globals"]);
    assert_eq!(run.code, 26, "{run:#?}");
    let shown = home.ok(["show", "whole"]);
    assert!(shown.contains("drill of shop"), "{shown}");
}

#[test]
fn mariadb_that_was_damaged_is_not_proven() {
    let (home, Some(server)) = (Home::with_repository(), mariadb()) else { return };
    let sql = "CREATE DATABASE big; USE big; CREATE TABLE t (x TEXT); \
               INSERT INTO t SELECT SHA2(seq, 512) FROM seq_1_to_30000";
    server.sql("", sql).unwrap();
    back_up(&home, &["--mariadb", &address(&server.socket(), "big")]);
    let run = drill(&home, &[]);
    assert_eq!(run.code, 0, "{run:#?}");
    damage(&home);
    let run = drill(&home, &[]);
    assert_eq!(run.code, 26, "{run:#?}");
    assert!(run.stdout.contains("FAILED"), "{run:#?}");
}

fn fill(server: &redis_server::RedisServer) {
    let mut lines = String::from(
        "SET soon gone PX 1\nSET later gone EX 100000\nLPUSH list a b c\nSADD numbers 1 2 3\nSADD set x y\n\
         HSET hash f1 v1 f2 v2\nZADD sorted 1.5 a -inf b\nPFADD hll a b c\nSETBIT bits 1000 1\n\
         XADD stream 1-1 f v\nXADD stream 2-1 f v\nXGROUP CREATE stream g 0\nXREADGROUP GROUP g c STREAMS stream >\n\
         FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('hi', function() return 'hi' end)\"\n",
    );
    for number in 0..2000 {
        lines += &format!("RPUSH big {number}{}\n", "x".repeat(number % 90));
        lines += &format!(
            "SADD bigset {number}y\nZADD bigsorted 0.{number} m{number}\nHSET bighash f{number} v\n"
        );
        lines += &format!("SET key:{number} {number}:{:x}{}\n", number * 7919, "x".repeat(number % 300));
    }
    lines += "SELECT 3\nSET other database\n";
    server.commands(&lines).unwrap();
}

#[test]
fn redis_is_proven_without_the_server_it_came_from_and_told_where_damaged() {
    let (home, Some(server)) = (Home::with_repository(), redis()) else { return };
    fill(&server);
    let socket = server.socket().to_str().unwrap().replace('/', "%2F");
    back_up(&home, &["--redis", &format!("redis://{socket}/cache")]);
    drop(server);
    let run = drill(&home, &["--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let entry = &document["entries"][0];
    // 2000 texts, 4 large and 8 small values, one that runs out late, and one elsewhere; what ran out is not missed.
    assert_eq!((&entry["rows"], &entry["compared"]), (&2014.into(), &true.into()), "{run:#?}");
    let run = drill(&home, &[]);
    assert!(run.stdout.contains("restored: 2 databases, 2014 keys, as when it was backed up"), "{run:#?}");
    damage(&home);
    let run = drill(&home, &[]);
    assert_eq!(run.code, 26, "{run:#?}");
    assert!(run.stdout.contains("FAILED"), "{run:#?}");
}

#[test]
fn a_server_that_is_not_installed_is_named() {
    let (home, Some(server)) = (Home::with_repository(), redis()) else { return };
    server.command(&["SET", "a", "b"]).unwrap();
    let socket = server.socket().to_str().unwrap().replace('/', "%2F");
    back_up(&home, &["--redis", &format!("redis://{socket}/cache")]);
    let nothing = home.path("nothing");
    fs::create_dir(&nothing).unwrap();
    let run = run(home.command().env("PATH", nothing).arg("drill"));
    assert_eq!(run.code, 26, "{run:#?}");
    assert!(run.stdout.contains("program not found: redis-server"), "{run:#?}");
}
