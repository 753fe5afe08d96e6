//! Puts a loaded database of MariaDB or MySQL in the place of the live one.
//!
//! These servers rename tables, not databases, and a table that has triggers moves to no other database. So: the
//! tables of both change places by one `RENAME TABLE`, which readers see as one step; triggers, events, views and
//! routines are made anew around it, from the text that the dump program writes of them. That text is taken of the
//! live database too, before anything is touched: whatever fails after that, tables are renamed back and the text is
//! loaded again. `mariadb_journal.rs` is for when we, or the server, are not there to do that.
//!
//! The replaced tables wait in a database of their own, and are dropped only when all else is in place.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::mariadb_filter::{Rewrite, requalified};
use crate::mariadb_journal::{Journal, Old};
use crate::mariadb_stream::{SqlDump, finish};
use crate::mariadb_tools::{Session, Tool, identifier, literal};
use crate::postgres_swap::name_beside;
use crate::{Error, Result};

/// How long the rename waits for those who use the live tables, seconds.
const LOCK_WAIT_S: u32 = 30;
/// How long a server that went away in the middle may take to be there again, and how often we look.
const RESTART_WAIT: Duration = Duration::from_secs(60);
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Creates an empty database.
pub(crate) fn create_database(
    session: &Session,
    name: &str,
    defaults: Option<&(String, String)>,
) -> Result<()> {
    session.execute(None, &format!("CREATE DATABASE {}{}", identifier(name), words(defaults))).map(drop)
}

fn words(defaults: Option<&(String, String)>) -> String {
    let words = |(set, collation): &(String, String)| {
        format!(" CHARACTER SET {} COLLATE {}", identifier(set), identifier(collation))
    };
    defaults.map(words).unwrap_or_default()
}

/// Drops a database. Absent is Ok.
pub(crate) fn drop_database(session: &Session, name: &str) -> Result<()> {
    session.execute(None, &format!("DROP DATABASE IF EXISTS {}", identifier(name))).map(drop)
}

/// One swap.
pub(crate) struct Swap<'a> {
    /// Deaf to interrupts.
    pub(crate) session: Session,
    /// The dump program: it writes down what can't be renamed.
    pub(crate) dump: Tool,
    /// The database that was loaded.
    pub(crate) temporary: &'a str,
    /// The name it is to have.
    pub(crate) name: &'a str,
    /// Default character set and collation that it is to have.
    pub(crate) defaults: Option<&'a (String, String)>,
    /// Events to wake.
    pub(crate) wake: &'a BTreeSet<String>,
    /// What is in a database of that name is replaced; else it is an error.
    pub(crate) may_replace: bool,
    /// What was replaced stays, in another database.
    pub(crate) keep_old: bool,
}

