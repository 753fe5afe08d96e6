//! `status`: how well backed up each database is.

use std::time::Duration;

use dbvault_format::entry::EntryKind;
use dbvault_jobs::metrics::Metrics;
use dbvault_jobs::status::{DatabaseStatus, Limits, Overview, Problem};
use dbvault_repo::Repository;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::Status;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{self, Column};
use crate::{documents, sanitize};

pub(super) fn run(context: &Context, args: Status) -> Result<()> {
    let repository = context.open()?;
    let progress = context.progress();
    let overview = Overview::read(&repository, &context.databases_wanted()?, progress.board());
    drop(progress);
    let mut overview = overview?;
    let wanted = |names: &[String], name: &String| names.is_empty() || names.contains(name);
    overview
        .databases
        .retain(|status| wanted(&args.host, &status.host) && wanted(&args.database, &status.name));
    let (limits, now_ms) = (limits(&args), Timestamp::now().as_millisecond());
    let judged: Vec<(&DatabaseStatus, Vec<Problem>)> =
        overview.databases.iter().map(|status| (status, status.problems(&limits, now_ms))).collect();
    if args.prometheus {
        output::text(&Metrics::of(&repository.location(), &overview).text())?;
    } else if context.global.json {
        output::json(&document(&repository, &overview, &judged, now_ms))?;
    } else if judged.is_empty() {
        context.note("No backups");
    } else {
        output::text(&table(&judged, now_ms))?;
    }
    conclude(context, &repository, &overview, &judged)
}

fn limits(args: &Status) -> Limits {
    let ms = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Limits { max_age_ms: args.max_age.map(ms), max_proof_age_ms: args.max_proof_age.map(ms) }
}

/// A line for each problem, and the error that they are.
fn conclude(
    context: &Context,
    repository: &Repository,
    overview: &Overview,
    judged: &[(&DatabaseStatus, Vec<Problem>)],
) -> Result<()> {
    let location = repository.location();
    if overview.damaged > 0 {
        return Err(Error::DamageFound { problems: overview.damaged as u64, location });
    }
    let problems: usize = judged.iter().map(|(_, problems)| problems.len()).sum();
    for (status, problem) in judged.iter().flat_map(|(status, all)| all.iter().map(move |one| (status, one)))
    {
        context.warning(&format!("{}: {}", sanitize::line(&status.name), words(problem)));
    }
    if overview.archives == 0 || judged.is_empty() {
        return Err(Error::BackupsWanting { problems: problems.max(1) as u64, location });
    }
    if problems == 0 { Ok(()) } else { Err(Error::BackupsWanting { problems: problems as u64, location }) }
}

fn table(judged: &[(&DatabaseStatus, Vec<Problem>)], now_ms: i64) -> String {
    use Column::{Left, Right};
    let columns = [
        Left("DATABASE"),
        Left("KIND"),
        Left("HOST"),
        Left("LAST BACKUP"),
        Right("AGE"),
        Right("SIZE"),
        Right("BEFORE"),
        Left("PROVEN"),
        Left("STATE"),
    ];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = judged.iter().map(|(status, problems)| {
        let last = status.last.as_ref();
        let states: Vec<&str> = problems.iter().map(word).collect();
        vec![
            status.name.clone(),
            or_dash(status.kind.map(|kind| kind.name().to_owned())),
            or_dash(Some(status.host.clone()).filter(|host| !host.is_empty())),
            or_dash(last.map(|last| output::local_time(last.started_ms))),
            or_dash(last.map(|last| age(now_ms - last.started_ms))),
            or_dash(last.map(|last| output::size(last.original_bytes))),
            or_dash(status.previous_bytes.map(output::size)),
            status.proven_ms.map_or_else(|| "never".to_owned(), |proven_ms| age(now_ms - proven_ms) + " ago"),
            if states.is_empty() { "ok".to_owned() } else { states.join(", ") },
        ]
    });
    output::table(&columns, rows)
}

/// `3 min`, `25 h`, `40 d`.
fn age(age_ms: i64) -> String {
    let minutes = age_ms.max(0) / 60_000;
    match minutes {
        0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / 1440),
    }
}

/// For the table and for JSON.
fn word(problem: &Problem) -> &'static str {
    match problem {
        Problem::Missing => "missing",
        Problem::Failed(_) => "failed",
        Problem::Old(_) => "old",
        Problem::Shrunk { .. } => "shrunk",
        Problem::NotRestorable(_) => "not restorable",
        Problem::NeverProven => "never proven",
        Problem::ProofOld(_) => "proof old",
    }
}

fn words(problem: &Problem) -> String {
    match problem {
        Problem::Missing => "no archive has it".into(),
        Problem::Failed(reason) => format!("the newest archive lacks it: {reason}"),
        Problem::Old(age_ms) => format!("the last backup is {} old", age(*age_ms)),
        Problem::Shrunk { before_bytes, bytes } => format!(
            "the last backup has {}, the one before had {}",
            output::size(*bytes),
            output::size(*before_bytes)
        ),
        Problem::NotRestorable(detail) => format!("the last drill could not restore it: {detail}"),
        Problem::NeverProven => "no drill ever restored it".into(),
        Problem::ProofOld(age_ms) => format!("the last drill that restored it is {} ago", age(*age_ms)),
    }
}

fn document(
    repository: &Repository,
    overview: &Overview,
    judged: &[(&DatabaseStatus, Vec<Problem>)],
    now_ms: i64,
) -> Value {
    let time = |time_ms: Option<i64>| time_ms.map_or(Value::Null, output::utc_time);
    let databases = judged.iter().map(|(status, problems)| {
        let last = status.last.as_ref();
        json!({
            "name": status.name,
            "kind": status.kind.map(EntryKind::name),
            "host": status.host,
            "archive": last.map(|last| &last.archive),
            "started": time(last.map(|last| last.started_ms)),
            "finished": time(last.map(|last| last.finished_ms)),
            "age_ms": last.map(|last| now_ms - last.started_ms),
            "duration_ms": last.map(|last| last.duration_ms),
            "original_bytes": last.map(|last| last.original_bytes),
            "previous_bytes": status.previous_bytes,
            "stored_bytes": last.map(|last| last.stored_bytes),
            "failed": status.failed,
            "proven": time(status.proven_ms),
            "drill": status.drill.as_ref().map(|(proof, archive)| {
                let mut document = documents::proof(proof);
                document["archive"] = archive.as_str().into();
                document
            }),
            "problems": problems
                .iter()
                .map(|problem| json!({ "problem": word(problem), "words": words(problem) }))
                .collect::<Value>(),
        })
    });
    json!({
        "repository": documents::repository(repository),
        "archives": overview.archives,
        "damaged": overview.damaged,
        "databases": databases.collect::<Value>(),
    })
}
