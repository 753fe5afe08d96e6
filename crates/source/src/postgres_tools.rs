//! PostgreSQL's own client programs: which of those installed fits a server, and questions asked through `psql`.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use dbvault_dump::names::identifier;

use crate::conninfo::Conninfo;
use crate::interrupt::Interrupt;
use crate::private_postgres::PrivatePostgres;
use crate::process::{Captured, Program};
use crate::{Error, Result};

/// Debian package of `pg_dump`, `pg_restore` and `psql`.
const PACKAGE: &str = "postgresql-client";
/// Names one directory to take all of PostgreSQL's programs from, in place of looking for them.
const BIN_DIR_VARIABLE: &str = "DBVAULT_PG_BINDIR";
/// How long libpq tries to connect where PGCONNECT_TIMEOUT does not say, seconds. libpq's own default is for ever.
const CONNECT_TIMEOUT_S: &str = "15";
/// How long a program may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Status of `psql` when the connection failed; see "Exit Status" in its manual page.
const PSQL_CONNECTION_FAILED: i32 = 2;

/// One installed program.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) path: PathBuf,
    /// Arguments before all others.
    pub(crate) arguments: Vec<String>,
    /// Major version: 15, 16, ...
    pub(crate) major: u32,
    /// Version as the program tells it, `15.18`.
    pub(crate) version: String,
}

impl Tool {
    /// A program that the user names, with its first arguments.
    pub(crate) fn given(words: &[String]) -> Result<Tool> {
        let Some((program, arguments)) = words.split_first() else { return Err(missing(String::new())) };
        let (major, version) = version_of(Path::new(program), arguments)?;
        Ok(Tool { path: program.into(), arguments: arguments.to_vec(), major, version })
    }
}

/// Where to look for programs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools {
    bin_dir: Option<PathBuf>,
}

impl Tools {
    /// `bin_dir`, else the directory DBVAULT_PG_BINDIR names, else all the usual places.
    pub(crate) fn new(bin_dir: Option<PathBuf>) -> Tools {
        Tools { bin_dir: bin_dir.or_else(|| env::var_os(BIN_DIR_VARIABLE).map(PathBuf::from)) }
    }

    /// Any version will do, the newest is taken: for `psql`, which talks to every server.
    pub(crate) fn newest(&self, name: &str) -> Result<Tool> {
        self.installed(name)?.pop().ok_or_else(|| missing(name.to_owned()))
    }

    /// The version `major`, else the smallest newer one: a `pg_dump` refuses servers that are newer than itself,
    /// and writes what an older server may not understand when it is newer than that.
    pub(crate) fn fitting(&self, name: &str, major: u32) -> Result<Tool> {
        let installed = self.installed(name)?;
        if let Some(tool) = installed.iter().find(|tool| tool.major >= major) {
            return Ok(tool.clone());
        }
        Err(missing(match installed.last() {
            Some(tool) => {
                format!("{name} {major} or newer (only {} is there: {})", tool.version, tool.path.display())
            }
            None => name.to_owned(),
        }))
    }

    /// All installed versions, oldest first.
    fn installed(&self, name: &str) -> Result<Vec<Tool>> {
        let mut seen = BTreeSet::new();
        let mut tools = Vec::new();
        for directory in self.directories() {
            let path = directory.join(name);
            let Ok(real) = fs::canonicalize(&path) else { continue };
            // Debian's /usr/bin/pg_dump is a script that picks a version, and a cluster, by rules of its own.
            if real.file_name().is_some_and(|name| name == "pg_wrapper") || !seen.insert(real) {
                continue;
            }
            match version_of(&path, &[]) {
                Ok((major, version)) => tools.push(Tool { path, arguments: Vec::new(), major, version }),
                Err(error) => tracing::warn!(path = %path.display(), %error, "cannot tell the version"),
            }
        }
        // Stable: of equal versions, the first one found stays first.
        tools.sort_by_key(|tool| tool.major);
        Ok(tools)
    }

    fn directories(&self) -> Vec<PathBuf> {
        if let Some(directory) = &self.bin_dir {
            return vec![directory.clone()];
        }
        let mut directories = Vec::new();
        for (parent, prefix, below) in [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin")] {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            let fitting = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
            let mut found: Vec<PathBuf> = fitting.map(|entry| entry.path().join(below)).collect();
            found.sort();
            directories.extend(found);
        }
        directories.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
        directories
    }
}

fn missing(program: String) -> Error {
    Error::ProgramMissing { program, package: Some(PACKAGE) }
}

/// Reads `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn version_of(path: &Path, arguments: &[String]) -> Result<(u32, String)> {
    let program = Program::new(path).package(PACKAGE).args(arguments).arg("--version").env("LC_ALL", "C");
    let captured = program.timeout(VERSION_TIMEOUT).run_captured()?;
    let text = String::from_utf8_lossy(&captured.into_success()?).into_owned();
    let version = text.split(") ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or("");
    let digits = version.split(|character: char| !character.is_ascii_digit()).next().unwrap_or("");
    match digits.parse() {
        Ok(major) => Ok((major, version.to_owned())),
        Err(_) => Err(Error::ProgramFailed {
            program: path.display().to_string(),
            how: "told no version".to_owned(),
            stderr: text,
        }),
    }
}

