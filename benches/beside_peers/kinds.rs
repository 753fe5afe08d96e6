//! Other kinds of streams: each is backed up, changes for a day, is backed up again and comes back.

use std::fs;
use std::path::Path;

use dbvault_testkit::dump_series::{DumpSeries, Format};
use dbvault_testkit::postgres_server::{PostgresServer, ServerOptions};

use crate::contest::Contest;
use crate::measure::{Usage, measure, measure_output};
use crate::peers::Peer;
use crate::settings::Settings;
use crate::stream::Dump;

pub(crate) const SECTION: &str = "Other kinds of streams";

/// Of the size that other parts take: there are many kinds.
const SIZE_DIVISOR: u32 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What `pg_dump` or the like writes.
    Stream(Format),
    /// A file that its program can change meanwhile: dbvault reads it as `--sqlite`, others as a stream.
    Sqlite,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Stream(Format::Plain), "plain"),
    (Kind::Stream(Format::Custom0), "custom"),
    (Kind::Stream(Format::MysqlStyle), "mysqldump style"),
    (Kind::Sqlite, "SQLite"),
    (Kind::Stream(Format::BaseBackup), "base backup tar"),
];

pub(crate) fn run(contest: &mut Contest, settings: &Settings, work: &Path) -> Result<(), String> {
    let megabytes = (settings.megabytes / SIZE_DIVISOR).max(1);
    contest.tell(SECTION, format!("From a database whose plain dump has {megabytes} MB."));
    let directory = tempfile::tempdir_in(work).map_err(|error| error.to_string())?;
    for (index, days) in make(megabytes, directory.path())?.iter().enumerate() {
        let (kind, name) = KINDS[index];
        let title = |step: &str| format!("{name}: {step}");
        for _ in 0..settings.rounds {
            contest.each_first_backup(SECTION, &title("first"), |peer| back_up(peer, kind, "day0", &days[0]));
            contest.each_backup(SECTION, &title("changed day"), |peer| back_up(peer, kind, "day1", &days[1]));
            for (archive, day) in ["day0", "day1"].into_iter().zip(days) {
                contest.each_measured(SECTION, &title(&format!("extract {archive}")), |peer| {
                    measure_output(peer.extract(archive), &day.fingerprint)
                });
            }
        }
    }
    contest.each(|peer, _| peer.remove());
    Ok(())
}

fn back_up(peer: &Peer, kind: Kind, archive: &str, dump: &Dump) -> Result<Usage, String> {
    if kind == Kind::Sqlite && peer.is_ours() {
        let path = dump.path.to_string_lossy();
        let line = ["backup", "--sqlite", &path, "--name", "dump", "--archive", "{archive}"];
        return measure(peer.command(&line, archive), None);
    }
    measure(peer.backup(archive), Some(&dump.path))
}

/// Of each kind two days.
fn make(megabytes: u32, directory: &Path) -> Result<Vec<[Dump; 2]>, String> {
    eprintln!("making streams of {megabytes} MB");
    let server = PostgresServer::start_with(ServerOptions { replication: true, ..ServerOptions::default() })?;
    let mut series = DumpSeries::create(&server, megabytes)?;
    let path = |index: usize, day: u32| directory.join(format!("{index}.day{day}"));
    for day in 0..=1 {
        for (index, (kind, _)) in KINDS.iter().enumerate() {
            match kind {
                Kind::Stream(format) => series.dump(&path(index, day), *format).map(drop)?,
                Kind::Sqlite if day == 0 => series.write_sqlite(&path(index, 0))?,
                Kind::Sqlite => {
                    fs::copy(path(index, 0), path(index, 1)).map_err(|error| error.to_string())?;
                    DumpSeries::next_sqlite_day(&path(index, 1), 1)?;
                }
            }
        }
        series.next_day()?;
    }
    let dump = |index, day| Dump::of_file(path(index, day));
    (0..KINDS.len()).map(|index| Ok([dump(index, 0)?, dump(index, 1)?])).collect()
}
