//! Where the secret comes from that opens a repository.
//!
//! In this order, the first that is there: the key file (named on the command line or in the configuration),
//! `DBVAULT_PASSPHRASE`, `DBVAULT_PASSPHRASE_FILE`, `DBVAULT_PASSPHRASE_COMMAND`, the passphrase command of the
//! configuration, the passphrase in it, and last the person at the terminal. A new secret (`key add`, `key change-passphrase`) is taken
//! from `DBVAULT_NEW_PASSPHRASE` and its kin instead, so that old and new are never mixed up.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use dbvault_format::key_slot::{Secret, SlotKind};
use dbvault_source::Interrupt;
use dbvault_source::process::Program;
use zeroize::Zeroizing;

use crate::{Error, Result, key_file};

/// Longest passphrase that is read from a file or a command, bytes.
const PASSPHRASE_BYTES_MAX: u64 = 64 << 10;

/// Where a secret came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The key file at this path.
    KeyFile(PathBuf),
    /// An environment variable that holds the passphrase.
    Variable(String),
    /// A file that an environment variable names.
    PassphraseFile(PathBuf),
    /// A command, from an environment variable or the configuration.
    Command,
    /// The passphrase in the configuration.
    Configuration,
    /// A person.
    Prompt,
}

impl Origin {
    /// What kind of secret comes from there.
    pub fn kind(&self) -> SlotKind {
        match self {
            Origin::KeyFile(_) => SlotKind::KeyFile,
            _ => SlotKind::Passphrase,
        }
    }
}

/// A secret and where it came from.
#[derive(Debug)]
pub struct Found {
    /// The secret.
    pub secret: Secret,
    /// Its origin, for messages.
    pub origin: Origin,
}

/// Asks a person for a passphrase; `None` where nobody can be asked.
pub type Prompt<'a> = &'a mut dyn FnMut() -> Result<Option<Zeroizing<Vec<u8>>>>;

/// Places to look for a secret, apart from the person.
#[derive(Clone, Default)]
pub struct Places {
    /// Environment variable that holds the passphrase where there is one.
    pub variable: String,
    /// The key file.
    pub key_file: Option<PathBuf>,
    /// What the variable holds.
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
    /// A file whose first line is the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// A command for `/bin/sh -c` that prints the passphrase.
    pub passphrase_command: Option<OsString>,
    /// The passphrase in the configuration; last of all places.
    pub configured: Option<dbvault_source::Secret>,
    /// Stops the command.
    pub interrupt: Interrupt,
}

impl Places {
    /// What the environment says: the variable `name` holds the passphrase, `name` with `_FILE` behind it names a
    /// file, with `_COMMAND` a command.
    pub fn from_environment(name: &str, interrupt: &Interrupt) -> Places {
        Places {
            variable: name.to_owned(),
            key_file: None,
            passphrase: env::var_os(name).map(|value| Zeroizing::new(value.into_vec())),
            passphrase_file: env::var_os(format!("{name}_FILE")).map(PathBuf::from),
            passphrase_command: env::var_os(format!("{name}_COMMAND")),
            configured: None,
            interrupt: interrupt.clone(),
        }
    }

    /// The first secret that is there; `None` where neither a place nor the person gives one.
    /// Errors: a place is named but gives nothing, or an empty passphrase.
    pub fn find(&self, prompt: Prompt<'_>) -> Result<Option<Found>> {
        let (passphrase, origin) = if let Some(path) = &self.key_file {
            let secret = Secret::KeyFile(key_file::read(path)?);
            return Ok(Some(Found { secret, origin: Origin::KeyFile(path.clone()) }));
        } else if let Some(passphrase) = &self.passphrase {
            (passphrase.clone(), Origin::Variable(self.variable.clone()))
        } else if let Some(path) = &self.passphrase_file {
            (read_passphrase(path)?, Origin::PassphraseFile(path.clone()))
        } else if let Some(command) = &self.passphrase_command {
            (self.ask_command(command)?, Origin::Command)
        } else if let Some(passphrase) = &self.configured {
            (Zeroizing::new(passphrase.expose().as_bytes().to_vec()), Origin::Configuration)
        } else {
            match prompt()? {
                Some(passphrase) => (passphrase, Origin::Prompt),
                None => return Ok(None),
            }
        };
        if passphrase.is_empty() {
            return Err(Error::EmptyPassphrase);
        }
        Ok(Some(Found { secret: Secret::Passphrase(passphrase), origin }))
    }

    fn ask_command(&self, command: &OsString) -> Result<Zeroizing<Vec<u8>>> {
        let program = Program::new("/bin/sh").label("the passphrase command").arg("-c").arg(command);
        let captured = program.interrupt(&self.interrupt).run_captured();
        match captured.and_then(dbvault_source::process::Captured::into_success) {
            Ok(stdout) => Ok(first_line(Zeroizing::new(stdout))),
            Err(dbvault_source::Error::Interrupted) => Err(Error::Interrupted),
            Err(source) => Err(Error::PassphraseCommand { source }),
        }
    }
}

fn read_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // Room for all of it, so that no copy is left behind by a growing buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX as usize));
    let file = fs::File::open(path).map_err(Error::file("read", path))?;
    file.take(PASSPHRASE_BYTES_MAX).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    Ok(first_line(bytes))
}

/// The bytes up to the first line break: editors and `echo` put one at the end.
fn first_line(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> impl FnMut() -> Result<Option<Zeroizing<Vec<u8>>>> {
        || Ok(None)
    }

    fn passphrase(places: &Places) -> Vec<u8> {
        match places.find(&mut nobody()).unwrap().unwrap().secret {
            Secret::Passphrase(bytes) | Secret::KeyFile(bytes) => bytes.to_vec(),
        }
    }

    #[test]
    fn places_are_asked_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let (key, file) = (directory.path().join("key"), directory.path().join("passphrase"));
        let key_bytes = key_file::create(&key).unwrap();
        fs::write(&file, "from file\nsecond line\n").unwrap();
        let mut places = Places { passphrase_command: Some("echo from command".into()), ..Places::default() };
        assert_eq!(passphrase(&places), b"from command");
        places.passphrase_file = Some(file);
        assert_eq!(passphrase(&places), b"from file");
        places.passphrase = Some(Zeroizing::new(b"from variable".to_vec()));
        assert_eq!(passphrase(&places), b"from variable");
        places.key_file = Some(key);
        assert_eq!(passphrase(&places), *key_bytes);
    }

    #[test]
    fn a_person_is_asked_last() {
        let mut ask = || Ok(Some(Zeroizing::new(b"typed".to_vec())));
        let found = Places::default().find(&mut ask).unwrap().unwrap();
        assert_eq!(found.origin, Origin::Prompt);
        assert!(Places::default().find(&mut nobody()).unwrap().is_none());
    }

    #[test]
    fn a_named_place_that_gives_nothing_is_an_error() {
        let empty = Places { passphrase_command: Some("true".into()), ..Places::default() };
        assert!(matches!(empty.find(&mut nobody()), Err(Error::EmptyPassphrase)));
        let failing = Places { passphrase_command: Some("echo why >&2; exit 3".into()), ..Places::default() };
        let error = failing.find(&mut nobody()).unwrap_err();
        let Error::PassphraseCommand { source: dbvault_source::Error::ProgramFailed { stderr, .. } } = error
        else {
            panic!("{error}")
        };
        assert_eq!(stderr, "why");
        let absent = Places { passphrase_file: Some("/nonexistent".into()), ..Places::default() };
        assert!(matches!(absent.find(&mut nobody()), Err(Error::File { .. })));
    }
}
