//! What a step costs: time on the wall, time of all cores, peak memory, bytes stored.
#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

const SAMPLE_PAUSE: Duration = Duration::from_millis(10);
/// The unit of `/proc/PID/stat`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const BUFFER_BYTES: usize = 1 << 20;
const BYTES_IN_MEGABYTE: f64 = 1e6;

/// What one run of a program took.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) wall_seconds: f64,
    /// In user and system mode, of all threads, and of programs it started and waited for.
    pub(crate) cpu_seconds: f64,
    /// Largest resident set, in 10^6 bytes.
    pub(crate) peak_megabytes: f64,
}

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall_seconds, cpu_seconds, peak_megabytes } = self;
        write!(out, "{wall_seconds:.2} s, CPU {cpu_seconds:.2} s, peak {peak_megabytes:.0} MB")
    }
}

/// Length and hash of a stream. The header of a SQLite file counts changes and says who wrote it last, and SQLite's
/// own backup of a file counts on: these bytes are hashed as zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) bytes: u64,
    hash: blake3::Hash,
}

impl Fingerprint {
    pub(crate) fn of(mut stream: impl Read) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut header = Vec::new();
        stream.by_ref().take(SQLITE_HEADER_BYTES).read_to_end(&mut header)?;
        if header.starts_with(SQLITE_MAGIC) {
            header.resize(SQLITE_HEADER_BYTES as usize, 0);
            SQLITE_COUNTERS.into_iter().for_each(|place| header[place].fill(0));
        }
        hasher.update(&header);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(Self { bytes: hasher.count(), hash: hasher.finalize() }),
                bytes => hasher.update(&buffer[..bytes]),
            };
        }
    }

    pub(crate) fn of_file(path: &Path) -> Result<Self, String> {
        File::open(path).and_then(Self::of).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes with the hash {}", self.bytes, &self.hash.to_hex()[..16])
    }
}

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
const SQLITE_HEADER_BYTES: u64 = 100;
/// Where the header has the change counter, the schema cookie, and for which change which SQLite wrote it ("Database
/// File Format" in SQLite's documentation, 1.3).
const SQLITE_COUNTERS: [Range<usize>; 3] = [24..28, 40..44, 92..100];

/// Runs a command, with a file as its standard input or an empty one; what it prints is dropped.
pub(crate) fn measure(command: Command, input: Option<&Path>) -> Result<Usage, String> {
    let stdin = match input {
        Some(path) => File::open(path).map_err(|error| format!("{}: {error}", path.display()))?.into(),
        None => Stdio::null(),
    };
    Run::start(command, stdin, Stdio::null())?.end().map(|(usage, _)| usage)
}

/// Runs a command whose standard output must be `expected`. It goes through a pipe and is hashed beside it.
pub(crate) fn measure_output(command: Command, expected: &Fingerprint) -> Result<Usage, String> {
    let line = line_of(&command);
    let (usage, received) = Run::start(command, Stdio::null(), Stdio::piped())?.end()?;
    match received {
        Some(received) if received == *expected => Ok(usage),
        Some(received) => Err(format!("WRONG BYTES from {line}: {received} instead of {expected}")),
        None => Err(format!("{line}: no output")),
    }
}

/// Program and arguments, without the environment.
fn line_of(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    let words: Vec<_> = std::iter::once(command.get_program().to_string_lossy()).chain(arguments).collect();
    words.join(" ")
}

/// A program under way.
struct Run {
    line: String,
    child: Child,
    errors: File,
    started: Instant,
}

impl Run {
    fn start(mut command: Command, stdin: Stdio, stdout: Stdio) -> Result<Self, String> {
        let line = line_of(&command);
        let failed = |error: io::Error| format!("{line}: {error}");
        let errors = tempfile::tempfile().map_err(failed)?;
        command.stdin(stdin).stdout(stdout).stderr(errors.try_clone().map_err(failed)?);
        // What was written before must not be paid for now.
        rustix::fs::sync();
        let started = Instant::now();
        let child = command.spawn().map_err(failed)?;
        Ok(Self { line, child, errors, started })
    }

    fn end(mut self) -> Result<(Usage, Option<Fingerprint>), String> {
        let id = self.child.id();
        let stdout = self.child.stdout.take();
        let (wall, peak_kibibytes, received) = watch(id, stdout, self.started)?;
        // Not reaped yet: the times of a dead process can still be read.
        let cpu_seconds = cpu_seconds(id)?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            let mut text = String::new();
            let _ = self.errors.rewind().and_then(|()| self.errors.read_to_string(&mut text));
            return Err(format!("{}: {status}: {}", self.line, text.trim_end()));
        }
        let peak_megabytes = peak_kibibytes as f64 * 1024.0 / BYTES_IN_MEGABYTE;
        Ok((Usage { wall_seconds: wall.as_secs_f64(), cpu_seconds, peak_megabytes }, received))
    }
}

/// Waits for the end of a process without reaping it. Returns its time, its peak memory in KiB and what it
/// wrote.
fn watch(
    id: u32,
    stdout: Option<ChildStdout>,
    started: Instant,
) -> Result<(Duration, u64, Option<Fingerprint>), String> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or("no such process")?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| stdout.map(Fingerprint::of).transpose());
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            // The kernel keeps the peak itself; only what is allocated in the last pause can be missed.
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(peak_kibibytes(id).unwrap_or(0));
                std::thread::sleep(SAMPLE_PAUSE);
            }
            peak
        });
        let waited = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let wall = started.elapsed();
        ended.store(true, Ordering::Relaxed);
        let peak = sampler.join().map_err(|_| "the sampler panicked")?;
        let received = reader.join().map_err(|_| "the reader panicked")?;
        waited.map_err(|error| error.to_string())?;
        Ok((wall, peak, received.map_err(|error| error.to_string())?))
    })
}

fn peak_kibibytes(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Of the process and the children it waited for.
fn cpu_seconds(id: u32) -> Result<f64, String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).map_err(|error| error.to_string())?;
    // The name in parentheses may hold anything; the fields after it are counted from the third.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: f64 =
        fields.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// The sum of the lengths of all files below a directory; 0 when there is none.
pub(crate) fn bytes_stored(directory: &Path) -> Result<u64, String> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.map_err(|error| error.to_string())?;
        let metadata = entry.metadata().map_err(|error| error.to_string())?;
        bytes += if metadata.is_dir() { bytes_stored(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
