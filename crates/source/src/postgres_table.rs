//! Tables of a PostgreSQL dump, put back one by one: under another name, or in place, in one transaction.
//!
//! One `psql` gets all of it: what is made or taken away before the rows, the rows as the dump has them, what follows
//! them. Its input ends with COMMIT only where all rows have come, so that a stream that breaks off leaves nothing.

use std::io::{self, Read};

use crate::postgres_load::with_role_hint;
use crate::postgres_restore::{PostgresTarget, PostgresTargetOptions};
use crate::postgres_table_sql::{self as sql, RAISED, qualified};
use crate::postgres_tools::{Psql, identifier, literal};
use crate::{Error, Result};

/// Longest name that PostgreSQL knows, bytes.
const NAME_BYTES_MAX: usize = 63;

/// A command of a dump that makes something of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCommand {
    /// What it makes, in `pg_dump`'s words.
    pub kind: String,
    /// The schema of that.
    pub schema: String,
    /// Its name, or what it belongs to and its name.
    pub name: String,
    /// The role that owns it, where there is one.
    pub owner: Option<String>,
    /// The command, in the encoding of the dump.
    pub sql: Vec<u8>,
    /// It comes after the rows.
    pub after_rows: bool,
}

/// One table of a dump.
pub struct DumpedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: Option<String>,
    /// The command that makes it, in the encoding of the dump.
    pub definition: Vec<u8>,
    /// All commands about it, in their order, its definition among them and not its rows.
    pub commands: Vec<TableCommand>,
    /// Foreign keys of other tables that refer to it.
    pub referring: Vec<TableCommand>,
    /// The `COPY` command that its rows follow.
    pub copy_sql: Vec<u8>,
    /// Its rows, as `COPY` writes them, without the line that ends them.
    pub rows: Box<dyn Read + Send>,
    /// How many they are, where that was counted when the dump was made.
    pub row_count: Option<u64>,
}

/// Where tables go.
#[derive(Clone, Debug, Default)]
pub struct TablePlacing {
    /// In place of the live ones.
    pub in_place: bool,
    /// The name of the only one, where it is to have another.
    pub name: Option<String>,
    /// What is behind a name otherwise.
    pub suffix: String,
}

/// What will be done with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TablePlace {
    /// It is made under this name.
    Beside(String),
    /// Its rows are put in place of the live one's.
    Replaced,
    /// It is gone, and made anew with all that belongs to it.
    Anew,
}

/// What is to be done with one table, looked up but not begun.
#[derive(Clone, Debug)]
pub struct TablePlan {
    /// What will be done.
    pub place: TablePlace,
    /// Where it goes, in words.
    pub destination: String,
    /// What would be overwritten, in words.
    pub replaces: Option<String>,
    /// What of the dump is not made, in words.
    pub left_out: Vec<String>,
    /// Commands about it that are to be run.
    commands: Vec<TableCommand>,
}

impl TablePlan {
    /// A plan that needs no more commands than the place tells.
    pub(crate) fn new(
        place: TablePlace,
        destination: String,
        replaces: Option<String>,
        left_out: Vec<String>,
    ) -> TablePlan {
        TablePlan { place, destination, replaces, left_out, commands: Vec::new() }
    }
}

/// Puts tables back into one live database.
pub struct PostgresTables {
    target: PostgresTarget,
    placing: TablePlacing,
}

impl PostgresTables {
    /// Connects to nothing yet. Errors: as [`PostgresTarget::new`].
    pub fn new(options: PostgresTargetOptions, placing: TablePlacing) -> Result<PostgresTables> {
        Ok(PostgresTables { target: PostgresTarget::new(options)?, placing })
    }

    fn psql(&mut self) -> Result<Psql> {
        let name = self.target.name.clone();
        Ok(self.target.server()?.psql.with_database(&name))
    }

