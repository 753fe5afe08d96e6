//! Child processes: started, listened to, stopped. The only place in the product that spawns programs.
//!
//! Every child leads a process group of its own, so that Ctrl-C on the terminal reaches only us and we decide how
//! it ends: `SIGTERM` to the group, `SIGKILL` after [`TERMINATE_GRACE_MS`]. Pipes are read and written by the
//! calling thread, with `poll` so that no wait is blind to
//! the interrupt flag for long; only standard error has a thread.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::interrupt::{self, Interrupt, ready};
use crate::secret::Secret;
use crate::stderr_tail::StderrTail;
use crate::{Error, Result};

/// Size asked for pipes to and from children, bytes; the kernel's default is 64 KiB.
const PIPE_BYTES: usize = 1 << 20;
/// Most that [`Program::run_captured`] takes from a child's standard output, bytes.
const CAPTURE_BYTES_MAX: u64 = 16 << 20;
/// Size of one write to a child's standard input, bytes.
const FEED_BYTES: usize = 256 << 10;
/// How long a child may take to end after `SIGTERM` before it gets `SIGKILL`, milliseconds.
pub const TERMINATE_GRACE_MS: u64 = 2_000;

/// How often a child that has our own standard input is looked at.
const ATTACHED_POLL: Duration = Duration::from_millis(20);

/// Variables that hold what opens the repository: no child has a use for them.
const OWN_SECRETS: [&str; 2] = ["DBVAULT_PASSPHRASE", "DBVAULT_NEW_PASSPHRASE"];

/// A program to be run, with its arguments and environment. The environment of our own process is inherited.
#[derive(Debug)]
pub struct Program {
    path: OsString,
    label: String,
    package: Option<&'static str>,
    args: Vec<OsString>,
    directory: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    removed_env: Vec<OsString>,
    secret_env: Vec<(OsString, Secret)>,
    timeout: Option<Duration>,
    stall_timeout: Option<Duration>,
    interrupt: Interrupt,
}

impl Program {
    /// A program by its path, or by a name that is looked up in `PATH`.
    pub fn new(path: impl AsRef<OsStr>) -> Program {
        let path = path.as_ref().to_owned();
        let label = Path::new(&path).file_name().unwrap_or(&path).to_string_lossy().into_owned();
        Program {
            path,
            label,
            package: None,
            args: Vec::new(),
            directory: None,
            env: Vec::new(),
            removed_env: Vec::new(),
            secret_env: Vec::new(),
            timeout: None,
            stall_timeout: None,
            interrupt: Interrupt::default(),
        }
    }

    /// What errors call this program; its file name by default.
    pub fn label(mut self, label: impl Into<String>) -> Program {
        self.label = label.into();
        self
    }

    /// The Debian package that has it, for [`Error::ProgramMissing`].
    pub fn package(mut self, package: &'static str) -> Program {
        self.package = Some(package);
        self
    }

