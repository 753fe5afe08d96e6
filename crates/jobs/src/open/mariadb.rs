//! MariaDB and MySQL: a private server on a socket, with the users that the database knows.

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;

use super::{OpenRequest, Opened, Place, escaped};
use crate::sandbox::Sandbox;
use crate::{Error, Result, Watcher};

/// Variables that name another server, or a password for one.
const CLEARED: [&str; 2] = ["MYSQL_TCP_PORT", "MYSQL_PWD"];

pub(super) fn open(
    sandbox: &Sandbox<'_>,
    name: &str,
    entry: &EntryRecord,
    request: &OpenRequest,
    watcher: &dyn Watcher,
) -> Result<Opened> {
    if request.read_only {
        // Its users have all rights, which go before a server's word that it can only be read.
        return Err(Error::NoReadOnly { entry: name.to_owned(), kind: entry.meta.kind.name() });
    }
    let private = sandbox.start_mariadb(entry, watcher)?;
    let server = private.server(&sandbox.interrupt);
    let restored = sandbox.restore_into(&server, entry, name, watcher)?;
    let database = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
    let socket = server.socket.unwrap_or_default().display().to_string();
    let user = server.user.unwrap_or_default();
    let (address, name) = (
        format!("mysql://{user}@localhost/{}?socket={}", escaped(database), escaped(&socket)),
        name.to_owned(),
    );
    let options = [format!("--socket={socket}"), format!("--user={user}"), database.to_owned()];
    Ok(Opened {
        name,
        kind: entry.meta.kind,
        server: server.family.name().to_owned(),
        environment: vec![
            ("MYSQL_UNIX_PORT", socket),
            ("MYSQL_HOST", "localhost".to_owned()),
            ("MYSQL_DATABASE", database.to_owned()),
            ("DATABASE_URL", address.clone()),
        ],
        client: server.client_program.iter().cloned().chain(options).collect(),
        address,
        restored,
        cleared: &CLEARED,
        package: "mariadb-client",
        program: None,
        _place: Place::Mariadb(private),
    })
}
