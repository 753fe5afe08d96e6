//! What every command needs: the options that all share, the repository, its secrets, and how to speak.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dbvault_format::key_slot::{Secret, SlotKind};
use dbvault_jobs::config::Config;
use dbvault_jobs::place::{self, Place};
use dbvault_jobs::secrets::Places;
use dbvault_jobs::unlock::{self, Unlocked};
use dbvault_jobs::{Error as Job, client, key_file};
use dbvault_repo::{Client, Repository};
use zeroize::Zeroizing;

use crate::args::Global;
use crate::configuration::{self, Meant};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::prompt::Terminal;
use crate::report;
use crate::signals::Signals;
use crate::style::Style;
use crate::supervision::Supervised;

/// Environment variable of the passphrase; see [`Places::from_environment`].
const PASSPHRASE: &str = "DBVAULT_PASSPHRASE";
/// Likewise of a new one.
const NEW_PASSPHRASE: &str = "DBVAULT_NEW_PASSPHRASE";

/// What every command needs.
pub(crate) struct Context {
    /// The options that all commands share.
    pub(crate) global: Global,
    style: Style,
    pub(crate) signals: Signals,
    interrupt: Arc<AtomicBool>,
    /// What the command and those around it tell each other.
    pub(crate) supervised: Supervised,
    configs: OnceCell<Vec<Config>>,
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
        Context {
            global,
            style,
            signals: signals.clone(),
            interrupt: signals.interrupt(),
            supervised: Supervised::default(),
            configs: OnceCell::new(),
        }
    }

    /// Set once the user wants the command to end.
    pub(crate) fn interrupt(&self) -> Arc<AtomicBool> {
        self.interrupt.clone()
    }

    /// This run of the program.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(client::local(self.interrupt())?)
    }

    /// The configurations, one for each file that is meant; read once.
    pub(crate) fn configs(&self) -> Result<&[Config]> {
        if let Some(configs) = self.configs.get() {
            return Ok(configs);
        }
        let configs = configuration::load(&self.global)?;
        Ok(self.configs.get_or_init(|| configs))
    }

    /// What `--repo` says.
    pub(crate) fn repo_given(&self) -> Option<&Path> {
        self.global.repo.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// The repositories that are meant, not looked at yet, and what the configuration says of each.
    pub(crate) fn places_named(&self) -> Result<Vec<Meant>> {
        Ok(configuration::meant(self.repo_given(), self.configs()?))
    }

    /// The repository that is meant, where only one can be.
    pub(crate) fn place_named(&self) -> Result<Meant> {
        configuration::only(self.places_named()?)
    }

    /// Does `work` to each repository that is meant. One that fails does not stop the others: the first error is given
    /// back, the others are shown.
    pub(crate) fn each_place(&self, mut work: impl FnMut(&Meant) -> Result<()>) -> Result<()> {
        let places = self.places_named()?;
        if places.is_empty() {
            return Err(Job::RepositoryUnnamed.into());
        }
        let mut outcome = Ok(());
        for place in places.iter().filter(|(path, _)| !self.leaves_out(path)) {
            if places.len() > 1 {
                self.note(&format!("Repository {}:", place.0.display()));
            }
            match (work(place), &outcome) {
                (Ok(()), _) => {}
                (Err(error), Ok(())) => outcome = Err(error),
                (Err(error), Err(_)) => self.failure(&error),
            }
            if self.interrupt.load(Ordering::Relaxed) {
                break;
            }
        }
        outcome
    }

    /// Opens the repository.
    pub(crate) fn open(&self) -> Result<Repository> {
        Ok(self.unlock(Accept::Any)?.repository)
    }

    /// Opens the repository and tells where the secret came from.
    pub(crate) fn unlock(&self, accept: Accept) -> Result<Unlocked> {
        self.unlock_place(self.place_named()?, accept)
    }

    /// Opens one of several repositories.
    pub(crate) fn unlock_place(&self, (path, config): Meant, accept: Accept) -> Result<Unlocked> {
        let place = place::find(&path)?;
        let secrets = self.secrets(&place, config, accept, (PASSPHRASE, self.key_file()))?;
        self.unlock_with(&place, &secrets)
    }

    /// Opens a second repository, a path or a label. What the first one is opened with is not for it: its secret comes from
    /// `key_file`, from what the configuration says of it, or from the variable `variable` and its kin.
    pub(crate) fn unlock_other(
        &self,
        named: &Path,
        key_file: Option<PathBuf>,
        variable: &str,
    ) -> Result<Unlocked> {
        let (path, config) = configuration::only(configuration::meant(Some(named), self.configs()?))?;
        let place = place::find(&path)?;
        let key_file = key_file.filter(|path| !path.as_os_str().is_empty());
        let secrets = self.secrets(&place, config, Accept::Any, (variable, key_file))?;
        self.unlock_with(&place, &secrets)
    }

    fn unlock_with(&self, place: &Place, secrets: &Places) -> Result<Unlocked> {
        let location = place.storage.location();
        let asked = format!("Passphrase for {location}: ");
        let mut prompt = || self.ask_passphrase(&asked);
        let mut wrong = || self.warning("wrong passphrase, try again");
        Ok(unlock::unlock(place, &self.client()?, secrets, &mut prompt, &mut wrong)?)
    }

    /// Places to look for the secret of a repository: `variable` is that of its passphrase, `key_file` is given.
    fn secrets(
        &self,
        place: &Place,
        config: Config,
        accept: Accept,
        (variable, key_file): (&str, Option<PathBuf>),
    ) -> Result<Places> {
        let mut secrets = Places::from_environment(variable, &self.interrupt);
        let fits = |kind| place.slot_kinds.contains(&kind);
        if accept == Accept::Passphrase && !fits(SlotKind::Passphrase) {
            return Err(Job::NotAPassphrase { kind: SlotKind::KeyFile }.into());
        }
        if accept == Accept::Any {
            let configured = config.key_file.filter(|_| fits(SlotKind::KeyFile));
            secrets.key_file = key_file.or(configured);
        }
        if secrets.passphrase_command.is_none() && config.passphrase.is_none() {
            secrets.passphrase_command = config.passphrase_command.map(Into::into);
        }
        secrets.configured = config.passphrase;
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

    /// Tells of an error that does not end the command.
    pub(crate) fn failure(&self, error: &Error) {
        report::error(error, self.style);
    }

    fn warn_of_readers(&self, path: &Path) {
        if key_file::readable_by_others(path) {
            self.warning(&format!("others than its owner may read {}", path.display()));
        }
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
