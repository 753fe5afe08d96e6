//! dbvault beside other backup tools: the same streams, the same machine, turn by turn in one run.
//!
//! `cargo bench --bench beside_peers` prints goals and figures, and writes them to a file. A run of all parts
//! at full size is published: in `benches/results/beside_peers.md`, its goals in `README.md` too.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DBVAULT_BENCH_MB` | size of a dump, 1000 by default; `kinds` takes a quarter of it |
//! | `DBVAULT_BENCH_DAYS` | daily dumps after the first one in `series`, 30 by default |
//! | `DBVAULT_BENCH_ROUNDS` | rounds to take the median of, 3 by default |
//! | `DBVAULT_BENCH_PARTS` | `stream,series,kinds,live` by default |
//! | `DBVAULT_BENCH_BORG` | the Borg to measure, instead of that of `scripts/install-deps bench` |
//! | `DBVAULT_BIN` | the dbvault to measure, instead of the one just built |
//! | `TMPDIR` | where all is done; says how much room it needs when it has too little |
//!
//! Whatever a tool gives back is compared with the dump by its hash. A tool that fails, or gives back other
//! bytes, takes no further part, and the run ends with status 1; a goal that is missed is only reported.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to the person who runs it"
)]

use std::path::Path;
use std::time::Instant;

use self::contest::Contest;
use self::environment::is_to_measure;
use self::settings::{Part, Settings};

mod command_lines;
mod contest;
#[path = "../shared/environment.rs"]
mod environment;
mod figures;
mod goals;
mod kinds;
mod live;
#[path = "../shared/measure.rs"]
mod measure;
mod peers;
mod report;
mod series;
mod settings;
mod stream;

fn main() -> Result<(), String> {
    if !is_to_measure() {
        return Ok(());
    }
    let settings = Settings::from_environment()?;
    let work = tempfile::Builder::new().prefix("dbvault-bench-").tempdir();
    let work = work.map_err(|error| format!("no temporary directory: {error}"))?;
    let mut contest = Contest::new(work.path())?;
    settings.require_room(work.path(), contest.peers().filter(|peer| !peer.is_ours()).count())?;
    for part in &settings.parts {
        let started = Instant::now();
        eprintln!("== {}", part.name());
        run_part(*part, &mut contest, &settings, work.path())?;
        eprintln!("== {}: {:.0} s", part.name(), started.elapsed().as_secs_f64());
    }
    let report = report::Report::new(&contest, &settings);
    println!("{}", report.whole());
    eprintln!("written to {}", report.save()?.display());
    if contest.failures().is_empty() { Ok(()) } else { Err(contest.failures().join("\n")) }
}

/// Each part makes its own workload, so that it is the same whichever others are run.
fn run_part(part: Part, contest: &mut Contest, settings: &Settings, work: &Path) -> Result<(), String> {
    match part {
        Part::Stream => stream::run(contest, settings, work),
        Part::Series => series::run(contest, settings, work),
        Part::Kinds => kinds::run(contest, settings, work),
        Part::Live => live::run(contest, settings, work),
    }
}
