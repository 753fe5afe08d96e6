//! PostgreSQL: which server is meant, and what its sources and targets are made of.

use std::env;
use std::path::PathBuf;
use std::thread;

use dbvault_format::entry::{EntryKind, attribute, part};
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{
    Interrupt, PostgresFormat, PostgresGlobalsSource, PostgresGlobalsTarget, PostgresOptions, PostgresSource,
    PostgresTarget, PostgresTargetOptions, Source, postgres_databases, postgres_parts,
};

use super::{Destination, Server, TargetSpec};
use crate::database::{ALL, Connection, Database, DumpFormat, Ssl};
use crate::{Error, Result};

/// Variables that tell libpq which server is meant.
const SERVER_VARIABLES: [&str; 3] = ["PGHOST", "PGHOSTADDR", "PGSERVICE"];
/// Name of the entry with the roles and tablespaces of a server.
const GLOBALS: &str = "globals";

/// Makes the sources of what the command line names: a database, or all.
pub(super) fn source(
    database: String,
    name: Option<String>,
    server: &Server,
    interrupt: &Interrupt,
) -> Result<Vec<Box<dyn Source>>> {
    let Server { host, port, user } = server.clone();
    if database == ALL && name.is_none() {
        let source = Connection { hostname: host, port, username: user, ..Connection::default() };
        return sources(&Database { source, ..Database::new(EntryKind::Postgresql, ALL) }, interrupt);
    }
    let failed = |error| Error::dump(name.as_deref().unwrap_or("a PostgreSQL database"), error);
    let options = PostgresOptions::new(database);
    let options = PostgresOptions {
        host,
        port,
        user,
        entry_name: name.clone(),
        interrupt: interrupt.clone(),
        ..options
    };
    Ok(vec![Box::new(PostgresSource::new(options).map_err(failed)?)])
}

/// Makes the sources of an item of a configuration.
pub(super) fn sources(database: &Database, interrupt: &Interrupt) -> Result<Vec<Box<dyn Source>>> {
    let options = source_options(database, interrupt);
    let failed = |error| Error::dump(&database.name, error);
    if database.name != ALL {
        return one(database, &database.name, options);
    }
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(PostgresGlobalsSource::new(
        GLOBALS,
        PostgresOptions { arguments: Vec::new(), ..options.clone() },
    ))];
    for name in postgres_databases(&options, &database.extra.list).map_err(failed)? {
        if !database.skip_names.contains(&name) {
            let options = PostgresOptions { database: as_name(&name), ..options.clone() };
            sources.extend(one(database, &name, options)?);
        }
    }
    Ok(sources)
}

/// The source of one database, or those of its parts.
fn one(database: &Database, name: &str, options: PostgresOptions) -> Result<Vec<Box<dyn Source>>> {
    let failed = |error| Error::dump(name, error);
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    // A directory has a file for each table so that several processes can write it: that is what parts are for.
    let streams = database.streams.or_else(|| (database.format == Some(DumpFormat::Directory)).then(cores));
    if let Some(streams) = streams.filter(|streams| *streams > 1) {
        return postgres_parts(name, options, streams).map_err(failed);
    }
    let options = PostgresOptions { entry_name: Some(name.to_owned()), ..options };
    Ok(vec![Box::new(PostgresSource::new(options).map_err(failed)?)])
}

fn source_options(database: &Database, interrupt: &Interrupt) -> PostgresOptions {
    let Connection { hostname, port, username, password, ssl, .. } = database.source.clone();
    PostgresOptions {
        host: hostname,
        port,
        user: username,
        password,
        parameters: parameters(&ssl),
        label: database.label.clone(),
        format: match database.format {
            Some(DumpFormat::Plain) => PostgresFormat::Plain,
            Some(DumpFormat::Tar) => PostgresFormat::Tar,
            Some(DumpFormat::Custom | DumpFormat::Directory) | None => PostgresFormat::Custom,
        },
        arguments: database.extra.dump.clone(),
        pg_dump: database.programs.dump.clone(),
        stall_timeout_ms: database.stall_timeout_ms,
        interrupt: interrupt.clone(),
        ..PostgresOptions::new(as_name(&database.name))
    }
}

