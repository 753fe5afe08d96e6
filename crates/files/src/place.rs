//! Makes files from records below a target, and nothing outside of it, whatever the records say.
//!
//! Every step goes from an open directory to one name in it, and follows no link. What is made gets a temporary name, and
//! is renamed when it is whole: what had the name is replaced, never written to.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dbvault_format::file_table::{DeviceNumber, FileKind, FileRecord, FileTime, compare_paths};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::fs::{chmodat, linkat, makedev, mkdirat, mknodat, openat, readlinkat, symlinkat, unlinkat};
use rustix::io::Errno;

use crate::directory_stack::DirectoryStack;
use crate::error::{Error, Problem, Result};
use crate::file_stat::FileStat;
use crate::file_writer::{FlightGuard, InFlight, PendingFile};
use crate::metadata::{Handle, Settings};
use crate::names::Names;
use crate::open_directory::{OpenDirectory, Writing};
use crate::patterns::Patterns;
use crate::{directory, flags, remove, temporary_name};

/// How far the times that a file system notes may lie behind the clock.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// Is told of what goes wrong with a file, from any thread.
pub type Report = Arc<dyn Fn(Problem) + Send + Sync>;

/// How files are put back.
#[derive(Clone, Debug)]
pub struct PlaceOptions {
    /// Owners by their numbers, even where their names are known here.
    pub numeric_ids: bool,
    /// Long stretches of zeros become holes, in files that were not sparse too.
    pub make_sparse: bool,
    /// Leaves files that are there already: of the same kind, size, mode, owner and time of change. Off: all are made anew.
    pub keep_right: bool,
    /// Removes what is in a restored directory and not in the archive, and directories with content that are in the way of
    /// something else. What the patterns leave out is in the archive. Records that are not given to [`Placer::place`] at all are not.
    pub delete_extra: bool,
    /// Components that are taken from the beginning of each path; a path that has no more is left out.
    pub strip_components: usize,
    /// Which paths of the archive are restored.
    pub patterns: Patterns,
}

impl Default for PlaceOptions {
    fn default() -> Self {
        PlaceOptions {
            numeric_ids: false,
            make_sparse: false,
            keep_right: true,
            delete_extra: false,
            strip_components: 0,
            patterns: Patterns::new(),
        }
    }
}

/// What all threads of a restore know.
pub(crate) struct Shared {
    pub(crate) options: PlaceOptions,
    pub(crate) settings: Settings,
    pub(crate) in_flight: InFlight,
    /// Files that changed since then were made by this restore.
    began: FileTime,
    /// Whether a directory came twice, after components were stripped: then nobody knows all its names.
    overlaps: AtomicBool,
}

impl Shared {
    pub(crate) fn tell(&self, problem: Problem) {
        (self.settings.report)(problem);
    }

    pub(crate) fn deletes(&self) -> bool {
        self.options.delete_extra && !self.overlaps.load(Ordering::Relaxed)
    }
}

/// What became of a record.
pub enum Placed {
    /// The patterns or the number of stripped components leave it out.
    NotSelected,
    /// It is there now; a directory gets its metadata later.
    Made,
    /// It was there already.
    Kept,
    /// A regular file, which is made when its content is given.
    Content(Box<PendingFile>),
    /// It is another name of a file that was not restored, or can't be linked to. The caller may give the record of
    /// that file with the path of this one in its place.
    NeedsOriginal,
    /// It could not be made, as was told to the report.
    Failed,
}

/// Makes files from the records of a table, given in its order, below a directory.
///
/// Directories, links and all other files without content are made at once. Regular files are handed out to be written by
/// any thread. A directory gets its mode and times when the last file in it is done.
pub struct Placer {
    shared: Arc<Shared>,
    root: Arc<OwnedFd>,
    stack: DirectoryStack<Arc<OpenDirectory>>,
    /// Path of the last record, and what was left of it.
    last: Option<(Vec<u8>, Vec<u8>)>,
}

