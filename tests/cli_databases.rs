//! One configuration with a database of every kind that runs here: backed up, restored, and no secret shown anywhere.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cli_support::{Home, Run};
use dbvault_testkit::mariadb_server::{MariadbServer, MariadbServerOptions};
use dbvault_testkit::postgres_server::{PostgresServer, ServerOptions};
use dbvault_testkit::redis_server::RedisServer;

/// Servers that ask for passwords.
struct Servers {
    postgres: PostgresServer,
    mariadb: MariadbServer,
    redis: RedisServer,
}

impl Servers {
    fn start() -> Servers {
        let options = ServerOptions { password: true, ..ServerOptions::default() };
        let postgres = PostgresServer::start_with(options).unwrap();
        let mariadb = MariadbServer::start_with(MariadbServerOptions { password: true, tcp: false }).unwrap();
        Servers { postgres, mariadb, redis: RedisServer::start_with(&[], true, false).unwrap() }
    }

    fn fill(&self) {
        self.postgres.create_database("users").unwrap();
        let sql = "CREATE TABLE t AS SELECT id, md5(id::text) AS text FROM generate_series(1, 300000) id";
        self.postgres.psql("users", sql).unwrap();
        self.mariadb.sql("", "CREATE DATABASE posts").unwrap();
        let sql = "CREATE TABLE t (id INT PRIMARY KEY, text TEXT); \
                   INSERT INTO t SELECT seq, MD5(seq) FROM seq_1_to_100000";
        self.mariadb.sql("posts", sql).unwrap();
        self.redis
            .commands(&(0..1000).map(|n| format!("SET key{n} value{n}\n")).collect::<String>())
            .unwrap();
    }

    /// What there is to compare.
    fn state(&self) -> (String, String, String) {
        let postgres = self.postgres.row_hashes("users").unwrap();
        (postgres, self.mariadb.row_hashes("posts").unwrap(), self.redis.digest(0).unwrap())
    }

    fn empty(&self) {
        self.postgres.psql("users", "DELETE FROM t WHERE id > 5").unwrap();
        self.mariadb.sql("posts", "DELETE FROM t WHERE id > 5").unwrap();
        self.redis.command(&["FLUSHALL"]).unwrap();
    }

    fn configuration(&self, repository: &str) -> String {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let path = |path: std::path::PathBuf| quoted(&path.display().to_string());
        format!(
            "repositories:\n  - path: {repository}\n\
             postgresql_databases:\n  - name: users\n    hostname: {}\n    username: postgres\n    password: {}\n\
             mariadb_databases:\n  - name: posts\n    socket_path: {}\n    username: {}\n    password: {}\n\
             redis_databases:\n  - name: cache\n    socket_path: {}\n    password: {}\n\
             sqlite_databases:\n  - name: app\n    path: {repository}/../app.db\n",
            path(self.postgres.socket_dir()),
            quoted(self.postgres.password().unwrap()),
            path(self.mariadb.socket()),
            quoted(self.mariadb.user()),
            quoted(self.mariadb.password().unwrap()),
            path(self.redis.socket()),
            quoted(self.redis.password().unwrap()),
        )
    }

    fn secrets(&self) -> [String; 3] {
        [self.postgres.password(), self.mariadb.password(), self.redis.password()]
            .map(|password| password.unwrap().to_owned())
    }
}

fn home(servers: &Servers) -> Home {
    let home = Home::with_repository();
    home.make_sqlite("app.db", 10);
    let text = servers.configuration(&home.path("repo").display().to_string());
    fs::write(home.path("dbvault.yaml"), text).unwrap();
    // What the configuration says goes before it.
    fs::write(home.path("home/.my.cnf"), "[client]\npassword=of-another-server\n").unwrap();
    home
}

/// Command lines of all processes while `work` runs.
fn watched<T: Send>(work: impl FnOnce() -> T + Send) -> (T, BTreeSet<Vec<u8>>) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut lines = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    lines.insert(fs::read(entry.path().join("cmdline")).unwrap_or_default());
                }
            }
            lines
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, watcher.join().unwrap())
    })
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

#[test]
fn every_kind_goes_in_and_comes_back_and_no_secret_is_shown() {
    let servers = Servers::start();
    servers.fill();
    let home = home(&servers);
    let before = servers.state();
    let dbvault = |words: &[&str]| -> Run {
        let given = ["--config", "dbvault.yaml", "--key-file", "key", "-vv"];
        home.run(given.into_iter().chain(words.iter().copied()))
    };
    let (runs, lines) = watched(|| {
        let backup = dbvault(&["backup"]);
        servers.empty();
        let restore = dbvault(&["restore", "--archive", "latest", "--yes"]);
        [backup, restore, dbvault(&["status"]), dbvault(&["config", "show"]), dbvault(&["show", "--json"])]
    });
    assert!(runs[..2].iter().all(|run| run.code == 0), "{runs:#?}");
    assert_eq!(servers.state(), before);
    assert!(lines.iter().any(|line| holds(line, "--format=custom")), "the dump was seen running");
    for secret in servers.secrets() {
        // The server of the test is given its own.
        let mut lines = lines.iter().filter(|line| !holds(line, "redis-server"));
        assert!(!lines.any(|line| holds(line, &secret)));
        for run in &runs {
            assert!(!run.stdout.contains(&secret) && !run.stderr.contains(&secret), "{run:#?}");
        }
        for folder in ["repo", "cache"] {
            let mut files = cli_support::files_below(&home.path(folder)).into_iter();
            assert!(files.all(|(_, bytes)| !holds(&bytes, &secret)), "{folder}");
        }
    }
}

#[test]
fn one_of_four_fails_and_the_others_are_kept() {
    let mut servers = Servers::start();
    servers.fill();
    let home = home(&servers);
    let before = servers.state();
    servers.mariadb.kill();
    let given = ["--config", "dbvault.yaml", "--key-file", "key"];
    let backup = home.run(given.into_iter().chain(["backup"]));
    backup.assert_failure(23, "cannot back up posts");
    let secret = servers.mariadb.password().unwrap();
    assert!(!backup.stderr.contains(secret), "{backup:#?}");
    servers.mariadb.restart().unwrap();
    servers.empty();
    let restore = home.run(given.into_iter().chain(["restore", "--archive", "latest", "--yes"]));
    assert_eq!(restore.code, 0, "{restore:#?}");
    let after = servers.state();
    assert_eq!((&after.0, &after.2), (&before.0, &before.2));
    assert_ne!(after.1, before.1, "it was not in the archive, and is as it was left");
    let status = home.run(given.into_iter().chain(["status"]));
    assert_ne!(status.code, 0, "{status:#?}");
    assert!(status.stdout.contains("posts"), "{status:#?}");
}
