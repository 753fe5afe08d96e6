//! Which configuration files are read, and which of their repositories a command is about.

use std::path::{Path, PathBuf};

use dbvault_jobs::Error as Job;
use dbvault_jobs::config::{self, Config, RepositoryEntry};

use crate::args::Global;
use crate::error::Result;

/// A repository, and what the configuration says of it: its keys are in the place of those of the whole file.
pub(crate) type Meant = (PathBuf, Config);

/// The configuration files that are meant: those of `--config` and `DBVAULT_CONFIG`, or the usual ones.
pub(crate) fn files(global: &Global) -> Result<Vec<PathBuf>> {
    let given: Vec<PathBuf> =
        global.config.iter().filter(|path| !path.as_os_str().is_empty()).cloned().collect();
    if given.is_empty() { Ok(config::usual_files()?.files) } else { Ok(given) }
}

/// The file that `init` and `config generate` write where nobody says which.
pub(crate) fn own_file(global: &Global) -> Result<PathBuf> {
    match global.config.iter().find(|path| !path.as_os_str().is_empty()) {
        Some(path) => Ok(path.clone()),
        None => Ok(config::user_file()?),
    }
}

/// Reads all of them.
pub(crate) fn load(global: &Global) -> Result<Vec<Config>> {
    let configs = files(global)?.iter().map(|path| Config::load(path)).collect::<Result<Vec<_>, Job>>();
    Ok(configs?)
}

/// The repositories of `configs` that `given`, a path or a label, names; all where nothing is given. A path that no
/// configuration knows is meant as it is.
pub(crate) fn meant(given: Option<&Path>, configs: &[Config]) -> Vec<Meant> {
    let Some(given) = given else { return configured(configs, |_| true) };
    let found = configured(configs, |entry| is_named(entry, given));
    // What the configuration says of keys is about its own repositories.
    if found.is_empty() { vec![(given.to_owned(), Config::default())] } else { found }
}

/// The only one of several.
pub(crate) fn only(mut all: Vec<Meant>) -> Result<Meant> {
    if all.len() > 1 {
        let names = all.iter().map(|(path, config)| name(path, config)).collect();
        return Err(Job::RepositoryUnchosen { names }.into());
    }
    Ok(all.pop().ok_or(Job::RepositoryUnnamed)?)
}

fn name(path: &Path, config: &Config) -> String {
    let entry = config.repositories.iter().find(|entry| entry.path == path);
    let label = entry.and_then(|entry| entry.label.clone());
    label.unwrap_or_else(|| path.display().to_string())
}

fn configured(configs: &[Config], wanted: impl Fn(&RepositoryEntry) -> bool) -> Vec<Meant> {
    let mut all: Vec<Meant> = Vec::new();
    for config in configs {
        for entry in config.repositories.iter().filter(|entry| wanted(entry)) {
            if !all.iter().any(|(path, _)| same_place(path, &entry.path)) {
                all.push((entry.path.clone(), with_keys_of(config, entry)));
            }
        }
    }
    all
}

fn with_keys_of(config: &Config, entry: &RepositoryEntry) -> Config {
    let mut config = config.clone();
    if let Some(command) = &entry.passphrase_command {
        config.passphrase_command = Some(command.clone());
        config.key_file = None;
    }
    config.key_file = entry.key_file.clone().or(config.key_file);
    config
}

pub(crate) fn is_named(entry: &RepositoryEntry, given: &Path) -> bool {
    let label = entry.label.as_deref();
    label.is_some() && label == given.to_str() || same_place(&entry.path, given)
}

/// True where both paths lead to one directory.
pub(crate) fn same_place(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("/c.yaml"), text).expect("a configuration")
    }

    #[test]
    fn labels_and_paths_name_repositories() {
        let configs = [
            config("key_file: /k\nrepositories: [{path: /a, label: one}, {path: /b, passphrase_command: p}]"),
            config("repositories: [{path: /c, label: three, key_file: /k3}, /a]"),
        ];
        let paths = |given: Option<&str>| {
            let all = meant(given.map(Path::new), &configs).into_iter();
            all.map(|(path, config)| (path.display().to_string(), config.key_file.is_some()))
                .collect::<Vec<_>>()
        };
        let pair = |path: &str, has_key| (path.to_owned(), has_key);
        assert_eq!(paths(None), [pair("/a", true), pair("/b", false), pair("/c", true)]);
        assert_eq!(paths(Some("three")), [pair("/c", true)]);
        assert_eq!(paths(Some("/b")), [pair("/b", false)]);
        assert_eq!(paths(Some("/other")), [pair("/other", false)]);
        let Err(error) = only(meant(None, &configs)) else { panic!("three are not one") };
        assert!(error.to_string().starts_with("3 repositories"), "{error}");
    }
}
