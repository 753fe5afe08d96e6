//! `drill`: proves that an archive restores, in throw-away private servers.

use dbvault_jobs::database::ALL;
use dbvault_jobs::drill::{Drill as Job, DrillRequest, Drilled, Verdict, units};
use dbvault_jobs::selection::Origin;
use serde_json::{Value, json};

use super::choice::choose;
use crate::args::Drill;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{self, Column};
use crate::{documents, sanitize};

pub(super) fn run(context: &Context, args: Drill) -> Result<()> {
    let repository = context.open()?;
    let wanted: Vec<String> = args.databases.into_iter().filter(|name| name != ALL).collect();
    let info = choose(context, &repository, &args.archive, &wanted)?;
    context.archive_known(&info.manifest.name);
    let progress = context.progress();
    let reader = repository.reader(progress.board())?;
    let request = DrillRequest {
        wanted,
        origin: Origin { kind: args.hook, ..Origin::default() },
        queries: args.queries,
        databases: context.configs()?.iter().flat_map(|config| config.databases.clone()).collect(),
        dry_run: args.no_record,
    };
    let job = Job::new(&repository, &reader, &info.manifest, request, context.interrupt())?;
    let drilled = job.run(&*progress.board());
    drop(progress);
    context.write_metrics(&repository);
    let drilled = drilled?;
    if context.global.json {
        output::json(&json!({
            "archive": documents::archive_info(&info),
            "entries": drilled.iter().map(document).collect::<Value>(),
        }))?;
    } else if !context.global.quiet {
        let columns =
            [Column::Left("ENTRY"), Column::Left("KIND"), Column::Right("TOOK"), Column::Left("VERDICT")];
        let rows = drilled.iter().map(|one| {
            vec![one.name.clone(), one.kind.name().to_owned(), output::duration(one.took_ms), words(one)]
        });
        output::text(&output::table(&columns, rows))?;
    }
    let failed = drilled.iter().filter(|one| matches!(one.verdict, Verdict::Failed { .. })).count();
    let proven = drilled.iter().filter(|one| matches!(one.verdict, Verdict::Proven { .. })).count();
    let archive = info.manifest.name;
    match (failed, proven) {
        (0, 0) => Err(Error::NothingDrilled { archive }),
        (0, _) => Ok(()),
        _ => Err(Error::DrillFailed { archive, failed }),
    }
}

fn words(one: &Drilled) -> String {
    let (table, row) = units(one.kind);
    match &one.verdict {
        Verdict::Proven { tables, rows, compared } => {
            let compared = if *compared { ", as when it was backed up" } else { "" };
            format!("restored: {}, {}{compared}", output::count(*tables, table), output::count(*rows, row))
        }
        Verdict::Failed { reason } => format!("FAILED: {}", sanitize::line(reason)),
        Verdict::Skipped => "not tried: there is no private server for this kind".to_owned(),
    }
}

fn document(one: &Drilled) -> Value {
    let (verdict, tables, rows, compared, reason) = match &one.verdict {
        Verdict::Proven { tables, rows, compared } => {
            ("proven", Some(*tables), Some(*rows), Some(*compared), None)
        }
        Verdict::Failed { reason } => ("failed", None, None, None, Some(reason)),
        Verdict::Skipped => ("skipped", None, None, None, None),
    };
    json!({
        "name": one.name,
        "kind": one.kind.name(),
        "verdict": verdict,
        "tables": tables,
        "rows": rows,
        "compared": compared,
        "reason": reason,
        "duration_ms": one.took_ms,
    })
}
