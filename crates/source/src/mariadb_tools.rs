//! The client programs of MariaDB and MySQL: which of them is installed, how they are told where the server is, and
//! questions asked through them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dbvault_format::entry::EntryKind;
use tempfile::TempDir;

use crate::interrupt::Interrupt;
use crate::mariadb_options::without_defaults;
use crate::process::Program;
use crate::secret::Secret;
use crate::{Error, Result};

/// How long a program may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Option files of the system, in the order that the programs read them.
const OPTION_FILES: [&str; 2] = ["/etc/my.cnf", "/etc/mysql/my.cnf"];
/// Seconds that a client tries to connect.
const CONNECT_TIMEOUT_S: u32 = 15;
/// First major version of MySQL's own `mysqldump` that asks for column statistics, which older servers don't have.
const COLUMN_STATISTICS_MAJOR: u32 = 8;
/// Servers' errors that mean no connection: unknown user or password, no socket, no host, not allowed, TLS, lost.
const CONNECT_ERRORS: [u32; 12] = [1040, 1045, 1129, 1130, 1251, 1698, 2002, 2003, 2005, 2012, 2026, 2059];
const NO_SUCH_DATABASE: u32 = 1049;

/// Two servers of one origin, with programs of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MariaDB.
    Mariadb,
    /// MySQL, and what calls itself compatible with it.
    Mysql,
}

impl Family {
    /// The kind that entries of this family have.
    pub fn kind(self) -> EntryKind {
        match self {
            Family::Mariadb => EntryKind::Mariadb,
            Family::Mysql => EntryKind::Mysql,
        }
    }

    /// The name of the server, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Family::Mariadb => "MariaDB",
            Family::Mysql => "MySQL",
        }
    }

    fn programs(self, role: Role) -> [&'static str; 2] {
        match (self, role) {
            (Family::Mariadb, Role::Dump) => ["mariadb-dump", "mysqldump"],
            (Family::Mysql, Role::Dump) => ["mysqldump", "mariadb-dump"],
            (Family::Mariadb, Role::Client) => ["mariadb", "mysql"],
            (Family::Mysql, Role::Client) => ["mysql", "mariadb"],
        }
    }

    fn package(self) -> &'static str {
        match self {
            Family::Mariadb => "mariadb-client",
            Family::Mysql => "default-mysql-client",
        }
    }
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Dump,
    Client,
}

/// A server and the programs to talk to it with. What is not given is left to the programs: their option files,
/// such as `~/.my.cnf`, and their defaults.
#[derive(Clone, Debug)]
pub struct MariadbServer {
    /// Which kind of server.
    pub family: Family,
    /// Host name or address; one that begins with `/` is a socket.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Socket file.
    pub socket: Option<PathBuf>,
    /// User to connect as.
    pub user: Option<String>,
    /// Its password. Programs get it by a file that only this user can read.
    pub password: Option<Secret>,
    /// Whether to use TLS; by default the programs decide.
    pub tls: Option<bool>,
    /// Words to call in place of `mariadb-dump` or `mysqldump`; the first is the program.
    pub dump_program: Vec<String>,
    /// Words to call in place of `mariadb` or `mysql`; the first is the program.
    pub client_program: Vec<String>,
    /// Ends a program that is waited for and sends no byte for so long, milliseconds.
    pub stall_timeout_ms: Option<u64>,
    /// Stops what is running.
    pub interrupt: Interrupt,
}

impl MariadbServer {
    /// The server that the programs find by themselves.
    pub fn new(family: Family) -> MariadbServer {
        MariadbServer {
            family,
            host: None,
            port: None,
            socket: None,
            user: None,
            password: None,
            tls: None,
            dump_program: Vec::new(),
            client_program: Vec::new(),
            stall_timeout_ms: None,
            interrupt: Interrupt::default(),
        }
    }

    /// Host and port, or socket, for messages.
    pub(crate) fn place(&self) -> String {
        match (&self.socket, &self.host, self.port) {
            (Some(socket), _, _) => socket.display().to_string(),
            (None, Some(host), Some(port)) => format!("{host}, port {port}"),
            (None, Some(host), None) => host.clone(),
            (None, None, Some(port)) => format!("localhost, port {port}"),
            (None, None, None) => "localhost".to_owned(),
        }
    }

    /// Whether `database` is one of those that belong to the server itself.
    pub fn is_system_database(database: &str) -> bool {
        const SYSTEM: [&str; 5] = ["information_schema", "performance_schema", "mysql", "sys", "ndbinfo"];
        SYSTEM.iter().any(|name| database.eq_ignore_ascii_case(name))
    }

