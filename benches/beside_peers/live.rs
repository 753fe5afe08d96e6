//! What a backup of a running server costs beside `pg_dump` alone, the same command, its output thrown away.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use dbvault_testkit::dump_series::{DATABASE, DumpSeries, Format};
use dbvault_testkit::postgres_server::PostgresServer;

use crate::contest::Contest;
use crate::measure::{Fingerprint, Usage, measure};
use crate::peers::Peer;
use crate::settings::Settings;

pub(crate) const SECTION: &str = "A running PostgreSQL server";
pub(crate) const FIRST: &str = "first backup";
pub(crate) const CHANGED: &str = "changed day";
pub(crate) const ALONE: &str = "pg_dump > /dev/null";

/// Of the custom format's header: up to here it tells when the dump was made, so that no two are alike.
const TIME_END_BYTES: u64 = 51;

pub(crate) fn run(contest: &mut Contest, settings: &Settings, work: &Path) -> Result<(), String> {
    eprintln!("making a database of {} MB", settings.megabytes);
    let server = PostgresServer::start()?;
    let mut series = DumpSeries::create(&server, settings.megabytes)?;
    let expected = dump(&series, work)?;
    for _ in 0..settings.rounds {
        dump_alone(contest, &server, FIRST)?;
        contest.each_ours(|peer, figures| {
            peer.start_afresh()?;
            figures.add_usage(SECTION, FIRST, peer.name(), back_up(peer, &server, "day0")?);
            verify(peer, "day0", &expected, work)
        });
    }
    contest.each_ours(|peer, _| peer.save_state());
    series.next_day()?;
    let expected = dump(&series, work)?;
    for _ in 0..settings.rounds {
        contest.each_ours(|peer, _| peer.bring_back_state());
        dump_alone(contest, &server, CHANGED)?;
        contest.each_ours(|peer, figures| {
            figures.add_usage(SECTION, CHANGED, peer.name(), back_up(peer, &server, "day1")?);
            verify(peer, "day1", &expected, work)
        });
    }
    contest.each_ours(|peer, _| peer.remove());
    Ok(())
}

fn dump_alone(contest: &mut Contest, server: &PostgresServer, title: &str) -> Result<(), String> {
    let mut command = server.command("pg_dump");
    command.args(["-Fc", "-Z0", "-d", DATABASE]);
    contest.figures.add_usage(SECTION, title, ALONE, measure(command, None)?);
    Ok(())
}

fn back_up(peer: &Peer, server: &PostgresServer, archive: &str) -> Result<Usage, String> {
    let line = ["backup", "--postgres", DATABASE, "--name", "dump", "--archive", "{archive}"];
    let mut command = peer.command(&line, archive);
    command.envs(server.env()).env("DBVAULT_PG_BINDIR", server.bin_dir());
    measure(command, None)
}

/// The archive must be what `pg_dump` writes of the same state.
fn verify(peer: &Peer, archive: &str, expected: &Fingerprint, work: &Path) -> Result<(), String> {
    let path = work.join("live.extracted");
    let output = path.to_string_lossy();
    let line = ["extract", "--archive", "{archive}", "--entry", "dump", "--force", "--output", &output];
    measure(peer.command(&line, archive), None)?;
    let found = fingerprint_but_time(&path)?;
    if found == *expected { Ok(()) } else { Err(format!("WRONG BYTES: {found} instead of {expected}")) }
}

fn dump(series: &DumpSeries<'_>, work: &Path) -> Result<Fingerprint, String> {
    let path = work.join("live.dump");
    series.dump(&path, Format::Custom0)?;
    fingerprint_but_time(&path)
}

fn fingerprint_but_time(path: &Path) -> Result<Fingerprint, String> {
    let open = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(TIME_END_BYTES))?;
        Fingerprint::of(file)
    };
    open().map_err(|error| format!("{}: {error}", path.display()))
}