    /// Asks the live database what is there. Changes nothing.
    pub fn plan(&mut self, table: &DumpedTable) -> Result<TablePlan> {
        let psql = self.psql()?;
        let (database, suffix) = (self.target.name.clone(), self.placing.suffix.clone());
        let place = self.target.server()?.place();
        let live = qualified(&table.schema, &table.name);
        let kind = kind_of(&psql, &table.schema, &table.name)?;
        let words = |name: &str| format!("table {name} of database \"{database}\" on {place}");
        if !self.placing.in_place {
            let name = self.placing.name.clone().unwrap_or_else(|| beside(&table.name, &suffix));
            let other = qualified(&table.schema, &name);
            if kind_of(&psql, &table.schema, &name)?.is_some() {
                let detail = format!("there is a table {other} already: choose another name with --as");
                return Err(Error::Unsuitable { name: live, detail });
            }
            let left_out = left_out(table);
            let destination = words(&other);
            let place = TablePlace::Beside(name);
            return Ok(TablePlan::new(place, destination, None, left_out));
        }
        match kind.as_deref() {
            None => self.plan_anew(table, &psql, words(&live)),
            Some("r") => {
                let rows = psql.run(&[&format!("SELECT count(*) FROM ONLY {live}")])?;
                let rows = rows.first().map_or("", String::as_str);
                let (commands, absent) = sequences_there(table, &psql)?;
                Ok(TablePlan {
                    place: TablePlace::Replaced,
                    destination: words(&live),
                    replaces: Some(format!("{} ({rows} rows)", words(&live))),
                    left_out: absent,
                    commands,
                })
            }
            Some(_) => {
                let detail =
                    "there is something of that name that is no table with rows of its own".to_owned();
                Err(Error::Unsuitable { name: live, detail })
            }
        }
    }

    fn plan_anew(&self, table: &DumpedTable, psql: &Psql, destination: String) -> Result<TablePlan> {
        let privileges = self.target.options.no_privileges;
        let mut left_out = Vec::new();
        let mut commands = Vec::new();
        let has_schema = psql.run(&[&format!(
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}",
            literal(&table.schema)
        )])?;
        if has_schema.is_empty() {
            let detail = format!("the database has no schema {}: make it first", identifier(&table.schema));
            return Err(Error::Unsuitable { name: qualified(&table.schema, &table.name), detail });
        }
        for command in &table.commands {
            let kept_sequence = command.kind == "SEQUENCE"
                && command.sql.starts_with(b"CREATE ")
                && kind_of(psql, &command.schema, &command.name)?.is_some();
            match command.kind.as_str() {
                "ACL" | "SECURITY LABEL" if privileges => {}
                "PUBLICATION TABLE" | "STATISTICS DATA" => {}
                _ if kept_sequence => left_out.push(format!("sequence {}: it is there", command.name)),
                _ => commands.push(command.clone()),
            }
        }
        for key in &table.referring {
            // Only where the other table is there, and lacks the key.
            let (other, name) = key.name.split_once(' ').unwrap_or((&key.name, ""));
            let question = format!(
                "SELECT 1 FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
                 WHERE n.nspname = {} AND {} = r.relname || ' ' || {} AND NOT EXISTS (SELECT FROM \
                 pg_catalog.pg_constraint c WHERE c.conrelid = r.oid AND r.relname || ' ' || c.conname = {})",
                literal(&key.schema),
                literal(&key.name),
                literal(name),
                literal(&key.name),
            );
            if psql.run(&[&question])?.is_empty() {
                left_out.push(format!("foreign key {name} of {other}"));
            } else {
                commands.push(TableCommand { after_rows: true, ..key.clone() });
            }
        }
        Ok(TablePlan { place: TablePlace::Anew, destination, replaces: None, left_out, commands })
    }

    /// Puts all tables back in one transaction, and gives the rows of each. `settings` go before all other commands of
    /// the dump.
    ///
    /// Errors: the database is as it was.
    pub fn restore(&mut self, settings: &[u8], tables: Vec<(DumpedTable, TablePlan)>) -> Result<Vec<u64>> {
        let psql = self.psql()?;
        let names: Vec<String> =
            tables.iter().map(|(table, _)| qualified(&table.schema, &table.name)).collect();
        let expected: Vec<Option<u64>> = tables.iter().map(|(table, _)| table.row_count).collect();
        let mut script = Script::new(settings, tables, !self.target.options.no_owner)?;
        let mut writer = psql.program().args(["-f", "-"]).spawn_writer()?;
        // After an error the writer is dropped, and ends psql before its input: nothing is committed.
        writer.feed(&mut script)?;
        let different =
            names.iter().zip(&script.counts).zip(expected).find_map(|((name, found), expected)| {
                let expected = expected.filter(|expected| expected != found)?;
                Some(format!("{name} has {found} rows, {expected} were counted when it was backed up"))
            });
        if different.is_none() {
            writer.feed(&mut sql::COMMIT.as_bytes())?;
        }
        // What psql has to say goes first: where it gave up, rows were not read to their end.
        writer.finish().map_err(|error| raised(with_role_hint(error), &self.target.name))?;
        if let Some(detail) = different {
            return Err(Error::Incomplete { name: self.target.name.clone(), detail });
        }
        Ok(script.counts)
    }

    /// Collects statistics of tables; gives what went wrong, which harms nothing.
    pub fn analyze(&mut self, tables: &[String]) -> Option<String> {
        if self.target.options.no_analyze || tables.is_empty() {
            return None;
        }
        let psql = self.psql();
        let arguments = self.target.options.analyze_arguments.clone();
        let analyzed = psql.and_then(|psql| {
            let read_only = "SET default_transaction_read_only = off";
            psql.run_with(&arguments, &[read_only, &format!("ANALYZE {}", tables.join(", "))])
        });
        analyzed.err().map(|error| format!("statistics were not collected: {error}"))
    }
}

