//! A tree of an archive as a directory: looked into by its file table, which is followed once.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dbvault_format::entry::EntryReport;
use dbvault_format::file_table::FileRecord;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::{RandomReader, Reader, Result, TableIndex, TablePages};
use parking_lot::Mutex;

use crate::node::{Node, What};

/// A table that could not be read to its end is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// A tree.
#[derive(Debug)]
pub(crate) struct TreeDirectory {
    /// Name of the archive, as the user knows it.
    pub(crate) archive: String,
    pub(crate) entry: EntryRecord,
    /// Number of its topmost directory.
    pub(crate) inode: u64,
    pub(crate) time_ms: i64,
    /// The record of `/`, where it has one.
    root: OnceLock<Option<Box<FileRecord>>>,
    index: Mutex<Option<(Instant, Arc<TableIndex>)>>,
    content: OnceLock<RandomReader>,
}

impl TreeDirectory {
    pub(crate) fn new(manifest: &ArchiveManifest, entry: EntryRecord) -> TreeDirectory {
        TreeDirectory {
            archive: manifest.name.clone(),
            inode: Node::inode(&manifest.id.0, &format!("{}\0tree", entry.meta.name)),
            time_ms: manifest.started_ms,
            entry: EntryRecord { report: EntryReport::default(), ..entry },
            root: OnceLock::new(),
            index: Mutex::default(),
            content: OnceLock::new(),
        }
    }

    /// The directory as a node.
    pub(crate) fn into_node(self) -> Node {
        Node { inode: self.inode, time_ms: self.time_ms, what: What::Tree(Arc::new(self)) }
    }

    /// What is needed to look into it.
    ///
    /// Errors: nothing of it can be read. It is tried again the next time.
    pub(crate) fn index(&self, reader: &Arc<Reader>, pages: &Arc<TablePages>) -> Result<Arc<TableIndex>> {
        let mut known = self.index.lock();
        if let Some((at, index)) = &*known
            && (!index.is_broken() || at.elapsed() < AGAIN)
        {
            return Ok(index.clone());
        }
        let index = Arc::new(TableIndex::build(reader, &self.entry, pages.clone())?);
        *known = Some((Instant::now(), index.clone()));
        Ok(index)
    }

    /// Lets go of what [`TreeDirectory::index`] gave.
    pub(crate) fn forget_index(&self) {
        *self.index.lock() = None;
    }

    /// The record of `/`, where that was backed up and can be read.
    pub(crate) fn root(&self, reader: &Arc<Reader>) -> Option<&FileRecord> {
        let first = || {
            let (record, _) = reader.open_table(&self.entry).ok()?.next()?.ok()?;
            record.path.is_empty().then(|| Box::new(record))
        };
        self.root.get_or_init(first).as_deref()
    }

    /// The content of all files, for who reads one small file after the other.
    pub(crate) fn content(&self, reader: &Arc<Reader>) -> Result<RandomReader> {
        if let Some(content) = self.content.get() {
            return Ok(content.clone());
        }
        let content = reader.open_random(&self.entry.stream)?;
        Ok(self.content.get_or_init(|| content).clone())
    }
}
