//! `copy`: archives of one repository into another.

use dbvault_jobs::Watcher;
use dbvault_repo::{ArchiveInfo, Copied, Counterpart, Error as Repo, Repository};
use serde_json::{Value, json};

use crate::args::Copy;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{documents, output, sanitize};

/// Environment variable of the passphrase of the other repository.
const TO_PASSPHRASE: &str = "DBVAULT_TO_PASSPHRASE";

/// What becomes of an archive.
enum Outcome {
    Copied(Box<Copied>),
    /// Only told.
    Would,
    There {
        id: String,
        deleted: bool,
    },
    Failed(Error),
}

pub(super) fn run(context: &Context, args: Copy) -> Result<()> {
    let from = context.open()?;
    let to = context.unlock_other(&args.to, args.to_key_file.clone(), TO_PASSPHRASE)?.repository;
    if from.id() == to.id() {
        return Err(Error::Usage("an archive is copied to another repository than its own".into()));
    }
    let (archives, mut failure) = chosen(context, &from, &args)?;
    let counterparts = to.counterparts(&archives)?;
    let progress = context.progress();
    let reader = from.reader(progress.board())?;
    let mut outcomes = Vec::new();
    for (number, (info, counterpart)) in archives.iter().zip(counterparts).enumerate() {
        let name = &info.manifest.name;
        progress.board().entry_begins(name, number, archives.len(), Some(info.manifest.sizes.original_bytes));
        let outcome = match counterpart {
            Counterpart::There { id, deleted } => there(&to, info, id, deleted, args.dry_run),
            Counterpart::NameTaken => Outcome::Failed(Repo::NameTaken { name: name.clone() }.into()),
            Counterpart::Missing if args.dry_run => Outcome::Would,
            Counterpart::Missing => copied(to.copy_archive(&reader, info, progress.board())),
        };
        progress.board().entry_ends(name);
        let stops = matches!(&outcome, Outcome::Failed(error) if !concerns_one(error));
        if !context.global.json && !context.global.quiet {
            progress.pause(|| tell(info, &outcome))?;
        }
        outcomes.push((info, outcome));
        if stops {
            break;
        }
    }
    drop(progress);
    if context.global.json {
        output::json(&document(&to, from.shares_keys_with(&to), args.dry_run, &outcomes))?;
    }
    for (_, outcome) in outcomes {
        if let Outcome::Failed(error) = outcome {
            first(context, &mut failure, error);
        }
    }
    failure.map_or(Ok(()), Err)
}

/// The archives to copy, oldest first, and what was wrong with the first that can't be read.
fn chosen(context: &Context, from: &Repository, args: &Copy) -> Result<(Vec<ArchiveInfo>, Option<Error>)> {
    let mut failure = None;
    if args.archives.is_empty() {
        let mut list = from.archives()?;
        list.archives.retain(|info| info.deleted_ms.is_none());
        for (_, damage) in list.damaged {
            first(context, &mut failure, damage.into());
        }
        return Ok((list.archives, failure));
    }
    let mut archives = Vec::<ArchiveInfo>::new();
    for wanted in &args.archives {
        let info = from.find_archive(wanted)?;
        if info.deleted_ms.is_some() {
            return Err(Repo::ArchiveState { id: info.manifest.id, state: "deleted" }.into());
        }
        if !archives.iter().any(|known| known.manifest.id == info.manifest.id) {
            archives.push(info);
        }
    }
    archives.sort_by_key(|info| info.manifest.started_ms);
    Ok((archives, None))
}

/// Keeps the first failure for the end, and shows the others.
fn first(context: &Context, failure: &mut Option<Error>, error: Error) {
    match failure {
        Some(_) => context.failure(&error),
        None => *failure = Some(error),
    }
}

/// A copy that was stopped right before it got its tags gets them now.
fn there(
    to: &Repository,
    info: &ArchiveInfo,
    id: dbvault_format::id::SessionId,
    deleted: bool,
    dry_run: bool,
) -> Outcome {
    let remarks = if deleted || dry_run { Ok(()) } else { to.copy_remarks(&id, &info.remarks) };
    match remarks {
        Ok(()) => Outcome::There { id: id.to_string(), deleted },
        Err(error) => Outcome::Failed(error.into()),
    }
}

fn copied(done: dbvault_repo::Result<Copied>) -> Outcome {
    done.map_or_else(|error| Outcome::Failed(error.into()), |copied| Outcome::Copied(Box::new(copied)))
}

/// Whether the other archives can be copied all the same.
fn concerns_one(error: &Error) -> bool {
    let Error::Job(dbvault_jobs::Error::Repo(error)) = error else { return false };
    matches!(error, Repo::Unreadable { .. } | Repo::NameTaken { .. } | Repo::BadName { .. })
}

fn tell(info: &ArchiveInfo, outcome: &Outcome) -> Result<()> {
    let name = sanitize::line(&info.manifest.name);
    let text = match outcome {
        Outcome::Copied(copied) => {
            let sizes = &copied.manifest.sizes;
            let (all, stored) = (output::size(sizes.original_bytes), output::size(sizes.stored_bytes));
            let carried = match copied.counts.carried_chunks {
                0 => String::new(),
                chunks => format!(", {} carried over as they are", output::count(chunks, "chunk")),
            };
            format!("Copied {name}: {all}, {stored} stored{carried}\n")
        }
        Outcome::Would => format!("Would copy {name}\n"),
        Outcome::There { deleted: true, .. } => format!("There, and deleted: {name}\n"),
        // Of a hundred archives that are there already nobody wants to hear each time.
        Outcome::There { .. } | Outcome::Failed(_) => return Ok(()),
    };
    output::text(&text)
}

fn document(
    to: &Repository,
    shared_keys: bool,
    dry_run: bool,
    outcomes: &[(&ArchiveInfo, Outcome)],
) -> Value {
    let archive = |(info, outcome): &(&ArchiveInfo, Outcome)| {
        let mut document = json!({ "name": info.manifest.name, "id": info.manifest.id.to_string() });
        match outcome {
            Outcome::Copied(copied) => {
                document["state"] = "copied".into();
                document["copy"] = documents::archive(&copied.manifest);
                document["carried_chunks"] = copied.counts.carried_chunks.into();
                document["carried_bytes"] = copied.counts.carried_bytes.into();
                document["recoded_chunks"] = copied.counts.recoded_chunks.into();
            }
            Outcome::Would => document["state"] = "missing".into(),
            Outcome::There { id, deleted } => {
                document["state"] = if *deleted { "deleted" } else { "there" }.into();
                document["copy"] = json!({ "id": id });
            }
            Outcome::Failed(error) => {
                document["state"] = "failed".into();
                document["error"] = crate::report::in_a_line(error).into();
            }
        }
        document
    };
    json!({
        "to": documents::repository(to),
        "shared_keys": shared_keys,
        "dry_run": dry_run,
        "archives": outcomes.iter().map(archive).collect::<Value>(),
    })
}
