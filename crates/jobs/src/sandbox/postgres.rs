//! PostgreSQL: a private server that has the roles of the one that was backed up.

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{Error as SourceError, PostgresOptions, PrivatePostgres, postgres_make_role};

use super::{Sandbox, origin};
use crate::registry::{Server, TargetSpec};
use crate::restore::RestoredEntry;
use crate::{Error, Result, Watcher};

/// Roles that are made for one dump because it names them, at most.
const ROLES_MAX: usize = 1000;

/// How a private server is reached.
pub(crate) fn address(private: &PrivatePostgres) -> Server {
    Server { host: Some(private.host()), port: Some(private.port()), user: Some(private.user().to_owned()) }
}

impl Sandbox<'_> {
    /// Starts a private server for what came from the server of `entry`, with its roles where the archive has them.
    pub(crate) fn start_postgres(
        &self,
        entry: &EntryRecord,
        watcher: &dyn Watcher,
    ) -> Result<PrivatePostgres> {
        let version = entry.attribute(attribute::SERVER_VERSION).unwrap_or_default();
        let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|major| major.parse().ok());
        let private = PrivatePostgres::start(major.unwrap_or(0), None, &self.interrupt)
            .map_err(|error| Error::restore(&entry.meta.name, error, &[]))?;
        if let Some(globals) = self.globals_of(&origin(entry)) {
            let spec = TargetSpec { server: address(&private), ..TargetSpec::default() };
            self.restore(&globals.meta.name, spec, &[], watcher)?;
        }
        Ok(private)
    }

    /// How to ask a private server something in one of its databases.
    pub(crate) fn postgres_options(&self, server: &Server, database: &str) -> PostgresOptions {
        let name = database.replace('\\', "\\\\").replace('\'', "\\'");
        PostgresOptions {
            host: Some(server.host.clone().unwrap_or_default()),
            port: server.port,
            user: server.user.clone(),
            interrupt: self.interrupt.clone(),
            ..PostgresOptions::new(format!("dbname='{name}'"))
        }
    }

    /// Restores, and makes each role that turns out to be missing: they are no part of a database's dump.
    pub(crate) fn restore_with_roles(
        &self,
        name: &str,
        spec: TargetSpec,
        watcher: &dyn Watcher,
    ) -> Result<Vec<RestoredEntry>> {
        let maintenance = self.postgres_options(&spec.server, "postgres");
        for _ in 0..ROLES_MAX {
            let error = match self.restore(name, spec.clone(), &[], watcher) {
                Ok(restored) => return Ok(restored),
                Err(error) => error,
            };
            let Some(role) = missing_role(&error) else { return Err(error) };
            postgres_make_role(&maintenance, &role).map_err(|error| Error::restore(name, error, &[]))?;
        }
        self.restore(name, spec, &[], watcher)
    }
}

/// The role that a restore failed for want of.
fn missing_role(error: &Error) -> Option<String> {
    let Error::Restore { source: SourceError::ProgramFailed { stderr, .. }, .. } = error else { return None };
    let line = stderr.lines().find(|line| line.contains("role \"") && line.ends_with("does not exist"))?;
    let (_, rest) = line.split_once("role \"")?;
    rest.strip_suffix("\" does not exist").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_role_is_found_in_what_the_server_says() {
        let error = |stderr: &str| Error::Restore {
            entry: "x".into(),
            source: SourceError::ProgramFailed {
                program: "pg_restore".into(),
                how: "exit status 1".into(),
                stderr: stderr.into(),
            },
            restored: Vec::new(),
        };
        let said = "pg_restore: error: could not execute query: ERROR:  role \"odd \"name\" does not exist\nCommand was: x";
        assert_eq!(missing_role(&error(said)).as_deref(), Some("odd \"name"));
        assert_eq!(missing_role(&error("ERROR:  relation \"role\" does not exist")), None);
    }
}
