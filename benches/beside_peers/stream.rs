//! What each step costs: a dump, the same again, the dump of the next day with its scattered updates.

use std::path::{Path, PathBuf};
use std::process::Command;

use dbvault_testkit::dump_series::{DumpSeries, Format};
use dbvault_testkit::postgres_server::PostgresServer;

use crate::contest::Contest;
use crate::figures::Unit;
use crate::measure::{Fingerprint, measure, measure_output};
use crate::settings::Settings;

pub(crate) const SECTION: &str = "A dump, and that of the next day";
pub(crate) const FIRST: &str = "first backup";
pub(crate) const EXTRACT_FIRST: &str = "extract the first archive";
pub(crate) const IDENTICAL: &str = "identical dump again";
pub(crate) const CHANGED: &str = "changed day";
pub(crate) const EXTRACT_CHANGED: &str = "extract the changed day";
/// The whole dump of the next day as one delta: how small the growth could be.
pub(crate) const PATCH: &str = "zstd --patch-from";

/// A dump in a file, and what it must be when it comes back.
pub(crate) struct Dump {
    pub(crate) path: PathBuf,
    pub(crate) fingerprint: Fingerprint,
}

impl Dump {
    pub(crate) fn of_file(path: PathBuf) -> Result<Self, String> {
        let fingerprint = Fingerprint::of_file(&path)?;
        Ok(Self { path, fingerprint })
    }
}

pub(crate) fn run(contest: &mut Contest, settings: &Settings, work: &Path) -> Result<(), String> {
    let directory = tempfile::tempdir_in(work).map_err(|error| error.to_string())?;
    let [day0, day1] = make(settings.megabytes, directory.path())?;
    contest.tell(
        SECTION,
        format!("Streams of {} and {} bytes.", day0.fingerprint.bytes, day1.fingerprint.bytes),
    );
    for round in 1..=settings.rounds {
        eprintln!("round {round} of {}", settings.rounds);
        contest.each_first_backup(SECTION, FIRST, |peer| measure(peer.backup("day0"), Some(&day0.path)));
        contest.each_measured(SECTION, EXTRACT_FIRST, |peer| {
            measure_output(peer.extract("day0"), &day0.fingerprint)
        });
        contest.each(|peer, _| peer.save_state());
        contest.each_backup(SECTION, IDENTICAL, |peer| measure(peer.backup("again"), Some(&day0.path)));
        // A day is measured after the first backup, not after one that found nothing new.
        contest.each(|peer, _| peer.bring_back_state());
        contest.each_backup(SECTION, CHANGED, |peer| measure(peer.backup("day1"), Some(&day1.path)));
        contest.each_measured(SECTION, EXTRACT_CHANGED, |peer| {
            measure_output(peer.extract("day1"), &day1.fingerprint)
        });
    }
    contest.each(|peer, _| peer.remove());
    patch(contest, &day0, &day1, &directory.path().join("patch"))
}

fn make(megabytes: u32, directory: &Path) -> Result<[Dump; 2], String> {
    eprintln!("making dumps of {megabytes} MB");
    let server = PostgresServer::start()?;
    let mut series = DumpSeries::create(&server, megabytes)?;
    let [day0, day1] = ["day0", "day1"].map(|name| directory.join(name));
    series.dump(&day0, Format::Custom0)?;
    series.next_day()?;
    series.dump(&day1, Format::Custom0)?;
    Ok([Dump::of_file(day0)?, Dump::of_file(day1)?])
}

fn patch(contest: &mut Contest, day0: &Dump, day1: &Dump, patch: &Path) -> Result<(), String> {
    let zstd = |arguments: &[&str]| {
        let mut command = Command::new("zstd");
        let from = format!("--patch-from={}", day0.path.display());
        command.args(["-q", "-f", "--long=31"]).arg(from).args(arguments);
        command
    };
    if Command::new("zstd").arg("--version").output().is_err() {
        contest.tell(SECTION, "zstd: absent.".to_owned());
        return Ok(());
    }
    let usage = measure(zstd(&["-3", "-o", &patch.to_string_lossy(), &day1.path.to_string_lossy()]), None)?;
    let bytes = std::fs::metadata(patch).map_err(|error| error.to_string())?.len() as f64;
    measure_output(zstd(&["-d", "-c", &patch.to_string_lossy()]), &day1.fingerprint)?;
    contest.figures.add_usage(SECTION, CHANGED, PATCH, usage);
    contest.figures.add(SECTION, &format!("{CHANGED}: growth"), Unit::Bytes, PATCH, bytes);
    Ok(())
}
