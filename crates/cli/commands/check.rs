//! `check`: looks for damage.

use std::fmt::Write;

use dbvault_jobs::place;
use dbvault_repo::{CheckDepth, CheckReport, DamagedEntry, Finding, ScrubReport, scrub};

use super::tree::shown;
use crate::args::{Check, Share};
use crate::configuration::Meant;
use crate::context::{Accept, Context};
use crate::error::{Error, Result};
use crate::{documents, output, sanitize};

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Notes that are shown one by one.
const NOTES_MAX: usize = 5;

/// Files that are named of each damaged entry; `--json` names more.
const FILES_MAX: usize = 20;

pub(super) fn run(context: &Context, args: Check) -> Result<()> {
    let depth = depth(&args);
    context.each_place(
        |place| if args.no_key { scrub_one(context, place) } else { check(context, depth, place) },
    )
}

fn check(context: &Context, depth: CheckDepth, place: &Meant) -> Result<()> {
    let repository = context.unlock_place(place.clone(), Accept::Any)?.repository;
    let progress = context.progress();
    let report = repository.check(depth, progress.board());
    drop(progress);
    let report = report?;
    context.write_metrics(&repository);
    if context.global.json {
        output::json(&documents::check_report(&report))?;
    } else {
        output::text(&words(&report, depth, context.global.quiet))?;
        notes(context, &report.notes);
    }
    if report.clean() {
        return Ok(());
    }
    let problems = (report.findings.len() + report.damage.len()) as u64;
    Err(Error::DamageFound { problems, location: repository.location() })
}

fn depth(args: &Check) -> CheckDepth {
    match (args.subset, args.max_age) {
        (Some(Share::Next(of)), _) => CheckDepth::NextPart { of },
        (Some(Share::Part(part)), _) => CheckDepth::Part(part),
        (None, Some(days)) => CheckDepth::Unread { max_age_ms: i64::from(days) * DAY_MS },
        (None, None) if args.read_data => CheckDepth::Data,
        (None, None) => CheckDepth::Structure,
    }
}

fn scrub_one(context: &Context, place: &Meant) -> Result<()> {
    let place = place::find(&place.0)?;
    let progress = context.progress();
    let report = scrub(&*place.storage, &context.interrupt(), &*progress.board());
    drop(progress);
    let report = report?;
    if context.global.json {
        output::json(&documents::scrub_report(&report))?;
    } else {
        output::text(&scrub_words(&report, context.global.quiet))?;
        context.note(
            "Without a key nobody sees what is missing, nor damage inside the small objects: archives, index, marks",
        );
    }
    match report.findings.len() as u64 {
        0 => Ok(()),
        problems => Err(Error::DamageFound { problems, location: place.storage.location() }),
    }
}

fn scrub_words(report: &ScrubReport, quiet: bool) -> String {
    let mut text = finding_lines(&report.findings);
    if !quiet {
        let (objects, packs) = (output::count(report.objects, "object"), output::count(report.packs, "pack"));
        let size = output::size(report.pack_bytes);
        let verdict = verdict(report.findings.is_empty());
        let _ = writeln!(text, "{objects}, {packs} ({size}) of them read: {verdict}");
    }
    text
}

/// A line for each finding.
pub(super) fn finding_lines(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        let (object, problem) = (sanitize::line(&finding.object), sanitize::line(&finding.problem));
        let _ = writeln!(text, "{object}: {problem}");
        text
    })
}

/// A line for each entry that is hurt, and one for each file of it that is, as far as there are not too many.
pub(super) fn damage_lines(damage: &[DamagedEntry]) -> String {
    damage.iter().fold(String::new(), |mut text, entry| {
        let lost_bytes: u64 = entry.ranges.iter().map(|range| range.end - range.start).sum();
        let (archive, name) = (sanitize::line(&entry.archive), sanitize::line(&entry.entry));
        let ranges = output::count(entry.ranges.len() as u64, "range");
        let size = output::size(lost_bytes);
        let of_table = if entry.table { ", its file table" } else { "" };
        let _ = writeln!(text, "archive {archive}, entry {name}{of_table}: {size} in {ranges} can't be read");
        for path in entry.files.iter().take(FILES_MAX) {
            let _ = writeln!(text, "  {}", shown(path));
        }
        let more = entry.file_count - entry.files.len().min(FILES_MAX) as u64;
        if more > 0 {
            let _ = writeln!(text, "  and {} more", output::count(more, "file"));
        }
        text
    })
}

fn verdict(clean: bool) -> &'static str {
    if clean { "no damage found" } else { "damage found" }
}

fn words(report: &CheckReport, depth: CheckDepth, quiet: bool) -> String {
    let mut text = finding_lines(&report.findings) + &damage_lines(&report.damage);
    if quiet {
        return text;
    }
    let archives = output::count(report.archives, "archive");
    let (packs, size) = (output::count(report.packs, "pack"), output::size(report.pack_bytes));
    let chunks = output::count(report.chunks, "chunk");
    let read = || {
        let (packs, size) = (output::count(report.packs_read, "pack"), output::size(report.bytes_read));
        format!("{packs} ({size}) read")
    };
    let looked = match (depth, report.part) {
        (CheckDepth::Structure, _) => "data not read".to_owned(),
        (CheckDepth::Data, _) => "all data read".to_owned(),
        (_, Some((number, of))) => format!("part {number}/{of}: {}", read()),
        (_, None) => read(),
    };
    let verdict = verdict(report.clean());
    let _ = writeln!(text, "{archives}, {packs} ({size}), {chunks}, {looked}: {verdict}");
    text
}

fn notes(context: &Context, notes: &[Finding]) {
    for note in notes.iter().take(NOTES_MAX) {
        context.note(&format!("{} {}", note.object, note.problem));
    }
    if let Some(more) = notes.len().checked_sub(NOTES_MAX).filter(|more| *more > 0) {
        context.note(&format!("and {more} more; repair --read-data stores what is missing"));
    }
}
