//! Extended attributes, POSIX ACLs among them.

use std::os::fd::{AsFd, BorrowedFd};

use dbvault_format::file_table::Xattr;
use rustix::fs::{self, XattrFlags};
use rustix::io::{Errno, Result};

use crate::directory::proc_path;

/// Tries for a list or a value that grows while it is read.
const TRIES_MAX: usize = 8;

/// The attributes of a file, in the order of their names.
pub(crate) fn read(holder: &Holder<'_>) -> Result<Vec<Xattr>> {
    let mut names: Vec<Vec<u8>> = match holder.list() {
        Ok(list) => {
            list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
        }
        Err(error) if is_unsupported(error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    names.sort_unstable();
    let mut xattrs = Vec::with_capacity(names.len());
    for name in names {
        match holder.get(&name) {
            Ok(value) => xattrs.push(Xattr { name: name.into(), value: value.into() }),
            // Gone again, or one that is listed but can't be had.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(xattrs)
}

/// Takes away the attributes that are not in `wanted`, but for security labels, and sets those of `wanted` that are not
/// ACLs: for before the mode is set, which may forbid it. Gives the errors.
pub(crate) fn replace(holder: &Holder<'_>, wanted: &[Xattr]) -> Vec<Errno> {
    let mut errors = Vec::new();
    let there = holder.list().unwrap_or_default();
    for name in there.split(|byte| *byte == 0).filter(|name| is_ours_to_remove(name)) {
        if !wanted.iter().any(|xattr| **xattr.name == *name) {
            match holder.remove(name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => errors.push(error),
            }
        }
    }
    errors.extend(wanted.iter().filter(|xattr| !is_acl(xattr)).filter_map(|xattr| holder.set(xattr).err()));
    errors
}

/// Sets the ACLs of `wanted`: for after the mode, of which they are a part. Gives the errors.
pub(crate) fn set_acls(holder: &Holder<'_>, wanted: &[Xattr]) -> Vec<Errno> {
    wanted.iter().filter(|xattr| is_acl(xattr)).filter_map(|xattr| holder.set(xattr).err()).collect()
}

fn is_acl(xattr: &Xattr) -> bool {
    xattr.name.starts_with(b"system.posix_acl_")
}

/// A new file gets ACLs from the directory it is in; labels are the system's business.
fn is_ours_to_remove(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}

pub(crate) fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NOSYS)
}

/// A file that has attributes; no path to it leads through links.
pub(crate) enum Holder<'a> {
    /// It is open to be read or written.
    Open(BorrowedFd<'a>),
    /// It is open with `O_PATH`, and named by the path of that in `/proc/self/fd`: itself a link, to be followed.
    Path(String),
    /// A name in an open directory, not followed where it is a link.
    Name(Vec<u8>),
}

impl Holder<'_> {
    /// What was opened with `O_PATH`.
    pub(crate) fn path(fd: impl AsFd) -> Holder<'static> {
        Holder::Path(proc_path(fd))
    }

    /// `name` in a directory that is open.
    pub(crate) fn name(directory: impl AsFd, name: &[u8]) -> Holder<'static> {
        Holder::Name([proc_path(directory).as_bytes(), b"/", name].concat())
    }

    fn list(&self) -> Result<Vec<u8>> {
        grown(
            || match self {
                Holder::Open(fd) => fs::flistxattr_query(fd),
                Holder::Path(path) => fs::listxattr_query(path),
                Holder::Name(path) => fs::llistxattr_query(path.as_slice()),
            },
            |buffer| match self {
                Holder::Open(fd) => fs::flistxattr(fd, buffer),
                Holder::Path(path) => fs::listxattr(path, buffer),
                Holder::Name(path) => fs::llistxattr(path.as_slice(), buffer),
            },
        )
    }

    fn get(&self, name: &[u8]) -> Result<Vec<u8>> {
        grown(
            || match self {
                Holder::Open(fd) => fs::fgetxattr_query(fd, name),
                Holder::Path(path) => fs::getxattr_query(path, name),
                Holder::Name(path) => fs::lgetxattr_query(path.as_slice(), name),
            },
            |buffer| match self {
                Holder::Open(fd) => fs::fgetxattr(fd, name, buffer),
                Holder::Path(path) => fs::getxattr(path, name, buffer),
                Holder::Name(path) => fs::lgetxattr(path.as_slice(), name, buffer),
            },
        )
    }

    fn set(&self, xattr: &Xattr) -> Result<()> {
        let (name, value, flags) = (xattr.name.as_slice(), xattr.value.as_slice(), XattrFlags::empty());
        match self {
            Holder::Open(fd) => fs::fsetxattr(fd, name, value, flags),
            Holder::Path(path) => fs::setxattr(path, name, value, flags),
            Holder::Name(path) => fs::lsetxattr(path.as_slice(), name, value, flags),
        }
    }

    fn remove(&self, name: &[u8]) -> Result<()> {
        match self {
            Holder::Open(fd) => fs::fremovexattr(fd, name),
            Holder::Path(path) => fs::removexattr(path, name),
            Holder::Name(path) => fs::lremovexattr(path.as_slice(), name),
        }
    }
}

/// Asks for a length, then for that many bytes, and again where it grew meanwhile.
fn grown(length: impl Fn() -> Result<usize>, read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    for _ in 0..TRIES_MAX {
        let mut buffer = vec![0; length()?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match read(&mut buffer) {
            Ok(bytes) => {
                buffer.truncate(bytes);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::RANGE)
}
