//! What a name in the file system stands for.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbvault_format::chunk_list::StreamRef;

use crate::archive_directory::ArchiveDirectory;
use crate::tables_directory::{TableFile, TablesDirectory};
use crate::tree_directory::TreeDirectory;
use crate::trees::TREE_BIT;

/// Names in one directory.
pub(crate) type Names = BTreeMap<String, Arc<Node>>;

/// A file, a link or a directory. What it is never changes, but for the directories that follow the repository.
#[derive(Debug)]
pub(crate) struct Node {
    /// The same number always means the same bytes: systems keep them by it.
    pub(crate) inode: u64,
    /// When it was made, milliseconds since 1970 UTC.
    pub(crate) time_ms: i64,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// What is in it is known.
    Directory(Arc<Names>),
    /// A directory whose names change with the repository: [`crate::catalog::Catalog`] knows them.
    Living,
    /// What is in it is read when somebody looks.
    Archive(Arc<ArchiveDirectory>),
    Link(String),
    /// A few words for whoever looks.
    Text(String),
    Entry(EntryFile),
    /// The tables of a database, read when somebody looks.
    Tables(Arc<TablesDirectory>),
    Table(TableFile),
    /// Files: [`crate::trees::Trees`] knows what is in it.
    Tree(Arc<TreeDirectory>),
}

/// An entry of an archive.
#[derive(Debug)]
pub(crate) struct EntryFile {
    /// Name of the archive, as the user knows it.
    pub(crate) archive: String,
    /// Name of the entry, likewise.
    pub(crate) entry: String,
    pub(crate) stream: StreamRef,
    /// Permission bits of the file that was read, where it was one.
    pub(crate) mode: Option<u32>,
}

impl What {
    /// Where a link leads; `None` for anything else.
    pub(crate) fn target(&self) -> Option<&str> {
        match self {
            What::Link(target) => Some(target),
            _ => None,
        }
    }
}

impl Node {
    /// The number of what `path` means, within what `of` is the id of. Never 0 or 1, which systems use themselves,
    /// and none that a file of a tree has.
    pub(crate) fn inode(of: &[u8], path: &str) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(of).update(b"/").update(path.as_bytes());
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        (u64::from_le_bytes(number) & !TREE_BIT).max(2)
    }
}
