//! `repair`: makes the index anew, moves what is damaged out of the way, restores what parity can.

use std::fmt::Write;

use dbvault_repo::{RepairOptions, RepairReport};

use super::check::{damage_lines, finding_lines};
use crate::args::Repair;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{documents, output, sanitize};

pub(super) fn run(context: &Context, args: Repair) -> Result<()> {
    let repository = context.open()?;
    let location = repository.location();
    let question =
        format!("Repair {location}? Damaged objects are moved to its quarantine; none is deleted.");
    if !args.dry_run && !args.yes && !context.confirm(&question, &format!("repair {location}"))? {
        return Err(Error::NotRepaired { location });
    }
    let options = RepairOptions {
        read_data: args.read_data,
        dry_run: args.dry_run,
        add_parity_percent: args.add_parity,
    };
    let progress = context.progress();
    let report = repository.repair(&options, progress.board());
    drop(progress);
    let report = report?;
    if context.global.json {
        output::json(&documents::repair_report(&report, args.dry_run))?;
    } else {
        output::text(&words(&report, args.dry_run, context.global.quiet))?;
        advise(context, &report, &args);
    }
    let problems = match args.dry_run {
        true => report.findings.len().max(report.damage.len()),
        false => report.damage.len() + report.left.len(),
    };
    match problems as u64 {
        0 => Ok(()),
        problems => Err(Error::DamageFound { problems, location }),
    }
}

fn words(report: &RepairReport, dry_run: bool, quiet: bool) -> String {
    let mut text = finding_lines(&report.findings);
    if dry_run {
        return text
            + &damage_lines(&report.damage)
            + if report.clean() { "Nothing to repair\n" } else { "" };
    }
    if let Some(root) = report.root {
        let packs = output::count(report.listed_packs, "pack");
        let _ = writeln!(text, "Made the index anew: root {root} lists {packs}");
    }
    if report.saved_records + report.lost_records > 0 {
        let (saved, lost) = (output::count(report.saved_records, "chunk"), report.lost_records);
        let _ = writeln!(text, "Saved {saved} of damaged packs, lost {lost}");
    }
    for name in &report.restored {
        let _ = writeln!(text, "Restored {} by its parity", sanitize::line(name));
    }
    for name in &report.quarantined {
        let _ = writeln!(text, "Moved {} to quarantine", sanitize::line(name));
    }
    if report.parity_added > 0 {
        let _ = writeln!(text, "Stored parity for {}", output::count(report.parity_added, "pack"));
    }
    for left in &report.left {
        let _ = writeln!(text, "Left {}: {}", sanitize::line(&left.object), sanitize::line(&left.problem));
    }
    text += &damage_lines(&report.damage);
    let nothing = report.findings.is_empty() && report.parity_added == 0 && report.damage.is_empty();
    if nothing && !quiet {
        text += "Nothing to repair\n";
    }
    text
}

fn advise(context: &Context, report: &RepairReport, args: &Repair) {
    if !report.damage.is_empty() {
        context.note(
            "The next backup stores again what is missing and still in its source; archives that stay damaged \
             block prune and compact until they are deleted",
        );
    }
    if !args.read_data {
        context.note("Damage inside packs is looked for with --read-data only");
    }
}
