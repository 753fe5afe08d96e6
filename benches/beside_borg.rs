//! dbvault beside Borg 1.4: the same streams, the same machine, turn by turn in one run.
//!
//! `cargo bench --bench beside_borg` prints a table and writes it to `benches/results/beside_borg.md`.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DBVAULT_BENCH_DUMPS` | directory with `day0.dump` and `day1.dump`; otherwise a PostgreSQL server makes them |
//! | `DBVAULT_BENCH_MB` | size of the dumps to make, 1000 by default |
//! | `DBVAULT_BENCH_ROUNDS` | rounds to take the median of, 3 by default |
//! | `DBVAULT_BENCH_BORG` | the Borg to measure, instead of that of `scripts/install-deps bench` |
//! | `DBVAULT_BIN` | the dbvault to measure, instead of the one just built |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to the person who runs it"
)]

use std::fs;
use std::path::{Path, PathBuf};

use dbvault_testkit::dump_series::{DumpSeries, Format};
use dbvault_testkit::postgres_server::PostgresServer;
use tempfile::TempDir;

use self::measure::{Step, Usage, bytes_stored, measure};
use self::tools::Tool;

#[path = "beside_borg/measure.rs"]
mod measure;
#[path = "beside_borg/report.rs"]
mod report;
#[path = "beside_borg/tools.rs"]
mod tools;

/// The streams: a dump, and the dump of the same database a day later.
struct Dumps {
    day0: PathBuf,
    day1: PathBuf,
    _made: Option<TempDir>,
}

/// Everything measured of one tool, a value for each round.
#[derive(Default)]
struct Measurements {
    usage: [Vec<Usage>; Step::ALL.len()],
    bytes_first: Vec<f64>,
    growth_identical: Vec<f64>,
    growth_changed: Vec<f64>,
}

fn main() -> Result<(), String> {
    // `cargo test --benches` runs this program too, but without the word.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let rounds: usize = number_from_environment("DBVAULT_BENCH_ROUNDS", 3)?.max(1);
    let work = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let tools = Tool::find_all(work.path())?;
    let dumps = Dumps::find_or_make()?;
    let mut measured: Vec<Measurements> = tools.iter().map(|_| Measurements::default()).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        run_round(&tools, &dumps, &mut measured, round)?;
    }
    let report = report::write(&tools, &measured, &dumps, rounds)?;
    println!("{report}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/beside_borg.md");
    let saved = fs::create_dir_all(path.with_file_name("")).and_then(|()| fs::write(&path, report));
    saved.map_err(|error| format!("{}: {error}", path.display()))
}

/// Each step is taken by all tools before the next one, so that a busy moment of the machine hits all; who
/// goes first changes with the round.
fn run_round(
    tools: &[Tool],
    dumps: &Dumps,
    measured: &mut [Measurements],
    round: usize,
) -> Result<(), String> {
    let order: Vec<usize> = (0..tools.len()).map(|turn| (turn + round) % tools.len()).collect();
    for &which in &order {
        tools[which].start_afresh()?;
    }
    for step in Step::ALL {
        for &which in order.iter().filter(|&&which| tools[which].is_present()) {
            let (tool, measured) = (&tools[which], &mut measured[which]);
            match step {
                Step::Identical => tool.save_state()?,
                Step::Changed => tool.bring_back_state()?,
                _ => {}
            }
            let before = bytes_stored(&tool.repository())?;
            let usage = run_step(tool, step, dumps)?;
            eprintln!("  {}, {}: {usage}", tool.name, step.title());
            measured.usage[step as usize].push(usage);
            let growth = (bytes_stored(&tool.repository())?.saturating_sub(before)) as f64;
            match step {
                // What creating the repository stored is part of the price.
                Step::First => measured.bytes_first.push(growth + before as f64),
                Step::Identical => measured.growth_identical.push(growth),
                Step::Changed => measured.growth_changed.push(growth),
                Step::ExtractFirst | Step::ExtractChanged => {}
            }
        }
    }
    Ok(())
}

fn run_step(tool: &Tool, step: Step, dumps: &Dumps) -> Result<Usage, String> {
    match step {
        Step::First => measure(tool.backup("first"), Some(&dumps.day0), 0),
        Step::Identical => measure(tool.backup("identical"), Some(&dumps.day0), 0),
        Step::Changed => measure(tool.backup("changed"), Some(&dumps.day1), 0),
        Step::ExtractFirst => measure(tool.extract("first"), None, length(&dumps.day0)?),
        Step::ExtractChanged => measure(tool.extract("changed"), None, length(&dumps.day1)?),
    }
}

impl Dumps {
    fn find_or_make() -> Result<Self, String> {
        if let Some(directory) = std::env::var_os("DBVAULT_BENCH_DUMPS") {
            let directory = PathBuf::from(directory);
            let (day0, day1) = (directory.join("day0.dump"), directory.join("day1.dump"));
            return Ok(Self { day0, day1, _made: None });
        }
        let megabytes = number_from_environment("DBVAULT_BENCH_MB", 1000)?;
        eprintln!("making dumps of {megabytes} MB");
        let made = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let (day0, day1) = (made.path().join("day0.dump"), made.path().join("day1.dump"));
        let server = PostgresServer::start()?;
        let mut series = DumpSeries::create(&server, megabytes)?;
        series.dump(&day0, Format::Custom0)?;
        series.next_day()?;
        series.dump(&day1, Format::Custom0)?;
        Ok(Self { day0, day1, _made: Some(made) })
    }
}

fn length(path: &Path) -> Result<u64, String> {
    fs::metadata(path).map(|metadata| metadata.len()).map_err(|error| format!("{}: {error}", path.display()))
}

fn number_from_environment<T: std::str::FromStr>(name: &str, default: T) -> Result<T, String> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text.parse().map_err(|_| format!("{name} is not a number: {text}")),
    }
}
