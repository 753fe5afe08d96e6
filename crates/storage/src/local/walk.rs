//! Every file below a directory, while others make and remove files.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::{Key, Result};

/// A regular file that the walk came upon.
pub(super) struct FoundFile<'a> {
    /// Path relative to the root.
    pub(super) path: &'a str,
    /// What the system says of it.
    pub(super) stat: &'a Stat,
}

/// What a walk does with what it finds.
pub(super) struct Visitor<'a> {
    /// Whether a file of this relative path and file name is wanted: others are not even looked at.
    pub(super) wanted: &'a dyn Fn(&str, &str) -> bool,
    /// Called for each wanted regular file; its error ends the walk.
    pub(super) each: &'a mut dyn FnMut(FoundFile<'_>) -> Result<()>,
    /// Turns an error of the system about a relative path into ours.
    pub(super) error: &'a dyn Fn(&str, Errno) -> crate::Error,
}

/// A directory still to be read.
struct Waiting {
    path: String,
    /// Whether a link led here.
    linked: bool,
}

/// Walks all below `top` (relative to `root`; `""` is the root itself), in no order.
///
/// Directories whose paths no object could have are passed over, as is whatever vanishes meanwhile.
/// One link in a path is followed, for a repository of which one directory was moved to another disk;
/// with more than one, a loop of links would be walked for ever.
pub(super) fn walk(root: &OwnedFd, top: &str, visitor: &mut Visitor<'_>) -> Result<()> {
    let mut waiting = vec![Waiting { path: top.to_owned(), linked: false }];
    while let Some(directory) = waiting.pop() {
        walk_directory(root, &directory, &mut waiting, visitor)?;
    }
    Ok(())
}

fn walk_directory(
    root: &OwnedFd,
    directory: &Waiting,
    waiting: &mut Vec<Waiting>,
    visitor: &mut Visitor<'_>,
) -> Result<()> {
    let opened = if directory.path.is_empty() { "." } else { directory.path.as_str() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(root, opened, flags, Mode::empty()).and_then(Dir::new);
    let mut entries = match opened {
        Ok(entries) => entries,
        Err(errno) if is_absent(errno) => return Ok(()),
        Err(errno) => return Err((visitor.error)(&directory.path, errno)),
    };
    while let Some(entry) = entries.read() {
        let result = match entry {
            Ok(entry) => visit(&entries, &entry, directory, waiting, visitor),
            Err(errno) if is_absent(errno) => return Ok(()),
            Err(errno) => Err((visitor.error)(&directory.path, errno)),
        };
        result?;
    }
    Ok(())
}

fn visit(
    entries: &Dir,
    entry: &DirEntry,
    directory: &Waiting,
    waiting: &mut Vec<Waiting>,
    visitor: &mut Visitor<'_>,
) -> Result<()> {
    let Ok(name) = entry.file_name().to_str() else { return Ok(()) };
    let path = join(&directory.path, name);
    let wanted = (visitor.wanted)(&path, name);
    let enterable = Key::new(path.as_str()).is_ok();
    if !wanted && !enterable {
        return Ok(());
    }
    let mut file_type = entry.file_type();
    if file_type == FileType::Unknown {
        let Some(stat) = look(entries, entry, &path, AtFlags::SYMLINK_NOFOLLOW, visitor)? else {
            return Ok(());
        };
        file_type = FileType::from_raw_mode(stat.st_mode);
    }
    let is_link = file_type == FileType::Symlink;
    if (file_type == FileType::RegularFile && wanted) || is_link {
        let Some(stat) = look(entries, entry, &path, AtFlags::empty(), visitor)? else { return Ok(()) };
        file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::RegularFile && wanted {
            return (visitor.each)(FoundFile { path: &path, stat: &stat });
        }
    }
    if file_type == FileType::Directory && enterable && !(is_link && directory.linked) {
        waiting.push(Waiting { path, linked: is_link || directory.linked });
    }
    Ok(())
}

/// What the system says of an entry, or `None` if it has vanished.
fn look(
    entries: &Dir,
    entry: &DirEntry,
    path: &str,
    flags: AtFlags,
    visitor: &Visitor<'_>,
) -> Result<Option<Stat>> {
    match entries.fd().and_then(|fd| rustix::fs::statat(fd, entry.file_name(), flags)) {
        Ok(stat) => Ok(Some(stat)),
        Err(errno) if is_absent(errno) => Ok(None),
        Err(errno) => Err((visitor.error)(path, errno)),
    }
}

/// The relative path of `name` in `directory`, which is `""` for the root.
pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// Whether this error means that nothing has that path.
pub(super) fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR)
}
