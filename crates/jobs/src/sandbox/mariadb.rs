//! MariaDB and MySQL: a private server that has the users of the one that was backed up.

use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{Family, MariadbServer, PrivateMariadb};

use super::{Sandbox, origin};
use crate::database::{ALL, Connection, Database, Programs};
use crate::registry::TargetSpec;
use crate::restore::RestoredEntry;
use crate::{Error, Result, Watcher};

impl Sandbox<'_> {
    /// Starts a private server for what came from the server of `entry`, with its users where the archive has them.
    /// What belongs to users that are not there is restored all the same.
    pub(crate) fn start_mariadb(&self, entry: &EntryRecord, watcher: &dyn Watcher) -> Result<PrivateMariadb> {
        let private = PrivateMariadb::start(family(entry), &self.interrupt)
            .map_err(|error| Error::restore(&entry.meta.name, error, &[]))?;
        if let Some(globals) = self.globals_of(&origin(entry)) {
            self.restore_into(&private.server(&self.interrupt), globals, &globals.meta.name, watcher)?;
        }
        Ok(private)
    }

    /// Restores what has this name, of which `entry` is a part, into a private server.
    pub(crate) fn restore_into(
        &self,
        server: &MariadbServer,
        entry: &EntryRecord,
        name: &str,
        watcher: &dyn Watcher,
    ) -> Result<Vec<RestoredEntry>> {
        self.restore(name, TargetSpec::default(), &[private(entry.meta.kind, server)], watcher)
    }
}

/// What the server was, whatever it was backed up as.
fn family(entry: &EntryRecord) -> Family {
    match entry.attribute(attribute::SERVER_VERSION) {
        Some(version) if version.contains("MariaDB") => Family::Mariadb,
        Some(_) => Family::Mysql,
        None if entry.meta.kind == EntryKind::Mysql => Family::Mysql,
        None => Family::Mariadb,
    }
}

/// The private server as a configuration would name it.
fn private(kind: EntryKind, server: &MariadbServer) -> Database {
    Database {
        target: Connection {
            socket_path: server.socket.clone(),
            username: server.user.clone(),
            ..Connection::default()
        },
        programs: Programs {
            dump: server.dump_program.clone(),
            client: server.client_program.clone(),
            ..Programs::default()
        },
        ..Database::new(kind, ALL)
    }
}
