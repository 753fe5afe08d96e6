//! Objects as files below one directory.
//!
//! An object is written to a temporary file beside its place, synced, and only then given its name, in
//! one step that fails if the name is taken. So a name that is there has all its bytes, after any crash.
//! That the name itself survives needs its directory synced, which is left to [`Storage::flush`]: one
//! sync for many objects.
//!
//! A file whose sync failed is condemned. The kernel may drop the bytes it could not write and call the
//! next sync a success, so the file is removed, and the caller must make the object anew.

mod directories;
mod open_files;
mod walk;

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fadvise};
use rustix::io::{Errno, retry_on_intr};

use crate::{Error, ErrorKind, Key, ObjectMeta, Result, Storage, range_bytes};
use directories::{Directories, parent, sync_names};
use open_files::OpenFiles;
use walk::{FoundFile, Visitor, is_absent, join, walk};

pub use open_files::OPEN_FILES_MAX;

/// How names of files begin that are not objects yet. No object's name begins with a dot.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// Random bytes in the name of a temporary file.
const TEMPORARY_RANDOM_BYTES: usize = 16;

/// Objects that are longer leave the page cache once they are on the disk, bytes: packs, which are not read again before
/// the next backup. Else a backup would push the pages of the database that it is for out of memory, and each pack would
/// have to be copied into pages that were never used before.
const CACHED_BYTES_MAX: usize = 1 << 20;

/// Writes an open file or directory to the disk.
type SyncFn = fn(BorrowedFd<'_>) -> rustix::io::Result<()>;

/// Objects as files below one directory.
///
/// Any number of processes may use one directory at once; what one makes, all see. At most
/// [`OPEN_FILES_MAX`] object files stay open between calls.
pub struct LocalStorage {
    /// For messages only: all calls go through `root`, so the directory may be moved while in use.
    path: PathBuf,
    root: OwnedFd,
    directories: Directories,
    open_files: OpenFiles,
    /// `fsync`; tests put one here that fails.
    sync: SyncFn,
}

impl fmt::Debug for LocalStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStorage").field("path", &self.path).finish_non_exhaustive()
    }
}

impl LocalStorage {
    /// Opens the existing directory `path`. Nothing is written.
    ///
    /// Errors: [`ErrorKind::NotFound`]; [`ErrorKind::Io`] where `path` is not a directory.
    pub fn open(path: impl AsRef<Path>) -> Result<LocalStorage> {
        let path = path.as_ref().to_owned();
        let root = open_directory(&path).map_err(|errno| path_error(&path, errno))?;
        Ok(LocalStorage {
            path,
            root,
            directories: Directories::default(),
            open_files: OpenFiles::default(),
            sync: fsync,
        })
    }

