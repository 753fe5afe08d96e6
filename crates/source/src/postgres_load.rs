//! How a dump of PostgreSQL is loaded: into a new database beside the live one, or into the live one in one transaction.
//!
//! The dump is followed on its way in as it was on its way out: one that was cut shows, whatever `pg_restore` makes
//! of it.

use std::io::{self, Read, Seek, Write};
use std::thread;

use dbvault_dump::CustomFormatChecker;
use dbvault_format::entry::{EntryKind, EntryMeta, attribute, part};
use parking_lot::Mutex;

use crate::interrupt;
use crate::postgres_database_sql::{DatabaseSql, rewrite};
use crate::postgres_format::{Checker, PostgresFormat};
use crate::postgres_restore::{PostgresTarget, Server};
use crate::postgres_swap::name_beside;
use crate::postgres_tools::{Psql, Tool, client_program, identifier, literal};
use crate::process::Program;
use crate::{Error, Part, Result};

/// How much of a dump's head is held in memory before a temporary file is used, bytes: the database must be made
/// before `pg_restore` is started, and how is told somewhere in the table of contents.
const HEAD_BYTES_IN_MEMORY_MAX: usize = 16 << 20;

/// A dump whose table of contents has passed.
struct Opened<'a> {
    head: tempfile::SpooledTempFile,
    checker: CustomFormatChecker,
    body: &'a mut dyn Read,
    name: &'a str,
}

impl PostgresTarget {
    /// Refuses what is no dump of PostgreSQL, and forgets what was loaded before.
    pub(crate) fn begin_load(&mut self, meta: &EntryMeta) -> Result<()> {
        if meta.kind != EntryKind::Postgresql {
            let detail = format!("it is of kind {}, not a PostgreSQL dump", meta.kind.name());
            return Err(Error::Unsuitable { name: meta.name.clone(), detail });
        }
        self.drop_loaded();
        self.warnings.clear();
        self.rows.clear();
        Ok(())
    }

    /// Collects statistics: without them the planner knows nothing of what was just loaded.
    pub(crate) fn end_load(&mut self) -> Result<()> {
        let server = self.server()?;
        let database = self.loaded.clone().unwrap_or_else(|| self.name.clone());
        if self.options.no_analyze {
            return Ok(());
        }
        match server.psql.with_database(&database).run_with(
            &self.options.analyze_arguments,
            &["SET default_transaction_read_only = off", "ANALYZE"],
        ) {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.warnings.push(format!("statistics were not collected: {error}"));
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Whether the live database is there, and what is loaded goes into it.
    pub(crate) fn writes_into_live(&self) -> bool {
        (self.options.in_place || !self.options.schemas.is_empty()) && !self.found_free
    }

    /// Reads `body` until its table of contents has passed.
    fn open<'a>(&self, meta: &'a EntryMeta, body: &'a mut dyn Read) -> Result<Opened<'a>> {
        let mut checker = CustomFormatChecker::default();
        let mut head = tempfile::SpooledTempFile::new(HEAD_BYTES_IN_MEMORY_MAX);
        let mut buffer = vec![0; 64 << 10];
        let incomplete = |detail| Error::Incomplete { name: meta.name.clone(), detail };
        while !checker.is_past_toc() {
            interrupt::check(&self.options.interrupt)?;
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::from_io("read what is to be restored", error)),
            };
            checker.feed(&buffer[..count]).map_err(incomplete)?;
            head.write_all(&buffer[..count]).map_err(Error::io("write a temporary file"))?;
        }
        head.rewind().map_err(Error::io("read a temporary file"))?;
        if checker.total_bytes() == 0 {
            return Err(Error::Empty { name: meta.name.clone() });
        }
        // A broken head is told before anything is made on the server.
        if !checker.is_past_toc() {
            checker.finish().map_err(incomplete)?;
        }
        Ok(Opened { head, checker, body, name: &meta.name })
    }

    /// The `pg_restore` for a server and a version of the format.
    fn pg_restore(&self, server: &Server, version: (u8, u8)) -> Result<Tool> {
        match self.options.pg_restore.as_slice() {
            [] => self.tools.fitting("pg_restore", server.major.max(reader_major(version))),
            words => Tool::given(words),
        }
    }

