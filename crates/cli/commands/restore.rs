//! `restore`: puts databases back from an archive.

use dbvault_jobs::registry::{Server, TargetSpec};
use dbvault_jobs::restore::{PlannedEntry, RestorePlan, RestoredEntry};
use dbvault_jobs::{Error as Job, Result as JobResult};
use dbvault_repo::{ArchiveInfo, Error as Repo, Repository};
use serde_json::{Value, json};

use super::list::archive_words;
use crate::args::Restore;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{self, Column};
use crate::{documents, sanitize};

pub(super) fn run(context: &Context, args: Restore) -> Result<()> {
    let repository = context.open()?;
    let info = living(&repository, &args.archive)?;
    let progress = context.progress();
    let reader = repository.reader(progress.board())?;
    let entries = reader.entries(&info.manifest)?;
    let spec = target_spec(&args);
    let archive = &info.manifest.name;
    let plan = RestorePlan::make(archive, &entries, &args.databases, &spec, &context.interrupt())?;
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

/// The archive that is meant; a deleted one may lose its data at any time.
pub(super) fn living(repository: &Repository, wanted: &str) -> Result<ArchiveInfo> {
    let info = repository.find_archive(wanted)?;
    match info.deleted_ms {
        None => Ok(info),
        Some(_) => Err(Repo::ArchiveState { id: info.manifest.id, state: "deleted" }.into()),
    }
}

fn target_spec(args: &Restore) -> TargetSpec {
    let server = args.server.clone();
    TargetSpec {
        to: args.to.clone(),
        server: Server { host: server.host, port: server.port, user: server.username },
        no_owner: args.no_owner,
        no_privileges: args.no_privileges,
        no_tablespaces: args.no_tablespaces,
        keep_old: args.keep_old,
    }
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
                "name": item.record.meta.name,
                "kind": item.record.meta.kind.name(),
                "original_bytes": item.record.sizes.original_bytes,
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
            item.record.meta.name.clone(),
            output::size(item.record.sizes.original_bytes),
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
        text + &format!("Restored {name} ({}) to {place}\n", output::size(entry.record.sizes.original_bytes))
    });
    output::text(&text)
}
