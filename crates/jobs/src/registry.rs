//! Which source and which target belong to what the user names: one line each per kind of database.

use std::env;
use std::path::{Path, PathBuf};

use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{
    CommandOptions, CommandSource, Interrupt, PostgresOptions, PostgresSource, PostgresTarget,
    PostgresTargetOptions, Source, SqliteOptions, SqliteSource, SqliteTarget, SqliteTargetOptions,
    StdinSource, Target,
};

use crate::{Error, Result};

/// Variables that tell libpq which server is meant.
const SERVER_VARIABLES: [&str; 3] = ["PGHOST", "PGHOSTADDR", "PGSERVICE"];

/// Which server, as far as the user says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Host name, address or socket directory.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Role to connect as.
    pub user: Option<String>,
}

/// Something to back up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// A PostgreSQL database: name, connection string or URI.
    Postgres {
        /// The database.
        database: String,
        /// Name of the entry, where it is not that of the database.
        name: Option<String>,
    },
    /// A SQLite database file.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Name of the entry, where it is not the path.
        name: Option<String>,
    },
    /// Standard input.
    Stdin {
        /// Name of the entry.
        name: String,
    },
    /// The output of a command.
    Command {
        /// Text for `/bin/sh -c`.
        command: String,
        /// Name of the entry.
        name: String,
    },
}

/// Makes the source. Nothing is opened yet.
pub fn source(spec: SourceSpec, server: &Server, interrupt: &Interrupt) -> Result<Box<dyn Source>> {
    let interrupt = interrupt.clone();
    Ok(match spec {
        SourceSpec::Postgres { database, name } => {
            let Server { host, port, user } = server.clone();
            let failed = |error| Error::dump(name.as_deref().unwrap_or("a PostgreSQL database"), error);
            let options = PostgresOptions::new(database);
            let options =
                PostgresOptions { host, port, user, entry_name: name.clone(), interrupt, ..options };
            Box::new(PostgresSource::new(options).map_err(failed)?)
        }
        SourceSpec::Sqlite { path, name } => {
            let shown = name.clone().unwrap_or_else(|| path.display().to_string());
            let options = SqliteOptions { entry_name: name, interrupt, ..SqliteOptions::new(path) };
            Box::new(SqliteSource::new(options).map_err(|error| Error::dump(&shown, error))?)
        }
        SourceSpec::Stdin { name } => Box::new(StdinSource::new(name, interrupt)),
        SourceSpec::Command { command, name } => {
            Box::new(CommandSource::new(CommandOptions { command, entry_name: name, interrupt }))
        }
    })
}

/// Where and how to restore, as far as the user says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetSpec {
    /// Name of the database to make, or path of the file, in place of the entry's own.
    pub to: Option<String>,
    /// The server, in place of the one the entry came from.
    pub server: Server,
    /// Everything will belong to the role that restores.
    pub no_owner: bool,
    /// Leave out grants.
    pub no_privileges: bool,
    /// Put everything in the server's default tablespace.
    pub no_tablespaces: bool,
    /// Keep the database that is replaced under another name.
    pub keep_old: bool,
}

/// True where entries of this kind can be restored, not only extracted.
pub fn restorable(kind: EntryKind) -> bool {
    match kind {
        EntryKind::Postgresql | EntryKind::Sqlite => true,
        EntryKind::Stdin | EntryKind::Command => false,
    }
}

/// A target and the place it stands for, in words.
pub struct Destination {
    /// The target.
    pub target: Box<dyn Target>,
    /// What it stands for.
    pub words: String,
}

