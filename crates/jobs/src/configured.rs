//! All that a configuration asks to be backed up, as sources.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use dbvault_files::{Patterns, Root, WalkOptions, expand_path};
use dbvault_format::entry::part;
use dbvault_source::{FileSource, Interrupt, Source};

use crate::config::{Config, Directories, expand_home};
use crate::registry;
use crate::tree_backup::TreeRequest;
use crate::{Error, Result};

/// Makes the sources of `config`: its databases, what commands print, and the configuration files themselves, so that
/// an archive tells how it was made. A server that is asked for its databases and does not answer is a source that
/// fails, so that the others are backed up.
///
/// Errors: values of the configuration name what is not there; stopped by the user.
pub fn sources(config: &Config, interrupt: &Interrupt) -> Result<Vec<Box<dyn Source>>> {
    config.check_resolved()?;
    let mut sources = registry::configured(&config.databases, interrupt)?;
    sources.extend(config.command_dumps.iter().map(|dump| registry::command_dump(dump, interrupt)));
    for path in &config.files {
        let path = std::path::absolute(path).map_err(Error::file("find", path))?;
        sources.push(Box::new(FileSource::new(path, Some(part::CONFIGURATION))));
    }
    Ok(sources)
}

/// The files that `config` asks for, as they are found now; `None` where it asks for none.
///
/// Errors: a list of patterns can't be read, a pattern is bad, a value names what is not there.
pub fn files(config: &Config) -> Result<Option<TreeRequest>> {
    let chosen = &config.directories;
    if !chosen.is_given() {
        return Ok(None);
    }
    config.check_resolved()?;
    let patterns = patterns(chosen)?;
    let paths = chosen.sources.iter().chain(patterns.roots()).map(|text| place(chosen, text));
    let mut request = TreeRequest { snapshots: config.snapshots.clone(), ..TreeRequest::default() };
    for path in paths {
        let found = expand_path(&path);
        if found.is_empty() {
            request.missing.push(path);
        }
        for path in found {
            match fs::symlink_metadata(&path).map_err(|error| error.kind()) {
                Err(ErrorKind::NotFound | ErrorKind::NotADirectory) => request.missing.push(path),
                _ => request.roots.push(Root::tree(path)),
            }
        }
    }
    request.must_exist = chosen.must_exist;
    request.options = WalkOptions {
        patterns,
        one_file_system: chosen.one_file_system,
        exclude_caches: chosen.exclude_caches,
        exclude_if_present: chosen.exclude_if_present.iter().map(|name| name.as_bytes().to_vec()).collect(),
        ..WalkOptions::default()
    };
    Ok(Some(request))
}

/// In the order in which borgmatic hands them on: the first that matches decides.
fn patterns(chosen: &Directories) -> Result<Patterns> {
    let mut patterns = Patterns::new();
    patterns.patterns_from("patterns", &chosen.patterns.join("\n")).map_err(Error::Files)?;
    for pattern in &chosen.exclude_patterns {
        let pattern = expand_home(pattern);
        patterns.exclude(&pattern.to_string_lossy()).map_err(Error::Files)?;
    }
    for list in &chosen.patterns_from {
        let (name, text) = list_of(&place(chosen, list))?;
        patterns.patterns_from(&name, &text).map_err(Error::Files)?;
    }
    for list in &chosen.exclude_from {
        let (name, text) = list_of(&place(chosen, list))?;
        patterns.exclude_from(&name, &text).map_err(Error::Files)?;
    }
    Ok(patterns)
}

/// A list of patterns, and what it is called.
fn list_of(path: &Path) -> Result<(String, String)> {
    let read = fs::read(path);
    let list = |source| Error::Files(dbvault_files::Error::List { path: path.to_owned(), source });
    let text = String::from_utf8_lossy(&read.map_err(list)?).into_owned();
    Ok((path.display().to_string(), text))
}

fn place(chosen: &Directories, text: &str) -> PathBuf {
    let path = expand_home(text);
    chosen.working_directory.as_ref().map_or_else(|| path.clone(), |around| around.join(&path))
}
