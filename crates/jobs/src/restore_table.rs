//! Single tables of a dump, put back into a live database: beside what is there, or in place, in one transaction.

use std::sync::Arc;

use dbvault_dump::{Contents, Entry, Error as Dumped, Format, Section, Table, TableKind, names};
use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::{NoMonitor, Reader};
use dbvault_source::{
    DumpedTable, Error as SourceError, Interrupt, PostgresTables, SqliteTables, TableCommand, TablePlace,
    TablePlacing, TablePlan,
};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::restore::RestoreRequest;
use crate::sandbox::Sandbox;
use crate::stored_dump::StoredDump;
use crate::{Error, Result, Watcher, contents, registry, selection};

/// Which tables, of the database that a [`RestoreRequest`] names.
#[derive(Clone, Debug, Default)]
pub struct TableRequest {
    /// The database, and where it is restored to; [`crate::registry::TargetSpec::in_place`] says how.
    pub database: RestoreRequest,
    /// Names of tables, as SQL writes them.
    pub tables: Vec<String>,
    /// The name that the only one of them gets, in place of one with a time.
    pub name: Option<String>,
}

/// One table that is to be restored, or was.
#[derive(Clone, Debug)]
pub struct TableItem {
    /// Its name with its schema.
    pub table: String,
    /// What will be done with it.
    pub plan: TablePlan,
    /// Rows that were counted when it was backed up; once it is restored, those that were.
    pub rows: Option<u64>,
    /// Bytes of its rows in the dump.
    pub bytes: Option<u64>,
}

/// Tables that were looked up, and nothing begun.
pub struct TablesPlan {
    /// What will be done with each.
    pub items: Vec<TableItem>,
    /// Name of the database.
    pub database: String,
    live: Live,
}

/// Where they go, and what they come of.
enum Live {
    Postgres { dump: StoredDump, tables: Vec<DumpedTable>, target: Box<PostgresTables> },
    Sqlite { target: SqliteTables, names: Vec<String>, _directory: TempDir },
}

/// Tables that are in place.
#[derive(Clone, Debug)]
pub struct TablesRestored {
    /// Each, with its rows.
    pub items: Vec<TableItem>,
    /// What did not go well and harms nothing.
    pub warnings: Vec<String>,
}

impl TablesPlan {
    /// Looks into the dump, and asks the live database what is there. Changes nothing.
    ///
    /// Errors: there is no such entry or table; it has no rows of its own; it can't go where it is to go.
    pub fn make(
        reader: &Arc<Reader>,
        manifest: &ArchiveManifest,
        request: &TableRequest,
        interrupt: &Interrupt,
    ) -> Result<TablesPlan> {
        let RestoreRequest { wanted, origin, spec, databases } = &request.database;
        let entries: Vec<EntryRecord> =
            reader.entries(manifest)?.into_iter().filter(|entry| origin.fits(entry)).collect();
        let whole = match wanted.as_slice() {
            [name] => contents::in_order(&selection::find_whole(&manifest.name, &entries, name)?),
            _ => vec![selection::only(&manifest.name, &entries)?],
        };
        let Some(first) = whole.first() else { return Err(Error::NoSources) };
        let database = first.attribute(attribute::WHOLE).unwrap_or(&first.meta.name).to_owned();
        let placing = TablePlacing {
            in_place: spec.in_place,
            name: request.name.clone(),
            suffix: format!("_restored_{}", time(manifest.started_ms)),
        };
        match first.meta.kind {
            EntryKind::Postgresql => {
                let options = registry::postgres_options(first, spec, databases, interrupt);
                let target = PostgresTables::new(options, placing);
                let target = target.map_err(|error| Error::restore(&database, error, &[]))?;
                TablesPlan::of_postgres(StoredDump::open(reader, &whole)?, target, database, &request.tables)
            }
            EntryKind::Sqlite => {
                let path = registry::sqlite_path(first, spec)?;
                let dump = StoredDump::open(reader, &whole)?;
                let entries = entries.clone();
                let sandbox =
                    Sandbox { reader, archive: &manifest.name, entries, interrupt: interrupt.clone() };
                let (directory, file) = sandbox.restored_file(&first.meta.name, "dump.db", &NoMonitor)?;
                let target = SqliteTables::new(file, &path, placing, interrupt);
                let target = target.map_err(|error| Error::restore(&database, error, &[]))?;
                TablesPlan::of_sqlite(&dump, target, directory, database, &request.tables)
            }
            kind => Err(Error::NoTables { entry: database, kind: kind.name() }),
        }
    }

