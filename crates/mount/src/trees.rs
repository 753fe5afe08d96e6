//! Files of trees, by the numbers that the system knows them by: nothing is kept for each file that it knows.
//!
//! A number has in it which tree the file is in, and where in that tree's file table its record is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dbvault_format::file_table::{FileKind, FileRecord};
use dbvault_repo::{Error, FileContent, Found, Reader, Result, TableIndex, TablePages};
use parking_lot::Mutex;

use crate::tree_directory::TreeDirectory;

/// Set in the numbers of files of trees, and in no other.
pub(crate) const TREE_BIT: u64 = 1 << 63;
/// Bits for the place of a record in its table, and in front of them for the tree.
const PLACE_BITS: u32 = 40;
const TREES_MAX: u64 = 1 << (63 - PLACE_BITS);
/// Set in the places of directories without a record.
const IMPLIED_BIT: u64 = 1 << (PLACE_BITS - 1);
/// Memory for looking into trees that were looked into lately, bytes.
const INDEX_BYTES_MAX: usize = 32 << 20;
/// Content up to this length is read as a part of what lies around it, bytes.
const SMALL_BYTES: u64 = 256 << 10;

/// All trees that were looked into.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    by_number: Mutex<HashMap<u64, Arc<TreeDirectory>>>,
    /// Those that are ready to be looked into, the latest last, with the memory that it takes.
    ready: Mutex<VecDeque<(u64, usize, Arc<TreeDirectory>)>>,
    pages: Arc<TablePages>,
}

/// A tree that is ready to be looked into.
#[derive(Clone, Debug)]
pub(crate) struct OpenTree {
    pub(crate) directory: Arc<TreeDirectory>,
    pub(crate) index: Arc<TableIndex>,
    number: u64,
}

/// A file of a tree, but for its topmost directory.
#[derive(Debug)]
pub(crate) struct TreeFile {
    pub(crate) tree: OpenTree,
    pub(crate) found: Found,
}

/// Whether `inode` is that of a file of a tree.
pub(crate) fn is_of_tree(inode: u64) -> bool {
    inode & TREE_BIT != 0
}

impl Trees {
    /// Gets `tree` ready.
    ///
    /// Errors: nothing of its table can be read, or the table is too long.
    pub(crate) fn open(&self, tree: &Arc<TreeDirectory>, reader: &Arc<Reader>) -> Result<OpenTree> {
        let number = self.number(tree)?;
        let index = tree.index(reader, &self.pages)?;
        let mut ready = self.ready.lock();
        match ready.iter().rposition(|(known, _, _)| *known == number) {
            Some(place) => {
                let last = ready.remove(place);
                ready.extend(last);
            }
            None => ready.push_back((number, index.memory_bytes(), tree.clone())),
        }
        while ready.len() > 1 && ready.iter().map(|(_, bytes, _)| bytes).sum::<usize>() > INDEX_BYTES_MAX {
            if let Some((_, _, oldest)) = ready.pop_front() {
                oldest.forget_index();
            }
        }
        Ok(OpenTree { directory: tree.clone(), index, number })
    }

    /// The number of a tree: the same in each mount, but where two trees want the same.
    fn number(&self, tree: &Arc<TreeDirectory>) -> Result<u64> {
        let too_many = || Error::Damaged {
            object: "file table".into(),
            source: dbvault_format::Error::malformed("file table", "too large to be shown"),
        };
        if tree.entry.table.is_some_and(|table| table.bytes >= IMPLIED_BIT) {
            return Err(too_many());
        }
        let mut by_number = self.by_number.lock();
        let wanted = tree.inode % TREES_MAX;
        for number in (wanted..TREES_MAX).chain(0..wanted) {
            let known = by_number.entry(number).or_insert_with(|| tree.clone());
            if Arc::ptr_eq(known, tree) {
                return Ok(number);
            }
        }
        Err(too_many())
    }

