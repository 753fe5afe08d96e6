//! Finds files in the order of a file table, without opening any but directories.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use dbvault_format::file_table::{FileKind, PATH_BYTES_MAX};
use rustix::fs::{CWD, Mode, OFlags};

use crate::directory::{self, Entry};
use crate::directory_stack::DirectoryStack;
use crate::error::{Error, Problem, Result};
use crate::file_stat::FileStat;
use crate::patterns::{Patterns, Verdict};
use crate::roots::{self, Root, Start};
use crate::walk_level::{Step, WalkLevel};

/// The name and the beginning of a file that marks a directory as a cache: <https://bford.info/cachedir/>.
const CACHE_TAG: (&[u8], &[u8]) = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");

/// What a walk leaves out.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// Patterns against paths relative to `/`.
    pub patterns: Patterns,
    /// Does not go into directories on another file system than the root that they are below of; they are there, empty. A
    /// root on another file system is walked all the same.
    pub one_file_system: bool,
    /// Of a directory with a `CACHEDIR.TAG` takes only itself and the tag.
    pub exclude_caches: bool,
    /// Of a directory that has a file of one of these names takes only itself and the files of these names.
    pub exclude_if_present: Vec<Vec<u8>>,
    /// Leaves out directories whose names begin so, whatever patterns say; empty: none.
    pub hidden_prefix: &'static str,
    /// Directories that are read elsewhere, such as in a snapshot, by their paths as in a record: relative to `/`, no link
    /// in them. What is below is read there too, but for what is below another of these. A directory that is not there in
    /// what is around it is not found.
    pub views: HashMap<Vec<u8>, PathBuf>,
}

/// A file that a walk found. It keeps the directory it is in open: don't collect them.
#[derive(Debug)]
pub struct FoundFile {
    /// Relative to `/`, raw bytes, as in a record.
    pub path: Vec<u8>,
    /// What `lstat` said when it was found.
    pub stat: FileStat,
    /// The directory it is in, or itself.
    pub(crate) directory: Arc<OwnedFd>,
    /// Whether `directory` is this file: so it is for `/`, and for what is read elsewhere.
    pub(crate) is_itself: bool,
}

impl FoundFile {
    /// Its name in its directory; `.` where that is itself.
    pub(crate) fn name(&self) -> &[u8] {
        match self.path.rsplit(|byte| *byte == b'/').next() {
            Some(name) if !self.is_itself => name,
            _ => b".",
        }
    }
}

/// Finds files in exactly the order of [`dbvault_format::file_table::compare_paths`]: `lstat` of each, and no more. What
/// can't be found is an error in its place, and the walk goes on.
///
/// - Roots that overlap are walked once. A root that is a symbolic link is that link; links around it are followed, so that
///   no path leads through a link.
/// - Directories around roots are found too, so that a restore can make them as they are, but not `/` itself, unless it is
///   a root. Patterns say nothing of them.
/// - A directory that can't be read is there, followed by an error of the same path.
/// - A path of more than 4,096 bytes is an error.
///
/// Memory: the names of the directories from `/` to where the walk is, each listed once, and the roots.
#[derive(Debug)]
pub struct Walk {
    options: WalkOptions,
    starts: Vec<Start>,
    levels: DirectoryStack<Level>,
    found: VecDeque<Result<FoundFile, Problem>>,
}

#[derive(Debug)]
struct Level {
    walk: WalkLevel,
    /// The directory itself where it is left out, until something below it is taken.
    owed: Option<FoundFile>,
}

impl Walk {
    /// # Errors
    /// The directory around a root is not there, or `/` can't be opened. A root itself that is not there is found so by the
    /// walk.
    pub fn new(roots: impl IntoIterator<Item = Root>, options: WalkOptions) -> Result<Walk> {
        let starts = roots::prepare(roots)?;
        let mut walk = Walk { options, starts, levels: DirectoryStack::new(), found: VecDeque::new() };
        if !walk.starts.is_empty() {
            walk.begin().map_err(|source| Error::Root { path: "/".into(), source })?;
        }
        Ok(walk)
    }

    fn begin(&mut self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = self.options.views.get(&b""[..]).cloned().unwrap_or_else(|| "/".into());
        let root = Arc::new(rustix::fs::openat(CWD, &place, flags, Mode::empty())?);
        let stat = directory::stat_open(&root)?;
        let all = self.starts.len();
        let is_root = self.starts.first().is_some_and(|start| start.path.is_empty());
        let file = FoundFile { path: Vec::new(), stat, directory: Arc::clone(&root), is_itself: true };
        let mut level = WalkLevel::new(Vec::new(), usize::from(is_root)..all, None);
        let mut names = Vec::new();
        let mut owed = None;
        if is_root && self.options.patterns.verdict(b"") == Verdict::Take {
            self.found.push_back(Ok(file));
        } else if is_root {
            owed = Some(file);
        }
        if is_root && self.starts[0].recursive {
            level.is_full = true;
            level.device = Some(stat.device);
            names = directory::list(&root)?;
        }
        level.set_names(names, &self.starts);
        self.levels.push(root, stat.identity(), Level { walk: level, owed });
        Ok(())
    }

    /// Looks at the next name; false where there is none.
    fn advance(&mut self) -> bool {
        let directory = self.levels.fd().cloned();
        let Some(level) = self.levels.last_mut() else { return false };
        let Some(step) = level.walk.next(&directory) else {
            self.levels.pop();
            return true;
        };
        let path = directory::join(&level.walk.path, &step.name);
        let below = level.walk.take_roots(&path, &self.starts);
        match directory {
            Ok(directory) => self.look_at(directory, step, path, below),
            Err(error) => self.found.push_back(Err(Problem::new(&path, "find", error))),
        }
        true
    }

