//! `recompress`: what is stored takes less room at another level.

use dbvault_repo::{CollectOptions, RecompressOptions, RecompressReport};
use serde_json::{Value, json};

use super::prune::{running_document, running_words};
use crate::args::Recompress;
use crate::configuration::Meant;
use crate::context::{Accept, Context};
use crate::error::Result;
use crate::output;

/// Bytes of an MB of the command line.
const MB: u64 = 1_000_000;

pub(super) fn run(context: &Context, args: Recompress) -> Result<()> {
    context.each_place(|place| recompress(context, &args, place))
}

fn recompress(context: &Context, args: &Recompress, place: &Meant) -> Result<()> {
    let repository = context.unlock_place(place.clone(), Accept::Any)?.repository;
    let options = RecompressOptions {
        level: args.level,
        larger: args.larger,
        bytes_max: args.repack_mb.map_or(u64::MAX, |mb| mb.saturating_mul(MB)),
        dry_run: args.dry_run,
        wait: args.wait.unwrap_or_default(),
        silence: CollectOptions::default().silence,
    };
    let progress = context.progress();
    let done = repository.recompress(&options, progress.board());
    drop(progress);
    let report = done?;
    if context.global.json {
        return output::json(&document(args, &report));
    }
    if context.global.quiet { Ok(()) } else { tell(context, args, &report) }
}

fn tell(context: &Context, args: &Recompress, report: &RecompressReport) -> Result<()> {
    let (before, after) = (report.before_bytes, report.after_bytes);
    let packs = output::count(report.packs, "pack");
    let verb = if args.dry_run { "would become" } else { "became" };
    let mut text = match before.checked_sub(after) {
        _ if report.packs == 0 => "Nothing to gain".to_owned(),
        Some(saved) => format!(
            "{} in {packs} {verb} {}: {} saved",
            output::size(before),
            output::size(after),
            output::size(saved)
        ),
        None => format!("{} in {packs} {verb} {}", output::size(before), output::size(after)),
    };
    text += &format!("; {} tried", output::count(report.tried_packs, "pack"));
    if report.known_packs > 0 {
        text += &format!(", {} known to be at level {}", report.known_packs, args.level);
    }
    output::text(&format!("{text}\n"))?;
    if report.left_packs > 0 {
        context.note(&format!("{} left for the next run", output::count(report.left_packs, "pack")));
    }
    if !report.waits_for.is_empty() {
        context.note("No pack is stored anew while these backups run:");
        report.waits_for.iter().for_each(|running| context.note(&format!("  {}", running_words(running))));
    }
    Ok(())
}

fn document(args: &Recompress, report: &RecompressReport) -> Value {
    json!({
        "level": args.level,
        "dry_run": args.dry_run,
        "tried_packs": report.tried_packs,
        "packs": report.packs,
        "before_bytes": report.before_bytes,
        "after_bytes": report.after_bytes,
        "known_packs": report.known_packs,
        "left_packs": report.left_packs,
        "waits_for": report.waits_for.iter().map(running_document).collect::<Value>(),
    })
}
