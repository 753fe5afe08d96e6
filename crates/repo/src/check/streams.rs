//! Archives: every manifest, entry table and chunk list can be read, and every chunk is where it should be.

use std::collections::HashSet;
use std::ops::Range;

use dbvault_format::chunk_list::StreamRef;
use dbvault_format::header::ObjectKind;
use dbvault_format::id::{ChunkId, SessionId};
use dbvault_format::manifest::ArchiveManifest;
use dbvault_storage::ErrorKind;

use super::objects::fence_readable;
use super::packs::Stored;
use super::{CheckReport, DamagedEntry, Findings};
use crate::index::Location;
use crate::monitor::Counter;
use crate::view::View;
use crate::{Error, Reader, Result, layout};
use std::sync::Arc;

/// What all streams are checked against.
pub(super) struct Ground<'a> {
    pub(super) reader: &'a Arc<Reader>,
    pub(super) stored: &'a Stored,
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
    let ids = view.ended_sessions();
    monitor.expect(Counter::Archives, ids.len() as u64);
    for id in ids {
        reader.repo().client.check_interrupt()?;
        let key = layout::archive(&id);
        match reader.repo().read_manifest(&id) {
            Ok(Some(manifest)) => check_archive(ground, &manifest, report)?,
            Ok(None) => check_fence(reader, &id, findings)?,
            Err(Error::Damaged { source, .. }) => {
                findings.add(key.as_str(), &source);
                report.damage.push(DamagedEntry {
                    archive: id.to_string(),
                    entry: String::new(),
                    ranges: vec![],
                });
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
    let damaged =
        |entry: &str, ranges| DamagedEntry { archive: manifest.name.clone(), entry: entry.into(), ranges };
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
            report.damage.push(damaged(&entry.meta.name, lost));
        }
    }
    Ok(())
}

/// Byte ranges of a stream that can't be read: the whole of it where its chunk list can't be.
fn check_stream(ground: &Ground, stream: &StreamRef, chunks: &mut u64) -> Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    let walked = ground.reader.walk(stream, &mut |item| {
        ground.reader.repo().client.check_interrupt()?;
        *chunks += 1;
        let range = at..at + item.stream_bytes;
        at = range.end;
        if !is_there(ground, &item.id, &mut Vec::new())? {
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        Ok(())
    });
    match walked {
        Ok(()) => Ok(ranges),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(_) => {
            ranges.push(at..stream.bytes);
            Ok(ranges)
        }
    }
}

/// Whether a copy of the chunk, and of all it is stored against, is in a pack that is there.
///
/// `above` are the chunks that lead here. Two sessions may each store what is the base of the other: copies
/// that lead back say nothing.
fn is_there(ground: &Ground, id: &ChunkId, above: &mut Vec<ChunkId>) -> Result<bool> {
    if ground.lost.contains(id) || above.contains(id) {
        return Ok(false);
    }
    above.push(*id);
    let index = ground.reader.index();
    let some = index.locate_many(std::slice::from_ref(id))?.concat();
    // What will not do of some copies may do of all.
    let found =
        any_there(ground, &some, above)? || !some.is_empty() && any_there(ground, &index.locate(id)?, above)?;
    above.pop();
    Ok(found)
}

fn any_there(ground: &Ground, copies: &[Location], above: &mut Vec<ChunkId>) -> Result<bool> {
    for copy in copies {
        let pack = ground.reader.index().pack(copy.pack)?;
        let whole = ground.stored.get(&pack.name) == Some(&pack.size_bytes);
        let mut base_there = || copy.entry.base.map_or(Ok(true), |base| is_there(ground, &base, above));
        if whole && base_there()? {
            return Ok(true);
        }
    }
    Ok(false)
}
