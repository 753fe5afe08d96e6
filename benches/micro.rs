//! The steps of a backup, each beside the bare library it is made of, and its share of a whole backup.
//!
//! `cargo bench --bench micro` prints tables and writes them to `benches/results/micro.md`. What is measured
//! is processor time: other programs on the machine disturb it least, and a backup uses all cores.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DBVAULT_BENCH_DUMPS` | directory with `day0.dump` and `day1.dump`; otherwise a PostgreSQL server makes them |
//! | `DBVAULT_BENCH_MB` | size of the dumps to make, 250 by default |
//! | `DBVAULT_BENCH_ROUNDS` | rounds to take the median of, 5 by default |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to the person who runs it"
)]

use std::fs;
use std::path::Path;

use self::dumps::Dumps;
use self::environment::{is_to_measure, number};
use self::material::Material;
use self::seal::Sealed;
use self::step::Step;
use self::whole::back_up_both_days;

#[path = "micro/dumps.rs"]
mod dumps;
#[path = "micro/encode.rs"]
mod encode;
#[path = "shared/environment.rs"]
mod environment;
#[path = "micro/look_up.rs"]
mod look_up;
#[path = "micro/material.rs"]
mod material;
#[path = "micro/report.rs"]
mod report;
#[path = "micro/scan.rs"]
mod scan;
#[path = "micro/seal.rs"]
mod seal;
#[path = "micro/step.rs"]
mod step;
#[path = "micro/whole.rs"]
mod whole;

fn main() -> Result<(), String> {
    if !is_to_measure() {
        return Ok(());
    }
    let rounds = number("DBVAULT_BENCH_ROUNDS", 5)?.max(1);
    let work = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let dumps = Dumps::find_or_make()?;
    let material = Material::prepare(&dumps)?;
    let sealed = Sealed::prepare(&material);
    let mut steps = all_steps(&material, &sealed, work.path())?;
    let mut backups = Vec::new();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for step in &mut steps {
            if round == 0 {
                step.verify()?;
            }
            step.measure(round);
        }
        backups.push(back_up_both_days(&dumps, &material, round == 0)?);
    }
    let report = report::write(&steps, &backups, &material);
    println!("{report}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/micro.md");
    let saved = fs::create_dir_all(path.with_file_name("")).and_then(|()| fs::write(&path, report));
    saved.map_err(|error| format!("{}: {error}", path.display()))
}

/// In the order in which a backup takes them.
fn all_steps<'m>(material: &'m Material, sealed: &'m Sealed, work: &Path) -> Result<Vec<Step<'m>>, String> {
    Ok(vec![
        scan::cut(material),
        scan::hash(material),
        look_up::look_up(work)?,
        scan::features(material),
        encode::compress(material),
        encode::compress_delta(material),
        seal::seal(material, sealed),
        seal::open(material, sealed),
        encode::decompress(material),
        encode::decompress_delta(material),
    ])
}
