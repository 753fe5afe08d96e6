//! PostgreSQL: a private server on a socket, with the roles that the database knows.

use dbvault_dump::names::identifier;
use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;
use dbvault_source::{PrivatePostgres, postgres_ask};

use super::{OpenRequest, Opened, Place, escaped};
use crate::registry::TargetSpec;
use crate::sandbox::{Sandbox, postgres_address};
use crate::{Error, Result, Watcher};

pub(super) fn open(
    sandbox: &Sandbox<'_>,
    name: &str,
    entry: &EntryRecord,
    request: &OpenRequest,
    watcher: &dyn Watcher,
) -> Result<Opened> {
    let private = sandbox.start_postgres(entry, watcher)?;
    let server = postgres_address(&private);
    let spec = TargetSpec {
        server: server.clone(),
        no_tablespaces: true,
        parallel: request.parallel,
        ..TargetSpec::default()
    };
    let restored = sandbox.restore_with_roles(name, spec, watcher)?;
    let database = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
    if request.read_only {
        let options = sandbox.postgres_options(&server, "template1");
        let alter = format!("ALTER DATABASE {} SET default_transaction_read_only = on", identifier(database));
        postgres_ask(&options, &alter).map_err(|error| Error::restore(name, error, &[]))?;
    }
    let (host, port, user) = (private.host(), private.port().to_string(), private.user().to_owned());
    let address =
        format!("postgresql://{user}@/{}?host={}&port={port}", escape_name(database), escaped(&host));
    let psql = ["psql", "-h", &host, "-p", &port, "-U", &user, "-d", database];
    Ok(Opened {
        name: name.to_owned(),
        kind: entry.meta.kind,
        server: format!("PostgreSQL {}", private.version()),
        environment: vec![
            ("PGHOST", host.clone()),
            ("PGPORT", port.clone()),
            ("PGUSER", user.clone()),
            ("PGDATABASE", database.to_owned()),
            ("DATABASE_URL", address.clone()),
        ],
        client: psql.map(str::to_owned).to_vec(),
        address,
        restored,
        cleared: PrivatePostgres::misleading_variables(),
        package: "postgresql-client",
        program: Some(private.psql().to_owned()),
        _place: Place::Postgres(private),
    })
}

/// The name of a database in an address: a slash would begin another part.
fn escape_name(name: &str) -> String {
    escaped(name).replace('/', "%2F")
}
