//! `schedule`: runs dbvault by itself.

use dbvault_jobs::schedule::{self, Done, Keeper, Places, Plan, When};
use serde_json::{Value, json};

use crate::args::{Schedule, ScheduleInstall, ScheduleWhere};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output;

pub(super) fn run(context: &Context, args: Schedule) -> Result<()> {
    let places = Places::of_this_machine(&context.interrupt())?;
    match args {
        Schedule::Install(args) => install(context, &places, args),
        Schedule::Show(at) => {
            let done = schedule::show(&places, keeper(&places, &at))?;
            if done.files.is_empty() && !context.global.json {
                context.note("Nothing is scheduled; dbvault schedule install does that");
            }
            show(context, &done, false)
        }
        Schedule::Remove { at, dry_run } => {
            let done = schedule::remove(&places, keeper(&places, &at), dry_run)?;
            if context.global.json {
                return show(context, &done, dry_run);
            }
            let verb = if dry_run { "Would remove" } else { "Removed" };
            tell(context, verb, &done, "Nothing is scheduled")
        }
    }
}

fn keeper(places: &Places, at: &ScheduleWhere) -> Keeper {
    match (at.system, at.user, at.crontab) {
        (true, ..) => Keeper::System,
        (_, true, _) => Keeper::User,
        (.., true) => Keeper::Cron,
        _ => places.keeper(),
    }
}

fn install(context: &Context, places: &Places, args: ScheduleInstall) -> Result<()> {
    let keeper = if args.cron.is_some() { Keeper::Cron } else { keeper(places, &args.at) };
    let (hour, minute) = args.daily;
    let when = match (args.on_calendar, args.cron) {
        (Some(words), _) => When::Calendar(words),
        (_, Some(fields)) => When::Cron(fields),
        (None, None) => When::Daily { hour, minute },
    };
    let program =
        std::env::current_exe().map_err(|source| Error::Write { path: "the schedule".to_owned(), source })?;
    let plan = Plan { when, program, global_args: global_args(context)?, actions: actions(&args.run)? };
    let done = schedule::install(places, keeper, &plan, args.dry_run)?;
    if args.dry_run || context.global.json {
        return show(context, &done, args.dry_run);
    }
    if done.changed {
        tell(context, "Wrote", &done, "")?;
    } else {
        tell(context, "As it was:", &done, "")?;
    }
    if keeper == Keeper::User {
        context.note("Timers of a user run only while the user is logged in, unless loginctl enable-linger allows more");
    }
    Ok(())
}

/// What was given on this command line, for each run: paths are made absolute.
fn global_args(context: &Context) -> Result<Vec<String>> {
    let given = [("--repo", context.global.repo.clone()), ("--key-file", context.key_file())];
    let mut args = Vec::new();
    for (option, path) in given.into_iter().filter_map(|(option, path)| Some((option, path?))) {
        if path.as_os_str().is_empty() {
            continue;
        }
        let absolute = std::path::absolute(&path)
            .map_err(|source| Error::Write { path: path.display().to_string(), source })?;
        let text = absolute.to_str().ok_or_else(|| Error::Usage(format!("{option} is not UTF-8")))?;
        args.extend([option.to_owned(), text.to_owned()]);
    }
    Ok(args)
}

/// Command lines without quotes: words, separated by spaces.
fn actions(lines: &[String]) -> Result<Vec<Vec<String>>> {
    if lines.is_empty() {
        return Ok(vec![vec!["backup".to_owned()]]);
    }
    let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let actions: Vec<Vec<String>> = lines.iter().map(words).collect();
    match actions.iter().any(Vec::is_empty) {
        true => Err(Error::Usage("--run needs an action".into())),
        false => Ok(actions),
    }
}

fn tell(context: &Context, verb: &str, done: &Done, nothing: &str) -> Result<()> {
    if !done.changed && !nothing.is_empty() {
        context.note(nothing);
        return Ok(());
    }
    for (name, _) in done.files.iter().filter(|_| !context.global.quiet) {
        output::text(&format!("{verb} {name}\n"))?;
    }
    Ok(())
}

fn show(context: &Context, done: &Done, dry_run: bool) -> Result<()> {
    if context.global.json {
        let files = done.files.iter().map(|(name, text)| json!({ "name": name, "text": text }));
        return output::json(&json!({
            "dry_run": dry_run,
            "changed": done.changed,
            "files": files.collect::<Value>(),
        }));
    }
    for (name, text) in &done.files {
        output::text(&format!("# {name}\n{text}\n"))?;
    }
    Ok(())
}
