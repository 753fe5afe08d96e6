//! `import-borg` and `import-restic`: archives of other programs' repositories, one after the other.

use dbvault_jobs::import::{Became, ForeignArchive, ImportRequest, ImportSummary, Program, import};
use dbvault_jobs::tar::default_directory;
use serde_json::{Value, json};

use crate::args::Import;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{output, report, sanitize};

pub(super) fn run(context: &Context, args: Import, program: Program) -> Result<()> {
    if program == Program::Borg && !args.dry_run && !rustix::process::geteuid().is_root() {
        context.warning("not as root: borg can't give files to their owners here, nor make devices");
    }
    if program == Program::Restic {
        context.note("restic dump gives whole seconds, and no other names of files, no pipes and no devices");
    }
    let request = ImportRequest {
        program,
        repository: args.repository,
        wanted: args.archives,
        prefix: args.prefix,
        dry_run: args.dry_run,
        spool: args.spool.unwrap_or_else(default_directory),
    };
    let repository = context.open()?;
    let progress = context.progress();
    let watcher: std::sync::Arc<dyn dbvault_jobs::Watcher> = progress.board();
    let mut rows = Vec::new();
    let mut told = |archive: &ForeignArchive, became: &Became| {
        progress.pause(|| tell(context, archive, became));
        rows.push(row(archive, became));
    };
    let done = import(&repository, &request, &context.interrupt(), &watcher, &mut told);
    drop(progress);
    context.write_metrics(&repository);
    let summary = done?;
    if context.global.json {
        output::json(&json!({
            "program": program.name(),
            "dry_run": request.dry_run,
            "archives": rows,
            "imported": summary.imported,
            "there": summary.there,
            "failed": summary.failed,
        }))?;
    }
    conclude(context, &request, &summary)
}

fn conclude(context: &Context, request: &ImportRequest, summary: &ImportSummary) -> Result<()> {
    let ImportSummary { imported, there, failed, problems } = *summary;
    if !request.dry_run {
        let imported = output::count(imported, "archive");
        context.note(&format!("{imported} imported, {there} there already, {failed} failed"));
    }
    match (failed, problems) {
        (0, 0) => Ok(()),
        (0, count) => Err(Error::FilesWanting { count }),
        (failed, _) => Err(Error::ImportIncomplete { failed }),
    }
}

/// Says what became of an archive, when it is known.
fn tell(context: &Context, archive: &ForeignArchive, became: &Became) {
    let name = sanitize::line(&archive.name);
    match became {
        Became::Wanting => context.note(&format!("{name}: would be imported")),
        Became::There => context.note(&format!("{name}: there already")),
        Became::Imported(report) => {
            for problem in &report.problems {
                context.warning(&format!("{name}: {}", sanitize::line(problem)));
            }
            context.note(&format!("{name}: {}, compared", output::count(report.files, "file")));
        }
        Became::Failed(error) => {
            context.warning(&format!("{name} is not imported: {}", report::of_job_in_a_line(error)));
        }
    }
}

fn row(archive: &ForeignArchive, became: &Became) -> Value {
    let mut row = json!({
        "id": archive.id,
        "name": archive.name,
        "started": output::utc_time(archive.started_ms),
        "host": archive.host,
        "user": archive.user,
        "comment": archive.comment,
        "tags": archive.tags,
    });
    let state = match became {
        Became::Wanting => "wanting",
        Became::There => "there",
        Became::Imported(report) => {
            row["files"] = report.files.into();
            row["problems"] = json!(report.problems);
            "imported"
        }
        Became::Failed(error) => {
            row["problem"] = report::of_job_in_a_line(error).into();
            "failed"
        }
    };
    row["state"] = state.into();
    row
}
