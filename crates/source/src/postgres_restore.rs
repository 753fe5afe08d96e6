//! One PostgreSQL database, put back: loaded beside the live one, then swapped in by `postgres_swap.rs`.

use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::time::Duration;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport};

use crate::conninfo::{Conninfo, server_words};
use crate::interrupt::{self, Interrupt};
use crate::pgdump_format::CustomFormatChecker;
use crate::postgres::conninfo;
use crate::postgres_database_sql::{DatabaseSql, Leave, rewrite};
use crate::postgres_swap::{Swap, name_beside};
use crate::postgres_tools::{Psql, Tool, Tools, client_program, identifier, literal};
use crate::secret::Secret;
use crate::{Error, Result, Target};

/// How much of a dump's head is held in memory before a temporary file is used, bytes: the database must be made
/// before `pg_restore` is started, and how is told somewhere in the table of contents.
const HEAD_BYTES_IN_MEMORY_MAX: usize = 16 << 20;
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
    name: String,
    conninfo: Conninfo,
    tools: Tools,
    options: PostgresTargetOptions,
    server: Option<Server>,
    /// [`Target::occupied`] found nothing there, so nothing may be replaced.
    found_free: bool,
    /// The database that holds what was loaded; dropped with the target.
    loaded: Option<String>,
    warnings: Vec<String>,
}

/// A server that answers.
#[derive(Clone, Debug)]
struct Server {
    psql: Psql,
    host: String,
    port: String,
    major: u32,
}

impl PostgresTarget {
    /// Connects to nothing yet. Errors: [`Error::Connect`] when the connection string can't be understood or
    /// names no database.
    pub fn new(options: PostgresTargetOptions) -> Result<PostgresTarget> {
        let PostgresTargetOptions { host, user, password, .. } = &options;
        let conninfo =
            conninfo(&options.database, host.as_deref(), options.port, user.as_deref(), password.as_ref())?;
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
            warnings: Vec::new(),
        })
    }

    /// Connects to the first maintenance database that is there and is not the one to be replaced.
    fn server(&mut self) -> Result<Server> {
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

    /// Reads `body` until its table of contents has passed.
    fn read_head(&self, body: &mut dyn Read, checker: &mut CustomFormatChecker) -> Result<impl Read + use<>> {
        let mut head = tempfile::SpooledTempFile::new(HEAD_BYTES_IN_MEMORY_MAX);
        let mut buffer = vec![0; 64 << 10];
        while !checker.is_past_toc() {
            interrupt::check(&self.options.interrupt)?;
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::from_io("read what is to be restored", error)),
            };
            checker.feed(&buffer[..count]).map_err(|detail| self.incomplete(detail))?;
            head.write_all(&buffer[..count]).map_err(Error::io("write a temporary file"))?;
        }
        head.rewind().map_err(Error::io("read a temporary file"))?;
        Ok(head)
    }

    fn incomplete(&self, detail: String) -> Error {
        Error::Incomplete { name: self.name.clone(), detail }
    }

    /// Makes the empty database that will hold what is loaded.
    fn create(&mut self, server: &Server, temporary: &str, sql: &DatabaseSql) -> Result<()> {
        let fallback = format!("CREATE DATABASE {} TEMPLATE template0", identifier(temporary));
        // From now on there may be something to remove, even if the answer never arrives.
        self.loaded = Some(temporary.to_owned());
        server.psql.run(&[sql.create.as_deref().unwrap_or(&fallback)])?;
        run_all(&server.psql, &sql.before)
    }

    /// Runs `pg_restore` on the head and what is left of the body.
    fn pg_restore(
        &self,
        server: &Server,
        pg_restore: &Tool,
        temporary: &str,
        settings: &[String],
        body: &mut dyn Read,
    ) -> Result<Vec<String>> {
        let mut conninfo = server.psql.conninfo.with_database(temporary);
        // A setting of the database itself would forbid the load; what is given at the start goes before it.
        if settings.iter().any(|sql| sql.contains("default_transaction_read_only")) {
            let given =
                conninfo.get("options").map(str::to_owned).or_else(|| std::env::var("PGOPTIONS").ok());
            let options = format!("{} -c default_transaction_read_only=off", given.unwrap_or_default());
            conninfo.set("options", options.trim_start());
        }
        let mut program =
            client_program(pg_restore, &conninfo, &self.options.interrupt).arg("--exit-on-error");
        let flags = [
            (self.options.no_owner, "--no-owner"),
            (self.options.no_privileges, "--no-privileges"),
            (self.options.no_privileges, "--no-security-labels"),
            (self.options.no_tablespaces, "--no-tablespaces"),
        ];
        for (_, flag) in flags.iter().filter(|(wanted, _)| *wanted) {
            program = program.arg(flag);
        }
        let mut writer = program.spawn_writer()?;
        writer.feed(body)?;
        writer.finish().map_err(with_role_hint)
    }

    fn leave(&self) -> Leave {
        let PostgresTargetOptions { no_owner, no_privileges, no_tablespaces, .. } = self.options;
        Leave { owner: no_owner, privileges: no_privileges, tablespaces: no_tablespaces }
    }

    fn drop_loaded(&mut self) {
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
        Ok(answer.first().map(|size| format!("database \"{}\" on {place} ({size})", self.name)))
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        if meta.kind != EntryKind::Postgresql {
            let detail = format!("it is of kind {}, not a PostgreSQL dump", meta.kind.name());
            return Err(Error::Unsuitable { name: meta.name.clone(), detail });
        }
        self.drop_loaded();
        self.warnings.clear();
        let server = self.server()?;
        let mut checker = CustomFormatChecker::default();
        let head = self.read_head(body, &mut checker)?;
        if checker.total_bytes() == 0 {
            return Err(Error::Empty { name: meta.name.clone() });
        }
        // A broken head is told before anything is made on the server.
        if !checker.is_past_toc() {
            checker.finish().map_err(|detail| self.incomplete(detail))?;
        }
        let pg_restore =
            self.tools.fitting("pg_restore", server.major.max(reader_major(checker.version())))?;
        let temporary = name_beside(&self.name, "")?;
        let sql = rewrite(checker.database_entries(), &temporary, self.leave());
        self.create(&server, &temporary, &sql).map_err(with_role_hint)?;
        let mut checked = CheckedRest { body, checker, name: &meta.name, ended: false };
        let mut whole = head.chain(&mut checked);
        let outcome = self.pg_restore(&server, &pg_restore, &temporary, &sql.before, &mut whole);
        let warnings = checked.finish(outcome)?;
        if let Some(owner) = &sql.owner {
            let alter = format!("ALTER DATABASE {} OWNER TO {}", identifier(&temporary), identifier(owner));
            server.psql.run(&[&alter]).map_err(with_role_hint)?;
        }
        // After the owner is set: grants are written relative to the owner's own.
        run_all(&server.psql, &sql.after).map_err(with_role_hint)?;
        self.warnings.extend(sql.warnings);
        self.warnings.extend(warnings);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.options.interrupt)?;
        let server = self.server()?;
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
        Ok(EntryReport { warnings: std::mem::take(&mut self.warnings), ..EntryReport::default() })
    }
}

