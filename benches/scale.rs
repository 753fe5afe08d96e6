//! A repository of 50 million chunks: what opening, looking up, backing up, listing and checking cost.
//!
//! `cargo bench --bench scale` prints a table and writes it to `benches/results/scale.md`.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DBVAULT_SCALE_CHUNKS` | chunks, 50,000,000 by default; about 260 bytes each on the disk |
//! | `DBVAULT_SCALE_DIR` | directory for the repository; it is kept, and used again with what is there |
//! | `DBVAULT_SCALE_LOOKUPS` | if set, only opening and look-ups are measured |
//! | `DBVAULT_BIN` | the dbvault to measure, instead of the one just built |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to the person who runs it"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::environment::{is_to_measure, number};
use self::world::World;

#[path = "shared/environment.rs"]
mod environment;
#[path = "scale/look_ups.rs"]
mod look_ups;
#[path = "shared/measure.rs"]
mod measure;
#[path = "scale/program.rs"]
mod program;
#[path = "scale/report.rs"]
mod report;
#[path = "scale/world.rs"]
mod world;

const PASSPHRASE: &str = "a passphrase for measuring only";
const CHUNKS: usize = 50_000_000;
/// The word that makes this program open the index and end: a process whose memory can be measured.
const OPEN_ONLY: &str = "open-only";

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    if !is_to_measure() {
        return Ok(());
    }
    let chunks = number("DBVAULT_SCALE_CHUNKS", CHUNKS)?;
    let made = tempfile::tempdir()?;
    let root = std::env::var_os("DBVAULT_SCALE_DIR").map_or(made.path().into(), PathBuf::from);
    let world = World::new(&root, chunks);
    if std::env::args().any(|argument| argument == OPEN_ONLY) {
        dbvault_repo::measure::OpenedIndex::open(&world.open()?)?;
        return Ok(());
    }
    let report = measure_all(&world, &root)?;
    println!("{report}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/scale.md");
    fs::create_dir_all(path.with_file_name(""))?;
    Ok(fs::write(&path, report)?)
}

fn measure_all(world: &World, root: &Path) -> Result<String, Error> {
    let mut report = report::Report::new(world);
    if !world.repository().exists() {
        eprintln!("making {} chunks", world.chunks());
        world.make()?;
    }
    if !world.home().join("cache").exists() {
        eprintln!("loading the index");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--bench", OPEN_ONLY]).env("DBVAULT_SCALE_DIR", root);
        command.env("DBVAULT_SCALE_CHUNKS", world.chunks().to_string());
        report.usage("index made from nothing", measure::measure(command, None)?, None);
    }
    look_ups::measure(world, &mut report)?;
    if std::env::var_os("DBVAULT_SCALE_LOOKUPS").is_none() {
        program::measure(world, root, &mut report)?;
    }
    Ok(report.finish())
}