    /// Loads a dump in the custom format into a new database.
    pub(crate) fn load_beside(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        let server = self.server()?;
        let opened = self.open(meta, body)?;
        let tool = self.pg_restore(&server, opened.checker.version())?;
        let (temporary, sql) = self.make_beside(&server, &opened.checker)?;
        let program = self.restore_program(&tool, self.in_database(&server, &temporary, &sql.before));
        self.feed_custom(program, opened)?;
        self.finish_beside(&server, &temporary, sql)
    }

    /// Makes the empty database that will hold what is loaded.
    fn make_beside(
        &mut self,
        server: &Server,
        checker: &CustomFormatChecker,
    ) -> Result<(String, DatabaseSql)> {
        let temporary = name_beside(&self.name, "")?;
        let sql = rewrite(checker.database_entries(), &temporary, self.leave());
        let fallback = format!("CREATE DATABASE {} TEMPLATE template0", identifier(&temporary));
        // From now on there may be something to remove, even if the answer never arrives.
        self.loaded = Some(temporary.clone());
        let made = server.psql.run(&[sql.create.as_deref().unwrap_or(&fallback)]);
        made.and_then(|_| run_all(&server.psql, &sql.before)).map_err(with_role_hint)?;
        Ok((temporary, sql))
    }

    /// What is told of the database itself, after its data.
    fn finish_beside(&mut self, server: &Server, temporary: &str, sql: DatabaseSql) -> Result<()> {
        if let Some(owner) = &sql.owner {
            let alter = format!("ALTER DATABASE {} OWNER TO {}", identifier(temporary), identifier(owner));
            server.psql.run(&[&alter]).map_err(with_role_hint)?;
        }
        // After the owner is set: grants are written relative to the owner's own.
        run_all(&server.psql, &sql.after).map_err(with_role_hint)?;
        self.warnings.extend(sql.warnings);
        Ok(())
    }

    /// Loads into the live database, in one transaction: after an error it is as it was.
    pub(crate) fn load_in_place(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        let server = self.server()?;
        let opened = self.open(meta, body)?;
        let tool = self.pg_restore(&server, opened.checker.version())?;
        let live = server.psql.with_database(&self.name);
        for schema in &self.options.schemas {
            // pg_restore takes what is in a schema, and not the schema.
            live.run(&[&format!("CREATE SCHEMA IF NOT EXISTS {}", identifier(schema))])?;
        }
        let program =
            self.restore_program(&tool, live).args(["--clean", "--if-exists", "--single-transaction"]);
        let program = self
            .options
            .schemas
            .iter()
            .fold(program, |program, schema| program.arg(format!("--schema={schema}")));
        self.feed_custom(program, opened)?;
        self.in_place_done = true;
        Ok(())
    }

    /// Loads SQL, or a tar archive: neither tells how its database is to be made.
    pub(crate) fn load_script(
        &mut self,
        meta: &EntryMeta,
        format: PostgresFormat,
        body: &mut dyn Read,
    ) -> Result<()> {
        let server = self.server()?;
        if !self.options.schemas.is_empty() {
            let detail = format!("one schema can't be picked from a dump in the {} format", format.name());
            return Err(Error::Unsuitable { name: meta.name.clone(), detail });
        }
        let in_place = self.writes_into_live();
        if in_place && format == PostgresFormat::Plain {
            let detail = "SQL holds transactions of its own, and would leave half of it in the live database: \
                          restore it beside the live one";
            return Err(Error::Unsuitable { name: meta.name.clone(), detail: detail.to_owned() });
        }
        let database = if in_place { self.name.clone() } else { self.make_for_script(&server, meta)? };
        let psql = server.psql.with_database(&database);
        let program = match format {
            PostgresFormat::Tar => {
                let tool = self.pg_restore(&server, (0, 0))?;
                let program =
                    self.restore_program(&tool, psql).arg("--format=tar").arg("--single-transaction");
                if in_place { program.args(["--clean", "--if-exists"]) } else { program }
            }
            _ => {
                let psql = match self.options.psql.as_slice() {
                    [] => psql,
                    words => psql.with_tool(Tool::given(words)?),
                };
                psql.program().arg("--single-transaction").args(&self.options.arguments).args(["-f", "-"])
            }
        };
        let checker = Checker::new(format);
        let mut checked = Checked { body, checker, name: &meta.name, ended: false };
        let warnings = checked.feed(io::empty(), program)?;
        self.warnings.extend(warnings);
        self.in_place_done = in_place;
        Ok(())
    }

