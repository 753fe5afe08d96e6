//! A throw-away PostgreSQL server of our own: on a socket in a temporary directory, open to nobody else, gone with us.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::interrupt::Interrupt;
use crate::postgres_tools::Tools;
use crate::private_server::{PrivateServer, SystemUser};
use crate::{Error, Result};

/// The superuser of a private server.
const SUPERUSER: &str = "postgres";
/// The port names the socket; each server has a directory of its own.
const PORT: u16 = 5432;
/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long its files may take to be made.
const INITDB_TIMEOUT: Duration = Duration::from_secs(120);
/// Users to run it as in place of root, which PostgreSQL refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// Ends it at once, but lets it give shared memory back.
const END_SIGNAL: &str = "QUIT";

/// How the directory of each begins.
const PREFIX: &str = "dbvault-pg-";
/// Variables of libpq that would lead a client elsewhere, or by another way, although it is told of a socket.
const MISLEADING: [&str; 9] = [
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGOPTIONS",
    "PGSSLMODE",
    "PGREQUIREPEER",
    "PGTARGETSESSIONATTRS",
];

/// Quick rather than durable: nothing of it is to survive.
const SETTINGS: [&str; 10] = [
    "listen_addresses=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=16GB",
    "autovacuum=off",
    "archive_mode=off",
    "checkpoint_timeout=1h",
];

/// A running server; dropping it stops it and removes its files.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: PrivateServer,
    version: String,
    psql: PathBuf,
}

impl PrivatePostgres {
    /// Makes and starts one of major version `major`, else the smallest newer one that is installed.
    ///
    /// Errors: [`Error::ProgramMissing`] where no server is installed; what it logged where it does not start.
    pub fn start(major: u32, bin_dir: Option<PathBuf>, interrupt: &Interrupt) -> Result<PrivatePostgres> {
        let initdb = Tools::new(bin_dir).fitting("initdb", major).map_err(|error| match error {
            Error::ProgramMissing { program, .. } => {
                Error::ProgramMissing { program, package: Some("postgresql") }
            }
            other => other,
        })?;
        let user = SystemUser::in_place_of_root(&USERS)?;
        let mut server = PrivateServer::prepare("postgres", PREFIX, user)?;
        let socket = server.make_directory("socket")?;
        let data = server.path().join("data");
        server
            .program(&initdb.path)
            .args(["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--auth=trust", "-U", SUPERUSER, "-D"])
            .arg(&data)
            .interrupt(interrupt)
            .timeout(INITDB_TIMEOUT)
            .run_captured()?
            .into_success()?;
        server.start(&initdb.path.with_file_name("postgres"), END_SIGNAL, |program| {
            let program = program.arg("-D").arg(&data).arg("-k").arg(&socket).arg("-p").arg(PORT.to_string());
            SETTINGS.iter().fold(program, |program, setting| program.args(["-c", setting]))
        })?;
        // The server writes "ready" to the eighth line of this file.
        let pid_file = data.join("postmaster.pid");
        server.wait_until(Some(START_TIMEOUT), interrupt, || {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            Ok(text.lines().nth(7).is_some_and(|status| status.trim() == "ready").then_some(()))
        })?;
        let psql = Some(initdb.path.with_file_name("psql")).filter(|psql| psql.exists());
        let psql = psql.unwrap_or_else(|| PathBuf::from("psql"));
        Ok(PrivatePostgres { server, version: initdb.version, psql })
    }

    /// Variables that a client must not have.
    pub fn misleading_variables() -> &'static [&'static str] {
        &MISLEADING
    }

    /// Whether `host` is the socket directory of one. A client is told of it by many hands, which need not know.
    pub(crate) fn is_host(host: &str) -> bool {
        let directory = Path::new(host).parent().and_then(Path::file_name);
        host.starts_with('/') && directory.is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    }

    /// The directory of its socket: what a client takes as host.
    pub fn host(&self) -> String {
        self.server.path().join("socket").display().to_string()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        PORT
    }

    /// Its superuser, who needs no password.
    pub fn user(&self) -> &'static str {
        SUPERUSER
    }

    /// The client of its own version where it is installed beside it, else the one that `PATH` has.
    pub fn psql(&self) -> &Path {
        &self.psql
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }
}
