//! Flags of files that users set, such as "immutable".

use std::os::fd::AsFd;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::{Errno, Result};

/// What users set and can set again: append only, compressed, synchronous directory, immutable, no time of access, no
/// copy on write, no dump, no tail, synchronous. Not: what file systems keep for themselves (extents, encrypted, verity,
/// indexed), journalled data, projects, and what no file system heeds (secure removal, undelete).
const KEPT: IFlags = IFlags::APPEND
    .union(IFlags::COMPRESSED)
    .union(IFlags::DIRSYNC)
    .union(IFlags::IMMUTABLE)
    .union(IFlags::NOATIME)
    .union(IFlags::NOCOW)
    .union(IFlags::NODUMP)
    .union(IFlags::NOTAIL)
    .union(IFlags::SYNC);

/// What forbids a change of a file, and of the names in a directory.
const FORBIDDING: IFlags = IFlags::APPEND.union(IFlags::IMMUTABLE);

/// The flags of what is open that users set; 0 where the file system has none.
pub(crate) fn read(file: impl AsFd) -> u32 {
    ioctl_getflags(file).map_or(0, |flags| (flags & KEPT).bits())
}

/// Whether any of the flags is one that users set.
pub(crate) fn is_any(flags: u32) -> bool {
    IFlags::from_bits_retain(flags).intersects(KEPT)
}

/// Makes the flags that users set those of `flags`, and leaves the others.
pub(crate) fn set(file: impl AsFd, flags: u32) -> Result<()> {
    let wanted = IFlags::from_bits_retain(flags) & KEPT;
    let there = match ioctl_getflags(&file) {
        Ok(there) => there,
        Err(error) if wanted.is_empty() => return if is_unsupported(error) { Ok(()) } else { Err(error) },
        Err(error) => return Err(error),
    };
    let all = (there - KEPT) | wanted;
    if all == there {
        return Ok(());
    }
    ioctl_setflags(file, all)
}

/// Takes away what forbids a change; whether anything was.
pub(crate) fn permit_changes(file: impl AsFd) -> bool {
    ioctl_getflags(&file)
        .is_ok_and(|flags| flags.intersects(FORBIDDING) && ioctl_setflags(file, flags - FORBIDDING).is_ok())
}

fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
}