impl Swap<'_> {
    /// Does it. Ok: what was loaded is in place; the warnings tell what became of the old. An error: the live
    /// database is as it was, unless the error says otherwise.
    pub(crate) fn run(&self) -> Result<Vec<String>> {
        let session = &self.session;
        let database = Some((self.temporary.to_owned(), self.name.to_owned()));
        let rewrite = Rewrite { database, wake: self.wake.clone(), sleep: false };
        let code = rewrite.text(&self.code(self.temporary)?)?;
        let defaults = crate::mariadb::defaults_of(session, self.name)?;
        let journal = Journal {
            name: self.name.to_owned(),
            temporary: self.temporary.to_owned(),
            beside: name_beside(self.name, "old_")?,
            tables: self.tables(self.temporary)?,
            old: defaults.map(|defaults| self.look_at_old(defaults)).transpose()?,
        };
        self.drop_all(self.temporary, "TRIGGER")?;
        let statements = self.exchange(&journal, &code)?;
        let old_defaults = journal.old.as_ref().map(|old| &old.defaults);
        create_database(session, &journal.beside, old_defaults)?;
        if journal.old.is_none() {
            // Fails where somebody else has made one in the meantime.
            create_database(session, self.name, self.defaults)?;
        }
        if let Err(error) = session.execute_apart(None, &statements) {
            return Err(match self.undo_patiently(&journal) {
                Ok(()) => error,
                Err(second) => Error::Database {
                    what: format!("put back \"{}\"", self.name),
                    message: format!(
                        "{}; this went wrong first: {}; what was there is in \"{}\", and the next restore puts it back",
                        second.detail(),
                        error.detail(),
                        journal.beside
                    ),
                },
            });
        }
        let mut warnings = Vec::new();
        if let Some(old) = &journal.old {
            warnings.extend(self.give_grants_back(old));
        }
        warnings.extend(self.dispose(&journal));
        if let Err(error) = drop_database(session, self.temporary) {
            warnings.push(format!(
                "the empty database \"{}\" is still there: {}",
                self.temporary,
                error.detail()
            ));
        }
        Ok(warnings)
    }

    /// Everything that must be known of the live database before it is touched.
    fn look_at_old(&self, defaults: (String, String)) -> Result<Old> {
        let (tables, code) = (self.tables(self.name)?, self.code(self.name)?);
        let any = !tables.is_empty() || code.contains("DELIMITER ;;") || code.contains(" VIEW ");
        if any && !self.may_replace {
            return Err(Error::Database {
                what: format!("replace \"{}\"", self.name),
                message: "something was made in it in the meantime".to_owned(),
            });
        }
        let name = literal(self.name);
        let foreign = self.session.query(&format!(
            "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE REFERENCED_TABLE_SCHEMA = {name} AND TABLE_SCHEMA <> {name}"
        ))?;
        if let Some(row) = foreign.first() {
            return Err(Error::Database {
                what: format!("replace \"{}\"", self.name),
                message: format!(
                    "the table {} of another database has a foreign key to it, which would follow the tables that \
                     are replaced; restore in place",
                    row.join(".")
                ),
            });
        }
        Ok(Old { tables, code, grants: self.routine_grants(), defaults })
    }

    /// The statements that put what was loaded in the place of what is there. From their first on the live database
    /// is touched.
    fn exchange(&self, journal: &Journal, code: &str) -> Result<String> {
        let mut statements = journal.statements()?;
        let inwards = journal.tables.iter().map(|table| (self.temporary, table, self.name));
        if let Some(old) = &journal.old {
            statements += &self.drops_of_all(self.name, "EVENT")?;
            statements += &self.drops_of_all(self.name, "TRIGGER")?;
            let away = old.tables.iter().map(|table| (self.name, table, journal.beside.as_str()));
            statements += &renames(away.chain(inwards));
            statements += &self.drops_of_all(self.name, "VIEW")?;
            statements += &self.drops_of_routines(self.name)?;
        } else {
            statements += &renames(inwards);
        }
        statements += &self.leads_of_sequences(self.temporary, (self.temporary, self.name), self.name)?;
        let _ = writeln!(statements, "USE {};\n{code}", identifier(self.name));
        if self.defaults.is_some() {
            let words = words(self.defaults);
            let _ = writeln!(statements, "ALTER DATABASE {}{words};", identifier(self.name));
        }
        Ok(statements + &journal.end())
    }

    /// Takes back what was cut short, as [`Swap::undo`] does, and waits a while for a server that starts again.
    fn undo_patiently(&self, journal: &Journal) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.undo(journal) {
                Err(error) if is_lost(&error) && begun.elapsed() < RESTART_WAIT => {
                    tracing::warn!(%error, "waiting for the server, to take back what was begun");
                    sleep(RESTART_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes back what was cut short some time ago. Tables that were moved in by then go back to the database they came
    /// from, which stays. Where there was no database, the one that was begun stays as it is.
    pub(crate) fn undo_later(&self, journal: &Journal) -> Result<()> {
        let Some(old) = &journal.old else { return drop_database(&self.session, &journal.beside) };
        for (name, defaults) in [(self.name, Some(&old.defaults)), (self.temporary, None)] {
            if crate::mariadb::defaults_of(&self.session, name)?.is_none() {
                create_database(&self.session, name, defaults)?;
            }
        }
        self.undo(journal)
    }

    /// Takes everything back, from wherever the exchange ended; also from where another one of these ended.
    fn undo(&self, journal: &Journal) -> Result<()> {
        let Some(old) = &journal.old else {
            drop_database(&self.session, self.name)?;
            return drop_database(&self.session, &journal.beside);
        };
        self.drop_all(self.name, "EVENT")?;
        self.drop_all(self.name, "TRIGGER")?;
        let beside: BTreeSet<String> = self.tables(&journal.beside)?.into_iter().collect();
        let moved: Vec<&String> = old.tables.iter().filter(|table| beside.contains(*table)).collect();
        if !moved.is_empty() || old.tables.is_empty() {
            let here: BTreeSet<String> = self.tables(self.name)?.into_iter().collect();
            // One that waits to be moved in has not been: then it is the old one that is here.
            let waiting: BTreeSet<String> = self.tables(self.temporary)?.into_iter().collect();
            let new = journal.tables.iter();
            let new = new.filter(|table| here.contains(*table) && !waiting.contains(*table));
            let away = new.map(|table| (self.name, table, self.temporary));
            let back = moved.into_iter().map(|table| (journal.beside.as_str(), table, self.name));
            let statements = renames(away.chain(back));
            if !statements.is_empty() {
                self.session.execute(None, &statements)?;
            }
        }
        self.drop_all(self.name, "VIEW")?;
        self.drop_routines(self.name)?;
        self.session.execute(Some(self.name), &old.code)?;
        let alter = format!("ALTER DATABASE {}{}", identifier(self.name), words(Some(&old.defaults)));
        self.session.execute(None, &alter)?;
        for warning in self.give_grants_back(old) {
            tracing::warn!("{warning}");
        }
        drop_database(&self.session, &journal.beside)
    }

    /// Tables and sequences.
    fn tables(&self, database: &str) -> Result<Vec<String>> {
        self.names(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND \
             TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW') ORDER BY TABLE_NAME",
            literal(database)
        ))
    }

    fn names(&self, question: &str) -> Result<Vec<String>> {
        Ok(self.session.query(question)?.into_iter().filter_map(|row| row.into_iter().next()).collect())
    }

    /// What can't be renamed, as the dump program writes it.
    fn code(&self, database: &str) -> Result<String> {
        let common = ["--default-character-set=utf8mb4", "--skip-dump-date", "--comments", "--no-data"];
        let common = [common.as_slice(), &["--no-tablespaces", "--skip-lock-tables"]].concat();
        let first = ["--no-create-info", "--triggers", "--add-drop-trigger", "--routines", "--events"];
        let mut code = self.run_dump(&[common.as_slice(), &first].concat(), database, &[])?;
        let views = self.names(&format!(
            "SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {} ORDER BY TABLE_NAME",
            literal(database)
        ))?;
        if !views.is_empty() {
            let args = [common.as_slice(), &["--skip-triggers"]].concat();
            code += &match self.run_dump(&args, database, &views) {
                // Of views that refer to what is gone, the program writes no more than comments. They are often why
                // something is restored.
                Err(error) if only_broken_views(&error) => {
                    self.run_dump_of_broken(&args, database, &views)?
                }
                outcome => outcome?,
            };
        }
        Rewrite::default().text(&code)
    }

    fn run_dump(&self, args: &[&str], database: &str, tables: &[String]) -> Result<String> {
        let program = self.session.dump_program(&self.dump, args).arg("--").arg(database).args(tables);
        let output = program.run_captured()?.into_success().map_err(|error| self.session.explained(error))?;
        whole_text(output, database)
    }

    /// The same, where some views are broken and nothing else is.
    fn run_dump_of_broken(&self, args: &[&str], database: &str, views: &[String]) -> Result<String> {
        let args = [args, &["--force"]].concat();
        let program = self.session.dump_program(&self.dump, &args).arg("--").arg(database).args(views);
        let mut captured = program.run_captured()?;
        let output = std::mem::take(&mut captured.stdout);
        match captured.into_success() {
            Err(error) if !only_broken_views(&error) => Err(self.session.explained(error)),
            _ => whole_text(output, database),
        }
    }

    /// Drops all triggers, events or views of a database.
    fn drop_all(&self, database: &str, what: &str) -> Result<()> {
        self.execute_any(&self.drops_of_all(database, what)?)
    }

    fn drop_routines(&self, database: &str) -> Result<()> {
        self.execute_any(&self.drops_of_routines(database)?)
    }

    fn execute_any(&self, statements: &str) -> Result<()> {
        if statements.is_empty() { Ok(()) } else { self.session.execute(None, statements).map(drop) }
    }

    /// Statements that drop all triggers, events or views of a database.
    fn drops_of_all(&self, database: &str, what: &str) -> Result<String> {
        let (table, column, schema) = match what {
            "TRIGGER" => ("TRIGGERS", "TRIGGER_NAME", "TRIGGER_SCHEMA"),
            "EVENT" => ("EVENTS", "EVENT_NAME", "EVENT_SCHEMA"),
            _ => ("VIEWS", "TABLE_NAME", "TABLE_SCHEMA"),
        };
        let names = self.names(&format!(
            "SELECT {column} FROM information_schema.{table} WHERE {schema} = {}",
            literal(database)
        ))?;
        Ok(drop_statements(database, names.iter().map(|name| (what, name.as_str()))))
    }

    /// Statements that drop all procedures, functions and packages of a database.
    fn drops_of_routines(&self, database: &str) -> Result<String> {
        let question = format!(
            "SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {}",
            literal(database)
        );
        let rows = self.session.query(&question)?;
        let named = rows.iter().filter_map(|row| Some((row.first()?.as_str(), row.get(1)?.as_str())));
        let (packages, others): (Vec<_>, Vec<_>) = named.partition(|(kind, _)| kind.starts_with("PACKAGE"));
        let mut statements = drop_statements(database, others.into_iter());
        // A package goes with its body, and only Oracle's mode knows the word.
        let packages = drop_statements(database, packages.into_iter().filter(|(kind, _)| *kind == "PACKAGE"));
        if !packages.is_empty() {
            let _ = write!(
                statements,
                "SET @dbvault_mode = @@sql_mode, SESSION sql_mode = 'ORACLE';\n{packages}\
                 SET SESSION sql_mode = @dbvault_mode;\n"
            );
        }
        Ok(statements)
    }

    /// Statements that lead defaults of columns of the tables that are in `database`, and will be in `home`, from a
    /// sequence of the one database to that of the other.
    fn leads_of_sequences(&self, database: &str, (from, to): (&str, &str), home: &str) -> Result<String> {
        let question = format!(
            "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_DEFAULT FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} \
             AND LOCATE({}, COLUMN_DEFAULT) > 0",
            literal(database),
            literal(&format!("({}.", identifier(from)))
        );
        let mut statements = String::new();
        for row in self.session.query(&question)? {
            let [table, column, default] = row.as_slice() else { continue };
            let changed = requalified(default, from, to);
            let (table, column) = (identifier(table), identifier(column));
            let home = identifier(home);
            let _ = writeln!(
                statements,
                "ALTER TABLE {home}.{table} ALTER COLUMN {column} SET DEFAULT ({changed});"
            );
        }
        Ok(statements)
    }

    /// Rights on single routines go with the routine. Where they can't be read there is nothing to give back.
    fn routine_grants(&self) -> Vec<String> {
        let question = format!(
            "SELECT User, Host, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv WHERE Db = {}",
            literal(self.name)
        );
        let rows = match self.session.query(&question) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(%error, "rights on routines are not readable");
                return Vec::new();
            }
        };
        let statement = |row: &Vec<String>| {
            let [user, host, routine, kind, rights] = row.as_slice() else { return None };
            let (rights, option) = match rights.to_uppercase() {
                rights if rights.contains("GRANT") => (rights.replace("GRANT", ""), " WITH GRANT OPTION"),
                rights => (rights, ""),
            };
            let rights: Vec<&str> =
                rights.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
            let rights = if rights.is_empty() { "USAGE".to_owned() } else { rights.join(", ") };
            let account = if host.is_empty() {
                identifier(user)
            } else {
                format!("{}@{}", identifier(user), identifier(host))
            };
            let (database, routine) = (identifier(self.name), identifier(routine));
            Some(format!("GRANT {rights} ON {kind} {database}.{routine} TO {account}{option}"))
        };
        rows.iter().filter_map(statement).collect()
    }

    fn give_grants_back(&self, old: &Old) -> Vec<String> {
        let failed = |grant: &String| match self.session.execute(None, grant) {
            Ok(_) => None,
            Err(error) => Some(format!("not given back: {grant}: {}", error.detail())),
        };
        old.grants.iter().filter_map(failed).collect()
    }

    /// What becomes of what was replaced.
    fn dispose(&self, journal: &Journal) -> Vec<String> {
        let (beside, mut warnings) = (&journal.beside, Vec::new());
        if let Some(old) = journal.old.as_ref().filter(|_| self.keep_old) {
            warnings.push(format!("what was replaced is kept in the database \"{beside}\""));
            // Two of the same event would do its work twice.
            let database = Some((self.name.to_owned(), beside.clone()));
            let rewrite = Rewrite { database, sleep: true, wake: BTreeSet::new() };
            let made = self
                .leads_of_sequences(beside, (self.name, beside), beside)
                .and_then(|statements| self.execute_any(&statements))
                .and_then(|()| rewrite.text(&old.code))
                .and_then(|code| self.session.execute(Some(beside), &code));
            if let Err(error) = made {
                let error = error.detail();
                warnings.push(format!("its triggers, events, routines and views are not all there: {error}"));
            }
            return warnings;
        }
        if let Err(error) = drop_database(&self.session, beside) {
            let error = error.detail();
            warnings.push(format!("what was replaced is still there, in the database \"{beside}\": {error}"));
        }
        warnings
    }
}