impl Placer {
    /// Puts files below `target`, a directory that is there; links on the way to it are followed. Problems of single files
    /// go to `report`.
    ///
    /// # Errors
    /// The target can't be opened.
    pub fn new(target: &Path, options: PlaceOptions, report: Report) -> Result<Placer> {
        let failed = |source: io::Error| Error::Target { path: target.to_owned(), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(openat(CWD, target, flags, Mode::empty()).map_err(|error| failed(error.into()))?);
        let identity = directory::stat_open(&root).map_err(failed)?.identity();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // From here on whatever is made has a later time than all that is there.
        thread::sleep(CLOCK_STEP);
        let began = FileTime {
            seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: now.subsec_nanos(),
        };
        let is_root = rustix::process::geteuid().is_root();
        let settings =
            Settings { names: Names::default(), numeric_ids: options.numeric_ids, is_root, report };
        let (in_flight, overlaps) = (InFlight::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { options, settings, in_flight, began, overlaps });
        let mut stack = DirectoryStack::new();
        stack.push(Arc::clone(&root), identity, OpenDirectory::new(Vec::new(), None, Arc::clone(&shared)));
        Ok(Placer { shared, root, stack, last: None })
    }

    /// Makes what a record says, or hands out the file to be written. Waits for a file that is being written where the
    /// record is another name of it: so a thread that places must not hold a [`PendingFile`] or [`crate::FileWriter`] that
    /// nobody else finishes.
    ///
    /// A record that is bad, or not behind the one before it in the order of a table, is refused.
    pub fn place(&mut self, record: &FileRecord) -> Placed {
        let placed = self.try_place(record);
        placed.unwrap_or_else(|problem| {
            self.shared.tell(problem);
            Placed::Failed
        })
    }

    /// Whether the file of this record is there as [`PlaceOptions::keep_right`] asks. Changes nothing.
    pub fn is_already_right(&self, record: &FileRecord) -> bool {
        if record.validate().is_err() {
            return false;
        }
        let Some(path) = self.strip(&record.path) else { return false };
        let found =
            self.around(path).and_then(|(around, name)| Ok((directory::stat(&around, name)?, around)));
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        found.is_ok_and(|(stat, around)| self.is_right(&around, name, &stat, record))
    }

    /// Ends the restore: directories get their metadata, those in which files are still being written when these are done.
    pub fn finish(mut self) {
        self.leave_to(None);
    }

    fn try_place(&mut self, record: &FileRecord) -> Result<Placed, Problem> {
        let full = record.path.as_slice();
        record.validate().map_err(|error| Problem::new(full, "restore", io::Error::other(error)))?;
        let is_behind = self.last.as_ref().is_none_or(|(last, _)| compare_paths(last, full).is_lt());
        if !is_behind {
            return Err(Problem::found(full, "restore", "it comes out of order"));
        }
        let Some(path) = self.strip(full).map(<[u8]>::to_vec) else { return Ok(Placed::NotSelected) };
        if self.last.as_ref().is_some_and(|(_, last)| compare_paths(last, &path).is_ge()) {
            self.shared.overlaps.store(true, Ordering::Relaxed);
        }
        let (parent, name) = split(&path);
        self.leave_to(Some(parent));
        if let Some(around) = self.stack.last().filter(|around| around.path == parent && !path.is_empty()) {
            around.note(name);
        }
        let placed = if self.shared.options.patterns.takes(full) {
            self.enter(parent).and_then(|()| self.make(record, &path, name))
        } else {
            Ok(Placed::NotSelected)
        };
        if !matches!(placed, Ok(Placed::NeedsOriginal)) {
            self.last = Some((full.to_vec(), path));
        }
        placed
    }

    /// What is left of a path; `None` where that is nothing.
    fn strip<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let count = self.shared.options.strip_components;
        if count == 0 {
            return Some(path);
        }
        let mut rest = path;
        for _ in 0..count {
            rest = &rest[rest.iter().position(|byte| *byte == b'/')? + 1..];
        }
        Some(rest)
    }

