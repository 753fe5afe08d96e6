//! One PostgreSQL database, dumped by the `pg_dump` that fits its server. `postgres_restore.rs` is the way back.
//!
//! The dump is in the custom format without compression, unless another is asked for: `pg_restore` can pick from it,
//! and equal rows are equal bytes, which is what deduplication needs. It counts as good only when `pg_dump` ended with
//! status 0 and the stream was followed to its end (`postgres_format.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};

use crate::body::{BodyEnd, Inspect, body};
use crate::conninfo::Conninfo;
use crate::interrupt::Interrupt;
use crate::postgres_format::{Checker, PostgresFormat};
use crate::postgres_tools::{Psql, Tool, Tools, client_program};
use crate::process::{Process, Program};
use crate::row_counts;
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
    /// TLS and whatever else libpq knows of a connection: keywords and values of a connection string, no secrets.
    pub parameters: Vec<(String, String)>,
    /// Name of the entry; by default the name of the database.
    pub entry_name: Option<String>,
    /// The user's word for the server.
    pub label: Option<String>,
    /// Format of the dump.
    pub format: PostgresFormat,
    /// Further arguments for `pg_dump`.
    pub arguments: Vec<String>,
    /// What to run in place of `pg_dump`, with its first arguments.
    pub pg_dump: Vec<String>,
    /// Longest time that the dump may send nothing before it is ended, milliseconds; without it there is none.
    pub stall_timeout_ms: Option<u64>,
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
            parameters: Vec::new(),
            entry_name: None,
            label: None,
            format: PostgresFormat::default(),
            arguments: Vec::new(),
            pg_dump: Vec::new(),
            stall_timeout_ms: None,
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

/// Where the options say that the database is. Errors: [`Error::Connect`].
pub(crate) fn conninfo_of(options: &PostgresOptions) -> Result<Conninfo> {
    let PostgresOptions { host, user, password, .. } = options;
    let mut conninfo =
        conninfo(&options.database, host.as_deref(), options.port, user.as_deref(), password.as_ref())?;
    for (keyword, value) in &options.parameters {
        conninfo.set(keyword, value.as_str());
    }
    Ok(conninfo)
}

/// Backs up one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresSource {
    name: String,
    conninfo: Conninfo,
    tools: Tools,
    options: PostgresOptions,
    running: Option<(Process, BodyEnd<CheckedDump>)>,
}

/// What the server says of itself before the dump.
pub(crate) struct ServerFacts {
    host: String,
    port: String,
    user: String,
    database: String,
    pub(crate) major: u32,
    version: String,
    /// Encoding, collation and character classes of the database.
    locale: [String; 3],
}

impl ServerFacts {
    /// Asks the server.
    pub(crate) fn ask(psql: &Psql) -> Result<ServerFacts> {
        let question = "SELECT current_setting('server_version_num')::int / 10000, \
             current_setting('server_version'), current_user, current_database(), \
             pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype \
             FROM pg_catalog.pg_database WHERE datname = current_database()";
        let (host, port, answer) = psql.ask_with_address(question)?;
        match answer.as_slice() {
            [major, version, user, database, locale @ ..] if locale.len() == 3 => Ok(ServerFacts {
                locale: [locale[0].clone(), locale[1].clone(), locale[2].clone()],
                host,
                port,
                user: user.clone(),
                database: database.clone(),
                major: major.parse().unwrap_or(0),
                version: version.clone(),
            }),
            _ => Err(Error::Connect {
                server: psql.conninfo.server(),
                message: format!("psql gave {} fields in place of 7", answer.len()),
            }),
        }
    }

