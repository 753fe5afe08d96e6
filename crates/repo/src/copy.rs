//! Copying: an archive of one repository becomes an archive of another, whole or not at all.
//!
//! Where both have the same keys, records are carried over as they are (`carry.rs`). Otherwise streams are read once and
//! stored as those of a backup. A copy that is stopped keeps what it stored for the next one, as a backup does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dbvault_format::entry::EntryKind;
use dbvault_format::file_table::FileKind;
use dbvault_format::id::SessionId;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord, Sizes};

use crate::backup::BackupTxn;
use crate::carry::{Carrier, unreadable};
use crate::monitor::{Counter, Monitor};
use crate::stream_reader::from_io;
use crate::{ArchiveInfo, BackupOptions, Error, Reader, Remarks, Repository, Result, TreeWriter};

/// Files of a tree from this length on begin and end with a chunk, as where a backup stores them.
const LARGE_FILE_BYTES: u64 = 256 << 10;

/// How the chunks of an archive came to the other repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyCounts {
    /// Chunks whose records were carried over as they are, not decoded.
    pub carried_chunks: u64,
    /// Bytes of these records.
    pub carried_bytes: u64,
    /// Chunks that were decoded and stored anew.
    pub recoded_chunks: u64,
    /// Where records are carried: chunks that were there already.
    pub shared_chunks: u64,
}

/// An archive that was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The copy.
    pub manifest: ArchiveManifest,
    /// What it took.
    pub counts: CopyCounts,
}

/// What a repository has of an archive of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counterpart {
    /// Nothing.
    Missing,
    /// A copy of it.
    There {
        /// Its id.
        id: SessionId,
        /// Whether it is in the trash.
        deleted: bool,
    },
    /// Another archive that has its name.
    NameTaken,
}

impl Repository {
    /// What this repository has of each of `archives`, which are of another. A copy is known by when, where and by whom it
    /// was made, and by the number of its entries, so that one that was renamed is still known; where several are alike, by
    /// the name.
    pub fn counterparts(&self, archives: &[ArchiveInfo]) -> Result<Vec<Counterpart>> {
        let list = self.archives()?.archives;
        let names: HashSet<&str> = list.iter().map(|info| info.manifest.name.as_str()).collect();
        let mut by_time = HashMap::<i64, Vec<&ArchiveInfo>>::new();
        for info in &list {
            by_time.entry(info.manifest.started_ms).or_default().push(info);
        }
        let (mut found, mut taken) = (vec![None; archives.len()], HashSet::new());
        for by_name in [true, false] {
            for (info, found) in archives.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                let alike = by_time.get(&info.manifest.started_ms).into_iter().flatten().find(|other| {
                    (!by_name || other.manifest.name == info.manifest.name)
                        && is_copy(&other.manifest, &info.manifest)
                        && !taken.contains(&other.manifest.id)
                });
                *found = alike.map(|other| (other.manifest.id, other.deleted_ms.is_some()));
                taken.extend(found.map(|(id, _)| id));
            }
        }
        let counterpart = |(info, found): (&ArchiveInfo, Option<(SessionId, bool)>)| match found {
            Some((id, deleted)) => Counterpart::There { id, deleted },
            None if names.contains(info.manifest.name.as_str()) => Counterpart::NameTaken,
            None => Counterpart::Missing,
        };
        Ok(archives.iter().zip(found).map(counterpart).collect())
    }

    /// Copies an archive that `from` reads into this repository, with its name, times, host, comment, tags and protection;
    /// proofs are not taken along, for they tell of the other repository.
    ///
    /// Memory does not depend on its size. Errors: [`Error::Unreadable`] where the archive is damaged, and
    /// [`Error::NameTaken`]: others can be copied all the same. After any error no archive is here, but perhaps without its
    /// tags, where only these failed: [`Repository::copy_remarks`] gives them to it.
    pub fn copy_archive(
        &self,
        from: &Arc<Reader>,
        info: &ArchiveInfo,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Copied> {
        let manifest = &info.manifest;
        let entries = from.entries(manifest);
        let entries = entries.map_err(|e| unreadable(&manifest.name, "the list of entries", e))?;
        let options =
            BackupOptions { archive_name: manifest.name.clone(), comment: manifest.comment.clone() };
        let mut txn = self.begin_backup(options, monitor.clone())?;
        monitor.expect(Counter::StreamBytes, manifest.sizes.original_bytes);
        txn.copies(manifest.clone());
        let stored = match from.repo().shares_keys_with(self) {
            true => carry(&mut txn, from, &manifest.name, entries),
            false => recode(&mut txn, from, &manifest.name, &entries),
        };
        let counts = match stored {
            Ok(counts) => counts,
            Err(e) => {
                // What was stored is there for the next try.
                return match (txn.suspend(), e) {
                    (Err(reason), Error::Poisoned) => Err(reason),
                    (_, e) => Err(e),
                };
            }
        };
        let made = txn.commit()?;
        self.copy_remarks(&made.id, &info.remarks)?;
        Ok(Copied { manifest: made, counts })
    }

    /// Gives an archive the tags and the protection of the one it is a copy of. Not where anything was said of it before,
    /// which is newer.
    pub fn copy_remarks(&self, id: &SessionId, remarks: &Remarks) -> Result<()> {
        if self.last_notes()?.contains_key(id) {
            return Ok(());
        }
        self.remark(id, |copy| {
            copy.tags.clone_from(&remarks.tags);
            copy.protected = remarks.protected;
        })?;
        Ok(())
    }
}

