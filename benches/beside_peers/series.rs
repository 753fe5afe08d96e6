//! How a repository grows, day by day, and what it costs to get something out of it then.
//!
//! What happens on which day is in [`Happening`]. A dump is deleted when each tool has it; its hash is kept.

use std::fs;
use std::path::Path;

use dbvault_testkit::dump_series::{DumpSeries, Format, Happening};
use dbvault_testkit::postgres_server::PostgresServer;

use crate::contest::Contest;
use crate::figures::Unit;
use crate::measure::{Fingerprint, measure, measure_output};
use crate::settings::Settings;

pub(crate) const SECTION: &str = "A series of daily dumps";
pub(crate) const DAYS_SECTION: &str = "Stored after each day of the series";
pub(crate) const EXTRACT_NEWEST: &str = "extract the newest archive";
const EXTRACT_FIRST: &str = "extract the first archive, as old as the series";
/// Days of which the report's first table tells what is stored.
const DAYS_TOLD: [u32; 5] = [0, 1, 2, 7, 30];

pub(crate) fn stored_after(day: u32) -> String {
    format!("stored after day {day}")
}

pub(crate) fn run(contest: &mut Contest, settings: &Settings, work: &Path) -> Result<(), String> {
    let days = settings.days;
    contest
        .tell(SECTION, format!("The first backup is that of day 0; then {days} days, each with its dump."));
    let (first, newest) = back_up(contest, settings, work)?;
    let newest_name = name_of(days);
    for _ in 0..settings.rounds {
        contest
            .each_measured(SECTION, EXTRACT_FIRST, |peer| measure_output(peer.extract(&name_of(0)), &first));
        contest.each_measured(SECTION, EXTRACT_NEWEST, |peer| {
            measure_output(peer.extract(&newest_name), &newest)
        });
        contest.each_measured(SECTION, "list", |peer| measure(peer.list(), None));
    }
    contest.each(|peer, figures| {
        let Some(check) = peer.check() else { return Ok(()) };
        figures.add_usage(SECTION, "check", peer.name(), measure(check, None)?);
        Ok(())
    });
    let lines: Vec<String> = contest.peers().filter_map(|peer| peer.check_line()).collect();
    contest.tell(SECTION, format!("Checked by {}: what each does by default.", lines.join(", ")));
    contest.each(|peer, _| peer.remove());
    Ok(())
}

/// Returns the first dump's fingerprint and the last one's.
fn back_up(
    contest: &mut Contest,
    settings: &Settings,
    work: &Path,
) -> Result<(Fingerprint, Fingerprint), String> {
    eprintln!("making a database of {} MB", settings.megabytes);
    let server = PostgresServer::start()?;
    let mut series = DumpSeries::create(&server, settings.megabytes)?;
    let path = work.join("series.dump");
    let mut fingerprints = Vec::new();
    for day in 0..=settings.days {
        if day > 0 {
            series.next_calendar_day()?;
        }
        let bytes = series.dump(&path, Format::Custom0)?;
        let happenings: Vec<&str> = Happening::of_day(day).map(Happening::title).collect();
        eprintln!("day {day}: {bytes} bytes; {}", happenings.join(", "));
        fingerprints.push(Fingerprint::of_file(&path)?);
        let archive = name_of(day);
        if day == 0 {
            contest.each_first_backup(SECTION, "first backup", |peer| {
                measure(peer.backup(&archive), Some(&path))
            });
        } else {
            contest.each_backup(SECTION, "daily backup", |peer| measure(peer.backup(&archive), Some(&path)));
        }
        let title = format!("day {day}: {}", happenings.join(", "));
        let title = title.trim_end_matches(": ");
        contest.each(|peer, figures| {
            let stored = peer.bytes_stored()? as f64;
            figures.add(DAYS_SECTION, title, Unit::Bytes, peer.name(), stored);
            if DAYS_TOLD.contains(&day) || day == settings.days {
                figures.add(SECTION, &stored_after(day), Unit::Bytes, peer.name(), stored);
            }
            Ok(())
        });
    }
    fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((fingerprints[0], fingerprints[fingerprints.len() - 1]))
}

fn name_of(day: u32) -> String {
    format!("day{day}")
}
