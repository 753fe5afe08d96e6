//! Answers to what the system asks about files.

use std::cell::RefCell;
use std::collections::HashSet;
use std::error::Error;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use dbvault_format::id::ChunkId;
use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyXattr, Request,
};
use parking_lot::Mutex;

use crate::attributes::Owner;
use crate::catalog::{Catalog, REFRESH, ROOT_INODE};
use crate::files::{Known, Open, Opened};
use crate::in_a_line;
use crate::node::{EntryFile, Node, What};
use crate::read_ahead;
use crate::tables_directory::{TableFile, TablesDirectory};
use crate::tree_directory::TreeDirectory;
use crate::trees::{OpenTree, TreeFile, Trees, is_of_tree};

/// How long the system may take for granted what never changes.
const LASTING: Duration = Duration::from_secs(600);

/// Reads of one file that the system may ask for at once, ahead of who reads it.
const BACKGROUND_READS_MAX: u16 = 64;

/// Damaged chunks that are told of; each once for every file that it is read for.
const TOLD_MAX: usize = 10_000;

/// Names at the beginning of each directory: itself and the one above.
const DOTS: u64 = 2;

/// What `lseek` is asked for, as Linux numbers it.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// Attribute of the topmost directory: the process that serves the mount.
pub(crate) const PROCESS_ATTRIBUTE: &str = "user.dbvault.process";

/// The file system that shows a repository.
#[derive(Debug)]
pub(crate) struct Filesystem {
    catalog: Catalog,
    trees: Trees,
    known: Known,
    opened: Opened,
    owner: Owner,
    /// Whether others may look in.
    for_others: bool,
    told: Mutex<HashSet<(u64, ChunkId)>>,
    /// Where it is mounted.
    directory: PathBuf,
    read_ahead: Once,
}

/// What a number that the system has stands for.
enum Meant {
    Node(Arc<Node>),
    File(TreeFile),
}

/// A name in an open directory.
struct Listed<'a> {
    name: &'a OsStr,
    /// Where the directory goes on behind it.
    next: u64,
    attributes: FileAttr,
    lasts: Duration,
    /// What has to be known by its number from now on.
    node: Option<&'a Arc<Node>>,
}

impl Filesystem {
    /// Shows `catalog` on `directory` to the user of this process, and to others with `for_others`.
    pub(crate) fn new(catalog: Catalog, directory: PathBuf, for_others: bool) -> Filesystem {
        Filesystem {
            catalog,
            trees: Trees::default(),
            known: Known::default(),
            opened: Opened::default(),
            owner: Owner::new(for_others),
            for_others,
            told: Mutex::default(),
            directory,
            read_ahead: Once::new(),
        }
    }

    fn meant(&self, inode: INodeNo) -> Result<Meant, Errno> {
        if inode.0 == ROOT_INODE {
            return Ok(Meant::Node(self.catalog.root()));
        }
        if !is_of_tree(inode.0) {
            return self.known.get(inode.0).map(Meant::Node).ok_or(Errno::ESTALE);
        }
        let tree = self.trees.tree_of(inode.0).ok_or(Errno::ESTALE)?;
        let open = self.open_tree(&tree)?;
        let file = open.file(inode.0).map_err(|error| self.tree_unreadable(&tree, b"", &error))?;
        file.map(Meant::File).ok_or(Errno::ESTALE)
    }

    fn open_tree(&self, tree: &Arc<TreeDirectory>) -> Result<OpenTree, Errno> {
        let open = self.trees.open(tree, self.catalog.reader());
        open.map_err(|error| self.tree_unreadable(tree, b"", &error))
    }

    fn attributes(&self, meant: &Meant) -> FileAttr {
        match meant {
            Meant::Node(node) => self.owner.of_node(node, self.catalog.reader()),
            Meant::File(file) => self.owner.of_file(file),
        }
    }

