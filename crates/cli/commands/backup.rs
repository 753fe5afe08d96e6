//! `backup`: one archive of everything that is named.

use dbvault_jobs::archive_name::archive_name;
use dbvault_jobs::backup::{BackupOutcome, BackupReport, BackupRequest, backup};
use dbvault_jobs::config::Config;
use dbvault_jobs::registry::{self, SourceSpec};
use dbvault_jobs::tree_backup::TreeRequest;
use dbvault_jobs::{Error as Job, Result as JobResult, configured};
use dbvault_repo::Client;
use dbvault_source::Source;
use jiff::Zoned;

use super::{entry_table, tree};
use crate::args::{Backup, Server};
use crate::configuration::{self, Meant};
use crate::context::{Accept, Context};
use crate::error::{Error, Result};
use crate::{documents, output};

pub(super) fn run(context: &Context, args: Backup) -> Result<()> {
    let files = tree::request(&args.files)?;
    if args.sources.0.is_empty() && files.is_none() {
        return configured(context, &args);
    }
    warn_of_passwords(context, &args.sources.0);
    let Server { host, port, username: user } = args.server.clone();
    let server = registry::Server { host, port, user };
    let interrupt = context.interrupt();
    let made = args.sources.0.iter().map(|spec| registry::named(spec.clone(), &server, &interrupt));
    let made = made.collect::<JobResult<Vec<_>>>()?.into_iter().flatten().collect();
    let what = What { sources: made, files, name_format: None };
    store(context, &args, context.places_named()?, what)
}

/// All that the configurations ask for, one after the other. One that fails does not stop the next.
fn configured(context: &Context, args: &Backup) -> Result<()> {
    let configs: Vec<&Config> = context.configs()?.iter().filter(|config| config.has_sources()).collect();
    if configs.is_empty() {
        return Err(Job::NoSources.into());
    }
    let known = configuration::meant(context.repo_given(), context.configs()?);
    let is_known = known.iter().all(|(_, config)| !config.files.is_empty());
    let mut failure = None;
    for config in configs {
        let places = if is_known {
            configuration::meant(context.repo_given(), std::slice::from_ref(config))
        } else {
            known.clone()
        };
        // What --repo names is a repository of another file.
        if is_known && places.iter().any(|(_, config)| config.files.is_empty()) {
            continue;
        }
        let done = configured_one(context, args, config, places);
        if let Some(previous) = done.err().and_then(|error| failure.replace(error)) {
            context.failure(&previous);
        }
    }
    failure.map_or(Ok(()), Err)
}

fn configured_one(context: &Context, args: &Backup, config: &Config, places: Vec<Meant>) -> Result<()> {
    for warning in &config.warnings {
        context.warning(&warning.to_string());
    }
    let sources = configured::sources(config, &context.interrupt())?;
    let mut files = configured::files(config)?;
    if let Some(files) = &mut files {
        files.snapshots = tree::snapshots(args.files.snapshot, std::mem::take(&mut files.snapshots));
    }
    let what = What { sources, files, name_format: config.archive_name_format.as_deref() };
    store(context, args, places, what)
}

/// What one archive is made of.
struct What<'a> {
    sources: Vec<Box<dyn Source>>,
    files: Option<TreeRequest>,
    name_format: Option<&'a str>,
}

/// Reads `what` into an archive of each repository. One that can't be opened does not stop the others.
fn store(context: &Context, args: &Backup, places: Vec<Meant>, what: What) -> Result<()> {
    let What { sources, files, name_format } = what;
    let (mut repositories, mut unopened) = (Vec::new(), Vec::new());
    let (left_out, places): (Vec<Meant>, Vec<Meant>) =
        places.into_iter().partition(|(path, _)| context.leaves_out(path));
    if places.is_empty() && !left_out.is_empty() {
        return Ok(());
    }
    for place in places {
        match context.unlock_place(place, Accept::Any) {
            Ok(unlocked) => repositories.push(unlocked.repository),
            Err(error) => unopened.push(error),
        }
    }
    let first = |errors: Vec<Error>| errors.into_iter().next();
    if repositories.is_empty() {
        return Err(first(unopened).unwrap_or(Job::RepositoryUnnamed.into()));
    }
    let Client { host, user, .. } = context.client()?;
    let name = |format| archive_name(format, &host, &user, &Zoned::now());
    let request = BackupRequest {
        archive_name: args.archive.clone().or_else(|| name_format.map(name)),
        comment: args.comment.clone(),
        made_at: args.timestamp,
        lanes: args.parallel.map(usize::from),
        all_or_nothing: args.all_or_nothing,
        files,
    };
    let progress = context.progress();
    let report = backup(&repositories, &host, sources, &request, progress.board());
    drop(progress);
    repositories.iter().for_each(|repository| context.write_metrics(repository));
    if matches!(report, Err(Job::Interrupted)) {
        context.note("Stopped: there is no archive; what was stored is kept and used by the next backup");
    }
    unopened.iter().for_each(|error| context.failure(error));
    conclude(context, report?)?;
    first(unopened).map_or(Ok(()), Err)
}

/// Shows every archive, then what is missing.
fn conclude(context: &Context, report: BackupReport) -> Result<()> {
    let BackupReport { outcomes, failed, files } = report;
    let (mut archive, mut failure) = (String::new(), None);
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => {
                show(context, &outcome)?;
                archive = outcome.manifest.name;
                context.archive_known(&archive);
            }
            Err(error) => drop(failure.get_or_insert(error)),
        }
    }
    for problem in files.iter().flat_map(|files| &files.left) {
        context.warning(&format!("a snapshot is left, which the next backup drops: {problem}"));
    }
    let missing = failed.len();
    for (_, error) in failed {
        context.failure(&Error::LeftOut(error));
    }
    match failure {
        Some(error) => Err(error.into()),
        None if missing > 0 => Err(Error::Incomplete { archive, missing }),
        None => match files.map_or(0, |files| files.problem_count) {
            0 => Ok(()),
            count => Err(Error::FilesWanting { count }),
        },
    }
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
        SourceSpec::Server { address, .. } => registry::holds_password(address),
        _ => false,
    };
    if sources.iter().any(holds_password) {
        context.warning(
            "everybody on this machine can read a password on the command line; \
             PGPASSWORD and ~/.pgpass keep it private",
        );
    }
}
