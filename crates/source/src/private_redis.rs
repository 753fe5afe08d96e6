//! A throw-away Redis or Valkey server of our own that loads a file: on a socket in a temporary directory, gone with us.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::interrupt::Interrupt;
use crate::private_server::PrivateServer;
use crate::process::Program;
use crate::redis_client::{Connection, RedisServer};
use crate::{Error, Result};

/// Databases that it has: as many as any file is likely to name.
const DATABASES: u32 = 4096;
/// Programs that can load the file, and what they are called here.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
const PACKAGE: &str = "redis-server";
/// Nothing of it is to survive: no need to end in order.
const END_SIGNAL: &str = "KILL";

/// A server, or the place for one, dropping which stops it and removes its files.
#[derive(Debug)]
pub struct PrivateRedis {
    server: PrivateServer,
    program: String,
}

impl PrivateRedis {
    /// A place for one, to be run by `program` where that is given. Errors: [`Error::ProgramMissing`].
    pub(crate) fn prepare(program: Option<&str>) -> Result<PrivateRedis> {
        let program = find(program)?;
        Ok(PrivateRedis { server: PrivateServer::prepare(&program, "dbvault-re-", None)?, program })
    }

    /// A place for one, run by whichever program is installed. Errors: [`Error::ProgramMissing`].
    pub fn place() -> Result<PrivateRedis> {
        PrivateRedis::prepare(None)
    }

    /// Where the file belongs that [`PrivateRedis::serve`] loads.
    pub fn file(&self) -> PathBuf {
        self.path("dump.rdb")
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.path("s")
    }

    /// Starts it with what is in its file, and waits until it has loaded all of that. It runs until it is dropped.
    pub fn serve(&mut self, interrupt: &Interrupt) -> Result<()> {
        self.start(&self.file(), interrupt).map(drop)
    }

    /// A path in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.server.path().join(name)
    }

    /// Starts it, and waits until it has loaded all of `file`.
    pub(crate) fn start(&mut self, file: &Path, interrupt: &Interrupt) -> Result<Connection> {
        let directory = file.parent().unwrap_or(Path::new("."));
        let name = file.file_name().unwrap_or_default();
        let socket = self.socket();
        self.server.start(Path::new(&self.program), END_SIGNAL, |program| {
            let program =
                program.args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"]).arg(&socket);
            let program = program.arg("--dir").arg(directory).arg("--dbfilename").arg(name);
            let program = program.arg("--databases").arg(DATABASES.to_string());
            program.args(["--save", "", "--appendonly", "no"])
        })?;
        let server =
            RedisServer { socket: Some(socket), interrupt: interrupt.clone(), ..RedisServer::default() };
        // For as long as it loads: the file may be large.
        self.server.wait_until(None, interrupt, || match Connection::open(&server) {
            Ok(connection) => Ok(Some(connection)),
            // It does not listen yet, or is still loading.
            Err(Error::Connect { .. } | Error::Database { .. }) => Ok(None),
            Err(other) => Err(other),
        })
    }
}

fn find(given: Option<&str>) -> Result<String> {
    let names: Vec<&str> = given.map_or(PROGRAMS.to_vec(), |given| vec![given]);
    for name in &names {
        match Program::new(name).arg("--version").timeout(Duration::from_secs(10)).run_captured() {
            Err(Error::ProgramMissing { .. }) => {}
            Err(other) => return Err(other),
            Ok(_) => return Ok((*name).to_owned()),
        }
    }
    Err(Error::ProgramMissing { program: names[0].to_owned(), package: Some(PACKAGE) })
}

/// Keys of each database that has some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisKeys {
    /// All that are there now.
    pub all: BTreeMap<String, u64>,
    /// Those that never expire, by the names that [`crate::row_counts`] has them under.
    pub lasting: BTreeMap<String, u64>,
}

/// Has a private server load a file, and counts the keys.
///
/// Errors: [`Error::ProgramMissing`] where no server is installed; what it logged where it can't load the file.
pub fn redis_keys(file: &Path, interrupt: &Interrupt) -> Result<RedisKeys> {
    let mut private = PrivateRedis::prepare(None)?;
    let info = private.start(file, interrupt)?.ask(&[b"INFO", b"keyspace"])?.text();
    Ok(keyspace(&info))
}

/// Reads lines such as `db0:keys=3,expires=1,avg_ttl=0`.
fn keyspace(info: &str) -> RedisKeys {
    let mut found = RedisKeys::default();
    for line in info.lines().filter(|line| line.starts_with("db")) {
        let Some((database, facts)) = line.trim().split_once(':') else { continue };
        let of = |key: &str| -> u64 {
            let value = facts.split(',').find_map(|fact| fact.strip_prefix(key)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or_default()
        };
        let (keys, expires) = (of("keys"), of("expires"));
        found.all.insert(database.to_owned(), keys);
        found.lasting.insert(database.to_owned(), keys.saturating_sub(expires));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_expire_are_told_apart() {
        let found =
            keyspace("# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0,subexpiry=0\r\ndb12:keys=7,expires=0\r\n");
        assert_eq!(found.all, BTreeMap::from([("db0".to_owned(), 3), ("db12".to_owned(), 7)]));
        assert_eq!(found.lasting, BTreeMap::from([("db0".to_owned(), 2), ("db12".to_owned(), 7)]));
    }
}
