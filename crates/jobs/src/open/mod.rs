//! Open: a database of an archive in a throw-away private place, to be asked, and gone afterwards.
//!
//! No server of the user's is touched.

use std::path::PathBuf;
use std::sync::Arc;

use dbvault_format::entry::{EntryKind, attribute, part};
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::Reader;
use dbvault_source::process::Program;
use dbvault_source::{Interrupt, PrivateDirectory, PrivateMariadb, PrivatePostgres, PrivateRedis};

use crate::restore::RestoredEntry;
use crate::sandbox::Sandbox;
use crate::selection::Origin;
use crate::{Error, Result, Watcher};

mod mariadb;
mod postgres;
mod redis;
mod sqlite;

/// What to open.
#[derive(Clone, Debug, Default)]
pub struct OpenRequest {
    /// Name of the entry or database; the only one where none is named.
    pub wanted: Option<String>,
    /// Which of several of one name.
    pub origin: Origin,
    /// Nothing can be changed there by accident.
    pub read_only: bool,
    /// How many processes load what was dumped in parts; by default one for each core.
    pub parallel: Option<usize>,
}

/// A database in a private place. Dropping it stops its server and removes its files; they go as well where this
/// process is killed.
#[derive(Debug)]
pub struct Opened {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// What serves it, with its version where that is known.
    pub server: String,
    /// How clients are told where it is: a connection string, or the path of a file.
    pub address: String,
    /// Variables that lead programs to it.
    pub environment: Vec<(&'static str, String)>,
    /// The client of its kind, as one would type it.
    pub client: Vec<String>,
    /// What was restored, with its row counts and warnings.
    pub restored: Vec<RestoredEntry>,
    /// Variables that would lead programs elsewhere.
    cleared: &'static [&'static str],
    /// The package that has the client.
    package: &'static str,
    /// The client, where another one of that name may come first.
    program: Option<PathBuf>,
    _place: Place,
}

#[derive(Debug)]
enum Place {
    Postgres(#[allow(dead_code, reason = "held for its end")] PrivatePostgres),
    Mariadb(#[allow(dead_code, reason = "held for its end")] PrivateMariadb),
    Redis(#[allow(dead_code, reason = "held for its end")] PrivateRedis),
    Directory(#[allow(dead_code, reason = "held for its end")] PrivateDirectory),
}

impl Opened {
    /// Runs a program with our standard input and output, led to the database by its environment; its exit status as
    /// shells tell it. See [`Program::run_attached`].
    pub fn run(&self, command: &[String], on_terminal: bool, interrupt: &Interrupt) -> Result<u8> {
        let Some((path, arguments)) = command.split_first() else { return Ok(0) };
        self.attached(Program::new(path).args(arguments), on_terminal, interrupt)
    }

    /// Runs the client of its kind.
    pub fn run_client(&self, on_terminal: bool, interrupt: &Interrupt) -> Result<u8> {
        let Some((name, arguments)) = self.client.split_first() else { return Ok(0) };
        let program = self.program.as_deref().map_or_else(|| Program::new(name), Program::new);
        self.attached(program.package(self.package).args(arguments), on_terminal, interrupt)
    }

    fn attached(&self, program: Program, on_terminal: bool, interrupt: &Interrupt) -> Result<u8> {
        let program = program.env_remove(self.cleared).interrupt(interrupt);
        let led = self.environment.iter().fold(program, |program, (name, value)| program.env(name, value));
        led.run_attached(on_terminal).map_err(|error| failed(Error::restore(&self.name, error, &[])))
    }
}

/// Restores a database into a private place, and leaves it there.
///
/// Errors: there is nothing of that name, or several; there is no private place for its kind; no server is installed,
/// or only one that is older than the dump; what a restore says. Nothing is left behind then.
pub fn open(
    reader: &Arc<Reader>,
    manifest: &ArchiveManifest,
    request: &OpenRequest,
    interrupt: Interrupt,
    watcher: &dyn Watcher,
) -> Result<Opened> {
    let entries = reader.entries(manifest)?;
    let entries = entries.into_iter().filter(|entry| request.origin.fits(entry)).collect();
    let sandbox = Sandbox { reader, archive: &manifest.name, entries, interrupt };
    let name = match &request.wanted {
        Some(name) => name.clone(),
        None => only(&sandbox)?,
    };
    let whole = sandbox.whole(&name)?;
    let kind = match whole.first() {
        Some(first) if first.attribute(attribute::PART) == Some(part::GLOBALS) => "globals",
        Some(first) => first.meta.kind.name(),
        None => "nothing",
    };
    let not_openable = Error::NotOpenable { entry: name.clone(), kind };
    let Some(first) = whole.first().filter(|_| kind != "globals") else { return Err(not_openable) };
    let opened = match first.meta.kind {
        EntryKind::Postgresql => postgres::open(&sandbox, &name, first, request, watcher),
        EntryKind::Mariadb | EntryKind::Mysql => mariadb::open(&sandbox, &name, first, request, watcher),
        EntryKind::Redis => redis::open(&sandbox, &name, request, watcher),
        EntryKind::Sqlite => sqlite::open(&sandbox, &name, request, watcher),
        _ => Err(not_openable),
    };
    opened.map_err(failed)
}

/// What is restored here is nowhere else: its failure is told as what it means.
fn failed(error: Error) -> Error {
    match error {
        Error::Restore { entry, source, .. } => Error::Open { entry, source },
        other => other,
    }
}

/// The name of the only database there is.
fn only(sandbox: &Sandbox<'_>) -> Result<String> {
    let of_database = |entry: &&EntryRecord| entry.attribute(attribute::PART) != Some(part::GLOBALS);
    let name = |entry: &EntryRecord| entry.attribute(attribute::WHOLE).unwrap_or(&entry.meta.name).to_owned();
    let mut names: Vec<String> = sandbox.entries.iter().filter(of_database).map(name).collect();
    names.dedup();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(Error::EntryUnchosen { archive: sandbox.archive.to_owned(), available: names }),
    }
}

/// A part of an address, with percent signs for what would end it.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    let each = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(each).collect()
}
