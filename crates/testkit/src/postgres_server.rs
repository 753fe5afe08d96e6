//! A private PostgreSQL cluster for one test: real server, temporary directory, no open network port.
//!
//! The server must never outlive the program that asked for it. Dropping the handle stops it, but a killed
//! program drops nothing; so a guard process waits for the end of a pipe that only we hold, and then stops
//! the server and removes the directory in our stead.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use self::place::{SystemUser, find_bin_dir, free_port, make_directory, unprivileged_user};

pub(crate) mod place;

/// The superuser of every cluster made here.
const SUPERUSER: &str = "postgres";
/// Full of characters that careless quoting in a password file, an address or a shell would break.
const PASSWORD: &str = "tricky:pass\\word 'and\" @/%20";
/// The port names the socket file; each cluster has its own directory, so all may use the same one.
const SOCKET_PORT: u16 = 5432;
const START_SECONDS_MAX: u64 = 60;
const STOP_SECONDS_MAX: u64 = 20;
const START_ATTEMPTS_MAX: u32 = 4;
/// Grows with each attempt.
const START_PAUSE: Duration = Duration::from_millis(100);
/// Settings of the caller's environment that would lead a client to another server.
const CLIENT_VARIABLES: [&str; 12] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGDATABASE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGCLIENTENCODING",
    "PGSSLMODE",
];

/// How a [`PostgresServer`] is started; the default trusts everybody who reaches its socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerOptions {
    /// Ask every client for a password (SCRAM-SHA-256).
    pub password: bool,
    /// Listen on a free port of 127.0.0.1 besides the socket.
    pub tcp: bool,
    /// Let `pg_basebackup` copy the files.
    pub replication: bool,
}

/// A running private cluster; dropping it stops the server at once and removes all its files.
#[derive(Debug)]
pub struct PostgresServer {
    // Declared before the directory: the processes must be gone when it is removed.
    postmaster: Option<Running>,
    directory: TempDir,
    bin_dir: PathBuf,
    options: ServerOptions,
    run_as: Option<SystemUser>,
    port: u16,
}

/// The server process and the guard that ends it should this program be killed.
#[derive(Debug)]
struct Running {
    server: Child,
    guard: Child,
}

impl PostgresServer {
    /// Makes and starts a cluster that listens on its own Unix socket only and trusts every client.
    ///
    /// # Errors
    /// Says in words what is missing (no PostgreSQL installed) or what the server logged.
    pub fn start() -> Result<Self, String> {
        Self::start_with(ServerOptions::default())
    }

