//! Gives a file that is open the owner, mode, attributes, times and flags of its record.

use std::os::fd::{AsFd, BorrowedFd};

use dbvault_format::file_table::{FileKind, FileRecord};
use rustix::fs::{self, AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{Errno, Result};

use crate::error::Problem;
use crate::names::Names;
use crate::place::Report;
use crate::xattrs::Holder;
use crate::{directory, flags, xattrs};

/// Bits that let a program run with the rights of its owner or group.
const SET_ID_BITS: u16 = 0o6000;

/// Who files are to belong to, and who is told where something can't be set.
pub(crate) struct Settings {
    pub(crate) names: Names,
    pub(crate) numeric_ids: bool,
    pub(crate) is_root: bool,
    pub(crate) report: Report,
}

/// A file to be changed: never by a path that somebody else could change meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Handle<'a> {
    fd: BorrowedFd<'a>,
    /// Whether it was opened with `O_PATH`, and can be changed by its path in `/proc/self/fd` only.
    is_path: bool,
}

impl<'a> Handle<'a> {
    /// What was opened to be read or written.
    pub(crate) fn opened(fd: &'a impl AsFd) -> Self {
        Handle { fd: fd.as_fd(), is_path: false }
    }

    /// What was opened as a path.
    pub(crate) fn path(fd: &'a impl AsFd) -> Self {
        Handle { fd: fd.as_fd(), is_path: true }
    }

    fn attributes(self) -> Holder<'a> {
        if self.is_path { Holder::path(self.fd) } else { Holder::Open(self.fd) }
    }

    fn set_owner(self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        if self.is_path {
            fs::chownat(CWD, directory::proc_path(self.fd), uid, gid, AtFlags::empty())
        } else {
            fs::fchown(self.fd, uid, gid)
        }
    }

    fn set_mode(self, mode: u16) -> Result<()> {
        let mode = Mode::from_raw_mode(mode.into());
        if self.is_path {
            fs::chmodat(CWD, directory::proc_path(self.fd), mode, AtFlags::empty())
        } else {
            fs::fchmod(self.fd, mode)
        }
    }

    fn set_times(self, times: &Timestamps) -> Result<()> {
        if self.is_path {
            fs::utimensat(CWD, directory::proc_path(self.fd), times, AtFlags::empty())
        } else {
            fs::futimens(self.fd, times)
        }
    }
}

impl Settings {
    /// The numbers of owner and group: by their names where these are known here, else as in the record.
    pub(crate) fn owner(&self, record: &FileRecord) -> (u32, u32) {
        if self.numeric_ids {
            return (record.uid, record.gid);
        }
        let uid = record.user.as_deref().and_then(|user| self.names.uid(user));
        let gid = record.group.as_deref().and_then(|group| self.names.gid(group));
        (uid.unwrap_or(record.uid), gid.unwrap_or(record.gid))
    }

    /// Sets all of a record but its flags. What can't be set is told, and the rest set.
    pub(crate) fn apply(&self, handle: Handle<'_>, record: &FileRecord, path: &[u8]) {
        let tell = |doing, error: Errno| (self.report)(Problem::new(path, doing, error));
        let has_owner = self.apply_owner(handle, record, path);
        let attributes = handle.attributes();
        for error in xattrs::replace(&attributes, &record.xattrs) {
            tell("set an attribute of", error);
        }
        if record.kind != FileKind::Symlink {
            // Else a program would get the rights of somebody that its maker did not choose.
            let mode = if has_owner { record.mode } else { record.mode & !SET_ID_BITS };
            if let Err(error) = handle.set_mode(mode) {
                tell("set the mode of", error);
            }
        }
        for error in xattrs::set_acls(&attributes, &record.xattrs) {
            tell("set the ACL of", error);
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: record.modified.seconds,
                tv_nsec: record.modified.nanoseconds.into(),
            },
        };
        if let Err(error) = handle.set_times(&times) {
            tell("set the time of", error);
        }
    }

    /// Whether it belongs to whom it should. A user who is not root can only give files to own groups, and is not told of
    /// what can't be had.
    fn apply_owner(&self, handle: Handle<'_>, record: &FileRecord, path: &[u8]) -> bool {
        let (uid, gid) = self.owner(record);
        if self.is_root {
            let set = handle.set_owner(Some(uid), Some(gid));
            return set.map_err(|error| (self.report)(Problem::new(path, "set the owner of", error))).is_ok();
        }
        let belongs = |stat: crate::FileStat| (stat.uid, stat.gid) == (uid, gid);
        if directory::stat_open(handle.fd).is_ok_and(belongs) {
            return true;
        }
        // Its outcome is seen by the next look.
        let _ = handle.set_owner(None, Some(gid));
        directory::stat_open(handle.fd).is_ok_and(belongs)
    }

    /// Sets the flags of a record; the last thing that is done to a file.
    pub(crate) fn apply_flags(&self, fd: impl AsFd, record: &FileRecord, path: &[u8]) {
        if let Err(error) = flags::set(fd, record.flags) {
            (self.report)(Problem::new(path, "set the flags of", error));
        }
    }
}
