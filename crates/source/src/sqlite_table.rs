//! Tables of an SQLite file, put back one by one into a live file: under another name, or in place, in one transaction.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dbvault_dump::names::identifier;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::interrupt::{self, Interrupt};
use crate::postgres_table::{TablePlace, TablePlacing, TablePlan};
use crate::sqlite::database_error;
use crate::{Error, Result};

/// How long other programs' locks on the live file are waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Puts tables of one file, which is ours to change, back into another, which is live.
#[derive(Debug)]
pub struct SqliteTables {
    dump: PathBuf,
    live: PathBuf,
    placing: TablePlacing,
    interrupt: Interrupt,
}

/// A column: its name, its type, and whether it is hidden or generated.
type Column = (String, String, i64);

impl SqliteTables {
    /// Opens nothing yet. Errors: [`Error::NoSuchDatabase`] where there is no live file.
    pub fn new(
        dump: PathBuf,
        live: &Path,
        placing: TablePlacing,
        interrupt: &Interrupt,
    ) -> Result<SqliteTables> {
        if !live.is_file() {
            return Err(Error::NoSuchDatabase { name: live.display().to_string() });
        }
        Ok(SqliteTables { dump, live: live.to_owned(), placing, interrupt: interrupt.clone() })
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> Error {
        let what = format!("restore into {}", self.live.display());
        move |error| database_error(what.clone(), error)
    }

    /// The live file, with the other one beside it.
    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.live, flags)?;
        connection.busy_timeout(BUSY_WAIT)?;
        // Keys are checked at the end, all at once.
        connection.execute_batch("PRAGMA foreign_keys = OFF")?;
        connection.execute("ATTACH ?1 AS dump", [self.dump.display().to_string()])?;
        Ok(connection)
    }

    /// Asks the live file what is there. Changes nothing.
    pub fn plan(&self, table: &str) -> Result<TablePlan> {
        let connection = self.open().map_err(self.failed())?;
        let place = self.live.display();
        let words = |name: &str| format!("table {} of file {place}", identifier(name));
        let unsuitable = |detail: String| Error::Unsuitable { name: table.to_owned(), detail };
        let kind = |name: &str| kind_of(&connection, "main", name).map_err(self.failed());
        let left_out = |sql: &str| -> Result<Vec<String>> {
            let mut found = connection.prepare(sql).map_err(self.failed())?;
            let names = found.query_map([table], |row| row.get(0)).map_err(self.failed())?;
            names.collect::<rusqlite::Result<_>>().map_err(self.failed())
        };
        if !self.placing.in_place {
            let name = self.placing.name.clone().unwrap_or_else(|| format!("{table}{}", self.placing.suffix));
            if kind(&name)?.is_some() {
                let taken = identifier(&name);
                return Err(unsuitable(format!(
                    "there is a table {taken} already: choose another name with --as"
                )));
            }
            let others = "SELECT type || ' ' || name FROM dump.sqlite_schema WHERE tbl_name = ?1 \
                          AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY type, name";
            let (destination, left_out) = (words(&name), left_out(others)?);
            return Ok(TablePlan::new(TablePlace::Beside(name), destination, None, left_out));
        }
        match kind(table)?.as_deref() {
            None => Ok(TablePlan::new(TablePlace::Anew, words(table), None, Vec::new())),
            Some("table") => {
                let differences = self.differences(&connection, table).map_err(self.failed())?;
                if !differences.is_empty() {
                    let differences = differences.join("; ");
                    return Err(unsuitable(format!(
                        "its columns are not those of the live table: {differences}"
                    )));
                }
                let count = format!("SELECT count(*) FROM main.{}", identifier(table));
                let rows: i64 = connection.query_row(&count, [], |row| row.get(0)).map_err(self.failed())?;
                let replaces = format!("{} ({rows} rows)", words(table));
                Ok(TablePlan::new(TablePlace::Replaced, words(table), Some(replaces), Vec::new()))
            }
            Some(other) => Err(unsuitable(format!("there is a {other} of that name"))),
        }
    }

    fn differences(&self, connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
        let (dump, live) = (columns(connection, "dump", table)?, columns(connection, "main", table)?);
        let only = |these: &[Column], others: &[Column], side: &str| -> Vec<String> {
            let missing = these.iter().filter(|column| !others.contains(column));
            missing.map(|(name, kind, _)| format!("{} {kind} only in the {side}", identifier(name))).collect()
        };
        Ok([only(&dump, &live, "dump"), only(&live, &dump, "live table")].concat())
    }

    /// Puts all tables back in one transaction, and gives the rows of each.
    ///
    /// Errors: the live file is as it was.
    pub fn restore(&self, tables: &[(String, TablePlan)]) -> Result<Vec<u64>> {
        let renamed = self.rename(tables).map_err(self.failed())?;
        let mut connection = self.open().map_err(self.failed())?;
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(self.failed())?;
        let before = broken_keys(&transaction).map_err(self.failed())?;
        let mut rows = Vec::new();
        for ((table, plan), name) in tables.iter().zip(&renamed) {
            interrupt::check(&self.interrupt)?;
            rows.push(put(&transaction, table, name, plan).map_err(self.failed())?);
        }
        let after = broken_keys(&transaction).map_err(self.failed())?;
        if let Some(broken) = after.iter().find(|broken| !before.contains(broken)) {
            return Err(Error::Unsuitable { name: self.live.display().to_string(), detail: broken.clone() });
        }
        transaction.commit().map_err(self.failed())?;
        Ok(rows)
    }

    /// Gives tables their new names in our own file: SQLite knows best how to do that. The name of each.
    fn rename(&self, tables: &[(String, TablePlan)]) -> rusqlite::Result<Vec<String>> {
        let connection = Connection::open(&self.dump)?;
        connection.execute_batch("PRAGMA legacy_alter_table = ON; PRAGMA foreign_keys = OFF")?;
        let mut names = Vec::new();
        for (table, plan) in tables {
            let TablePlace::Beside(name) = &plan.place else {
                names.push(table.clone());
                continue;
            };
            let rename = format!("ALTER TABLE {} RENAME TO {}", identifier(table), identifier(name));
            connection.execute_batch(&rename)?;
            names.push(name.clone());
        }
        Ok(names)
    }
}

