//! What must hold after any schedule.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use dbvault_repo::{Error, Repository};
use dbvault_storage::MemoryStorage;
use dbvault_testkit::scheduler::Run;

use crate::common::*;
use crate::scenarios::Scenario;
use crate::world::{Act, NO_CACHE, NOW_MS, Outcome, WORLD, begin_script, collect, data};

/// What is known of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It must be there, whole.
    Kept,
    /// In the trash, and perhaps taken from it. If it can be brought back, it is whole.
    Trashed,
    /// Nobody knows whether it came to be, or whether it is in the trash. If it is there, it is whole.
    Unknown,
}

/// What was found in the states that runs have ended in: many end in the same one, and what comes next follows from
/// that alone.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    verdicts: Mutex<HashMap<blake3::Hash, Result<(), String>>>,
}

impl Examined {
    /// How many states there were.
    pub(crate) fn states(&self) -> usize {
        self.verdicts.lock().unwrap().len()
    }

    /// Whether all is as it should be after a run over `storage`, and stays so when others go on.
    pub(crate) fn examine(
        &self,
        scenario: &Scenario,
        storage: &MemoryStorage,
        run: &Run<Vec<Outcome>>,
    ) -> Result<(), String> {
        let fates = fates(scenario, run)?;
        let all_ended = run.stopped.is_empty();
        let state = fingerprint(storage, &fates, all_ended);
        if let Some(verdict) = self.verdicts.lock().unwrap().get(&state) {
            return verdict.clone();
        }
        let verdict = go_on(storage, fates, all_ended);
        self.verdicts.lock().unwrap().insert(state, verdict.clone());
        verdict
    }
}

/// Equal for equal objects of which the same is expected.
fn fingerprint(
    storage: &MemoryStorage,
    fates: &BTreeMap<&'static str, Fate>,
    all_ended: bool,
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for name in storage.object_names() {
        let bytes = storage.read_raw(&name).unwrap_or_default();
        hasher.update(format!("{name} {}\n", bytes.len()).as_bytes()).update(&bytes);
    }
    hasher.update(format!("{fates:?} {all_ended}").as_bytes()).finalize()
}

/// Looks at everything, and does what the next commands would do.
fn go_on(
    storage: &MemoryStorage,
    mut fates: BTreeMap<&'static str, Fate>,
    all_ended: bool,
) -> Result<(), String> {
    begin_script(1000, NOW_MS);
    let repo = open_elsewhere(storage)?;
    look(&repo, &fates)?;
    findings(&repo)?;
    let report = collect(&repo, Duration::MAX).map_err(|e| format!("next collection: {e:?}"))?;
    if all_ended && !report.waits_for.is_empty() {
        return Err(format!("the next collection waits for {:?}", report.waits_for));
    }
    backup(&repo, "next", &data("next")).map_err(|e| format!("next backup: {e:?}"))?;
    fates.insert("next", Fate::Kept);
    let repo = open_elsewhere(storage)?;
    look(&repo, &fates).map_err(|e| format!("after the next collection: {e}"))?;
    collect(&repo, Duration::MAX).map_err(|e| format!("last collection: {e:?}"))?;
    bring_back(&repo, &fates)?;
    look(&repo, &fates).map_err(|e| format!("at the end: {e}"))?;
    findings(&repo).map_err(|e| format!("at the end: {e}"))?;
    Ok(())
}

fn open_elsewhere(storage: &MemoryStorage) -> Result<Repository, String> {
    open(storage.clone(), Path::new(NO_CACHE)).map_err(|e| format!("does not open: {e:?}"))
}

/// What must be there by what the actors were told, or what they should not have been told.
fn fates(scenario: &Scenario, run: &Run<Vec<Outcome>>) -> Result<BTreeMap<&'static str, Fate>, String> {
    let trashed = |name: &&str| WORLD.deleted.contains(name);
    let mut fates: BTreeMap<&str, Fate> = WORLD
        .ids
        .iter()
        .map(|(name, _)| (*name, if trashed(name) { Fate::Trashed } else { Fate::Kept }))
        .collect();
    let touched: BTreeSet<&str> = scenario
        .actors
        .iter()
        .flat_map(|actor| &actor.acts)
        .filter_map(|act| match act {
            Act::Delete(name) | Act::Undelete(name) => Some(*name),
            _ => None,
        })
        .collect();
    for (actor, result) in run.results.iter().enumerate() {
        let stopped = run.stopped.contains(&actor);
        let outcomes =
            result.as_ref().map_err(|panic| format!("actor {actor} panicked: {:?}", words(&**panic)))?;
        for outcome in outcomes {
            judge(outcome, stopped, scenario, &touched, &mut fates)
                .map_err(|e| format!("actor {actor}: {e}"))?;
        }
    }
    Ok(fates)
}

