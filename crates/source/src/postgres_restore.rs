//! One PostgreSQL database, put back: loaded beside the live one (`postgres_load.rs`), then swapped in
//! (`postgres_swap.rs`).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use dbvault_format::entry::{EntryMeta, EntryReport, attribute};

use crate::conninfo::{Conninfo, server_words};
use crate::interrupt::{self, Interrupt};
use crate::postgres::conninfo;
use crate::postgres_database_sql::Leave;
use crate::postgres_format::PostgresFormat;
use crate::postgres_swap::Swap;
use crate::postgres_tools::{Psql, Tools, literal};
use crate::row_counts;
use crate::secret::Secret;
use crate::{Error, Part, Result, Target};

/// How long tidying up may take.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Where to restore to. libpq's own rules fill in what is not given.
#[derive(Clone, Debug)]
pub struct PostgresTargetOptions {
    /// The database to make or replace: its name, or a connection string or URI that names it.
    pub database: String,
    /// Host name, address or socket directory; goes before one in `database`.
    pub host: Option<String>,
    /// Port; goes before one in `database`.
    pub port: Option<u16>,
    /// Role to connect as; goes before one in `database`. It must be allowed to create databases.
    pub user: Option<String>,
    /// Password; goes before one in `database`.
    pub password: Option<Secret>,
    /// The database to connect to for creating and renaming; by default `postgres`, else `template1`.
    pub maintenance_database: Option<String>,
    /// TLS and whatever else libpq knows of a connection; see [`crate::PostgresOptions::parameters`].
    pub parameters: Vec<(String, String)>,
    /// Load into the live database, in one transaction, in place of what is in the way there: it is not replaced as a
    /// whole.
    pub in_place: bool,
    /// Only these schemas; with [`PostgresTargetOptions::in_place`], which alone leaves the rest of the database alone.
    pub schemas: Vec<String>,
    /// Further arguments for `pg_restore`, or for `psql` where the dump is SQL.
    pub arguments: Vec<String>,
    /// What to run in place of `pg_restore`, with its first arguments.
    pub pg_restore: Vec<String>,
    /// What to run in place of `psql`, with its first arguments.
    pub psql: Vec<String>,
    /// Do not collect statistics for the planner.
    pub no_analyze: bool,
    /// Further arguments for the `psql` that collects them.
    pub analyze_arguments: Vec<String>,
    /// How many processes load what was dumped in parts.
    pub parallel: usize,
    /// Everything will belong to the role that restores.
    pub no_owner: bool,
    /// Leave out grants, security labels and settings of roles.
    pub no_privileges: bool,
    /// Put everything in the server's default tablespace.
    pub no_tablespaces: bool,
    /// Keep the database that was replaced, under the name that the report tells.
    pub keep_old: bool,
    /// Directory to take `pg_restore` and `psql` from; see [`crate::PostgresOptions::bin_dir`].
    pub bin_dir: Option<PathBuf>,
    /// Stops the restore.
    pub interrupt: Interrupt,
}

impl PostgresTargetOptions {
    /// Options for a database, with everything else left to its default.
    pub fn new(database: impl Into<String>) -> PostgresTargetOptions {
        PostgresTargetOptions {
            database: database.into(),
            host: None,
            port: None,
            user: None,
            password: None,
            maintenance_database: None,
            parameters: Vec::new(),
            in_place: false,
            schemas: Vec::new(),
            arguments: Vec::new(),
            pg_restore: Vec::new(),
            psql: Vec::new(),
            no_analyze: false,
            analyze_arguments: Vec::new(),
            parallel: 1,
            no_owner: false,
            no_privileges: false,
            no_tablespaces: false,
            keep_old: false,
            bin_dir: None,
            interrupt: Interrupt::default(),
        }
    }
}

/// Restores one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresTarget {
    pub(crate) name: String,
    conninfo: Conninfo,
    pub(crate) tools: Tools,
    pub(crate) options: PostgresTargetOptions,
    server: Option<Server>,
    /// [`Target::occupied`] found nothing there, so nothing may be replaced.
    pub(crate) found_free: bool,
    /// The database that holds what was loaded; dropped with the target.
    pub(crate) loaded: Option<String>,
    /// It was loaded into the live database.
    pub(crate) in_place_done: bool,
    /// Rows of each table that were loaded.
    pub(crate) rows: BTreeMap<String, u64>,
    pub(crate) warnings: Vec<String>,
}

/// A server that answers.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) psql: Psql,
    host: String,
    port: String,
    pub(crate) major: u32,
}

impl Server {
    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        server_words(&self.host, &self.port)
    }
}

