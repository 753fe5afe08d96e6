//! What every command needs: the options that all share, the repository, its secrets, and how to speak.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dbvault_format::key_slot::{Secret, SlotKind};
use dbvault_jobs::config::{self, Config};
use dbvault_jobs::place::{self, Place};
use dbvault_jobs::secrets::Places;
use dbvault_jobs::unlock::{self, Unlocked};
use dbvault_jobs::{Error as Job, client, key_file};
use dbvault_repo::{Client, Repository};
use zeroize::Zeroizing;

use crate::args::Global;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::prompt::Terminal;
use crate::report;
use crate::signals::Signals;
use crate::style::Style;

/// Environment variable of the passphrase; see [`Places::from_environment`].
const PASSPHRASE: &str = "DBVAULT_PASSPHRASE";
/// Likewise of a new one.
const NEW_PASSPHRASE: &str = "DBVAULT_NEW_PASSPHRASE";

/// What every command needs.
pub(crate) struct Context {
    /// The options that all commands share.
    pub(crate) global: Global,
    style: Style,
    interrupt: Arc<AtomicBool>,
}

/// Which secrets may open the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    /// Any.
    Any,
    /// A passphrase only.
    Passphrase,
}

impl Context {
    pub(crate) fn new(global: Global, style: Style, signals: &Signals) -> Context {
        Context { global, style, interrupt: signals.interrupt() }
    }

    /// Set once the user wants the command to end.
    pub(crate) fn interrupt(&self) -> Arc<AtomicBool> {
        self.interrupt.clone()
    }

