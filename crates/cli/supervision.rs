//! What stands around a command: the user's commands, monitors, metrics. All that the configuration says of them.

use std::cell::RefCell;
use std::path::PathBuf;

use dbvault_jobs::config::{Config, RepositoryEntry};
use dbvault_jobs::database::Database;
use dbvault_jobs::hooks::{Failure, Situation};
use dbvault_jobs::metrics::{ActionEnd, Metrics};
use dbvault_jobs::monitoring;
use dbvault_jobs::status::Overview;
use dbvault_jobs::supervise::{Named, Supervisor};
use dbvault_repo::{NoMonitor, Repository};
use jiff::Timestamp;

use crate::args::Command;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::exit_code::ExitCode;
use crate::{configuration, report, transcript};

/// What a command and those around it tell each other.
#[derive(Debug, Default)]
pub(crate) struct Supervised {
    /// The archive that was made or read, once it is known.
    archive: RefCell<String>,
    /// Repositories that a command of the user asked to leave out.
    left_out: RefCell<Vec<PathBuf>>,
}

impl Failure for Error {
    fn words(&self) -> String {
        report::in_a_line(self)
    }

    fn output(&self) -> String {
        report::tool_output(self).unwrap_or_default().to_owned()
    }

    fn exit_code(&self) -> u8 {
        ExitCode::of(self).number()
    }
}

/// The word for what is done, where something may stand around it: what reads or changes a repository's archives.
pub(crate) fn action(command: &Command) -> Option<&'static str> {
    match command {
        Command::Backup(_) => Some("backup"),
        Command::Restore(_) => Some("restore"),
        Command::Extract(_) | Command::ExportTar(_) => Some("extract"),
        Command::Tables(_) => Some("tables"),
        Command::Drill(_) => Some("drill"),
        Command::Check(_) => Some("check"),
        Command::Repair(_) => Some("repair"),
        Command::Prune(_) => Some("prune"),
        Command::Compact(_) => Some("compact"),
        Command::List(_) => Some("list"),
        Command::Show(_) => Some("show"),
        Command::Delete(_) => Some("delete"),
        _ => None,
    }
}

/// Does `work` with all that the configurations say around it.
pub(crate) fn around(context: &Context, action: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let configs = context.configs()?;
    if configs.iter().any(|config| monitoring::wants_log(&config.monitoring)) {
        transcript::begin();
    }
    let meant: usize = configs.iter().map(|config| repositories(context, config).len()).sum();
    nest(context, action, configs, meant, &mut Some(work))
}

/// One configuration within the other. `meant` repositories are there in all; where commands ask to leave all of
/// them out, `work` is not done.
fn nest<W: FnOnce() -> Result<()>>(
    context: &Context,
    action: &str,
    configs: &[Config],
    meant: usize,
    work: &mut Option<W>,
) -> Result<()> {
    let Some((config, others)) = configs.split_first() else {
        let nothing_left = meant > 0 && context.supervised.left_out.borrow().len() == meant;
        return work.take().filter(|_| !nothing_left).map_or(Ok(()), |work| work());
    };
    let repositories = repositories(context, config);
    // What is said of other repositories than the one that is meant is not for this run.
    if repositories.is_empty() {
        return nest(context, action, others, meant, work);
    }
    let named: Vec<Named> = repositories.iter().map(|(_, named)| named.clone()).collect();
    let leave_out = |kept: &[usize]| {
        let others = repositories.iter().enumerate().filter(|(place, _)| !kept.contains(place));
        context.supervised.left_out.borrow_mut().extend(others.map(|(_, (path, _))| path.clone()));
    };
    let warn = |warning: &dyn std::fmt::Display| context.warning(&warning.to_string());
    let supervisor = Supervisor {
        commands: &config.hooks,
        monitoring: &config.monitoring,
        configuration_filename: config
            .files
            .first()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        host: context.client()?.host,
        interrupt: context.interrupt(),
        warn: &warn,
        log: &transcript::text,
    };
    let started = Timestamp::now();
    let done = supervisor.run(action, &named, |kept, situation: &RefCell<Situation>| {
        leave_out(kept);
        let outcome = nest(context, action, others, meant, work);
        situation.borrow_mut().archive.clone_from(&context.supervised.archive.borrow());
        outcome
    });
    if let Ok(None) = done {
        context.note("Left out: a command of the configuration asked for that");
        leave_out(&[]);
        return nest(context, action, others, meant, work);
    }
    record_action(context, config, &named, action, started, done.is_ok());
    done.map(drop)
}

/// Repositories of `config` that are meant.
fn repositories(context: &Context, config: &Config) -> Vec<(PathBuf, Named)> {
    let given = context.repo_given();
    let meant = |entry: &&RepositoryEntry| given.is_none_or(|given| configuration::is_named(entry, given));
    let of_config = config.repositories.iter().filter(meant);
    let named = of_config.map(|entry| {
        let location = entry.path.display().to_string();
        (entry.path.clone(), Named { location, label: entry.label.clone().unwrap_or_default() })
    });
    named.collect()
}

/// That it was done, for metrics.
fn record_action(
    context: &Context,
    config: &Config,
    repositories: &[Named],
    action: &str,
    started: Timestamp,
    ok: bool,
) {
    let Some(prometheus) = &config.monitoring.prometheus else { return };
    if !dbvault_jobs::supervise::TOLD_ACTIONS.contains(&action) {
        return;
    }
    let ended_ms = Timestamp::now().as_millisecond();
    let duration_ms = u64::try_from(ended_ms - started.as_millisecond()).unwrap_or(0);
    for repository in repositories {
        let mut metrics = Metrics::default();
        metrics.add_action(&repository.location, &ActionEnd { action, ended_ms, duration_ms, ok });
        if let Err(error) = metrics.write(&prometheus.textfile, &repository.location) {
            context.warning(&format!("no metrics: {}", report::in_a_line(&error.into())));
        }
    }
}

impl Context {
    /// Tells those around the command which archive was made or read.
    pub(crate) fn archive_known(&self, name: &str) {
        name.clone_into(&mut self.supervised.archive.borrow_mut());
    }

    /// Whether a command of the user asked to leave this repository out.
    pub(crate) fn leaves_out(&self, path: &std::path::Path) -> bool {
        self.supervised.left_out.borrow().iter().any(|left_out| left_out == path)
    }

    /// Databases that the configuration wants backed up into the repository that is meant.
    pub(crate) fn databases_wanted(&self) -> Result<Vec<Database>> {
        let mut databases = Vec::new();
        for config in self.configs()? {
            if !repositories(self, config).is_empty() {
                databases.extend(config.databases.iter().cloned());
            }
        }
        Ok(databases)
    }

    /// Writes the metrics of `repository`, where the configuration asks for a file. A failure is a warning.
    pub(crate) fn write_metrics(&self, repository: &Repository) {
        if let Err(error) = self.try_write_metrics(repository) {
            self.warning(&format!("no metrics: {}", report::in_a_line(&error)));
        }
    }

    fn try_write_metrics(&self, repository: &Repository) -> Result<()> {
        let location = repository.location();
        for config in self.configs()? {
            let Some(prometheus) = &config.monitoring.prometheus else { continue };
            if repositories(self, config).iter().any(|(_, named)| named.location == location) {
                let overview = Overview::read(repository, &config.databases, std::sync::Arc::new(NoMonitor))?;
                Metrics::of(&location, &overview).write(&prometheus.textfile, &location)?;
            }
        }
        Ok(())
    }
}