    /// The tree that the file `inode` is in.
    pub(crate) fn tree_of(&self, inode: u64) -> Option<Arc<TreeDirectory>> {
        let number = (inode & !TREE_BIT) >> PLACE_BITS;
        self.by_number.lock().get(&number).cloned()
    }
}

impl OpenTree {
    /// The file with the number `inode`, which is of this tree; `None` where there is none.
    pub(crate) fn file(&self, inode: u64) -> Result<Option<TreeFile>> {
        let place = inode & ((1 << PLACE_BITS) - 1);
        let found = if place & IMPLIED_BIT != 0 {
            let number = place & !IMPLIED_BIT;
            self.index.implied(number).map(|_| Found::Implied(number))
        } else {
            self.index.get(place)?.map(Found::File)
        };
        Ok(found.map(|found| TreeFile { tree: self.clone(), found }))
    }

    /// What there is at `path`.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Option<TreeFile>> {
        self.index.find(path)?.map(|found| self.named(found)).transpose()
    }

    /// The file that has this name: of other names of a file, that file.
    pub(crate) fn named(&self, found: Found) -> Result<TreeFile> {
        let found = match &found {
            Found::File(file) => match &file.record.same_as {
                Some(first) => match self.index.find(first)? {
                    Some(Found::File(first)) if is_original(&file.record, &first.record) => {
                        Found::File(first)
                    }
                    // It stays what its own record says, and has no content.
                    _ => found,
                },
                None => found,
            },
            Found::Implied(_) => found,
        };
        Ok(TreeFile { tree: self.clone(), found })
    }
}

fn is_original(other: &FileRecord, first: &FileRecord) -> bool {
    first.same_as.is_none() && first.kind == other.kind
}

impl TreeFile {
    pub(crate) fn inode(&self) -> u64 {
        let place = match &self.found {
            Found::File(file) => file.at,
            Found::Implied(number) => IMPLIED_BIT | number,
        };
        TREE_BIT | self.tree.number << PLACE_BITS | place
    }

    /// Its path, from `/` on, without a slash at either end.
    pub(crate) fn path(&self) -> &[u8] {
        match &self.found {
            Found::File(file) => &file.record.path,
            Found::Implied(number) => self.tree.index.implied(*number).unwrap_or_default(),
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        match &self.found {
            Found::File(file) => file.record.kind == FileKind::Directory,
            Found::Implied(_) => true,
        }
    }

    /// Opens a regular file; `None` where the file is another name of one that is not there.
    pub(crate) fn open(&self, reader: &Arc<Reader>) -> Result<Option<FileContent>> {
        let Found::File(file) = &self.found else { return Ok(None) };
        if file.record.same_as.is_some() {
            return Ok(None);
        }
        let directory = &self.tree.directory;
        let content = if file.content.end - file.content.start <= SMALL_BYTES {
            directory.content(reader)?
        } else {
            let content = reader.open_random(&directory.entry.stream)?;
            content.stop_ahead_at(file.content.end);
            content
        };
        Ok(Some(FileContent::new(content, &file.record, file.content.clone())))
    }

    /// Where a symbolic link leads.
    pub(crate) fn target(&self) -> Option<&[u8]> {
        let Found::File(file) = &self.found else { return None };
        file.record.target.as_ref().map(|target| target.as_slice())
    }

    /// An extended attribute.
    pub(crate) fn attribute(&self, name: &[u8]) -> Option<&[u8]> {
        let Found::File(file) = &self.found else { return None };
        let found = file.record.xattrs.iter().find(|xattr| xattr.name.as_slice() == name);
        found.map(|xattr| xattr.value.as_slice())
    }

    /// Names of all extended attributes, each with a zero behind it.
    pub(crate) fn attribute_names(&self) -> Vec<u8> {
        let Found::File(file) = &self.found else { return Vec::new() };
        file.record.xattrs.iter().flat_map(|xattr| xattr.name.iter().copied().chain([0])).collect()
    }
}