    /// Like [`start`](Self::start), but every client must know [`password`](Self::password).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_password() -> Result<Self, String> {
        Self::start_with(ServerOptions { password: true, ..ServerOptions::default() })
    }

    /// Makes and starts a cluster as `options` say.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(options: ServerOptions) -> Result<Self, String> {
        let bin_dir = find_bin_dir()?;
        let run_as = if rustix::process::geteuid().is_root() { Some(unprivileged_user()?) } else { None };
        let directory = make_directory(run_as)?;
        let mut cluster = Self { postmaster: None, directory, bin_dir, options, run_as, port: SOCKET_PORT };
        cluster.initdb()?;
        cluster.restart()?;
        Ok(cluster)
    }

    /// Starts the server again after [`stop_immediate`](Self::stop_immediate) or [`kill`](Self::kill);
    /// a running one is stopped first. With `tcp` the port may change.
    ///
    /// # Errors
    /// What the server logged when it did not come up.
    pub fn restart(&mut self) -> Result<(), String> {
        self.stop_immediate();
        let mut outcome = Ok(());
        // A free TCP port can be taken by another program before the server binds it, and after a kill the
        // orphaned processes hold on to the shared memory for a moment.
        for attempt in 0..START_ATTEMPTS_MAX {
            std::thread::sleep(START_PAUSE * attempt);
            if self.options.tcp {
                self.port = free_port()?;
            }
            outcome = self.start_postmaster();
            if outcome.is_ok() {
                break;
            }
            self.stop_immediate();
        }
        outcome
    }

    /// The directory of the Unix socket: what a client takes as `PGHOST`.
    pub fn socket_dir(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// The port, which also names the socket file.
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

    /// The directory of the PostgreSQL programs that belong to the server.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The cluster's data directory, readable by the user who runs the server and by root.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What the server has logged since it was first started.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The environment that leads a client program to this server. No password: a test hands it over its way.
    pub fn env(&self) -> Vec<(String, String)> {
        vec![
            ("PGHOST".into(), self.socket_dir().to_string_lossy().into_owned()),
            ("PGPORT".into(), self.port.to_string()),
            ("PGUSER".into(), SUPERUSER.into()),
        ]
    }

    /// One of the server's own client programs (`pg_dump`, `psql`, ...), ready to reach this server.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        for variable in CLIENT_VARIABLES {
            command.env_remove(variable);
        }
        command.envs(self.env());
        if let Some(password) = self.password() {
            command.env("PGPASSWORD", password);
        }
        command
    }

    /// Runs SQL and `psql` commands; each statement is its own transaction. Returns the rows without
    /// alignment, headers and command tags, fields parted by `|`, without the last newline.
    ///
    /// # Errors
    /// What `psql` wrote to standard error; the statements before the faulty one have taken effect.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = self.command("psql");
        command.args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
        let output = run_with_input(command, sql.as_bytes())?;
        Ok(output.trim_end_matches('\n').to_owned())
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// As [`psql`](Self::psql).
    pub fn create_database(&self, name: &str) -> Result<(), String> {
        let quoted = name.replace('"', "\"\"");
        self.psql("postgres", &format!("CREATE DATABASE \"{quoted}\" TEMPLATE template0;")).map(drop)
    }

    /// Everything of a database that a restore must bring back, as one text to compare: definitions, a hash
    /// of each table's rows in any order, sequence values and large objects.
    ///
    /// # Errors
    /// As [`psql`](Self::psql).
    pub fn row_hashes(&self, database: &str) -> Result<String, String> {
        self.psql(database, include_str!("row_hashes.sql"))
    }

    /// Stops the server without a checkpoint; the next start recovers from the log. Does nothing when stopped.
    pub fn stop_immediate(&mut self) {
        self.stop(Signal::QUIT);
    }

    /// Kills the server process as a crash would: the others notice and leave. Does nothing when stopped.
    pub fn kill(&mut self) {
        self.stop(Signal::KILL);
    }

    fn initdb(&self) -> Result<(), String> {
        let method = if self.options.password { "scram-sha-256" } else { "trust" };
        let mut command = self.server_command("initdb");
        command
            .args(["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions", "-U", SUPERUSER])
            .arg(format!("--auth={method}"))
            .arg("-D")
            .arg(self.data_dir());
        if !self.options.password {
            return run_with_input(command, b"").map(drop);
        }
        // In a file, for root's pipes cannot be opened again by the server's user.
        let password_file = self.directory.path().join("password");
        fs::write(&password_file, format!("{PASSWORD}\n"))
            .and_then(|()| self.run_as.map_or(Ok(()), |user| chown(&password_file, Some(user.uid), None)))
            .map_err(|error| format!("cannot write the password of PostgreSQL: {error}"))?;
        command.arg("--pwfile").arg(&password_file);
        run_with_input(command, b"").map(drop)
    }

    fn start_postmaster(&mut self) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.map_err(|error| format!("cannot open the server's log: {error}"))?;
        let mut command = self.server_command("postgres");
        command.arg("-D").arg(self.data_dir()).arg("-k").arg(self.socket_dir());
        command.args(["-p", &self.port.to_string()]);
        let addresses = if self.options.tcp { "listen_addresses=127.0.0.1" } else { "listen_addresses=" };
        // The last one of a name counts.
        let replication: &[&str] =
            if self.options.replication { &["wal_level=replica", "max_wal_senders=2"] } else { &[] };
        for setting in SETTINGS.iter().chain([&addresses]).chain(replication) {
            command.args(["-c", setting]);
        }
        // Its own process group: an interrupt typed at the terminal must reach the guard's order, not the server.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = command.spawn().map_err(|error| format!("cannot start postgres: {error}"))?;
        let guard = spawn_guard(server.id(), self.directory.path(), "QUIT");
        match guard {
            Ok(guard) => self.postmaster = Some(Running { server, guard }),
            Err(error) => {
                end(server, Signal::QUIT);
                return Err(error);
            }
        }
        self.wait_until_ready()
    }

    /// The server writes "ready" to the eighth line of `postmaster.pid`, and its process id to the first.
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        let pid_file = self.data_dir().join("postmaster.pid");
        while Instant::now() < deadline {
            let Some(running) = &mut self.postmaster else { break };
            if !matches!(running.server.try_wait(), Ok(None)) {
                break;
            }
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            let mut lines = text.lines();
            let ours = lines.next() == Some(&running.server.id().to_string());
            if ours && lines.nth(6).is_some_and(|status| status.trim() == "ready") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("postgres did not start:\n{}", self.log()))
    }

    /// A server program, run by the user who owns the data.
    fn server_command(&self, program: &str) -> Command {
        let path = self.bin_dir.join(program);
        let mut command = match self.run_as {
            None => Command::new(path),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
                command.args(["--clear-groups", "--"]).arg(path);
                command
            }
        };
        for variable in CLIENT_VARIABLES {
            command.env_remove(variable);
        }
        // The caller's directory may be closed to that user.
        command.current_dir(self.directory.path());
        command
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn stop(&mut self, signal: Signal) {
        if let Some(running) = self.postmaster.take() {
            // The guard first: after us the process id may belong to somebody else.
            end(running.guard, Signal::KILL);
            end(running.server, signal);
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop_immediate();
    }
}

/// Quick rather than durable: the data never has to survive the machine. It does survive the server, which tests kill: so
/// commits are not left to its log writer.
const SETTINGS: [&str; 8] = [
    "fsync=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=16GB",
    "shared_buffers=128MB",
    "maintenance_work_mem=128MB",
    "checkpoint_timeout=1h",
];

/// Waits for the end of its standard input, which comes with the end of this program, however it ends.
pub(crate) fn spawn_guard(server_pid: u32, directory: &Path, signal: &str) -> Result<Child, String> {
    Command::new("sh")
        .args(["-c", "read -r _; kill -\"$3\" \"$1\"; sleep 2; rm -rf -- \"$2\"", "guard"])
        .arg(server_pid.to_string())
        .arg(directory)
        .arg(signal)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start the guard of a server: {error}"))
}

/// Signals a child and waits for its end, with force after [`STOP_SECONDS_MAX`].
pub(crate) fn end(mut child: Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, signal));
    let deadline = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Feeds a program and collects what it says; fails with its standard error.
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("{name}: {error}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    // A thread of its own: the program may answer before it has read all.
    let output: Output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output().map_err(failed)
    })?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|error| format!("{name}: {error}"));
    }
    Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
}
