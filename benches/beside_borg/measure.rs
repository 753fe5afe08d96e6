//! What a step costs: time on the wall, time of all cores, peak memory, bytes stored.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

const SAMPLE_PAUSE: Duration = Duration::from_millis(10);
/// The unit of `/proc/PID/stat`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const PIPE_BUFFER_BYTES: usize = 1 << 20;

/// The measured steps, in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    First,
    ExtractFirst,
    Identical,
    Changed,
    ExtractChanged,
}

impl Step {
    pub(crate) const ALL: [Self; 5] =
        [Self::First, Self::ExtractFirst, Self::Identical, Self::Changed, Self::ExtractChanged];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::First => "first backup",
            Self::ExtractFirst => "extract the first archive",
            Self::Identical => "identical stream again",
            Self::Changed => "changed day",
            Self::ExtractChanged => "extract the changed day",
        }
    }

    /// The largest share of Borg's wall time that is good enough.
    pub(crate) fn wall_ratio_max(self) -> f64 {
        match self {
            Self::First | Self::ExtractFirst | Self::ExtractChanged => 0.5,
            Self::Identical | Self::Changed => 0.4,
        }
    }
}

/// What one run of a program took.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) wall_seconds: f64,
    /// In user and system mode, of all threads.
    pub(crate) cpu_seconds: f64,
    /// Largest resident set.
    pub(crate) peak_mebibytes: f64,
}

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall_seconds, cpu_seconds, peak_mebibytes } = self;
        write!(out, "{wall_seconds:.2} s, CPU {cpu_seconds:.2} s, peak {peak_mebibytes:.0} MiB")
    }
}

/// Runs a command with a file as its standard input; its output goes through a pipe to a reader that drops
/// it and must have `output_bytes` when that is not 0.
pub(crate) fn measure(
    mut command: Command,
    input: Option<&Path>,
    output_bytes: u64,
) -> Result<Usage, String> {
    let stdin = match input {
        Some(path) => File::open(path).map_err(|error| format!("{}: {error}", path.display()))?.into(),
        None => Stdio::null(),
    };
    let errors = tempfile::tempfile().and_then(|file| Ok((file.try_clone()?, file)));
    let (mut errors, stderr) = errors.map_err(|error| error.to_string())?;
    command.stdin(stdin).stdout(Stdio::piped()).stderr(stderr);
    // What was written before must not be paid for now.
    rustix::fs::sync();
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = child.stdout.take();
    let (wall, peak, received) = watch(child.id(), stdout, started)?;
    // Not reaped yet: the times of a dead process can still be read.
    let cpu_seconds = cpu_seconds(child.id())?;
    let status = child.wait().map_err(|error| error.to_string())?;
    if !status.success() || (output_bytes != 0 && received != output_bytes) {
        let mut text = String::new();
        let _ = std::io::Seek::rewind(&mut errors).and_then(|()| errors.read_to_string(&mut text));
        return Err(format!("{command:?}: {status}, {received} bytes of output: {}", text.trim_end()));
    }
    Ok(Usage { wall_seconds: wall.as_secs_f64(), cpu_seconds, peak_mebibytes: peak as f64 / 1024.0 })
}

/// Waits for the end of a process without reaping it. Returns its time, its peak memory in KiB and the bytes
/// it wrote.
fn watch(id: u32, stdout: Option<ChildStdout>, started: Instant) -> Result<(Duration, u64, u64), String> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or("no such process")?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| stdout.map_or(0, discard));
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
        Ok((wall, peak, received))
    })
}

fn discard(mut stdout: ChildStdout) -> u64 {
    let mut buffer = vec![0; PIPE_BUFFER_BYTES];
    let mut received = 0;
    while let Ok(bytes @ 1..) = stdout.read(&mut buffer) {
        received += bytes as u64;
    }
    received
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