/// Makes the target that `entry` is restored to. Nothing is opened yet.
pub fn target(entry: &EntryRecord, spec: &TargetSpec, interrupt: &Interrupt) -> Result<Destination> {
    let name = &entry.meta.name;
    match entry.meta.kind {
        EntryKind::Postgresql => postgres_target(entry, spec, interrupt),
        EntryKind::Sqlite => {
            let path = spec.to.as_deref().or(entry.attribute(attribute::PATH)).unwrap_or(name);
            let path = std::path::absolute(path).map_err(Error::file("find", Path::new(path)))?;
            let words = format!("file {}", path.display());
            let options =
                SqliteTargetOptions { interrupt: interrupt.clone(), ..SqliteTargetOptions::new(path) };
            let target = SqliteTarget::new(options).map_err(|error| Error::restore(name, error, &[]))?;
            Ok(Destination { target: Box::new(target), words })
        }
        kind => Err(Error::NotRestorable { entry: name.clone(), kind: kind.name() }),
    }
}

fn postgres_target(entry: &EntryRecord, spec: &TargetSpec, interrupt: &Interrupt) -> Result<Destination> {
    let recorded = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
    let database = spec.to.clone().unwrap_or_else(|| as_name(recorded));
    let Server { host, port, user } = postgres_server(entry, spec);
    let place = match (&host, port) {
        (Some(host), Some(port)) => format!(" on {host}, port {port}"),
        (Some(host), None) => format!(" on {host}"),
        _ => String::new(),
    };
    let words =
        format!("PostgreSQL database {}{place}", spec.to.as_deref().map_or(recorded, without_password));
    let options = PostgresTargetOptions {
        host,
        port,
        user,
        no_owner: spec.no_owner,
        no_privileges: spec.no_privileges,
        no_tablespaces: spec.no_tablespaces,
        keep_old: spec.keep_old,
        interrupt: interrupt.clone(),
        ..PostgresTargetOptions::new(database)
    };
    let target =
        PostgresTarget::new(options).map_err(|error| Error::restore(&entry.meta.name, error, &[]))?;
    Ok(Destination { target: Box::new(target), words })
}

/// The server the user means, in words or by libpq's variables; else the one that the entry came from.
fn postgres_server(entry: &EntryRecord, spec: &TargetSpec) -> Server {
    let given = &spec.server;
    let variable = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let named = given.host.is_some()
        || spec.to.as_deref().is_some_and(is_connection_string)
        || SERVER_VARIABLES.iter().any(variable);
    if named {
        return given.clone();
    }
    let recorded = |key| entry.attribute(key).filter(|value| !value.is_empty()).map(str::to_owned);
    Server {
        host: recorded(attribute::HOST),
        port: given.port.or_else(|| recorded(attribute::PORT)?.parse().ok()),
        user: given.user.clone(),
    }
}

/// libpq's rule for telling a database's name from a connection string or URI.
fn is_connection_string(text: &str) -> bool {
    text.contains('=') || text.starts_with("postgresql://") || text.starts_with("postgres://")
}

/// A database's name in a form that is never taken for a connection string.
fn as_name(name: &str) -> String {
    if is_connection_string(name) {
        format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
    } else {
        name.to_owned()
    }
}

/// True where `text`, a PostgreSQL connection string or URI, holds a password in the open.
pub fn holds_password(text: &str) -> bool {
    let in_uri = || {
        let (_, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?']).next()?;
        authority.rsplit_once('@')?.0.split_once(':')
    };
    is_connection_string(text) && (text.contains("password") || in_uri().is_some())
}

fn without_password(text: &str) -> &str {
    if is_connection_string(text) { "of the given address" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_taken_for_connection_strings() {
        assert_eq!(as_name("users"), "users");
        assert_eq!(as_name("a=b'c\\"), "dbname='a=b\\'c\\\\'");
        assert_eq!(as_name("postgres://x"), "dbname='postgres://x'");
    }

    #[test]
    fn passwords_on_the_command_line_are_noticed() {
        for with in ["postgresql://u:p@h/db", "host=h password=x", "postgres://h/db?password=x"] {
            assert!(holds_password(with), "{with}");
        }
        for without in ["password", "users", "postgresql://u@h:5432/db", "host=h dbname=x"] {
            assert!(!holds_password(without), "{without}");
        }
    }
}
