//! SQLite: a file of a private directory.

use dbvault_format::entry::EntryKind;
use dbvault_source::PrivateDirectory;

use super::{OpenRequest, Opened, Place, escaped};
use crate::sandbox::Sandbox;
use crate::{Error, Result, Watcher};

pub(super) fn open(
    sandbox: &Sandbox<'_>,
    name: &str,
    request: &OpenRequest,
    watcher: &dyn Watcher,
) -> Result<Opened> {
    let failed = |error| Error::restore(name, error, &[]);
    let directory = PrivateDirectory::make().map_err(failed)?;
    // Under its own name, which tells the user what a prompt is about.
    let file = std::path::Path::new(name).file_name().filter(|file| *file != "log" && *file != "ended");
    let path = directory.path().join(file.unwrap_or_else(|| "database".as_ref()));
    let restored = sandbox.restore_file(name, &path, watcher)?;
    let path = path.display().to_string();
    let mode = if request.read_only { "?mode=ro" } else { "" };
    let address = format!("file:{}{mode}", escaped(&path));
    let client = if request.read_only { vec!["sqlite3", "-readonly", &path] } else { vec!["sqlite3", &path] };
    Ok(Opened {
        name: name.to_owned(),
        kind: EntryKind::Sqlite,
        server: "SQLite".to_owned(),
        client: client.into_iter().map(str::to_owned).collect(),
        environment: vec![("DATABASE_URL", address.clone()), ("DATABASE_PATH", path)],
        address,
        restored,
        cleared: &[],
        package: "sqlite3",
        program: None,
        _place: Place::Directory(directory),
    })
}