impl PostgresTarget {
    /// Connects to nothing yet. Errors: [`Error::Connect`] when the connection string can't be understood or
    /// names no database.
    pub fn new(options: PostgresTargetOptions) -> Result<PostgresTarget> {
        let PostgresTargetOptions { host, user, password, .. } = &options;
        let mut conninfo =
            conninfo(&options.database, host.as_deref(), options.port, user.as_deref(), password.as_ref())?;
        options.parameters.iter().for_each(|(keyword, value)| conninfo.set(keyword, value.as_str()));
        let name = conninfo.get("dbname").filter(|name| !name.is_empty()).ok_or_else(|| Error::Connect {
            server: conninfo.server(),
            message: "no database is named".to_owned(),
        })?;
        Ok(PostgresTarget {
            name: name.to_owned(),
            tools: Tools::new(options.bin_dir.clone()),
            conninfo,
            options,
            server: None,
            found_free: false,
            loaded: None,
            in_place_done: false,
            rows: BTreeMap::new(),
            warnings: Vec::new(),
        })
    }

    /// Connects to the first maintenance database that is there and is not the one to be replaced.
    pub(crate) fn server(&mut self) -> Result<Server> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        let psql = Psql::new(self.tools.newest("psql")?, self.conninfo.clone(), &self.options.interrupt);
        let mut outcome = Err(Error::NoSuchDatabase { name: "postgres".to_owned() });
        let wanted = self.options.maintenance_database.as_deref();
        for database in
            wanted.into_iter().chain(["postgres", "template1"]).filter(|other| *other != self.name)
        {
            let psql = psql.with_database(database);
            outcome = psql.ask_with_address("SELECT current_setting('server_version_num')::int / 10000").map(
                |(host, port, fields)| Server {
                    psql,
                    host,
                    port,
                    major: fields.first().and_then(|field| field.parse().ok()).unwrap_or(0),
                },
            );
            if !matches!(outcome, Err(Error::NoSuchDatabase { .. })) {
                break;
            }
        }
        let server = outcome?;
        self.server = Some(server.clone());
        Ok(server)
    }

    pub(crate) fn leave(&self) -> Leave {
        let PostgresTargetOptions { no_owner, no_privileges, no_tablespaces, .. } = self.options;
        Leave { owner: no_owner, privileges: no_privileges, tablespaces: no_tablespaces }
    }

    pub(crate) fn drop_loaded(&mut self) {
        let (Some(temporary), Some(server)) = (self.loaded.take(), &self.server) else { return };
        let psql = server.psql.uninterrupted(CLEANUP_TIMEOUT);
        if let Err(error) = crate::postgres_swap::drop_database(&psql, &temporary) {
            tracing::warn!(database = %temporary, %error, "the half-restored database could not be dropped");
        }
    }
}

impl Target for PostgresTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        let server = self.server()?;
        let question = format!(
            "SELECT CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') \
             THEN pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(oid)) ELSE 'size unknown' END \
             FROM pg_catalog.pg_database WHERE datname = {}",
            literal(&self.name)
        );
        let answer = server.psql.run(&[&question])?;
        self.found_free = answer.is_empty();
        let place = server_words(&server.host, &server.port);
        let what = match self.options.schemas.as_slice() {
            [] => String::new(),
            schemas => format!("{} of ", schemas.join(", ")),
        };
        Ok(answer.first().map(|size| format!("{what}database \"{}\" on {place} ({size})", self.name)))
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        self.begin_load(meta)?;
        let format = meta.attributes.get(attribute::FORMAT).and_then(|name| PostgresFormat::by_name(name));
        match format {
            Some(format @ (PostgresFormat::Plain | PostgresFormat::Tar)) => {
                self.load_script(meta, format, body)?
            }
            _ if self.writes_into_live() => self.load_in_place(meta, body)?,
            _ => self.load_beside(meta, body)?,
        }
        self.end_load()
    }

    fn load_parts(&mut self, parts: Vec<Part<'_>>) -> Result<()> {
        let Some(first) = parts.first() else {
            return Err(Error::Empty { name: self.name.clone() });
        };
        self.begin_load(&first.meta)?;
        self.load_all_parts(parts)?;
        self.end_load()
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.options.interrupt)?;
        let server = self.server()?;
        let row_counts = self.rows.iter().map(|(table, count)| (table.clone(), *count)).collect();
        let attributes = [(attribute::ROW_COUNTS.to_owned(), row_counts::to_json(&row_counts))].into();
        if self.in_place_done {
            return Ok(EntryReport { attributes, warnings: std::mem::take(&mut self.warnings) });
        }
        let Some(temporary) = self.loaded.clone() else {
            return Err(Error::Unsuitable {
                name: self.name.clone(),
                detail: "nothing was loaded".to_owned(),
            });
        };
        let swap = Swap {
            psql: server.psql.uninterrupted(CLEANUP_TIMEOUT),
            temporary: &temporary,
            name: &self.name,
            may_replace: !self.found_free,
            keep_old: self.options.keep_old,
        };
        let warnings = swap.run()?;
        self.loaded = None;
        self.warnings.extend(warnings);
        Ok(EntryReport { attributes, warnings: std::mem::take(&mut self.warnings) })
    }
}

impl Drop for PostgresTarget {
    fn drop(&mut self) {
        self.drop_loaded();
    }
}
