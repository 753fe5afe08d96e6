//! What the throw-away servers of our own have in common: a directory of their own, and an end together with ours.
//!
//! A server must not outlive us, however we end: a shell that waits for the end of a pipe, which only we hold, stops
//! it and removes its files.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::interrupt::{self, Interrupt};
use crate::process::{ProcessWriter, Program};
use crate::{Error, Result};

/// A socket's path has room for 107 bytes, of which its name and our directory need about 45.
const TEMP_PATH_BYTES_MAX: usize = 60;
/// How often a server that starts is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Runs the server until it ends, or ends it when the input does. The directory goes with it. Whoever waits for a
/// server that is no more is told by a file. The shell says nothing: a word to whom is gone would end it.
const GUARD: &str = "directory=$1; signal=$2; shift 2; exec 3<&0 2>/dev/null; \
    \"$@\" 3<&- </dev/null >>\"$directory/log\" 2>&1 & server=$!; \
    { read -r _; [ -e \"$directory/ended\" ] || kill -s \"$signal\" \"$server\"; } <&3 & \
    wait \"$server\"; : >\"$directory/ended\"; wait; rm -rf -- \"$directory\"";

/// A user of the system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemUser {
    uid: u32,
    gid: u32,
}

impl SystemUser {
    /// The first of `names` that there is, to run a server as in place of root; none where we are not root.
    pub(crate) fn in_place_of_root(names: &[&str]) -> Result<Option<SystemUser>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(Error::io("read /etc/passwd"))?;
        let find = |name: &&str| {
            users.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
                (fields.first() == Some(name)).then_some(SystemUser { uid, gid })
            })
        };
        let none = || Error::Io {
            what: format!("find a user to run a private server as ({})", names.join(", ")),
            source: io::ErrorKind::NotFound.into(),
        };
        names.iter().find_map(find).map(Some).ok_or_else(none)
    }

    fn identity(self) -> [String; 4] {
        let (uid, gid) = (format!("--reuid={}", self.uid), format!("--regid={}", self.gid));
        [uid, gid, "--clear-groups".into(), "--".into()]
    }
}

/// A directory for a server, and the server as soon as it runs; dropping it stops the server and removes its files.
#[derive(Debug)]
pub(crate) struct PrivateServer {
    guard: Option<ProcessWriter>,
    directory: TempDir,
    user: Option<SystemUser>,
    /// What errors call the server.
    label: String,
}

impl PrivateServer {
    /// A directory open to nobody else, short enough for a socket's path and within reach of the server's user.
    pub(crate) fn prepare(label: &str, prefix: &str, user: Option<SystemUser>) -> Result<PrivateServer> {
        let preferred = std::env::temp_dir();
        let enterable = |directory: &Path| {
            fs::metadata(directory).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
        };
        let within_reach = user.is_none() || preferred.ancestors().all(enterable);
        let short = preferred.as_os_str().len() <= TEMP_PATH_BYTES_MAX;
        let parent = if short && within_reach { preferred } else { PathBuf::from("/tmp") };
        let failed = || Error::io("make a directory for a private server");
        let closed = fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix(prefix).permissions(closed).tempdir_in(parent);
        let directory = directory.map_err(failed())?;
        if let Some(user) = user {
            chown(directory.path(), Some(user.uid), Some(user.gid)).map_err(failed())?;
        }
        Ok(PrivateServer { guard: None, directory, user, label: label.to_owned() })
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a directory in it that belongs to the server's user.
    pub(crate) fn make_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        let owned = |user: SystemUser| chown(&path, Some(user.uid), Some(user.gid));
        let made = fs::create_dir(&path).and_then(|()| self.user.map_or(Ok(()), owned));
        made.map_err(Error::io("make a directory for a private server"))?;
        Ok(path)
    }

    /// A program, run by the server's user.
    pub(crate) fn program(&self, path: &Path) -> Program {
        match self.user {
            Some(user) => Program::new("setpriv").package("util-linux").args(user.identity()).arg(path),
            None => Program::new(path),
        }
    }

    /// Starts the server with `settings`; `signal` is what ends it. Deaf to interrupts: it ends with the handle,
    /// after its last client.
    pub(crate) fn start(
        &mut self,
        path: &Path,
        signal: &str,
        adapt: impl FnOnce(Program) -> Program,
    ) -> Result<()> {
        let program = Program::new("sh").label(&self.label).args(["-c", GUARD, "dbvault"]);
        let program = program.arg(self.path()).arg(signal);
        let program = match self.user {
            Some(user) => program.arg("setpriv").args(user.identity()).arg(path),
            None => program.arg(path),
        };
        self.guard = Some(adapt(program).spawn_writer()?);
        Ok(())
    }

    /// Waits until `ready`, or for `timeout`, where there is one. Errors: what it logged, where it ended before.
    pub(crate) fn wait_until<T>(
        &self,
        timeout: Option<Duration>,
        interrupt: &Interrupt,
        mut ready: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let since = Instant::now();
        loop {
            interrupt::check(interrupt)?;
            // Looked at first: what answers after that is of a server that ran.
            let ended = self.path().join("ended").exists();
            match ready()? {
                Some(ready) if !ended => return Ok(ready),
                _ => {}
            }
            if ended || timeout.is_some_and(|timeout| since.elapsed() > timeout) {
                let log = fs::read(self.path().join("log")).unwrap_or_default();
                return Err(Error::ProgramFailed {
                    program: self.label.clone(),
                    how: "did not start".to_owned(),
                    stderr: String::from_utf8_lossy(&log).into_owned(),
                });
            }
            sleep(POLL);
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take()
            && let Err(error) = guard.finish()
        {
            tracing::warn!(%error, server = self.label, "the private server did not end well");
        }
    }
}