    fn of_postgres(
        dump: StoredDump,
        mut target: PostgresTables,
        database: String,
        wanted: &[String],
    ) -> Result<TablesPlan> {
        let (mut items, mut tables) = (Vec::<TableItem>::new(), Vec::new());
        for wanted in wanted {
            let table = dump.contents.find(wanted).map_err(|error| dump.cause(error.into()))?;
            if items.iter().any(|item| item.table == table.sql_name()) {
                continue;
            }
            let dumped =
                dumped(&dump.contents, table).map_err(|error| dump.cause(unfit(&database, error)))?;
            let plan = target.plan(&dumped).map_err(|error| Error::restore(&database, error, &[]))?;
            items.push(TableItem { table: table.sql_name(), plan, rows: table.rows, bytes: table.bytes });
            tables.push(dumped);
        }
        Ok(TablesPlan { items, database, live: Live::Postgres { dump, tables, target: Box::new(target) } })
    }

    fn of_sqlite(
        dump: &StoredDump,
        target: SqliteTables,
        directory: TempDir,
        database: String,
        wanted: &[String],
    ) -> Result<TablesPlan> {
        let (mut items, mut names) = (Vec::<TableItem>::new(), Vec::<String>::new());
        for wanted in wanted {
            let table = dump.contents.find(wanted).map_err(|error| dump.cause(error.into()))?;
            if names.contains(&table.name) {
                continue;
            }
            if table.kind != TableKind::Table {
                let none = Dumped::NoRows { table: table.sql_name(), kind: table.kind };
                return Err(unfit(&database, none));
            }
            let plan = target.plan(&table.name).map_err(|error| Error::restore(&database, error, &[]))?;
            items.push(TableItem { table: table.sql_name(), plan, rows: table.rows, bytes: table.bytes });
            names.push(table.name.clone());
        }
        Ok(TablesPlan { items, database, live: Live::Sqlite { target, names, _directory: directory } })
    }

    /// Puts the tables in place. `confirm` is asked first where rows would be overwritten.
    ///
    /// Errors: the live database is as it was.
    pub fn execute(
        mut self,
        watcher: &dyn Watcher,
        confirm: &mut dyn FnMut(&[TableItem]) -> Result<bool>,
    ) -> Result<TablesRestored> {
        let replaced: Vec<String> = self.items.iter().filter_map(|item| item.plan.replaces.clone()).collect();
        if !replaced.is_empty() && !confirm(&self.items)? {
            return Err(Error::Declined { what: replaced.join(", ") });
        }
        watcher.entry_begins(&self.database, 0, 1, self.items.iter().map(|item| item.bytes).sum());
        let plans = self.items.iter().map(|item| item.plan.clone());
        let restored = match self.live {
            Live::Postgres { dump, tables, mut target } => {
                let planned: Vec<_> = tables.into_iter().zip(plans).collect();
                let names: Vec<String> = planned.iter().map(|(table, plan)| live_name(table, plan)).collect();
                let restored = target.restore(&dump.contents.settings_sql(), planned);
                let rows = restored.map_err(|error| dump.cause(Error::restore(&self.database, error, &[])));
                rows.map(|rows| (rows, target.analyze(&names)))
            }
            Live::Sqlite { target, names, .. } => {
                let planned: Vec<_> = names.into_iter().zip(plans).collect();
                let restored = target.restore(&planned);
                restored.map(|rows| (rows, None)).map_err(|error| Error::restore(&self.database, error, &[]))
            }
        };
        watcher.entry_ends(&self.database);
        let (rows, warning) = restored?;
        for (item, rows) in self.items.iter_mut().zip(rows) {
            item.rows = Some(rows);
        }
        let warnings = warning.into_iter().collect();
        Ok(TablesRestored { items: self.items, warnings })
    }
}

/// A table that is there and can't be restored.
fn unfit(database: &str, error: Dumped) -> Error {
    match &error {
        Dumped::Form { table, .. } | Dumped::NoRows { table, .. } => {
            let (name, detail) = (table.clone(), error.to_string());
            Error::restore(database, SourceError::Unsuitable { name, detail }, &[])
        }
        _ => error.into(),
    }
}

/// The name that a table has once it is restored.
fn live_name(table: &DumpedTable, plan: &TablePlan) -> String {
    let name = match &plan.place {
        TablePlace::Beside(name) => name,
        TablePlace::Replaced | TablePlace::Anew => &table.name,
    };
    format!("{}.{}", names::identifier(&table.schema), names::identifier(name))
}

