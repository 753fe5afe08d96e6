//! Commands of the user, run before and after what dbvault does.
//!
//! What a command wants to know stands in braces in its text, like `{repository}`. The values are never put into
//! the text: they are in environment variables, and each name in braces becomes a reference to one, quoted as its
//! place needs it. So whatever an error or a name holds, the shell never runs it. The text itself is not an argument
//! of the shell either: everybody on the machine could read it there.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dbvault_source::Interrupt;
use dbvault_source::process::{Captured, Program};

use crate::config::hooks::{CommandHook, Moment, Scope, State};
use crate::{Error, Result};

/// How long one command may take.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);
/// How long one command may take once the user has stopped what it belongs to.
pub const HOOK_TIMEOUT_INTERRUPTED: Duration = Duration::from_secs(60);
/// Exit status by which a command says: not now, and nothing is wrong.
const SKIP_CODE: i32 = 75;
/// Longest value that a command is given, bytes; of longer ones the end.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Environment variable that holds the text of the command.
const SCRIPT: &str = "DBVAULT_HOOK_SCRIPT";

/// What commands can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The configuration file.
    pub configuration_filename: String,
    /// Where the repository is.
    pub repository: String,
    /// What the user calls it.
    pub repository_label: String,
    /// What is done: `backup`, `prune` …
    pub action: String,
    /// The archive that was made or read, where it is known.
    pub archive: String,
    /// What went wrong, in words.
    pub error: String,
    /// What the program said that failed.
    pub output: String,
    /// The exit code that dbvault will end with.
    pub exit_code: String,
}

impl Situation {
    /// The same once the work has ended, well or with a failure.
    pub fn after<E: Failure>(mut self, failure: Option<&E>) -> Situation {
        if let Some(failure) = failure {
            (self.error, self.output) = (failure.words(), failure.output());
        }
        self.exit_code = failure.map_or(0, Failure::exit_code).to_string();
        self
    }

    /// Names that stand in braces, variables of the environment, and values.
    fn variables(&self) -> [(&'static str, &'static str, &str); 8] {
        [
            ("configuration_filename", "DBVAULT_HOOK_CONFIGURATION_FILENAME", &self.configuration_filename),
            ("repository", "DBVAULT_HOOK_REPOSITORY", &self.repository),
            ("repository_label", "DBVAULT_HOOK_REPOSITORY_LABEL", &self.repository_label),
            ("action", "DBVAULT_HOOK_ACTION", &self.action),
            ("archive", "DBVAULT_HOOK_ARCHIVE", &self.archive),
            ("error", "DBVAULT_HOOK_ERROR", &self.error),
            ("output", "DBVAULT_HOOK_OUTPUT", &self.output),
            ("exit_code", "DBVAULT_HOOK_EXIT_CODE", &self.exit_code),
        ]
    }
}

/// Which commands an error is about: never their text, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookName {
    /// Before or after.
    pub when: Moment,
    /// What.
    pub scope: Scope,
    /// Which of all that run then, from 1.
    pub number: usize,
}

impl fmt::Display for HookName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            Moment::Before => "before",
            Moment::After => "after",
        };
        let scope = match self.scope {
            Scope::Action => "the action",
            Scope::Repository => "the repository",
            Scope::Configuration => "the configuration",
            Scope::Everything => "everything",
            Scope::Error => "an error",
        };
        write!(out, "command {} {when} {scope}", self.number)
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Go,
    /// A command asks to leave this out for now.
    Skip,
}

/// Takes what the user should know although the work goes on.
pub type Warn<'a> = &'a dyn Fn(&dyn fmt::Display);

/// A failure, as commands and monitors are told of it.
pub trait Failure: From<Error> + fmt::Display {
    /// With its causes, in a line.
    fn words(&self) -> String {
        self.to_string()
    }

    /// What the program said that failed; empty where none did.
    fn output(&self) -> String {
        String::new()
    }

    /// The exit code that dbvault will end with.
    fn exit_code(&self) -> u8 {
        1
    }
}

impl Failure for Error {}

/// All commands of a configuration.
pub struct Hooks<'a> {
    commands: &'a [CommandHook],
    interrupt: Interrupt,
    warn: Warn<'a>,
}

