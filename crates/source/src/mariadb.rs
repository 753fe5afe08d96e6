//! Databases of MariaDB and MySQL, dumped by their own programs. `mariadb_restore.rs` is the way back.
//!
//! The dump is SQL text of one snapshot. It counts as good only when the program ended with status 0 and the text was
//! followed to the line that these programs write last (`mariadb_stream.rs`): neither alone is enough, since what a
//! killed program wrote loads without an error. Users and grants belong to the server; they are an entry of their own
//! (`mariadb_globals.rs`).

use std::collections::BTreeMap;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};

use crate::body::{BodyEnd, body};
use crate::mariadb_globals::{self, Globals};
use crate::mariadb_journal;
use crate::mariadb_options::dump_options;
use crate::mariadb_stream::{WatchedDump, finish};
use crate::mariadb_tools::{MariadbServer, Role, Session, Tool, literal};
use crate::process::Process;
use crate::{Entry, Error, Result, Source, row_counts};

/// Attribute: default character set of the database.
pub(crate) const CHARACTER_SET: &str = "character_set";
/// Attribute: default collation of the database.
pub(crate) const COLLATION: &str = "collation";
/// Arguments of every dump. Without `LOCK TABLES`: tables whose defaults draw from a sequence could not be loaded.
const DUMP_ARGS: [&str; 12] = [
    "--single-transaction",
    "--quick",
    "--triggers",
    "--hex-blob",
    "--tz-utc",
    "--default-character-set=utf8mb4",
    "--max-allowed-packet=1G",
    "--no-tablespaces",
    "--skip-add-locks",
    "--skip-dump-date",
    "--skip-lock-tables",
    // The user's own option files may say otherwise; the last line of the dump is a comment.
    "--comments",
];

/// What to dump, and where it is.
#[derive(Clone, Debug)]
pub struct MariadbOptions {
    /// The server.
    pub server: MariadbServer,
    /// What of it.
    pub content: MariadbContent,
    /// Name of the entry.
    pub entry_name: String,
    /// The user's own word for the server.
    pub label: Option<String>,
    /// Further arguments for the dump program.
    pub dump_options: Vec<String>,
    /// Further arguments for the client that asks what is there.
    pub client_options: Vec<String>,
    /// Leave out procedures, functions and packages.
    pub without_routines: bool,
    /// Leave out events.
    pub without_events: bool,
}

/// What of a server is dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MariadbContent {
    /// One database.
    Database(String),
    /// Users, roles and grants.
    Globals,
}

impl MariadbOptions {
    /// Options for one database, with everything else left to its default.
    pub fn new(server: MariadbServer, database: impl Into<String>) -> MariadbOptions {
        let database = database.into();
        MariadbOptions {
            entry_name: database.clone(),
            content: MariadbContent::Database(database),
            ..MariadbOptions::globals(server)
        }
    }

    /// Options for the users and grants of a server, with everything else left to its default.
    pub fn globals(server: MariadbServer) -> MariadbOptions {
        MariadbOptions {
            server,
            content: MariadbContent::Globals,
            entry_name: "globals".to_owned(),
            label: None,
            dump_options: Vec::new(),
            client_options: Vec::new(),
            without_routines: false,
            without_events: false,
        }
    }
}

/// Backs up one database, or the users and grants of a server.
#[derive(Debug)]
pub struct MariadbSource {
    options: MariadbOptions,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Option<Process>,
    end: BodyEnd<WatchedDump>,
    warnings: Vec<String>,
    // The programs read its file; it must outlive them.
    session: Session,
}

impl MariadbSource {
    /// Connects to nothing yet. Errors: [`Error::Connect`] when no database is named.
    pub fn new(options: MariadbOptions) -> Result<MariadbSource> {
        if options.content == MariadbContent::Database(String::new()) {
            let message = "no database is named".to_owned();
            return Err(Error::Connect { server: options.server.place(), message });
        }
        Ok(MariadbSource { options, running: None })
    }

    fn open_database(&mut self, session: Session, tool: &Tool, name: &str) -> Result<Entry> {
        let entry = &self.options.entry_name;
        let (options, mut warnings) = dump_options(entry, &self.options.dump_options)?;
        let session = session.with_dump_options(options);
        let facts = Facts::ask(&session)?;
        let (character_set, collation) =
            defaults_of(&session, name)?.ok_or_else(|| Error::NoSuchDatabase { name: name.to_owned() })?;
        if !mariadb_journal::cut_short(&session, name)?.is_empty() {
            let message = "a restore into it was cut short by a crash, and the next restore takes it back: \
                           restore it again, then back up";
            return Err(Error::Database { what: format!("dump \"{name}\""), message: message.to_owned() });
        }
        warnings.extend(other_family(&session, tool, &facts));
        warnings.extend(warnings_of_tables(&session, name)?);
        let routines = if self.options.without_routines { "--skip-routines" } else { "--routines" };
        let events = if self.options.without_events { "--skip-events" } else { "--events" };
        let mut args = DUMP_ARGS.to_vec();
        args.extend([routines, events]);
        let (process, output) = session.dump_program(tool, &args).arg("--").arg(name).spawn_reader()?;
        let (body, end) = body(output, WatchedDump::default());
        let mut meta = self.meta(&session, &facts, tool);
        for (key, value) in
            [(attribute::DATABASE, name), (CHARACTER_SET, &character_set), (COLLATION, &collation)]
        {
            meta.attributes.insert(key.to_owned(), value.to_owned());
        }
        self.running = Some(Running { process: Some(process), end, warnings, session });
        Ok(Entry { meta, body })
    }

