//! `open`: a database of an archive in a throw-away private server, for as long as it is looked at.

use std::io::{self, IsTerminal};
use std::sync::atomic::Ordering;

use dbvault_format::entry::attribute;
use dbvault_jobs::open::{self, OpenRequest, Opened};
use dbvault_jobs::selection::Origin;
use dbvault_repo::ArchiveInfo;
use dbvault_source::row_counts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use serde_json::{Value, json};

use super::choice::choose;
use super::list::archive_words;
use crate::args::Open;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{documents, output, sanitize};

/// How long a wait for the end of standard input is deaf to signals.
const POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

pub(super) fn run(context: &Context, args: Open) -> Result<()> {
    let repository = context.open()?;
    let info = choose(context, &repository, &args.archive, args.database.as_slice())?;
    let progress = context.progress();
    let reader = repository.reader(progress.board())?;
    let request = OpenRequest {
        wanted: args.database.clone(),
        origin: Origin::default(),
        read_only: args.read_only,
        parallel: args.parallel.map(usize::from),
    };
    let opened = open::open(&reader, &info.manifest, &request, context.interrupt(), &*progress.board());
    drop(progress);
    let opened = opened?;
    for entry in &opened.restored {
        for warning in &entry.report.warnings {
            context.warning(&format!("{}: {warning}", opened.name));
        }
    }
    let summary = summary(&opened, &info);
    if !args.psql && args.command.is_empty() {
        tell(context, &opened, &info, &summary)?;
        return wait(context);
    }
    context.note(&summary);
    let on_terminal = io::stdin().is_terminal();
    let run = || match args.psql {
        true => opened.run_client(on_terminal, &context.interrupt()),
        false => opened.run(&args.command, on_terminal, &context.interrupt()),
    };
    // On a terminal Ctrl-C is the program's: psql gives up a query by it, not the session.
    let ended =
        if on_terminal { context.signals.without_ctrl_c(run).map_err(Error::Signals)? } else { run() };
    match ended? {
        0 => Ok(()),
        status => Err(Error::CommandEnded { status }),
    }
}

/// What is open, in a line.
fn summary(opened: &Opened, info: &ArchiveInfo) -> String {
    let counts =
        opened.restored.iter().filter_map(|entry| entry.report.attributes.get(attribute::ROW_COUNTS));
    let counts: Vec<u64> =
        counts.flat_map(|text| row_counts::from_json(text).into_values().collect::<Vec<_>>()).collect();
    let amount = match counts.len() as u64 {
        0 => String::new(),
        tables => {
            format!(" ({}, {})", output::count(tables, "table"), output::count(counts.iter().sum(), "row"))
        }
    };
    let name = sanitize::line(&opened.name);
    format!("{name} of archive {} is open{amount}: {}", archive_words(&info.manifest), opened.server)
}

/// Tells how to reach it.
fn tell(context: &Context, opened: &Opened, info: &ArchiveInfo, summary: &str) -> Result<()> {
    if context.global.json {
        let variables = opened.environment.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        return output::json(&json!({
            "archive": documents::archive_info(info),
            "name": opened.name,
            "kind": opened.kind.name(),
            "server": opened.server,
            "address": opened.address,
            "environment": Value::Object(variables.collect()),
            "client": opened.client,
        }));
    }
    context.note(summary);
    let client: Vec<String> = opened.client.iter().map(|word| quoted(word)).collect();
    output::text(&format!("{}\n{}\n", sanitize::line(&opened.address), sanitize::line(&client.join(" "))))?;
    context.note("It stays until Ctrl-C, and is gone then with all that was changed there");
    Ok(())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/=:,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Waits for a signal, or for the end of standard input where somebody holds it open: a terminal, or a pipe.
fn wait(context: &Context) -> Result<()> {
    let stdin = rustix::stdio::stdin();
    let mode = rustix::fs::fstat(stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let held = io::stdin().is_terminal() || matches!(mode, Ok(FileType::Fifo | FileType::Socket));
    let interrupt = context.interrupt();
    while !interrupt.load(Ordering::Relaxed) {
        if !held {
            std::thread::sleep(std::time::Duration::from_millis(100));
            continue;
        }
        let ready = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&POLL));
        // What is typed means nothing; its end does.
        if ready.is_ok_and(|count| count > 0) && matches!(rustix::io::read(stdin, &mut [0; 4096]), Ok(0)) {
            return Ok(());
        }
    }
    Ok(())
}
