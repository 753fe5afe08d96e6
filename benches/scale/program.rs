//! The program itself on the repository: backups, `list`, `check`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment;
use crate::measure::measure as run;
use crate::report::Report;
use crate::world::World;
use crate::{Error, PASSPHRASE};

const STREAM_BYTES: usize = 1 << 30;
const SMALL_BYTES: usize = 1 << 20;
const PEAK_MEBIBYTES_MAX: f64 = 350.0;

pub(crate) fn measure(world: &World, root: &Path, report: &mut Report) -> Result<(), Error> {
    let (large, small) = (root.join("large"), root.join("small"));
    write_rows(&large, STREAM_BYTES, 1)?;
    let program = Program { repository: world.repository(), home: world.home() };
    let empty = Program { repository: root.join("empty"), home: root.join("empty-home") };
    let _ = (fs::remove_dir_all(&empty.repository), fs::remove_dir_all(&empty.home));
    fs::create_dir_all(&empty.home)?;
    run(empty.command(&["init"]), None)?;
    for (program, of) in [(&empty, "an empty repository"), (&program, "this repository")] {
        for (number, what) in ["backup of 1 MiB", "the same again"].into_iter().enumerate() {
            write_rows(&small, SMALL_BYTES, 2)?;
            let usage = run(program.backup(&format!("small {number}")), Some(&small))?;
            report.usage(&format!("{what}, {of}"), usage, None);
        }
    }
    for (name, what) in [("first", "backup of 1 GiB of new rows"), ("again", "the identical stream again")] {
        let usage = run(program.backup(name), Some(&large))?;
        report.usage(what, usage, Some(PEAK_MEBIBYTES_MAX));
    }
    report.usage("list", run(program.command(&["list"]), None)?, None);
    report.usage("check of the structure", run(program.command(&["check"]), None)?, None);
    Ok(())
}

/// The program with a repository, and a user of its own.
struct Program {
    repository: PathBuf,
    home: PathBuf,
}

impl Program {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(environment::program());
        command.arg("--repo").arg(&self.repository).args(words);
        command.env_clear().envs(std::env::vars().filter(|(name, _)| name == "PATH"));
        command.env("HOME", &self.home).env("XDG_CONFIG_HOME", self.home.join("config"));
        command.env("XDG_CACHE_HOME", self.home.join("cache")).env("DBVAULT_PASSPHRASE", PASSPHRASE);
        command
    }

    fn backup(&self, archive: &str) -> Command {
        // A repository that is used again has the archives of other runs.
        let archive = format!("{archive} of run {}", std::process::id());
        self.command(&["backup", "--stdin", "--name", "rows", "--archive", &archive])
    }
}

/// Rows as in a dump: numbers, and words that come again.
fn write_rows(path: &Path, bytes: usize, seed: u64) -> Result<(), Error> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut written, mut number) = (0, seed);
    while written < bytes {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let row = format!(
            "{written}\tuser{}\t{:x}\t2026-01-01 12:00:00\tactive\n",
            (number >> 33) % 9973,
            number >> 16
        );
        file.write_all(row.as_bytes())?;
        written += row.len();
    }
    Ok(file.flush()?)
}
