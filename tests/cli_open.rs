//! Databases of archives, opened in private servers: they are the archive's, and nothing of them stays.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_support::{DBVAULT, Home, Run, run};
use dbvault_testkit::mariadb_server::MariadbServer;
use dbvault_testkit::postgres_server::PostgresServer;
use dbvault_testkit::redis_server::RedisServer;
use rexpect::session::spawn_command;
use rustix::process::{Pid, Signal, kill_process};

const TIMEOUT_MS: u64 = 60_000;

/// Where private servers of this user are: short, as a socket needs it, and to be entered by the server's user.
const PLACE: &str = "t";

/// The program with its own place for private servers, and what would lead it to another server.
fn command(home: &Home) -> Command {
    let place = home.path(PLACE);
    fs::create_dir_all(&place).unwrap();
    let mut command = home.command();
    command.env("TMPDIR", place).env("PGHOSTADDR", "192.0.2.1").env("PGSERVICE", "nowhere");
    command
}

fn open(home: &Home, words: &[&str]) -> Run {
    run(command(home).arg("open").args(words))
}

/// Processes that have the directory of private servers among their words.
fn processes(home: &Home) -> Vec<String> {
    let place = home.path(PLACE).display().to_string();
    let words = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(words);
    all.map(|words| String::from_utf8_lossy(&words).into_owned())
        .filter(|words| words.contains(&place))
        .collect()
}

/// Waits until no process and no file of a private server is left.
#[track_caller]
fn assert_nothing_left(home: &Home) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let files: Vec<_> =
            fs::read_dir(home.path(PLACE)).unwrap().flatten().map(|entry| entry.path()).collect();
        let processes = processes(home);
        if files.is_empty() && processes.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{files:?} {processes:?}");
        sleep(Duration::from_millis(50));
    }
}

/// A server whose database `users` was backed up with `rows` rows, and has others now.
fn backed_up(home: &Home, rows: u32) -> PostgresServer {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    server.psql("postgres", "CREATE ROLE owner_1").unwrap();
    server.psql("postgres", "CREATE DATABASE users OWNER owner_1").unwrap();
    let sql = format!(
        "CREATE TABLE t AS SELECT id FROM generate_series(1, {rows}) id; \
         ALTER TABLE t OWNER TO owner_1; CREATE TABLE \"ödd \"\"name\" (x int)"
    );
    server.psql("users", &sql).unwrap();
    backup(home, &server, "one");
    server.psql("users", "DELETE FROM t WHERE id > 1").unwrap();
    server
}

fn backup(home: &Home, server: &PostgresServer, archive: &str) {
    let words = ["backup", "--postgres", "users", "--archive", archive];
    let done = run(home.command().args(words).envs(server.env()));
    assert_eq!(done.code, 0, "{done:#?}");
}

/// Starts `open`, and gives what it printed once it is ready: the address, and the client's words.
fn start(home: &Home, words: &[&str]) -> (Child, String, String) {
    let mut command = command(home);
    command.arg("open").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().expect("a line").unwrap();
    let (address, client) = (line(), line());
    (child, address, client)
}

/// Asks through the client that was told.
fn ask(home: &Home, client: &str, sql: &str) -> String {
    let ran = run(home.in_world("sh").arg("-c").arg(format!("{client} -Atc \"$SQL\"")).env("SQL", sql));
    assert_eq!(ran.code, 0, "{ran:#?}");
    ran.stdout.trim().to_owned()
}

#[test]
fn a_command_sees_the_archive_and_its_status_is_passed_on() {
    let home = Home::with_repository();
    let server = backed_up(&home, 1000);
    let query = "SELECT count(*) || ' ' || (SELECT rolname FROM pg_roles r JOIN pg_class c ON r.oid = c.relowner \
                 WHERE relname = 't') || ' ' || current_database() FROM t";
    let asked = open(&home, &["--archive", "one", "--database", "users", "--", "psql", "-XAtc", query]);
    assert_eq!(asked.stdout, "1000 owner_1 users\n", "{asked:#?}");
    assert_eq!(asked.code, 0);
    assert!(asked.stderr.contains("2 tables, 1000 rows"), "{asked:#?}");
    assert_nothing_left(&home);
    let script = "psql -qXc 'DROP TABLE t' && psql \"$DATABASE_URL\" -XAtc 'SELECT count(*) FROM t' 2>/dev/null; exit 7";
    let ended = open(&home, &["--", "sh", "-c", script]);
    assert_eq!((ended.code, ended.stdout.as_str()), (7, ""), "{ended:#?}");
    assert_nothing_left(&home);
    assert_eq!(
        server.psql("users", "SELECT count(*) FROM t").unwrap().trim(),
        "1",
        "the live one is as it was"
    );
    let again = open(&home, &["--", "psql", "-XAtc", "SELECT count(*) FROM t"]);
    assert_eq!(again.stdout, "1000\n", "what was changed is gone: {again:#?}");
    assert_eq!(open(&home, &["--", "no-such-program"]).code, 14);
    assert_eq!(open(&home, &["--", "sh", "-c", "kill -9 $$"]).code, 137);
    assert_nothing_left(&home);
}

