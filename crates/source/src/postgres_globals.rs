//! What concerns a PostgreSQL server as a whole: its databases, and its roles and tablespaces, dumped and put back.

use std::collections::BTreeSet;
use std::io::Read;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute, part};

use crate::body::{BodyEnd, Inspect, body};
use crate::end_marker::Tail;
use crate::postgres::{PostgresOptions, ServerFacts, conninfo_of};
use crate::postgres_tools::{Psql, Tools, client_program};
use crate::process::Process;
use crate::{Entry, Error, Result, Source, Target};

/// What `pg_dumpall` writes when it has written all.
const END: &str = "-- PostgreSQL database cluster dump complete";
/// Databases to connect to for questions about the server.
const MAINTENANCE_DATABASES: [&str; 2] = ["postgres", "template1"];

/// Connects to a database of the server that is always there.
fn maintenance(options: &PostgresOptions) -> Result<(Psql, ServerFacts)> {
    let conninfo = conninfo_of(options)?;
    let psql = Psql::new(Tools::new(options.bin_dir.clone()).newest("psql")?, conninfo, &options.interrupt);
    let mut failure = None;
    for database in MAINTENANCE_DATABASES {
        let psql = psql.with_database(database);
        match ServerFacts::ask(&psql) {
            Ok(facts) => return Ok((psql, facts)),
            Err(error @ Error::NoSuchDatabase { .. }) => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(failure.unwrap_or_else(|| Error::NoSuchDatabase { name: MAINTENANCE_DATABASES[0].to_owned() }))
}

/// Names of all databases of the server that can be dumped, sorted; `options.database` is not looked at but for the
/// server that it names.
///
/// `arguments` are further ones for `psql`. Templates, databases that allow no connections and those that a crash of `DROP DATABASE` left are not among them.
pub fn postgres_databases(options: &PostgresOptions, arguments: &[String]) -> Result<Vec<String>> {
    let (psql, facts) = maintenance(options)?;
    let dropped = if facts.major >= 16 { " AND datconnlimit <> -2" } else { "" };
    psql.run_with(arguments, &[&format!(
        "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate{dropped} ORDER BY datname"
    )])
}

/// Backs up what belongs to no database of a server: roles with their passwords' hashes, and tablespaces.
#[derive(Debug)]
pub struct PostgresGlobalsSource {
    name: String,
    options: PostgresOptions,
    warnings: Vec<String>,
    running: Option<(Process, BodyEnd<Tail>)>,
}

impl PostgresGlobalsSource {
    /// Connects to nothing yet. `options.database` only tells where the server is.
    pub fn new(name: impl Into<String>, options: PostgresOptions) -> PostgresGlobalsSource {
        PostgresGlobalsSource { name: name.into(), options, warnings: Vec::new(), running: None }
    }
}

impl Source for PostgresGlobalsSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self) -> Result<Entry> {
        let (psql, facts) = maintenance(&self.options)?;
        let pg_dumpall = Tools::new(self.options.bin_dir.clone()).fitting("pg_dumpall", facts.major)?;
        let mut program = client_program(&pg_dumpall, &psql.conninfo, &self.options.interrupt)
            .arg("--globals-only")
            .arg(format!("--lock-wait-timeout={}", self.options.lock_wait_timeout_ms));
        let readable =
            psql.run(&["SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"])?;
        if readable.first().is_none_or(|answer| answer != "t") {
            self.warnings.push("passwords of roles are not in it: pg_authid can't be read".to_owned());
            program = program.arg("--no-role-passwords");
        }
        let (process, output) = program.spawn_reader()?;
        let (body, end) = body(output, Tail::default());
        self.running = Some((process, end));
        let mut attributes = facts.attributes(&pg_dumpall, "plain", self.options.label.as_deref());
        attributes.remove(attribute::DATABASE);
        attributes.insert(attribute::PART.to_owned(), part::GLOBALS.to_owned());
        let (name, kind) = (self.name.clone(), EntryKind::Postgresql);
        Ok(Entry { meta: EntryMeta { name, kind, grid: Grid::Content, attributes }, body })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let name = self.name.clone();
        let (process, end) = self.running.take().ok_or_else(|| Error::Empty { name: name.clone() })?;
        let tail = end.take(&name)?;
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(process.finish()?);
        if !tail.has_line(END) {
            return Err(Error::Incomplete { name, detail: format!("its end lacks the line \"{END}\"") });
        }
        Ok(EntryReport { warnings, ..EntryReport::default() })
    }
}

impl Inspect for Tail {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        self.feed(bytes);
        Ok(())
    }
}

/// Longest dump of globals that is taken, bytes.
const GLOBALS_BYTES_MAX: u64 = 64 << 20;

/// Puts roles and tablespaces back: those that are missing are made, those that are there stay as they are.
#[derive(Debug)]
pub struct PostgresGlobalsTarget {
    options: PostgresOptions,
    /// Statements to run.
    statements: Vec<String>,
    report: EntryReport,
}

impl PostgresGlobalsTarget {
    /// Connects to nothing yet. `options.database` only tells where the server is.
    pub fn new(options: PostgresOptions) -> PostgresGlobalsTarget {
        PostgresGlobalsTarget { options, statements: Vec::new(), report: EntryReport::default() }
    }

