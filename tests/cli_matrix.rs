//! Servers, and dbvault itself, killed at any moment of a dump and of a restore: no archive looks good that is not, and
//! a live database is as it was, or as it was backed up, and nothing between.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cli_support::Home;
use dbvault_testkit::mariadb_server::MariadbServer;
use dbvault_testkit::postgres_server::PostgresServer;
use dbvault_testkit::redis_server::RedisServer;

/// Moments of a run at which something is killed.
const MOMENTS: u32 = 6;

/// A server, as far as these tests need it.
trait Server {
    /// Words that name its database for `backup`.
    fn source(&self) -> Vec<String>;
    /// Further words that lead a restore to it.
    fn place(&self) -> Vec<String>;
    /// Everything of the database, to compare.
    fn state(&self) -> String;
    /// Makes it differ from what was backed up.
    fn change(&self, round: u32);
    fn kill(&mut self);
    fn restart(&mut self);
    /// How many clients are still at work: programs that dbvault has started go on for a moment when it is killed.
    fn clients(&self) -> String;
    /// Whether a server that was killed has its data again after a restart.
    fn keeps_data(&self) -> bool {
        true
    }
}

struct Postgres(PostgresServer);

impl Server for Postgres {
    fn source(&self) -> Vec<String> {
        [vec!["--postgres".into(), "users".into()], self.place()].concat()
    }

    fn place(&self) -> Vec<String> {
        let host = self.0.socket_dir().display().to_string();
        ["--host", &host, "--username", self.0.user()].map(str::to_owned).into()
    }

    fn state(&self) -> String {
        self.0.row_hashes("users").unwrap()
    }

    fn clients(&self) -> String {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbvault'";
        self.0.psql("postgres", sql).unwrap()
    }

    fn change(&self, round: u32) {
        self.0.psql("users", &format!("INSERT INTO t VALUES (-{round}, 'live')")).unwrap();
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn restart(&mut self) {
        // It does not start before the last backend of the one that was killed has seen that it is alone.
        let started = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(100));
            self.0.restart().is_ok()
        });
        assert!(started, "a server that starts again");
    }
}

struct Mariadb(MariadbServer);

impl Server for Mariadb {
    fn source(&self) -> Vec<String> {
        [vec!["--mariadb".into(), "users".into()], self.place()].concat()
    }

    fn place(&self) -> Vec<String> {
        let socket = self.0.socket().display().to_string();
        ["--host", &socket, "--username", self.0.user()].map(str::to_owned).into()
    }

    fn state(&self) -> String {
        self.0.row_hashes("users").unwrap()
    }

    fn clients(&self) -> String {
        let sql = "SELECT COUNT(*) FROM information_schema.processlist \
                   WHERE id <> CONNECTION_ID() AND command <> 'Daemon'";
        self.0.sql("", sql).unwrap()
    }