    /// Adds one argument. Everyone on the machine can read it: never a secret.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Program {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Where the child works; by default where we do.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Program {
        self.directory = Some(directory.into());
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Program {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Leaves variables out of the child's environment.
    pub fn env_remove<N: AsRef<OsStr>>(mut self, names: impl IntoIterator<Item = N>) -> Program {
        self.removed_env.extend(names.into_iter().map(|name| name.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the child's environment to a secret.
    pub fn secret_env(mut self, name: impl AsRef<OsStr>, value: Secret) -> Program {
        self.secret_env.push((name.as_ref().to_owned(), value));
        self
    }

    /// Ends the child when it has run for this long in all; without it there is no limit.
    pub fn timeout(mut self, timeout: Duration) -> Program {
        self.timeout = Some(timeout);
        self
    }

    /// Ends the child when, while we wait for its output, it sends no byte for `timeout_ms` milliseconds; without
    /// one there is no limit. A child that is fed is not held to it: a server may build an index for hours.
    pub fn stall_timeout_ms(mut self, timeout_ms: Option<u64>) -> Program {
        self.stall_timeout = timeout_ms.map(Duration::from_millis);
        self
    }

    /// The flag that stops the child.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Program {
        self.interrupt = interrupt.clone();
        self
    }

    /// Starts the program to read its standard output; its standard input is empty.
    pub fn spawn_reader(self) -> Result<(Process, ProcessOutput)> {
        let mut process = self.spawn(Stdio::null(), Stdio::piped())?;
        let stdout = process.child.stdout.take().ok_or_else(|| no_pipe("stdout"))?;
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_BYTES);
        let limits = process.limits.clone();
        Ok((process, ProcessOutput { stdout, limits }))
    }

    /// Starts the program to write its standard input; its standard output is discarded.
    pub fn spawn_writer(mut self) -> Result<ProcessWriter> {
        self.stall_timeout = None;
        let mut process = self.spawn(Stdio::piped(), Stdio::null())?;
        let stdin = process.child.stdin.take().ok_or_else(|| no_pipe("stdin"))?;
        let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE_BYTES);
        // A blocking write of more than the pipe takes would not see the interrupt flag.
        let flags = fcntl_getfl(&stdin).map_err(|error| Error::io("prepare a pipe")(error.into()))?;
        fcntl_setfl(&stdin, flags | OFlags::NONBLOCK)
            .map_err(|error| Error::io("prepare a pipe")(error.into()))?;
        Ok(ProcessWriter { process, stdin, closed_early: false })
    }

    /// Runs the program to its end; its standard input is `input`, all of which is there before it starts, whatever
    /// becomes of us. Gives what it said on standard error, a line each; its standard output is discarded.
    pub fn run_with_input(self, input: &[u8]) -> Result<Vec<String>> {
        let failed = || Error::io("write a temporary file");
        let mut file = tempfile::tempfile().map_err(failed())?;
        file.write_all(input).and_then(|()| file.rewind()).map_err(failed())?;
        self.spawn(file.into(), Stdio::null())?.finish()
    }

    /// Runs the program to its end and gives back what it wrote, at most 16 MiB. A non-zero exit is no error
    /// here; see [`Captured::into_success`].
    pub fn run_captured(self) -> Result<Captured> {
        let label = self.label.clone();
        let (process, output) = self.spawn_reader()?;
        let mut stdout = Vec::new();
        output
            .take(CAPTURE_BYTES_MAX + 1)
            .read_to_end(&mut stdout)
            .map_err(|error| Error::from_io(format!("read from {label}"), error))?;
        if stdout.len() as u64 > CAPTURE_BYTES_MAX {
            let how = format!("wrote more than {CAPTURE_BYTES_MAX} bytes");
            return Err(Error::ProgramFailed { program: label, how, stderr: String::new() });
        }
        let (status, stderr) = process.wait()?;
        Ok(Captured { label, status, stdout, stderr })
    }

    /// Starts the program, which is ours, to go on when we have ended: with our terminal, our standard input and error,
    /// and the secrets in our environment. Waits until it closes its standard output, having written there what is
    /// worth telling, or ends without a word. Where we are to end before, so is it.
    pub fn start_background(self) -> Result<Background> {
        let Program { path, label, args, interrupt, .. } = self;
        let mut command = Command::new(&path);
        let mut child = command
            .args(&args)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Io { what: format!("start {label}"), source })?;
        let stdout = child.stdout.take().ok_or_else(|| no_pipe("stdout"))?;
        let limits = Limits { label: label.clone(), interrupt, deadline: None, stall_timeout: None };
        let mut said = Vec::new();
        let read = ProcessOutput { stdout, limits }.take(CAPTURE_BYTES_MAX).read_to_end(&mut said);
        if let Err(error) = read {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = child.wait();
            return Err(Error::from_io(format!("read from {label}"), error));
        }
        if !said.is_empty() {
            return Ok(Background::Started(said));
        }
        let status = child.wait().map_err(Error::io(format!("wait for {label}")))?;
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        Ok(Background::Ended(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    }

    /// Runs the program to its end with our own standard input, output and error. Gives its exit status as a shell
    /// tells it: 128 and the signal where one ended it.
    ///
    /// On a terminal it stays in our process group, so that it may read the terminal and Ctrl-C reaches it; else it
    /// leads one of its own, as all children do, and ends with all that it started. Errors: it can't be started;
    /// [`Error::Interrupted`] once it has been ended for that.
    pub fn run_attached(self, on_terminal: bool) -> Result<u8> {
        let mut command = self.command();
        if !on_terminal {
            command.process_group(0);
        }
        let mut child = self.start(&mut command)?;
        let signal_it = |pid, signal| {
            let _ = if on_terminal { kill_process(pid, signal) } else { kill_process_group(pid, signal) };
        };
        loop {
            if let Some(status) = child.try_wait().map_err(Error::io(format!("wait for {}", self.label)))? {
                let of_signal = status.signal().map(|signal| 128 + signal);
                return Ok(status.code().or(of_signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
            }
            if let Err(interrupted) = interrupt::check(&self.interrupt) {
                end(&mut child, signal_it);
                return Err(interrupted);
            }
            sleep(ATTACHED_POLL);
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        for name in OWN_SECRETS.iter().map(OsStr::new).chain(self.removed_env.iter().map(OsString::as_os_str))
        {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.envs(self.secret_env.iter().map(|(name, value)| (name, value.expose())));
        command
    }

    fn start(&self, command: &mut Command) -> Result<Child> {
        command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                Error::ProgramMissing { program: self.label.clone(), package: self.package }
            }
            _ => Error::Io { what: format!("start {}", self.label), source },
        })
    }

    fn spawn(self, stdin: Stdio, stdout: Stdio) -> Result<Process> {
        let mut command = self.command();
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).process_group(0);
        let mut child = self.start(&mut command)?;
        let stderr = child.stderr.take();
        let deadline = self.timeout.map(|timeout| (Instant::now() + timeout, timeout));
        let Program { label, interrupt, stall_timeout, .. } = self;
        let limits = Limits { label, interrupt, deadline, stall_timeout };
        // From here on, dropping `process` ends the child.
        let mut process = Process { child, limits, stderr: StderrTail::default(), ended: false };
        process.stderr = StderrTail::start(stderr.ok_or_else(|| no_pipe("stderr"))?)?;
        tracing::debug!(program = %process.limits.label, pid = process.child.id(), "started");
        Ok(process)
    }
}

/// What became of a program that was to go on without us.
#[derive(Debug, PartialEq, Eq)]
pub enum Background {
    /// It goes on, and said this.
    Started(Vec<u8>),
    /// It has ended, with this exit code.
    Ended(u8),
}

fn no_pipe(stream: &str) -> Error {
    Error::Io { what: format!("connect {stream}"), source: io::ErrorKind::BrokenPipe.into() }
}

/// What may end a wait for a child from our side.
#[derive(Clone, Debug)]
struct Limits {
    label: String,
    interrupt: Interrupt,
    deadline: Option<(Instant, Duration)>,
    stall_timeout: Option<Duration>,
}

impl Limits {
    /// `waiting_since` is when this wait for a sign of life began.
    fn check(&self, waiting_since: Instant) -> Result<()> {
        interrupt::check(&self.interrupt)?;
        if let Some(timeout) = self.stall_timeout.filter(|timeout| waiting_since.elapsed() >= *timeout) {
            return Err(Error::ProgramFailed {
                program: self.label.clone(),
                how: format!("stalled: it sent nothing for {} s", timeout.as_secs_f64()),
                stderr: String::new(),
            });
        }
        match self.deadline {
            Some((deadline, timeout)) if Instant::now() >= deadline => Err(Error::ProgramFailed {
                program: self.label.clone(),
                how: format!("timed out after {} s", timeout.as_secs_f64()),
                stderr: String::new(),
            }),
            _ => Ok(()),
        }
    }

    /// Waits until `fd` is ready or closed; an error when the user or the clock ends the wait.
    fn wait_ready(&self, fd: BorrowedFd<'_>, events: PollFlags) -> Result<()> {
        let since = Instant::now();
        loop {
            self.check(since)?;
            if ready(fd, events).map_err(Error::io(format!("wait for {}", self.label)))? {
                return Ok(());
            }
        }
    }
}

/// A running child. Dropped, it ends the child's whole process group and reaps it; this takes at most
/// [`TERMINATE_GRACE_MS`] and a little.
#[derive(Debug)]
pub struct Process {
    child: Child,
    limits: Limits,
    stderr: StderrTail,
    ended: bool,
}

impl Process {
    /// Waits for the child to end well and gives what it said on standard error, a line each.
    ///
    /// Errors: [`Error::ProgramFailed`] when it ended otherwise or took too long, [`Error::Interrupted`]. The
    /// child has ended in any case. Read its output to the end before: a child blocked in a write never ends.
    pub fn finish(self) -> Result<Vec<String>> {
        let label = self.limits.label.clone();
        let (status, stderr) = self.wait()?;
        if status.success() { Ok(lines(&stderr)) } else { Err(failed(label, status, stderr)) }
    }

    /// Ends the child now: `SIGTERM`, then `SIGKILL`, to its whole group. What it said on standard error.
    pub fn kill(mut self) -> String {
        self.end_group();
        self.stderr.finish()
    }

    fn wait(mut self) -> Result<(ExitStatus, String)> {
        let mut pause_ms = 1;
        let since = Instant::now();
        loop {
            let waited =
                self.child.try_wait().map_err(Error::io(format!("wait for {}", self.limits.label)))?;
            if let Some(status) = waited {
                self.ended = true;
                tracing::debug!(program = %self.limits.label, %status, "ended");
                return Ok((status, self.stderr.finish()));
            }
            if let Err(error) = self.limits.check(since) {
                self.end_group();
                return Err(with_stderr(error, self.stderr.finish()));
            }
            sleep(Duration::from_millis(pause_ms));
            pause_ms = (pause_ms * 2).min(20);
        }
    }

    fn end_group(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        end(&mut self.child, |pid, signal| {
            let _ = kill_process_group(pid, signal);
        });
    }
}

/// Ends a child that nobody has waited for, by signals that `signal_it` sends.
fn end(child: &mut Child, signal_it: impl Fn(Pid, Signal)) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    signal_it(pid, Signal::TERM);
    let deadline = Instant::now() + Duration::from_millis(TERMINATE_GRACE_MS);
    // NOWAIT leaves a zombie, which keeps the group's number ours until the last signal is sent.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while Instant::now() < deadline && matches!(waitid(WaitId::Pid(pid), options), Ok(None)) {
        sleep(Duration::from_millis(5));
    }
    signal_it(pid, Signal::KILL);
    let _ = child.wait();
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end_group();
    }
}

