//! A mounted repository beside its own `extract`, a local file, and `borg mount` of the same history.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DBVAULT_MOUNT_MB` | size of the large entry, 1,000 by default |
//! | `DBVAULT_MOUNT_ARCHIVES` | small archives besides, 1,000 by default |
//! | `DBVAULT_MOUNT_READS` | random reads of 8 KiB, 1,000 by default |
//! | `DBVAULT_MOUNT_ROUNDS` | rounds of which the fastest counts, 3 by default |
//! | `DBVAULT_MOUNT_PARTS` | any of `cat`, `random`, `list`, `restore`, `table`; all by default |
//! | `DBVAULT_MOUNT_DIR` | directory for the repositories; it is kept, and a history that is there is measured |
//! | `DBVAULT_BENCH_BORG` | the Borg to measure, instead of the one on the search path |
//! | `DBVAULT_BIN` | the dbvault to measure, instead of the one just built |
//!
//! Each measurement is of a fresh mount, so that nothing is in memory but what the system keeps of the repository's own
//! files, for both. Needs root: the system's memory of files is dropped before each, where that is allowed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to the person who runs it"
)]

#[path = "shared/environment.rs"]
mod environment;
#[path = "shared/measure.rs"]
mod measure;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dbvault_testkit::postgres_server::PostgresServer;
use environment::{Result, is_to_measure, number, program, words};
use measure::Fingerprint;

/// Measures something, and adds to the report.
type Part = fn(&Place, &Scale, &History, &mut String) -> Result<()>;

fn main() -> Result<()> {
    if !is_to_measure() {
        return Ok(());
    }
    let scale = Scale::from_environment()?;
    let place = Place::new()?;
    let history = place.make_history(&scale)?;
    let mut report = format!(
        "# A mounted repository\n\nMeasured by `make bench-mount`: one entry of {} MB like a dump of a database, its next day, \
         and {} small archives; the fastest of {} rounds, each of a fresh mount. Load of the machine at the beginning: \
         {}.\n\n| | dbvault | beside | goal | reached |\n| --- | --- | --- | --- | --- |\n",
        scale.megabytes,
        scale.archives,
        scale.rounds,
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default(),
    );
    let parts: [(&str, Part); 5] =
        [("cat", cat), ("random", random), ("list", list), ("restore", restore), ("table", table)];
    for (name, part) in parts {
        if scale.parts.as_ref().is_none_or(|parts| parts.contains(name)) {
            eprintln!("{name}");
            part(&place, &scale, &history, &mut report)?;
        }
    }
    let _ = writeln!(report, "\n{}", history.borg_words);
    println!("{report}");
    if scale.is_whole() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/mount.md");
        fs::write(file, report).map_err(words)?;
    }
    Ok(())
}

/// How much is measured.
struct Scale {
    megabytes: u64,
    archives: u64,
    reads: u64,
    rounds: u64,
    parts: Option<String>,
}

impl Scale {
    fn from_environment() -> Result<Scale> {
        Ok(Scale {
            megabytes: number("DBVAULT_MOUNT_MB", 1000)?,
            archives: number("DBVAULT_MOUNT_ARCHIVES", 1000)?,
            reads: number("DBVAULT_MOUNT_READS", 1000)?,
            rounds: number("DBVAULT_MOUNT_ROUNDS", 3)?.max(1),
            parts: std::env::var("DBVAULT_MOUNT_PARTS").ok(),
        })
    }

    fn is_whole(&self) -> bool {
        (self.megabytes, self.archives, self.reads) == (1000, 1000, 1000) && self.parts.is_none()
    }
}

/// What is stored.
struct History {
    /// Of the large entry.
    expected: Fingerprint,
    /// Whether Borg has the same, and can mount it.
    borg: bool,
    borg_words: String,
}