    /// The names of all databases but the server's own, in the order the server tells them. `options` are further
    /// arguments for the client.
    pub fn databases(&self, options: &[String]) -> Result<Vec<String>> {
        let rows = Session::new(self, options, &[])?.query("SHOW DATABASES")?;
        let names = rows.into_iter().filter_map(|row| row.into_iter().next());
        Ok(names.filter(|name| !MariadbServer::is_system_database(name)).collect())
    }
}

/// One installed program.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    words: Vec<String>,
    label: String,
    pub(crate) family: Family,
    pub(crate) major: u32,
    /// Version as the program tells it.
    pub(crate) version: String,
}

impl Tool {
    /// The program of the server's own family, else that of the other.
    pub(crate) fn find(server: &MariadbServer, role: Role) -> Result<Tool> {
        let given = match role {
            Role::Dump => &server.dump_program,
            Role::Client => &server.client_program,
        };
        let package = server.family.package();
        if !given.is_empty() {
            return Tool::ask(given.clone(), package, server);
        }
        let names = server.family.programs(role);
        for name in names {
            match Tool::ask(vec![name.to_owned()], package, server) {
                Err(Error::ProgramMissing { .. }) => {}
                outcome => return outcome,
            }
        }
        Err(Error::ProgramMissing { program: names[0].to_owned(), package: Some(package) })
    }

    /// How it is called.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Reads `mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for ...` and `mysqldump  Ver 8.0.36 for Linux ...`.
    fn ask(words: Vec<String>, package: &'static str, server: &MariadbServer) -> Result<Tool> {
        let (program, rest) = words
            .split_first()
            .ok_or(Error::ProgramMissing { program: String::new(), package: Some(package) })?;
        let captured = Program::new(program)
            .args(rest)
            .arg("--version")
            .package(package)
            .env("LC_ALL", "C")
            .timeout(VERSION_TIMEOUT)
            .interrupt(&server.interrupt)
            .run_captured()?;
        let text = String::from_utf8_lossy(&captured.into_success()?).into_owned();
        let family = if text.contains("MariaDB") { Family::Mariadb } else { Family::Mysql };
        let after = |word: &str| text.split_once(word).and_then(|(_, rest)| rest.split_whitespace().next());
        let from = after("Distrib ").or_else(|| after("from ")).or_else(|| after("Ver ")).unwrap_or("");
        let version = from.trim_end_matches(',').to_owned();
        let digits = version.split(|character: char| !character.is_ascii_digit()).next().unwrap_or("");
        let label =
            Path::new(program).file_name().map_or(program.clone(), |name| name.to_string_lossy().into());
        Ok(Tool { label, family, major: digits.parse().unwrap_or(0), version, words })
    }
}

/// Programs told where a server is, with a file for the password that lives as long as they need it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    server: MariadbServer,
    client: Tool,
    /// Arguments for the client, given by the user.
    client_options: Vec<String>,
    /// Arguments for the dump program, given by the user.
    dump_options: Vec<String>,
    defaults: Option<Arc<Defaults>>,
    dump_defaults: Option<Arc<Defaults>>,
    timeout: Option<Duration>,
}

/// An option file that only this user can read, in a directory of its own.
#[derive(Debug)]
struct Defaults {
    argument: String,
    _directory: TempDir,
}

impl Session {
    /// Connects to nothing yet. The options are further arguments for the two programs.
    pub(crate) fn new(
        server: &MariadbServer,
        client_options: &[String],
        dump_options: &[String],
    ) -> Result<Session> {
        let client = Tool::find(server, Role::Client)?;
        let (client_options, for_client) = without_defaults(client_options);
        let (dump_options, for_dump) = without_defaults(dump_options);
        // Who names a file for the dump means the same server when questions are asked.
        let defaults = Defaults::make(server, for_client.or_else(|| for_dump.clone()))?;
        let dump_defaults = match for_dump {
            None => defaults.clone(),
            given => Defaults::make(server, given)?,
        };
        let server = server.clone();
        Ok(Session { server, client, client_options, dump_options, defaults, dump_defaults, timeout: None })
    }

    /// For what must be done even after an interrupt: deaf to the flag, but bounded.
    pub(crate) fn uninterrupted(&self, timeout: Duration) -> Session {
        let mut session = self.clone();
        session.server.interrupt = Interrupt::default();
        session.timeout = Some(timeout);
        session
    }

    /// With these in place of the user's arguments for the dump program.
    pub(crate) fn with_dump_options(self, options: Vec<String>) -> Session {
        Session { dump_options: without_defaults(&options).0, ..self }
    }

    pub(crate) fn server(&self) -> &MariadbServer {
        &self.server
    }