/// Statements that move tables as one step; none where there is nothing to move.
fn renames<'t>(moves: impl Iterator<Item = (&'t str, &'t String, &'t str)>) -> String {
    // Foreign keys follow their tables only where they are checked.
    let settings = format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_S}, foreign_key_checks = 1;\n");
    let step = |(from, table, to): (&str, &String, &str)| {
        let table = identifier(table);
        format!("{}.{table} TO {}.{table}", identifier(from), identifier(to))
    };
    let steps: Vec<String> = moves.map(step).collect();
    if steps.is_empty() {
        return String::new();
    }
    format!("{settings}RENAME TABLE {};\n", steps.join(", "))
}

/// Whether it failed because the server is not there, or went away.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::Connect { .. } => true,
        Error::ProgramFailed { stderr, .. } => {
            ["(HY000): Lost connection", "server has gone away"].iter().any(|words| stderr.contains(words))
        }
        _ => false,
    }
}

/// The text of a dump that is whole.
fn whole_text(output: Vec<u8>, database: &str) -> Result<String> {
    let mut dump = SqlDump::default();
    dump.feed(&output);
    finish(dump, database)?;
    String::from_utf8(output).map_err(|_| Error::Unsuitable {
        name: database.to_owned(),
        detail: "its routines, triggers, events or views have bytes that are no text".to_owned(),
    })
}

/// Whether all that a dump program complains of are views that refer to what is not there.
fn only_broken_views(error: &Error) -> bool {
    let Error::ProgramFailed { stderr, .. } = error else { return false };
    !stderr.is_empty() && stderr.lines().all(|line| line.contains("(1356)") || line.contains("error: 1356:"))
}

fn drop_statements<'t>(database: &str, named: impl Iterator<Item = (&'t str, &'t str)>) -> String {
    let statement = |(what, name): (&str, &str)| {
        format!("DROP {what} IF EXISTS {}.{};\n", identifier(database), identifier(name))
    };
    named.map(statement).collect()
}
