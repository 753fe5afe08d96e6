//! Makes a series of dumps: `make_dumps DIRECTORY MEGABYTES DAYS` writes `day0.dump` to `day<DAYS>.dump`.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::path::PathBuf;
use std::time::Instant;

use dbvault_testkit::dump_series::{DumpSeries, Format};
use dbvault_testkit::postgres_server::PostgresServer;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, megabytes, days] = arguments.as_slice() else {
        return Err("usage: make_dumps DIRECTORY MEGABYTES DAYS".to_owned());
    };
    let directory = PathBuf::from(directory);
    let megabytes = megabytes.parse().map_err(|error| format!("MEGABYTES: {error}"))?;
    let days: u32 = days.parse().map_err(|error| format!("DAYS: {error}"))?;
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let started = Instant::now();
    let server = PostgresServer::start()?;
    let mut series = DumpSeries::create(&server, megabytes)?;
    for day in 0..=days {
        if day > 0 {
            series.next_day()?;
        }
        let path = directory.join(format!("day{day}.dump"));
        let bytes = series.dump(&path, Format::Custom0)?;
        println!("{} {bytes} bytes, {:.1} s from the start", path.display(), started.elapsed().as_secs_f64());
    }
    Ok(())
}
