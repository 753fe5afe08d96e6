//! Entries of an archive restored into throw-away places of our own: private servers, and files of temporary
//! directories. No server of the user's is touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbvault_format::entry::{attribute, part};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::Reader;
use dbvault_source::Interrupt;
use tempfile::TempDir;

use crate::database::Database;
use crate::registry::TargetSpec;
use crate::restore::{RestorePlan, RestoreRequest, RestoredEntry};
use crate::{Error, Result, Watcher, selection};

mod mariadb;
mod postgres;

pub(crate) use postgres::address as postgres_address;

/// Host and port of the server that was backed up. What came from one is restored into one: its users are needed.
pub(crate) type ServerOrigin = (String, String);

/// The entries of one archive, to be restored into private places.
pub(crate) struct Sandbox<'a> {
    pub(crate) reader: &'a Arc<Reader>,
    /// Name of the archive.
    pub(crate) archive: &'a str,
    pub(crate) entries: Vec<EntryRecord>,
    pub(crate) interrupt: Interrupt,
}

impl Sandbox<'_> {
    /// All parts of what has this name.
    pub(crate) fn whole(&self, name: &str) -> Result<Vec<EntryRecord>> {
        let found = selection::find_whole(self.archive, &self.entries, name)?;
        Ok(found.into_iter().cloned().collect())
    }

    /// Restores what has this name; `databases` are those of a configuration, where it takes one to tell where to.
    pub(crate) fn restore(
        &self,
        name: &str,
        spec: TargetSpec,
        databases: &[Database],
        watcher: &dyn Watcher,
    ) -> Result<Vec<RestoredEntry>> {
        let (wanted, databases) = (vec![name.to_owned()], databases.to_vec());
        let request = RestoreRequest { wanted, spec, databases, ..RestoreRequest::default() };
        let plan = RestorePlan::make(self.archive, &self.entries, &request, &self.interrupt)?;
        plan.execute(self.reader, watcher, &mut |_| Ok(true))
    }

    /// Restores what is one file to `path`.
    pub(crate) fn restore_file(
        &self,
        name: &str,
        path: &Path,
        watcher: &dyn Watcher,
    ) -> Result<Vec<RestoredEntry>> {
        let spec = TargetSpec { to: Some(path.display().to_string()), ..TargetSpec::default() };
        self.restore(name, spec, &[], watcher)
    }

    /// Restores what is one file, as `file` of a directory that goes with the handle.
    pub(crate) fn restored_file(
        &self,
        name: &str,
        file: &str,
        watcher: &dyn Watcher,
    ) -> Result<(TempDir, PathBuf)> {
        let closed = fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().permissions(closed).tempdir();
        let directory = directory.map_err(Error::file("make", std::env::temp_dir()))?;
        let path = directory.path().join(file);
        self.restore_file(name, &path, watcher)?;
        Ok((directory, path))
    }

    /// The entry with the users of a server.
    fn globals_of(&self, from: &ServerOrigin) -> Option<&EntryRecord> {
        let is_globals = |entry: &&EntryRecord| {
            entry.attribute(attribute::PART) == Some(part::GLOBALS) && origin(entry) == *from
        };
        self.entries.iter().find(is_globals)
    }
}

/// Where an entry came from.
pub(crate) fn origin(entry: &EntryRecord) -> ServerOrigin {
    let known = |key| entry.attribute(key).unwrap_or_default().to_owned();
    (known(attribute::HOST), known(attribute::PORT))
}
