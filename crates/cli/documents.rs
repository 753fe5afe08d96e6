//! JSON documents: the same words and units for a thing wherever it appears. Sizes are bytes, times UTC.

use dbvault_format::manifest::{ArchiveManifest, EntryRecord, Sizes};
use dbvault_jobs::restore::RestoredEntry;
use dbvault_repo::{ArchiveInfo, CheckReport, Repository, SlotInfo};
use serde_json::{Map, Value, json};

use crate::output::utc_time;

/// A repository.
pub(crate) fn repository(repository: &Repository) -> Value {
    json!({ "id": repository.id().to_string(), "location": repository.location() })
}

/// An archive, deleted or not.
pub(crate) fn archive_info(info: &ArchiveInfo) -> Value {
    let mut document = archive(&info.manifest);
    document["deleted"] = info.deleted_ms.map_or(Value::Null, utc_time);
    document
}

/// An archive without its entries.
pub(crate) fn archive(manifest: &ArchiveManifest) -> Value {
    let mut document = json!({
        "id": manifest.id.to_string(),
        "name": manifest.name,
        "started": utc_time(manifest.started_ms),
        "finished": utc_time(manifest.finished_ms),
        "host": manifest.host,
        "user": manifest.user,
        "program_version": manifest.program_version,
        "entry_count": manifest.entry_count,
        "comment": manifest.comment,
    });
    extend(&mut document, sizes(&manifest.sizes));
    document
}

/// An entry of an archive.
pub(crate) fn entry(record: &EntryRecord) -> Value {
    let mut attributes = record.meta.attributes.clone();
    attributes.extend(record.report.attributes.clone());
    let mut document = json!({
        "name": record.meta.name,
        "kind": record.meta.kind.name(),
        "duration_ms": record.duration_ms,
        "attributes": attributes,
        "warnings": record.report.warnings,
    });
    extend(&mut document, sizes(&record.sizes));
    document
}

/// An archive with its entries.
pub(crate) fn archive_with_entries(mut archive: Value, entries: &[EntryRecord]) -> Value {
    archive["entries"] = entries.iter().map(entry).collect();
    archive
}

/// An entry that was restored.
pub(crate) fn restored(entry: &RestoredEntry) -> Value {
    json!({
        "name": entry.record.meta.name,
        "kind": entry.record.meta.kind.name(),
        "original_bytes": entry.record.sizes.original_bytes,
        "destination": entry.destination,
        "replaced": entry.replaced,
        "attributes": entry.report.attributes,
        "warnings": entry.report.warnings,
    })
}

/// What a check found.
pub(crate) fn check_report(report: &CheckReport) -> Value {
    let findings = report.findings.iter();
    let damage = report.damage.iter();
    json!({
        "clean": report.clean(),
        "archives": report.archives,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "chunks": report.chunks,
        "findings": findings
            .map(|finding| json!({ "object": finding.object, "problem": finding.problem }))
            .collect::<Value>(),
        "damage": damage
            .map(|entry| {
                let ranges = entry.ranges.iter().map(|range| json!([range.start, range.end]));
                json!({ "archive": entry.archive, "entry": entry.entry, "ranges": ranges.collect::<Value>() })
            })
            .collect::<Value>(),
    })
}

/// A key slot.
pub(crate) fn slot(slot: &SlotInfo) -> Value {
    json!({
        "id": slot.id.to_string(),
        "kind": slot.kind.name(),
        "label": slot.label,
        "created": utc_time(slot.created_ms),
        "current": slot.current,
    })
}

fn sizes(sizes: &Sizes) -> Value {
    json!({
        "original_bytes": sizes.original_bytes,
        "new_bytes": sizes.new_bytes,
        "stored_bytes": sizes.stored_bytes,
        "chunks": sizes.chunks,
        "new_chunks": sizes.new_chunks,
        "delta_chunks": sizes.delta_chunks,
    })
}

fn extend(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend::<Map<String, Value>>(more);
    }
}