    /// The dump program, ready to be told what to dump. The user's options come last, after `args`.
    pub(crate) fn dump_program(&self, tool: &Tool, args: &[&str]) -> Program {
        let family: &[&str] = match tool.family {
            Family::Mariadb => &[],
            Family::Mysql if tool.major >= COLUMN_STATISTICS_MAJOR => {
                &["--set-gtid-purged=OFF", "--column-statistics=0"]
            }
            Family::Mysql => &["--set-gtid-purged=OFF"],
        };
        self.program(tool, self.dump_defaults.as_deref()).args(family).args(args).args(&self.dump_options)
    }

    /// The rows that a question is answered with, as texts.
    pub(crate) fn query(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.query_in(None, sql)
    }

    /// The same, asked in a database.
    pub(crate) fn query_in(&self, database: Option<&str>, sql: &str) -> Result<Vec<Vec<String>>> {
        let mut program = self
            .client_program()
            .args(["--batch", "--skip-column-names", "--default-character-set=utf8mb4"])
            .arg("-e")
            .arg(sql);
        if let Some(database) = database {
            program = program.arg("--").arg(database);
        }
        let output = program.run_captured()?.into_success().map_err(|error| self.explained(error))?;
        let text = String::from_utf8_lossy(&output);
        Ok(text.lines().map(|line| line.split('\t').map(unescape).collect()).collect())
    }

    /// Runs statements that may be long or hold secrets: they go through a pipe. Stops at the first error.
    pub(crate) fn execute(&self, database: Option<&str>, sql: &str) -> Result<Vec<String>> {
        let mut writer = self.loader(database, &[]).spawn_writer()?;
        writer.feed(&mut sql.as_bytes())?;
        writer.finish().map_err(|error| self.explained(error))
    }

    /// As [`Session::execute`], by a client that holds all statements before it begins: it goes on to their end when
    /// this program is killed.
    pub(crate) fn execute_apart(&self, database: Option<&str>, sql: &str) -> Result<Vec<String>> {
        let program = self.loader(database, &[]);
        program.run_with_input(sql.as_bytes()).map_err(|error| self.explained(error))
    }

    /// The client, to be fed with a dump. In binary mode it obeys no commands of its own in the dump, and changes no
    /// byte; comments are part of routines.
    pub(crate) fn loader(&self, database: Option<&str>, options: &[String]) -> Program {
        let program = self
            .client_program()
            .args(["--batch", "--binary-mode", "--comments", "--max-allowed-packet=1G"])
            .arg("--default-character-set=utf8mb4")
            .args(options);
        match database {
            Some(database) => program.arg("--").arg(database),
            None => program,
        }
    }

    /// What a failed client said, as the fact that it is.
    pub(crate) fn explained(&self, error: Error) -> Error {
        let Error::ProgramFailed { stderr, .. } = &error else { return error };
        let Some((number, line)) = server_error(stderr) else { return error };
        if number == NO_SUCH_DATABASE {
            let name = line.rsplit_once(" '").map_or(line, |(_, name)| name.trim_end_matches('\''));
            return Error::NoSuchDatabase { name: name.to_owned() };
        }
        if CONNECT_ERRORS.contains(&number) {
            return Error::Connect { server: self.server.place(), message: line.to_owned() };
        }
        error
    }

    fn client_program(&self) -> Program {
        let program = self
            .program(&self.client, self.defaults.as_deref())
            .arg(format!("--connect-timeout={CONNECT_TIMEOUT_S}"))
            .args(&self.client_options);
        match self.timeout {
            Some(timeout) => program.timeout(timeout),
            None => program,
        }
    }

    fn program(&self, tool: &Tool, defaults: Option<&Defaults>) -> Program {
        let server = &self.server;
        let mut program = Program::new(&tool.words[0])
            .args(&tool.words[1..])
            .label(&tool.label)
            .package(server.family.package())
            .interrupt(&server.interrupt)
            .stall_timeout_ms(server.stall_timeout_ms)
            .env("LC_ALL", "C");
        // Goes before all others, or is not obeyed.
        if let Some(defaults) = defaults {
            program = program.arg(&defaults.argument);
        }
        let socket_host = server.host.as_deref().filter(|host| host.starts_with('/')).map(PathBuf::from);
        if let Some(socket) = server.socket.as_ref().or(socket_host.as_ref()) {
            program = program.arg(format!("--socket={}", socket.display())).arg("--protocol=SOCKET");
        } else if server.host.is_some() || server.port.is_some() {
            let host = server.host.as_deref().unwrap_or("localhost");
            program = program.arg(format!("--host={host}")).arg("--protocol=TCP");
        }
        if let Some(port) = server.port {
            program = program.arg(format!("--port={port}"));
        }
        if let Some(user) = &server.user {
            program = program.arg(format!("--user={user}"));
        }
        match (server.tls, tool.family) {
            (None, _) => program,
            (Some(true), Family::Mariadb) => program.arg("--ssl"),
            (Some(false), Family::Mariadb) => program.arg("--skip-ssl"),
            (Some(true), Family::Mysql) => program.arg("--ssl-mode=REQUIRED"),
            (Some(false), Family::Mysql) => program.arg("--ssl-mode=DISABLED"),
        }
    }
}

