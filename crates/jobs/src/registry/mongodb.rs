//! MongoDB: which server is meant, and what its source and target are made of.

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{
    Interrupt, MongodbOptions, MongodbServer, MongodbSource, MongodbTarget, MongodbTargetOptions, Source,
};

use super::{Destination, TargetSpec, target_connection};
use crate::database::{ALL, Connection, Database};

/// Makes the source of an item of a configuration. All databases are one entry: only so are they as of one moment.
pub(super) fn sources(database: &Database, interrupt: &Interrupt) -> Vec<Box<dyn Source>> {
    let all = database.name == ALL || database.name.is_empty();
    vec![Box::new(MongodbSource::new(MongodbOptions {
        server: server(Some(database), database.source.clone(), interrupt),
        database: (!all).then(|| database.name.clone()),
        entry_name: if all { "mongodb".to_owned() } else { database.name.clone() },
        label: database.label.clone(),
        dump_options: database.extra.dump.clone(),
    }))]
}

fn server(database: Option<&Database>, connection: Connection, interrupt: &Interrupt) -> MongodbServer {
    let programs = database.map(|database| database.programs.clone()).unwrap_or_default();
    MongodbServer {
        host: connection.hostname,
        port: connection.port,
        user: connection.username,
        password: connection.password,
        authentication_database: connection.authentication_database,
        dump_program: programs.dump,
        restore_program: programs.restore,
        stall_timeout_ms: database.and_then(|database| database.stall_timeout_ms),
        interrupt: interrupt.clone(),
    }
}

/// Makes the target. Nothing is opened yet.
pub(super) fn target(
    entry: &EntryRecord,
    spec: &TargetSpec,
    configured: Option<&Database>,
    interrupt: &Interrupt,
) -> Destination {
    let recorded = |key| entry.attribute(key).map(str::to_owned);
    let connection = match configured {
        Some(database) => target_connection(database, &spec.server),
        None => Connection {
            hostname: spec.server.host.clone().or_else(|| recorded(attribute::HOST)),
            port: spec.server.port.or_else(|| {
                if spec.server.host.is_none() { recorded(attribute::PORT)?.parse().ok() } else { None }
            }),
            username: spec.server.user.clone(),
            ..Connection::default()
        },
    };
    let host = connection.hostname.clone().unwrap_or_else(|| "localhost".to_owned());
    let port = connection.port.map(|port| format!(", port {port}")).unwrap_or_default();
    let database = spec.to.clone().or_else(|| recorded(attribute::DATABASE));
    let what = database.as_ref().map_or("all databases".to_owned(), |name| format!("database {name}"));
    let options = MongodbTargetOptions {
        server: server(configured, connection, interrupt),
        database,
        restore_options: configured.map(|database| database.extra.restore.clone()).unwrap_or_default(),
    };
    let words = format!("MongoDB {what} on {host}{port}");
    Destination { target: Box::new(MongodbTarget::new(options)), words }
}
