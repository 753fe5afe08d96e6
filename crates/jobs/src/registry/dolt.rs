//! Dolt and Doltgres: which server is meant, and what its sources and targets are made of.

use std::path::{Path, PathBuf};

use dbvault_format::manifest::EntryRecord;
use dbvault_source::{
    DoltOptions, DoltServer, DoltSource, DoltTarget, DoltTargetOptions, Family, Interrupt, MariadbServer,
    PostgresOptions, Source, postgres_databases,
};
use etcetera::BaseStrategy;

use super::{Destination, TargetSpec, naming};
use crate::database::{ALL, Connection, Database};
use crate::{Error, Result};

/// The port of PostgreSQL, which Doltgres listens on.
const DOLTGRES_PORT: u16 = 5432;

/// Makes the sources of an item of a configuration.
pub(super) fn sources(database: &Database, interrupt: &Interrupt) -> Result<Vec<Box<dyn Source>>> {
    let failed = |error| Error::dump(&database.name, error);
    let server = server(database, interrupt);
    let names = match (&server, database.name.as_str()) {
        (DoltServer::Dolt(server), ALL) => server.databases(&database.extra.list).map_err(failed)?,
        (DoltServer::Doltgres(text), ALL) => {
            let options =
                PostgresOptions { interrupt: interrupt.clone(), ..PostgresOptions::new(text.clone()) };
            postgres_databases(&options, &database.extra.list).map_err(failed)?
        }
        (_, name) => vec![name.to_owned()],
    };
    let spool = spool(database)?;
    let wanted = names.into_iter().filter(|name| !database.skip_names.contains(name));
    let source = |name: String| -> Box<dyn Source> {
        Box::new(DoltSource::new(DoltOptions {
            server: server.clone(),
            entry_name: name.clone(),
            database: name,
            data_directory: database.path.clone(),
            spool: spool.clone(),
            label: database.label.clone(),
            interrupt: interrupt.clone(),
        }))
    };
    Ok(wanted.map(source).collect())
}

/// Doltgres is told by its port, by a client that is `psql`, or by its file of users.
fn server(database: &Database, interrupt: &Interrupt) -> DoltServer {
    let Connection { hostname, port, socket_path, username, password, tls, .. } = database.source.clone();
    let client = database.programs.client.first();
    let auth_file = database.path.as_ref().is_some_and(|path| path.join(".doltcfg/auth.db").exists());
    let is_psql = client.is_some_and(|word| Path::new(word).file_name().is_some_and(|name| name == "psql"));
    if !(port == Some(DOLTGRES_PORT) || is_psql || auth_file) {
        return DoltServer::Dolt(MariadbServer {
            host: hostname,
            port,
            socket: socket_path,
            user: username,
            password,
            tls,
            client_program: database.programs.client.clone(),
            stall_timeout_ms: database.stall_timeout_ms,
            interrupt: interrupt.clone(),
            ..MariadbServer::new(Family::Mysql)
        });
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let words = [
        ("host", hostname),
        ("port", port.map(|port| port.to_string())),
        ("user", username),
        ("password", password.map(|password| password.expose().to_owned())),
        ("dbname", Some("postgres".to_owned())),
    ];
    let words = words.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", quoted(&value?))));
    DoltServer::Doltgres(words.collect::<Vec<_>>().join(" "))
}

/// Where the server's backups stay between ours.
fn spool(database: &Database) -> Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(|_| Error::NoHome)?;
    let server = naming::server(database).replace(['/', ':'], "_");
    Ok(base.cache_dir().join("dbvault").join("dolt").join(server))
}

/// Makes the target: a directory. Nothing is made yet.
pub(super) fn target(entry: &EntryRecord, spec: &TargetSpec, interrupt: &Interrupt) -> Result<Destination> {
    let directory =
        spec.to.clone().unwrap_or_else(|| format!("{}.dolt-backup", entry.meta.name.replace('/', "_")));
    let directory = std::path::absolute(&directory).map_err(Error::file("find", Path::new(&directory)))?;
    let words = format!("directory {}", directory.display());
    let options = DoltTargetOptions { directory, interrupt: interrupt.clone() };
    Ok(Destination { target: Box::new(DoltTarget::new(options)), words })
}