/// Both repositories, and what they need.
struct Place {
    root: PathBuf,
    /// Removed at the end, where nobody wants to keep it.
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn new() -> Result<Place> {
        let place = match std::env::var_os("DBVAULT_MOUNT_DIR") {
            Some(root) => Place { root: root.into(), _temporary: None },
            None => {
                let temporary = tempfile::tempdir().map_err(words)?;
                Place { root: temporary.path().into(), _temporary: Some(temporary) }
            }
        };
        for name in ["home", "mnt", "borg-mnt"] {
            fs::create_dir_all(place.path(name)).map_err(words)?;
        }
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn dbvault(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .env("DBVAULT_REPO", self.path("repository"))
            .env("DBVAULT_KEY_FILE", self.path("key"));
        command.env("HOME", self.path("home")).env("XDG_CONFIG_HOME", self.path("home/config"));
        command.env("XDG_CACHE_HOME", self.path("home/cache"));
        command
    }

    fn borg(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("DBVAULT_BENCH_BORG").unwrap_or("borg".into()));
        command.args(arguments).env("BORG_REPO", self.path("borg")).env("BORG_BASE_DIR", self.path("home"));
        command.env("BORG_PASSPHRASE", "for measuring only").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Stores the same with both: small archives, and a large entry on two days.
    fn make_history(&self, scale: &Scale) -> Result<History> {
        if !self.path("made").exists() {
            self.store_all(scale)?;
            fs::write(self.path("made"), b"").map_err(words)?;
        }
        let mut borg = self.path("borg/config").exists();
        let mut borg_words = "Borg is mounted with pyfuse3 or llfuse.".to_owned();
        if borg && let Err(error) = self.mounted_by_borg(|_, _| Ok(())) {
            borg = false;
            borg_words = format!("Borg can't mount here: {}", error.lines().last().unwrap_or_default());
        } else if !borg {
            "Borg is not installed.".clone_into(&mut borg_words);
        }
        Ok(History { expected: Fingerprint::of_file(&self.path("dump"))?, borg, borg_words })
    }

    fn store_all(&self, scale: &Scale) -> Result<()> {
        run(self.dbvault(&["init", "--quiet"]))?;
        let borg = run(self.borg(&["init", "--encryption", "repokey-blake2"])).is_ok();
        for number in 0..scale.archives {
            let small = self.path("small");
            fs::write(&small, format!("{number}\n").repeat(2000)).map_err(words)?;
            self.store(&format!("s{number:04}"), &small, borg)?;
            if number % 100 == 99 {
                eprintln!("{} archives", number + 1);
            }
        }
        let dump = self.path("dump");
        for day in 0..2 {
            write_rows(&dump, scale.megabytes, day).map_err(words)?;
            self.store(&format!("day{day}"), &dump, borg)?;
        }
        // As every nightly prune ends.
        run(self.dbvault(&["compact", "--quiet"]))?;
        if borg { run(self.borg(&["compact"])) } else { Ok(()) }
    }

    fn store(&self, archive: &str, file: &Path, borg: bool) -> Result<()> {
        let input = |mut command: Command| -> Result<Command> {
            command.stdin(File::open(file).map_err(words)?);
            Ok(command)
        };
        run(input(self.dbvault(&["backup", "--quiet", "--stdin", "--name", "dump", "--archive", archive]))?)?;
        if borg {
            let name = format!("::{archive}");
            run(input(self.borg(&[
                "create",
                "--compression",
                "zstd,3",
                "--stdin-name",
                "dump",
                &name,
                "-",
            ]))?)?;
        }
        Ok(())
    }

    /// Calls `work` with a fresh mount, and when it was asked for.
    fn mounted<T>(&self, work: impl FnOnce(&Path, Instant) -> Result<T>) -> Result<T> {
        let directory = self.path("mnt");
        forget_files();
        let began = Instant::now();
        run(self.dbvault(&["mount", "--quiet", &directory.display().to_string()]))?;
        let done = work(&directory, began);
        run(self.dbvault(&["umount", "--quiet", &directory.display().to_string()])).and(done)
    }

    /// The same of Borg's repository.
    fn mounted_by_borg<T>(&self, work: impl FnOnce(&Path, Instant) -> Result<T>) -> Result<T> {
        let directory = self.path("borg-mnt");
        forget_files();
        let began = Instant::now();
        run(self.borg(&["mount", "::", &directory.display().to_string()]))?;
        let done = work(&directory, began);
        let unmounted = run(self.borg(&["umount", &directory.display().to_string()]));
        // Its process ends when it likes.
        sleep(Duration::from_secs(1));
        unmounted.and(done)
    }
}

/// The system forgets what it has read, where we may ask for that.
fn forget_files() {
    let _ = Command::new("sync").status();
    let _ = fs::write("/proc/sys/vm/drop_caches", "1");
}

/// Rows like those of a dump; a hundredth of them differ from day to day.
fn write_rows(path: &Path, megabytes: u64, day: u64) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut bytes, mut id) = (0, 0_u64);
    while bytes < megabytes * 1_000_000 {
        let fixed = mixed(id);
        let version = if fixed % 100 == day { mixed(id ^ ((day + 1) << 40)) } else { fixed };
        let row = format!(
            "{id}\tuser{}@example.org\t{:x}\t2026-{:02}-{:02}\tnotes: {}, {:x}\tactive\n",
            fixed % 1_000_000,
            fixed >> 16,
            1 + version % 12,
            1 + version % 28,
            version % 1000,
            version >> 40,
        );
        file.write_all(row.as_bytes())?;
        bytes += row.len() as u64;
        id += 1;
    }
    file.flush()
}

