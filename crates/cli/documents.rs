//! JSON documents: the same words and units for a thing wherever it appears. Sizes are bytes, times UTC.

use dbvault_format::manifest::{ArchiveManifest, EntryRecord, Sizes};
use dbvault_jobs::restore::RestoredEntry;
use dbvault_repo::{
    ArchiveInfo, CheckReport, DamagedEntry, Finding, Proof, RepairReport, Repository, ScrubReport, SlotInfo,
};
use serde_json::{Map, Value, json};

use crate::output::utc_time;

/// A repository.
pub(crate) fn repository(repository: &Repository) -> Value {
    json!({ "id": repository.id().to_string(), "location": repository.location() })
}

/// An archive, deleted or not.
pub(crate) fn archive_info(info: &ArchiveInfo) -> Value {
    let mut document = archive(&info.manifest);
    document["tags"] = info.remarks.tags.iter().cloned().collect();
    document["protected"] = info.remarks.protected.into();
    document["proofs"] = info.remarks.proofs.values().map(proof).collect();
    document["deleted"] = info.deleted_ms.map_or(Value::Null, utc_time);
    document
}

/// What a drill found of an entry.
pub(crate) fn proof(proof: &Proof) -> Value {
    json!({
        "entry": proof.entry,
        "proven": utc_time(proof.proven_ms),
        "ok": proof.ok,
        "detail": proof.detail,
        "rows": proof.rows,
    })
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
        "complete": manifest.is_complete(),
        "failed": manifest
            .failed
            .iter()
            .map(|failed| json!({ "name": failed.name, "reason": failed.reason }))
            .collect::<Value>(),
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
    json!({
        "clean": report.clean(),
        "archives": report.archives,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "part": report.part.map(|(number, of)| json!([number, of])),
        "chunks": report.chunks,
        "findings": findings(&report.findings),
        "damage": damage(&report.damage),
        "notes": findings(&report.notes),
    })
}

/// What a check without a key found.
pub(crate) fn scrub_report(report: &ScrubReport) -> Value {
    json!({
        "clean": report.findings.is_empty(),
        "objects": report.objects,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "findings": findings(&report.findings),
    })
}

/// What a repair found and did.
pub(crate) fn repair_report(report: &RepairReport, dry_run: bool) -> Value {
    json!({
        "dry_run": dry_run,
        "findings": findings(&report.findings),
        "quarantined": report.quarantined,
        "restored": report.restored,
        "left": findings(&report.left),
        "root": report.root,
        "listed_packs": report.listed_packs,
        "saved_records": report.saved_records,
        "lost_records": report.lost_records,
        "parity_added": report.parity_added,
        "damage": damage(&report.damage),
    })
}

fn findings(findings: &[Finding]) -> Value {
    findings.iter().map(|finding| json!({ "object": finding.object, "problem": finding.problem })).collect()
}

fn damage(entries: &[DamagedEntry]) -> Value {
    let each = entries.iter().map(|entry| {
        let ranges: Value = entry.ranges.iter().map(|range| json!([range.start, range.end])).collect();
        let mut document = json!({ "archive": entry.archive, "entry": entry.entry, "ranges": ranges });
        if entry.table || entry.file_count > 0 {
            let paths = entry.files.iter().map(|path| String::from_utf8_lossy(path).into_owned());
            let files = json!({
                "file_table": entry.table,
                "files": paths.collect::<Vec<_>>(),
                "file_count": entry.file_count,
            });
            extend(&mut document, files);
        }
        document
    });
    each.collect()
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
