//! `check`: looks for damage.

use std::fmt::Write;

use dbvault_repo::{CheckDepth, CheckReport};

use crate::args::Check;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{documents, output, sanitize};

pub(super) fn run(context: &Context, args: Check) -> Result<()> {
    let repository = context.open()?;
    let progress = context.progress();
    let depth = if args.read_data { CheckDepth::Data } else { CheckDepth::Structure };
    let report = repository.check(depth, progress.board());
    drop(progress);
    let report = report?;
    if context.global.json {
        output::json(&documents::check_report(&report))?;
    } else {
        output::text(&words(&report, args.read_data, context.global.quiet))?;
    }
    if report.clean() {
        return Ok(());
    }
    let problems = (report.findings.len() + report.damage.len()) as u64;
    Err(Error::DamageFound { problems, location: repository.location() })
}

fn words(report: &CheckReport, read_data: bool, quiet: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (object, problem) = (sanitize::line(&finding.object), sanitize::line(&finding.problem));
        let _ = writeln!(text, "{object}: {problem}");
    }
    for entry in &report.damage {
        let lost_bytes: u64 = entry.ranges.iter().map(|range| range.end - range.start).sum();
        let (archive, name) = (sanitize::line(&entry.archive), sanitize::line(&entry.entry));
        let ranges = output::count(entry.ranges.len() as u64, "range");
        let size = output::size(lost_bytes);
        let _ = writeln!(text, "archive {archive}, entry {name}: {size} in {ranges} can't be read");
    }
    if quiet {
        return text;
    }
    let archives = output::count(report.archives, "archive");
    let (packs, size) = (output::count(report.packs, "pack"), output::size(report.pack_bytes));
    let chunks = output::count(report.chunks, "chunk");
    let looked = if read_data { "all data read" } else { "data not read" };
    let verdict = if report.clean() { "no damage found" } else { "damage found" };
    let _ = writeln!(text, "{archives}, {packs} ({size}), {chunks}, {looked}: {verdict}");
    text
}
