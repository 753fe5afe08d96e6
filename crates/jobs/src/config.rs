//! The configuration file: `dbvault/config.toml` in the user's configuration directory.
//!
//! `init` writes it once, for the first repository; after that it belongs to the user.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::Deserialize;

use crate::{Error, Result};

/// What the configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The repository that is used when none is named; an absolute path.
    pub repository: Option<PathBuf>,
    /// The key file that opens it; an absolute path.
    pub key_file: Option<PathBuf>,
    /// A command for `/bin/sh -c` that prints its passphrase.
    pub passphrase_command: Option<String>,
}

/// Where the configuration file of this user is, be it there or not.
pub fn path() -> Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(|_| Error::NoHome)?;
    Ok(base.config_dir().join("dbvault").join("config.toml"))
}

impl Config {
    /// Reads the file at `path`; an absent one says nothing.
    pub fn load(path: &Path) -> Result<Config> {
        match fs::read_to_string(path) {
            Ok(text) => Config::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Config> {
        let config: Config = toml::from_str(text).map_err(|error| Error::Config {
            path: path.to_owned(),
            line: error.span().map(|span| 1 + text[..span.start].matches('\n').count()),
            message: error.message().lines().next().unwrap_or_default().to_owned(),
        })?;
        for (key, value) in [("repository", &config.repository), ("key_file", &config.key_file)] {
            if value.as_ref().is_some_and(|value| !value.is_absolute()) {
                let starts_with_key = |line: &str| line.trim_start().starts_with(key);
                return Err(Error::Config {
                    path: path.to_owned(),
                    line: text.lines().position(starts_with_key).map(|at| at + 1),
                    message: format!("{key} is not an absolute path"),
                });
            }
        }
        Ok(config)
    }

    /// Records `repository` as the default, unless there is a default already; true when it was recorded.
    /// What else the file says stays as it is. After an error the file is as it was.
    pub fn record_default(path: &Path, repository: &Path, key_file: Option<&Path>) -> Result<bool> {
        let config = Config::load(path)?;
        // TOML is UTF-8: a path that is not can't be written down, and must be given each time.
        let (Some(repository), None) = (repository.to_str(), &config.repository) else { return Ok(false) };
        let mut text = format!("repository = {}\n", toml::Value::from(repository));
        if let (Some(key_file), None) = (key_file.and_then(Path::to_str), &config.key_file) {
            text += &format!("key_file = {}\n", toml::Value::from(key_file));
        }
        match fs::read_to_string(path) {
            // In front, where no table has begun yet.
            Ok(old) => text += &old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read", path)(error)),
        }
        replace(path, &text)?;
        Ok(true)
    }
}

/// Writes `text` beside `path` and renames it there.
fn replace(path: &Path, text: &str) -> Result<()> {
    let failed = || Error::file("write", path);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed())?;
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed())?;
    file.write_all(text.as_bytes()).map_err(failed())?;
    file.as_file().sync_all().map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(Path::new("/c.toml"), text)
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error = parse("repository = \"/r\"\n\nrepo = \"/x\"\n").unwrap_err();
        assert!(error.to_string().starts_with("/c.toml:3: unknown field `repo`"), "{error}");
    }

    #[test]
    fn paths_are_absolute() {
        let error = parse("# c\nrepository = \"r\"\n").unwrap_err();
        assert_eq!(error.to_string(), "/c.toml:2: repository is not an absolute path");
    }

    #[test]
    fn an_absent_file_says_nothing() {
        assert_eq!(Config::load(Path::new("/nonexistent/c.toml")).unwrap(), Config::default());
    }

    #[test]
    fn the_first_repository_is_recorded_and_no_later_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dbvault/config.toml");
        let record = |repository: &str| {
            Config::record_default(&path, Path::new(repository), Some(Path::new("/k"))).unwrap()
        };
        assert!(record("/one\"quoted"));
        assert!(!record("/two"));
        let config = Config::load(&path).unwrap();
        assert_eq!(config.repository.as_deref(), Some(Path::new("/one\"quoted")));
        assert_eq!(config.key_file.as_deref(), Some(Path::new("/k")));
    }

    #[test]
    fn what_the_user_wrote_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        fs::write(&path, "# mine\npassphrase_command = \"pass show x\"\n").unwrap();
        assert!(Config::record_default(&path, Path::new("/one"), None).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "repository = \"/one\"\n# mine\npassphrase_command = \"pass show x\"\n");
    }
}
