//! Files that dbvault writes: the first configuration, and an example.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Config;
use crate::{Error, Result, key_file};

/// Only its owner reads a file that may hold secrets.
const MODE: u32 = 0o600;

/// What `config generate` writes.
pub const EXAMPLE: &str = include_str!("example.yaml");
/// What the example says of its repository.
const EXAMPLE_REPOSITORY: &str = "repositories:\n    - path: /backup/repo\n";
const EXAMPLE_KEY_FILE: &str = "\nkey_file: ";

/// Records `repository` in the file at `path`, unless that names one already; true when it was recorded. What else the
/// file says stays as it is. After an error the file is as it was.
pub fn record_default(path: &Path, repository: &Path, key_file: Option<&Path>) -> Result<bool> {
    let old = match fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    let config = if old.is_empty() { Config::default() } else { Config::load(path)? };
    // YAML is text: a path that is not can't be written down, and must be given each time.
    let (Some(repository), true) = (repository.to_str(), config.repositories.is_empty()) else {
        return Ok(false);
    };
    let text = record(repository, key_file);
    let (head, rest) = match old.split_once('\n') {
        Some((head, rest)) if head.trim_end() == "---" => ("---\n", rest),
        _ => ("", old.as_str()),
    };
    let text = format!("{head}{text}{rest}");
    // A file in an unusual form would be broken by lines at its head: it stays as it is.
    let good = Config::parse(path, &text).is_ok_and(|config| config.repositories.len() == 1);
    if good {
        replace(path, &text)?;
    }
    Ok(good)
}

/// The lines that name a repository.
fn record(repository: &str, key_file: Option<&Path>) -> String {
    let quoted = |path: &str| serde_json::Value::from(path).to_string();
    let mut text = format!("repositories:\n    - path: {}\n", quoted(repository));
    if let Some(key_file) = key_file.and_then(Path::to_str) {
        text += &format!("      key_file: {}\n", quoted(key_file));
    }
    text
}

/// Writes the example to `path`, as [`write_over_record`] does, with the repository that was recorded there.
pub fn write_example(path: &Path) -> Result<()> {
    let Some(recorded) = recorded(path) else { return write_new(path, EXAMPLE) };
    let text = EXAMPLE.replacen(EXAMPLE_REPOSITORY, &recorded, 1);
    replace(path, &text.replacen(EXAMPLE_KEY_FILE, "\n#key_file: ", 1))
}

/// Writes `text` to `path`. A file of which nobody has written more than [`record_default`] gives way; any other stays.
///
/// Errors: [`Error::FileExists`]; directories that are missing can't be made.
pub fn write_over_record(path: &Path, text: &str) -> Result<()> {
    if recorded(path).is_some() { replace(path, text) } else { write_new(path, text) }
}

/// The lines of a file that [`record_default`] wrote and nobody has added to.
pub fn recorded(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let config = Config::parse(path, &text).ok()?;
    let [repository] = config.repositories.as_slice() else { return None };
    let recorded = record(repository.path.to_str()?, repository.key_file.as_deref());
    (recorded == text).then_some(text)
}

/// Writes a file that must not be there yet, for its owner only.
///
/// Errors: [`Error::FileExists`]; directories that are missing can't be made.
fn write_new(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
    }
    key_file::write_new(path, text)
}

/// Writes `text` beside `path` and renames it there.
fn replace(path: &Path, text: &str) -> Result<()> {
    let failed = || Error::file("write", path);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed())?;
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(MODE)).map_err(failed())?;
    file.write_all(text.as_bytes()).map_err(failed())?;
    file.as_file().sync_all().map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_repository_is_recorded_and_no_later_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dbvault/config.yaml");
        let record =
            |repository: &str| record_default(&path, Path::new(repository), Some(Path::new("/k"))).unwrap();
        assert!(record("/one\"quoted"));
        assert!(!record("/two"));
        let config = Config::load(&path).unwrap();
        assert_eq!(config.repositories[0].path, Path::new("/one\"quoted"));
        assert_eq!(config.repositories[0].key_file.as_deref(), Some(Path::new("/k")));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_the_user_wrote_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        for (old, new) in [
            (
                "# mine\npassphrase_command: pass show x\n",
                Some("repositories:\n    - path: \"/one\"\n# mine\npassphrase_command: pass show x\n"),
            ),
            ("---\nkeep_daily: 3\n", Some("---\nrepositories:\n    - path: \"/one\"\nkeep_daily: 3\n")),
            ("{keep_daily: 3}\n", None),
        ] {
            fs::write(&path, old).unwrap();
            assert_eq!(record_default(&path, Path::new("/one"), None).unwrap(), new.is_some());
            assert_eq!(fs::read_to_string(&path).unwrap(), new.unwrap_or(old));
        }
    }

    #[test]
    fn the_example_goes_on_from_what_was_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        for key_file in [None, Some(Path::new("/k"))] {
            let _ = fs::remove_file(&path);
            assert!(record_default(&path, Path::new("/one"), key_file).unwrap());
            write_example(&path).unwrap();
            let config = Config::load(&path).unwrap();
            assert!(config.has_sources() && config.key_file.is_none());
            assert_eq!(config.repositories.len(), 1);
            assert_eq!(config.repositories[0].path, Path::new("/one"));
            assert_eq!(config.repositories[0].key_file.as_deref(), key_file);
            assert!(matches!(write_example(&path), Err(Error::FileExists { .. })));
        }
        fs::write(&path, "repositories:\n    - path: \"/one\"\n# mine\n").unwrap();
        assert!(matches!(write_example(&path), Err(Error::FileExists { .. })));
    }

    #[test]
    fn a_file_that_is_there_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b.yaml");
        write_new(&path, "x").unwrap();
        assert!(matches!(write_new(&path, "y"), Err(Error::FileExists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
    }

    #[test]
    fn the_example_is_good_and_so_is_all_that_it_shows() {
        let path = Path::new("/c.yaml");
        assert!(Config::parse(path, EXAMPLE).unwrap().has_sources());
        let all: String = EXAMPLE
            .lines()
            .map(|line| {
                if line.starts_with("# ") && !line.starts_with("#  ") {
                    line
                } else {
                    line.strip_prefix('#').unwrap_or(line)
                }
            })
            .fold(String::new(), |text, line| text + line + "\n");
        let config = Config::parse(path, &all).unwrap();
        assert_eq!((config.warnings, config.notes), (vec![], vec![]));
        assert!(config.monitoring.ntfy.is_some());
    }
}
