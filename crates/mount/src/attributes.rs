//! What the system is told of each file: kind, length, owner, permissions, times.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dbvault_format::file_table::{DeviceNumber, FileKind, FileRecord, FileTime};
use dbvault_repo::{Found, Reader};
use fuser::{FileAttr, FileType, INodeNo};

use crate::node::{Node, What};
use crate::trees::TreeFile;

/// Bytes of a block, as systems count them.
const BLOCK_BYTES: u64 = 512;

/// Who owns what has no owner of its own, and who may read it.
#[derive(Debug)]
pub(crate) struct Owner {
    user: u32,
    group: u32,
    for_others: bool,
}

impl Owner {
    /// The user of this process; with `for_others` all may read.
    pub(crate) fn new(for_others: bool) -> Owner {
        Owner {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            for_others,
        }
    }

    /// Permission bits of a file and of a directory.
    fn modes(&self) -> (u32, u32) {
        if self.for_others { (0o444, 0o555) } else { (0o400, 0o500) }
    }

    fn plain(&self, inode: u64, kind: FileType, size: u64, mode: u32, time_ms: i64) -> FileAttr {
        let nanoseconds = (time_ms.rem_euclid(1000) * 1_000_000) as u32;
        let time = system_time(FileTime { seconds: time_ms.div_euclid(1000), nanoseconds });
        FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(BLOCK_BYTES),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: mode as u16,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: self.user,
            gid: self.group,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// What is told of a node.
    pub(crate) fn of_node(&self, node: &Node, reader: &Arc<Reader>) -> FileAttr {
        let (readable, searchable) = self.modes();
        let (kind, size, mode) = match &node.what {
            What::Entry(file) => {
                // Nobody may read here what they could not read where it came from.
                let mode = file.mode.map_or(readable, |mode| readable & (mode | 0o400));
                (FileType::RegularFile, file.stream.bytes, mode)
            }
            What::Text(text) => (FileType::RegularFile, text.len() as u64, readable),
            What::Link(target) => (FileType::Symlink, target.len() as u64, 0o777),
            What::Table(file) => (FileType::RegularFile, file.len_bytes(), readable),
            What::Tree(tree) => {
                if let Some(root) = tree.root(reader) {
                    return of_record(root, node.inode, 1);
                }
                (FileType::Directory, 0, searchable)
            }
            What::Directory(_) | What::Living | What::Archive(_) | What::Tables(_) => {
                (FileType::Directory, 0, searchable)
            }
        };
        self.plain(node.inode, kind, size, mode, node.time_ms)
    }

    /// What is told of a file of a tree: what its record says.
    pub(crate) fn of_file(&self, file: &TreeFile) -> FileAttr {
        match &file.found {
            Found::File(found) => {
                of_record(&found.record, file.inode(), file.tree.index.name_count(&found.record.path))
            }
            Found::Implied(_) => {
                let (_, searchable) = self.modes();
                self.plain(file.inode(), FileType::Directory, 0, searchable, file.tree.directory.time_ms)
            }
        }
    }
}

fn of_record(record: &FileRecord, inode: u64, name_count: u32) -> FileAttr {
    let (modified, changed) = (system_time(record.modified), system_time(record.changed));
    FileAttr {
        ino: INodeNo(inode),
        size: record.size_bytes,
        blocks: record.content_bytes().div_ceil(BLOCK_BYTES),
        atime: modified,
        mtime: modified,
        ctime: changed,
        crtime: modified,
        kind: match record.kind {
            FileKind::Regular => FileType::RegularFile,
            FileKind::Directory => FileType::Directory,
            FileKind::Symlink => FileType::Symlink,
            FileKind::Fifo => FileType::NamedPipe,
            FileKind::CharacterDevice => FileType::CharDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            FileKind::Socket => FileType::Socket,
        },
        perm: record.mode,
        // 1 of a directory: nobody has counted what is in it.
        nlink: if record.kind == FileKind::Directory { 1 } else { name_count },
        uid: record.uid,
        gid: record.gid,
        rdev: record.device.map_or(0, device),
        blksize: 4096,
        flags: 0,
    }
}

/// The numbers of a device as Linux packs them for FUSE: 12 bits and 20 bits.
fn device(DeviceNumber { major, minor }: DeviceNumber) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

/// 1970 where the system can't have such a time.
fn system_time(time: FileTime) -> SystemTime {
    let since = Duration::from_secs(time.seconds.unsigned_abs());
    let second = if time.seconds < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
    let rest = Duration::from_nanos(time.nanoseconds.into());
    second.and_then(|second| second.checked_add(rest)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_up_from_their_second() {
        let time = system_time(FileTime { seconds: -2, nanoseconds: 1 });
        assert_eq!(UNIX_EPOCH.duration_since(time).unwrap(), Duration::new(1, 999_999_999));
        let last = system_time(FileTime { seconds: i64::MAX, nanoseconds: 999_999_999 });
        let since = Duration::new(i64::MAX.unsigned_abs(), 999_999_999);
        assert_eq!(last.duration_since(UNIX_EPOCH).unwrap(), since);
    }

    #[test]
    fn numbers_of_devices_are_packed_as_linux_does() {
        assert_eq!(device(DeviceNumber { major: 8, minor: 1 }), 0x801);
        assert_eq!(device(DeviceNumber { major: 259, minor: 0x12345 }), 0x1231_0345);
    }
}
