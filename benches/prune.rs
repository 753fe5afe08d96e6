//! A prune of a long history beside Borg: 1,000 daily archives of a changing database of 100 MB, pruned to the
//! default policy.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DBVAULT_PRUNE_ARCHIVES` | archives, 1,000 by default |
//! | `DBVAULT_PRUNE_MB` | size of a dump, 100 by default |
//! | `DBVAULT_PRUNE_DIR` | directory for the repositories; it is kept, and a history that is there is gone on with |
//! | `DBVAULT_PRUNE_HISTORY_ONLY` | if set, only the history is made |
//! | `DBVAULT_BENCH_BORG` | the Borg to measure, instead of the one on the search path |
//! | `DBVAULT_BIN` | the dbvault to measure, instead of the one just built |
//!
//! Making the history takes the time. Both prune with their own commands, one after the other in the same run:
//! `dbvault prune`, and `borg prune` with the same rules and `borg compact`. Every archive that is kept must give
//! the bytes that went in.
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
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use environment::{Result, is_to_measure, number, program};
use jiff::{Timestamp, ToSpan};
use measure::{Fingerprint, bytes_stored, measure, measure_output};

/// What prune keeps if nothing is said.
const RULES: [&str; 8] =
    ["--keep-daily", "7", "--keep-weekly", "4", "--keep-monthly", "6", "--keep-yearly", "1"];