    /// Leaves the directories that `parent` is not in; `None`: all.
    fn leave_to(&mut self, parent: Option<&[u8]>) {
        let is_around = |outer: &[u8], parent: &[u8]| {
            outer.is_empty()
                || parent.strip_prefix(outer).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        while let Some(innermost) = self.stack.last() {
            if parent.is_some_and(|parent| is_around(&innermost.path, parent)) {
                return;
            }
            let fd = self.stack.fd().map(Arc::clone);
            let Some(left) = self.stack.pop() else { return };
            match fd {
                Ok(fd) => left.leave(fd),
                Err(error) => self.shared.tell(Problem::new(&left.path, "finish", error)),
            }
        }
    }

    /// Goes into the directories to `parent`; makes those of which the archive said nothing.
    fn enter(&mut self, parent: &[u8]) -> Result<(), Problem> {
        loop {
            let at = self.stack.last().map_or(0, |directory| directory.path.len());
            if at == parent.len() {
                return Ok(());
            }
            let begin = if at == 0 { 0 } else { at + 1 };
            let length = parent[begin..].iter().position(|byte| *byte == b'/');
            let path = &parent[..length.map_or(parent.len(), |length| begin + length)];
            let around = self.fd(path)?;
            let name = &path[begin..];
            match mkdirat(&around, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Problem::new(path, "make", error)),
            }
            self.push(&around, name, path, None)?;
        }
    }

    fn fd(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Problem> {
        self.stack.fd().map(Arc::clone).map_err(|error| Problem::new(path, "restore", error))
    }

    /// Opens a directory that is there: a link in its place is refused by the system.
    fn push(
        &mut self,
        around: &OwnedFd,
        name: &[u8],
        path: &[u8],
        record: Option<&FileRecord>,
    ) -> Result<(), Problem> {
        let open = || {
            let fd = directory::open(around, name)?;
            let identity = directory::stat_open(&fd)?.identity();
            io::Result::Ok((fd, identity))
        };
        let (fd, identity) = open().map_err(|error| Problem::new(path, "go into", error))?;
        if record.is_some() {
            flags::permit_changes(&fd);
        }
        let directory = OpenDirectory::new(path.to_vec(), record.cloned(), Arc::clone(&self.shared));
        self.stack.push(Arc::new(fd), identity, directory);
        Ok(())
    }

    fn make(&mut self, record: &FileRecord, path: &[u8], name: &[u8]) -> Result<Placed, Problem> {
        if path.is_empty() {
            if let Some(root) = self.stack.last() {
                root.set_record(record.clone());
            }
            return Ok(Placed::Made);
        }
        let around = self.fd(path)?;
        let there = match directory::stat(&around, name) {
            Ok(stat) => Some(stat),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Problem::new(path, "look at", error)),
        };
        if record.kind == FileKind::Directory {
            self.make_directory(&around, record, path, there)?;
            return Ok(Placed::Made);
        }
        if let Some(original) = &record.same_as {
            return self.link(&around, record, path, original, there);
        }
        if self.shared.options.keep_right
            && there.is_some_and(|stat| self.is_right(&around, name, &stat, record))
        {
            self.keep(&around, record, path, name);
            return Ok(Placed::Kept);
        }
        if record.kind == FileKind::Regular {
            return Ok(self
                .pending(around, record, path, name)
                .map_or(Placed::Failed, |file| Placed::Content(Box::new(file))));
        }
        self.make_special(&around, record, path, name)?;
        Ok(Placed::Made)
    }

    fn pending(
        &self,
        around: Arc<OwnedFd>,
        record: &FileRecord,
        path: &[u8],
        name: &[u8],
    ) -> Option<PendingFile> {
        let writing = Writing::new(self.stack.last()?);
        Some(PendingFile {
            shared: Arc::clone(&self.shared),
            directory: around,
            name: name.to_vec(),
            path: path.to_vec(),
            record: record.clone(),
            _in_flight: FlightGuard::new(&self.shared, path),
            _writing: writing,
        })
    }

    /// Makes a directory, or takes the one that is there; anything else of its name is removed. Until it is left, only its
    /// owner can use a new one.
    fn make_directory(
        &mut self,
        around: &Arc<OwnedFd>,
        record: &FileRecord,
        path: &[u8],
        there: Option<FileStat>,
    ) -> Result<(), Problem> {
        let (_, name) = split(path);
        let failed = |error: io::Error| Problem::new(path, "make", error);
        match there {
            Some(stat) if stat.kind == FileKind::Directory => {
                if !self.shared.settings.is_root && stat.mode & 0o700 != 0o700 {
                    let fd = directory::open_to_pass(around, name).map_err(failed)?;
                    let mode = Mode::from_raw_mode((stat.mode | 0o700).into());
                    // Where it is not permitted, going into it tells why.
                    let _ = chmodat(CWD, directory::proc_path(&fd), mode, AtFlags::empty());
                }
            }
            other => {
                if other.is_some() {
                    remove::file(around, name).map_err(|error| Problem::new(path, "replace", error))?;
                }
                mkdirat(around, name, Mode::RWXU).map_err(|error| failed(error.into()))?;
            }
        }
        self.push(around, name, path, Some(record))
    }

