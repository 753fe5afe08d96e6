//! A throw-away MariaDB or MySQL server of our own: on a socket in a temporary directory, open to nobody else, gone
//! with us.

use std::env;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::interrupt::Interrupt;
use crate::mariadb_tools::{Family, MariadbServer, Role, Tool};
use crate::private_server::{PrivateServer, SystemUser};
use crate::process::Program;
use crate::{Error, Result};

/// The user with all rights, who needs no password.
const SUPERUSER: &str = "root";
/// How long it may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long its files may take to be made.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a server may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Users to run it as in place of root, which these servers refuse.
const USERS: [&str; 2] = ["mysql", "nobody"];
/// Nothing of it is to survive: no need to end in order.
const END_SIGNAL: &str = "KILL";
/// Where Debian keeps servers, off the `PATH` of users.
const SERVER_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
/// The user's own option files and variables are about other servers.
const CLIENT_WORDS: [&str; 2] = ["--no-defaults", "--skip-password"];

/// Quick rather than durable, and nothing happens there by itself. A server obeys of `--loose` what it knows.
const SETTINGS: [&str; 10] = [
    "--skip-networking",
    "--skip-name-resolve",
    "--max-allowed-packet=1G",
    "--loose-skip-log-bin",
    "--loose-event-scheduler=OFF",
    "--loose-innodb-flush-log-at-trx-commit=0",
    "--loose-innodb-flush-method=nosync",
    "--loose-skip-innodb-doublewrite",
    "--loose-performance-schema=OFF",
    "--loose-mysqlx=OFF",
];

/// A running server; dropping it stops it and removes its files.
#[derive(Debug)]
pub struct PrivateMariadb {
    server: PrivateServer,
    family: Family,
    client: Vec<String>,
    dump: Vec<String>,
}

/// An installed server program.
struct Installed {
    path: PathBuf,
    is_mariadb: bool,
}

impl PrivateMariadb {
    /// Makes and starts one of `family`, else of the other, as far as installed.
    ///
    /// Errors: [`Error::ProgramMissing`] where no server, or no client, is installed; what it logged where it does not
    /// start.
    pub fn start(family: Family, interrupt: &Interrupt) -> Result<PrivateMariadb> {
        let known = MariadbServer { interrupt: interrupt.clone(), ..MariadbServer::new(family) };
        let words = |role| -> Result<Vec<String>> {
            let words = Tool::find(&known, role)?.words().to_vec();
            Ok(words.into_iter().chain(CLIENT_WORDS.map(str::to_owned)).collect())
        };
        let (client, dump) = (words(Role::Client)?, words(Role::Dump)?);
        let installed = installed(family, interrupt)?;
        let user = SystemUser::in_place_of_root(&USERS)?;
        let mut server = PrivateServer::prepare(family.name(), "dbvault-my-", user)?;
        let temporary = server.make_directory("tmp")?;
        let data = server.make_directory("data")?;
        install(&server, &installed, (&data, &temporary), interrupt)?;
        let socket = server.path().join("s");
        let place = [
            ("datadir", &data),
            ("tmpdir", &temporary),
            ("socket", &socket),
            ("pid-file", &server.path().join("pid")),
        ];
        let place = place.map(|(name, path)| format!("--{name}={}", path.display()));
        server.start(&installed.path, END_SIGNAL, |program| {
            program.arg("--no-defaults").args(place).args(SETTINGS)
        })?;
        server
            .wait_until(Some(START_TIMEOUT), interrupt, || Ok(UnixStream::connect(&socket).ok().map(drop)))?;
        Ok(PrivateMariadb { server, family, client, dump })
    }

    /// How to reach it, with all rights.
    pub fn server(&self, interrupt: &Interrupt) -> MariadbServer {
        MariadbServer {
            socket: Some(self.server.path().join("s")),
            user: Some(SUPERUSER.to_owned()),
            client_program: self.client.clone(),
            dump_program: self.dump.clone(),
            interrupt: interrupt.clone(),
            ..MariadbServer::new(self.family)
        }
    }
}

/// Makes the server's own tables.
fn install(
    server: &PrivateServer,
    installed: &Installed,
    (data, temporary): (&Path, &Path),
    interrupt: &Interrupt,
) -> Result<()> {
    let data = format!("--datadir={}", data.display());
    let program = if installed.is_mariadb {
        let program = server.program(&find(&["mariadb-install-db", "mysql_install_db"])?);
        let words = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"];
        program.args(words).arg("--skip-name-resolve")
    } else {
        server.program(&installed.path).args(["--no-defaults", "--initialize-insecure"])
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::split_paths(&path).chain(SERVER_DIRECTORIES.map(PathBuf::from));
    let path = env::join_paths(path).unwrap_or_default();
    // Our own directory for temporary files may be closed to the server's user.
    let captured = program
        .arg(data)
        .env("PATH", path)
        .env("TMPDIR", temporary)
        .interrupt(interrupt)
        .timeout(INSTALL_TIMEOUT)
        .run_captured()?;
    captured.into_success().map(drop)
}

/// The server of `family`, else that of the other.
fn installed(family: Family, interrupt: &Interrupt) -> Result<Installed> {
    let mut other = None;
    for name in ["mariadbd", "mysqld"] {
        let Ok(path) = find(&[name]) else { continue };
        let program = Program::new(&path).args(["--no-defaults", "--version"]).env("LC_ALL", "C");
        let output = program.timeout(VERSION_TIMEOUT).interrupt(interrupt).run_captured()?.into_success()?;
        let is_mariadb = String::from_utf8_lossy(&output).contains("MariaDB");
        let installed = Installed { path, is_mariadb };
        if is_mariadb == (family == Family::Mariadb) {
            return Ok(installed);
        }
        other.get_or_insert(installed);
    }
    let program = if family == Family::Mariadb { "mariadbd" } else { "mysqld" };
    other.ok_or_else(|| missing(program))
}

fn find(names: &[&str]) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> =
        env::split_paths(&path).chain(SERVER_DIRECTORIES.map(PathBuf::from)).collect();
    let at =
        |name: &&str| directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file());
    names.iter().find_map(at).ok_or_else(|| missing(names.first().copied().unwrap_or_default()))
}

fn missing(program: &str) -> Error {
    Error::ProgramMissing { program: program.to_owned(), package: Some("mariadb-server") }
}
