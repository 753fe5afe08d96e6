//! Private servers with odd databases, and stand-ins for programs.

use std::path::Path;
use std::sync::OnceLock;

use dbvault_source::{Family, MariadbServer, Secret};
use dbvault_testkit::mariadb_server;

/// What `start` makes; where it can't, the test is skipped.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) fn or_skipped<T>(test: &str, start: impl FnOnce() -> Result<T, String>) -> Option<T> {
    start()
        .map_err(|error| {
            assert!(error.starts_with(mariadb_server::NOT_INSTALLED), "{error}");
            #[allow(clippy::print_stdout, reason = "how tests tell that they were skipped")]
            {
                println!("skipped: {test}: {}", error.lines().next().unwrap_or_default());
            }
        })
        .ok()
}

/// A server for tests that neither stop nor reconfigure it.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) fn shared(test: &str) -> Option<&'static mariadb_server::MariadbServer> {
    static SERVER: OnceLock<Result<mariadb_server::MariadbServer, String>> = OnceLock::new();
    let server = SERVER.get_or_init(mariadb_server::MariadbServer::start);
    or_skipped(test, || server.as_ref().map_err(Clone::clone))
}

/// The way to `server` as its superuser.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) fn at(server: &mariadb_server::MariadbServer) -> MariadbServer {
    MariadbServer {
        socket: Some(server.socket()),
        user: Some(server.user().to_owned()),
        password: server.password().map(Secret::new),
        ..MariadbServer::new(Family::Mariadb)
    }
}

/// Makes a database with whatever is hard to bring back.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) fn filled(server: &mariadb_server::MariadbServer, name: &str) {
    let quoted = name.replace('`', "``");
    server
        .sql("", &format!("CREATE DATABASE `{quoted}` CHARACTER SET utf8mb4 COLLATE utf8mb4_czech_ci"))
        .unwrap();
    server.sql(name, include_str!("odd.sql")).unwrap();
}

/// The event goes on to exist, and is awake, but has nothing more to do: so that two looks are equal.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) fn stop_events(server: &mariadb_server::MariadbServer, name: &str) {
    server.sql(name, "ALTER EVENT tick ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01 00:00:00'").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
}

/// No database that a restore made is left.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) fn nothing_left_beside(server: &mariadb_server::MariadbServer) {
    // Other tests use the server too: theirs go in a moment.
    for _ in 0..200 {
        let left = server.sql("", "SHOW DATABASES LIKE '%\\_\\_dbvault\\_%'").unwrap();
        if left.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("a database is left beside");
}

/// A shell script as a program; its path.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) fn program(directory: &Path, name: &str, script: &str) -> String {
    let path = directory.join(name);
    crate::common::write_script(&path, &format!("#!/bin/bash\nset -o pipefail\n{script}\n"));
    path.display().to_string()
}

/// Two looks at a database are equal; else the first lines that differ.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) fn same(now: &str, before: &str) {
    let differing = now.lines().zip(before.lines()).find(|(now, before)| now != before);
    let short = |line: &str| line.chars().take(300).collect::<String>();
    let differing = differing.map(|(now, before)| (short(now), short(before)));
    assert!(now == before, "{differing:?}; {} and {} lines", now.lines().count(), before.lines().count());
}