    /// Whether what is there can be left.
    fn is_right(&self, around: &OwnedFd, name: &[u8], stat: &FileStat, record: &FileRecord) -> bool {
        let target = || readlinkat(around, name, Vec::new()).map(std::ffi::CString::into_bytes).ok();
        looks_like(stat, record)
            && (stat.uid, stat.gid) == self.owner_here(record, stat)
            && stat.device_number == record.device
            && (record.kind != FileKind::Symlink
                || target() == record.target.as_ref().map(|target| target.to_vec()))
    }

    /// Whom it is to belong to; without being root, to whom it does.
    fn owner_here(&self, record: &FileRecord, stat: &FileStat) -> (u32, u32) {
        if self.shared.settings.is_root { self.shared.settings.owner(record) } else { (stat.uid, stat.gid) }
    }

    /// A file that is kept lacks its flags where a restore was killed just before it set them.
    fn keep(&self, around: &OwnedFd, record: &FileRecord, path: &[u8], name: &[u8]) {
        if record.kind == FileKind::Regular && flags::is_any(record.flags) {
            match directory::open_quietly(around, name, OFlags::RDONLY | OFlags::NONBLOCK) {
                Ok(file) => self.shared.settings.apply_flags(&file, record, path),
                Err(error) => self.shared.tell(Problem::new(path, "set the flags of", error)),
            }
        }
    }

    /// Makes a symbolic link, FIFO, device or socket under a temporary name, and puts it in place.
    fn make_special(
        &self,
        around: &Arc<OwnedFd>,
        record: &FileRecord,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), Problem> {
        let failed = |error: io::Error| Problem::new(path, "make", error);
        let temporary = temporary(path, |temporary| make_node(around, temporary, record))?;
        let made = || -> io::Result<()> {
            let fd = directory::open_as_path(around, &temporary)?;
            let stat = directory::stat_open(&fd)?;
            let own = rustix::process::geteuid().as_raw();
            // Somebody who may write here could have put something else under the name: a file of root's to be given away.
            if stat.kind != record.kind || stat.links != 1 || stat.uid != own {
                return Err(io::Error::other("it was replaced meanwhile"));
            }
            self.shared.settings.apply(Handle::path(&fd), record, path);
            remove::put_in_place(around, &temporary, name, self.shared.options.delete_extra)
        };
        made().map_err(|error| {
            let _ = unlinkat(around, &temporary, AtFlags::empty());
            failed(error)
        })
    }

