//! Running dbvault by itself: a systemd timer, or a line of a crontab.
//!
//! What is installed is made of text that a person would have written, in the places where a person would look.

mod cron;
mod systemd;

use std::path::{Path, PathBuf};

use dbvault_source::Interrupt;
use dbvault_source::process::Program;

use crate::{Error, Result};

pub use systemd::SystemdFiles;

/// How long a program of the system may take.
const PROGRAM_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// When it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Every day, at this hour and minute.
    Daily {
        /// 0 to 23.
        hour: u8,
        /// 0 to 59.
        minute: u8,
    },
    /// A calendar event of systemd, in its own words.
    Calendar(String),
    /// Five fields of cron.
    Cron(String),
}

/// Who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// systemd, for all of the system.
    System,
    /// systemd of the user.
    User,
    /// The user's crontab.
    Cron,
}

/// What is to be run, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// When.
    pub when: When,
    /// The program; an absolute path.
    pub program: PathBuf,
    /// Its arguments before the action.
    pub global_args: Vec<String>,
    /// Actions, run one after the other until one fails, each with its arguments.
    pub actions: Vec<Vec<String>>,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Files that were written or removed, with their text; a crontab is `crontab`.
    pub files: Vec<(String, String)>,
    /// Whether anything is different from before.
    pub changed: bool,
}

/// Where things are: of this machine, or of a test.
#[derive(Clone, Debug)]
pub struct Places {
    /// Directory of the units of the system.
    pub system_units: PathBuf,
    /// Directory of the units of the user.
    pub user_units: PathBuf,
    /// A directory that is there where systemd runs.
    pub systemd_runs: PathBuf,
    /// Whether the user is root.
    pub is_root: bool,
    /// Stops programs.
    pub interrupt: Interrupt,
}

impl Places {
    /// Those of this machine and this user. Errors: [`Error::NoHome`].
    pub fn of_this_machine(interrupt: &Interrupt) -> Result<Places> {
        use etcetera::BaseStrategy;
        let base = etcetera::choose_base_strategy().map_err(|_| Error::NoHome)?;
        Ok(Places {
            system_units: "/etc/systemd/system".into(),
            user_units: base.config_dir().join("systemd/user"),
            systemd_runs: "/run/systemd/system".into(),
            is_root: rustix::process::geteuid().is_root(),
            interrupt: interrupt.clone(),
        })
    }

    /// Who can run it here: systemd where it runs, for all of the system where the user is root; else cron.
    pub fn keeper(&self) -> Keeper {
        match (self.systemd_runs.is_dir(), self.is_root) {
            (false, _) => Keeper::Cron,
            (true, true) => Keeper::System,
            (true, false) => Keeper::User,
        }
    }

    fn program(&self, name: &str) -> Program {
        Program::new(name).timeout(PROGRAM_TIMEOUT).interrupt(&self.interrupt)
    }
}

/// Installs `plan` with `keeper`, in place of what was installed before. With `dry_run` only tells.
///
/// Errors: [`Error::Schedule`] for a time that the keeper can't do or does not understand, or when a program of the
/// system fails; files that can't be written.
pub fn install(places: &Places, keeper: Keeper, plan: &Plan, dry_run: bool) -> Result<Done> {
    match keeper {
        Keeper::Cron => cron::install(places, plan, dry_run),
        _ => systemd::install(places, keeper, plan, dry_run),
    }
}

/// What is installed with `keeper`; no file where nothing is.
pub fn show(places: &Places, keeper: Keeper) -> Result<Done> {
    match keeper {
        Keeper::Cron => cron::show(places),
        _ => systemd::show(places, keeper),
    }
}

/// Takes away what is installed with `keeper`. Nothing to take away is no error.
pub fn remove(places: &Places, keeper: Keeper, dry_run: bool) -> Result<Done> {
    match keeper {
        Keeper::Cron => cron::remove(places, dry_run),
        _ => systemd::remove(places, keeper, dry_run),
    }
}

/// A program of the system failed, or does not know what it was asked.
fn failed(what: &str) -> impl FnOnce(dbvault_source::Error) -> Error {
    let what = what.to_owned();
    move |source| match source {
        dbvault_source::Error::Interrupted => Error::Interrupted,
        source => Error::Schedule { what, source: Some(source) },
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

#[cfg(test)]
mod tests;
