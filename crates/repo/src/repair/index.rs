//! The index made anew: a root whose base lists every pack that is there, and deletes none.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use dbvault_format::id::{PackName, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::root::Root;
use dbvault_storage::{ErrorKind, Key};

use super::epochs::Epochs;
use super::survey::{Survey, read_segment};
use super::{Names, RepairReport, packs};
use crate::collect::BaseWriter;
use crate::{Error, Repository, Result, layout, parity};

/// Writes a base of all packs that are there and good, and of what is good in others, and puts the root of it; gives
/// its number. `None` where another root was quicker: then what was written is of no use.
///
/// Listing too much costs room until the next collection, which leaves out what it deletes. Listing too little would
/// take a chunk from an archive.
pub(super) fn rebuild(
    repo: &Repository,
    epochs: &Epochs,
    survey: &Survey,
    report: &mut RepairReport,
) -> Result<Option<u32>> {
    let mut writer = BaseWriter::new(repo)?;
    let gone = |name: &PackName| !survey.stored.contains_key(name) || survey.bad.contains(name);
    let mut of_bad = BTreeMap::new();
    let mut listed: HashSet<PackName> = HashSet::new();
    for key in &survey.segments {
        repo.client.check_interrupt()?;
        let segment = match read_segment(repo, key) {
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => continue,
            segment => segment?,
        };
        keep_listings(&segment, &survey.bad, &mut of_bad);
        listed.extend(segment.packs.iter().map(|pack| pack.name).filter(|name| !gone(name)));
        writer.add_all(segment, &|name| gone(name) && !survey.restorable.contains(name))?;
    }
    for (name, size_bytes) in &survey.stored {
        repo.client.check_interrupt()?;
        if !gone(name) && !listed.contains(name) && !survey.restorable.contains(name) {
            let pack = match packs::directory(repo, name, *size_bytes) {
                // Deleted since it was listed.
                Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => continue,
                pack => pack?,
            };
            writer.add_all(IndexSegment { packs: vec![pack] }, &|_| false)?;
        }
    }
    for name in survey.restorable.iter().filter(|name| !listed.contains(*name)) {
        let packs = restored_directory(repo, name)?.into_iter().collect();
        writer.add_all(IndexSegment { packs }, &|_| false)?;
    }
    (report.saved_records, report.lost_records) = (0, 0);
    for name in &survey.bad {
        repo.client.check_interrupt()?;
        let salvage = packs::salvage(repo, name, of_bad.remove(name))?;
        report.saved_records += salvage.good;
        report.lost_records += salvage.lost;
        let segment = IndexSegment { packs: salvage.pack.into_iter().collect() };
        writer.add_all(segment, &|_| false)?;
    }
    // The packs before the segments that list them, these before the root.
    repo.storage.flush()?;
    writer.finish()?;
    let mut base: Vec<String> = writer.written.iter().map(|key| key.as_str().to_owned()).collect();
    base.sort_unstable();
    let root = Root { base, folded: folded(epochs, survey), deleted: Vec::new() };
    let number = epochs.latest + 1;
    if !repo.put_root(number, &root)? {
        return Ok(None);
    }
    (report.root, report.listed_packs) = (Some(number), writer.known.len() as u64);
    Ok(Some(number))
}

/// Keeps what a segment says of damaged packs.
fn keep_listings(segment: &IndexSegment, bad: &Names, listings: &mut BTreeMap<PackName, PackListing>) {
    for pack in segment.packs.iter().filter(|pack| bad.contains(&pack.name)) {
        listings.entry(pack.name).or_insert_with(|| pack.clone());
    }
}

/// The directory of a damaged pack, from the bytes that its parity gives.
fn restored_directory(repo: &Repository, name: &PackName) -> Result<Option<PackListing>> {
    let Some(bytes) = parity::restore(repo, name)? else { return Ok(None) };
    let opened = dbvault_format::pack::open_pack(&repo.keys.pack, &repo.id, name, &bytes);
    // A pack of another repository: its own bytes, and nothing to be read in them.
    Ok(opened.ok().map(|(salt, entries)| PackListing {
        name: *name,
        salt,
        size_bytes: bytes.len() as u64,
        entries,
    }))
}

/// Sessions that the new base replaces: those that had filled their slots before segments were listed, so that all of
/// theirs are in it, and the bases before it.
fn folded(epochs: &Epochs, survey: &Survey) -> Vec<SessionId> {
    let base = epochs.root.iter().flat_map(|root| &root.base);
    let base = base.filter_map(|name| layout::parse_index_segment(&Key::new(name.clone()).ok()?));
    let before = epochs.root.iter().flat_map(|root| root.folded.iter().copied());
    let replaced: BTreeSet<SessionId> = survey.ended.iter().copied().chain(base).chain(before).collect();
    let damaged = survey.small.keys();
    let with_segments = survey.segments.iter().chain(damaged).filter_map(layout::parse_index_segment);
    let folded: BTreeSet<SessionId> = with_segments.filter(|session| replaced.contains(session)).collect();
    folded.into_iter().collect()
}
