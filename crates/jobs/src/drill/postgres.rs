//! PostgreSQL: restored into a private server that has the roles of the one it came from.

use dbvault_format::entry::{attribute, part};
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{postgres_ask, postgres_row_counts};

use super::{Drill, Verdict, compare, recorded};
use crate::registry::{Server, TargetSpec};
use crate::sandbox::{origin, postgres_address};
use crate::{Error, Result, Watcher};

impl Drill<'_> {
    pub(super) fn try_postgres(
        &mut self,
        name: &str,
        whole: &[EntryRecord],
        watcher: &dyn Watcher,
    ) -> Result<Verdict> {
        let Some(first) = whole.first() else { return Ok(Verdict::Skipped) };
        if first.attribute(attribute::PART) == Some(part::GLOBALS) {
            return Ok(Verdict::Skipped);
        }
        let server = self.postgres_server(first, watcher)?;
        let options = |database: &str| self.sandbox.postgres_options(&server, database);
        let failed = |error| Error::restore(name, error, &[]);
        let database = "dbvault_drill";
        let spec = TargetSpec {
            to: Some(database.to_owned()),
            server: server.clone(),
            no_tablespaces: true,
            ..TargetSpec::default()
        };
        self.sandbox.restore_with_roles(name, spec, watcher)?;
        let found = postgres_row_counts(&options(database)).map_err(failed)?;
        let mut ask = |query: &str| Ok(postgres_ask(&options(database), query)?.into_iter().next());
        let unanswered = self.unanswered(first, &mut ask)?;
        let drop = format!("DROP DATABASE {database}");
        postgres_ask(&options("postgres"), &drop).map_err(failed)?;
        Ok(unanswered.unwrap_or_else(|| compare(&recorded(whole), &found)))
    }

    /// The private server for what came from one server, with its roles.
    fn postgres_server(&mut self, entry: &EntryRecord, watcher: &dyn Watcher) -> Result<Server> {
        let origin = origin(entry);
        if let Some(private) = self.postgres_servers.get(&origin) {
            return Ok(postgres_address(private));
        }
        let private = self.sandbox.start_postgres(entry, watcher)?;
        let server = postgres_address(&private);
        self.postgres_servers.insert(origin, private);
        Ok(server)
    }
}
