//! Which source and which target belong to what the user names: a file each per kind of database.

use std::path::PathBuf;

use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{Interrupt, PostgresTargetOptions, Source, StdinSource, Target};

use crate::database::{ALL, CommandDump, Connection, Database, Ssl};
use crate::{Error, Result};

mod address;
mod command;
mod dolt;
mod mariadb;
mod mongodb;
mod naming;
mod postgres;
mod redis;
mod sqlite;

/// True where `text`, an address of any kind of server, holds a password in the open.
pub fn holds_password(text: &str) -> bool {
    postgres::holds_password(text) || address::holds_password(text)
}

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
    /// A database of another server.
    Server {
        /// Which kind.
        kind: EntryKind,
        /// Name of the database, or address.
        address: String,
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

/// Makes the sources of what the command line names. Nothing is opened yet, but where it means every database of a
/// server, which the server is asked for.
pub fn named(spec: SourceSpec, server: &Server, interrupt: &Interrupt) -> Result<Vec<Box<dyn Source>>> {
    match spec {
        SourceSpec::Postgres { database, name } => postgres::source(database, name, server, interrupt),
        SourceSpec::Server { kind, address, name } => {
            let mut made = sources(&address::item(kind, &address, server), interrupt)?;
            match (made.pop(), name) {
                (Some(only), Some(name)) if made.is_empty() => Ok(vec![naming::renamed(only, name)]),
                (last, _) => Ok(made.into_iter().chain(last).collect()),
            }
        }
        SourceSpec::Sqlite { path, name } => Ok(vec![sqlite::source(path, name, interrupt)?]),
        SourceSpec::Stdin { name } => Ok(vec![Box::new(StdinSource::new(name, interrupt.clone()))]),
        SourceSpec::Command { command, name } => Ok(vec![command::source(command, name, interrupt)]),
    }
}

/// Makes the sources of all items of a configuration. One that can't be asked which databases it has is a source that
/// fails. Entries that would have the same name are told apart by the label of their server, or its host and port.
pub fn configured(databases: &[Database], interrupt: &Interrupt) -> Result<Vec<Box<dyn Source>>> {
    let mut all: Vec<naming::Placed> = Vec::new();
    for database in databases {
        let server = naming::server(database);
        let made = match sources(database, interrupt) {
            Err(Error::Dump { entry, source }) => vec![naming::failed(entry, source)],
            made => made?,
        };
        all.extend(made.into_iter().map(|source| (server.clone(), database.kind.name(), source)));
    }
    Ok(naming::tell_apart(all))
}

/// Makes the source of a command that a configuration names. Nothing runs yet.
pub fn command_dump(dump: &CommandDump, interrupt: &Interrupt) -> Box<dyn Source> {
    command::dump(dump, interrupt)
}

/// Makes the sources of one item of a configuration: more than one where it means every database of a server, which
/// the server is asked for.
pub fn sources(database: &Database, interrupt: &Interrupt) -> Result<Vec<Box<dyn Source>>> {
    match database.kind {
        EntryKind::Postgresql => postgres::sources(database, interrupt),
        EntryKind::Mariadb | EntryKind::Mysql => mariadb::sources(database, interrupt),
        EntryKind::Sqlite => sqlite::sources(database, interrupt),
        EntryKind::Redis => Ok(redis::sources(database, interrupt)),
        EntryKind::Mongodb => Ok(mongodb::sources(database, interrupt)),
        EntryKind::Dolt => dolt::sources(database, interrupt),
        kind => Err(Error::NotADatabase { name: database.name.clone(), kind: kind.name() }),
    }
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
    /// Load into the live database, in one transaction, and do not replace it as a whole.
    pub in_place: bool,
    /// Only these schemas.
    pub schemas: Vec<String>,
    /// Do not collect statistics for the planner.
    pub no_analyze: bool,
    /// How many processes load what was dumped in parts; by default one for each core.
    pub parallel: Option<usize>,
}

/// Where a database of a configuration is restored to: what the user says, else what the configuration says of
/// restores, else where it is backed up.
fn target_connection(database: &Database, server: &Server) -> Connection {
    let (source, target) = (database.source.clone(), database.target.clone());
    // Who names another host does not mean the port of this one.
    let elsewhere = server.host.is_some() || target.hostname.is_some();
    let source = if elsewhere { Connection { port: None, socket_path: None, ..source } } else { source };
    Connection {
        hostname: server.host.clone().or(target.hostname).or(source.hostname),
        port: server.port.or(target.port).or(source.port),
        socket_path: target.socket_path.or(source.socket_path),
        username: server.user.clone().or(target.username).or(source.username),
        password: target.password.or(source.password),
        tls: target.tls.or(source.tls),
        authentication_database: target.authentication_database.or(source.authentication_database),
        ssl: if target.ssl == Ssl::default() { source.ssl } else { target.ssl },
    }
}

/// The item of a configuration that an entry was made from, as far as can be told.
fn item_of<'a>(entry: &EntryRecord, databases: &'a [Database]) -> Option<&'a Database> {
    let name = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
    let known = |key| entry.attribute(key).filter(|value| !value.is_empty());
    let fits = |database: &&Database| {
        let host =
            database.source.hostname.as_deref().is_none_or(|host| known(attribute::HOST) == Some(host));
        let port = database.source.port.is_none_or(|port| known(attribute::PORT) == Some(&port.to_string()));
        let label = database.label.as_deref().is_none_or(|label| known(attribute::LABEL) == Some(label));
        database.kind == entry.meta.kind
            && [name, &entry.meta.name, ALL].contains(&database.name.as_str())
            && host
            && port
            && label
    };
    // One that names the database goes before one that means all.
    let mut fitting: Vec<&Database> = databases.iter().filter(fits).collect();
    fitting.sort_by_key(|database| database.name == ALL);
    fitting.first().copied()
}