/// What has this name: `table`, `view`...
fn kind_of(connection: &Connection, schema: &str, name: &str) -> rusqlite::Result<Option<String>> {
    let question = format!("SELECT type FROM {schema}.sqlite_schema WHERE name = ?1 COLLATE NOCASE");
    connection.query_row(&question, [name], |row| row.get(0)).optional()
}

fn columns(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut found = connection
        .prepare("SELECT name, upper(type), hidden FROM pragma_table_xinfo(?1, ?2) ORDER BY name")?;
    let rows = found.query_map([table, schema], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

/// Commands of one schema that make what belongs to a table.
fn commands(
    connection: &Connection,
    schema: &str,
    table: &str,
    kind: &str,
) -> rusqlite::Result<Vec<(String, String)>> {
    let mut found = connection.prepare(&format!(
        "SELECT name, sql FROM {schema}.sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type = ?2 AND sql IS NOT NULL"
    ))?;
    let rows = found.query_map([table, kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Puts one table in its place; `name` is its name in our file and there. How many rows it has.
fn put(connection: &Connection, table: &str, name: &str, plan: &TablePlan) -> rusqlite::Result<u64> {
    let run = |commands: Vec<(String, String)>| {
        commands.iter().try_for_each(|(_, sql)| connection.execute_batch(sql))
    };
    let quoted = identifier(name);
    let mut triggers = Vec::new();
    if plan.place == TablePlace::Replaced {
        triggers = commands(connection, "main", table, "trigger")?;
        for (trigger, _) in &triggers {
            connection.execute_batch(&format!("DROP TRIGGER main.{}", identifier(trigger)))?;
        }
        connection.execute_batch(&format!("DELETE FROM main.{quoted}"))?;
    } else {
        run(commands(connection, "dump", name, "table")?)?;
    }
    let visible = columns(connection, "dump", name)?.into_iter().filter(|(_, _, hidden)| *hidden == 0);
    let list: Vec<String> = visible.map(|(column, ..)| identifier(&column)).collect();
    let list = list.join(", ");
    let insert = format!("INSERT INTO main.{quoted} ({list}) SELECT {list} FROM dump.{quoted}");
    let rows = connection.execute(&insert, [])? as u64;
    if plan.place == TablePlace::Anew {
        run(commands(connection, "dump", name, "index")?)?;
        triggers = commands(connection, "dump", name, "trigger")?;
    }
    let counts = |schema| kind_of(connection, schema, "sqlite_sequence").map(|kind| kind.is_some());
    if !matches!(plan.place, TablePlace::Beside(_)) && counts("main")? && counts("dump")? {
        connection.execute("DELETE FROM main.sqlite_sequence WHERE name = ?1", [name])?;
        let set = "INSERT INTO main.sqlite_sequence SELECT * FROM dump.sqlite_sequence WHERE name = ?1";
        connection.execute(set, [name])?;
    }
    run(triggers)?;
    Ok(rows)
}

/// Rows whose foreign keys refer to nothing, in words.
fn broken_keys(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = connection.prepare("PRAGMA main.foreign_key_check")?;
    let rows = found.query_map([], |row| {
        let (table, rowid, parent): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let rowid = rowid.map_or(String::new(), |rowid| format!(" (rowid {rowid})"));
        Ok(format!(
            "a row of {}{rowid} would refer to nothing in {}",
            identifier(&table),
            identifier(&parent)
        ))
    })?;
    rows.collect()
}