fn main() -> Result<()> {
    if !is_to_measure() {
        return Ok(());
    }
    let (archives, megabytes) = (number("DBVAULT_PRUNE_ARCHIVES", 1000)?, number("DBVAULT_PRUNE_MB", 100)?);
    let temporary = tempfile::tempdir().map_err(|e| e.to_string())?;
    let kept = std::env::var_os("DBVAULT_PRUNE_DIR").map(PathBuf::from);
    let place = Place { root: kept.unwrap_or_else(|| temporary.path().into()) };
    let times = place.make_history(archives, megabytes)?;
    if std::env::var_os("DBVAULT_PRUNE_HISTORY_ONLY").is_some() {
        return Ok(());
    }
    let report = place.contest(&times, archives, megabytes)?;
    println!("{report}");
    if (archives, megabytes) == (1000, 100) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/prune.md");
        fs::write(file, report).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Both repositories, and what they need.
struct Place {
    root: PathBuf,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn dbvault(&self, repository: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(words).env("DBVAULT_REPO", self.path(repository));
        command.env("DBVAULT_KEY_FILE", self.path("key")).env("HOME", self.path("home"));
        command
            .env("XDG_CONFIG_HOME", self.path("home/config"))
            .env("XDG_CACHE_HOME", self.path("home/cache"));
        command
    }

    fn borg(&self, words: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("DBVAULT_BENCH_BORG").unwrap_or("borg".into()));
        command.args(words).env("BORG_REPO", self.path("borg")).env("BORG_BASE_DIR", self.path("home"));
        command.env("BORG_PASSPHRASE", "for measuring only").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Backs up one dump a day with both. Gives the times of the archives, oldest first.
    fn make_history(&self, archives: u64, megabytes: u64) -> Result<Vec<Timestamp>> {
        fs::create_dir_all(self.path("home")).map_err(|e| e.to_string())?;
        if !self.path("begun").exists() {
            // Of a start that was cut short.
            ["repository", "borg"].iter().for_each(|name| drop(fs::remove_dir_all(self.path(name))));
            run(self.dbvault("repository", &["init", "--quiet"]))?;
            run(self.borg(&["init", "--encryption", "repokey-blake2"]))?;
            fs::write(self.path("begun"), Timestamp::now().to_string()).map_err(|e| e.to_string())?;
        }
        let begun = fs::read_to_string(self.path("begun")).map_err(|e| e.to_string())?;
        let begun: Timestamp = begun.parse().map_err(|e: jiff::Error| e.to_string())?;
        let (ours, borgs) = (self.days("repository")?, self.borgs_days()?);
        let mut table = Table::new(megabytes);
        let mut times = Vec::new();
        for day in 0..archives {
            let hours = i64::try_from((archives - day) * 24).unwrap_or(i64::MAX);
            let time = begun.checked_sub(hours.hours()).map_err(|e| e.to_string())?;
            times.push(time);
            table.next_day();
            let lacks = [&ours, &borgs].map(|days| !days.contains(&day));
            if lacks.contains(&true) {
                self.back_up(day, &table, time, lacks)?;
            }
            if day % 50 == 49 {
                eprintln!("{} archives", day + 1);
            }
        }
        Ok(times)
    }

    /// Backs a dump up with dbvault and with Borg, at the same time, where they lack it.
    fn back_up(&self, day: u64, table: &Table, time: Timestamp, lacks: [bool; 2]) -> Result<()> {
        let dump = self.path("dump");
        table.write(&dump).map_err(|e| e.to_string())?;
        let ours = || self.store("repository", day, time, &dump);
        let borgs = || {
            let name = format!("::{}", name_of(day));
            let time = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            let words = ["create", "--compression", "zstd,3", "--timestamp", &time, "--stdin-name", "dump"];
            run(input(self.borg(&[&words[..], &[&name, "-"]].concat()), &dump)?)
        };
        std::thread::scope(|scope| {
            let borgs = lacks[1].then(|| scope.spawn(borgs));
            let ours = if lacks[0] { ours() } else { Ok(()) };
            let borgs = borgs.map_or(Ok(()), |borgs| borgs.join().map_err(|_| "a panic".to_owned())?);
            ours.and(borgs)
        })
    }

    /// Backs a dump up as the archive of a day.
    fn store(&self, repository: &str, day: u64, time: Timestamp, dump: &Path) -> Result<()> {
        let (name, time) = (name_of(day), time.to_string());
        let words =
            ["backup", "--quiet", "--stdin", "--name", "dump", "--archive", &name, "--timestamp", &time];
        run(input(self.dbvault(repository, &words), dump)?)
    }

    /// Prunes both and looks at what is left.
    fn contest(&self, times: &[Timestamp], archives: u64, megabytes: u64) -> Result<String> {
        let before = [bytes_stored(&self.path("repository"))?, bytes_stored(&self.path("borg"))?];
        let ours = measure(self.dbvault("repository", &["prune", "--drop-most"]), None)?;
        let prune = measure(self.borg(&[&["prune"], &RULES[..]].concat()), None)?;
        let compact = measure(self.borg(&["compact"]), None)?;
        let after = [bytes_stored(&self.path("repository"))?, bytes_stored(&self.path("borg"))?];
        let kept = self.days("repository")?;
        self.verify(&kept, megabytes)?;
        run(self.dbvault("repository", &["check", "--read-data"]))?;
        let alone = self.alone(&kept, times, megabytes)?;
        let wall_ratio = ours.wall_seconds / (prune.wall_seconds + compact.wall_seconds);
        let freed_share = (before[0] - after[0]) as f64 / (before[0] - alone.min(before[0])) as f64;
        let borg_archives = self.borgs_days()?.len();
        let mut report = String::from("# Prune of a long history\n\n");
        let _ = write!(
            report,
            "Measured by `make bench-prune`: {archives} daily archives of a changing database of {megabytes} MB, pruned \
             to 7 daily, 4 weekly, 6 monthly and 1 yearly ones.\n\n\
             | | dbvault | Borg |\n| --- | --- | --- |\n\
             | archives left | {} | {borg_archives} |\n\
             | prune | {} | {} |\n| compact | part of it | {} |\n\
             | stored before | {} | {} |\n| stored after | {} | {} |\n\n\
             Wall time beside Borg: {wall_ratio:.3} (goal 0.25). Freed of what is dead: {:.1}% (goal 95%), where a new \
             repository of the archives that are left takes {}. Peak memory: {:.0} MB (goal 300 MB). All {} archives \
             that are left were extracted and compared.\n",
            kept.len(),
            ours,
            prune,
            compact,
            mb(before[0]),
            mb(before[1]),
            mb(after[0]),
            mb(after[1]),
            100.0 * freed_share,
            mb(alone),
            ours.peak_megabytes,
            kept.len(),
        );
        Ok(report)
    }

    /// Days whose archives are in the repository, in order.
    fn days(&self, repository: &str) -> Result<Vec<u64>> {
        let list = output(self.dbvault(repository, &["list", "--json"]))?;
        let list: serde_json::Value = serde_json::from_str(&list).map_err(|e| e.to_string())?;
        Ok(days_of(list["archives"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str())))
    }

    /// The same of Borg's.
    fn borgs_days(&self) -> Result<Vec<u64>> {
        Ok(days_of(output(self.borg(&["list", "--short"]))?.lines()))
    }

    fn verify(&self, kept: &[u64], megabytes: u64) -> Result<()> {
        each_day(kept, megabytes, |day, table| {
            let dump = self.path("dump");
            table.write(&dump).map_err(|e| e.to_string())?;
            let expected = Fingerprint::of_file(&dump)?;
            let words = ["extract", "--archive", &name_of(day), "--entry", "dump"];
            let extract = self.dbvault("repository", &words);
            measure_output(extract, &expected).map(drop)
        })
    }

    /// Bytes of a new repository with the archives that are left.
    fn alone(&self, kept: &[u64], times: &[Timestamp], megabytes: u64) -> Result<u64> {
        let _ = fs::remove_dir_all(self.path("alone"));
        run(self.dbvault("alone", &["init", "--quiet"]))?;
        each_day(kept, megabytes, |day, table| {
            let dump = self.path("dump");
            table.write(&dump).map_err(|e| e.to_string())?;
            self.store("alone", day, times[day as usize], &dump)
        })?;
        bytes_stored(&self.path("alone"))
    }
}

/// The archive of a day.
fn name_of(day: u64) -> String {
    format!("d{day}")
}

/// The days of these archives, in order.
fn days_of<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u64> {
    let mut days: Vec<u64> = names.filter_map(|name| name.strip_prefix('d')?.parse().ok()).collect();
    days.sort_unstable();
    days
}

fn each_day(days: &[u64], megabytes: u64, mut each: impl FnMut(u64, &Table) -> Result<()>) -> Result<()> {
    let mut table = Table::new(megabytes);
    for day in 0..=days.last().copied().unwrap_or(0) {
        table.next_day();
        if days.contains(&day) {
            each(day, &table)?;
        }
    }
    Ok(())
}

/// A table of which 1% of the rows change each day, 0.1% go and as many come. The same on every run.
struct Table {
    /// What each row is drawn from, in their order in the dump.
    rows: Vec<(u64, u64)>,
    next_id: u64,
    random: u64,
}

impl Table {
    fn new(megabytes: u64) -> Table {
        let count = megabytes * 8_000;
        let rows = (0..count).map(|id| (id, 0)).collect();
        Table { rows, next_id: count, random: 1 }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.random)
    }

    fn next_day(&mut self) {
        let count = self.rows.len();
        for _ in 0..count / 100 {
            let (at, version) = (self.random() as usize % count, self.random());
            self.rows[at].1 = version;
        }
        let gone: std::collections::HashSet<usize> =
            (0..count / 1000).map(|_| self.random() as usize % count).collect();
        let mut at = 0;
        self.rows.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
        while self.rows.len() < count {
            let version = self.random();
            self.rows.push((self.next_id, version));
            self.next_id += 1;
        }
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        const TOWNS: [&str; 8] = ["Aachen", "Basel", "Chur", "Dresden", "Essen", "Fulda", "Graz", "Halle"];
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        for (id, version) in &self.rows {
            let (fixed, changing) = (mixed(*id), mixed(id ^ version));
            let town = TOWNS[(fixed % 8) as usize];
            writeln!(
                file,
                "{id}\tuser{}@example.org\t{town}\t{:x}\t2026-{:02}-{:02} {:02}:00:00\tnotes of {town}: {}, {:x}\tactive",
                fixed % 1_000_000,
                fixed >> 16,
                1 + changing % 12,
                1 + changing % 28,
                changing % 24,
                changing % 1000,
                changing >> 40,
            )?;
        }
        file.flush()
    }
}

fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn input(mut command: Command, path: &Path) -> Result<Command> {
    command.stdin(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?);
    Ok(command)
}

fn run(command: Command) -> Result<()> {
    output(command).map(drop)
}

fn output(mut command: Command) -> Result<String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