/// True where an entry can be restored, not only extracted.
pub fn restorable(entry: &EntryRecord) -> bool {
    match entry.meta.kind {
        EntryKind::Stdin | EntryKind::File | EntryKind::Tree => false,
        EntryKind::Command => entry.attribute(attribute::RESTORE_COMMAND).is_some(),
        _ => true,
    }
}

/// A target and the place it stands for, in words.
pub struct Destination {
    /// The target.
    pub target: Box<dyn Target>,
    /// What it stands for.
    pub words: String,
}

/// How to reach the PostgreSQL database that `entry` is restored to.
pub(crate) fn postgres_options(
    entry: &EntryRecord,
    spec: &TargetSpec,
    databases: &[Database],
    interrupt: &Interrupt,
) -> PostgresTargetOptions {
    postgres::target_options(entry, spec, item_of(entry, databases), interrupt).0
}

/// The SQLite file that `entry` is restored to.
pub(crate) fn sqlite_path(entry: &EntryRecord, spec: &TargetSpec) -> Result<PathBuf> {
    sqlite::path(entry, spec)
}

/// Makes the target that `entry` is restored to. Nothing is opened yet.
///
/// `databases` are those of the configuration, where there is one: it knows passwords and where to restore to. Nothing
/// else is needed from it.
pub fn target(
    entry: &EntryRecord,
    spec: &TargetSpec,
    databases: &[Database],
    interrupt: &Interrupt,
) -> Result<Destination> {
    match entry.meta.kind {
        EntryKind::Postgresql => postgres::target(entry, spec, item_of(entry, databases), interrupt),
        EntryKind::Mariadb | EntryKind::Mysql => {
            mariadb::target(entry, spec, item_of(entry, databases), interrupt)
        }
        EntryKind::Sqlite => sqlite::target(entry, spec, interrupt),
        EntryKind::Redis => redis::target(entry, spec, item_of(entry, databases), interrupt),
        EntryKind::Mongodb => Ok(mongodb::target(entry, spec, item_of(entry, databases), interrupt)),
        EntryKind::Dolt => dolt::target(entry, spec, interrupt),
        EntryKind::Command => command::target(entry, interrupt),
        kind => Err(Error::NotRestorable { entry: entry.meta.name.clone(), kind: kind.name() }),
    }
}
