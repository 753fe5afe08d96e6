//! Redis and Valkey: which server is meant, and what its source and targets are made of.

use std::env;
use std::path::{Path, PathBuf};

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{
    Interrupt, RedisOptions, RedisPlace, RedisServer, RedisSource, RedisTarget, RedisTargetOptions, Secret,
    Source,
};

use super::{Destination, TargetSpec, target_connection};
use crate::database::{Connection, Database};
use crate::{Error, Result};

/// The variable that `redis-cli` takes a password from.
const PASSWORD_VARIABLE: &str = "REDISCLI_AUTH";

/// Makes the source of an item of a configuration: a server's data is one entry, whatever it is called.
pub(super) fn sources(database: &Database, interrupt: &Interrupt) -> Vec<Box<dyn Source>> {
    let mut server = server(database.source.clone(), interrupt);
    server.stall_timeout_ms = database.stall_timeout_ms;
    let name = Some(database.name.clone()).filter(|name| !name.is_empty());
    let entry_name = name.unwrap_or_else(|| "redis".to_owned());
    vec![Box::new(RedisSource::new(RedisOptions { server, entry_name, label: database.label.clone() }))]
}

fn server(connection: Connection, interrupt: &Interrupt) -> RedisServer {
    let from_variable = || env::var(PASSWORD_VARIABLE).ok().filter(|password| !password.is_empty());
    // As with the other kinds, a path in place of a host is a socket.
    let (sockets, hosts): (Vec<_>, Vec<_>) =
        connection.hostname.into_iter().partition(|host| host.starts_with('/'));
    RedisServer {
        host: hosts.into_iter().next(),
        port: connection.port,
        socket: connection.socket_path.or_else(|| sockets.into_iter().next().map(PathBuf::from)),
        user: connection.username,
        password: connection.password.or_else(|| from_variable().map(Secret::new)),
        tls: connection.tls.unwrap_or(false),
        stall_timeout_ms: None,
        interrupt: interrupt.clone(),
    }
}

/// Makes the target: a file where the user names one, else the server. Nothing is opened yet.
pub(super) fn target(
    entry: &EntryRecord,
    spec: &TargetSpec,
    configured: Option<&Database>,
    interrupt: &Interrupt,
) -> Result<Destination> {
    let (place, words) = match &spec.to {
        Some(path) => {
            let path = std::path::absolute(path).map_err(Error::file("find", Path::new(path)))?;
            let words = format!("file {}", path.display());
            (RedisPlace::File(path), words)
        }
        None => {
            let connection = match configured {
                Some(database) => target_connection(database, &spec.server),
                None => recorded(entry, spec),
            };
            let server = server(connection, interrupt);
            let socket = server.socket.as_ref().map(|path| path.display().to_string());
            let host = socket.or_else(|| server.host.clone()).unwrap_or_else(|| "localhost".to_owned());
            let port = server.port.map(|port| format!(", port {port}")).unwrap_or_default();
            (RedisPlace::Server(server), format!("Redis on {host}{port}"))
        }
    };
    let options = RedisTargetOptions { place, server_program: None, interrupt: interrupt.clone() };
    Ok(Destination { target: Box::new(RedisTarget::new(options)), words })
}

/// The server the user means; else the one that the entry came from.
fn recorded(entry: &EntryRecord, spec: &TargetSpec) -> Connection {
    let given = &spec.server;
    let host = given.host.clone().or_else(|| entry.attribute(attribute::HOST).map(str::to_owned));
    let recorded_port = || entry.attribute(attribute::PORT)?.parse().ok();
    Connection {
        port: given.port.or_else(|| if given.host.is_none() { recorded_port() } else { None }),
        hostname: host,
        username: given.user.clone().or_else(|| entry.attribute(attribute::USER).map(str::to_owned)),
        ..Connection::default()
    }
}