    /// An empty database like the one that was dumped, as far as its entry tells.
    fn make_for_script(&mut self, server: &Server, meta: &EntryMeta) -> Result<String> {
        let temporary = name_beside(&self.name, "")?;
        let mut create = format!("CREATE DATABASE {} TEMPLATE template0", identifier(&temporary));
        for (word, key) in [
            ("ENCODING", attribute::ENCODING),
            ("LC_COLLATE", attribute::COLLATION),
            ("LC_CTYPE", attribute::CTYPE),
        ] {
            if let Some(value) = meta.attributes.get(key).filter(|value| !value.is_empty()) {
                create += &format!(" {word} {}", literal(value));
            }
        }
        self.loaded = Some(temporary.clone());
        server.psql.run(&[&create])?;
        Ok(temporary)
    }

    /// Loads what was dumped in parts: definitions, then all data at once, then what is made after it.
    pub(crate) fn load_all_parts(&mut self, parts: Vec<Part<'_>>) -> Result<()> {
        let server = self.server()?;
        let of = |part: &Part, wanted| {
            part.meta.attributes.get(attribute::PART).is_some_and(|part| part == wanted)
        };
        let (mut before, rest): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|part| of(part, part::PRE_DATA));
        let (data, mut after): (Vec<Part>, Vec<Part>) =
            rest.into_iter().partition(|part| of(part, part::DATA));
        let announced =
            |part: &Part| part.meta.attributes.get(attribute::PARTS).and_then(|count| count.parse().ok());
        let all = before.first().and_then(announced).unwrap_or(0);
        let (Some(mut first), Some(mut last)) = (before.pop(), after.pop()) else {
            return Err(Error::Incomplete {
                name: self.name.clone(),
                detail: "a part of it is missing".to_owned(),
            });
        };
        if data.len() + 2 != all || !before.is_empty() || !after.is_empty() {
            let detail = format!("{} of {all} parts are there", data.len() + 2 + before.len() + after.len());
            return Err(Error::Incomplete { name: self.name.clone(), detail });
        }
        if self.writes_into_live() {
            let detail =
                "what was dumped in parts is not one transaction: restore it beside the live one".to_owned();
            return Err(Error::Unsuitable { name: self.name.clone(), detail });
        }
        let opened = self.open(&first.meta, &mut *first.body)?;
        let tool = self.pg_restore(&server, opened.checker.version())?;
        let (temporary, sql) = self.make_beside(&server, &opened.checker)?;
        let psql = self.in_database(&server, &temporary, &sql.before);
        self.feed_custom(self.restore_program(&tool, psql.clone()), opened)?;
        self.load_data(&tool, &psql, data)?;
        self.load_post_data(&tool, &psql, &mut last)?;
        self.finish_beside(&server, &temporary, sql)
    }

    fn load_data(&mut self, tool: &Tool, psql: &Psql, data: Vec<Part<'_>>) -> Result<()> {
        let waiting = Mutex::new(data);
        let done = Mutex::new((Vec::new(), Vec::new(), None));
        let this = &*self;
        let lane = || {
            loop {
                if done.lock().2.is_some() {
                    return;
                }
                let Some(mut part) = waiting.lock().pop() else { return };
                let loaded = this.open(&part.meta, &mut *part.body);
                let loaded = loaded.and_then(|opened| feed(this.restore_program(tool, psql.clone()), opened));
                let mut done = done.lock();
                match loaded {
                    Ok((warnings, rows)) => {
                        done.0.extend(warnings);
                        done.1.extend(rows);
                    }
                    Err(error) => drop(done.2.get_or_insert(error)),
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.options.parallel.max(1) {
                scope.spawn(lane);
            }
            lane();
        });
        let (warnings, rows, failure) = done.into_inner();
        self.warnings.extend(warnings);
        self.rows.extend(rows);
        failure.map_or(Ok(()), Err)
    }

    /// Indexes and constraints: few bytes and much work, so several `pg_restore` jobs, which need a file.
    fn load_post_data(&mut self, tool: &Tool, psql: &Psql, part: &mut Part<'_>) -> Result<()> {
        let mut checker = CustomFormatChecker::default();
        let mut file = tempfile::NamedTempFile::new().map_err(Error::io("make a temporary file"))?;
        let mut buffer = vec![0; 64 << 10];
        let incomplete = |detail| Error::Incomplete { name: part.meta.name.clone(), detail };
        loop {
            interrupt::check(&self.options.interrupt)?;
            let read = part.body.read(&mut buffer);
            let count = read.map_err(|error| Error::from_io("read what is to be restored", error))?;
            if count == 0 {
                break;
            }
            checker.feed(&buffer[..count]).map_err(incomplete)?;
            file.write_all(&buffer[..count]).map_err(Error::io("write a temporary file"))?;
        }
        checker.finish().map_err(incomplete)?;
        let jobs = format!("--jobs={}", self.options.parallel.max(1));
        let program = self.restore_program(tool, psql.clone()).arg(jobs).arg(file.path());
        let (process, mut output) = program.spawn_reader()?;
        io::copy(&mut output, &mut io::sink())
            .map_err(|error| Error::from_io("read from pg_restore", error))?;
        self.warnings.extend(process.finish().map_err(with_role_hint)?);
        Ok(())
    }

    /// A database that is to be loaded, whatever its own settings forbid.
    fn in_database(&self, server: &Server, database: &str, settings: &[String]) -> Psql {
        let mut psql = server.psql.with_database(database);
        // A setting of the database itself would forbid the load; what is given at the start goes before it.
        if settings.iter().any(|sql| sql.contains("default_transaction_read_only")) {
            let given = psql.conninfo.get("options").map(str::to_owned);
            let given = given.or_else(|| std::env::var("PGOPTIONS").ok()).unwrap_or_default();
            let options = format!("{given} -c default_transaction_read_only=off");
            psql.conninfo.set("options", options.trim_start());
        }
        psql
    }

    /// `pg_restore` into a database.
    fn restore_program(&self, tool: &Tool, psql: Psql) -> Program {
        let options = &self.options;
        let program = client_program(tool, &psql.conninfo, &options.interrupt).arg("--exit-on-error");
        let flags = [
            (options.no_owner, "--no-owner"),
            (options.no_privileges, "--no-privileges"),
            (options.no_privileges, "--no-security-labels"),
            (options.no_tablespaces, "--no-tablespaces"),
        ];
        let program =
            flags.iter().filter(|(wanted, _)| *wanted).fold(program, |program, (_, flag)| program.arg(flag));
        program.args(&options.arguments)
    }

    fn feed_custom(&mut self, program: Program, opened: Opened<'_>) -> Result<()> {
        let (warnings, rows) = feed(program, opened)?;
        self.warnings.extend(warnings);
        self.rows.extend(rows);
        Ok(())
    }
}

