//! SQLite: restored as a file of a temporary directory.

use dbvault_format::manifest::EntryRecord;
use dbvault_source::{sqlite_ask, sqlite_row_counts};

use super::{Drill, Verdict, compare, recorded};
use crate::{Error, Result, Watcher};

impl Drill<'_> {
    pub(super) fn try_sqlite(
        &self,
        name: &str,
        whole: &[EntryRecord],
        watcher: &dyn Watcher,
    ) -> Result<Verdict> {
        let (_directory, path) = self.sandbox.restored_file(name, "restored.db", watcher)?;
        let found = sqlite_row_counts(&path).map_err(|error| Error::restore(name, error, &[]))?;
        let Some(entry) = whole.first() else { return Ok(Verdict::Skipped) };
        let unanswered = self.unanswered(entry, &mut |query| sqlite_ask(&path, query))?;
        Ok(unanswered.unwrap_or_else(|| compare(&recorded(whole), &found)))
    }
}
