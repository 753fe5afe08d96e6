//! Snapshots of file systems, so that files are read as they were at one moment.
//!
//! A Btrfs subvolume, a ZFS dataset or a logical volume that holds what is to be read gets a read-only snapshot. [`take`]
//! tells where each is read instead: who walks the tree goes there, and the paths stay. What has no snapshot is read as it
//! is. All are dropped with [`Snapshots`], and those of a run that was killed by the next run.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::process::Program;
use crate::snapshot_btrfs::{self, BtrfsOptions};
use crate::snapshot_lvm::{self, LvmOptions};
use crate::snapshot_mounts::{Mount, Mounts};
use crate::snapshot_place;
use crate::snapshot_zfs::{self, ZfsOptions};
use crate::{Error, Result};

/// Debian packages of the programs.
const PACKAGES: [(&str, &str); 7] = [
    ("btrfs", "btrfs-progs"),
    ("zfs", "zfsutils-linux"),
    ("lvs", "lvm2"),
    ("lvcreate", "lvm2"),
    ("lvremove", "lvm2"),
    ("mount", "mount"),
    ("umount", "mount"),
];

/// Which snapshots are taken, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Of Btrfs subvolumes.
    pub btrfs: Option<BtrfsOptions>,
    /// Of ZFS datasets.
    pub zfs: Option<ZfsOptions>,
    /// Of logical volumes.
    pub lvm: Option<LvmOptions>,
    /// What can't be had is no error, but a note.
    pub where_possible: bool,
}

impl SnapshotOptions {
    /// All kinds, where they can be had.
    pub fn auto() -> SnapshotOptions {
        SnapshotOptions {
            btrfs: Some(BtrfsOptions::default()),
            zfs: Some(ZfsOptions::default()),
            lvm: Some(LvmOptions::default()),
            where_possible: true,
        }
    }

    /// True where no snapshot is to be taken.
    pub fn is_none(&self) -> bool {
        self.btrfs.is_none() && self.zfs.is_none() && self.lvm.is_none()
    }
}

/// What is going to be read.
pub struct Wanted<'a> {
    /// Absolute paths without links in the directories around them, and whether all that is below is read too.
    pub paths: Vec<(PathBuf, bool)>,
    /// Whether what is mounted below them is not read.
    pub one_file_system: bool,
    /// Whether a directory will not be looked into.
    pub is_left_out: &'a dyn Fn(&Path) -> bool,
}

impl std::fmt::Debug for Wanted<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Wanted").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Wanted<'_> {
    /// Whether something of `directory` is read, which is a place where a file system, or a part of one, begins.
    pub(crate) fn reaches(&self, directory: &Path) -> bool {
        let below = |path: &Path| {
            let inside = |one: &&Path| one.starts_with(path) && *one != path;
            !directory.ancestors().take_while(inside).any(|one| (self.is_left_out)(one))
        };
        self.paths.iter().any(|(path, recursive)| {
            *recursive && !self.one_file_system && directory.starts_with(path) && below(path)
        })
    }
}

/// A directory that is read elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotView {
    /// Where it is: an absolute path.
    pub path: PathBuf,
    /// Where it is read.
    pub place: PathBuf,
}

/// What a kind of snapshots gives.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// What is read in a snapshot.
    pub(crate) views: Vec<SnapshotView>,
    /// What begins below these and has no snapshot, so that it is read as it is: in the snapshot around it there is nothing.
    pub(crate) live: Vec<PathBuf>,
    /// How to drop them, in this order.
    pub(crate) undo: Vec<Undo>,
    /// What is not read in a snapshot, and why.
    pub(crate) notes: Vec<String>,
}

/// Takes the snapshots of one kind.
type Take<'a> = dyn Fn(&mut Taken) -> Result<()> + 'a;

/// A step of dropping a snapshot.
#[derive(Debug)]
pub(crate) enum Undo {
    /// A program is run.
    Run(Vec<String>),
    /// Snapshots of these names are deleted, of the Btrfs that is seen at `place`.
    Subvolumes { options: BtrfsOptions, place: PathBuf, names: Vec<String> },
    /// An empty directory is removed.
    Directory(PathBuf),
}

/// Snapshots that are there; they are dropped with this value.
#[derive(Debug)]
pub struct Snapshots {
    /// Where to read what, the outermost first. What is below one of them is read there too, but for what is below another.
    pub views: Vec<SnapshotView>,
    /// How many snapshots there are.
    pub count: usize,
    /// What is read as it is although it was asked for otherwise, and other things that people should know.
    pub notes: Vec<String>,
    undo: Vec<Undo>,
}

/// Takes snapshots of all that holds `wanted`.
///
/// # Errors
/// A program is missing or fails, unless the options say that this does not matter; nothing is left then.
pub fn take(options: &SnapshotOptions, wanted: &Wanted<'_>) -> Result<Snapshots> {
    take_of(&Mounts::read()?, options, wanted)
}