    /// Makes the directory `path` and those above it that are missing, for the owner alone, and opens it.
    /// Ok: the directory survives a crash. An existing empty directory is taken as it is.
    ///
    /// Errors: [`ErrorKind::AlreadyExists`] where `path` is a directory that is not empty;
    /// [`ErrorKind::Io`] where it is something else. Directories made before an error stay.
    pub fn create(path: impl AsRef<Path>) -> Result<LocalStorage> {
        let path = path.as_ref();
        make_directory_durable(path, fsync)?;
        let storage = LocalStorage::open(path)?;
        let mut entries = Dir::read_from(&storage.root).map_err(|errno| path_error(path, errno))?;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(|errno| path_error(path, errno))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Err(Error::new(ErrorKind::AlreadyExists, path.display().to_string()));
            }
        }
        Ok(storage)
    }

    /// Removes the temporary files that crashed processes left, if last written more than `older_than` ago
    /// by this machine's clock; returns how many. A put under way in another process fails if its file is
    /// taken, and leaves nothing, so `older_than` should be longer than any put takes: an hour is ample.
    ///
    /// After an error some may be removed already.
    pub fn remove_stale_temporaries(&self, older_than: Duration) -> Result<u64> {
        let Some(newest_removed) = SystemTime::now().checked_sub(older_than) else { return Ok(0) };
        let mut removed_count = 0;
        let mut each = |found: FoundFile<'_>| {
            if modified(found.stat) > newest_removed {
                return Ok(());
            }
            match rustix::fs::unlinkat(&self.root, found.path, AtFlags::empty()) {
                Ok(()) => removed_count += 1,
                Err(errno) if is_absent(errno) => {}
                Err(errno) => return Err(self.error(found.path, errno)),
            }
            Ok(())
        };
        let wanted = |_: &str, name: &str| name.starts_with(TEMPORARY_PREFIX);
        let error = |path: &str, errno| self.error(path, errno);
        walk(&self.root, "", &mut Visitor { wanted: &wanted, each: &mut each, error: &error })?;
        Ok(removed_count)
    }

    /// The place of an object or directory, for messages.
    fn subject(&self, relative: &str) -> String {
        self.path.join(relative).display().to_string()
    }

    fn error(&self, relative: &str, cause: impl Into<io::Error>) -> Error {
        Error::io(self.subject(relative), cause.into())
    }

    /// What is at the place of `key`, if anything is.
    fn stat(&self, key: &Key, flags: AtFlags) -> Result<Option<Stat>> {
        match retry_on_intr(|| rustix::fs::statat(&self.root, key.as_str(), flags)) {
            Ok(stat) => Ok(Some(stat)),
            Err(errno) if is_absent(errno) => Ok(None),
            Err(errno) => Err(self.error(key.as_str(), errno)),
        }
    }

    /// The error for a taken name; Ok where it is free.
    fn check_name_free(&self, key: &Key) -> Result<()> {
        match self.stat(key, AtFlags::SYMLINK_NOFOLLOW)? {
            None => Ok(()),
            Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
                Err(self.error(key.as_str(), Errno::ISDIR))
            }
            Some(_) => {
                // The caller may rely on the object from now on, whoever made it.
                self.directories.meet(parent(key.as_str()));
                Err(Error::new(ErrorKind::AlreadyExists, self.subject(key.as_str())))
            }
        }
    }

    /// Makes an empty temporary file in `directory`, and `directory` where it is missing.
    fn create_temporary(&self, directory: &str) -> Result<(File, String)> {
        let mut random = [0; TEMPORARY_RANDOM_BYTES];
        getrandom::fill(&mut random)
            .map_err(|error| self.error(directory, io::Error::other(error.to_string())))?;
        let name = format!("{TEMPORARY_PREFIX}{:032x}", u128::from_le_bytes(random));
        let path = join(directory, &name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let create = || {
            let make = |(subject, errno): (String, Errno)| self.error(&subject, errno);
            self.directories.make(&self.root, directory).map_err(make)?;
            let mode = Mode::RUSR | Mode::WUSR;
            Ok(retry_on_intr(|| rustix::fs::openat(&self.root, path.as_str(), flags, mode)))
        };
        let opened = match create()? {
            Err(Errno::NOENT) => {
                // Somebody removed a directory that we took to exist.
                self.directories.forget(directory);
                create()?
            }
            opened => opened,
        };
        let file = opened.map_err(|errno| self.error(&path, errno))?;
        Ok((File::from(file), path))
    }

    /// Writes, syncs and names the object. On error its name is not made.
    fn fill_and_name(&self, file: &File, temporary: &str, key: &Key, body: &[&[u8]]) -> io::Result<()> {
        write_parts(file, body)?;
        // One try, not even again on EINTR: see the head of this file.
        (self.sync)(file.as_fd())?;
        if body.iter().map(|part| part.len()).sum::<usize>() > CACHED_BYTES_MAX {
            // Advice only: where it isn't taken, nothing is lost.
            let _ = fadvise(file, 0, None, Advice::DontNeed);
        }
        name_if_free(&self.root, temporary, key.as_str())?;
        Ok(())
    }

    /// A name was removed from `directory`. Below the first level it goes too if it is empty, for there are as many
    /// such directories as there ever were sessions, and every listing looks into each.
    fn leave(&self, directory: &str) {
        let above = parent(directory);
        let gone =
            !above.is_empty() && rustix::fs::unlinkat(&self.root, directory, AtFlags::REMOVEDIR).is_ok();
        if gone {
            self.directories.forget(directory);
        }
        self.directories.mark_dirty(if gone { above } else { directory });
    }

    fn open_object(&self, key: &Key) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.root, key.as_str(), flags, Mode::empty());
        let file = match retry_on_intr(open) {
            Ok(file) => File::from(file),
            Err(errno) if is_absent(errno) => return Err(self.not_found(key)),
            Err(errno) => return Err(self.error(key.as_str(), errno)),
        };
        let metadata = file.metadata().map_err(|error| self.error(key.as_str(), error))?;
        if !metadata.is_file() {
            return Err(self.not_found(key));
        }
        self.directories.meet(parent(key.as_str()));
        Ok(file)
    }

    /// As [`LocalStorage::open_object`], from the files still open where possible.
    fn open_object_for_ranges(&self, key: &Key) -> Result<Arc<File>> {
        match self.open_files.find(key) {
            Ok(file) => Ok(file),
            Err(removals_count) => {
                let file = Arc::new(self.open_object(key)?);
                self.open_files.keep(key, &file, removals_count);
                Ok(file)
            }
        }
    }

    fn read(&self, key: &Key, file: &File, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        let (start, length_bytes) = self.measure(key, file, range)?;
        read_exact_at(file, start, length_bytes).map_err(|error| self.error(key.as_str(), error))
    }

    /// Where `range` begins and how long it is, if it lies inside the file.
    fn measure(&self, key: &Key, file: &File, range: Option<Range<u64>>) -> Result<(u64, usize)> {
        // Measured each time, not once when opened: damage from outside may have cut the file since.
        let metadata = file.metadata().map_err(|error| self.error(key.as_str(), error))?;
        let range = range.unwrap_or(0..metadata.len());
        Ok((range.start, range_bytes(&range, metadata.len(), || self.subject(key.as_str()))?))
    }

    fn not_found(&self, key: &Key) -> Error {
        Error::new(ErrorKind::NotFound, self.subject(key.as_str()))
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()> {
        // Asked first to spare the writing; what decides is the naming.
        self.check_name_free(key)?;
        let directory = parent(key.as_str());
        let (file, temporary) = self.create_temporary(directory)?;
        match self.fill_and_name(&file, &temporary, key, body) {
            Ok(()) => {
                self.directories.mark_dirty(directory);
                Ok(())
            }
            Err(error) => {
                // If even this fails, it is left for `remove_stale_temporaries`: the first error matters more.
                let _ = rustix::fs::unlinkat(&self.root, temporary.as_str(), AtFlags::empty());
                if error.kind() == io::ErrorKind::AlreadyExists {
                    self.check_name_free(key)?;
                }
                Err(self.error(key.as_str(), error))
            }
        }
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        // Whole objects are read once: keeping their files open would push out those read by ranges.
        match range {
            None => self.read(key, &self.open_object(key)?, None),
            Some(range) => self.read(key, &*self.open_object_for_ranges(key)?, Some(range)),
        }
    }

    fn get_into(&self, key: &Key, start: u64, out: &mut [u8]) -> Result<()> {
        let file = self.open_object_for_ranges(key)?;
        self.measure(key, &file, Some(start..start.saturating_add(out.len() as u64)))?;
        read_exact_into(&file, start, out).map_err(|error| self.error(key.as_str(), error))
    }

    fn will_read(&self, key: &Key, range: Range<u64>) {
        let len = NonZeroU64::new(range.end.saturating_sub(range.start));
        if let (Ok(file), Some(len)) = (self.open_object_for_ranges(key), len) {
            let _ = fadvise(&*file, range.start, Some(len), Advice::WillNeed);
        }
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        let Some(stat) = self.stat(key, AtFlags::empty())? else { return Ok(None) };
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(None);
        }
        self.directories.meet(parent(key.as_str()));
        Ok(Some(size_bytes(&stat)))
    }

    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        let wanted = |path: &str, _: &str| Key::new(path).is_ok();
        let mut each = |found: FoundFile<'_>| {
            self.directories.meet(parent(found.path));
            each(ObjectMeta { key: Key::new(found.path)?, size_bytes: size_bytes(found.stat) })
        };
        let error = |path: &str, errno| self.error(path, errno);
        let mut visitor = Visitor { wanted: &wanted, each: &mut each, error: &error };
        walk(&self.root, prefix.as_str(), &mut visitor)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let result = rustix::fs::unlinkat(&self.root, key.as_str(), AtFlags::empty());
        self.open_files.remove(key);
        match result {
            Ok(()) => self.leave(parent(key.as_str())),
            // Whoever removed it may have died before syncing. A directory is no object.
            Err(Errno::NOENT | Errno::ISDIR) => self.directories.mark_dirty(parent(key.as_str())),
            Err(Errno::NOTDIR) => {}
            Err(errno) => return Err(self.error(key.as_str(), errno)),
        }
        Ok(())
    }

    fn remove_leftovers(&self, age: Duration) -> Result<u64> {
        self.remove_stale_temporaries(age)
    }

    fn flush(&self) -> Result<()> {
        let flushed = self.directories.flush(&self.root, self.sync);
        flushed.map_err(|(directory, errno)| self.error(&directory, errno))
    }
}