impl<'a> Hooks<'a> {
    /// `interrupt` ends a command that runs before something; one that runs after has a little time, for it may
    /// clean up.
    pub fn new(commands: &'a [CommandHook], interrupt: Interrupt, warn: Warn<'a>) -> Hooks<'a> {
        Hooks { commands, interrupt, warn }
    }

    /// Does `work` between the commands of `scope`. `None` where a command before it asked to leave it out: then no
    /// command after it runs.
    ///
    /// Errors: that of `work`, else [`Error::Hook`]. Where a command before it fails, `work` is not done, and the
    /// commands after it run as after a failure.
    pub fn around<T, E: Failure>(
        &self,
        scope: Scope,
        situation: &RefCell<Situation>,
        work: impl FnOnce() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let begun = self.run(Moment::Before, scope, None, &situation.borrow().clone());
        let outcome = match begun {
            Ok(Flow::Go) => work(),
            Ok(Flow::Skip) => {
                tracing::info!("a command asked to leave it out this time");
                return Ok(None);
            }
            Err(error) => Err(error.into()),
        };
        let state = if outcome.is_ok() { State::Finish } else { State::Fail };
        let told = situation.borrow().clone().after(outcome.as_ref().err());
        match (self.run(Moment::After, scope, Some(state), &told), outcome) {
            (Err(error), Ok(_)) => Err(error.into()),
            // The first error is the one that tells.
            (Err(error), outcome) => {
                (self.warn)(&error);
                outcome
            }
            (Ok(_), outcome) => outcome,
        }
    }

    /// Runs the commands after an error. That one of them fails is a warning.
    pub fn after_error(&self, situation: &Situation) {
        if let Err(error) = self.run(Moment::After, Scope::Error, Some(State::Fail), situation) {
            (self.warn)(&error);
        }
    }

    /// Runs what the user wants at this moment, in the order of the configuration, until one fails or asks to skip.
    fn run(&self, when: Moment, scope: Scope, state: Option<State>, situation: &Situation) -> Result<Flow> {
        let wanted = |hook: &&CommandHook| {
            hook.when == when
                && hook.scope == scope
                && hook.concerns(&situation.action)
                && state.is_none_or(|state| hook.follows(state))
        };
        let texts = self.commands.iter().filter(wanted).flat_map(|hook| &hook.run);
        for (text, number) in texts.zip(1..) {
            let name = HookName { when, scope, number };
            let failed = |source| match source {
                dbvault_source::Error::Interrupted => Error::Interrupted,
                source => Error::Hook { name, source },
            };
            let ended = self.start(text, when, situation).map_err(failed)?;
            log(&name, &ended);
            if ended.code() == Some(SKIP_CODE) {
                return Ok(Flow::Skip);
            }
            ended.into_success().map_err(failed)?;
        }
        Ok(Flow::Go)
    }

    fn start(&self, text: &str, when: Moment, situation: &Situation) -> dbvault_source::Result<Captured> {
        let script = with_references(text, situation);
        let eval = format!("eval \"${SCRIPT}\"");
        let mut shell = Program::new("/bin/sh").label("the hook").arg("-c").arg(eval).env(SCRIPT, script);
        for (_, variable, value) in situation.variables() {
            shell = shell.env(variable, bounded(value));
        }
        let stopped = self.interrupt.load(Ordering::Relaxed);
        if when == Moment::After && stopped {
            return shell
                .timeout(HOOK_TIMEOUT_INTERRUPTED)
                .interrupt(&Arc::new(AtomicBool::new(false)))
                .run_captured();
        }
        shell.timeout(HOOK_TIMEOUT).interrupt(&self.interrupt).run_captured()
    }
}

fn log(name: &HookName, ended: &Captured) {
    String::from_utf8_lossy(&ended.stdout).lines().for_each(|line| tracing::info!("{name}: {line}"));
    ended.stderr.lines().for_each(|line| tracing::info!("{name}: {line}"));
}

/// The end of `value`, without the bytes that no variable can hold.
fn bounded(value: &str) -> String {
    let start = value.len().saturating_sub(VALUE_BYTES_MAX);
    value[value.ceil_char_boundary(start)..].replace('\0', "")
}

/// Where in a shell's text a place is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
}

/// `text` with a reference in place of each name in braces. Other braces stay, and so do those of the shell's own
/// `${name}`. A wrong guess about quotes would split a value into words, not run it.
fn with_references(text: &str, situation: &Situation) -> String {
    let variables = situation.variables();
    let (mut made, mut quotes, mut rest) = (String::new(), Quotes::None, text);
    while let Some(next) = rest.chars().next() {
        let named = |(name, ..): &&(&str, &str, &str)| {
            rest[1..].strip_prefix(name).is_some_and(|after| after.starts_with('}'))
        };
        let found = (next == '{' && !made.ends_with('$')).then(|| variables.iter().find(named)).flatten();
        if let Some((name, variable, _)) = found {
            made += &match quotes {
                Quotes::None => format!("\"${{{variable}}}\""),
                Quotes::Single => format!("'\"${{{variable}}}\"'"),
                Quotes::Double => format!("${{{variable}}}"),
            };
            rest = &rest[name.len() + 2..];
            continue;
        }
        let mut taken = next.len_utf8();
        match (next, quotes) {
            ('\\', Quotes::None | Quotes::Double) => {
                taken += rest[1..].chars().next().map_or(0, char::len_utf8);
            }
            ('\'', Quotes::None) => quotes = Quotes::Single,
            ('\'', Quotes::Single) | ('"', Quotes::Double) => quotes = Quotes::None,
            ('"', Quotes::None) => quotes = Quotes::Double,
            _ => {}
        }
        made += &rest[..taken];
        rest = &rest[taken..];
    }
    made
}

#[cfg(test)]
mod tests;