/// As [`take`], with what is mounted.
pub(crate) fn take_of(mounts: &Mounts, options: &SnapshotOptions, wanted: &Wanted<'_>) -> Result<Snapshots> {
    let mut snapshots = Snapshots { views: Vec::new(), count: 0, notes: Vec::new(), undo: Vec::new() };
    let concerned = concerned(mounts, wanted);
    let mut live: BTreeSet<PathBuf> = BTreeSet::new();
    let btrfs = |taken: &mut Taken| match &options.btrfs {
        Some(btrfs) => snapshot_btrfs::take(btrfs, mounts, &concerned, wanted, taken),
        None => Ok(()),
    };
    let zfs = |taken: &mut Taken| match &options.zfs {
        Some(zfs) => snapshot_zfs::take(zfs, mounts, &concerned, taken),
        None => Ok(()),
    };
    let lvm = |taken: &mut Taken| match &options.lvm {
        Some(lvm) => snapshot_lvm::take(lvm, mounts, &concerned, options.where_possible, taken),
        None => Ok(()),
    };
    let kinds: [&Take<'_>; 3] = [&btrfs, &zfs, &lvm];
    for kind in kinds {
        let mut taken = Taken::default();
        let done = kind(&mut taken);
        // Whatever is there is dropped with `snapshots`, also where the rest failed.
        snapshots.undo.splice(0..0, taken.undo);
        match done {
            Ok(()) => {
                snapshots.views.extend(taken.views);
                snapshots.notes.extend(taken.notes);
                live.extend(taken.live);
            }
            Err(error) if options.where_possible => {
                snapshots.notes.push(format!("read without a snapshot: {}", words_of(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    snapshots.count = snapshots.views.len();
    snapshots.add_live(mounts, live);
    Ok(snapshots)
}

/// What holds a path that is read, and what is mounted below one.
fn concerned<'a>(mounts: &'a Mounts, wanted: &Wanted<'_>) -> Vec<&'a Mount> {
    let holders: BTreeSet<u64> =
        wanted.paths.iter().filter_map(|(path, _)| Some(mounts.holder(path)?.id)).collect();
    let is_concerned = |mount: &&Mount| {
        holders.contains(&mount.id) || mounts.is_visible(mount) && wanted.reaches(&mount.place)
    };
    mounts.all().iter().filter(is_concerned).collect()
}

impl Snapshots {
    /// What begins below a snapshot and has none is read as it is.
    fn add_live(&mut self, mounts: &Mounts, mut live: BTreeSet<PathBuf>) {
        live.extend(
            mounts.all().iter().filter(|mount| mounts.is_visible(mount)).map(|mount| mount.place.clone()),
        );
        let views = &self.views;
        live.retain(|path| {
            let is_other = !views.iter().any(|view| view.path == *path);
            is_other && views.iter().any(|view| path.starts_with(&view.path)) && path.is_dir()
        });
        self.views.extend(live.into_iter().map(|path| SnapshotView { place: path.clone(), path }));
        self.views.sort();
    }

    /// Drops them. What can't be dropped, and why: the next run tries again.
    pub fn drop_all(mut self) -> Vec<String> {
        std::mem::take(&mut self.undo).into_iter().filter_map(|step| step.run().err()).collect()
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        for step in std::mem::take(&mut self.undo) {
            if let Err(problem) = step.run() {
                tracing::warn!("{problem}");
            }
        }
    }
}

impl Undo {
    fn run(self) -> Result<(), String> {
        match self {
            Undo::Run(words) => {
                let shown = words.join(" ");
                run(&words).map(drop).map_err(|error| format!("{shown}: {}", words_of(&error)))
            }
            Undo::Subvolumes { options, place, names } => {
                snapshot_btrfs::delete(&options, &place, &names).map_err(|error| words_of(&error))
            }
            Undo::Directory(path) => snapshot_place::remove(&path)
                .map_err(|error| format!("cannot remove {}: {error}", path.display())),
        }
    }
}

/// Runs a program with its arguments; what it said. Deaf to interrupts, as half a snapshot helps nobody: who is stopped has
/// to look afterwards.
pub(crate) fn run(words: &[String]) -> Result<Vec<u8>> {
    let Some((name, args)) = words.split_first() else {
        let source = io::Error::other("it has no words");
        return Err(Error::Io { what: "run a command".into(), source });
    };
    let mut program = Program::new(name).args(args).env("LC_ALL", "C");
    let package = PACKAGES.iter().find(|(known, _)| known == name);
    if let Some((_, package)) = package {
        program = program.package(package);
    }
    program.run_captured()?.into_success()
}

/// An error with its causes, and the last that a program said.
fn words_of(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    if let Error::ProgramFailed { stderr, .. } = error
        && let Some(line) = stderr.trim_end().lines().next_back()
    {
        text += &format!(": {line}");
    }
    text
}

/// The words of a command, one behind the other.
pub(crate) fn words<'a>(command: &[String], args: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    command.iter().cloned().chain(args.into_iter().map(str::to_owned)).collect()
}

/// A path as an argument.
///
/// # Errors
/// It is no text.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Io {
        what: format!("take a snapshot at {}", path.display()),
        source: io::Error::other("its path is not UTF-8"),
    })
}
