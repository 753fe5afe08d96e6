//! One PostgreSQL database, dumped by the `pg_dump` that fits its server. `postgres_restore.rs` is the way back.
//!
//! The dump is in the custom format without compression: `pg_restore` can pick from it, and equal rows are equal
//! bytes, which is what deduplication needs. It counts as good only when `pg_dump` ended with status 0 and the
//! stream was followed to the end of its last data block (`pgdump_format.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};

use crate::body::{BodyEnd, Inspect, body};
use crate::conninfo::Conninfo;
use crate::interrupt::Interrupt;
use crate::pgdump_format::CustomFormatChecker;
use crate::postgres_tools::{Psql, Tool, Tools, client_program};
use crate::process::Process;
use crate::secret::Secret;
use crate::{Entry, Error, Result, Source};

/// How long `pg_dump` waits for a lock on a table before it fails, milliseconds; see its `--lock-wait-timeout`.
pub const LOCK_WAIT_TIMEOUT_MS: u32 = 60_000;
/// First major version that has `--compress=none`.
const COMPRESS_METHOD_MAJOR: u32 = 16;

/// Which database to dump, and where it is. libpq's own rules (PGHOST, PGUSER, ~/.pgpass, PGSERVICEFILE, ...) fill
/// in what is not given.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// A database's name, a `keyword=value` connection string, or a `postgresql://` URI. A password in it never
    /// reaches a command line.
    pub database: String,
    /// Host name, address or socket directory; goes before one in `database`.
    pub host: Option<String>,
    /// Port; goes before one in `database`.
    pub port: Option<u16>,
    /// Role to connect as; goes before one in `database`.
    pub user: Option<String>,
    /// Password; goes before one in `database`.
    pub password: Option<Secret>,
    /// Name of the entry; by default the name of the database.
    pub entry_name: Option<String>,
    /// How long `pg_dump` waits for a lock on a table, milliseconds.
    pub lock_wait_timeout_ms: u32,
    /// Directory to take `pg_dump` and `psql` from. By default the one that the environment variable
    /// DBVAULT_PG_BINDIR names, else `/usr/lib/postgresql/*/bin`, `/usr/pgsql-*/bin` and PATH.
    pub bin_dir: Option<PathBuf>,
    /// Stops the dump.
    pub interrupt: Interrupt,
}

impl PostgresOptions {
    /// Options for a database, with everything else left to its default.
    pub fn new(database: impl Into<String>) -> PostgresOptions {
        PostgresOptions {
            database: database.into(),
            host: None,
            port: None,
            user: None,
            password: None,
            entry_name: None,
            lock_wait_timeout_ms: LOCK_WAIT_TIMEOUT_MS,
            bin_dir: None,
            interrupt: Interrupt::default(),
        }
    }
}

/// Joins what was given apart with what the database's text holds.
pub(crate) fn conninfo(
    database: &str,
    host: Option<&str>,
    port: Option<u16>,
    user: Option<&str>,
    password: Option<&Secret>,
) -> Result<Conninfo> {
    let mut conninfo = Conninfo::parse(database)
        .map_err(|message| Error::Connect { server: "the given address".to_owned(), message })?;
    if let Some(host) = host {
        conninfo.set("host", host);
    }
    if let Some(port) = port {
        conninfo.set("port", port.to_string());
    }
    if let Some(user) = user {
        conninfo.set("user", user);
    }
    if let Some(password) = password {
        conninfo.password = Some(password.clone());
    }
    Ok(conninfo)
}

/// Backs up one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresSource {
    name: String,
    conninfo: Conninfo,
    tools: Tools,
    lock_wait_timeout_ms: u32,
    interrupt: Interrupt,
    running: Option<(Process, BodyEnd<CheckedDump>)>,
}

/// What the server says of itself before the dump.
struct ServerFacts {
    host: String,
    port: String,
    user: String,
    database: String,
    major: u32,
    version: String,
}