/// TLS in libpq's words.
fn parameters(ssl: &Ssl) -> Vec<(String, String)> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let all = [
        ("sslmode", ssl.mode.clone()),
        ("sslcert", path(&ssl.cert)),
        ("sslkey", path(&ssl.key)),
        ("sslrootcert", path(&ssl.root_cert)),
        ("sslcrl", path(&ssl.crl)),
    ];
    all.into_iter().filter_map(|(keyword, value)| Some((keyword.to_owned(), value?))).collect()
}

/// Makes the target of a database. Nothing is opened yet.
pub(super) fn target(
    entry: &EntryRecord,
    spec: &TargetSpec,
    configured: Option<&Database>,
    interrupt: &Interrupt,
) -> Result<Destination> {
    let (options, place) = target_options(entry, spec, configured, interrupt);
    let of_server = entry.attribute(attribute::PART) == Some(part::GLOBALS);
    if of_server {
        let PostgresTargetOptions { host, port, user, password, parameters, interrupt, .. } = options;
        let options = PostgresOptions {
            host,
            port,
            user,
            password,
            parameters,
            interrupt,
            ..PostgresOptions::new("postgres")
        };
        let target = Box::new(PostgresGlobalsTarget::new(options));
        return Ok(Destination { target, words: format!("roles and tablespaces of PostgreSQL{place}") });
    }
    let recorded = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
    let words =
        format!("PostgreSQL database {}{place}", spec.to.as_deref().map_or(recorded, without_password));
    let target =
        PostgresTarget::new(options).map_err(|error| Error::restore(&entry.meta.name, error, &[]))?;
    Ok(Destination { target: Box::new(target), words })
}

/// How to reach the database that an entry is restored to, and words for where its server is.
pub(super) fn target_options(
    entry: &EntryRecord,
    spec: &TargetSpec,
    configured: Option<&Database>,
    interrupt: &Interrupt,
) -> (PostgresTargetOptions, String) {
    let recorded = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
    let database = spec.to.clone().unwrap_or_else(|| as_name(recorded));
    let found = target_server(entry, spec);
    let connection = configured.map(|item| super::target_connection(item, &spec.server)).unwrap_or_default();
    let (host, port) = (connection.hostname.or(found.host), connection.port.or(found.port));
    let user = connection.username.or(found.user);
    let place = match (&host, port) {
        (Some(host), Some(port)) => format!(" on {host}, port {port}"),
        (Some(host), None) => format!(" on {host}"),
        _ => String::new(),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let programs = configured.map(|item| item.programs.clone()).unwrap_or_default();
    let options = PostgresTargetOptions {
        host,
        port,
        user,
        password: connection.password,
        parameters: parameters(&connection.ssl),
        in_place: spec.in_place,
        schemas: spec.schemas.clone(),
        arguments: configured.map(|item| item.extra.restore.clone()).unwrap_or_default(),
        pg_restore: programs.restore,
        psql: programs.client,
        no_analyze: spec.no_analyze,
        analyze_arguments: configured.map(|item| item.extra.analyze.clone()).unwrap_or_default(),
        parallel: spec.parallel.unwrap_or(cores),
        no_owner: spec.no_owner || configured.is_some_and(|item| item.no_owner),
        no_privileges: spec.no_privileges,
        no_tablespaces: spec.no_tablespaces,
        keep_old: spec.keep_old,
        interrupt: interrupt.clone(),
        ..PostgresTargetOptions::new(database)
    };
    (options, place)
}

/// The server the user means, in words or by libpq's variables; else the one that the entry came from.
fn target_server(entry: &EntryRecord, spec: &TargetSpec) -> Server {
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
pub(super) fn holds_password(text: &str) -> bool {
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