    fn look_up(&self, parent: INodeNo, name: &OsStr) -> Result<(FileAttr, Duration), Errno> {
        let parent = match self.meant(parent)? {
            Meant::Node(node) => node,
            Meant::File(file) if file.is_directory() => {
                return self.look_up_in_tree(&file.tree, file.path(), name);
            }
            Meant::File(_) => return Err(Errno::ENOTDIR),
        };
        if let What::Tree(tree) = &parent.what {
            return self.look_up_in_tree(&self.open_tree(tree)?, b"", name);
        }
        let names = self.catalog.names(&parent).ok_or(Errno::ENOENT)?;
        let node = name.to_str().and_then(|name| names.get(name)).ok_or(Errno::ENOENT)?;
        self.known.tell(node);
        let attributes = self.owner.of_node(node, self.catalog.reader());
        Ok((attributes, lasting(&parent, node)))
    }

    fn look_up_in_tree(
        &self,
        tree: &OpenTree,
        directory: &[u8],
        name: &OsStr,
    ) -> Result<(FileAttr, Duration), Errno> {
        let mut path = directory.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        let found = tree.find(&path).map_err(|error| self.tree_unreadable(&tree.directory, &path, &error))?;
        Ok((self.owner.of_file(&found.ok_or(Errno::ENOENT)?), LASTING))
    }

    fn open_node(&self, inode: INodeNo) -> Result<Open, Errno> {
        let node = match self.meant(inode)? {
            Meant::Node(node) => node,
            Meant::File(file) => return self.open_file(file),
        };
        match &node.what {
            What::Entry(file) => {
                let opened = self.catalog.reader().open_random(&file.stream);
                let random = opened.map_err(|error| self.unreadable(&node, file, &error))?;
                Ok(Open::Entry(node, random))
            }
            What::Text(_) => Ok(Open::Text(node)),
            What::Table(file) => {
                let opened = file.open(self.catalog.reader(), self.catalog.recent());
                let table = opened.map_err(|error| self.table_unreadable(&node, file, &error))?;
                Ok(Open::Table(node.clone(), Mutex::new(table)))
            }
            What::Link(_) => Err(Errno::EINVAL),
            What::Directory(_) | What::Living | What::Archive(_) | What::Tables(_) | What::Tree(_) => {
                Err(Errno::EISDIR)
            }
        }
    }