    fn open_globals(&mut self, session: Session, tool: &Tool) -> Result<Entry> {
        let facts = Facts::ask(&session)?;
        let (globals, warnings) = mariadb_globals::dump(&session, tool, facts.is_mariadb())?;
        let (process, output) = match globals {
            Globals::Program(process, output) => (Some(process), output),
            Globals::Text(text) => (None, text),
        };
        let (body, end) = body(output, WatchedDump::default());
        let mut meta = self.meta(&session, &facts, tool);
        meta.attributes.insert(attribute::PART.to_owned(), dbvault_format::entry::part::GLOBALS.to_owned());
        self.running = Some(Running { process, end, warnings, session });
        Ok(Entry { meta, body })
    }

    fn meta(&self, session: &Session, facts: &Facts, tool: &Tool) -> EntryMeta {
        let server = session.server();
        let socket = server.socket.as_ref().map(|path| path.display().to_string());
        let host = socket.or_else(|| server.host.clone()).unwrap_or_else(|| facts.socket.clone());
        let attributes = [
            (attribute::SERVER_VERSION, facts.version.clone()),
            (attribute::CLIENT_VERSION, tool.version.clone()),
            (attribute::HOST, host),
            (attribute::PORT, server.port.map_or_else(|| facts.port.clone(), |port| port.to_string())),
            (attribute::USER, facts.user.clone()),
            (attribute::FORMAT, "sql".to_owned()),
        ];
        let label = self.options.label.clone().map(|label| (attribute::LABEL, label));
        let attributes = attributes.into_iter().chain(label);
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).collect();
        let (name, kind) = (self.options.entry_name.clone(), server.family.kind());
        EntryMeta { name, kind, grid: Grid::Content, attributes }
    }
}

impl Source for MariadbSource {
    fn name(&self) -> &str {
        &self.options.entry_name
    }

    fn open(&mut self) -> Result<Entry> {
        let MariadbOptions { server, client_options, dump_options, .. } = &self.options;
        let tool = Tool::find(server, Role::Dump)?;
        let session = Session::new(server, client_options, dump_options)?;
        match self.options.content.clone() {
            MariadbContent::Database(name) => self.open_database(session, &tool, &name),
            MariadbContent::Globals => self.open_globals(session, &tool),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let name = self.options.entry_name.clone();
        let running = self.running.take().ok_or_else(|| Error::Empty { name: name.clone() })?;
        let dump = running.end.take(&name)?.0;
        let mut warnings = running.warnings;
        // A failure of the program explains a cut stream, so it goes first.
        if let Some(process) = running.process {
            warnings.extend(process.finish().map_err(|error| running.session.explained(error))?);
        }
        let rows = finish(dump, &name)?;
        let mut attributes = BTreeMap::new();
        if self.options.content != MariadbContent::Globals {
            attributes.insert(attribute::ROW_COUNTS.to_owned(), row_counts::to_json(&rows));
        }
        Ok(EntryReport { attributes, warnings })
    }
}

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) version: String,
    port: String,
    socket: String,
    user: String,
}

impl Facts {
    pub(crate) fn ask(session: &Session) -> Result<Facts> {
        let mut rows = session.query("SELECT VERSION(), @@port, @@socket, CURRENT_USER()")?;
        let row = rows.pop().unwrap_or_default();
        match <[String; 4]>::try_from(row) {
            Ok([version, port, socket, user]) => Ok(Facts { version, port, socket, user }),
            Err(row) => Err(Error::Connect {
                server: session.server().place(),
                message: format!("the client gave {} fields in place of 4", row.len()),
            }),
        }
    }

    pub(crate) fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }
}

/// Default character set and collation of a database; `None` where there is none of that name.
pub(crate) fn defaults_of(session: &Session, name: &str) -> Result<Option<(String, String)>> {
    let question = format!(
        "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA \
         WHERE SCHEMA_NAME = {}",
        literal(name)
    );
    let row = session.query(&question)?.pop();
    Ok(row.and_then(|row| <[String; 2]>::try_from(row).ok()).map(|[set, collation]| (set, collation)))
}

/// The programs of one family leave out what only servers of the other have.
pub(crate) fn other_family(session: &Session, tool: &Tool, facts: &Facts) -> Option<String> {
    let server = if facts.is_mariadb() { EntryKind::Mariadb } else { EntryKind::Mysql };
    (server != tool.family.kind()).then(|| {
        format!(
            "the server at {} has version {}, but was dumped by a program of {}, which may leave out what it does \
             not know",
            session.server().place(),
            facts.version,
            tool.family.name(),
        )
    })
}

fn warnings_of_tables(session: &Session, name: &str) -> Result<Vec<String>> {
    let question = format!(
        "SELECT TABLE_NAME, ENGINE, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND \
         (TABLE_TYPE = 'SYSTEM VERSIONED' OR TABLE_TYPE = 'BASE TABLE' AND ENGINE NOT IN \
         (SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES')) ORDER BY TABLE_NAME",
        literal(name)
    );
    let (mut plain, mut versioned) = (Vec::new(), Vec::new());
    for row in session.query(&question)? {
        match row.as_slice() {
            [table, _, kind] if kind == "SYSTEM VERSIONED" => versioned.push(table.clone()),
            [table, engine, _] => plain.push(format!("{table} ({engine})")),
            _ => {}
        }
    }
    let mut warnings = Vec::new();
    if !plain.is_empty() {
        let tables = plain.join(", ");
        warnings
            .push(format!("not part of the snapshot, because their engine has no transactions: {tables}"));
    }
    if !versioned.is_empty() {
        let tables = versioned.join(", ");
        warnings.push(format!(
            "only the current rows are dumped of tables with system versioning, unless the option --dump-history \
             is given: {tables}"
        ));
    }
    Ok(warnings)
}