/// A client program, told where the server is.
pub(crate) fn client_program(tool: &Tool, conninfo: &Conninfo, interrupt: &Interrupt) -> Program {
    let mut program = Program::new(&tool.path)
        .package(PACKAGE)
        .interrupt(interrupt)
        .env("LC_ALL", "C")
        .env("PGAPPNAME", "dbvault");
    if env::var_os("PGCONNECT_TIMEOUT").is_none() {
        program = program.env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT_S);
    }
    // A server of our own is not to be taken for another one.
    if conninfo.get("host").is_some_and(PrivatePostgres::is_host) {
        program = program.env_remove(PrivatePostgres::misleading_variables());
    }
    if let Some(password) = &conninfo.password {
        program = program.secret_env("PGPASSWORD", password.clone());
    }
    program.args(&tool.arguments).args(["--no-password", "-d"]).arg(conninfo.to_argument())
}

/// Asks a server questions, one connection each.
#[derive(Clone, Debug)]
pub(crate) struct Psql {
    tool: Tool,
    pub(crate) conninfo: Conninfo,
    interrupt: Interrupt,
    timeout: Option<Duration>,
}

impl Psql {
    pub(crate) fn new(tool: Tool, conninfo: Conninfo, interrupt: &Interrupt) -> Psql {
        Psql { tool, conninfo, interrupt: interrupt.clone(), timeout: None }
    }

    /// For what must be tidied up even after an interrupt: deaf to the flag, but bounded.
    pub(crate) fn uninterrupted(&self, timeout: Duration) -> Psql {
        Psql { interrupt: Interrupt::default(), timeout: Some(timeout), ..self.clone() }
    }

    pub(crate) fn with_tool(&self, tool: Tool) -> Psql {
        Psql { tool, ..self.clone() }
    }

    pub(crate) fn with_database(&self, name: &str) -> Psql {
        Psql { conninfo: self.conninfo.with_database(name), ..self.clone() }
    }

    /// Runs each command in turn on one connection and gives back all fields of all rows. Several statements in
    /// one command are one transaction. Stops at the first error.
    pub(crate) fn run(&self, commands: &[&str]) -> Result<Vec<String>> {
        self.run_with(&[], commands)
    }

    /// The same, with the user's own arguments for `psql`.
    pub(crate) fn run_with(&self, arguments: &[String], commands: &[&str]) -> Result<Vec<String>> {
        let captured = self.capture(arguments, commands)?;
        if captured.code() == Some(PSQL_CONNECTION_FAILED) {
            return Err(self.connection_error(captured.stderr));
        }
        let text = String::from_utf8_lossy(&captured.into_success()?).into_owned();
        Ok(text.split_terminator('\0').map(str::to_owned).collect())
    }

    /// Asks one question; gives host (or socket directory) and port as `psql` resolved them, and all fields.
    pub(crate) fn ask_with_address(&self, question: &str) -> Result<(String, String, Vec<String>)> {
        let mut fields = self.run(&["\\echo :HOST", "\\echo :PORT", question])?;
        let first = if fields.is_empty() { String::new() } else { fields.remove(0) };
        let mut lines = first.splitn(3, '\n');
        let mut line = || lines.next().unwrap_or("").to_owned();
        let (host, port, first) = (line(), line(), line());
        fields.insert(0, first);
        Ok((host, port, fields))
    }

    /// The program, to stop at the first error and print nothing but values.
    pub(crate) fn program(&self) -> Program {
        client_program(&self.tool, &self.conninfo, &self.interrupt).env("PGCLIENTENCODING", "UTF8").args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
        ])
    }

    fn capture(&self, arguments: &[String], commands: &[&str]) -> Result<Captured> {
        let mut program = self.program().args(arguments).args(["-z", "-0"]);
        if let Some(timeout) = self.timeout {
            program = program.timeout(timeout);
        }
        for command in commands {
            program = program.arg("-c").arg(command);
        }
        program.run_captured()
    }

    /// The server words its part of the message in its own language, so existence is asked for where it says
    /// nothing that is understood.
    fn connection_error(&self, message: String) -> Error {
        if let Some(name) = self.conninfo.get("dbname") {
            let absent = format!("database \"{name}\" does not exist");
            if message.contains(&absent) || self.is_absent(name) {
                return Error::NoSuchDatabase { name: name.to_owned() };
            }
        }
        // psql breaks its lines before what it advises.
        let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        Error::Connect { server: self.conninfo.server(), message }
    }

    fn is_absent(&self, name: &str) -> bool {
        let question =
            format!("SELECT count(*) FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
        let answer = ["postgres", "template1"].into_iter().filter(|other| *other != name).find_map(|other| {
            let captured = self.with_database(other).capture(&[], &[&question]).ok()?;
            captured.into_success().ok()
        });
        answer.is_some_and(|count| count == b"0\0")
    }
}

/// Quotes a text for SQL. The `E` form means the same whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