impl Drop for PostgresTarget {
    fn drop(&mut self) {
        self.drop_loaded();
    }
}

/// Runs statements on one connection.
fn run_all(psql: &Psql, statements: &[String]) -> Result<()> {
    if statements.is_empty() {
        return Ok(());
    }
    // pg_dump writes literals for this setting.
    let first = ["SET standard_conforming_strings = on"];
    let all: Vec<&str> = first.into_iter().chain(statements.iter().map(String::as_str)).collect();
    psql.run(&all).map(drop)
}

/// The first major version of `pg_restore` that reads an archive of this version.
fn reader_major((major, minor): (u8, u8)) -> u32 {
    match (major, minor) {
        (1, 15) => 16,
        (1, 16) => 17,
        // A version from after this was written: any newer pg_restore may know it.
        version if version > (1, 16) => 18,
        _ => 0,
    }
}

/// Adds the way out to an error about a role that this server does not have.
fn with_role_hint(error: Error) -> Error {
    match error {
        Error::ProgramFailed { program, how, stderr }
            if stderr.contains("role \"") && stderr.contains("does not exist") =>
        {
            let hint = "the dump names a role that this server does not have: \
                        create it, or restore without owners and privileges";
            Error::ProgramFailed { program, how, stderr: format!("{stderr}\n{hint}") }
        }
        other => other,
    }
}

/// What is left of a body after its head, with its checker.
struct CheckedRest<'a> {
    body: &'a mut dyn Read,
    checker: CustomFormatChecker,
    name: &'a str,
    ended: bool,
}

impl Read for CheckedRest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.ended |= count == 0 && !buffer.is_empty();
        self.checker.feed(&buffer[..count]).map_err(|detail| self.incomplete(detail).into_io())?;
        Ok(count)
    }
}

impl CheckedRest<'_> {
    fn incomplete(&self, detail: String) -> Error {
        Error::Incomplete { name: self.name.to_owned(), detail }
    }

    /// The outcome of `pg_restore`, unless the dump was cut, which explains every failure of it.
    fn finish<T>(mut self, outcome: Result<T>) -> Result<T> {
        if outcome.is_ok() {
            // What pg_restore left unread.
            io::copy(&mut self, &mut io::sink())
                .map_err(|error| Error::from_io("read what is to be restored", error))?;
        }
        if self.ended {
            self.checker.finish().map_err(|detail| self.incomplete(detail))?;
        }
        outcome
    }
}