/// The standard output of a child. A read that is stopped by the user or the clock fails with an [`Error`] inside
/// the [`io::Error`]; see [`Error::from_io`]. Its end says nothing about success: [`Process::finish`] does.
#[derive(Debug)]
pub struct ProcessOutput {
    stdout: ChildStdout,
    limits: Limits,
}

impl Read for ProcessOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.limits.wait_ready(self.stdout.as_fd(), PollFlags::IN).map_err(Error::into_io)?;
        self.stdout.read(buffer)
    }
}

/// A child that is fed on its standard input. Dropped, it ends the child before the pipe is closed, so that a
/// child never takes our failure for the end of its input.
#[derive(Debug)]
pub struct ProcessWriter {
    // Dropped in this order.
    process: Process,
    stdin: ChildStdin,
    closed_early: bool,
}

impl ProcessWriter {
    /// Writes all of `body` to the child. Ok also when the child stopped reading: [`ProcessWriter::finish`] then
    /// tells why. Errors: those of `body`, [`Error::Interrupted`], the time-out; drop the writer after one.
    pub fn feed(&mut self, body: &mut dyn Read) -> Result<u64> {
        let mut buffer = vec![0; FEED_BYTES];
        let mut fed_bytes = 0;
        while !self.closed_early {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::from_io("read what is to be restored", error)),
            };
            self.write_all(&buffer[..count])?;
            fed_bytes += count as u64;
        }
        Ok(fed_bytes)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.process.limits.wait_ready(self.stdin.as_fd(), PollFlags::OUT)?;
            match rustix::io::write(&self.stdin, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::PIPE) => {
                    self.closed_early = true;
                    return Ok(());
                }
                Err(error) => {
                    let what = format!("write to {}", self.process.limits.label);
                    return Err(Error::Io { what, source: error.into() });
                }
            }
        }
        Ok(())
    }

    /// Closes the child's input and waits for it to end well; see [`Process::finish`]. A child that ends with
    /// status 0 without having read everything has failed too.
    pub fn finish(self) -> Result<Vec<String>> {
        let ProcessWriter { process, stdin, closed_early } = self;
        drop(stdin);
        let program = process.limits.label.clone();
        let warnings = process.finish()?;
        if closed_early {
            let how = "stopped reading before the end".to_owned();
            return Err(Error::ProgramFailed { program, how, stderr: warnings.join("\n") });
        }
        Ok(warnings)
    }
}

/// What a program that has ended wrote.
#[derive(Debug)]
pub struct Captured {
    label: String,
    status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error, at most 64 KiB.
    pub stderr: String,
}

impl Captured {
    /// Its exit status; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its standard output when it ended with status 0, else [`Error::ProgramFailed`].
    pub fn into_success(self) -> Result<Vec<u8>> {
        if self.status.success() {
            Ok(self.stdout)
        } else {
            Err(failed(self.label, self.status, self.stderr))
        }
    }
}

fn failed(program: String, status: ExitStatus, stderr: String) -> Error {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    };
    Error::ProgramFailed { program, how, stderr }
}

fn with_stderr(error: Error, text: String) -> Error {
    match error {
        Error::ProgramFailed { program, how, .. } => Error::ProgramFailed { program, how, stderr: text },
        other => other,
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