    /// What an entry tells of its source.
    pub(crate) fn attributes(
        &self,
        client: &Tool,
        format: &str,
        label: Option<&str>,
    ) -> BTreeMap<String, String> {
        let facts = [
            (attribute::SERVER_VERSION, self.version.as_str()),
            (attribute::CLIENT_VERSION, &client.version),
            (attribute::HOST, &self.host),
            (attribute::PORT, &self.port),
            (attribute::USER, &self.user),
            (attribute::DATABASE, &self.database),
            (attribute::FORMAT, format),
            (attribute::ENCODING, &self.locale[0]),
            (attribute::COLLATION, &self.locale[1]),
            (attribute::CTYPE, &self.locale[2]),
        ];
        let label = label.map(|label| (attribute::LABEL, label));
        facts.into_iter().chain(label).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

impl PostgresSource {
    /// Connects to nothing yet. Errors: [`Error::Connect`] when the connection string can't be understood or
    /// names no database.
    pub fn new(options: PostgresOptions) -> Result<PostgresSource> {
        let conninfo = conninfo_of(&options)?;
        let from_env = || std::env::var("PGDATABASE").ok();
        let name = options.entry_name.clone();
        let name = name.or_else(|| conninfo.get("dbname").map(str::to_owned)).or_else(from_env);
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| Error::Connect {
            server: conninfo.server(),
            message: "no database is named".to_owned(),
        })?;
        let tools = Tools::new(options.bin_dir.clone());
        Ok(PostgresSource { name, conninfo, tools, options, running: None })
    }
}

impl Source for PostgresSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self) -> Result<Entry> {
        let PostgresOptions { format, interrupt, label, .. } = &self.options;
        let psql = Psql::new(self.tools.newest("psql")?, self.conninfo.clone(), interrupt);
        let server = ServerFacts::ask(&psql)?;
        let pg_dump = match self.options.pg_dump.as_slice() {
            [] => self.tools.fitting("pg_dump", server.major)?,
            words => Tool::given(words)?,
        };
        let (process, output) = dump_program(&pg_dump, &self.conninfo, &self.options).spawn_reader()?;
        let checked = CheckedDump { name: self.name.clone(), checker: Checker::new(*format) };
        let (body, end) = body(output, checked);
        self.running = Some((process, end));
        let attributes = server.attributes(&pg_dump, format.name(), label.as_deref());
        let meta = EntryMeta {
            name: self.name.clone(),
            kind: EntryKind::Postgresql,
            grid: Grid::Content,
            attributes,
        };
        Ok(Entry { meta, body })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let (process, end) = self.running.take().ok_or_else(|| Error::Empty { name: self.name.clone() })?;
        finish_dump(&self.name, process, &end)
    }
}

/// `pg_dump` as the options want it, to its standard output.
pub(crate) fn dump_program(pg_dump: &Tool, conninfo: &Conninfo, options: &PostgresOptions) -> Program {
    let uncompressed =
        if pg_dump.major >= COMPRESS_METHOD_MAJOR { "--compress=none" } else { "--compress=0" };
    let program = client_program(pg_dump, conninfo, &options.interrupt)
        .stall_timeout_ms(options.stall_timeout_ms)
        .arg(format!("--format={}", options.format.name()))
        .arg(format!("--lock-wait-timeout={}", options.lock_wait_timeout_ms));
    // A tar archive has no compression to turn off.
    let program = if options.format == PostgresFormat::Tar { program } else { program.arg(uncompressed) };
    program.args(&options.arguments)
}

/// Whether a dump that was read to its end is good, and what is known of it then.
pub(crate) fn finish_dump(name: &str, process: Process, end: &BodyEnd<CheckedDump>) -> Result<EntryReport> {
    let mut checker = end.take(name)?.checker;
    // A failure of pg_dump explains a cut stream, so it goes first.
    let mut warnings = process.finish()?;
    if checker.total_bytes() == 0 {
        return Err(Error::Empty { name: name.to_owned() });
    }
    let more = checker.finish().map_err(|detail| Error::Incomplete { name: name.to_owned(), detail })?;
    warnings.extend(more);
    let rows = checker.row_counts().filter(|rows| !rows.is_empty());
    let rows = rows.map(|rows| (attribute::ROW_COUNTS.to_owned(), row_counts::to_json(rows)));
    let positions = checker.data_positions().map(|text| (attribute::DATA_POSITIONS.to_owned(), text));
    Ok(EntryReport { attributes: rows.into_iter().chain(positions).collect(), warnings })
}

/// Follows a dump's structure as it streams by.
#[derive(Debug)]
pub(crate) struct CheckedDump {
    pub(crate) name: String,
    pub(crate) checker: Checker,
}

impl Inspect for CheckedDump {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        self.checker.feed(bytes).map_err(|detail| Error::Incomplete { name: self.name.clone(), detail })
    }
}