impl Defaults {
    /// `given` is an option file of the user's, which ours then begins with.
    fn make(server: &MariadbServer, given: Option<GivenDefaults>) -> Result<Option<Arc<Defaults>>> {
        let Some(password) = &server.password else {
            let as_given = given.map(|given| {
                let directory = tempfile::tempdir().map_err(Error::io("make a temporary directory"))?;
                Ok(Arc::new(Defaults { argument: given.argument(), _directory: directory }))
            });
            return as_given.transpose();
        };
        let failed = || Error::io("write a temporary file");
        let directory = tempfile::Builder::new()
            .prefix("dbvault-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(failed())?;
        let path = directory.path().join("my.cnf");
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed())?;
        for include in included(given.as_ref()) {
            let include = std::path::absolute(include).map_err(failed())?;
            writeln!(file, "!include {}", include.display()).map_err(failed())?;
        }
        let quoted = zeroize::Zeroizing::new(quoted(password.expose()));
        writeln!(file, "[client]\npassword=\"{}\"", *quoted).map_err(failed())?;
        let argument = format!("--defaults-file={}", path.display());
        Ok(Some(Arc::new(Defaults { argument, _directory: directory })))
    }
}

/// Option files that ours begins with: those that the programs would read. Ours must be the last: the programs read an
/// extra file before `~/.my.cnf`, and a password there would go before the one that is given.
///
/// See "Configuring MariaDB with Option Files" in MariaDB's manual.
fn included(given: Option<&GivenDefaults>) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".my.cnf"));
    let usual = |extra: Option<&PathBuf>| {
        let system = OPTION_FILES.map(PathBuf::from).into_iter();
        let all = system.chain(extra.cloned()).chain(home.clone());
        all.filter(|path| Some(path) == extra || path.is_file()).collect()
    };
    match given {
        None => usual(None),
        Some(GivenDefaults::Extra(path)) => usual(Some(path)),
        Some(GivenDefaults::Only(path)) => vec![path.clone()],
        Some(GivenDefaults::None) => Vec::new(),
    }
}

/// What the user says of option files; these words must go before all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GivenDefaults {
    /// `--no-defaults`.
    None,
    /// `--defaults-file=PATH`.
    Only(PathBuf),
    /// `--defaults-extra-file=PATH`.
    Extra(PathBuf),
}

impl GivenDefaults {
    fn argument(&self) -> String {
        match self {
            GivenDefaults::None => "--no-defaults".to_owned(),
            GivenDefaults::Only(path) => format!("--defaults-file={}", path.display()),
            GivenDefaults::Extra(path) => format!("--defaults-extra-file={}", path.display()),
        }
    }
}

/// Number and text of `ERROR 1045 (28000): Access denied ...` of a client, or of `...: Got error: 1045: "Access
/// denied ..." when ...` of a dump.
fn server_error(stderr: &str) -> Option<(u32, &str)> {
    stderr.lines().find_map(|line| {
        let line = line.trim();
        let rest =
            line.strip_prefix("ERROR ").or_else(|| line.split_once("Got error: ").map(|(_, rest)| rest))?;
        let digits = rest.split(|character: char| !character.is_ascii_digit()).next()?;
        let number = digits.parse().ok()?;
        let text = rest.split_once(": ").map_or(rest, |(_, text)| text);
        Some((number, text))
    })
}

/// Escapes a text for a quoted value of an option file.
fn quoted(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Undoes what the client's batch mode does to a field.
fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('0') => text.push('\0'),
            Some(other) => text.push(other),
            None => text.push('\\'),
        }
    }
    text
}

/// Quotes a name for SQL.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text for SQL, in a form that no setting of the server can make mean something else.
pub(crate) fn literal(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
    format!("_utf8mb4 0x{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_servers_are_understood() {
        let denied = "mariadb-dump: Got error: 1045: \"Access denied for user 'x'\" when trying to connect";
        assert_eq!(server_error(denied).map(|(number, _)| number), Some(1045));
        let unknown = server_error("x\nERROR 1049 (42000): Unknown database 'no'").unwrap();
        assert_eq!(unknown, (1049, "Unknown database 'no'"));
        assert_eq!(server_error("ERROR: something"), None);
    }

    #[test]
    fn fields_are_unescaped() {
        assert_eq!(unescape("a\\tb\\\\n\\n"), "a\tb\\n\n");
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(literal("a'"), "_utf8mb4 0x6127");
        assert_eq!(identifier("a`b"), "`a``b`");
        assert_eq!(quoted("a\"\\#"), "a\\\"\\\\#");
    }
}
