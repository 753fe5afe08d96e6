//! A private MariaDB server for one test: real server, temporary directory, no open network port unless asked for.
//!
//! As with [`postgres_server`](crate::postgres_server), a guard ends it should the program that asked for it be killed.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::postgres_server::place::{SystemUser, find_user, free_port};
use crate::postgres_server::{end, run_with_input, spawn_guard};

/// The user with all rights of every server made here.
const SUPERUSER: &str = "root";
/// Full of characters that careless quoting in an option file or a shell would break.
const PASSWORD: &str = "tricky:pass\\word 'and\" #@/%20\\n";
/// What an error begins with where the server is not installed.
pub const NOT_INSTALLED: &str = "no MariaDB server found";
const START_SECONDS_MAX: u64 = 60;

/// How a [`MariadbServer`] is started; the default trusts everybody who reaches its socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct MariadbServerOptions {
    /// Ask the superuser for a password.
    pub password: bool,
    /// Listen on a free port of 127.0.0.1 besides the socket.
    pub tcp: bool,
}

/// A running private server; dropping it stops the server at once and removes all its files.
#[derive(Debug)]
pub struct MariadbServer {
    // Declared before the directory: the processes must be gone when it is removed.
    running: Option<(Child, Child)>,
    directory: TempDir,
    options: MariadbServerOptions,
    run_as: Option<SystemUser>,
    port: u16,
}

impl MariadbServer {
    /// Makes and starts a server that listens on its own Unix socket only and trusts every client.
    ///
    /// # Errors
    /// Says in words what is missing (no MariaDB installed) or what the server logged.
    pub fn start() -> Result<Self, String> {
        Self::start_with(MariadbServerOptions::default())
    }

