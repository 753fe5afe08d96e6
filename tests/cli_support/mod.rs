//! A user with a home of their own, for tests of the program as it is installed.
#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "each test takes what it needs, and a skipped one says its name"
)]

pub(crate) mod mount_point;
pub(crate) mod small_disk;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) const DBVAULT: &str = env!("CARGO_BIN_EXE_dbvault");

/// A user's world: home, settings and cache in one directory, which is also the working directory.
pub(crate) struct Home {
    directory: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    /// A user who has nothing yet.
    pub(crate) fn new() -> Home {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("home")).expect("a home");
        Home { directory }
    }

    /// A user with a repository `repo` that the key file `key` opens: faster than a passphrase.
    pub(crate) fn with_repository() -> Home {
        let home = Home::new();
        home.ok(["init", "repo", "--key-file", "key"]);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program in this user's world and no other environment.
    pub(crate) fn command(&self) -> Command {
        self.in_world(DBVAULT)
    }

    /// Any program in this user's world.
    pub(crate) fn in_world(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.directory.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for (name, value) in [("HOME", "home"), ("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache")] {
            command.env(name, self.path(value));
        }
        command.env("TZ", "UTC").env("USER", "tester").env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
        command
    }

    /// Runs the program with `args`.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        run(self.command().args(args))
    }

    /// Runs the program, which must end well; what it wrote to standard output.
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{run:#?}");
        run.stdout
    }

    /// Runs the program, which must print one JSON document.
    pub(crate) fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs the program, which must fail with `code` and an error that holds `words`.
    pub(crate) fn fails<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        code: i32,
        words: &str,
    ) -> Run {
        let run = self.run(args);
        run.assert_failure(code, words);
        run
    }

    /// Names of the archives there are.
    pub(crate) fn archives(&self) -> Vec<String> {
        let list = self.json(["list", "--json"]);
        let archives = list["archives"].as_array().expect("a list of archives").iter();
        archives.map(|archive| archive["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Makes a SQLite database with `rows` rows.
    pub(crate) fn make_sqlite(&self, name: &str, rows: u32) -> PathBuf {
        let path = self.path(name);
        let database = rusqlite::Connection::open(&path).expect("a database");
        database.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, text)").expect("a table");
        for id in 0..rows {
            database.execute("INSERT INTO t VALUES (?1, 'row ' || ?1)", [id]).expect("a row");
        }
        path
    }
}

impl Run {
    /// Checks a failure: its code, and that the error is worded as all are.
    #[track_caller]
    pub(crate) fn assert_failure(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains(words), "no {words:?} in {self:#?}");
        let formed = self.stderr.lines().any(|line| line.starts_with("error: "));
        assert!(formed && !self.stderr.contains("panicked"), "{self:#?}");
    }
}

/// Runs `command` to its end with an empty standard input.
pub(crate) fn run(command: &mut Command) -> Run {
    finish(command.stdin(std::process::Stdio::null()).output().expect("the program starts"))
}

/// Runs a script of the shell in `directory`.
#[track_caller]
pub(crate) fn script(directory: &Path, text: &str) {
    let ran = run(Command::new("sh").args(["-eu", "-c", text]).current_dir(directory));
    assert_eq!(ran.code, 0, "{ran:#?}");
}

/// Runs `command` with `input` as its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Run {
    let mut command = assert_cmd::Command::from_std(std::mem::replace(command, Command::new("true")));
    finish(command.write_stdin(input).output().expect("the program starts"))
}

fn finish(output: std::process::Output) -> Run {
    use std::os::unix::process::ExitStatusExt;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let signal = || 1000 + output.status.signal().unwrap_or(0);
    let code = output.status.code().unwrap_or_else(signal);
    Run { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Rows of the table that [`Home::make_sqlite`] makes.
pub(crate) fn sqlite_rows(path: &Path) -> u32 {
    let database = rusqlite::Connection::open(path).expect("a database");
    database.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a count")
}

/// Every file below `path` and its bytes.
pub(crate) fn files_below(path: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    for entry in fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    files
}
