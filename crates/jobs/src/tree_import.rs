//! Files from elsewhere into an archive, read from the beginning, and compared with what was stored of them.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};
use dbvault_format::file_table::{FileKind, FileRecord};
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::{BackupOptions, Error as RepoError, Monitor, Reader, Repository, TreeWriter};

use crate::tree_backup::{LARGE_BYTES, TREE_NAME, TreeReport};
use crate::{Error, Result};

/// What is read at once when what was stored is read again, bytes.
const READ_BYTES: usize = 1 << 20;

/// What an imported archive is called, and where it comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Provenance {
    pub(crate) name: String,
    pub(crate) comment: Option<String>,
    /// When it was made, milliseconds since 1970 UTC; now, where nothing is said.
    pub(crate) started_ms: Option<i64>,
    /// Host and user that made it; ours, where nothing is said.
    pub(crate) made_by: Option<(String, String)>,
    /// The value of [`attribute::ORIGIN`].
    pub(crate) origin: Option<String>,
}

/// What was made of it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) manifest: ArchiveManifest,
    pub(crate) report: TreeReport,
}

/// Makes an archive of what `write` gives. With `proven` it is read again and compared with that; where it differs, it is
/// deleted.
///
/// Errors: those of `write`, of storing and of comparing; there is no archive then, and what was stored is kept for the next
/// one.
pub(crate) fn store_archive(
    repository: &Repository,
    provenance: Provenance,
    monitor: Arc<dyn Monitor>,
    proven: bool,
    write: impl FnOnce(&mut TreeSink<'_, '_>) -> dbvault_repo::Result<()>,
) -> Result<Stored> {
    let Provenance { name, comment, started_ms, made_by, origin } = provenance;
    if name == crate::backup::LATEST {
        return Err(RepoError::BadName { name }.into());
    }
    let options = BackupOptions { archive_name: name, comment };
    let mut txn = repository.begin_backup(options, monitor.clone())?;
    if let Some(started_ms) = started_ms {
        txn.date(started_ms);
    }
    if let Some((host, user)) = made_by {
        txn.made_by(host, user);
    }
    let attributes = origin.map(|origin| (attribute::ORIGIN.to_owned(), origin)).into_iter().collect();
    let meta = EntryMeta { name: TREE_NAME.into(), kind: EntryKind::Tree, grid: Grid::Content, attributes };
    let stored = txn.add_tree(meta, None, |writer| {
        let mut sink = TreeSink { writer, digest: TreeDigest::default(), report: TreeReport::default() };
        write(&mut sink)?;
        Ok((sink.digest.text(), sink.report))
    });
    let (pending, (digest, report)) = match stored {
        Ok(stored) => stored,
        Err(error) => {
            if let Err(e) = txn.suspend() {
                tracing::warn!("what was stored so far may be stored again: {e}");
            }
            return Err(error.into());
        }
    };
    let mut entry_report = report.entry_report();
    entry_report.attributes.insert(attribute::READ_DIGEST.into(), digest);
    txn.finish_entry(pending, entry_report);
    let manifest = txn.commit()?;
    if proven {
        prove(repository, &manifest, monitor)?;
    }
    Ok(Stored { manifest, report })
}

/// Reads all that an imported archive has, and compares it with what was read when it was imported. An archive that differs
/// is deleted.
///
/// Errors: it can't be read, or differs.
pub(crate) fn prove(
    repository: &Repository,
    manifest: &ArchiveManifest,
    monitor: Arc<dyn Monitor>,
) -> Result<()> {
    let reader = repository.reader(monitor)?;
    let entries = reader.entries(manifest)?;
    let entry = entries.iter().find(|entry| entry.meta.kind == EntryKind::Tree);
    let entry = entry.ok_or_else(|| Error::NoFiles { archive: manifest.name.clone() })?;
    let found = TreeDigest::of(&reader, entry)?.text();
    if digest_of(entry) == Some(&found) {
        return Ok(());
    }
    repository.delete_archive(&manifest.id)?;
    Err(Error::NotAsRead { archive: manifest.name.clone() })
}

fn digest_of(entry: &EntryRecord) -> Option<&String> {
    let EntryReport { attributes, .. } = &entry.report;
    attributes.get(attribute::READ_DIGEST).or_else(|| entry.meta.attributes.get(attribute::READ_DIGEST))
}

/// Takes files in the order of the table.
pub(crate) struct TreeSink<'a, 'b> {
    writer: &'a mut TreeWriter<'b>,
    digest: TreeDigest,
    pub(crate) report: TreeReport,
}

impl TreeSink<'_, '_> {
    /// Takes a file: its record, and of a regular file the content, of which there must be enough.
    ///
    /// Errors: as [`TreeWriter::copy`]. A record that the table can't have is a problem of the report, and gives false.
    pub(crate) fn file(
        &mut self,
        record: FileRecord,
        content: Option<&mut dyn Read>,
    ) -> dbvault_repo::Result<bool> {
        let bytes = record.content_bytes();
        let is_large = record.kind == FileKind::Regular && bytes >= LARGE_BYTES;
        if is_large {
            self.writer.cut()?;
        }
        let position = self.writer.position();
        if let Some(from) = content.filter(|_| bytes > 0) {
            let mut content = Hashed { from, hasher: &mut self.digest.content };
            if self.writer.copy(&mut content, bytes)? < bytes {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the content ends too early");
                return Err(RepoError::Source { entry: TREE_NAME.into(), source });
            }
            if is_large {
                self.writer.cut()?;
            }
        }
        let path = record.path.to_vec();
        let encoded = record.encode();
        match self.writer.record(record, position) {
            Ok(()) => {
                self.digest.records.update(&encoded);
                self.report.files += 1;
                Ok(true)
            }
            Err(RepoError::Source { source, .. }) => {
                self.report.tell(dbvault_files::Problem::new(&path, "store", source));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// What a tree is, in two numbers: its content as it was read, and its records without their gaps.
#[derive(Debug, Default)]
struct TreeDigest {
    content: blake3::Hasher,
    records: blake3::Hasher,
}

impl TreeDigest {
    /// Of what is stored.
    fn of(reader: &Arc<Reader>, entry: &EntryRecord) -> Result<TreeDigest> {
        let mut digest = TreeDigest::default();
        for step in reader.open_table(entry)? {
            let (mut record, _): (FileRecord, Range<u64>) = step?;
            record.gap_bytes = 0;
            digest.records.update(&record.encode());
        }
        let mut content = reader.open_stream(&entry.stream)?;
        let mut room = vec![0; READ_BYTES];
        loop {
            match content.read(&mut room).map_err(Error::from_stream)? {
                0 => return Ok(digest),
                len => drop(digest.content.update(&room[..len])),
            }
        }
    }

    fn text(&self) -> String {
        format!("{} {}", self.content.finalize().to_hex(), self.records.finalize().to_hex())
    }
}

/// Sees what is read.
struct Hashed<'a, 'b> {
    from: &'a mut dyn Read,
    hasher: &'b mut blake3::Hasher,
}

impl Read for Hashed<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let len = self.from.read(room)?;
        self.hasher.update(&room[..len]);
        Ok(len)
    }
}