    /// Makes and starts a server as `options` say.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(options: MariadbServerOptions) -> Result<Self, String> {
        if !find("mariadbd").is_absolute() {
            return Err(format!("{NOT_INSTALLED}: there is no mariadbd"));
        }
        let is_root = rustix::process::geteuid().is_root();
        let run_as = if is_root { Some(find_user(&["mysql", "nobody"], "MariaDB")?) } else { None };
        // The path of a socket has room for 107 bytes.
        let directory = tempfile::Builder::new().prefix("dbvault-my-").tempdir_in("/tmp");
        let directory = directory.map_err(|error| format!("cannot make a directory for MariaDB: {error}"))?;
        let prepare = || -> std::io::Result<()> {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
            let temporary = directory.path().join("tmp");
            fs::create_dir(&temporary)?;
            let own = |path: &Path| run_as.map_or(Ok(()), |user| chown(path, Some(user.uid), Some(user.gid)));
            own(directory.path())?;
            own(&temporary)
        };
        prepare().map_err(|error| format!("cannot make a directory for MariaDB: {error}"))?;
        let port = if options.tcp { free_port()? } else { 3306 };
        let mut server = Self { running: None, directory, options, run_as, port };
        server.install()?;
        server.restart()?;
        if options.password {
            let sql = format!(
                "ALTER USER root@localhost IDENTIFIED BY '{}'",
                PASSWORD.replace('\\', "\\\\").replace('\'', "''")
            );
            let mut command = server.client_without_password("mariadb");
            command.arg("--batch");
            run_with_input(command, sql.as_bytes())?;
        }
        Ok(server)
    }

    /// Starts the server again after [`kill`](Self::kill); a running one is killed first.
    ///
    /// # Errors
    /// What the server logged when it did not come up.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.map_err(|error| format!("cannot open the server's log: {error}"))?;
        let mut command = self.server_command("mariadbd");
        command.args(SETTINGS);
        command.arg(format!("--datadir={}", self.data_dir().display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", self.directory.path().join("pid").display()));
        if self.options.tcp {
            command.arg("--bind-address=127.0.0.1").arg(format!("--port={}", self.port));
        } else {
            command.arg("--skip-networking");
        }
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = command.spawn().map_err(|error| format!("cannot start mariadbd: {error}"))?;
        match spawn_guard(server.id(), self.directory.path(), "KILL") {
            Ok(guard) => self.running = Some((server, guard)),
            Err(error) => {
                end(server, Signal::KILL);
                return Err(error);
            }
        }
        self.wait_until_ready()
    }

    /// The socket that clients connect to.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The port, where the server listens on one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser to connect as.
    pub fn user(&self) -> &str {
        SUPERUSER
    }

    /// The superuser's password, when the server asks for one.
    pub fn password(&self) -> Option<&str> {
        self.options.password.then_some(PASSWORD)
    }

    /// The server's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What the server has logged since it was first started.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// A client program, ready to reach this server.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.client_without_password(program);
        if let Some(password) = self.password() {
            command.env("MYSQL_PWD", password);
        }
        command
    }

    /// Runs SQL. Returns the rows without headers, fields parted by tabs, without the last newline.
    ///
    /// # Errors
    /// What the client wrote to standard error; the statements before the faulty one have taken effect.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = self.command("mariadb");
        command.args([
            "--batch",
            "--skip-column-names",
            "--comments",
            "--binary-mode",
            "--binary-as-hex",
            "--default-character-set=utf8mb4",
        ]);
        if !database.is_empty() {
            command.arg("--").arg(database);
        }
        let output = run_with_input(command, sql.as_bytes())?;
        Ok(output.trim_end_matches('\n').to_owned())
    }

    /// Everything of a database that a restore must bring back, as one text to compare: definitions, and a hash of
    /// each table's rows in any order.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn row_hashes(&self, database: &str) -> Result<String, String> {
        let mut text = self.sql(database, include_str!("mariadb_server/definitions.sql"))?;
        let tables = self.sql(
            database,
            "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1",
        )?;
        for line in tables.lines() {
            let (table, kind) = line.split_once('\t').unwrap_or((line, ""));
            let quoted = format!("`{}`", table.replace('`', "``"));
            let what = if kind == "SEQUENCE" { "next_not_cached_value" } else { "*" };
            // The client's own escapes make equal texts of equal rows only.
            let rows =
                self.sql(database, &format!("SHOW CREATE TABLE {quoted}; SELECT {what} FROM {quoted};"))?;
            let mut rows: Vec<&str> = rows.lines().collect();
            rows.sort_unstable();
            text += &format!("\n{table}: {kind} {}", rows.join("\n"));
        }
        // A view's or sequence's text may name the database it is in.
        Ok(text.replace(&format!("`{}`.", database.replace('`', "``")), ""))
    }

    /// The process id of the server.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|(server, _)| server.id())
    }

    /// Kills the server as a crash would. Does nothing when stopped.
    pub fn kill(&mut self) {
        if let Some((server, guard)) = self.running.take() {
            // The guard first: after us the process id may belong to somebody else.
            end(guard, Signal::KILL);
            end(server, Signal::KILL);
        }
    }

    /// Makes the server's own tables: the installer's SQL fed to a server without any.
    fn install(&self) -> Result<(), String> {
        let mut command = self.server_command("mariadb-install-db");
        command.args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]);
        command.arg(format!("--datadir={}", self.data_dir().display()));
        run_with_input(command, b"").map(drop)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < deadline {
            let Some((server, _)) = &mut self.running else { break };
            if !matches!(server.try_wait(), Ok(None)) {
                break;
            }
            // A socket alone may be that of the server that was killed.
            if std::os::unix::net::UnixStream::connect(self.socket()).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("mariadbd did not start:\n{}", self.log()))
    }

    /// A server program, run by the user who owns the data.
    fn server_command(&self, program: &str) -> Command {
        // Debian keeps the server off the PATH of users.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = match self.run_as {
            None => Command::new(find(program)),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
                command.args(["--clear-groups", "--"]).arg(find(program));
                command
            }
        };
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).current_dir(self.directory.path());
        // Two servers that share one take each other's temporary tables away.
        command.env("TMPDIR", self.directory.path().join("tmp"));
        command
    }

    fn client_without_password(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_remove("MYSQL_PWD").env("HOME", self.directory.path()).arg("--no-defaults");
        command.arg(format!("--socket={}", self.socket().display())).arg(format!("--user={SUPERUSER}"));
        command
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for MariadbServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Quick rather than durable: the data never has to survive the machine.
const SETTINGS: [&str; 8] = [
    "--no-defaults",
    // Written at each commit though not synced: what was committed outlives a killed server.
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--innodb-buffer-pool-size=64M",
    "--skip-log-bin",
    "--event-scheduler=ON",
    "--log-warnings=1",
    "--performance-schema=OFF",
];

fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = directories.map(|directory| directory.join(program)).find(|path| Path::exists(path));
    found.unwrap_or_else(|| PathBuf::from(program))
}