fn judge(
    outcome: &Outcome,
    stopped: bool,
    scenario: &Scenario,
    touched: &BTreeSet<&str>,
    fates: &mut BTreeMap<&'static str, Fate>,
) -> Result<(), String> {
    match outcome {
        Outcome::Backup(name, Ok(())) => drop(fates.insert(name, Fate::Kept)),
        Outcome::Backup(name, Err(Error::Fenced { .. })) if scenario.fences() => drop(fates.remove(name)),
        // A pack that it adopted has gone since: it does not get as far as its slot.
        Outcome::Backup(name, Err(Error::Storage(e)))
            if scenario.fences() && e.kind() == dbvault_storage::ErrorKind::NotFound =>
        {
            fates.remove(name);
        }
        Outcome::Backup(name, Err(_)) if stopped => drop(fates.insert(name, Fate::Unknown)),
        Outcome::Delete(name, Ok(())) => drop(fates.insert(name, Fate::Trashed)),
        Outcome::Undelete(name, Ok(())) => drop(fates.insert(name, Fate::Kept)),
        // Refused, because a collection has taken it: in the trash it stays.
        Outcome::Delete(_, Err(Error::ArchiveState { .. } | Error::NoSuchArchive { .. }))
        | Outcome::Undelete(_, Err(Error::ArchiveState { .. } | Error::NoSuchArchive { .. })) => {}
        Outcome::Delete(name, Err(_)) | Outcome::Undelete(name, Err(_)) if stopped => {
            fates.insert(name, Fate::Unknown);
        }
        Outcome::Restore(name, Ok(found)) if *found != data(name) => {
            return Err(format!("{name} was restored with other bytes"));
        }
        Outcome::Restore(name, Err(_)) if WORLD.deleted.contains(name) || touched.contains(name) => {}
        Outcome::Collect(Ok(_)) | Outcome::Restore(_, Ok(_)) => {}
        _ if stopped => {}
        failed => return Err(format!("{failed:?}")),
    }
    Ok(())
}

/// Compares all archives that must be there, and all that are there and not in the trash.
fn look(repo: &Repository, fates: &BTreeMap<&'static str, Fate>) -> Result<(), String> {
    let list = repo.archives().map_err(|e| format!("archives can't be listed: {e:?}"))?;
    if let Some((id, e)) = list.damaged.first() {
        return Err(format!("archive {id} is damaged: {e:?}"));
    }
    let reader = reader(repo).map_err(|e| format!("no reader: {e:?}"))?;
    let mut missing: BTreeSet<&str> =
        fates.iter().filter(|(_, fate)| **fate == Fate::Kept).map(|(name, _)| *name).collect();
    for archive in &list.archives {
        let name = archive.manifest.name.as_str();
        let fate = fates.get(name).ok_or_else(|| format!("nobody made {name}"))?;
        match (fate, archive.deleted_ms) {
            (Fate::Kept, Some(_)) => return Err(format!("{name} is in the trash, and nobody put it there")),
            (Fate::Trashed, None) => return Err(format!("{name} is not in the trash any more")),
            (_, Some(_)) => continue,
            (_, None) => {}
        }
        let streams = restore(&reader, &archive.manifest).map_err(|e| format!("archive {name}: {e}"))?;
        if streams != data(name) {
            return Err(format!("archive {name} has other bytes"));
        }
        missing.remove(name);
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("archives lost: {missing:?}")) }
}

/// What a user can still bring back from the trash must be whole.
fn bring_back(repo: &Repository, fates: &BTreeMap<&'static str, Fate>) -> Result<(), String> {
    for archive in repo.archives().map_err(|e| format!("{e:?}"))?.archives {
        let name = archive.manifest.name.as_str();
        if archive.deleted_ms.is_none() || repo.undelete_archive(&archive.manifest.id).is_err() {
            continue;
        }
        let reader = reader(repo).map_err(|e| format!("no reader: {e:?}"))?;
        let streams = restore(&reader, &archive.manifest).map_err(|e| format!("{name} came back: {e}"))?;
        if streams != data(name) || fates.get(name) == Some(&Fate::Kept) {
            return Err(format!("{name} came back with other bytes"));
        }
        repo.delete_archive(&archive.manifest.id).map_err(|e| format!("{e:?}"))?;
    }
    Ok(())
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
