//! `backup`: one archive of everything that is named.

use dbvault_jobs::backup::{BackupOutcome, BackupRequest, backup};
use dbvault_jobs::registry::{self, Server, SourceSpec};
use dbvault_jobs::{Error as Job, Result as JobResult};

use super::entry_table;
use crate::args::Backup;
use crate::context::Context;
use crate::error::Result;
use crate::{documents, output};

pub(super) fn run(context: &Context, args: Backup) -> Result<()> {
    let Backup { sources, server, archive, comment } = args;
    if sources.0.is_empty() {
        return Err(Job::NoSources.into());
    }
    warn_of_passwords(context, &sources.0);
    let server = Server { host: server.host, port: server.port, user: server.username };
    let interrupt = context.interrupt();
    let made = sources.0.into_iter().map(|spec| registry::source(spec, &server, &interrupt));
    let made = made.collect::<JobResult<Vec<_>>>()?;
    let repository = context.open()?;
    let host = context.client()?.host;
    let request = BackupRequest { archive_name: archive, comment };
    let progress = context.progress();
    let outcome = backup(&repository, &host, made, request, progress.board());
    drop(progress);
    if matches!(outcome, Err(Job::Interrupted)) {
        context.note("Stopped: there is no archive; what was stored is kept and used by the next backup");
    }
    show(context, &outcome?)
}

fn show(context: &Context, outcome: &BackupOutcome) -> Result<()> {
    let BackupOutcome { manifest, entries } = outcome;
    if context.global.json {
        let archive = documents::archive(manifest);
        return output::json(&documents::archive_with_entries(archive, entries));
    }
    for warning in entry_table::warnings(entries) {
        context.warning(&warning);
    }
    if context.global.quiet {
        return Ok(());
    }
    let sizes = &manifest.sizes;
    let took_ms = u64::try_from(manifest.finished_ms - manifest.started_ms).unwrap_or(0);
    output::text(&format!(
        "{}\nArchive {} ({}): {} read, {} new, {} stored in {}\n",
        entry_table::with_sizes(entries),
        crate::sanitize::line(&manifest.name),
        super::list::short_id(manifest),
        output::size(sizes.original_bytes),
        output::size(sizes.new_bytes),
        output::size(sizes.stored_bytes),
        output::duration(took_ms),
    ))
}

/// The list of processes shows it to everybody.
fn warn_of_passwords(context: &Context, sources: &[SourceSpec]) {
    let holds_password = |spec: &SourceSpec| match spec {
        SourceSpec::Postgres { database, .. } => registry::holds_password(database),
        _ => false,
    };
    if sources.iter().any(holds_password) {
        context.warning(
            "everybody on this machine can read a password on the command line; \
             PGPASSWORD and ~/.pgpass keep it private",
        );
    }
}
