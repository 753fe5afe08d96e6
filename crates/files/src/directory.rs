//! Single steps from an open directory: never through a link, never by a path of more than one name.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::file_stat::FileStat;

/// Room for the entries that one call gives, bytes: a name takes 280 at most.
const LISTING_BYTES: usize = 64 << 10;

/// A name in a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Box<[u8]>,
    /// As the directory tells it, which is not always what `lstat` tells: only for an order that suits disks.
    pub(crate) inode_hint: u64,
}

/// `lstat` of a name in a directory.
pub(crate) fn stat(directory: impl AsFd, name: &[u8]) -> io::Result<FileStat> {
    let stat = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    FileStat::new(&stat).ok_or_else(|| io::Error::other("a kind of file that is not known"))
}

/// `lstat` of what is open.
pub(crate) fn stat_open(file: impl AsFd) -> io::Result<FileStat> {
    FileStat::new(&fs::fstat(file)?).ok_or_else(|| io::Error::other("a kind of file that is not known"))
}

/// Opens a directory to be read, in a way that leaves its time of access where the system permits that.
pub(crate) fn open(directory: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    open_quietly(directory, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a directory that may not be readable, only to go on from it.
pub(crate) fn open_to_pass(directory: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(directory, name, flags, Mode::empty())?)
}

/// Opens any kind of file, only to name it in `/proc/self/fd`.
pub(crate) fn open_as_path(directory: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(directory, name, flags, Mode::empty())?)
}

/// Opens without a change of the time of access, where this user may do that: the owner and root may.
pub(crate) fn open_quietly(directory: impl AsFd, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(fs::openat(&directory, name, flags, Mode::empty())?),
        other => Ok(other?),
    }
}

/// The path of what is open that the system itself knows.
pub(crate) fn proc_path(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// All names in a directory that was opened for this, in no order.
///
/// # Errors
/// What the system says; what it told before is lost.
pub(crate) fn list(directory: impl AsFd) -> io::Result<Vec<Entry>> {
    let mut buffer = Vec::with_capacity(LISTING_BYTES);
    let mut entries = Vec::new();
    let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push(Entry { name: name.into(), inode_hint: entry.ino() });
        }
    }
    Ok(entries)
}

/// The path of a name in a directory.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + name.len() + 1);
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