/// SplitMix64.
fn mixed(value: u64) -> u64 {
    let mut value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The fastest of several rounds, seconds.
fn fastest(scale: &Scale, mut round: impl FnMut() -> Result<f64>) -> Result<f64> {
    (0..scale.rounds).try_fold(f64::INFINITY, |best, _| Ok(best.min(round()?)))
}

/// Reads a program's standard output to its end; seconds. `expected` is what it must be.
fn drain(mut command: Command, expected: &Fingerprint) -> Result<f64> {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(words)?;
    let (mut out, mut buffer, mut bytes) = (child.stdout.take().ok_or("no output")?, vec![0; 1 << 20], 0);
    loop {
        match out.read(&mut buffer).map_err(words)? {
            0 => break,
            count => bytes += count as u64,
        }
    }
    let ended = child.wait().map_err(words)?;
    if !ended.success() || bytes != expected.bytes {
        return Err(format!("{command:?}: {ended}, {bytes} bytes instead of {}", expected.bytes));
    }
    Ok(began.elapsed().as_secs_f64())
}

fn cat(place: &Place, scale: &Scale, history: &History, report: &mut String) -> Result<()> {
    let cat = |path: PathBuf| {
        let mut command = Command::new("cat");
        command.arg(path);
        drain(command, &history.expected)
    };
    // The bytes themselves are compared once.
    place.mounted(|directory, _| {
        let found = Fingerprint::of_file(&directory.join("archives/day1/dump"))?;
        if found == history.expected { Ok(()) } else { Err(format!("WRONG BYTES: {found}")) }
    })?;
    let extract = fastest(scale, || {
        forget_files();
        drain(
            place.dbvault(&["extract", "--quiet", "--archive", "day1", "--entry", "dump"]),
            &history.expected,
        )
    })?;
    let mounted = fastest(scale, || place.mounted(|directory, _| cat(directory.join("archives/day1/dump"))))?;
    let speed = |seconds: f64| format!("{:.0} MB/s", scale.megabytes as f64 / seconds);
    row(report, "`cat`, beside `extract`", &speed(mounted), &speed(extract), "0.8", extract / mounted, true);
    if history.borg {
        let theirs =
            fastest(scale, || place.mounted_by_borg(|directory, _| cat(directory.join("day1/dump"))))?;
        row(
            report,
            "`cat`, beside Borg",
            &seconds(mounted),
            &seconds(theirs),
            "0.5",
            mounted / theirs,
            false,
        );
    }
    Ok(())
}

/// Reads pages all over a file; seconds.
fn read_pages(path: &Path, reads: u64) -> Result<f64> {
    let file = File::open(path).map_err(words)?;
    let pages = file.metadata().map_err(words)?.len() / 8192;
    let (began, mut page) = (Instant::now(), [0; 8192]);
    for number in 0..reads {
        file.read_exact_at(&mut page, mixed(number) % pages * 8192).map_err(words)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn random(place: &Place, scale: &Scale, history: &History, report: &mut String) -> Result<()> {
    let ours = fastest(scale, || {
        place.mounted(|directory, _| read_pages(&directory.join("archives/day1/dump"), scale.reads))
    })?;
    let rate = scale.reads as f64 / ours;
    let name = "random reads of 8 KiB, nothing read before";
    row(report, name, &format!("{rate:.0}/s"), "-", "300/s", rate / 300.0, true);
    if history.borg {
        // Fewer of them: it decodes larger chunks, one after the other.
        let reads = scale.reads.min(200);
        let theirs = fastest(scale, || {
            place.mounted_by_borg(|directory, _| read_pages(&directory.join("day1/dump"), reads))
        })?;
        let theirs = theirs * scale.reads as f64 / reads as f64;
        row(report, "the same, beside Borg", &seconds(ours), &seconds(theirs), "0.5", ours / theirs, false);
    }
    Ok(())
}

fn list(place: &Place, scale: &Scale, history: &History, report: &mut String) -> Result<()> {
    let names = |directory: &Path, began: Instant| {
        let count = fs::read_dir(directory).map_err(words)?.count() as u64;
        if count < scale.archives {
            return Err(format!("{count} archives instead of {}", scale.archives));
        }
        Ok(began.elapsed().as_secs_f64())
    };
    let ours =
        fastest(scale, || place.mounted(|directory, began| names(&directory.join("archives"), began)))?;
    let name = format!("mount, and first `ls` of {} archives", scale.archives + 2);
    row(report, &name, &seconds(ours), "-", "1 s", ours, false);
    if history.borg {
        let theirs = fastest(scale, || place.mounted_by_borg(names))?;
        row(report, "the same, beside Borg", &seconds(ours), &seconds(theirs), "0.5", ours / theirs, false);
    }
    Ok(())
}

/// A server with a database `source` of the size that is measured.
fn server_with_rows(scale: &Scale) -> Result<PostgresServer> {
    let server = PostgresServer::start()?;
    server.create_database("source")?;
    // About 130 bytes a row in the dump.
    let rows = scale.megabytes * 1_000_000 / 130 / 4;
    for table in 0..4 {
        let sql = format!(
            "CREATE TABLE t{table} AS SELECT id, md5(id::text) AS a, md5((id + {table})::text) AS b, md5((id * 3)::text) AS c \
             FROM generate_series(1, {rows}) id; ALTER TABLE t{table} ADD PRIMARY KEY (id)"
        );
        server.psql("source", &sql)?;
    }
    Ok(server)
}

fn restore(place: &Place, scale: &Scale, _: &History, report: &mut String) -> Result<()> {
    let server = server_with_rows(scale)?;
    let want = server.row_hashes("source")?;
    let file = place.path("source.dump");
    run({
        let mut command = server.command("pg_dump");
        command.args(["-Fc", "-Z0", "-d", "source", "-f"]).arg(&file);
        command
    })?;
    let mut stored =
        place.dbvault(&["backup", "--quiet", "--stdin", "--name", "source.dump", "--archive", "source"]);
    stored.stdin(File::open(&file).map_err(words)?);
    // It differs from run to run.
    let _ = run(place.dbvault(&["delete", "source"])).and_then(|()| run(place.dbvault(&["compact"])));
    run(stored)?;
    let load = |dump: &Path| {
        let _ = server.psql("postgres", "DROP DATABASE IF EXISTS copy");
        server.create_database("copy")?;
        let mut command = server.command("pg_restore");
        command.args(["-j", "2", "-d", "copy"]).arg(dump);
        let began = Instant::now();
        run(command)?;
        let elapsed = began.elapsed().as_secs_f64();
        if server.row_hashes("copy")? == want { Ok(elapsed) } else { Err("OTHER ROWS".to_owned()) }
    };
    let local = fastest(scale, || {
        forget_files();
        load(&file)
    })?;
    let mounted = fastest(scale, || {
        place.mounted(|directory, _| load(&directory.join("archives/source/source.dump")))
    })?;
    let name = "`pg_restore -j 2`, beside a local file";
    row(report, name, &seconds(mounted), &seconds(local), "1.15", mounted / local, false);
    Ok(())
}

/// One small table out of a large dump, beside all of it, in a repository of its own.
fn table(_: &Place, scale: &Scale, _: &History, report: &mut String) -> Result<()> {
    let temporary = tempfile::tempdir().map_err(words)?;
    let place = Place { root: temporary.path().into(), _temporary: Some(temporary) };
    run(place.dbvault(&["init", "--quiet"]))?;
    let server = server_with_rows(scale)?;
    server
        .psql("source", "CREATE TABLE orders AS SELECT id, md5(id::text) FROM generate_series(1, 1000) id")?;
    let want = server.psql("source", "COPY orders TO STDOUT WITH (FORMAT csv)")?;
    let host = server.socket_dir().display().to_string();
    let from = ["--postgres", "source", "--host", &host, "--username", server.user()];
    run(place.dbvault(&[&["backup", "--quiet", "--archive", "tables"][..], &from].concat()))?;
    let extract = ["extract", "--quiet", "--archive", "tables"];
    let timed = |more: &[&str]| {
        forget_files();
        // The program itself need not be read again: the repository is what is measured.
        run(place.dbvault(&["--version"]))?;
        let began = Instant::now();
        let output = place.dbvault(&[&extract[..], more].concat()).output().map_err(words)?;
        let took = began.elapsed().as_secs_f64();
        if output.status.success() { Ok((took, output.stdout)) } else { Err(format!("{output:?}")) }
    };
    let whole = fastest(scale, || Ok(timed(&["--force", "--output", "/dev/null"])?.0))?;
    let alone = fastest(scale, || match timed(&["--table", "public.orders"])? {
        (took, rows) if rows.trim_ascii_end() == want.trim_ascii_end().as_bytes() => Ok(took),
        _ => Err("OTHER ROWS".to_owned()),
    })?;
    let name = "one table of 1,000 rows, beside all of its dump";
    row(report, name, &seconds(alone), &seconds(whole), "0.05", alone / whole, false);
    Ok(())
}

/// A line of the report. `more` says whether the goal is a least or a most.
fn row(report: &mut String, what: &str, ours: &str, beside: &str, goal: &str, ratio: f64, more: bool) {
    let sign = if more { "≥" } else { "≤" };
    let line = format!("| {what} | {ours} | {beside} | {sign} {goal} | {ratio:.2} |");
    eprintln!("{line}");
    let _ = writeln!(report, "{line}");
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

fn run(mut command: Command) -> Result<()> {
    // A process that goes on in the background must not hold what we wait for.
    let errors = tempfile::NamedTempFile::new().map_err(words)?;
    let status = command.stdout(Stdio::null()).stderr(errors.reopen().map_err(words)?).status();
    let status = status.map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(errors.path()).unwrap_or_default();
    Err(format!("{command:?}: {status}\n{}", said.trim_end()))
}
