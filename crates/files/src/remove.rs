//! Removes what is in the way, or was not in an archive: never through a link, never from another file system.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use dbvault_format::file_table::FileKind;
use rustix::fs::{AtFlags, OFlags, renameat, unlinkat};
use rustix::io::Errno;

use crate::directory::{self, Entry};
use crate::directory_stack::DirectoryStack;
use crate::flags;

/// Removes a name that is not a directory. What may not be changed is made changeable first.
pub(crate) fn file(around: impl AsFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(&around, name, AtFlags::empty()) {
        Err(Errno::PERM) if permit_changes(&around, name) => Ok(unlinkat(&around, name, AtFlags::empty())?),
        other => Ok(other?),
    }
}

/// Removes a name with all that is below it. What lies on another file system stays, and the directories around it.
///
/// # Errors
/// Something can't be removed; some of the rest is gone.
pub(crate) fn tree(around: &Arc<OwnedFd>, name: &[u8]) -> io::Result<()> {
    let outside = directory::stat_open(around)?;
    let mut stack: DirectoryStack<(Vec<u8>, Vec<Entry>)> = DirectoryStack::new();
    stack.push(
        Arc::clone(around),
        outside.identity(),
        (Vec::new(), vec![Entry { name: name.into(), inode_hint: 0 }]),
    );
    while let Some((_, names)) = stack.last_mut() {
        let Some(entry) = names.pop() else {
            let (name, _) = stack.pop().unwrap_or_default();
            if stack.len() > 0 {
                unlinkat(stack.fd()?, name, AtFlags::REMOVEDIR)?;
            }
            continue;
        };
        let inner = Arc::clone(stack.fd()?);
        let stat = directory::stat(&inner, &entry.name)?;
        if stat.kind != FileKind::Directory {
            file(&inner, &entry.name)?;
            continue;
        }
        if stat.device != outside.device {
            return Err(io::Error::from(io::ErrorKind::CrossesDevices));
        }
        let directory = directory::open(&inner, &entry.name)?;
        flags::permit_changes(&directory);
        let names = directory::list(&directory)?;
        let identity = directory::stat_open(&directory)?.identity();
        stack.push(Arc::new(directory), identity, (entry.name.into_vec(), names));
    }
    Ok(())
}

/// Gives a finished file its name, in the place of what has that name. A directory that is in the way is replaced where it
/// is empty, or where `with_content`.
///
/// # Errors
/// What the system says; the file keeps its temporary name.
pub(crate) fn put_in_place(
    around: &Arc<OwnedFd>,
    temporary: &[u8],
    name: &[u8],
    with_content: bool,
) -> io::Result<()> {
    let rename = || renameat(around, temporary, around, name);
    match rename() {
        Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
            match unlinkat(around, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) if with_content => tree(around, name)?,
                other => other?,
            }
            Ok(rename()?)
        }
        Err(Errno::PERM) if permit_changes(around, name) => Ok(rename()?),
        other => Ok(other?),
    }
}

/// Takes flags from a file that forbid to remove it; whether there were any.
fn permit_changes(around: impl AsFd, name: &[u8]) -> bool {
    let is_plain = directory::stat(&around, name)
        .is_ok_and(|stat| matches!(stat.kind, FileKind::Regular | FileKind::Directory));
    is_plain
        && directory::open_quietly(&around, name, OFlags::RDONLY | OFlags::NONBLOCK)
            .is_ok_and(|file| flags::permit_changes(&file))
}