#[test]
fn it_stays_until_a_signal_or_the_end_of_its_input() {
    let home = Home::with_repository();
    let _server = backed_up(&home, 300);
    for signal in [Some(Signal::INT), Some(Signal::TERM), Some(Signal::KILL), None] {
        let (mut child, address, client) = start(&home, &["--database", "users"]);
        assert!(address.starts_with("postgresql://postgres@/users?host=/"), "{address}");
        assert_eq!(ask(&home, &client, "SELECT count(*) FROM t"), "300");
        assert_eq!(ask(&home, &format!("psql '{address}'"), "SELECT count(*) FROM t"), "300");
        let held: Vec<_> = fs::read_dir(home.path(PLACE)).unwrap().flatten().collect();
        let mode = held[0].metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((held.len(), mode), (1, 0o700), "open to nobody else");
        match signal {
            Some(signal) => kill_process(Pid::from_child(&child), signal).unwrap(),
            None => drop(child.stdin.take()),
        }
        let status = child.wait().unwrap();
        assert_eq!(status.code(), (signal != Some(Signal::KILL)).then_some(0), "{signal:?}");
        assert_nothing_left(&home);
    }
    // A command is ended with it.
    let mut command = command(&home);
    command.args(["open", "--", "sh", "-c", "touch running; sleep 1000"]).stdin(Stdio::null());
    let child = command.stderr(Stdio::null()).spawn();
    let mut child = child.unwrap();
    while !home.path("running").exists() {
        sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_nothing_left(&home);
}

#[test]
fn several_are_open_at_once_each_with_its_own_rows() {
    let home = Home::with_repository();
    let server = backed_up(&home, 1000);
    backup(&home, &server, "two");
    let (one, two) =
        (start(&home, &["--archive", "one"]), start(&home, &["--archive", "two", "--read-only"]));
    assert_eq!(ask(&home, &one.2, "SELECT count(*) FROM t"), "1000");
    assert_eq!(ask(&home, &two.2, "SELECT count(*) FROM t"), "1");
    assert_eq!(
        ask(&home, &one.2, "DELETE FROM t WHERE id <= 400; SELECT count(*) FROM t"),
        "DELETE 400\n600"
    );
    let refused = run(home.in_world("sh").args(["-c", &format!("{} -c 'DELETE FROM t'", two.2)]));
    assert!(refused.code != 0 && refused.stderr.contains("read-only"), "{refused:#?}");
    for (mut child, ..) in [one, two] {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    assert_nothing_left(&home);
}

#[test]
fn a_client_has_the_terminal_and_ctrl_c() {
    let home = Home::with_repository();
    let _server = backed_up(&home, 42);
    fs::create_dir_all(home.path(PLACE)).unwrap();
    let mut shell: Command = home.in_world("sh");
    shell
        .args(["-c", "trap : INT; \"$D\" open --psql; echo code $?"])
        .env("D", DBVAULT)
        .env("TMPDIR", home.path(PLACE));
    shell.env("PAGER", "cat").env("PSQL_HISTORY", "/dev/null");
    let mut terminal = spawn_command(shell, Some(TIMEOUT_MS)).unwrap();
    terminal.exp_string("users=#").unwrap();
    terminal.send_line("SELECT count(*) + 1 FROM t;").unwrap();
    terminal.exp_string("43").unwrap();
    for _ in 0..2 {
        terminal.send_line("SELECT pg_sleep(1000);").unwrap();
        sleep(Duration::from_millis(500));
        terminal.send_control('c').unwrap();
        terminal.exp_string("canceling statement due to user request").unwrap();
    }
    terminal.send_line("\\q").unwrap();
    terminal.exp_string("code 0").unwrap();
    assert_nothing_left(&home);
}

#[test]
fn without_server_programs_the_way_out_is_told() {
    let home = Home::with_repository();
    let server = backed_up(&home, 1);
    let clients = home.path("clients");
    fs::create_dir(&clients).unwrap();
    for name in ["psql", "pg_restore"] {
        std::os::unix::fs::symlink(server.bin_dir().join(name), clients.join(name)).unwrap();
    }
    let failed = run(command(&home).arg("open").env("DBVAULT_PG_BINDIR", &clients));
    failed.assert_failure(14, "program not found: initdb");
    assert!(failed.stderr.contains("package postgresql"), "{failed:#?}");
    assert_nothing_left(&home);
    // Of an older version than the dump.
    let old = "#!/bin/sh\necho 'initdb (PostgreSQL) 9.6.1'\n";
    fs::write(clients.join("initdb"), old).unwrap();
    fs::set_permissions(clients.join("initdb"), fs::Permissions::from_mode(0o755)).unwrap();
    let failed = run(command(&home).arg("open").env("DBVAULT_PG_BINDIR", &clients));
    failed.assert_failure(14, "or newer (only 9.6.1 is there");
    assert_nothing_left(&home);
}

#[test]
fn what_can_not_be_opened_is_told() {
    let home = Home::with_repository();
    home.make_sqlite("app.db", 7);
    let words = ["backup", "--sqlite", "app.db", "--command", "echo x", "--name", "x", "--archive", "a"];
    home.ok(words);
    home.fails(["open"], 12, "has 2 entries");
    home.fails(["open", "--database", "nope"], 12, "no entry named nope");
    home.fails(["open", "--database", "x"], 11, "no private server for what is of kind command");
    home.fails(["open", "--psql", "--", "true"], 2, "cannot be used with");
}

#[test]
fn files_of_sqlite_are_opened() {
    let home = Home::with_repository();
    let live = home.make_sqlite("app.db", 7);
    home.ok(["backup", "--sqlite", "app.db"]);
    fs::remove_file(live).unwrap();
    let (mut child, address, client) = start(&home, &["--database", "app.db", "--read-only"]);
    let path = address.strip_prefix("file:").and_then(|rest| rest.strip_suffix("?mode=ro")).unwrap();
    assert_eq!(cli_support::sqlite_rows(Path::new(path)), 7);
    assert!(client.starts_with("sqlite3 -readonly "), "{client}");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    assert_nothing_left(&home);
    let shown = open(&home, &["--", "sh", "-c", "test -f \"$DATABASE_PATH\" && echo \"$DATABASE_URL\""]);
    assert!(shown.stdout.starts_with("file:/"), "{shown:#?}");
    assert_nothing_left(&home);
}

#[test]
fn parts_are_loaded_and_are_one_database() {
    let home = Home::with_repository();
    let server = backed_up(&home, 500);
    server.psql("users", "CREATE TABLE u AS SELECT * FROM t; CREATE INDEX ON u (id)").unwrap();
    let config = format!(
        "repositories: [{{path: {}}}]\npostgresql_databases:\n  - name: users\n    hostname: {}\n    username: {}\n    streams: 3\n",
        home.path("repo").display(),
        server.socket_dir().display(),
        server.user(),
    );
    fs::write(home.path("parts.yaml"), config).unwrap();
    home.ok(["backup", "--config", "parts.yaml", "--key-file", "key", "--archive", "parts"]);
    let asked = open(
        &home,
        &[
            "--archive",
            "parts",
            "--database",
            "users",
            "--parallel",
            "2",
            "--",
            "psql",
            "-XAtc",
            "SELECT count(*) FROM u",
        ],
    );
    assert_eq!(asked.stdout, "1\n", "{asked:#?}");
    assert_nothing_left(&home);
}

#[test]
fn servers_of_other_kinds_are_opened() {
    let home = Home::with_repository();
    let redis = RedisServer::start(&[]).expect("Redis starts");
    redis.command(&["SET", "key", "value"]).unwrap();
    let mariadb = MariadbServer::start().expect("MariaDB starts");
    mariadb.sql("", "CREATE DATABASE shop").unwrap();
    mariadb.sql("shop", "CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2)").unwrap();
    let config = format!(
        "repositories: [{{path: {}}}]\nredis_databases: [{{name: cache, socket_path: {}}}]\n\
         mariadb_databases: [{{name: shop, socket_path: {}, username: {}}}]\n",
        home.path("repo").display(),
        redis.socket().display(),
        mariadb.socket().display(),
        mariadb.user(),
    );
    fs::write(home.path("both.yaml"), config).unwrap();
    home.ok(["backup", "--config", "both.yaml", "--key-file", "key"]);
    drop((redis, mariadb));
    let shell = ["--", "sh", "-c"];
    let redis =
        [&["--database", "cache"][..], &shell, &["redis-cli -s \"${REDIS_URL#unix://}\" GET key"]].concat();
    let asked = open(&home, &redis);
    assert_eq!(asked.stdout, "value\n", "{asked:#?}");
    let sql = "mariadb --no-defaults -u root --socket=\"$MYSQL_UNIX_PORT\" \"$MYSQL_DATABASE\" -Ne 'SELECT count(*) FROM t'";
    let asked = open(&home, &[&["--database", "shop"][..], &shell, &[sql]].concat());
    assert_eq!(asked.stdout, "2\n", "{asked:#?}");
    let refused = open(&home, &["--database", "shop", "--read-only"]);
    refused.assert_failure(11, "for reading only");
    assert_nothing_left(&home);
}
