//! A private Redis server for one test: real server, temporary directory, no open network port unless asked for.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::postgres_server::place::free_port;
use crate::postgres_server::{end, run_with_input, spawn_guard};

/// What an error begins with where the server is not installed.
pub const NOT_INSTALLED: &str = "no Redis server found";
/// The password of servers that ask for one.
const PASSWORD: &str = "tricky:pass\\word 'and\" #@/%20";
const START_SECONDS_MAX: u64 = 30;

/// A running private server; dropping it stops the server at once and removes all its files.
#[derive(Debug)]
pub struct RedisServer {
    // Declared before the directory: the processes must be gone when it is removed.
    running: Option<(Child, Child)>,
    directory: TempDir,
    port: Option<u16>,
    password: bool,
}

impl RedisServer {
    /// Starts a server that listens on its own Unix socket only. `settings` are further arguments.
    ///
    /// # Errors
    /// Says in words what is missing, or that the server did not come up.
    pub fn start(settings: &[&str]) -> Result<Self, String> {
        Self::start_with(settings, false, false)
    }

    /// Starts a server that asks for a password, or listens on a port of 127.0.0.1.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(settings: &[&str], password: bool, tcp: bool) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("dbvault-re-").tempdir_in("/tmp");
        let directory = directory.map_err(|error| format!("cannot make a directory for Redis: {error}"))?;
        let port = if tcp { Some(free_port()?) } else { None };
        let mut server = Self { running: None, directory, port, password };
        let mut command = Command::new("redis-server");
        command.arg("--port").arg(port.unwrap_or(0).to_string()).args(["--bind", "127.0.0.1"]);
        command.arg("--unixsocket").arg(server.socket()).arg("--dir").arg(server.directory.path());
        command.args(["--save", "", "--repl-diskless-sync-delay", "0"]).args(settings);
        if password {
            command.args(["--requirepass", PASSWORD]);
        }
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{NOT_INSTALLED}: {error}"))?;
        match spawn_guard(child.id(), server.directory.path(), "KILL") {
            Ok(guard) => server.running = Some((child, guard)),
            Err(error) => {
                end(child, Signal::KILL);
                return Err(error);
            }
        }
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while server.command(&["PING"]).as_deref() != Ok("PONG") {
            if Instant::now() > deadline {
                return Err("redis-server did not start".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// The socket that clients connect to.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The port, where the server listens on one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The password, when the server asks for one.
    pub fn password(&self) -> Option<&str> {
        self.password.then_some(PASSWORD)
    }

    /// The process id of the server.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|(server, _)| server.id())
    }

    /// Runs one command and returns what `redis-cli` prints of the answer, without the last newline.
    ///
    /// # Errors
    /// What it wrote to standard error.
    pub fn command(&self, words: &[&str]) -> Result<String, String> {
        let mut command = self.cli();
        command.args(words);
        run_with_input(command, b"").map(|text| text.trim_end_matches('\n').to_owned())
    }

    /// Runs a command a line.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn commands(&self, lines: &str) -> Result<String, String> {
        run_with_input(self.cli(), lines.as_bytes())
    }

    /// A digest of all keys, values and times to live of a database, in any order.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn digest(&self, database: u32) -> Result<String, String> {
        let number = database.to_string();
        let mut command = self.cli();
        command.args(["-n", &number, "DEBUG", "DIGEST"]);
        let digest = run_with_input(command, b"")?;
        let mut command = self.cli();
        command.args(["-n", &number, "DBSIZE"]);
        Ok(format!("{} {}", run_with_input(command, b"")?.trim(), digest.trim()))
    }

    /// Kills the server as a crash would. Does nothing when stopped.
    pub fn kill(&mut self) {
        if let Some((server, guard)) = self.running.take() {
            end(guard, Signal::KILL);
            end(server, Signal::KILL);
        }
    }

    fn cli(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command.env_remove("REDISCLI_AUTH").arg("-s").arg(self.socket());
        if let Some(password) = self.password() {
            command.env("REDISCLI_AUTH", password);
        }
        command
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
