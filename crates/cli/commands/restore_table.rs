//! `restore --table`: single tables, put back in one transaction.

use dbvault_jobs::Result as JobResult;
use dbvault_jobs::restore_table::{TableItem, TableRequest, TablesPlan};
use dbvault_repo::ArchiveInfo;
use dbvault_source::TablePlace;
use serde_json::{Value, json};

use super::choice::choose;
use super::list::archive_words;
use super::restore::request;
use crate::args::Restore;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{self, Column};
use crate::{documents, sanitize};

pub(super) fn run(context: &Context, args: Restore) -> Result<()> {
    if args.new_name.is_some() && args.tables.len() != 1 {
        return Err(Error::Usage("--as names one table, and several are given".to_owned()));
    }
    let database = request(context, &args)?;
    if database.wanted.len() > 1 {
        return Err(Error::Usage("--table is of one database, and several are given".to_owned()));
    }
    let repository = context.open()?;
    let info = choose(context, &repository, &args.archive, &database.wanted)?;
    context.archive_known(&info.manifest.name);
    let progress = context.progress();
    let reader = repository.reader(progress.board())?;
    let request = TableRequest { database, tables: args.tables.clone(), name: args.new_name.clone() };
    let plan = TablesPlan::make(&reader, &info.manifest, &request, &context.interrupt())?;
    if args.dry_run {
        drop(progress);
        return show(context, &info, &plan.items, true);
    }
    let mut refused = None;
    let mut confirm = |items: &[TableItem]| -> JobResult<bool> {
        if args.yes {
            return Ok(true);
        }
        let replaced: Vec<&str> = items.iter().filter_map(|item| item.plan.replaces.as_deref()).collect();
        let question = format!(
            "This will be overwritten:\n  {}\nPut in its place what is in archive {}?",
            replaced.join("\n  "),
            archive_words(&info.manifest),
        );
        let action = format!("overwrite {}", replaced.join(", "));
        progress.pause(|| context.confirm(&question, &action)).or_else(|error| match error {
            Error::Job(job) => Err(job),
            other => {
                refused = Some(other);
                Ok(false)
            }
        })
    };
    let outcome = plan.execute(&*progress.board(), &mut confirm);
    drop(progress);
    if let Some(error) = refused {
        return Err(error);
    }
    let restored = outcome?;
    restored.warnings.iter().for_each(|warning| context.warning(warning));
    show(context, &info, &restored.items, false)
}

fn show(context: &Context, info: &ArchiveInfo, items: &[TableItem], dry_run: bool) -> Result<()> {
    if context.global.json {
        return output::json(&json!({
            "archive": documents::archive_info(info),
            "dry_run": dry_run,
            "tables": items.iter().map(document).collect::<Value>(),
        }));
    }
    for item in items.iter().filter(|item| !item.plan.left_out.is_empty()) {
        context.note(&format!("Left out of {}: {}", item.table, item.plan.left_out.join(", ")));
    }
    if dry_run {
        let columns = [
            Column::Left("TABLE"),
            Column::Right("ROWS"),
            Column::Right("SIZE"),
            Column::Left("WOULD GO TO"),
            Column::Left("REPLACING"),
        ];
        let rows = items.iter().map(|item| {
            vec![
                item.table.clone(),
                item.rows.map_or("-".to_owned(), |rows| rows.to_string()),
                item.bytes.map_or("-".to_owned(), output::size),
                item.plan.destination.clone(),
                item.plan.replaces.clone().unwrap_or_else(|| "nothing".to_owned()),
            ]
        });
        return output::text(&output::table(&columns, rows));
    }
    if context.global.quiet {
        return Ok(());
    }
    let text = items.iter().fold(String::new(), |text, item| {
        let rows = output::count(item.rows.unwrap_or_default(), "row");
        let (table, place) = (sanitize::line(&item.table), sanitize::line(&item.plan.destination));
        text + &format!("Restored {table} ({rows}) to {place}\n")
    });
    output::text(&text)
}

fn document(item: &TableItem) -> Value {
    let how = match &item.plan.place {
        TablePlace::Beside(_) => "beside",
        TablePlace::Replaced => "replaced",
        TablePlace::Anew => "anew",
    };
    json!({
        "table": item.table,
        "how": how,
        "rows": item.rows,
        "bytes": item.bytes,
        "destination": item.plan.destination,
        "replaces": item.plan.replaces,
        "left_out": item.plan.left_out,
    })
}
