//! Diff: what one archive has and another has not, told by chunk lists, without reading what was backed up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dbvault_format::chunk_list::StreamRef;
use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::Reader;

use crate::{Error, Result, selection};

/// How an entry of the older archive differs from that of the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the newer one has it.
    Added,
    /// Only the older one has it.
    Removed,
    /// Its bytes differ; of a tree, also what else is known of its files.
    Changed,
    /// It has the same bytes.
    Unchanged,
}

impl Change {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
            Change::Unchanged => "unchanged",
        }
    }
}

/// One entry, or a database that was dumped in parts, of two archives.
#[derive(Clone, Debug)]
pub struct EntryDiff {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// How it differs.
    pub change: Change,
    /// Bytes of it in the older archive.
    pub old_bytes: Option<u64>,
    /// Bytes of it in the newer one.
    pub new_bytes: Option<u64>,
    /// Bytes of chunks that only the older one has.
    pub removed_bytes: u64,
    /// Bytes of chunks that only the newer one has.
    pub added_bytes: u64,
    /// All parts in the older archive.
    pub old: Vec<EntryRecord>,
    /// All parts in the newer one.
    pub new: Vec<EntryRecord>,
}

/// Compares the entries of two archives, in the order of their names: all, or those that `wanted` names, which one of
/// them must have.
pub fn diff(
    reader: &Arc<Reader>,
    older: &ArchiveManifest,
    newer: &ArchiveManifest,
    wanted: &[String],
) -> Result<Vec<EntryDiff>> {
    let (mut old, mut new) = (wholes(reader, older, wanted)?, wholes(reader, newer, wanted)?);
    let names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    for name in wanted {
        let is_there = |entries: &BTreeMap<String, Vec<EntryRecord>>| {
            entries.values().any(|whole| selection::find_whole("", whole, name).is_ok())
        };
        if !is_there(&old) && !is_there(&new) {
            let available = reader.entries(newer)?.iter().map(whole_name).collect::<BTreeSet<_>>();
            let available = available.into_iter().collect();
            return Err(Error::NoSuchEntry { archive: newer.name.clone(), wanted: name.clone(), available });
        }
    }
    let compared = names.into_iter().map(|name| {
        let (old, new) = (old.remove(&name).unwrap_or_default(), new.remove(&name).unwrap_or_default());
        compare(reader, name, old, new)
    });
    compared.collect()
}

fn whole_name(entry: &EntryRecord) -> String {
    entry.attribute(attribute::WHOLE).unwrap_or(&entry.meta.name).to_owned()
}

/// Entries by their names; parts of one database together.
fn wholes(
    reader: &Arc<Reader>,
    manifest: &ArchiveManifest,
    wanted: &[String],
) -> Result<BTreeMap<String, Vec<EntryRecord>>> {
    let entries = reader.entries(manifest)?;
    let mut chosen: BTreeSet<String> = BTreeSet::new();
    for name in wanted {
        match selection::find_whole(&manifest.name, &entries, name) {
            Ok(whole) => chosen.extend(whole.first().map(|entry| whole_name(entry))),
            Err(Error::NoSuchEntry { available, .. }) if available.len() == entries.len() => {}
            Err(error) => return Err(error),
        }
    }
    let mut wholes: BTreeMap<String, Vec<EntryRecord>> = BTreeMap::new();
    for entry in entries {
        let name = whole_name(&entry);
        if wanted.is_empty() || chosen.contains(&name) {
            wholes.entry(name).or_default().push(entry);
        }
    }
    Ok(wholes)
}

fn compare(
    reader: &Arc<Reader>,
    name: String,
    old: Vec<EntryRecord>,
    new: Vec<EntryRecord>,
) -> Result<EntryDiff> {
    let streams =
        |side: &[EntryRecord]| -> Vec<StreamRef> { side.iter().map(|entry| entry.stream).collect() };
    let (left, right) = (streams(&old), streams(&new));
    let bytes = |side: &[StreamRef]| side.iter().map(|stream| stream.bytes).sum::<u64>();
    let tables =
        |side: &[EntryRecord]| -> Vec<Option<StreamRef>> { side.iter().map(|entry| entry.table).collect() };
    let same = left == right && tables(&old) == tables(&new);
    let (removed_bytes, added_bytes) = if same || old.is_empty() || new.is_empty() {
        if same { (0, 0) } else { (bytes(&left), bytes(&right)) }
    } else {
        let found = reader.diff_streams(&left, &right)?;
        let shared = found.shared_bytes();
        (found.left_bytes - shared, found.right_bytes - shared)
    };
    let change = match (old.is_empty(), new.is_empty()) {
        (true, _) => Change::Added,
        (_, true) => Change::Removed,
        _ if same => Change::Unchanged,
        _ => Change::Changed,
    };
    Ok(EntryDiff {
        name,
        kind: new.first().or(old.first()).map_or(EntryKind::File, |entry| entry.meta.kind),
        change,
        old_bytes: (!old.is_empty()).then(|| bytes(&left)),
        new_bytes: (!new.is_empty()).then(|| bytes(&right)),
        removed_bytes,
        added_bytes,
        old,
        new,
    })
}
