//! The end of an epoch: what its root decided is done, by whoever comes first.

use std::collections::HashSet;

use dbvault_format::id::{PackName, SessionId};
use dbvault_storage::{ErrorKind, Key};

use super::CollectReport;
use super::base::{Base, read};
use crate::liveness::{self, Life};
use crate::side_by_side::try_side_by_side;
use crate::view::{Outcome, View};
use crate::{Error, Repository, Result, layout, parity};

/// Deletes what the root of an epoch decided, and then its condemned list (G7), for every epoch up to `root`
/// that a condemned list is left of.
pub(crate) fn finish(repo: &Repository, root: u32, report: &mut CollectReport) -> Result<()> {
    let lists = repo.list_keys(&layout::condemned())?;
    let mut numbers: Vec<u32> = lists.iter().filter_map(layout::parse_number).collect();
    numbers.retain(|number| *number <= root);
    numbers.sort_unstable();
    for number in numbers {
        let Some(decided) = repo.read_root(number)? else { continue };
        let freed = try_side_by_side(&decided.deleted, |name| delete_pack(repo, name))?;
        for size_bytes in freed.into_iter().flatten() {
            report.packs += 1;
            report.freed_bytes += size_bytes;
        }
        // Rule C8: a delete that a crash takes back must find its list still there.
        repo.storage.flush()?;
        repo.storage.delete(&layout::condemned_list(number))?;
    }
    Ok(())
}

/// Gives how long the pack was, bytes; `None` where it is gone.
fn delete_pack(repo: &Repository, name: &PackName) -> Result<Option<u64>> {
    repo.client.check_interrupt()?;
    let key = layout::pack(name);
    let size_bytes = repo.storage.size(&key)?;
    if size_bytes.is_some() {
        repo.storage.delete(&key)?;
    }
    parity::forget(repo, name)?;
    Ok(size_bytes)
}

/// Deletes segments that the base replaces, old bases, and the slots of archives that were taken from the trash
/// (G8).
pub(super) fn clear_folded(repo: &Repository, report: &mut CollectReport) -> Result<()> {
    let view = View::load(repo)?;
    let Some(root) = repo.read_root(view.root_number)? else { return Ok(()) };
    let base: HashSet<&str> = root.base.iter().map(String::as_str).collect();
    let folded: HashSet<SessionId> = root.folded.iter().copied().collect();
    let old: HashSet<String> =
        repo.read_root(view.root_number - 1)?.map(|root| root.base.into_iter().collect()).unwrap_or_default();
    let replaced = |key: &&Key| {
        let of_folded = layout::parse_index_segment(key).is_some_and(|session| folded.contains(&session));
        !base.contains(key.as_str()) && (of_folded || old.contains(key.as_str()))
    };
    let replaced: Vec<&Key> = view.all_segments().iter().filter(replaced).collect();
    try_side_by_side(&replaced, |key| repo.storage.delete(key))?;
    repo.storage.flush()?;
    clear_registrations(repo, &view)?;
    clear_collected(repo, &registered_sessions(repo)?, report)
}

/// Deletes registrations of sessions that are fenced, and of those that have committed and whose process is gone.
///
/// Of the latter, no others: one that never heard of the success of its commit may still look at its slot (C7).
fn clear_registrations(repo: &Repository, view: &View) -> Result<()> {
    let mut keys = repo.list_keys(&layout::sessions())?;
    // The registration itself goes last: as long as it is there, the session is.
    keys.reverse();
    for key in keys {
        let Some(id) = layout::parse_session(&key) else { continue };
        let over = match view.outcome(&id) {
            Some(Outcome::Fenced) => true,
            Some(Outcome::Committed) => liveness::life_of(repo, &id) == Life::Ended,
            None => false,
        };
        if over {
            repo.storage.delete(&key)?;
        }
        if over && layout::parse_number(&key) == Some(0) {
            liveness::forget(repo, &id);
        }
    }
    Ok(repo.storage.flush()?)
}

/// Deletes segments that were there before root `base` was put, of sessions that ended without an archive and of
/// bases that lost or were never finished, once they tell nothing: all packs they list are gone, or in the base.
///
/// The base of an attempt that may still become a root is not among them: roots up to this one are taken, and
/// whoever attempts a later one began after this one was put.
pub(super) fn clear_abandoned(repo: &Repository, before: &View, base: &Base) -> Result<()> {
    let in_base: HashSet<&str> = base.root.base.iter().map(String::as_str).collect();
    let open: Vec<(&Key, SessionId)> =
        before.segments_without_slot().filter(|(key, _)| !in_base.contains(key.as_str())).collect();
    if open.is_empty() {
        return Ok(());
    }
    // A session is registered before its first segment, so what is not registered now has ended, and its slot
    // will stay as it is.
    let registered = registered_sessions(repo)?;
    let stored = repo.list_packs(&mut |_| {})?;
    for (key, session) in open {
        if registered.contains(&session) || repo.storage.size(&layout::archive(&session))?.is_some() {
            continue;
        }
        let segment = match read(repo, key) {
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => continue,
            segment => segment?,
        };
        let of_use = |name: &PackName| stored.contains_key(name) && !base.listed.contains(name);
        if !segment.packs.iter().any(|pack| of_use(&pack.name)) {
            repo.storage.delete(key)?;
        }
    }
    Ok(repo.storage.flush()?)
}

/// Sessions that are registered, whether they still run or not.
pub(super) fn registered_sessions(repo: &Repository) -> Result<HashSet<SessionId>> {
    Ok(repo.list_keys(&layout::sessions())?.iter().filter_map(layout::parse_session).collect())
}

/// Deletes the slots and marks of archives that were taken from the trash.
fn clear_collected(
    repo: &Repository,
    registered: &HashSet<SessionId>,
    report: &mut CollectReport,
) -> Result<()> {
    let with_segments: HashSet<SessionId> =
        repo.list_keys(&layout::index())?.iter().filter_map(layout::parse_index_segment).collect();
    let mut collected = repo.collected_archives()?;
    // Rule C7: others may rely on its segments until a root has folded them.
    collected.retain(|id, _| !registered.contains(id) && !with_segments.contains(id));
    if collected.is_empty() {
        return Ok(());
    }
    let collected: Vec<(SessionId, u32)> = collected.into_iter().collect();
    try_side_by_side(&collected, |(id, _)| {
        repo.client.check_interrupt()?;
        Ok::<_, Error>(repo.storage.delete(&layout::archive(id))?)
    })?;
    report.archives += collected.len() as u64;
    // As long as the last mark is there, nobody takes the archive for a live one.
    repo.storage.flush()?;
    let last_notes = repo.last_notes()?;
    try_side_by_side(&collected, |(id, last_mark)| {
        let marks = (0..=*last_mark).map(|number| layout::trash_mark(id, number));
        let notes = last_notes.get(id).into_iter().flat_map(|last| 0..=*last);
        let mut keys = marks.chain(notes.map(|number| layout::note(id, number)));
        keys.try_for_each(|key| repo.storage.delete(&key))
    })?;
    Ok(repo.storage.flush()?)
}