/// What has this name in the live database, as `pg_class.relkind`.
fn kind_of(psql: &Psql, schema: &str, name: &str) -> Result<Option<String>> {
    let question = format!(
        "SELECT c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {} AND c.relname = {}",
        literal(schema),
        literal(name)
    );
    Ok(psql.run(&[&question])?.pop())
}

/// Commands that set sequences which are there, and words for those that are not.
fn sequences_there(table: &DumpedTable, psql: &Psql) -> Result<(Vec<TableCommand>, Vec<String>)> {
    let (mut there, mut absent) = (Vec::new(), Vec::new());
    for command in table.commands.iter().filter(|command| command.kind == "SEQUENCE SET") {
        match kind_of(psql, &command.schema, &command.name)?.as_deref() {
            Some("S") => there.push(TableCommand { after_rows: true, ..command.clone() }),
            _ => absent.push(format!("sequence {}: it is not there", command.name)),
        }
    }
    Ok((there, absent))
}

/// A name with a suffix, of which PostgreSQL would cut nothing.
fn beside(name: &str, suffix: &str) -> String {
    let mut end = name.len().min(NAME_BYTES_MAX.saturating_sub(suffix.len()));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

/// What a table has that is not made with it under another name.
fn left_out(table: &DumpedTable) -> Vec<String> {
    let words = |kind: &str| match kind {
        "CONSTRAINT" => Some("constraint"),
        "FK CONSTRAINT" => Some("foreign key"),
        "INDEX" => Some("index"),
        "TRIGGER" => Some("trigger"),
        "RULE" => Some("rule"),
        "POLICY" => Some("policy"),
        "DEFAULT" => Some("default of a sequence"),
        _ => None,
    };
    let named = |command: &TableCommand| Some(format!("{} {}", words(&command.kind)?, command.name));
    table.commands.iter().filter_map(named).collect()
}

/// What a command of ours has raised, without what `psql` says around it.
fn raised(error: Error, name: &str) -> Error {
    if let Error::ProgramFailed { stderr, .. } = &error
        && let Some((_, detail)) = stderr.split_once(RAISED)
    {
        let detail = detail.lines().next().unwrap_or_default().to_owned();
        return Error::Unsuitable { name: name.to_owned(), detail };
    }
    error
}

/// A step of the script.
enum Step {
    Sql(Vec<u8>),
    Rows {
        table: usize,
        rows: Box<dyn Read + Send>,
    },
    /// Fails where the table of this schema and name has not the rows that came.
    Count {
        table: usize,
        schema: String,
        name: String,
    },
}

/// All that `psql` gets before COMMIT.
struct Script {
    steps: std::vec::IntoIter<Step>,
    current: io::Cursor<Vec<u8>>,
    rows: Option<(usize, Box<dyn Read + Send>)>,
    /// Rows that have passed, of each table.
    counts: Vec<u64>,
    last: u8,
}

impl Script {
    fn new(settings: &[u8], tables: Vec<(DumpedTable, TablePlan)>, with_owner: bool) -> Result<Script> {
        let counts = vec![0; tables.len()];
        let (mut before, mut data, mut after) =
            (vec![Step::Sql(sql::begin(settings))], Vec::new(), Vec::new());
        for (number, (table, plan)) in tables.into_iter().enumerate() {
            let odd = || Error::Unsuitable {
                name: qualified(&table.schema, &table.name),
                detail: "the command of the dump that makes it is not understood".to_owned(),
            };
            let temporary = format!("dbvault_restored_{number}_{}", std::process::id());
            let own = |steps: &mut Vec<Step>, text: String| steps.push(Step::Sql(text.into_bytes()));
            let mut into = None;
            if plan.place != TablePlace::Anew {
                before.push(Step::Sql(settings.to_vec()));
                before.push(Step::Sql(sql::make_beside(&table, &temporary).ok_or_else(odd)?));
            }
            let named = match &plan.place {
                TablePlace::Beside(name) => {
                    into = Some(temporary.as_str());
                    own(&mut after, sql::end_beside(&table, &temporary, name, with_owner));
                    name.clone()
                }
                TablePlace::Replaced => {
                    own(&mut before, sql::prepare_live(&table, &temporary, number));
                    own(&mut data, sql::empty(&table));
                    table.name.clone()
                }
                TablePlace::Anew => table.name.clone(),
            };
            data.push(Step::Sql(settings.to_vec()));
            data.push(Step::Sql(sql::copy(&table, into).ok_or_else(odd)?));
            for command in &plan.commands {
                let steps = if command.after_rows { &mut after } else { &mut before };
                steps.push(Step::Sql(settings.to_vec()));
                steps.push(Step::Sql(sql::command(command, with_owner)));
            }
            if plan.place == TablePlace::Replaced {
                own(&mut after, sql::end_live(&table, number));
            }
            after.push(Step::Count { table: number, schema: table.schema.clone(), name: named });
            data.push(Step::Rows { table: number, rows: table.rows });
        }
        before.extend(data);
        before.extend(after);
        Ok(Script {
            steps: before.into_iter(),
            current: io::Cursor::default(),
            rows: None,
            counts,
            last: b'\n',
        })
    }
}

impl Read for Script {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            if let Some((table, rows)) = &mut self.rows {
                let count = rows.read(out)?;
                if let Some(last) = out[..count].last() {
                    self.last = *last;
                    self.counts[*table] += out[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
                    return Ok(count);
                }
                // A row that was cut would be one all the same.
                if self.last != b'\n' {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.rows = None;
                self.current = io::Cursor::new(b"\\.\n".to_vec());
                continue;
            }
            match self.steps.next() {
                None => return Ok(0),
                Some(Step::Sql(sql)) => self.current = io::Cursor::new(sql),
                Some(Step::Rows { table, rows }) => {
                    self.last = b'\n';
                    self.rows = Some((table, rows));
                }
                Some(Step::Count { table, schema, name }) => {
                    let rows = self.counts[table];
                    self.current = io::Cursor::new(sql::count(&schema, &name, rows).into_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_are_cut_where_letters_end() {
        let suffix = "_restored_20261121_030405";
        assert_eq!(beside("orders", suffix), "orders_restored_20261121_030405");
        let long = beside(&"ü".repeat(31), suffix);
        assert_eq!((long.len(), long.starts_with(&"ü".repeat(19))), (63, true));
        assert_eq!(beside(&"x".repeat(63), suffix).len(), 63);
    }
}
