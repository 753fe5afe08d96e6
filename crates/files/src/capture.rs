//! All that a file is, as a record, and its content.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use dbvault_format::file_table::{FileKind, FileRecord, FileTime, RECORD_BYTES_MAX};
use minicbor::bytes::ByteVec;
use rustix::fs::{OFlags, readlinkat};

use crate::error::Problem;
use crate::file_reader::FileReader;
use crate::file_stat::{FileStat, Identity};
use crate::names::Names;
use crate::walk::FoundFile;
use crate::xattrs::Holder;
use crate::{directory, flags, sparse, xattrs};

/// How long before a backup began a file must have been changed last for its record of that backup to be believed, seconds.
/// File systems note times in steps: a file that is changed twice within one has the same times before and after. The
/// coarsest steps are the 2 s of FAT.
pub const UNCHANGED_MARGIN_SECONDS: i64 = 2;

/// Whether a file is as an old record says, so that it need not be opened: its kind, size, inode and the time of its last
/// change are the same, and that time lies [`UNCHANGED_MARGIN_SECONDS`] before the backup that made the record began.
///
/// A file whose owner, mode, attributes, flags or number of names changed counts as changed. A record that is another name
/// of a file (`same_as`), or that comes from elsewhere and has no inode, never matches.
pub fn is_unchanged(stat: &FileStat, old: &FileRecord, old_backup_began: FileTime) -> bool {
    let margin = FileTime {
        seconds: stat.changed.seconds.saturating_add(UNCHANGED_MARGIN_SECONDS),
        nanoseconds: stat.changed.nanoseconds,
    };
    old.inode != 0
        && old.same_as.is_none()
        && old.kind == stat.kind
        && old.size_bytes == stat.size_bytes
        && old.inode == stat.inode
        && old.changed == stat.changed
        && margin < old_backup_began
}

/// First names of files that have several, as a walk meets them. Holds one path for each such file, until its last name.
#[derive(Debug, Default)]
pub struct HardLinks {
    first: HashMap<Identity, (Vec<u8>, u64)>,
}

impl HardLinks {
    /// No file yet.
    pub fn new() -> Self {
        HardLinks::default()
    }

    /// The name under which this file is in the table already, by [`Self::add`].
    pub fn first_name(&mut self, file: &FoundFile) -> Option<Vec<u8>> {
        if file.stat.links < 2 || file.stat.kind == FileKind::Directory {
            return None;
        }
        let (path, left) = self.first.get_mut(&file.stat.identity())?;
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Some(path.clone());
        }
        self.first.remove(&file.stat.identity()).map(|(path, _)| path)
    }

    /// Notes a file that is in the table now with all that it is.
    pub fn add(&mut self, file: &FoundFile) {
        if file.stat.links > 1 && file.stat.kind != FileKind::Directory {
            self.first.insert(file.stat.identity(), (file.path.clone(), file.stat.links - 1));
        }
    }
}

/// A file's record, and its content where it has any.
#[derive(Debug)]
pub struct Captured {
    /// The record, with `gap_bytes` 0.
    pub record: FileRecord,
    /// The content of a regular file, open. Also where it is empty.
    pub content: Option<FileReader>,
    /// What of the record could not be had: it is without that.
    pub problems: Vec<Problem>,
}

/// Tells all that files are. May be used by several threads.
#[derive(Debug, Default)]
pub struct Capture {
    names: Names,
}

impl Capture {
    /// Names of users and groups are looked up when they are first seen.
    pub fn new() -> Self {
        Capture::default()
    }

    /// The record of a file, and its content. Opens regular files and directories.
    ///
    /// # Errors
    /// It is gone, is another file by now, or may not be read.
    pub fn capture(&self, file: &FoundFile) -> Result<Captured, Problem> {
        let read = |error: io::Error| Problem::new(&file.path, "read", error);
        let opened = self.open(file).map_err(read)?;
        let mut record = self.record(file, opened.as_ref().map_or(&file.stat, |(_, stat)| stat));
        let mut problems = Vec::new();
        if file.stat.kind == FileKind::Symlink {
            let target =
                readlinkat(&file.directory, file.name(), Vec::new()).map_err(|error| read(error.into()))?;
            record.size_bytes = target.as_bytes().len() as u64;
            record.target = Some(target.into_bytes().into());
        }
        let holder = match &opened {
            Some((fd, _)) => Holder::Open(fd.as_fd()),
            None => Holder::name(&file.directory, file.name()),
        };
        match xattrs::read(&holder) {
            Ok(found) => record.xattrs = found,
            Err(error) => problems.push(Problem::new(&file.path, "read the attributes of", error)),
        }
        let mut content = None;
        if let Some((fd, stat)) = opened {
            record.flags = flags::read(&fd);
            if file.stat.kind == FileKind::Regular {
                if stat.stored_bytes < stat.size_bytes {
                    record.extents = sparse::data_extents(&fd, stat.size_bytes);
                }
                content = Some(FileReader::new(fd, stat, record.extents.clone()));
            }
        }
        if record.encode().len() > RECORD_BYTES_MAX {
            return Err(Problem::found(&file.path, "store", "its attributes are longer than 16 MiB"));
        }
        Ok(Captured { record, content, problems })
    }

    /// The record of another name of a file that is in the table under `first_name`. Nothing is opened. A restore that
    /// finds a file under the first name knows by it whether that is the right one.
    pub fn other_name(&self, file: &FoundFile, first_name: Vec<u8>) -> FileRecord {
        FileRecord { same_as: Some(first_name.into()), ..self.record(file, &file.stat) }
    }

    /// What `stat` tells.
    fn record(&self, file: &FoundFile, stat: &FileStat) -> FileRecord {
        FileRecord {
            path: ByteVec::from(file.path.clone()),
            kind: stat.kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            user: self.names.user(stat.uid),
            group: self.names.group(stat.gid),
            modified: stat.modified,
            size_bytes: stat.size_bytes,
            gap_bytes: 0,
            extents: None,
            target: None,
            same_as: None,
            device: stat.device_number,
            xattrs: Vec::new(),
            flags: 0,
            changed: stat.changed,
            inode: stat.inode,
        }
    }

    /// Opens what can be opened without side effects. A directory that can't be read is recorded by its `lstat` alone.
    fn open(&self, file: &FoundFile) -> io::Result<Option<(OwnedFd, FileStat)>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let opened = match file.stat.kind {
            FileKind::Regular => directory::open_quietly(&file.directory, file.name(), flags),
            FileKind::Directory => {
                match directory::open_quietly(&file.directory, file.name(), flags | OFlags::DIRECTORY) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
                    other => other,
                }
            }
            _ => return Ok(None),
        };
        let fd = opened?;
        let stat = directory::stat_open(&fd)?;
        if stat.identity() != file.stat.identity() || stat.kind != file.stat.kind {
            return Err(io::Error::other("it was replaced meanwhile"));
        }
        Ok(Some((fd, stat)))
    }
}
