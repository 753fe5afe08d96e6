//! `prune`: archives that no rule keeps go, and the space that only they took comes back.

use dbvault_jobs::config::Config;
use dbvault_jobs::prune::Plan;
use dbvault_jobs::retention::{Rule, Rules, Verdict, Why};
use dbvault_repo::{CollectOptions, CollectReport, Repository, RunningBackup};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};

use super::list::archive_words;
use crate::args::{Compact, Prune, Space};
use crate::configuration::Meant;
use crate::context::{Accept, Context};
use crate::error::{Error, Result};
use crate::{output, sanitize};

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub(super) fn run(context: &Context, args: Prune) -> Result<()> {
    context.each_place(|place| prune(context, &args, place))
}

fn prune(context: &Context, args: &Prune, place: &Meant) -> Result<()> {
    let config = &place.1;
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let rules = rules(args, config, now, &zone)?;
    let keep_tags = [&args.keep_tag[..], &config.keep_tags[..]].concat();
    let repository = context.unlock_place(place.clone(), Accept::Any)?.repository;
    let progress = context.progress();
    let plan = Plan::make(&repository, &rules, &keep_tags, now, &zone, progress.board());
    drop(progress);
    let plan = plan?;
    if !args.drop_most && !args.dry_run {
        plan.check_share()?;
    }
    let mut freed = CollectReport::default();
    if !args.dry_run {
        plan.carry_out(&repository)?;
        freed = collect(context, &repository, &args.space, config)?;
        context.write_metrics(&repository);
    }
    if context.global.json {
        return output::json(&json!({
            "dry_run": args.dry_run,
            "archives": plan.decisions.iter().map(|(info, why)| json!({
                "id": info.manifest.id.to_string(),
                "name": info.manifest.name,
                "kept": why.is_some(),
                "rule": words(*why),
            })).collect::<Value>(),
            "freed": document(&freed),
        }));
    }
    if context.global.quiet {
        return Ok(());
    }
    for (info, why) in plan.decisions.iter().filter(|(_, why)| args.explain || why.is_none()) {
        let verb = match (why, args.dry_run) {
            (Some(_), _) => "Keep",
            (None, true) => "Would drop",
            (None, false) => "Dropped",
        };
        output::text(&format!("{verb} {}: {}\n", archive_words(&info.manifest), words(*why)))?;
    }
    if args.dry_run { Ok(()) } else { tell(context, &freed) }
}

/// `compact`: only the space.
pub(super) fn compact(context: &Context, args: Compact) -> Result<()> {
    context.each_place(|place| compact_one(context, &args, place))
}

fn compact_one(context: &Context, args: &Compact, place: &Meant) -> Result<()> {
    let repository = context.unlock_place(place.clone(), Accept::Any)?.repository;
    let freed = collect(context, &repository, &args.space, &place.1)?;
    context.write_metrics(&repository);
    if context.global.json {
        return output::json(&document(&freed));
    }
    if context.global.quiet { Ok(()) } else { tell(context, &freed) }
}

fn collect(
    context: &Context,
    repository: &Repository,
    space: &Space,
    config: &Config,
) -> Result<CollectReport> {
    let days = keep_deleted_days(space, config);
    let progress = context.progress();
    let options = CollectOptions {
        trashed_before_ms: match days {
            // Whatever the clocks say that were asked when it was deleted.
            0 => i64::MAX,
            days => Timestamp::now().as_millisecond() - i64::from(days) * DAY_MS,
        },
        wait: space.wait.unwrap_or_default(),
        repack_bytes_max: space.repack_mb.saturating_mul(1_000_000),
        ..CollectOptions::default()
    };
    let report = repository.collect(&options, progress.board());
    drop(progress);
    let report = report?;
    // A disk that is still full has no room for it: then the next time.
    repository.keep_reserve()?;
    Ok(report)
}

fn keep_deleted_days(space: &Space, config: &Config) -> u32 {
    space.keep_deleted_days.or(config.keep_deleted_days).unwrap_or(0)
}