fn fsync(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fsync(file)
}

fn path_error(path: &Path, errno: Errno) -> Error {
    Error::io(path.display().to_string(), errno.into())
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty()))
}

/// Makes `path` and those above it that are missing, and syncs every directory that got a new name.
fn make_directory_durable(path: &Path, sync: SyncFn) -> Result<()> {
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        // The root of the file system, or the empty path, which opening it will refuse.
        None => return Ok(()),
    };
    let make = || rustix::fs::mkdirat(CWD, path, Mode::RWXU);
    let made = match make() {
        Err(Errno::NOENT) => {
            make_directory_durable(above, sync)?;
            make()
        }
        made => made,
    };
    match made {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(path_error(path, errno)),
    }
    let synced = open_directory(above).and_then(|directory| sync_names(directory.as_fd(), sync));
    synced.map_err(|errno| path_error(above, errno))
}

/// Writes all parts, however few bytes the system takes at a time.
fn write_parts(mut file: &File, body: &[&[u8]]) -> io::Result<()> {
    let mut parts: Vec<IoSlice<'_>> = body.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = parts.as_mut_slice();
    // Also drops empty parts in front, so that a write of nothing is never taken for a full disk.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written_bytes) => IoSlice::advance_slices(&mut rest, written_bytes),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Renames `temporary` to `name` unless that is taken; then the error is EEXIST and nothing has changed.
fn name_if_free(root: &OwnedFd, temporary: &str, name: &str) -> rustix::io::Result<()> {
    let rename = || rustix::fs::renameat_with(root, temporary, root, name, RenameFlags::NOREPLACE);
    match retry_on_intr(rename) {
        Err(Errno::INVAL | Errno::NOSYS) => link_if_free(root, temporary, name),
        result => result,
    }
}

/// As [`name_if_free`], where the file system cannot rename without replacing.
fn link_if_free(root: &OwnedFd, temporary: &str, name: &str) -> rustix::io::Result<()> {
    retry_on_intr(|| rustix::fs::linkat(root, temporary, root, name, AtFlags::empty()))?;
    // The object is there: a second name left over is only a stale temporary file.
    let _ = rustix::fs::unlinkat(root, temporary, AtFlags::empty());
    Ok(())
}

/// Reads exactly `length_bytes` from `start`. The file may have become shorter since it was measured:
/// that is `UnexpectedEof`.
fn read_exact_at(file: &File, start: u64, length_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length_bytes)?;
    while bytes.len() < length_bytes {
        let offset = start + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The allocator may give more room than asked for, and the read fills it.
    bytes.truncate(length_bytes);
    Ok(bytes)
}

/// As [`read_exact_at`], into `out`.
fn read_exact_into(file: &File, start: u64, out: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < out.len() {
        match rustix::io::pread(file, &mut out[filled..], start + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn size_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).expect("the size of a regular file is not negative")
}

/// When a file was last written. A time before 1970 counts as 1970.
fn modified(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests;
