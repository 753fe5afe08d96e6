//! Where a private server finds its programs, its user, its directory and its port.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A socket path has room for 107 bytes; `/dbvault-pg-XXXXXX/socket/.s.PGSQL.65535` needs 41 of them.
const TEMP_PATH_BYTES_MAX: usize = 60;

/// The user to run the server as, since PostgreSQL refuses to be run by root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The programs of the newest installed version, or of `DBVAULT_PG_BINDIR`.
pub(super) fn find_bin_dir() -> Result<PathBuf, String> {
    if let Some(directory) = std::env::var_os("DBVAULT_PG_BINDIR") {
        return Ok(PathBuf::from(directory));
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin_dir)| bin_dir.join("initdb").exists())
        .max();
    newest
        .map(|(_, bin_dir)| bin_dir)
        .ok_or_else(|| "no PostgreSQL server found: install it or set DBVAULT_PG_BINDIR".to_owned())
}

/// The user `postgres`, or else `nobody`.
pub(super) fn unprivileged_user() -> Result<SystemUser, String> {
    find_user(&["postgres", "nobody"], "PostgreSQL")
}

/// The first of these users that there is, to run `what` as.
pub(crate) fn find_user(names: &[&str], what: &str) -> Result<SystemUser, String> {
    let users = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
            (fields[0] == name).then_some(SystemUser { uid, gid })
        })
    };
    names.iter().find_map(|name| find(name)).ok_or_else(|| format!("no user to run {what} as"))
}

/// A private directory, short enough for a socket path and within reach of the server's user.
pub(super) fn make_directory(owner: Option<SystemUser>) -> Result<TempDir, String> {
    let preferred = std::env::temp_dir();
    let within_reach = owner.is_none() || preferred.ancestors().all(others_may_enter);
    let short = preferred.as_os_str().len() <= TEMP_PATH_BYTES_MAX;
    let parent = if short && within_reach { preferred } else { PathBuf::from("/tmp") };
    let make = || -> std::io::Result<TempDir> {
        let directory = tempfile::Builder::new().prefix("dbvault-pg-").tempdir_in(parent)?;
        fs::create_dir(directory.path().join("socket"))?;
        if let Some(user) = owner {
            chown(directory.path(), Some(user.uid), Some(user.gid))?;
            chown(directory.path().join("socket"), Some(user.uid), Some(user.gid))?;
        }
        Ok(directory)
    };
    make().map_err(|error| format!("cannot make a directory for PostgreSQL: {error}"))
}

fn others_may_enter(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("no free port on 127.0.0.1: {error}"))
}
