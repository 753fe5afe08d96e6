//! Four databases of one PostgreSQL server beside borgmatic and Borg, by one configuration file that both read.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DBVAULT_BENCH_MB` | size of each database's dump, 250 by default |
//! | `DBVAULT_BENCH_ROUNDS` | first backups of each, 3 by default; the median counts |
//! | `DBVAULT_BENCH_BORGMATIC` | the borgmatic to measure, instead of the one on the search path; its Borg is beside it |
//!
//! Twice: as borgmatic dumps where nothing is said (`pg_dump` compresses), and with `compression: 0`, which is better
//! for Borg. Between the two backups of each, one row in a thousand changes and one in a hundred is new.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to the person who runs it"
)]

#[path = "shared/environment.rs"]
mod environment;
#[path = "shared/measure.rs"]
mod measure;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dbvault_testkit::postgres_server::{PostgresServer, ServerOptions};
use environment::{Result, is_to_measure, number, program};
use measure::{Usage, bytes_stored, measure};

const DATABASES: [&str; 4] = ["users", "orders", "stock", "letters"];
/// Rows of a megabyte of dump.
const ROWS_PER_MB: u64 = 8_300;

fn main() -> Result<()> {
    if !is_to_measure() {
        return Ok(());
    }
    let (megabytes, rounds) = (number("DBVAULT_BENCH_MB", 250)?, number("DBVAULT_BENCH_ROUNDS", 3)?);
    // borgmatic makes a directory of the host's name: a socket's path will not do.
    let server = PostgresServer::start_with(ServerOptions { tcp: true, ..ServerOptions::default() })?;
    let mut report = format!(
        "# Four databases of {megabytes} MB on one server, beside borgmatic and Borg\n\n\
         Medians of {rounds} rounds of first backups; made by `make bench-databases`.\n\n\
         | configuration | step | dbvault | borgmatic | ratio |\n| --- | --- | --- | --- | --- |\n"
    );
    for (number, name) in DATABASES.iter().enumerate() {
        make(&server, name, number as u64, megabytes * ROWS_PER_MB)?;
    }
    for (words, option) in [("as it is", ""), ("compression: 0", "      compression: 0\n")] {
        let place = Place::new(&server, option)?;
        report += &place.contest(&server, words, rounds)?;
    }
    println!("{report}");
    if (megabytes, rounds) == (250, 3) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/databases.md");
        fs::write(file, report).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A table of about 120 bytes a row, a third of which is random.
fn make(server: &PostgresServer, name: &str, seed: u64, rows: u64) -> Result<()> {
    server.create_database(name)?;
    let sql = format!(
        "SELECT setseed(0.{seed}1); CREATE TABLE t AS SELECT i AS id, (random() * 100000)::int AS user_id, \
         (ARRAY['new','paid','sent','returned','closed'])[1 + (random() * 4)::int] AS state, \
         timestamptz '2026-01-01' + i * interval '7 seconds' AS made, md5(random()::text) AS token, \
         'street number ' || (random() * 500)::int || ', town of ' || (i % 97) AS address \
         FROM generate_series(1, {rows}) i; ALTER TABLE t ADD PRIMARY KEY (id)"
    );
    server.psql(name, &sql).map(drop)
}

fn next_day(server: &PostgresServer) -> Result<()> {
    for name in DATABASES {
        let sql = "UPDATE t SET state = 'changed' WHERE id % 1000 = 7; \
                   INSERT INTO t SELECT id + 100000000, user_id, state, made, md5(random()::text), address \
                   FROM t WHERE id % 100 = 3 ON CONFLICT DO NOTHING";
        server.psql(name, sql)?;
    }
    Ok(())
}

/// Repositories of both, and the file that both read.
struct Place {
    root: tempfile::TempDir,
    borgmatic: PathBuf,
}

impl Place {
    fn new(server: &PostgresServer, option: &str) -> Result<Place> {
        let root = tempfile::tempdir().map_err(|error| error.to_string())?;
        let borgmatic = std::env::var_os("DBVAULT_BENCH_BORGMATIC").map_or("borgmatic".into(), PathBuf::from);
        let place = Place { root, borgmatic };
        fs::create_dir(place.path("home")).map_err(|error| error.to_string())?;
        for repository in ["borg", "dbvault"] {
            let mut text = format!(
                "repositories:\n  - path: {}\npostgresql_databases:\n",
                place.path(repository).display()
            );
            for name in DATABASES {
                let (port, user) = (server.port(), server.user());
                let _ = writeln!(
                    text,
                    "  - name: {name}\n    hostname: 127.0.0.1\n    port: {port}\n    username: {user}"
                );
                text += &option.replace("      ", "    ");
            }
            let file = place.path(&format!("{repository}.yaml"));
            fs::write(file, text).map_err(|error| error.to_string())?;
        }
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn command(&self, program: &Path, repository: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--config").arg(self.path(&format!("{repository}.yaml"))).args(words);
        command.env("HOME", self.path("home")).env("BORG_PASSPHRASE", "for measuring only");
        command.env("DBVAULT_KEY_FILE", self.path("key")).env("LC_ALL", "C.UTF-8");
        command
            .env("XDG_CACHE_HOME", self.path("home/cache"))
            .env("XDG_CONFIG_HOME", self.path("home/config"));
        command.env("XDG_RUNTIME_DIR", self.path("home")).env("BORG_BASE_DIR", self.path("home"));
        let beside = program.parent().filter(|parent| !parent.as_os_str().is_empty());
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let all = beside.map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&paths));
        if let Ok(paths) = std::env::join_paths(all) {
            command.env("PATH", paths);
        }
        command
    }

    fn dbvault(&self, words: &[&str]) -> Command {
        self.command(&program(), "dbvault", words)
    }

    fn borgmatic(&self, words: &[&str]) -> Command {
        self.command(&self.borgmatic, "borg", words)
    }

    /// Empty repositories.
    fn init(&self) -> Result<()> {
        for repository in ["borg", "dbvault"] {
            let _ = fs::remove_dir_all(self.path(repository));
        }
        let _ = fs::remove_dir_all(self.path("home"));
        let _ = fs::remove_file(self.path("key"));
        fs::create_dir(self.path("home")).map_err(|error| error.to_string())?;
        measure(self.borgmatic(&["repo-create", "--encryption", "repokey-blake2"]), None)?;
        let repository = self.path("dbvault").display().to_string();
        let key = self.path("key").display().to_string();
        let mut command = self.dbvault(&["init", &repository, "--key-file", &key, "--quiet"]);
        command.env_remove("DBVAULT_KEY_FILE");
        measure(command, None).map(drop)
    }

    fn contest(&self, server: &PostgresServer, words: &str, rounds: u64) -> Result<String> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            self.init()?;
            ours.push(measure(self.dbvault(&["backup", "--quiet"]), None)?);
            theirs.push(measure(self.borgmatic(&["create"]), None)?);
        }
        let (first, first_theirs) = (median(&mut ours), median(&mut theirs));
        let size = |name: &str| bytes_stored(&self.path(name)).map_err(|error| error.to_string());
        let (stored, stored_theirs) = (size("dbvault")?, size("borg")?);
        next_day(server)?;
        let next = measure(self.dbvault(&["backup", "--quiet"]), None)?;
        let next_theirs = measure(self.borgmatic(&["create"]), None)?;
        let (grown, grown_theirs) = (size("dbvault")? - stored, size("borg")? - stored_theirs);
        let mut rows = String::new();
        for (step, ours, theirs) in [("first backup", first, first_theirs), ("next day", next, next_theirs)] {
            let ratio = ours.wall_seconds / theirs.wall_seconds;
            let _ = writeln!(rows, "| {words} | {step} | {ours} | {theirs} | {ratio:.2} |");
        }
        for (step, ours, theirs) in
            [("stored", stored, stored_theirs), ("growth on the next day", grown, grown_theirs)]
        {
            let (mb, mb_theirs) = (ours as f64 / 1e6, theirs as f64 / 1e6);
            let _ = writeln!(
                rows,
                "| {words} | {step} | {mb:.1} MB | {mb_theirs:.1} MB | {:.3} |",
                mb / mb_theirs
            );
        }
        Ok(rows)
    }
}

fn median(usages: &mut [Usage]) -> Usage {
    usages.sort_by(|a, b| a.wall_seconds.total_cmp(&b.wall_seconds));
    usages[usages.len() / 2]
}