    /// Leaves out what is about roles and tablespaces that are there.
    fn choose(&mut self, statements: Vec<String>, there: &BTreeSet<String>) {
        let (mut made, mut kept) = (0, BTreeSet::new());
        for statement in statements {
            match subject(&statement) {
                Some(name) if there.contains(&name) => drop(kept.insert(name)),
                Some(_) => {
                    made += usize::from(statement.starts_with("CREATE "));
                    self.statements.push(statement);
                }
                // Memberships: granting one that is there does no harm.
                None => self.statements.push(statement),
            }
        }
        let count = |number: usize| {
            format!("{number} of them made, {} there already and left as they are", kept.len())
        };
        self.report.warnings.push(format!("roles and tablespaces: {}", count(made)));
    }
}

impl Target for PostgresGlobalsTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        // Nothing is overwritten; but whether the server answers is known before anything is loaded.
        maintenance(&self.options).map(|_| None)
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        let (mut text, mut tail) = (Vec::new(), Tail::default());
        let read = body.take(GLOBALS_BYTES_MAX).read_to_end(&mut text);
        read.map_err(|error| Error::from_io("read what is to be restored", error))?;
        tail.feed(&text);
        let name = || meta.name.clone();
        if !tail.has_line(END) {
            let detail = format!("its end lacks the line \"{END}\"");
            return Err(Error::Incomplete { name: name(), detail });
        }
        let text = String::from_utf8(text)
            .map_err(|_| Error::Unsuitable { name: name(), detail: "it is no text in UTF-8".to_owned() })?;
        let (psql, _) = maintenance(&self.options)?;
        let there = psql.run(&[
            "SELECT rolname FROM pg_catalog.pg_roles",
            "SELECT spcname FROM pg_catalog.pg_tablespace",
        ])?;
        self.choose(statements(&text), &there.into_iter().collect());
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let (psql, _) = maintenance(&self.options)?;
        for statement in std::mem::take(&mut self.statements) {
            let Err(error) = psql.run(&[&statement]) else { continue };
            match error {
                // A tablespace whose directory is missing, a role that grants by another: the rest is of use all the same.
                Error::ProgramFailed { stderr, .. } => {
                    let words = stderr.lines().next().unwrap_or("failed").to_owned();
                    self.report.warnings.push(format!("{}: {words}", first_words(&statement)));
                }
                other => return Err(other),
            }
        }
        Ok(self.report)
    }
}

/// The first words of a statement: what it is about, and no password.
fn first_words(statement: &str) -> String {
    statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ").trim_end_matches(';').to_owned()
}

/// The role or tablespace that a statement makes, changes or comments.
fn subject(statement: &str) -> Option<String> {
    let starts = [
        "CREATE ROLE ",
        "ALTER ROLE ",
        "COMMENT ON ROLE ",
        "CREATE TABLESPACE ",
        "ALTER TABLESPACE ",
        "COMMENT ON TABLESPACE ",
    ];
    let rest = starts.iter().find_map(|start| statement.strip_prefix(start))?;
    let Some(quoted) = rest.strip_prefix('"') else {
        return rest.split([' ', ';']).next().map(str::to_owned);
    };
    let mut name = String::new();
    let mut characters = quoted.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if characters.peek() == Some(&'"') => drop(characters.next()),
            '"' => return Some(name),
            _ => {}
        }
        name.push(character);
    }
    None
}

/// The SQL statements of a script that `pg_dumpall` wrote, without comments, `SET` and psql's own commands.
fn statements(text: &str) -> Vec<String> {
    let (mut found, mut current, mut quote) = (Vec::new(), String::new(), None);
    for line in text.split_inclusive('\n') {
        let outside = current.is_empty() && quote.is_none();
        if outside && (line.trim().is_empty() || line.starts_with("--") || line.starts_with('\\')) {
            continue;
        }
        let mut characters = line.chars();
        let mut last = ' ';
        for character in characters.by_ref() {
            match (quote, character) {
                (None, '\'' | '"') => quote = Some(character),
                (Some(open), character) if open == character => quote = None,
                _ => {}
            }
            last = if character.is_whitespace() { last } else { character };
        }
        current.push_str(line);
        if quote.is_none() && last == ';' {
            let statement = std::mem::take(&mut current);
            if !statement.starts_with("SET ") {
                found.push(statement.trim().to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart_and_what_they_are_about() {
        let text = "--\n-- Roles\n--\n\\restrict x\n\nSET standard_conforming_strings = on;\n\nCREATE ROLE app;\n\
            ALTER ROLE app WITH LOGIN PASSWORD 'SCRAM;''x';\nCREATE ROLE \"odd \"\"name\";\n\
            COMMENT ON ROLE app IS 'two\nlines;\n-- no comment';\nGRANT a TO b;\n";
        let found = statements(text);
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found[3].ends_with("no comment';"));
        let subjects: Vec<Option<String>> = found.iter().map(|statement| subject(statement)).collect();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(subjects, [some("app"), some("app"), some("odd \"name"), some("app"), None]);
        assert_eq!(first_words(&found[1]), "ALTER ROLE app");
    }
}
