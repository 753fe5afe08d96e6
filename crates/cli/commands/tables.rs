//! `tables`: what is inside the dumps of an archive.

use dbvault_dump::{Contents, Error as Dump, Table};
use dbvault_jobs::{Error as Job, contents, selection};
use serde_json::{Value, json};

use super::choice::choose;
use crate::args::Tables;
use crate::context::Context;
use crate::error::Result;
use crate::output::{self, Column};
use crate::{documents, sanitize};

pub(super) fn run(context: &Context, args: Tables) -> Result<()> {
    let repository = context.open()?;
    let info = choose(context, &repository, &args.archive, args.database.as_slice())?;
    let progress = context.progress();
    let reader = repository.reader(progress.board())?;
    let entries = reader.entries(&info.manifest)?;
    let wholes = match &args.database {
        Some(wanted) => vec![selection::find_whole(&info.manifest.name, &entries, wanted)?],
        None => contents::wholes(&entries),
    };
    let (mut shown, mut left_out) = (Vec::new(), Vec::new());
    for whole in &wholes {
        match contents::open(&reader, whole) {
            Ok(contents) => shown.push((contents::name(whole), contents)),
            // Who asked for one database is told why there is nothing.
            Err(Job::Contents(error @ Dump::Unsupported { .. })) if args.database.is_none() => {
                left_out.push((contents::name(whole), error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    drop(progress);
    if context.global.json {
        return output::json(&json!({
            "archive": documents::archive_info(&info),
            "databases": shown.iter().map(|(name, contents)| document(name, contents)).collect::<Value>(),
            "left_out": left_out
                .iter()
                .map(|(name, reason)| json!({ "name": name, "reason": reason }))
                .collect::<Value>(),
        }));
    }
    output::text(&table(&shown))?;
    for (_, reason) in left_out {
        context.note(&sanitize::line(&reason));
    }
    Ok(())
}

fn document(name: &str, contents: &Contents) -> Value {
    let table = |table: &Table| {
        json!({
            "schema": table.schema,
            "name": table.name,
            "table": table.sql_name(),
            "kind": table.kind.name(),
            "rows": table.rows,
            "bytes": table.bytes,
            "has_rows": table.has_rows,
        })
    };
    json!({ "name": name, "tables": contents.tables().iter().map(table).collect::<Value>() })
}

fn table(databases: &[(&str, Contents)]) -> String {
    use Column::{Left, Right};
    let columns = [Left("DATABASE"), Left("TABLE"), Left("KIND"), Right("ROWS"), Right("BYTES")];
    let unknown = || "-".to_owned();
    let rows = databases.iter().flat_map(|(name, contents)| {
        contents.tables().iter().map(move |table| {
            vec![
                (*name).to_owned(),
                table.sql_name(),
                table.kind.name().to_owned(),
                table.rows.map_or_else(unknown, |rows| rows.to_string()),
                table.bytes.map_or_else(unknown, output::size),
            ]
        })
    });
    output::table(&columns, rows)
}
