//! MariaDB and MySQL: which server is meant, and what its sources and targets are made of.

use std::path::PathBuf;

use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{
    Family, Interrupt, MariadbGlobalsTarget, MariadbGlobalsTargetOptions, MariadbOptions, MariadbServer,
    MariadbSource, MariadbTarget, MariadbTargetOptions, Source,
};

use super::{Destination, TargetSpec, target_connection};
use crate::database::{ALL, Connection, Database};
use crate::{Error, Result};

/// Makes the sources of an item of a configuration. Users and grants come last: they name what databases hold.
pub(super) fn sources(database: &Database, interrupt: &Interrupt) -> Result<Vec<Box<dyn Source>>> {
    let server = server(database.kind, Some(database), database.source.clone(), interrupt);
    let options = MariadbOptions {
        dump_options: database.extra.dump.clone(),
        client_options: database.extra.list.clone(),
        without_routines: database.without_routines,
        without_events: database.without_events,
        label: database.label.clone(),
        ..MariadbOptions::new(server.clone(), &database.name)
    };
    let failed = |error| Error::dump(&database.name, error);
    if database.name != ALL {
        return Ok(vec![Box::new(MariadbSource::new(options).map_err(failed)?)]);
    }
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for name in server.databases(&database.extra.list).map_err(failed)? {
        if database.skip_names.contains(&name) {
            continue;
        }
        let named = MariadbOptions::new(server.clone(), &name);
        let options =
            MariadbOptions { entry_name: named.entry_name, content: named.content, ..options.clone() };
        sources.push(Box::new(MariadbSource::new(options).map_err(failed)?));
    }
    let globals = MariadbOptions::globals(server);
    let options = MariadbOptions {
        entry_name: format!("{}-globals", database.kind.name()),
        content: globals.content,
        ..options
    };
    sources.push(Box::new(MariadbSource::new(options).map_err(failed)?));
    Ok(sources)
}

fn server(
    kind: EntryKind,
    database: Option<&Database>,
    connection: Connection,
    interrupt: &Interrupt,
) -> MariadbServer {
    let family = if kind == EntryKind::Mysql { Family::Mysql } else { Family::Mariadb };
    let programs = database.map(|database| database.programs.clone()).unwrap_or_default();
    MariadbServer {
        host: connection.hostname,
        port: connection.port,
        socket: connection.socket_path,
        user: connection.username,
        password: connection.password,
        tls: connection.tls,
        dump_program: programs.dump,
        client_program: programs.client,
        stall_timeout_ms: database.and_then(|database| database.stall_timeout_ms),
        interrupt: interrupt.clone(),
        ..MariadbServer::new(family)
    }
}

/// Makes the target of a database, or of users and grants. Nothing is opened yet.
pub(super) fn target(
    entry: &EntryRecord,
    spec: &TargetSpec,
    configured: Option<&Database>,
    interrupt: &Interrupt,
) -> Result<Destination> {
    let kind = entry.meta.kind;
    let connection = match configured {
        Some(database) => target_connection(database, &spec.server),
        None => recorded(entry, spec),
    };
    let place = match (&connection.socket_path, &connection.hostname, connection.port) {
        (Some(socket), _, _) => format!(" on {}", socket.display()),
        (None, Some(host), Some(port)) => format!(" on {host}, port {port}"),
        (None, Some(host), None) => format!(" on {host}"),
        _ => String::new(),
    };
    let server = server(kind, configured, connection, interrupt);
    let family = server.family.name();
    if entry.attribute(attribute::PART).is_some() {
        // Accounts that are there already keep their passwords, unless the user wants the classic way.
        let options = MariadbGlobalsTargetOptions { server, replace: spec.in_place };
        let target = Box::new(MariadbGlobalsTarget::new(options));
        return Ok(Destination { target, words: format!("users and grants of {family}{place}") });
    }
    let name = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
    let name = spec.to.as_deref().unwrap_or(name);
    let options = MariadbTargetOptions {
        load_options: configured.map(|database| database.extra.restore.clone()).unwrap_or_default(),
        in_place: spec.in_place,
        keep_old: spec.keep_old,
        ..MariadbTargetOptions::new(server, name)
    };
    let target = MariadbTarget::new(options).map_err(|error| Error::restore(&entry.meta.name, error, &[]))?;
    Ok(Destination { target: Box::new(target), words: format!("{family} database {name}{place}") })
}

/// The server the user means; else the one that the entry came from.
fn recorded(entry: &EntryRecord, spec: &TargetSpec) -> Connection {
    let given = &spec.server;
    let known = |key| entry.attribute(key).filter(|value| !value.is_empty()).map(str::to_owned);
    let host = given.host.clone().or_else(|| known(attribute::HOST));
    let is_socket = host.as_deref().is_some_and(|host| host.starts_with('/'));
    let port = || known(attribute::PORT)?.parse().ok();
    Connection {
        socket_path: host.clone().filter(|_| is_socket).map(PathBuf::from),
        port: given.port.or_else(|| if given.host.is_none() && !is_socket { port() } else { None }),
        hostname: host.filter(|_| !is_socket),
        username: given.user.clone(),
        ..Connection::default()
    }
}