    fn look_at(
        &mut self,
        around: Arc<OwnedFd>,
        step: Step,
        path: Vec<u8>,
        mut below: std::ops::Range<usize>,
    ) {
        let Some(level) = self.levels.last() else { return };
        let (is_full, device) = (level.walk.is_full, level.walk.device);
        let root = self.starts[below.clone()]
            .first()
            .filter(|start| *start.path == *path)
            .map(|start| start.recursive);
        below.start += usize::from(root.is_some());
        let is_inside = root.is_some() || is_full;
        let verdict = if is_inside { self.options.patterns.verdict(&path) } else { Verdict::Take };
        if verdict == Verdict::Skip && below.is_empty() {
            return;
        }
        let stat = match step.stat {
            _ if path.len() > PATH_BYTES_MAX => Err(io::Error::other("its path is longer than 4096 bytes")),
            other => other,
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(error) => {
                if verdict == Verdict::Take {
                    self.found.push_back(Err(Problem::new(&path, "find", error)));
                }
                return;
            }
        };
        let mut file = FoundFile { path, stat, directory: around, is_itself: false };
        if stat.kind != FileKind::Directory {
            if verdict == Verdict::Take {
                self.give(file);
            }
            return;
        }
        if self.is_hidden(&file) {
            return;
        }
        if let Err(error) = self.view(&mut file) {
            self.found.push_back(Err(Problem::new(&file.path, "find", error)));
            return;
        }
        let stat = file.stat;
        let crosses = self.options.one_file_system && device.is_some_and(|device| device != stat.device);
        let looks = verdict == Verdict::Take || self.options.patterns.looks_into(verdict);
        let enters = looks && (root == Some(true) || (is_full && !crosses));
        let device = if root == Some(true) { Some(stat.device) } else { device };
        let mut level = WalkLevel::new(file.path.clone(), below, device);
        level.is_full = enters;
        self.enter(file, verdict == Verdict::Take, level);
    }

    fn is_hidden(&self, file: &FoundFile) -> bool {
        let prefix = self.options.hidden_prefix;
        !prefix.is_empty() && file.name().starts_with(prefix.as_bytes())
    }

    /// Goes over to where a directory is read, if that is elsewhere.
    fn view(&mut self, file: &mut FoundFile) -> io::Result<()> {
        let Some(place) = self.options.views.get(&file.path) else { return Ok(()) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, place, flags, Mode::empty())?;
        file.stat = directory::stat_open(&directory)?;
        (file.directory, file.is_itself) = (Arc::new(directory), true);
        Ok(())
    }

    /// Takes a directory, or owes it, and goes into it where there is something to look at.
    fn enter(&mut self, file: FoundFile, is_taken: bool, mut level: WalkLevel) {
        let opened = if level.is_full {
            directory::open(&file.directory, file.name())
        } else if level.roots.is_empty() {
            if is_taken {
                self.give(file);
            }
            return;
        } else {
            directory::open_to_pass(&file.directory, file.name())
        };
        let listed = opened.and_then(|directory| {
            let stat = directory::stat_open(&directory)?;
            if stat.identity() != file.stat.identity() {
                return Err(io::Error::other("it was replaced meanwhile"));
            }
            let names = if level.is_full { directory::list(&directory)? } else { Vec::new() };
            let names = if level.is_full { self.untagged(&directory, names) } else { names };
            Ok((directory, names))
        });
        let (path, identity) = (file.path.clone(), file.stat.identity());
        if file.is_itself {
            self.levels.pin();
        }
        let mut owed = None;
        if is_taken {
            self.give(file);
        } else {
            owed = Some(file);
        }
        match listed {
            Ok((directory, names)) => {
                level.set_names(names, &self.starts);
                self.levels.push(Arc::new(directory), identity, Level { walk: level, owed });
            }
            Err(error) => self.found.push_back(Err(Problem::new(&path, "read", error))),
        }
    }

    /// The names of a directory that are walked: only the tags where there are any.
    fn untagged(&self, directory: &OwnedFd, names: Vec<Entry>) -> Vec<Entry> {
        let is_cache = self.options.exclude_caches
            && names.iter().any(|entry| *entry.name == *CACHE_TAG.0)
            && is_cache_tag(directory);
        let is_tag = |entry: &Entry| {
            is_cache && *entry.name == *CACHE_TAG.0
                || self.options.exclude_if_present.iter().any(|name| **name == *entry.name)
        };
        if names.iter().any(is_tag) { names.into_iter().filter(is_tag).collect() } else { names }
    }

    /// Gives a file, and before it the directories around it that were left out until now.
    fn give(&mut self, file: FoundFile) {
        for level in self.levels.values_mut() {
            if let Some(owed) = level.owed.take() {
                self.found.push_back(Ok(owed));
            }
        }
        self.found.push_back(Ok(file));
    }
}

impl Iterator for Walk {
    type Item = Result<FoundFile, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            if !self.advance() {
                return None;
            }
        }
    }
}

/// Whether a directory's `CACHEDIR.TAG` is a file that begins as it has to.
fn is_cache_tag(directory: &OwnedFd) -> bool {
    let (name, signature) = CACHE_TAG;
    let is_regular = directory::stat(directory, name).is_ok_and(|stat| stat.kind == FileKind::Regular);
    if !is_regular {
        return false;
    }
    let mut begin = vec![0; signature.len()];
    let opened = directory::open_quietly(directory, name, OFlags::RDONLY | OFlags::NONBLOCK);
    opened.is_ok_and(|file| {
        rustix::io::pread(file, &mut begin, 0).is_ok_and(|bytes| bytes == signature.len())
            && begin == signature
    })
}
