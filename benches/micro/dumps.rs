//! The streams: a dump, and the dump of the same database a day later.

use std::path::PathBuf;

use dbvault_testkit::dump_series::{DumpSeries, Format};
use dbvault_testkit::postgres_server::PostgresServer;
use tempfile::TempDir;

use crate::environment::number;

pub(crate) struct Dumps {
    pub(crate) day0: PathBuf,
    pub(crate) day1: PathBuf,
    _made: Option<TempDir>,
}

impl Dumps {
    pub(crate) fn find_or_make() -> Result<Self, String> {
        if let Some(directory) = std::env::var_os("DBVAULT_BENCH_DUMPS") {
            let directory = PathBuf::from(directory);
            let (day0, day1) = (directory.join("day0.dump"), directory.join("day1.dump"));
            return Ok(Self { day0, day1, _made: None });
        }
        let megabytes = number("DBVAULT_BENCH_MB", 250)?;
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
