//! What `lstat` tells of a file.

use dbvault_format::file_table::{DeviceNumber, FileKind, FileTime};
use rustix::fs::{self, FileType};

/// What `lstat` tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, set-user-id, set-group-id and sticky bit included.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// As in a record: 0 for all but regular files and symbolic links.
    pub size_bytes: u64,
    /// Room that it takes on its file system.
    pub stored_bytes: u64,
    /// The file system that it is on.
    pub device: u64,
    /// Number of the inode.
    pub inode: u64,
    /// How many names it has.
    pub links: u64,
    /// Which device it is, for devices.
    pub device_number: Option<DeviceNumber>,
    /// When its content was changed last.
    pub modified: FileTime,
    /// When anything of it was changed last.
    pub changed: FileTime,
}

impl FileStat {
    /// `None` for what is no kind of file of this format.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        reason = "widths differ between the processors of Linux"
    )]
    pub(crate) fn new(stat: &fs::Stat) -> Option<FileStat> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::CharacterDevice => FileKind::CharacterDevice,
            FileType::BlockDevice => FileKind::BlockDevice,
            FileType::Socket => FileKind::Socket,
            FileType::Unknown => return None,
        };
        let sized = matches!(kind, FileKind::Regular | FileKind::Symlink);
        let time = |seconds, nanoseconds| FileTime { seconds, nanoseconds };
        let number = || DeviceNumber { major: fs::major(stat.st_rdev), minor: fs::minor(stat.st_rdev) };
        Some(FileStat {
            kind,
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: if sized { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            stored_bytes: (stat.st_blocks as u64).saturating_mul(512),
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            device_number: kind.is_device().then(number),
            modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        })
    }

    /// What tells an inode from all others of the machine.
    pub(crate) fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode }
    }
}

/// What tells an inode from all others of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}
