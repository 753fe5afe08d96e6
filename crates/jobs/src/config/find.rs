//! Where configuration files are looked for.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::{Error, Result};

/// Environment variable that names a configuration file, in place of the usual ones.
pub const CONFIG_VARIABLE: &str = "DBVAULT_CONFIG";

/// Directory of settings of the whole machine.
const SYSTEM: &str = "/etc";

/// The usual files that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usual {
    /// Those that can be read, in the order in which they are.
    pub files: Vec<PathBuf>,
    /// Those that this user may not read.
    pub forbidden: Vec<PathBuf>,
}

/// The file that `init` writes and that is this user's own, be it there or not.
pub fn user_file() -> Result<PathBuf> {
    Ok(file_below(&user_directory()?))
}

/// The usual files that are there: `dbvault/config.yaml`, then `dbvault.d/*.yaml` by name, first below `/etc` and then
/// in the user's configuration directory.
pub fn usual_files() -> Result<Usual> {
    let mut usual = Usual::default();
    for directory in [PathBuf::from(SYSTEM), user_directory()?] {
        let mut candidates = vec![file_below(&directory)];
        candidates.extend(yaml_files(&directory.join("dbvault.d")));
        for path in candidates {
            match fs::File::open(&path) {
                Ok(_) => usual.files.push(path),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => usual.forbidden.push(path),
                // Gone, or never there; anything else is told when it is read.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => usual.files.push(path),
            }
        }
    }
    Ok(usual)
}

fn user_directory() -> Result<PathBuf> {
    Ok(etcetera::choose_base_strategy().map_err(|_| Error::NoHome)?.config_dir())
}

fn file_below(directory: &Path) -> PathBuf {
    directory.join("dbvault").join("config.yaml")
}

/// The YAML files of a directory by name; none where it is not there.
fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let mut files: Vec<PathBuf> = entries.filter(is_yaml).collect();
    files.sort();
    files
}