    /// Gives a file that was restored another name.
    fn link(
        &self,
        around: &Arc<OwnedFd>,
        record: &FileRecord,
        path: &[u8],
        original: &[u8],
        there: Option<FileStat>,
    ) -> Result<Placed, Problem> {
        if !self.shared.options.patterns.takes(original) {
            return Ok(Placed::NeedsOriginal);
        }
        let Some(original) = self.strip(original) else { return Ok(Placed::NeedsOriginal) };
        self.shared.in_flight.wait_for(original);
        let failed = |error: io::Error| Problem::new(path, "link", error);
        let (from, from_name) = match self.around(original) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Placed::NeedsOriginal),
            other => other.map_err(failed)?,
        };
        let stat = match directory::stat(&from, from_name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Placed::NeedsOriginal),
            other => other.map_err(failed)?,
        };
        // Made by this restore, or by one before it: nothing else below the target gets another name.
        let is_ours = stat.changed >= self.shared.began || looks_like(&stat, record);
        if stat.kind != record.kind || !is_ours {
            return Err(Problem::found(
                path,
                "link",
                "what has the other name is not the file of the archive",
            ));
        }
        if there.is_some_and(|there| there.identity() == stat.identity()) {
            return Ok(Placed::Kept);
        }
        self.link_to(&from, from_name, around, path, &stat)
    }

    /// Gives a file another name, even where its flags forbid that: they are taken from it until it has the name.
    fn link_to(
        &self,
        from: &OwnedFd,
        from_name: &[u8],
        around: &Arc<OwnedFd>,
        path: &[u8],
        stat: &FileStat,
    ) -> Result<Placed, Problem> {
        let link =
            || temporary(path, |temporary| linkat(from, from_name, around, temporary, AtFlags::empty()));
        let (mut linked, mut locked) = (link(), None);
        if linked.as_ref().is_err_and(|problem| problem.source.kind() == io::ErrorKind::PermissionDenied) {
            locked = unlocked(from, from_name, stat);
            if locked.is_some() {
                linked = link();
            }
        }
        let placed = match linked {
            Ok(temporary) => self.put_link(around, &temporary, path, stat).map(|()| Placed::Made),
            Err(problem) if is_no_link(&problem.source) => Ok(Placed::NeedsOriginal),
            Err(problem) => Err(problem),
        };
        if let Some((file, before)) = locked
            && let Err(error) = flags::set(&file, before)
        {
            self.shared.tell(Problem::new(path, "set the flags of", error));
        }
        placed
    }

    /// Puts a new name in place, if it is one of the file that it should be.
    fn put_link(
        &self,
        around: &Arc<OwnedFd>,
        temporary: &[u8],
        path: &[u8],
        stat: &FileStat,
    ) -> Result<(), Problem> {
        let is_same = directory::stat(around, temporary).is_ok_and(|made| made.identity() == stat.identity());
        let placed = if is_same {
            remove::put_in_place(around, temporary, split(path).1, self.shared.options.delete_extra)
        } else {
            Err(io::Error::other("the file was replaced meanwhile"))
        };
        placed.map_err(|error| {
            let _ = unlinkat(around, temporary, AtFlags::empty());
            Problem::new(path, "link", error)
        })
    }

    /// The directory around a path below the target, and the name in it, without following a link.
    fn around<'a>(&self, path: &'a [u8]) -> io::Result<(Arc<OwnedFd>, &'a [u8])> {
        let (parent, name) = split(path);
        let mut directory = Arc::clone(&self.root);
        for component in parent.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            directory = Arc::new(directory::open_to_pass(&directory, component)?);
        }
        Ok((directory, if name.is_empty() { b"." } else { name }))
    }
}

/// Whether a file has the kind, size, mode and time of a record. The mode of a symbolic link says nothing.
fn looks_like(stat: &FileStat, record: &FileRecord) -> bool {
    stat.kind == record.kind
        && stat.size_bytes == record.size_bytes
        && stat.modified == record.modified
        && (stat.mode == record.mode || record.kind == FileKind::Symlink)
}

/// A path as the directory and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Makes something under a temporary name, and gives the name.
fn temporary(path: &[u8], make: impl Fn(&[u8]) -> Result<(), Errno>) -> Result<Vec<u8>, Problem> {
    for _ in 0..temporary_name::TRIES_MAX {
        let name = temporary_name::choose(path)?;
        match make(&name) {
            Ok(()) => return Ok(name),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Problem::new(path, "make", error)),
        }
    }
    Err(Problem::new(path, "make", Errno::EXIST))
}

fn make_node(around: &OwnedFd, name: &[u8], record: &FileRecord) -> Result<(), Errno> {
    let kind = match record.kind {
        FileKind::Symlink => {
            let target = record.target.as_ref().map(|target| target.as_slice()).unwrap_or_default();
            return symlinkat(target, around, name);
        }
        FileKind::Fifo => FileType::Fifo,
        FileKind::CharacterDevice => FileType::CharacterDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Socket => FileType::Socket,
        FileKind::Regular | FileKind::Directory => return Err(Errno::INVAL),
    };
    let number = record.device.unwrap_or(DeviceNumber { major: 0, minor: 0 });
    mknodat(around, name, kind, Mode::RUSR | Mode::WUSR, makedev(number.major, number.minor))
}

/// Takes the flags from a regular file that forbid to give it a name; gives the file with all the flags it had, or `None`
/// where there were none.
fn unlocked(around: &OwnedFd, name: &[u8], stat: &FileStat) -> Option<(OwnedFd, u32)> {
    if stat.kind != FileKind::Regular {
        return None;
    }
    let file = directory::open_quietly(around, name, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let is_same = directory::stat_open(&file).is_ok_and(|open| open.identity() == stat.identity());
    let before = flags::read(&file);
    (is_same && flags::permit_changes(&file)).then_some((file, before))
}

/// Whether the file can't have another name there at all.
fn is_no_link(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks)
}
