//! Archives: every manifest, entry table and chunk list can be read, and every chunk is where it should be.

use std::collections::HashSet;
use std::ops::Range;

use dbvault_format::chunk_list::StreamRef;
use dbvault_format::header::ObjectKind;
use dbvault_format::id::{ChunkId, PackName, SessionId};
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_storage::ErrorKind;

use super::objects::fence_readable;
use super::{CheckReport, DamagedEntry, FILES_NAMED_MAX, Findings};
use crate::index::Location;
use crate::monitor::Counter;
use crate::pack_list::StoredPacks;
use crate::view::View;
use crate::{Error, Reader, Result, layout};
use std::sync::Arc;

/// What all streams are checked against.
pub(super) struct Ground<'a> {
    pub(super) reader: &'a Arc<Reader>,
    pub(super) stored: &'a StoredPacks,
    /// Packs that are not there in full length, of which every chunk was tried: what can be read of them counts.
    pub(super) tried: &'a HashSet<PackName>,
    /// Chunks of which no copy can be read.
    pub(super) lost: &'a HashSet<ChunkId>,
}

/// Follows all archives of the view.
pub(super) fn check_archives(
    ground: &Ground,
    view: &View,
    findings: &Findings,
    report: &mut CheckReport,
) -> Result<()> {
    let (reader, monitor) = (ground.reader, ground.reader.monitor());
    // What a collection has taken can't come back: its packs go before its slot. A mark that can't be read is a
    // finding of its own, and then takes no archive out of sight.
    let taken = reader.repo().collected_archives().unwrap_or_default();
    let mut ids = view.ended_sessions();
    ids.retain(|id| !taken.contains_key(id));
    monitor.expect(Counter::Archives, ids.len() as u64);
    for id in ids {
        reader.repo().client.check_interrupt()?;
        let key = layout::archive(&id);
        match reader.repo().read_manifest(&id) {
            Ok(Some(manifest)) => check_archive(ground, &manifest, report)?,
            Ok(None) => check_fence(reader, &id, findings)?,
            Err(Error::Damaged { source, .. }) => {
                findings.add(key.as_str(), &source);
                report.damage.push(DamagedEntry { archive: id.to_string(), ..DamagedEntry::default() });
            }
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        report.archives += 1;
        monitor.add(Counter::Archives, 1);
    }
    Ok(())
}

fn check_fence(reader: &Reader, id: &SessionId, findings: &Findings) -> Result<()> {
    let key = layout::archive(id);
    let (_, body) = reader.repo().get_sealed(&key, &[ObjectKind::Fence])?;
    fence_readable(&body).unwrap_or_else(|e| findings.add(key.as_str(), &e));
    Ok(())
}

fn check_archive(ground: &Ground, manifest: &ArchiveManifest, report: &mut CheckReport) -> Result<()> {
    let damaged = |entry: &str, ranges| DamagedEntry {
        archive: manifest.name.clone(),
        entry: entry.into(),
        ranges,
        ..DamagedEntry::default()
    };
    let table_lost = check_stream(ground, &manifest.entries, &mut report.chunks)?;
    let entries = match ground.reader.entries(manifest) {
        Ok(entries) if table_lost.is_empty() => entries,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        _ => {
            report.damage.push(damaged("", Vec::new()));
            return Ok(());
        }
    };
    for entry in entries {
        let lost = check_stream(ground, &entry.stream, &mut report.chunks)?;
        if !lost.is_empty() {
            let mut damage = damaged(&entry.meta.name, lost);
            name_files(ground, &entry, &mut damage)?;
            report.damage.push(damage);
        }
        let Some(table) = &entry.table else { continue };
        let lost = check_stream(ground, table, &mut report.chunks)?;
        if !lost.is_empty() {
            report.damage.push(DamagedEntry { table: true, ..damaged(&entry.meta.name, lost) });
        }
    }
    Ok(())
}

/// Adds the files of a tree that are hurt to what is known of the damage, as far as its table can be read.
fn name_files(ground: &Ground, entry: &EntryRecord, damage: &mut DamagedEntry) -> Result<()> {
    if entry.table.is_none() {
        return Ok(());
    }
    let mut lost = damage.ranges.iter().peekable();
    for file in ground.reader.open_table(entry)? {
        ground.reader.repo().client.check_interrupt()?;
        let Ok((record, content)) = file else { break };
        while lost.next_if(|range| range.end <= content.start).is_some() {}
        if lost.peek().is_some_and(|range| range.start < content.end && !content.is_empty()) {
            damage.file_count += 1;
            if damage.files.len() < FILES_NAMED_MAX {
                damage.files.push(record.path.to_vec());
            }
        }
    }
    Ok(())
}

/// Byte ranges of a stream that can't be read.
fn check_stream(ground: &Ground, stream: &StreamRef, chunks: &mut u64) -> Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut items = ground.reader.open_items(stream)?;
    loop {
        ground.reader.repo().client.check_interrupt()?;
        let begin = items.position();
        let lost = match items.next() {
            None => return Ok(ranges),
            Some(Ok((_, item))) => {
                *chunks += 1;
                !is_there(ground, &item.id, u8::MAX)?
            }
            Some(Err(Error::Interrupted)) => return Err(Error::Interrupted),
            // A part of the chunk list: all that it stands for is lost.
            Some(Err(_)) => true,
        };
        if lost {
            let range = begin..items.position();
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
    }
}

/// Whether a copy of the chunk of a depth less than `limit`, and of all it is stored against, is in a pack that is
/// there.
///
/// Two sessions may each store what is the base of the other: so, for a backup and for a collection as well, only
/// what is stored less deep is a base. Where an index that lacks a segment knows deeper ones only, the chunk may
/// still be read by chance; it counts as lost, so that a repair looks for the pack that has it.
fn is_there(ground: &Ground, id: &ChunkId, limit: u8) -> Result<bool> {
    if ground.lost.contains(id) {
        return Ok(false);
    }
    let index = ground.reader.index();
    let some = index.locate_some(id)?;
    // What will not do of some copies may do of all.
    Ok(any_there(ground, &some, limit)? || !some.is_empty() && any_there(ground, &index.locate(id)?, limit)?)
}

fn any_there(ground: &Ground, copies: &[Location], limit: u8) -> Result<bool> {
    for copy in copies.iter().filter(|copy| copy.entry.depth < limit) {
        let pack = ground.reader.index().pack(copy.pack)?;
        let whole =
            ground.stored.get(&pack.name) == Some(&pack.size_bytes) || ground.tried.contains(&pack.name);
        let base_there =
            || copy.entry.base.map_or(Ok(true), |base| is_there(ground, &base, copy.entry.depth));
        if whole && base_there()? {
            return Ok(true);
        }
    }
    Ok(false)
}
