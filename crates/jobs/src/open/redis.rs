//! Redis and Valkey: a private server on a socket that has loaded the file.

use dbvault_format::entry::EntryKind;
use dbvault_source::PrivateRedis;

use super::{OpenRequest, Opened, Place};
use crate::sandbox::Sandbox;
use crate::{Error, Result, Watcher};

pub(super) fn open(
    sandbox: &Sandbox<'_>,
    name: &str,
    request: &OpenRequest,
    watcher: &dyn Watcher,
) -> Result<Opened> {
    if request.read_only {
        return Err(Error::NoReadOnly { entry: name.to_owned(), kind: EntryKind::Redis.name() });
    }
    let failed = |error| Error::restore(name, error, &[]);
    let mut private = PrivateRedis::place().map_err(failed)?;
    let restored = sandbox.restore_file(name, &private.file(), watcher)?;
    private.serve(&sandbox.interrupt).map_err(failed)?;
    let socket = private.socket().display().to_string();
    let address = format!("unix://{socket}");
    Ok(Opened {
        name: name.to_owned(),
        kind: EntryKind::Redis,
        server: "Redis".to_owned(),
        environment: vec![("REDIS_URL", address.clone())],
        client: vec!["redis-cli".to_owned(), "-s".to_owned(), socket],
        address,
        restored,
        cleared: &["REDISCLI_AUTH"],
        package: "redis-tools",
        program: None,
        _place: Place::Redis(private),
    })
}
