//! MariaDB and MySQL: restored into a private server that has the users of the one it came from.

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{MariadbServer, mariadb_ask, mariadb_drop, mariadb_row_counts};

use super::{Drill, Verdict, compare, recorded};
use crate::sandbox::origin;
use crate::{Error, Result, Watcher};

impl Drill<'_> {
    pub(super) fn try_mariadb(
        &mut self,
        name: &str,
        whole: &[EntryRecord],
        watcher: &dyn Watcher,
    ) -> Result<Verdict> {
        let Some(entry) = whole.first().filter(|entry| entry.attribute(attribute::PART).is_none()) else {
            return Ok(Verdict::Skipped);
        };
        let server = self.mariadb_server(entry, watcher)?;
        let failed = |error| Error::restore(name, error, &[]);
        // Under its own name: objects of it may be named with it.
        let database = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
        self.sandbox.restore_into(&server, entry, name, watcher)?;
        let found = mariadb_row_counts(&server, database).map_err(failed)?;
        let unanswered = self.unanswered(entry, &mut |query| mariadb_ask(&server, database, query))?;
        mariadb_drop(&server, database).map_err(failed)?;
        Ok(unanswered.unwrap_or_else(|| compare(&recorded(whole), &found)))
    }

    /// The private server for what came from one server.
    fn mariadb_server(&mut self, entry: &EntryRecord, watcher: &dyn Watcher) -> Result<MariadbServer> {
        let origin = origin(entry);
        if let Some(private) = self.mariadb_servers.get(&origin) {
            return Ok(private.server(&self.sandbox.interrupt));
        }
        let started = self.sandbox.start_mariadb(entry, watcher)?;
        let server = started.server(&self.sandbox.interrupt);
        self.mariadb_servers.insert(origin, started);
        Ok(server)
    }
}
