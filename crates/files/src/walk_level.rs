//! One directory of a walk: which names in it are to be looked at, and what `lstat` says of them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::directory::{self, Entry};
use crate::file_stat::FileStat;
use crate::roots::Start;

/// Names that are asked for at once. Within them `lstat` goes by the number of the inode, in which order file systems have
/// them on disk.
const WINDOW_NAMES: usize = 256;

/// A name of a directory that is looked at next.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: Box<[u8]>,
    pub(crate) stat: io::Result<FileStat>,
}

/// One directory of a walk.
#[derive(Debug)]
pub(crate) struct WalkLevel {
    /// Relative to `/`.
    pub(crate) path: Vec<u8>,
    /// Roots below this directory.
    pub(crate) roots: Range<usize>,
    /// Whether all that is in it is walked, and not only the way to roots below.
    pub(crate) is_full: bool,
    /// The file system that is not left.
    pub(crate) device: Option<u64>,
    /// Names still to come, sorted, the last one first.
    names: Vec<Entry>,
    window: VecDeque<Step>,
}

impl WalkLevel {
    /// `names` in any order, each once.
    pub(crate) fn new(path: Vec<u8>, roots: Range<usize>, device: Option<u64>) -> Self {
        WalkLevel { path, roots, is_full: false, device, names: Vec::new(), window: VecDeque::new() }
    }

    /// Walks all of `names`, and those of the roots below.
    pub(crate) fn set_names(&mut self, mut names: Vec<Entry>, starts: &[Start]) {
        names.extend(self.root_names(starts));
        names.sort_unstable_by(|left, right| right.name.cmp(&left.name));
        names.dedup_by(|next, kept| next.name == kept.name);
        self.names = names;
    }

    /// First components of the roots below; the same may come again.
    fn root_names<'a>(&self, starts: &'a [Start]) -> impl Iterator<Item = Entry> + use<'a> {
        let skipped = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
        let mut last: &[u8] = b"";
        starts[self.roots.clone()].iter().filter_map(move |start| {
            let name = start.path[skipped..].split(|byte| *byte == b'/').next().unwrap_or_default();
            let is_new = name != last;
            last = name;
            is_new.then(|| Entry { name: name.into(), inode_hint: 0 })
        })
    }

    /// The next name. `directory` is this directory.
    pub(crate) fn next(&mut self, directory: &io::Result<impl AsFd>) -> Option<Step> {
        if self.window.is_empty() {
            self.fill(directory);
        }
        self.window.pop_front()
    }

    fn fill(&mut self, directory: &io::Result<impl AsFd>) {
        let begin = self.names.len().saturating_sub(WINDOW_NAMES);
        let names: Vec<Entry> = self.names.drain(begin..).rev().collect();
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_unstable_by_key(|index| names[*index].inode_hint);
        let mut stats: Vec<Option<io::Result<FileStat>>> = names.iter().map(|_| None).collect();
        for index in order {
            stats[index] = Some(match directory {
                Ok(directory) => directory::stat(directory, &names[index].name),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
        let steps = names.into_iter().zip(stats);
        self.window.extend(steps.filter_map(|(entry, stat)| Some(Step { name: entry.name, stat: stat? })));
    }

    /// The roots that are the path of a step or below it, and takes them from those that are still to come.
    pub(crate) fn take_roots(&mut self, path: &[u8], starts: &[Start]) -> Range<usize> {
        let is_at = |start: &Start| {
            start.path.strip_prefix(path).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        // Names come in the order of the roots; what lies before has been passed over as a whole.
        let before = starts[self.roots.clone()].iter().take_while(|start| {
            !is_at(start) && dbvault_format::file_table::compare_paths(&start.path, path).is_lt()
        });
        let begin = self.roots.start + before.count();
        let count = starts[begin..self.roots.end].iter().take_while(|start| is_at(start)).count();
        self.roots.start = begin + count;
        begin..begin + count
    }
}