fn tell(context: &Context, freed: &CollectReport) -> Result<()> {
    let packs = output::count(freed.packs, "pack");
    // What was stored again has not become free.
    let bytes = output::size(freed.freed_bytes.saturating_sub(freed.repacked_bytes));
    let mut text = format!("Freed {bytes} in {packs}");
    if freed.repacked_bytes > 0 {
        text +=
            &format!(", {} of which were in use and are stored again", output::size(freed.repacked_bytes));
    }
    output::text(&format!("{text}\n"))?;
    if !freed.waits_for.is_empty() {
        let waiting = output::size(freed.waiting_bytes);
        context.note(&format!("{waiting} wait until these backups have ended; the next prune frees them:"));
        freed.waits_for.iter().for_each(|running| context.note(&format!("  {}", running_words(running))));
    }
    Ok(())
}

/// A backup that is waited for, as it is shown.
pub(super) fn running_words(running: &RunningBackup) -> String {
    let id = running.id.to_string();
    let Some(record) = &running.record else { return id };
    let silent = output::duration(u64::try_from(running.silent_ms).unwrap_or(0));
    format!(
        "{} on {}, process {}, since {}, no sign of life for {silent}",
        &id[..8],
        sanitize::line(&record.host),
        record.process,
        output::local_time(record.written_ms),
    )
}

fn document(freed: &CollectReport) -> Value {
    json!({
        "packs": freed.packs,
        "bytes": freed.freed_bytes,
        "repacked_bytes": freed.repacked_bytes,
        "archives": freed.archives,
        "waits_for": freed.waits_for.iter().map(running_document).collect::<Value>(),
        "waiting_bytes": freed.waiting_bytes,
    })
}

/// The same for a program.
pub(super) fn running_document(running: &RunningBackup) -> Value {
    json!({
        "id": running.id.to_string(),
        "host": running.record.as_ref().map(|record| &record.host),
        "process": running.record.as_ref().map(|record| record.process),
        "started": running.record.as_ref().map(|record| output::utc_time(record.written_ms)),
        "silent_ms": running.silent_ms,
    })
}

/// The rules of the command line, or those of the configuration, or the default.
fn rules(args: &Prune, config: &Config, now: Timestamp, zone: &TimeZone) -> Result<Rules> {
    let within_ms = |age: Span| -> Result<i64> {
        let since = now.to_zoned(zone.clone()).checked_sub(age);
        let since = since.map_err(|e| Error::Usage(format!("--keep-within: {e}")))?;
        Ok(now.as_millisecond() - since.timestamp().as_millisecond())
    };
    let given = Rules {
        within_ms: args.keep_within.map(within_ms).transpose()?,
        last: args.keep_last,
        hourly: args.keep_hourly,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
        yearly: args.keep_yearly,
    };
    if !given.is_empty() {
        return Ok(given);
    }
    let age = config.keep_within.as_ref().and_then(|age| age.parse::<Span>().ok());
    let configured = Rules {
        within_ms: age.map(within_ms).transpose()?,
        last: config.keep_last.unwrap_or(0),
        hourly: config.keep_hourly.unwrap_or(0),
        daily: config.keep_daily.unwrap_or(0),
        weekly: config.keep_weekly.unwrap_or(0),
        monthly: config.keep_monthly.unwrap_or(0),
        yearly: config.keep_yearly.unwrap_or(0),
    };
    Ok(if configured.is_empty() { Rules::DEFAULT } else { configured })
}

/// Why an archive is kept, or that it is not.
fn words(why: Verdict) -> String {
    match why {
        None => "no rule keeps it".into(),
        Some(Why::Rule(rule, number)) => format!("{} {number}", rule_word(rule)),
        Some(Why::Oldest(rule)) => format!("the oldest, as long as {} is not full", rule_word(rule)),
        Some(Why::Protected) => "protected".into(),
        Some(Why::Tagged) => "its tag keeps it".into(),
        Some(Why::Future) => "its time is in the future".into(),
        Some(Why::NewestGood) => "the newest good one is always kept".into(),
        Some(Why::NewestIncomplete) => "it lacks something, and is newer than all that lack nothing".into(),
        Some(Why::Unreadable) => "it can't be read: see dbvault check".into(),
    }
}

fn rule_word(rule: Rule) -> &'static str {
    match rule {
        Rule::Within => "within",
        Rule::Last => "last",
        Rule::Hourly => "hourly",
        Rule::Daily => "daily",
        Rule::Weekly => "weekly",
        Rule::Monthly => "monthly",
        Rule::Yearly => "yearly",
    }
}
