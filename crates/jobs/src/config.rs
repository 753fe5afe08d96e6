//! The configuration: what is backed up, where to, what is kept, and who is told.
//!
//! YAML with the key names that users of borgmatic know. [`keys`] is the table of them all; a file is read
//! ([`Config::load`]) by putting included files together, then constants, variables and credentials into values, then
//! by comparing all of it with the table.

mod check;
mod decode;
mod default_file;
mod directories;
mod find;
pub mod hooks;
mod import;
mod include;
mod interpolate;
pub mod keys;
pub mod monitoring;
mod schema;
mod show;
mod yaml;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbvault_source::{Secret, SnapshotOptions};

pub use default_file::{EXAMPLE, record_default, recorded, write_example, write_over_record};
pub use directories::Directories;
pub use find::{CONFIG_VARIABLE, user_file, usual_files};
pub use import::{Import, import};
pub use schema::schema;
pub use yaml::{At, Problem};

use self::check::Found;
use self::include::Failure;
pub(crate) use self::interpolate::expand_home;
use self::yaml::Node;
use crate::database::{CommandDump, Database};
use crate::{Error, Result, key_file};

/// What a configuration file says, with all that it includes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where it was read from, and the files that it includes; none where there is no file.
    pub files: Vec<PathBuf>,
    /// Where backups go.
    pub repositories: Vec<RepositoryEntry>,
    /// The key file that opens them.
    pub key_file: Option<PathBuf>,
    /// A command for `/bin/sh -c` that prints their passphrase.
    pub passphrase_command: Option<String>,
    /// The passphrase itself.
    pub passphrase: Option<Secret>,
    /// How archives are named; see [`archive_name`](crate::archive_name).
    pub archive_name_format: Option<String>,
    /// Files that are backed up.
    pub directories: Directories,
    /// Snapshots that they are read from.
    pub snapshots: SnapshotOptions,
    /// How many archives of each series `prune` keeps where the command line does not say: the newest,
    pub keep_last: Option<usize>,
    /// and the newest of each of so many hours,
    pub keep_hourly: Option<usize>,
    /// days,
    pub keep_daily: Option<usize>,
    /// weeks,
    pub keep_weekly: Option<usize>,
    /// months,
    pub keep_monthly: Option<usize>,
    /// and years.
    pub keep_yearly: Option<usize>,
    /// An age, like `14d`, up to which all archives are kept.
    pub keep_within: Option<String>,
    /// Tags whose archives are kept.
    pub keep_tags: Vec<String>,
    /// Days for which what was deleted can be taken back.
    pub keep_deleted_days: Option<u32>,
    /// What to back up.
    pub databases: Vec<Database>,
    /// What else to back up: what commands print.
    pub command_dumps: Vec<CommandDump>,
    /// Commands to run before and after.
    pub hooks: Vec<CommandHook>,
    /// Who is told.
    pub monitoring: Monitoring,
    /// Values that name what is not there: a variable, a credential. They count as not given; a backup refuses them.
    pub unresolved: Vec<Problem>,
    /// What is not done although the file asks for it; said at each backup.
    pub warnings: Vec<Problem>,
    /// What has no effect, and why nothing is lost by it.
    pub notes: Vec<Problem>,
    /// All of it, for [`Config::show`].
    tree: Option<Node>,
}

pub use hooks::CommandHook;
pub use monitoring::Monitoring;

/// An item of `repositories`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryEntry {
    /// The directory; an absolute path.
    pub path: PathBuf,
    /// The user's word for it.
    pub label: Option<String>,
    /// The key file that opens it, where it is not that of the whole file.
    pub key_file: Option<PathBuf>,
    /// Likewise the command that prints its passphrase.
    pub passphrase_command: Option<String>,
}

impl Config {
    /// Reads the file at `path` and all that it includes.
    ///
    /// Errors: [`Error::Config`] with all that is wrong; a file that can't be read.
    pub fn load(path: &Path) -> Result<Config> {
        let mut files = Vec::new();
        let root = match include::load(path, &mut files) {
            Ok(root) => root,
            Err(Failure::Io(path, source)) => return Err(Error::file("read", path)(source)),
            Err(Failure::Wrong(problem)) => return Err(Error::Config { problems: vec![problem] }),
        };
        Config::from_tree(root, files, &interpolate::environment)
    }

    /// Reads `text` as if it stood in a file at `path`. What it includes is not read.
    ///
    /// Errors: [`Error::Config`] with all that is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Config> {
        let root = yaml::parse(&Arc::from(path), text)
            .map_err(|problem| Error::Config { problems: vec![problem] })?;
        Config::from_tree(root, vec![path.to_owned()], &|_| None)
    }

    fn from_tree(root: Node, files: Vec<PathBuf>, lookup: interpolate::Lookup<'_>) -> Result<Config> {
        let mut found = Found::default();
        let mut root = check::flatten(root, &mut found.problems);
        let unresolved = interpolate::resolve(&mut root, lookup);
        check::check(&root, keys::ROOT, &mut found);
        let config = decode::config(&root, &mut found.problems);
        if !found.problems.is_empty() {
            return Err(Error::Config { problems: found.problems });
        }
        let mut warnings = found.warnings;
        warnings.extend(readable_secrets(&found.open_secrets));
        Ok(Config { files, unresolved, warnings, notes: found.notes, tree: Some(root), ..config })
    }

    /// True where the file names anything to back up.
    pub fn has_sources(&self) -> bool {
        !self.databases.is_empty() || !self.command_dumps.is_empty() || self.directories.is_given()
    }

    /// Fails where a value names what is not there.
    ///
    /// Errors: [`Error::Config`].
    pub fn check_resolved(&self) -> Result<()> {
        if self.unresolved.is_empty() {
            return Ok(());
        }
        Err(Error::Config { problems: self.unresolved.clone() })
    }
}

/// Secrets that others than the owner of their file may read: one for each file.
fn readable_secrets(secrets: &[At]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for at in secrets {
        let told = problems.iter().any(|problem| problem.at.file == at.file);
        if !told && key_file::readable_by_others(&at.file) {
            let message = "others than its owner may read this file, and it holds a secret";
            problems.push(Problem::new(at, message));
        }
    }
    problems
}

#[cfg(test)]
mod tests;