/// What `pg_restore` said, and rows of each table that it got.
type Fed = (Vec<String>, std::collections::BTreeMap<String, u64>);

/// Runs `pg_restore` on a dump.
fn feed(program: Program, opened: Opened<'_>) -> Result<Fed> {
    let Opened { head, checker, body, name } = opened;
    let checker = Checker::Custom(Box::new(checker));
    let mut checked = Checked { body, checker, name, ended: false };
    let warnings = checked.feed(head, program)?;
    let rows = checked.checker.row_counts().cloned().unwrap_or_default();
    Ok((warnings, rows))
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
pub(crate) fn with_role_hint(error: Error) -> Error {
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

/// A body with its checker.
struct Checked<'a> {
    body: &'a mut dyn Read,
    checker: Checker,
    name: &'a str,
    ended: bool,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.ended |= count == 0 && !buffer.is_empty();
        self.checker.feed(&buffer[..count]).map_err(|detail| self.incomplete(detail).into_io())?;
        Ok(count)
    }
}

impl Checked<'_> {
    fn incomplete(&self, detail: String) -> Error {
        Error::Incomplete { name: self.name.to_owned(), detail }
    }

    /// Gives all of it to a program, behind what was read of it before.
    fn feed(&mut self, head: impl Read, program: Program) -> Result<Vec<String>> {
        let mut writer = program.spawn_writer()?;
        let fed = writer.feed(&mut head.chain(&mut *self));
        // Before the program learns that the input has ended: what was cut must not be committed.
        if fed.is_ok() && self.ended {
            self.checker.finish().map_err(|detail| self.incomplete(detail))?;
        }
        let outcome = fed.and_then(|_| writer.finish().map_err(with_role_hint));
        self.finish(outcome)
    }

    /// The outcome of a program, unless the dump was cut, which explains every failure of it.
    fn finish<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if outcome.is_ok() {
            // What it left unread.
            io::copy(self, &mut io::sink())
                .map_err(|error| Error::from_io("read what is to be restored", error))?;
        }
        if self.ended {
            self.checker.finish().map_err(|detail| self.incomplete(detail))?;
        }
        outcome
    }
}
