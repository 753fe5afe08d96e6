//! One line of the user's crontab.

use super::{Done, Places, Plan, When, failed};
use crate::{Error, Result};

/// The comment before our line.
const MARK: &str =
    "# dbvault schedule: the next line is made by dbvault schedule install, which overwrites it.";
/// What the crontab is called in what is told.
const CRONTAB: &str = "crontab";

pub(super) fn install(places: &Places, plan: &Plan, dry_run: bool) -> Result<Done> {
    let line = line(plan)?;
    let before = crontab(places)?;
    let after = format!("{}{MARK}\n{line}\n", without_ours(&before));
    let changed = before != after;
    if changed && !dry_run {
        replace(places, &after)?;
    }
    Ok(Done { files: vec![(CRONTAB.to_owned(), format!("{line}\n"))], changed })
}

pub(super) fn show(places: &Places) -> Result<Done> {
    let before = crontab(places)?;
    let mut lines = before.lines().skip_while(|line| *line != MARK).skip(1);
    let ours = lines.next().map(|line| (CRONTAB.to_owned(), format!("{line}\n")));
    Ok(Done { files: ours.into_iter().collect(), changed: false })
}

pub(super) fn remove(places: &Places, dry_run: bool) -> Result<Done> {
    let done = show(places)?;
    if !done.files.is_empty() && !dry_run {
        replace(places, &without_ours(&crontab(places)?))?;
    }
    Ok(Done { changed: !done.files.is_empty(), ..done })
}

/// Time and commands. A `%` would be a line break to cron.
fn line(plan: &Plan) -> Result<String> {
    let time = match &plan.when {
        When::Daily { hour, minute } => format!("{minute} {hour} * * *"),
        When::Cron(fields)
            if fields.split_whitespace().count() == 5 && !fields.contains(char::is_control) =>
        {
            fields.clone()
        }
        When::Cron(_) => {
            let what = "the time is not five fields of cron".to_owned();
            return Err(Error::Schedule { what, source: None });
        }
        When::Calendar(_) => {
            let what = "cron does not know the times of systemd".to_owned();
            return Err(Error::Schedule { what, source: None });
        }
    };
    let command = |action: &Vec<String>| {
        let program = plan.program.to_string_lossy().into_owned();
        let words =
            std::iter::once(program).chain(plan.global_args.iter().cloned()).chain(action.iter().cloned());
        words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
    };
    let commands: Vec<String> = plan.actions.iter().map(command).collect();
    Ok(format!("{time} {}", commands.join(" && ").replace('%', "\\%").replace('\n', " ")))
}

/// A word of a command line as the shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn without_ours(crontab: &str) -> String {
    let (mut kept, mut ours) = (String::new(), false);
    for line in crontab.lines() {
        let skip = ours || line == MARK;
        ours = line == MARK;
        if !skip {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

/// The user's crontab; empty where there is none.
fn crontab(places: &Places) -> Result<String> {
    let what = "crontab can't be read";
    let listed = places.program("crontab").arg("-l").run_captured().map_err(failed(what))?;
    match listed.code() {
        Some(0) => Ok(String::from_utf8_lossy(&listed.stdout).into_owned()),
        Some(1) if listed.stderr.contains("no crontab") => Ok(String::new()),
        _ => listed.into_success().map(|_| String::new()).map_err(failed(what)),
    }
}

fn replace(places: &Places, text: &str) -> Result<()> {
    let written = places.program("crontab").arg("-").spawn_writer().and_then(|mut writer| {
        writer.feed(&mut text.as_bytes())?;
        writer.finish()
    });
    written.map(drop).map_err(failed("crontab can't be written"))
}
