//! `diff`: what changed from one archive to another.

use std::sync::Arc;

use dbvault_format::entry::EntryKind;
use dbvault_jobs::database::ALL;
use dbvault_jobs::diff::{self, Change, EntryDiff};
use dbvault_jobs::diff_tables::{self, TableDiff};
use dbvault_repo::Reader;
use serde_json::{Value, json};

use super::choice::choose;
use super::diff_files::{self, OfTrees};
use super::list::archive_words;
use crate::args::Diff;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{self, Column};
use crate::{documents, sanitize};

pub(super) fn run(context: &Context, args: Diff) -> Result<()> {
    let repository = context.open()?;
    let wanted: Vec<String> = args.databases.into_iter().filter(|name| name != ALL).collect();
    let older = choose(context, &repository, &args.older, &wanted)?;
    let newer = choose(context, &repository, &args.newer, &wanted)?;
    let progress = context.progress();
    let reader = repository.reader(progress.board())?;
    let mut entries = diff::diff(&reader, &older.manifest, &newer.manifest, &wanted)?;
    if !args.paths.is_empty() {
        entries.retain(|entry| entry.kind == EntryKind::Tree);
    }
    let tables = if args.tables { tables(&reader, &entries)? } else { Vec::new() };
    drop(progress);
    if !context.global.json {
        let (older, newer) = (archive_words(&older.manifest), archive_words(&newer.manifest));
        context.note(&format!("From {older} to {newer}"));
    }
    let trees = diff_files::show(context, &reader, &mut entries, &args.paths)?;
    let differing = entries.iter().filter(|entry| entry.change != Change::Unchanged).count();
    if context.global.json {
        // The files are written already, as there may be many of them.
        let rest = json!({
            "older": documents::archive_info(&older),
            "newer": documents::archive_info(&newer),
            "differing": differing,
            "entries": entries.iter().map(|entry| document(entry, &tables, &trees)).collect::<Value>(),
        });
        output::text(format!("{rest:#}\n").strip_prefix('{').unwrap_or_default())?;
    } else if !context.global.quiet {
        output::text(&table(&entries))?;
        for (name, tables) in &tables {
            match tables {
                Some(tables) => {
                    output::text(&format!("\n{}:\n{}", sanitize::line(name), table_of_tables(tables)))?
                }
                None => context.note(&format!("Tables of {} can't be looked into", sanitize::line(name))),
            }
        }
    }
    match differing {
        count if count > 0 && args.exit_code => Err(Error::ArchivesDiffer { count: count as u64 }),
        _ => Ok(()),
    }
}

/// The tables of each database that changed; none where its dump can't be looked into.
type OfEntries = Vec<(String, Option<Vec<TableDiff>>)>;

fn tables(reader: &Arc<Reader>, entries: &[EntryDiff]) -> Result<OfEntries> {
    let databases = entries.iter().filter(|entry| {
        matches!(entry.kind, EntryKind::Postgresql | EntryKind::Sqlite) && entry.change != Change::Unchanged
    });
    let compared = databases.map(|entry| Ok((entry.name.clone(), diff_tables::tables(reader, entry)?)));
    compared.collect()
}

/// What differs; what does not is as many rows.
fn table_of_tables(tables: &[TableDiff]) -> String {
    let columns = [
        Column::Left("TABLE"),
        Column::Left("CHANGE"),
        Column::Right("ROWS BEFORE"),
        Column::Right("ROWS AFTER"),
        Column::Right("REMOVED"),
        Column::Right("ADDED"),
        Column::Right("BEFORE"),
        Column::Right("AFTER"),
    ];
    let number = |rows: Option<u64>| rows.map_or("-".to_owned(), |rows| rows.to_string());
    let differing = |table: &TableDiff, rows: Option<u64>| match rows {
        None if table.columns_changed => "all".to_owned(),
        None if table.change == Change::Changed => "many".to_owned(),
        rows => number(rows),
    };
    let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), output::size);
    let rows = tables.iter().filter(|table| table.change != Change::Unchanged).map(|table| {
        vec![
            table.table.clone(),
            table.change.name().to_owned(),
            number(table.old_rows),
            number(table.new_rows),
            differing(table, table.removed_rows),
            differing(table, table.added_rows),
            size(table.old_bytes),
            size(table.new_bytes),
        ]
    });
    let unchanged = tables.iter().filter(|table| table.change == Change::Unchanged).count() as u64;
    output::table(&columns, rows) + &format!("Unchanged: {}\n", output::count(unchanged, "table"))
}

fn document_of_table(table: &TableDiff) -> Value {
    json!({
        "table": table.table,
        "change": table.change.name(),
        "old_rows": table.old_rows,
        "new_rows": table.new_rows,
        "old_bytes": table.old_bytes,
        "new_bytes": table.new_bytes,
        "removed_rows": table.removed_rows,
        "added_rows": table.added_rows,
        "columns_changed": table.columns_changed,
    })
}

fn table(entries: &[EntryDiff]) -> String {
    let columns = [
        Column::Left("ENTRY"),
        Column::Left("CHANGE"),
        Column::Right("BEFORE"),
        Column::Right("AFTER"),
        Column::Right("REMOVED"),
        Column::Right("ADDED"),
    ];
    let known = |bytes: Option<u64>| bytes.map_or("-".to_owned(), output::size);
    let rows = entries.iter().map(|entry| {
        vec![
            entry.name.clone(),
            entry.change.name().to_owned(),
            known(entry.old_bytes),
            known(entry.new_bytes),
            output::size(entry.removed_bytes),
            output::size(entry.added_bytes),
        ]
    });
    output::table(&columns, rows)
}

fn document(entry: &EntryDiff, tables: &OfEntries, trees: &OfTrees) -> Value {
    let of_this = tables.iter().find(|(name, _)| *name == entry.name).and_then(|(_, tables)| tables.as_ref());
    let files = trees.iter().find(|(name, _)| *name == entry.name).map(|(_, files)| files);
    json!({
        "file_counts": files.map(diff_files::document),
        "tables": of_this.map(|tables| tables.iter().map(document_of_table).collect::<Value>()),
        "name": entry.name,
        "kind": entry.kind.name(),
        "change": entry.change.name(),
        "old_bytes": entry.old_bytes,
        "new_bytes": entry.new_bytes,
        "removed_bytes": entry.removed_bytes,
        "added_bytes": entry.added_bytes,
    })
}