/// Whether one is a copy of the other, by all that stays the same.
fn is_copy(one: &ArchiveManifest, other: &ArchiveManifest) -> bool {
    let key = |manifest: &ArchiveManifest| {
        (manifest.started_ms, manifest.finished_ms, manifest.entry_count, manifest.failed.len())
    };
    key(one) == key(other) && one.host == other.host && one.user == other.user
}

/// Both have the same keys.
fn carry(
    txn: &mut BackupTxn,
    from: &Arc<Reader>,
    archive: &str,
    entries: Vec<EntryRecord>,
) -> Result<CopyCounts> {
    let (mut carried, mut carrier) = (Vec::new(), Carrier::new(from, txn.pipeline(), archive));
    for entry in entries {
        let Sizes { original_bytes, chunks, .. } = entry.sizes;
        let stored = carrier.entry(&entry.meta.name, entry.streams())?;
        carried.push(EntryRecord { sizes: Sizes { original_bytes, chunks, ..stored }, ..entry });
    }
    let counts = carrier.counts();
    carried.into_iter().for_each(|entry| txn.push_entry(entry));
    Ok(counts)
}

/// They have not: streams are read, cut and named anew.
fn recode(
    txn: &mut BackupTxn,
    from: &Arc<Reader>,
    archive: &str,
    entries: &[EntryRecord],
) -> Result<CopyCounts> {
    let mut counts = CopyCounts::default();
    for entry in entries {
        let reading = |e| match e {
            Error::Source { source, .. } => unreadable(archive, &entry.meta.name, from_io(source)),
            e => e,
        };
        let pending = if entry.meta.kind == EntryKind::Tree {
            recode_tree(txn, from, archive, entry)
        } else {
            let stream = from.open_uncounted(&entry.stream);
            let mut stream = stream.map_err(|e| unreadable(archive, &entry.meta.name, e))?;
            txn.add_entry(entry.meta.clone(), &mut stream)
        };
        txn.finish_copy(pending.map_err(reading)?, entry);
        counts.recoded_chunks += txn.entries().last().map_or(0, |entry| entry.sizes.new_chunks);
    }
    Ok(counts)
}

/// A tree is read a file at a time. What is nobody's of its content stays behind.
fn recode_tree(
    txn: &BackupTxn,
    from: &Arc<Reader>,
    archive: &str,
    entry: &EntryRecord,
) -> Result<crate::PendingEntry> {
    let reading = |e| unreadable(archive, &entry.meta.name, e);
    let files = from.open_table(entry).map_err(reading)?;
    let mut content = from.open_uncounted(&entry.stream).map_err(reading)?;
    let copy = |writer: &mut TreeWriter<'_>| {
        let mut at = 0;
        for file in files {
            let (record, place) = file.map_err(reading)?;
            let content_bytes = record.content_bytes();
            let is_large = record.kind == FileKind::Regular && content_bytes >= LARGE_FILE_BYTES;
            if is_large {
                writer.cut()?;
            }
            let position = writer.position();
            if content_bytes > 0 {
                content.skip(place.start.saturating_sub(at));
                writer.copy(&mut content, content_bytes)?;
                at = place.end;
            }
            if is_large {
                writer.cut()?;
            }
            writer.record(record, position)?;
        }
        Ok(())
    };
    Ok(txn.add_tree(entry.meta.clone(), None, copy)?.0)
}
