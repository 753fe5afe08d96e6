//! What stands around every action: the user's commands, and those who are told.
//!
//! ```text
//! commands before everything
//!   commands before the configuration
//!     monitors: start
//!       commands before the repository, commands before the action, for each repository
//!         the action
//!       commands after the action, commands after the repository
//!     monitors: finish or fail
//!   commands after the configuration
//!   commands after an error
//! commands after everything
//! ```

use std::cell::{Cell, RefCell};

use dbvault_source::Interrupt;
use jiff::Timestamp;

use crate::Result;
use crate::config::hooks::{CommandHook, Scope};
use crate::config::monitoring::{Event, Monitoring};
use crate::hooks::{Failure, Hooks, Situation, Warn};
use crate::monitoring::{self, Message};

/// Actions that monitors are told of: those that run on a schedule.
pub const TOLD_ACTIONS: [&str; 5] = ["backup", "prune", "compact", "check", "drill"];

/// A repository, as commands and monitors are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Where it is.
    pub location: String,
    /// What the user calls it; may be empty.
    pub label: String,
}

/// What stands around an action.
pub struct Supervisor<'a> {
    /// The user's commands.
    pub commands: &'a [CommandHook],
    /// Who is told.
    pub monitoring: &'a Monitoring,
    /// The configuration file that both are from.
    pub configuration_filename: String,
    /// This machine.
    pub host: String,
    /// Set once the user wants the action to end.
    pub interrupt: Interrupt,
    /// Takes what the user should know although the work goes on.
    pub warn: Warn<'a>,
    /// Gives what was printed and logged so far; asked only where a monitor wants it.
    pub log: &'a dyn Fn() -> String,
}

impl Supervisor<'_> {
    /// Does `action` to `repositories` between the user's commands. `work` gets the places of those repositories
    /// that no command asked to leave out, and may say which archive it made. `None` where all were left out.
    ///
    /// Errors: that of `work`, else [`crate::Error::Hook`]. What can't be told to a monitor is a warning.
    pub fn run<T, E: Failure>(
        &self,
        action: &str,
        repositories: &[Named],
        work: impl FnOnce(&[usize], &RefCell<Situation>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let hooks = Hooks::new(self.commands, self.interrupt.clone(), self.warn);
        let first = repositories.first().cloned().unwrap_or_default();
        let situation = RefCell::new(Situation {
            configuration_filename: self.configuration_filename.clone(),
            repository: first.location,
            repository_label: first.label,
            action: action.to_owned(),
            ..Situation::default()
        });
        let started = Timestamp::now();
        let begun = Cell::new(false);
        let told_well = Cell::new(false);
        let tell = |event, failure: Option<&E>| self.tell(event, repositories, started, &situation, failure);
        hooks.around(Scope::Everything, &situation, || {
            let outcome = hooks.around(Scope::Configuration, &situation, || {
                tell(Event::Start, None);
                begun.set(true);
                let around = EachRepository { hooks: &hooks, repositories, situation: &situation };
                let outcome = around.run(0, &mut Vec::new(), &mut Some(work));
                match &outcome {
                    Ok(_) => tell(Event::Finish, None),
                    Err(failure) => tell(Event::Fail, Some(failure)),
                }
                told_well.set(outcome.is_ok());
                outcome
            });
            if let Err(failure) = &outcome {
                // A command before or after the configuration, of which nobody has heard yet.
                if !begun.get() || told_well.get() {
                    tell(Event::Fail, Some(failure));
                }
                hooks.after_error(&situation.borrow().clone().after(Some(failure)));
            }
            outcome
        })
    }

    fn tell<E: Failure>(
        &self,
        event: Event,
        repositories: &[Named],
        started: Timestamp,
        situation: &RefCell<Situation>,
        failure: Option<&E>,
    ) {
        let situation = situation.borrow();
        if !TOLD_ACTIONS.contains(&situation.action.as_str()) {
            return;
        }
        let ended = event != Event::Start;
        let took_ms = Timestamp::now().as_millisecond() - started.as_millisecond();
        let name =
            |named: &Named| if named.label.is_empty() { &named.location } else { &named.label }.clone();
        let message = Message {
            event,
            action: situation.action.clone(),
            host: self.host.clone(),
            repositories: repositories.iter().map(name).collect(),
            archive: Some(situation.archive.clone()).filter(|name| !name.is_empty()),
            started,
            duration_ms: ended.then(|| u64::try_from(took_ms).unwrap_or(0)),
            error: failure.map(Failure::words),
            exit_code: ended.then(|| failure.map_or(0, Failure::exit_code)),
            log: if ended && monitoring::wants_log(self.monitoring) { (self.log)() } else { String::new() },
        };
        for undelivered in monitoring::tell(self.monitoring, &message, &self.interrupt) {
            (self.warn)(&undelivered);
        }
    }
}

/// Commands around each repository, one within the other, and the work within them all.
struct EachRepository<'a> {
    hooks: &'a Hooks<'a>,
    repositories: &'a [Named],
    situation: &'a RefCell<Situation>,
}

impl EachRepository<'_> {
    /// Goes on with repository `at`; `kept` are those before it that are not left out. `work` is taken once it is
    /// done.
    fn run<T, E: Failure, W>(
        &self,
        at: usize,
        kept: &mut Vec<usize>,
        work: &mut Option<W>,
    ) -> Result<Option<T>, E>
    where
        W: FnOnce(&[usize], &RefCell<Situation>) -> Result<T, E>,
    {
        let Some(repository) = self.repositories.get(at) else {
            let nothing_left = kept.is_empty() && !self.repositories.is_empty();
            let work = work.take().filter(|_| !nothing_left);
            return work.map(|work| work(kept, self.situation)).transpose();
        };
        self.name(repository);
        let reached = Cell::new(false);
        let outcome = self.hooks.around(Scope::Repository, self.situation, || {
            self.hooks.around(Scope::Action, self.situation, || {
                reached.set(true);
                kept.push(at);
                let outcome = self.run(at + 1, kept, work);
                self.name(repository);
                outcome
            })
        });
        // Left out by a command: then it is the turn of the next one.
        if outcome.is_ok() && !reached.get() { self.run(at + 1, kept, work) } else { outcome }
    }

    fn name(&self, repository: &Named) {
        let mut situation = self.situation.borrow_mut();
        situation.repository.clone_from(&repository.location);
        situation.repository_label.clone_from(&repository.label);
    }
}

#[cfg(test)]
mod tests;
