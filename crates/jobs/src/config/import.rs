//! From a configuration of borgmatic to one of dbvault.

use std::path::{Path, PathBuf};

use super::check::{self, Found};
use super::include::{self, Failure};
use super::interpolate;
use super::keys::{self, Effect, Key};
use super::show::{Form, yaml};
use super::yaml::{Node, Problem};
use crate::{Error, Result};

/// First lines of the new file.
const HEAD: &str = "# Taken over from borgmatic; docs/configuration.md tells all keys.\n";

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The new file.
    pub text: String,
    /// Keys that were taken over.
    pub taken: Vec<String>,
    /// Keys that mean nothing here and were left out, and why nothing is lost.
    pub without_meaning: Vec<Problem>,
    /// What the user must decide: stays in the new file, which is refused or warns until then.
    pub to_decide: Vec<Problem>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads the file at `path`, with all that it includes, and makes a new one of it. Variables and credentials stay as
/// they are written; includes and older sections are put into one file. Lines that name a repository (`recorded`) stand in
/// place of Borg's repositories.
///
/// Errors: the file can't be read, or is not YAML.
pub fn import(path: &Path, recorded: Option<&str>) -> Result<Import> {
    let mut files = Vec::new();
    let root = match include::load(path, &mut files) {
        Ok(root) => root,
        Err(Failure::Io(path, source)) => return Err(Error::file("read", path)(source)),
        Err(Failure::Wrong(problem)) => return Err(Error::Config { problems: vec![problem] }),
    };
    let mut found = Found::default();
    let mut written = check::flatten(root, &mut found.problems);
    let mut resolved = written.clone();
    // What is not there now may be there when a backup runs.
    interpolate::resolve(&mut resolved, &interpolate::environment);
    check::check(&resolved, keys::ROOT, &mut found);
    let mut to_decide = found.problems;
    to_decide.extend(found.warnings);
    to_decide.extend(match recorded {
        Some(_) => secrets_to_decide(&written),
        None => repositories_to_decide(&written),
    });
    if recorded.is_some() {
        written.remove("repositories");
    }
    let text = format!("{HEAD}{}{}", recorded.unwrap_or_default(), yaml(&written, Form::Written));
    Ok(Import { text, taken: taken(&written), without_meaning: found.notes, to_decide, files })
}

fn repositories_to_decide(written: &Node) -> Option<Problem> {
    let message = "repositories of Borg can't be used: make others with dbvault init, and name them here";
    written.get("repositories").map(|repositories| Problem::new(&repositories.at, message))
}

/// There is a repository already, and its secret may be another.
fn secrets_to_decide(written: &Node) -> Option<Problem> {
    let secret =
        ["encryption_passphrase", "encryption_passcommand"].iter().find_map(|key| written.get(key))?;
    let message = "this is for the repository of Borg: dbvault takes it for its own, so leave it out if that has another";
    Some(Problem::new(&secret.at, message))
}

/// Names of the keys with a meaning, with the number of items where it is a list.
fn taken(root: &Node) -> Vec<String> {
    let known = |name: &str| keys::find(keys::ROOT, name).filter(|key: &&Key| key.effect == Effect::Yes);
    let fields = root.fields().iter().filter(|field| !field.value.is_null() && known(&field.name).is_some());
    fields
        .map(|field| match &field.value.value {
            super::yaml::Value::List(items) => format!("{} ({})", field.name, items.len()),
            _ => field.name.clone(),
        })
        .collect()
}
