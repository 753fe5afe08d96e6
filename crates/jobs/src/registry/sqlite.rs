//! SQLite: from a path to a source and a target.

use std::path::{Path, PathBuf};

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{Interrupt, Source, SqliteOptions, SqliteSource, SqliteTarget, SqliteTargetOptions};

use super::{Destination, TargetSpec};
use crate::database::Database;
use crate::{Error, Result};

/// Makes the source of a file that the command line names.
pub(super) fn source(path: PathBuf, name: Option<String>, interrupt: &Interrupt) -> Result<Box<dyn Source>> {
    let shown = name.clone().unwrap_or_else(|| path.display().to_string());
    let options =
        SqliteOptions { entry_name: name, interrupt: interrupt.clone(), ..SqliteOptions::new(path) };
    Ok(Box::new(SqliteSource::new(options).map_err(|error| Error::dump(&shown, error))?))
}

/// Makes the source of an item of a configuration.
pub(super) fn sources(database: &Database, interrupt: &Interrupt) -> Result<Vec<Box<dyn Source>>> {
    let path = database.path.clone().unwrap_or_else(|| PathBuf::from(&database.name));
    Ok(vec![source(path, Some(database.name.clone()), interrupt)?])
}

/// Makes the target of a file. Nothing is opened yet.
pub(super) fn target(entry: &EntryRecord, spec: &TargetSpec, interrupt: &Interrupt) -> Result<Destination> {
    let name = &entry.meta.name;
    let path = path(entry, spec)?;
    let words = format!("file {}", path.display());
    let options = SqliteTargetOptions { interrupt: interrupt.clone(), ..SqliteTargetOptions::new(path) };
    let target = SqliteTarget::new(options).map_err(|error| Error::restore(name, error, &[]))?;
    Ok(Destination { target: Box::new(target), words })
}

/// The file that an entry is restored to.
pub(super) fn path(entry: &EntryRecord, spec: &TargetSpec) -> Result<PathBuf> {
    let path = spec.to.as_deref().or(entry.attribute(attribute::PATH)).unwrap_or(&entry.meta.name);
    std::path::absolute(path).map_err(Error::file("find", Path::new(path)))
}
