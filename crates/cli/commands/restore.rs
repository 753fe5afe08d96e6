//! `restore`: puts databases back from an archive.

use dbvault_format::entry::attribute;
use dbvault_jobs::database::ALL;
use dbvault_jobs::registry::{Server, TargetSpec};
use dbvault_jobs::restore::{PlannedEntry, RestorePlan, RestoreRequest, RestoredEntry};
use dbvault_jobs::selection::Origin;
use dbvault_jobs::{Error as Job, Result as JobResult};
use dbvault_repo::ArchiveInfo;
use dbvault_source::row_counts;
use serde_json::{Value, json};

use super::choice::choose;
use super::list::archive_words;
use super::restore_table;
use crate::args::Restore;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{self, Column};
use crate::{documents, sanitize};

pub(super) fn run(context: &Context, args: Restore) -> Result<()> {
    if !args.tables.is_empty() {
        return restore_table::run(context, args);
    }
    let repository = context.open()?;
    let request = request(context, &args)?;
    let info = choose(context, &repository, &args.archive, &request.wanted)?;
    context.archive_known(&info.manifest.name);
    let progress = context.progress();
    let reader = repository.reader(progress.board())?;
    let entries = reader.entries(&info.manifest)?;
    let plan = RestorePlan::make(&info.manifest.name, &entries, &request, &context.interrupt())?;
    for name in &plan.left_out {
        progress.pause(|| context.note(&format!("Left out: {name}; dbvault extract gives out its bytes")));
    }
    if args.dry_run {
        drop(progress);
        return show_plan(context, &info, &plan.items);
    }
    let mut refused = None;
    let mut confirm = |items: &[PlannedEntry]| -> JobResult<bool> {
        if args.yes {
            return Ok(true);
        }
        let (question, action) = question(&info, items);
        progress.pause(|| context.confirm(&question, &action)).or_else(|error| match error {
            Error::Job(job) => Err(job),
            other => {
                refused = Some(other);
                Ok(false)
            }
        })
    };
    let outcome = plan.execute(&reader, &*progress.board(), &mut confirm);
    drop(progress);
    match (outcome, refused) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => {
            if matches!(error, Job::Interrupted) {
                context.note("Stopped: what was there is as it was");
            }
            Err(error.into())
        }
        (Ok(restored), None) => show(context, &info, &restored),
    }
}

pub(super) fn request(context: &Context, args: &Restore) -> Result<RestoreRequest> {
    let server = args.server.clone();
    let origin = Origin {
        host: args.original_hostname.clone(),
        port: args.original_port,
        label: args.original_label.clone(),
        kind: args.hook.clone(),
    };
    // What means all is what no name means.
    let wanted = args.databases.iter().filter(|name| *name != ALL).cloned().collect();
    let spec = TargetSpec {
        to: args.to.clone(),
        server: Server { host: server.host, port: server.port, user: server.username },
        no_owner: args.no_owner,
        no_privileges: args.no_privileges,
        no_tablespaces: args.no_tablespaces,
        keep_old: args.keep_old,
        in_place: args.in_place,
        schemas: args.schemas.clone(),
        no_analyze: args.no_analyze,
        parallel: args.parallel.map(usize::from),
    };
    // Passwords, and where restores go; what can't be understood is told by who needs it.
    let databases = context.configs()?.iter().flat_map(|config| config.databases.clone()).collect();
    Ok(RestoreRequest { wanted, origin, spec, databases })
}

/// The question before anything is overwritten, and in a few words what it is about.
fn question(info: &ArchiveInfo, items: &[PlannedEntry]) -> (String, String) {
    let replaced: Vec<&str> = items.iter().filter_map(|item| item.replaces.as_deref()).collect();
    let list = replaced.join("\n  ");
    let archive = archive_words(&info.manifest);
    let question =
        format!("This will be overwritten:\n  {list}\nPut in its place what is in archive {archive}?");
    (question, format!("overwrite {}", replaced.join(", ")))
}

fn show_plan(context: &Context, info: &ArchiveInfo, items: &[PlannedEntry]) -> Result<()> {
    if context.global.json {
        let entries = items.iter().map(|item| {
            json!({
                "name": item.name(),
                "kind": item.record.meta.kind.name(),
                "original_bytes": item.original_bytes(),
                "destination": item.destination,
                "replaces": item.replaces,
            })
        });
        return output::json(&json!({
            "archive": documents::archive_info(info),
            "dry_run": true,
            "entries": entries.collect::<Value>(),
        }));
    }
    let columns = [
        Column::Left("ENTRY"),
        Column::Right("SIZE"),
        Column::Left("WOULD GO TO"),
        Column::Left("REPLACING"),
    ];
    let rows = items.iter().map(|item| {
        vec![
            item.name().to_owned(),
            output::size(item.original_bytes()),
            item.destination.clone(),
            item.replaces.clone().unwrap_or_else(|| "nothing".to_owned()),
        ]
    });
    output::text(&output::table(&columns, rows))
}

fn show(context: &Context, info: &ArchiveInfo, restored: &[RestoredEntry]) -> Result<()> {
    for entry in restored {
        for warning in &entry.report.warnings {
            context.warning(&format!("{}: {warning}", entry.record.meta.name));
        }
    }
    if context.global.json {
        return output::json(&json!({
            "archive": documents::archive_info(info),
            "dry_run": false,
            "entries": restored.iter().map(documents::restored).collect::<Value>(),
        }));
    }
    if context.global.quiet {
        return Ok(());
    }
    let text = restored.iter().fold(String::new(), |text, entry| {
        let (name, place) = (sanitize::line(&entry.record.meta.name), sanitize::line(&entry.destination));
        text + &format!("Restored {name} ({}) to {place}\n", amount(entry))
    });
    output::text(&text)
}

/// How much was restored: tables and rows where they are known, else bytes.
fn amount(entry: &RestoredEntry) -> String {
    let rows = entry.report.attributes.get(attribute::ROW_COUNTS);
    let rows = rows.map(|text| row_counts::from_json(text)).unwrap_or_default();
    match rows.len() as u64 {
        0 => output::size(entry.record.sizes.original_bytes),
        tables => {
            format!("{}, {}", output::count(tables, "table"), output::count(rows.values().sum(), "row"))
        }
    }
}