impl PostgresSource {
    /// Connects to nothing yet. Errors: [`Error::Connect`] when the connection string can't be understood or
    /// names no database.
    pub fn new(options: PostgresOptions) -> Result<PostgresSource> {
        let PostgresOptions { host, user, password, .. } = &options;
        let conninfo =
            conninfo(&options.database, host.as_deref(), options.port, user.as_deref(), password.as_ref())?;
        let from_env = || std::env::var("PGDATABASE").ok();
        let name = options.entry_name.or_else(|| conninfo.get("dbname").map(str::to_owned)).or_else(from_env);
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| Error::Connect {
            server: conninfo.server(),
            message: "no database is named".to_owned(),
        })?;
        Ok(PostgresSource {
            name,
            conninfo,
            tools: Tools::new(options.bin_dir),
            lock_wait_timeout_ms: options.lock_wait_timeout_ms,
            interrupt: options.interrupt,
            running: None,
        })
    }

    fn ask_server(&self) -> Result<ServerFacts> {
        let psql = Psql::new(self.tools.newest("psql")?, self.conninfo.clone(), &self.interrupt);
        let question = "SELECT current_setting('server_version_num')::int / 10000, \
             current_setting('server_version'), current_user, current_database()";
        let (host, port, answer) = psql.ask_with_address(question)?;
        match answer.as_slice() {
            [major, version, user, database] => Ok(ServerFacts {
                host,
                port,
                user: user.clone(),
                database: database.clone(),
                major: major.parse().unwrap_or(0),
                version: version.clone(),
            }),
            _ => Err(Error::Connect {
                server: self.conninfo.server(),
                message: format!("psql gave {} fields in place of 4", answer.len()),
            }),
        }
    }

    fn meta(&self, server: ServerFacts, pg_dump: &Tool) -> EntryMeta {
        let facts = [
            (attribute::SERVER_VERSION, server.version),
            (attribute::CLIENT_VERSION, pg_dump.version.clone()),
            (attribute::HOST, server.host),
            (attribute::PORT, server.port),
            (attribute::USER, server.user),
            (attribute::DATABASE, server.database),
            (attribute::FORMAT, "custom".to_owned()),
        ];
        let attributes: BTreeMap<String, String> =
            facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        EntryMeta { name: self.name.clone(), kind: EntryKind::Postgresql, grid: Grid::Content, attributes }
    }
}

impl Source for PostgresSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self) -> Result<Entry> {
        let server = self.ask_server()?;
        let pg_dump = self.tools.fitting("pg_dump", server.major)?;
        let uncompressed =
            if pg_dump.major >= COMPRESS_METHOD_MAJOR { "--compress=none" } else { "--compress=0" };
        let (process, output) = client_program(&pg_dump, &self.conninfo, &self.interrupt)
            .arg("--format=custom")
            .arg(uncompressed)
            .arg(format!("--lock-wait-timeout={}", self.lock_wait_timeout_ms))
            .spawn_reader()?;
        let checked = CheckedDump { name: self.name.clone(), checker: CustomFormatChecker::default() };
        let (body, end) = body(output, checked);
        self.running = Some((process, end));
        Ok(Entry { meta: self.meta(server, &pg_dump), body })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let name = self.name.clone();
        let (process, end) = self.running.take().ok_or_else(|| Error::Empty { name: name.clone() })?;
        let checker = end.take(&name)?.checker;
        // A failure of pg_dump explains a cut stream, so it goes first.
        let mut warnings = process.finish()?;
        if checker.total_bytes() == 0 {
            return Err(Error::Empty { name });
        }
        let summary = checker.finish().map_err(|detail| Error::Incomplete { name, detail })?;
        if !summary.checked {
            let (major, minor) = summary.version;
            warnings.push(format!(
                "the dump has format version {major}.{minor}, which is newer than what is understood: \
                 that it is whole rests on the exit status of pg_dump alone"
            ));
        }
        tracing::debug!(entries = summary.entries, blocks = summary.blocks, "whole dump");
        Ok(EntryReport { attributes: BTreeMap::new(), warnings })
    }
}

/// Follows a dump's structure as it streams by.
#[derive(Debug)]
struct CheckedDump {
    name: String,
    checker: CustomFormatChecker,
}

impl Inspect for CheckedDump {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        self.checker.feed(bytes).map_err(|detail| Error::Incomplete { name: self.name.clone(), detail })
    }
}
