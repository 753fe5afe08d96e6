//! Nodes that the system knows, and files and directories that are open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbvault_repo::{FileContent, RandomReader};
use fuser::FileAttr;
use parking_lot::Mutex;

use crate::node::Node;
use crate::tables_directory::TableReader;
use crate::trees::{OpenTree, TreeFile};

/// Nodes by their inodes, as long as the system may ask for them by these.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<u64, (Arc<Node>, u64)>>);

impl Known {
    /// The system is told of `node` once more.
    pub(crate) fn tell(&self, node: &Arc<Node>) {
        let mut nodes = self.0.lock();
        let (_, times) = nodes.entry(node.inode).or_insert_with(|| (node.clone(), 0));
        *times += 1;
    }

    /// The system forgets `times` of the times that it was told.
    pub(crate) fn forget(&self, inode: u64, times: u64) {
        let mut nodes = self.0.lock();
        if let Some((_, left)) = nodes.get_mut(&inode) {
            *left = left.saturating_sub(times);
            if *left == 0 {
                nodes.remove(&inode);
            }
        }
    }

    pub(crate) fn get(&self, inode: u64) -> Option<Arc<Node>> {
        self.0.lock().get(&inode).map(|(node, _)| node.clone())
    }
}

/// What is open.
#[derive(Debug)]
pub(crate) enum Open {
    /// A directory, and what was in it when it was opened.
    Directory(Arc<Node>, Vec<(String, Arc<Node>)>),
    /// An entry.
    Entry(Arc<Node>, RandomReader),
    /// A text.
    Text(Arc<Node>),
    /// What is made while it is read.
    Table(Arc<Node>, Mutex<TableReader>),
    /// A directory of a tree: its path there, and what it is itself.
    TreeDirectory(OpenTree, Vec<u8>, Box<FileAttr>),
    /// A file of a tree.
    TreeFile(TreeFile, FileContent),
}

/// What is open, by the numbers that the system got for it.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Open>>>,
}

impl Opened {
    pub(crate) fn add(&self, open: Open) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, Arc::new(open));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Open>> {
        self.open.lock().get(&number).cloned()
    }

    pub(crate) fn close(&self, number: u64) {
        // What it holds is freed without the lock.
        let closed = self.open.lock().remove(&number);
        drop(closed);
    }
}