    fn open_file(&self, file: TreeFile) -> Result<Open, Errno> {
        match self.owner.of_file(&file).kind {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        match file.open(self.catalog.reader()) {
            Ok(Some(content)) => Ok(Open::TreeFile(file, content)),
            Ok(None) => {
                let lost = io::Error::other("it is another name of a file that is not there");
                Err(self.file_unreadable(&file, &lost))
            }
            Err(error) => Err(self.file_unreadable(&file, &error)),
        }
    }

    fn open_directory(&self, inode: INodeNo) -> Result<Open, Errno> {
        let meant = self.meant(inode)?;
        let itself = self.attributes(&meant);
        if itself.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let node = match meant {
            Meant::Node(node) => node,
            Meant::File(file) => {
                let path = file.path().to_vec();
                return Ok(Open::TreeDirectory(file.tree, path, Box::new(itself)));
            }
        };
        if let What::Tree(tree) = &node.what {
            return Ok(Open::TreeDirectory(self.open_tree(tree)?, Vec::new(), Box::new(itself)));
        }
        let names = self.catalog.names(&node).ok_or(Errno::ENOENT)?;
        let mut all = vec![(".".to_owned(), node.clone()), ("..".to_owned(), node.clone())];
        all.extend(names.iter().map(|(name, node)| (name.clone(), node.clone())));
        Ok(Open::Directory(node, all))
    }

    /// Calls `each` with the names in the open directory `handle` from `offset` on, until it says that there is no more
    /// room. An error comes where the first name can't be had.
    fn list(
        &self,
        handle: FileHandle,
        offset: u64,
        mut each: impl FnMut(Listed<'_>) -> bool,
    ) -> Result<(), Errno> {
        match self.opened.get(handle.0).as_deref() {
            Some(Open::Directory(directory, all)) => {
                let begin = usize::try_from(offset).unwrap_or(usize::MAX);
                for (at, (name, node)) in all.iter().enumerate().skip(begin) {
                    let attributes = self.owner.of_node(node, self.catalog.reader());
                    let lasts = lasting(directory, node);
                    let (name, next) = (OsStr::new(name), at as u64 + 1);
                    let node = (at >= DOTS as usize).then_some(node);
                    if each(Listed { name, next, attributes, lasts, node }) {
                        break;
                    }
                }
                Ok(())
            }
            Some(Open::TreeDirectory(tree, path, itself)) => self.list_tree(tree, path, itself, offset, each),
            _ => Err(Errno::EBADF),
        }
    }

    fn list_tree(
        &self,
        tree: &OpenTree,
        path: &[u8],
        itself: &FileAttr,
        offset: u64,
        mut each: impl FnMut(Listed<'_>) -> bool,
    ) -> Result<(), Errno> {
        let mut given = 0;
        for (at, name) in (1..).zip([".", ".."]).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let name = OsStr::new(name);
            given += 1;
            if each(Listed { name, next: at, attributes: *itself, lasts: LASTING, node: None }) {
                return Ok(());
            }
        }
        let listed = tree.index.list(path, offset.checked_sub(DOTS + 1), |listed| {
            let name = OsStr::from_bytes(listed.name);
            let next = listed.next + DOTS + 1;
            // What can't be followed is told of when it is opened.
            let file = tree
                .named(listed.found.clone())
                .unwrap_or_else(|_| TreeFile { tree: tree.clone(), found: listed.found });
            let attributes = self.owner.of_file(&file);
            given += 1;
            !each(Listed { name, next, attributes, lasts: LASTING, node: None })
        });
        match listed {
            // The system asks again for what comes behind.
            Err(_) if given > 0 => Ok(()),
            listed => listed.map_err(|error| self.tree_unreadable(&tree.directory, path, &error)),
        }
    }

    /// Calls `give` with what is at `offset` of something open, `size` bytes where there are as many.
    fn read_open(
        &self,
        open: &Open,
        offset: u64,
        size: usize,
        give: impl FnOnce(&[u8]),
    ) -> Result<(), Errno> {
        thread_local! {
            static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        match open {
            Open::Text(node) => {
                let What::Text(text) = &node.what else { return Err(Errno::EBADF) };
                let begin = text.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
                give(&text.as_bytes()[begin..text.len().min(begin.saturating_add(size))]);
                Ok(())
            }
            Open::Entry(node, random) => ROOM.with_borrow_mut(|room| {
                let What::Entry(file) = &node.what else { return Err(Errno::EBADF) };
                random
                    .read_with(offset, size, room, give)
                    .map_err(|error| self.unreadable(node, file, &error))
            }),
            Open::Table(node, table) => ROOM.with_borrow_mut(|room| {
                let What::Table(file) = &node.what else { return Err(Errno::EBADF) };
                if room.len() < size {
                    room.resize(size, 0);
                }
                let mut table = table.lock();
                let read = table.read_at(file, offset, &mut room[..size]);
                let count = read.map_err(|error| self.table_unreadable(node, file, &error))?;
                give(&room[..count]);
                Ok(())
            }),
            Open::TreeFile(file, content) => ROOM.with_borrow_mut(|room| {
                content
                    .read_with(offset, size, room, give)
                    .map_err(|error| self.file_unreadable(file, &error))
            }),
            Open::Directory(..) | Open::TreeDirectory(..) => Err(Errno::EISDIR),
        }
    }

    fn unreadable(&self, node: &Node, file: &EntryFile, error: &dbvault_repo::Error) -> Errno {
        self.tell(node.inode, error, &file.archive, &file.entry)
    }

    /// The file of a tree that `inode` is, which may have extended attributes; nothing else has.
    fn with_attributes(&self, inode: INodeNo) -> Result<Option<TreeFile>, Errno> {
        if !is_of_tree(inode.0) {
            return Ok(None);
        }
        Ok(match self.meant(inode)? {
            Meant::File(file) => Some(file),
            Meant::Node(_) => None,
        })
    }

    fn file_unreadable(&self, file: &TreeFile, error: &(dyn Error + 'static)) -> Errno {
        let TreeDirectory { archive, entry, .. } = &*file.tree.directory;
        self.tell(file.inode(), error, archive, &path_in(&entry.meta.name, file.path()))
    }

    /// Tells that the table of a tree can't be read, where it was read for `path`.
    fn tree_unreadable(&self, tree: &TreeDirectory, path: &[u8], error: &(dyn Error + 'static)) -> Errno {
        self.tell(tree.inode, error, &tree.archive, &path_in(&tree.entry.meta.name, path))
    }

    fn table_unreadable(&self, node: &Node, file: &TableFile, error: &(dyn Error + 'static)) -> Errno {
        let TablesDirectory { manifest, database, .. } = &*file.directory;
        self.tell(node.inode, error, &manifest.name, database)
    }

    /// Tells of a part of a file that can't be read, once.
    fn tell(&self, inode: u64, error: &(dyn Error + 'static), archive: &str, entry: &str) -> Errno {
        let chunk = chunk_of(error).unwrap_or(ChunkId([0; 32]));
        let mut told = self.told.lock();
        if told.len() < TOLD_MAX && told.insert((inode, chunk)) {
            tracing::error!(archive, entry, "a read failed: {}", in_a_line(error));
        }
        Errno::EIO
    }
}

/// How long the system may take for granted what it is told of `node` in `directory`.
fn lasting(directory: &Node, node: &Node) -> Duration {
    // An archive whose table can't be read may show it the next time.
    let lasting = matches!(directory.what, What::Directory(_)) || matches!(node.what, What::Entry(_));
    if lasting { LASTING } else { REFRESH }
}

/// A file of a tree as messages name it.
fn path_in(entry: &str, path: &[u8]) -> String {
    format!("{entry}/{}", String::from_utf8_lossy(path))
}

/// Answers with the value of an attribute, or with its length where that is what is asked for.
fn reply_attribute(value: &[u8], size: u32, reply: ReplyXattr) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

/// The chunk that can't be read, where it is one.
fn chunk_of(error: &(dyn Error + 'static)) -> Option<ChunkId> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(dbvault_repo::Error::ChunkUnreadable { id, .. }) = error.downcast_ref() {
            return Some(*id);
        }
        // An error of a reader has another in it, and says only what is behind that.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

impl fuser::Filesystem for Filesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What a system does not take is not needed.
        let _ = config.set_max_background(BACKGROUND_READS_MAX);
        use fuser::InitFlags as Flag;
        for wanted in [Flag::FUSE_PARALLEL_DIROPS, Flag::FUSE_DO_READDIRPLUS, Flag::FUSE_READDIRPLUS_AUTO] {
            let _ = config.add_capabilities(wanted);
        }
        if self.for_others {
            // Has the system go by access control lists, and not only by what permission bits say of them.
            let _ = config.add_capabilities(Flag::FUSE_POSIX_ACL);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.look_up(parent, name) {
            Ok((attributes, lasts)) => reply.entry(&lasts, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, inode: INodeNo, times: u64) {
        if !is_of_tree(inode.0) {
            self.known.forget(inode.0, times);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.meant(inode) {
            Ok(meant) => {
                let is_table = matches!(&meant, Meant::Node(node) if matches!(node.what, What::Table(_)));
                let lasts = if is_table { REFRESH } else { LASTING };
                reply.attr(&lasts, &self.attributes(&meant));
            }
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        let target = self.meant(inode).map(|meant| match &meant {
            Meant::Node(node) => node.what.target().map(|target| target.as_bytes().to_vec()),
            Meant::File(file) => file.target().map(<[u8]>::to_vec),
        });
        match target {
            Ok(Some(target)) => reply.data(&target),
            Ok(None) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Not before: what the system and we agree on at the beginning would take it back.
        self.read_ahead.call_once(|| read_ahead::widen(&self.directory));
        match self.open_node(inode) {
            Ok(open) => {
                let how = match &open {
                    // It is read in order, and to where it ends and not where it is said to.
                    Open::Table(..) => FopenFlags::FOPEN_DIRECT_IO,
                    // The bytes of an inode never change: what the system has of them is good.
                    _ => FopenFlags::FOPEN_KEEP_CACHE,
                };
                reply.opened(FileHandle(self.opened.add(open)), how);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut reply = Some(reply);
        let give = |bytes: &[u8]| {
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        };
        let open = self.opened.get(handle.0).ok_or(Errno::EBADF);
        let read = open.and_then(|open| self.read_open(&open, offset, size as usize, give));
        if let (Err(error), Some(reply)) = (read, reply) {
            reply.error(error);
        }
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        // The system then asks no more: whoever gets in may look at everything.
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn lseek(&self, _: &Request, _: INodeNo, handle: FileHandle, at: i64, whence: i32, reply: ReplyLseek) {
        let (open, offset) = (self.opened.get(handle.0), u64::try_from(at).unwrap_or(u64::MAX));
        let (data, hole) = match open.as_deref() {
            Some(Open::TreeFile(_, content)) if offset < content.len_bytes() => {
                (content.next_data(offset), content.next_hole(offset))
            }
            Some(Open::Entry(_, random)) if offset < random.len_bytes() => (Some(offset), random.len_bytes()),
            Some(Open::TreeFile(..) | Open::Entry(..)) => return reply.error(Errno::ENXIO),
            _ => return reply.error(Errno::EINVAL),
        };
        match (whence, data) {
            (SEEK_DATA, Some(data)) => reply.offset(data.cast_signed()),
            (SEEK_DATA, None) => reply.error(Errno::ENXIO),
            (SEEK_HOLE, _) => reply.offset(hole.cast_signed()),
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        // Likewise for one that can always be read.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.opened.close(handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_directory(inode) {
            Ok(open) => {
                let how = match &open {
                    // What is in it never changes.
                    Open::TreeDirectory(tree, ..) if !tree.index.is_broken() => {
                        FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
                    }
                    _ => FopenFlags::empty(),
                };
                reply.opened(FileHandle(self.opened.add(open)), how);
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.list(handle, offset, |Listed { name, next, attributes, .. }| {
            reply.add(attributes.ino, next, attributes.kind, name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.list(handle, offset, |Listed { name, next, attributes, lasts, node }| {
            let is_full = reply.add(attributes.ino, next, name, &lasts, &attributes, Generation(0));
            if let (Some(node), false) = (node, is_full) {
                self.known.tell(node);
            }
            is_full
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.opened.close(handle.0);
        reply.ok();
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if inode.0 == ROOT_INODE && name == PROCESS_ATTRIBUTE {
            return reply_attribute(std::process::id().to_string().as_bytes(), size, reply);
        }
        match self.with_attributes(inode) {
            Ok(Some(file)) => match file.attribute(name.as_bytes()) {
                Some(value) => reply_attribute(value, size, reply),
                None => reply.error(Errno::NO_XATTR),
            },
            Ok(None) => reply.error(Errno::NO_XATTR),
            Err(error) => reply.error(error),
        }
    }

    fn listxattr(&self, _: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        match self.with_attributes(inode) {
            Ok(file) => {
                let names = file.map(|file| file.attribute_names()).unwrap_or_default();
                reply_attribute(&names, size, reply);
            }
            Err(error) => reply.error(error),
        }
    }
}