    /// This run of the program.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(client::local(self.interrupt())?)
    }

    /// The repository that is meant, not looked at yet, and what the configuration says of it.
    pub(crate) fn place_named(&self) -> Result<(PathBuf, Config)> {
        let given = self.global.repo.clone().filter(|path| !path.as_os_str().is_empty());
        let config = Config::load(&config::path()?)?;
        match (given, config.repository.clone()) {
            (Some(given), Some(default)) if same_place(&given, &default) => Ok((given, config)),
            // What the configuration says of keys is about its own repository.
            (Some(given), _) => Ok((given, Config::default())),
            (None, Some(default)) => Ok((default, config)),
            (None, None) => Err(Job::RepositoryUnnamed.into()),
        }
    }

    /// Opens the repository.
    pub(crate) fn open(&self) -> Result<Repository> {
        Ok(self.unlock(Accept::Any)?.repository)
    }

    /// Opens the repository and tells where the secret came from.
    pub(crate) fn unlock(&self, accept: Accept) -> Result<Unlocked> {
        let (path, config) = self.place_named()?;
        let place = place::find(&path)?;
        let secrets = self.secrets(&place, config, accept)?;
        let location = place.storage.location();
        let asked = format!("Passphrase for {location}: ");
        let mut prompt = || self.ask_passphrase(&asked);
        let mut wrong = || self.warning("wrong passphrase, try again");
        Ok(unlock::unlock(&place, &self.client()?, &secrets, &mut prompt, &mut wrong)?)
    }

    /// Places to look for the secret of a repository.
    fn secrets(&self, place: &Place, config: Config, accept: Accept) -> Result<Places> {
        let mut secrets = Places::from_environment(PASSPHRASE, &self.interrupt);
        let fits = |kind| place.slot_kinds.contains(&kind);
        if accept == Accept::Passphrase && !fits(SlotKind::Passphrase) {
            return Err(Job::NotAPassphrase { kind: SlotKind::KeyFile }.into());
        }
        if accept == Accept::Any {
            let configured = config.key_file.filter(|_| fits(SlotKind::KeyFile));
            secrets.key_file = self.key_file().or(configured);
        }
        if secrets.passphrase_command.is_none() {
            secrets.passphrase_command = config.passphrase_command.map(Into::into);
        }
        if let Some(path) = &secrets.key_file {
            self.warn_of_readers(path);
        }
        Ok(secrets)
    }

    /// The key file of the command line.
    pub(crate) fn key_file(&self) -> Option<PathBuf> {
        self.global.key_file.clone().filter(|path| !path.as_os_str().is_empty())
    }

    /// The secret for a new repository.
    pub(crate) fn first_secret(&self, location: &str, key_file: Option<&Path>) -> Result<Secret> {
        self.new_secret_from(PASSPHRASE, location, key_file)
    }

    /// The secret for a new key slot.
    pub(crate) fn new_secret(&self, location: &str, key_file: Option<&Path>) -> Result<Secret> {
        self.new_secret_from(NEW_PASSPHRASE, location, key_file)
    }

    /// A key file that is not there is made.
    fn new_secret_from(&self, variable: &str, location: &str, key_file: Option<&Path>) -> Result<Secret> {
        if let Some(path) = key_file {
            if path.exists() {
                self.warn_of_readers(path);
                return Ok(Secret::KeyFile(key_file::read(path)?));
            }
            return Ok(Secret::KeyFile(key_file::create(path)?));
        }
        let secrets = Places::from_environment(variable, &self.interrupt);
        let mut prompt = || self.ask_new_passphrase(location);
        Ok(unlock::new_secret(location, &secrets, &mut prompt)?)
    }

    fn ask_passphrase(&self, question: &str) -> dbvault_jobs::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(terminal) = Terminal::open(&self.interrupt) else { return Ok(None) };
        terminal.ask_secret(question).map(Some).map_err(into_job)
    }

    /// Asked twice: nobody sees what is typed.
    fn ask_new_passphrase(&self, location: &str) -> dbvault_jobs::Result<Option<Zeroizing<Vec<u8>>>> {
        let question = format!("New passphrase for {location}: ");
        let Some(first) = self.ask_passphrase(&question)? else { return Ok(None) };
        if first.is_empty() {
            return Err(Job::EmptyPassphrase);
        }
        match self.ask_passphrase("The same again: ")? {
            Some(second) if second == first => Ok(Some(first)),
            _ => Err(Job::PassphrasesDiffer),
        }
    }

    /// Asks `question` before `action`, which can't be taken back.
    pub(crate) fn confirm(&self, question: &str, action: &str) -> Result<bool> {
        match Terminal::open(&self.interrupt) {
            Some(terminal) => terminal.ask_yes(question),
            None => Err(Error::NobodyToAsk { action: action.to_owned() }),
        }
    }

    /// Shows progress from now on.
    pub(crate) fn progress(&self) -> Progress {
        Progress::start(self.global.quiet, self.global.verbose > 0)
    }

    /// What new key slots are called where the user does not say.
    pub(crate) fn default_label(&self) -> Result<String> {
        let Client { host, user, .. } = self.client()?;
        let mut label = format!("{user}@{host}");
        while label.len() > dbvault_format::key_slot::LABEL_BYTES_MAX {
            label.pop();
        }
        Ok(label)
    }

    /// Says something good to know, unless `-q` forbids it.
    pub(crate) fn note(&self, text: &str) {
        if !self.global.quiet {
            report::note(text);
        }
    }

    /// Warns.
    pub(crate) fn warning(&self, text: &str) {
        report::warning(text, self.style);
    }

    fn warn_of_readers(&self, path: &Path) {
        if key_file::readable_by_others(path) {
            self.warning(&format!("others than its owner may read {}", path.display()));
        }
    }
}

/// True where both paths lead to one directory.
fn same_place(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// A prompt's failure, for the job that asked.
fn into_job(error: Error) -> Job {
    match error {
        Error::Job(job) => job,
        Error::Terminal(source) => Job::Output { output: "the terminal".into(), source },
        other => {
            Job::Output { output: "the terminal".into(), source: std::io::Error::other(other.to_string()) }
        }
    }
}
