//! Extended attributes, POSIX ACLs among them.

use dbvault_format::file_table::Xattr;
use rustix::fs::{self, XattrFlags};
use rustix::io::{Errno, Result};

/// Tries for a list or a value that grows while it is read.
const TRIES_MAX: usize = 8;

/// The attributes of a descriptor that is given by its path in `/proc/self/fd`, or of a name in it, in the order of their
/// names. A name is not followed where it is a symbolic link.
pub(crate) fn read(path: &str, name: Option<&[u8]>) -> Result<Vec<Xattr>> {
    let place = Place::new(path, name);
    let mut names: Vec<Vec<u8>> = match place.list() {
        Ok(list) => {
            list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
        }
        Err(error) if is_unsupported(error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    names.sort_unstable();
    let mut xattrs = Vec::with_capacity(names.len());
    for name in names {
        match place.get(&name) {
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
pub(crate) fn replace(path: &str, wanted: &[Xattr]) -> Vec<Errno> {
    let place = Place::new(path, None);
    let mut errors = Vec::new();
    let there = place.list().unwrap_or_default();
    for name in there.split(|byte| *byte == 0).filter(|name| is_ours_to_remove(name)) {
        if !wanted.iter().any(|xattr| **xattr.name == *name) {
            match place.remove(name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => errors.push(error),
            }
        }
    }
    errors.extend(wanted.iter().filter(|xattr| !is_acl(xattr)).filter_map(|xattr| place.set(xattr).err()));
    errors
}

/// Sets the ACLs of `wanted`: for after the mode, of which they are a part. Gives the errors.
pub(crate) fn set_acls(path: &str, wanted: &[Xattr]) -> Vec<Errno> {
    let place = Place::new(path, None);
    wanted.iter().filter(|xattr| is_acl(xattr)).filter_map(|xattr| place.set(xattr).err()).collect()
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

/// A path that does not lead through links: a descriptor itself, or a name in one.
struct Place {
    path: Vec<u8>,
    /// A descriptor is itself a link, to be followed; a name in a directory is not.
    is_descriptor: bool,
}

impl Place {
    fn new(path: &str, name: Option<&[u8]>) -> Place {
        let mut path = path.as_bytes().to_vec();
        if let Some(name) = name {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Place { path, is_descriptor: name.is_none() }
    }

    fn list(&self) -> Result<Vec<u8>> {
        let path = self.path.as_slice();
        grown(
            || {
                if self.is_descriptor { fs::listxattr_query(path) } else { fs::llistxattr_query(path) }
            },
            |buffer| {
                if self.is_descriptor { fs::listxattr(path, buffer) } else { fs::llistxattr(path, buffer) }
            },
        )
    }

    fn get(&self, name: &[u8]) -> Result<Vec<u8>> {
        let path = self.path.as_slice();
        grown(
            || {
                if self.is_descriptor {
                    fs::getxattr_query(path, name)
                } else {
                    fs::lgetxattr_query(path, name)
                }
            },
            |buffer| {
                if self.is_descriptor {
                    fs::getxattr(path, name, buffer)
                } else {
                    fs::lgetxattr(path, name, buffer)
                }
            },
        )
    }

    fn set(&self, xattr: &Xattr) -> Result<()> {
        let (path, name) = (self.path.as_slice(), xattr.name.as_slice());
        let flags = XattrFlags::empty();
        if self.is_descriptor {
            fs::setxattr(path, name, &xattr.value, flags)
        } else {
            fs::lsetxattr(path, name, &xattr.value, flags)
        }
    }

    fn remove(&self, name: &[u8]) -> Result<()> {
        let path = self.path.as_slice();
        if self.is_descriptor { fs::removexattr(path, name) } else { fs::lremovexattr(path, name) }
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