    fn change(&self, round: u32) {
        self.0.sql("users", &format!("INSERT INTO t VALUES (-{round}, 'live')")).unwrap();
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn restart(&mut self) {
        self.0.restart().unwrap();
    }
}

fn postgres() -> Postgres {
    let server = PostgresServer::start().unwrap();
    server.create_database("users").unwrap();
    let sql = "CREATE TABLE t AS SELECT id, md5(id::text) AS text FROM generate_series(1, 200000) id; \
               CREATE INDEX ON t (text); CREATE VIEW v AS SELECT count(*) FROM t";
    server.psql("users", sql).unwrap();
    Postgres(server)
}

fn mariadb() -> Mariadb {
    let server = MariadbServer::start().unwrap();
    server.sql("", "CREATE DATABASE users").unwrap();
    let sql = "CREATE TABLE t (id INT PRIMARY KEY, text TEXT); INSERT INTO t SELECT seq, MD5(seq) FROM seq_1_to_100000; \
               CREATE TABLE u AS SELECT * FROM t LIMIT 1000; CREATE VIEW v AS SELECT COUNT(*) FROM t";
    server.sql("users", sql).unwrap();
    Mariadb(server)
}

fn start(home: &Home, words: &[String]) -> Child {
    let mut command = home.command();
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// How long a run takes that nobody disturbs.
fn duration(home: &Home, words: &[String]) -> Duration {
    let began = Instant::now();
    assert!(start(home, words).wait().unwrap().success(), "{words:?}");
    began.elapsed()
}

fn words(first: &[&str], rest: Vec<String>) -> Vec<String> {
    first.iter().map(|word| (*word).to_owned()).chain(rest).collect()
}

fn no_dump_of_a_killed_server_looks_good(mut server: impl Server) {
    let home = Home::with_repository();
    let whole = duration(&home, &words(&["backup"], server.source()));
    let before = server.state();
    for moment in 1..=MOMENTS {
        let known = home.archives();
        let mut run = start(&home, &words(&["backup"], server.source()));
        thread::sleep(whole * moment / (MOMENTS + 1));
        server.kill();
        let status = run.wait().unwrap();
        server.restart();
        let made: Vec<String> = home.archives().into_iter().filter(|name| !known.contains(name)).collect();
        assert_eq!(made.len(), usize::from(status.success()), "{status:?} {made:?}");
        for name in made {
            server.change(moment);
            let restore = words(&["restore", "--archive", &name, "--yes"], server.place());
            duration(&home, &restore);
            if server.keeps_data() {
                assert_eq!(server.state(), before);
            }
        }
    }
    home.ok(["check", "--read-data"]);
}

fn no_restore_leaves_anything_between(mut server: impl Server, kill_server: bool) {
    let home = Home::with_repository();
    let backed_up = server.state();
    duration(&home, &words(&["backup"], server.source()));
    let restore = words(&["restore", "--archive", "latest", "--yes"], server.place());
    server.change(1000);
    let whole = duration(&home, &restore);
    assert_eq!(server.state(), backed_up);
    for moment in 1..=MOMENTS {
        server.change(moment);
        let live = server.state();
        let mut run = start(&home, &restore);
        thread::sleep(whole * moment / (MOMENTS + 1));
        if kill_server {
            server.kill();
            // As its supervisor does: a swap that was begun is taken back when it is there again.
            server.restart();
        } else {
            run.kill().unwrap();
        }
        let status = run.wait().unwrap();
        let quiet = (0..600).any(|_| {
            thread::sleep(Duration::from_millis(50));
            server.clients().trim() == "0"
        });
        assert!(quiet, "clients of a dbvault that is gone");
        let now = server.state();
        assert!(now == backed_up || now == live && !status.success(), "{moment}: {status:?}\n{now}\n{live}");
    }
    // And the next one works, whatever the others have left.
    server.change(2000);
    duration(&home, &restore);
    assert_eq!(server.state(), backed_up);
}

#[test]
fn postgres_killed_while_it_is_dumped() {
    no_dump_of_a_killed_server_looks_good(postgres());
}

#[test]
fn mariadb_killed_while_it_is_dumped() {
    no_dump_of_a_killed_server_looks_good(mariadb());
}

#[test]
fn postgres_killed_while_it_is_restored() {
    no_restore_leaves_anything_between(postgres(), true);
}

#[test]
fn mariadb_killed_while_it_is_restored() {
    no_restore_leaves_anything_between(mariadb(), true);
}

#[test]
fn dbvault_killed_while_it_restores_postgres() {
    no_restore_leaves_anything_between(postgres(), false);
}

#[test]
fn dbvault_killed_while_it_restores_mariadb() {
    no_restore_leaves_anything_between(mariadb(), false);
}

struct Redis(RedisServer);

impl Server for Redis {
    fn source(&self) -> Vec<String> {
        [vec!["--redis".into(), "all".into()], self.place()].concat()
    }

    fn place(&self) -> Vec<String> {
        vec!["--host".into(), self.0.socket().display().to_string()]
    }

    fn state(&self) -> String {
        self.0.digest(0).unwrap()
    }

    fn clients(&self) -> String {
        "0".to_owned()
    }

    fn change(&self, round: u32) {
        self.0.command(&["SET", "live", &round.to_string()]).unwrap();
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn restart(&mut self) {
        *self = redis();
    }

    fn keeps_data(&self) -> bool {
        false
    }
}

fn redis() -> Redis {
    let server = RedisServer::start(&[]).unwrap();
    server.commands(&(0..50_000).map(|n| format!("SET key{n} value{n}\n")).collect::<String>()).unwrap();
    Redis(server)
}

#[test]
fn redis_killed_while_it_is_dumped() {
    no_dump_of_a_killed_server_looks_good(redis());
}

#[test]
fn dbvault_killed_while_it_restores_redis() {
    no_restore_leaves_anything_between(redis(), false);
}