/// A moment in a name.
fn time(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms).unwrap_or_default();
    time.strftime("%Y%m%d_%H%M%S").to_string()
}

/// What the dump tells of a table, with its rows ready to be read.
fn dumped(contents: &Contents, table: &Table) -> Result<DumpedTable, Dumped> {
    if table.kind == TableKind::PartitionedTable {
        return Err(partitioned(contents, table));
    }
    let rows = contents.rows(table, Format::Copy)?;
    let own = contents.entries_of(table);
    let find = |kind: &str| own.iter().position(|entry| entry.kind == kind && entry.tag == table.name);
    let no_rows = || Dumped::NoRows { table: table.sql_name(), kind: table.kind };
    let (definition, data) = (find("TABLE").ok_or_else(no_rows)?, find("TABLE DATA").ok_or_else(no_rows)?);
    let commands = own.iter().enumerate().filter(|(at, entry)| *at != data && !entry.sql.is_empty());
    let schema = table.schema.clone().unwrap_or_default();
    let referring = contents.entries().iter().filter(|entry| {
        entry.kind == "FK CONSTRAINT"
            && !own.iter().any(|other| (other.part, other.id) == (entry.part, entry.id))
            && refers_to(&entry.sql, &schema, &table.name)
    });
    Ok(DumpedTable {
        owner: Some(own[definition].owner.clone()).filter(|owner| !owner.is_empty()),
        definition: own[definition].sql.clone(),
        commands: commands.map(|(at, entry)| command(entry, at > data)).collect(),
        referring: referring.map(|entry| key_of_other(contents, entry)).collect(),
        copy_sql: own[data].copy_sql.clone(),
        rows,
        row_count: table.rows,
        name: table.name.clone(),
        schema,
    })
}

fn command(entry: &Entry, behind_rows: bool) -> TableCommand {
    TableCommand {
        kind: entry.kind.clone(),
        schema: entry.schema.clone().unwrap_or_default(),
        name: entry.tag.clone(),
        owner: Some(entry.owner.clone()).filter(|owner| !owner.is_empty()),
        sql: entry.sql.clone(),
        // The order of a dump in parts is that of its parts.
        after_rows: behind_rows || entry.section == Section::PostData,
    }
}

/// A foreign key of another table, with what is said of it.
fn key_of_other(contents: &Contents, key: &Entry) -> TableCommand {
    let sql = String::from_utf8_lossy(&key.sql).into_owned();
    let between = |begin: &str, end: &str| sql.split_once(begin)?.1.split_once(end).map(|(name, _)| name);
    let mut made = command(key, true);
    let table = between("ONLY ", "\n").or_else(|| between("ALTER TABLE ", "\n"));
    if let (Some(table), Some(name)) = (table, between("ADD CONSTRAINT ", " FOREIGN KEY")) {
        let comment = format!("COMMENT ON CONSTRAINT {name} ON {table} IS ");
        let comments = contents.entries().iter().filter(|entry| {
            entry.kind == "COMMENT" && entry.sql.trim_ascii_start().starts_with(comment.as_bytes())
        });
        comments.for_each(|entry| made.sql.extend([b"\n", entry.sql.as_slice()].concat()));
    }
    made
}

/// Whether a foreign key is to this table. Names are in quotation marks where they need them, or are keywords.
fn refers_to(sql: &[u8], schema: &str, name: &str) -> bool {
    let forms = |name: &str| [names::quoted(name), names::identifier(name)];
    let sql = String::from_utf8_lossy(sql);
    forms(schema)
        .iter()
        .any(|schema| forms(name).iter().any(|name| sql.contains(&format!(" REFERENCES {schema}.{name}("))))
}

/// What to restore in place of a table whose rows are in others.
fn partitioned(contents: &Contents, table: &Table) -> Dumped {
    let attached = contents.entries().iter().filter(|entry| entry.kind == "TABLE ATTACH");
    let forms = [table.name.clone(), names::quoted(&table.name), names::identifier(&table.name)];
    let of_this = attached.filter(|entry| {
        let sql = String::from_utf8_lossy(&entry.sql);
        let parent = sql.split(" ATTACH PARTITION ").next().unwrap_or_default();
        forms.iter().any(|name| parent.ends_with(&format!(".{name}")))
    });
    let partitions: Vec<String> = of_this
        .map(|entry| names::table_name(entry.schema.as_deref().unwrap_or_default(), &entry.tag))
        .collect();
    Dumped::Form {
        table: table.sql_name(),
        format: "a table",
        detail: format!("they are in its partitions, which can be restored: {}", partitions.join(", ")),
    }
}
