//! Snapshots of Btrfs subvolumes: each beside what is in the subvolume, in its root directory.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::snapshot::{SnapshotView, Taken, Undo, Wanted, run, text, words};
use crate::snapshot_mounts::{Mount, Mounts, seen_at};
use crate::snapshot_owner::{Owner, is_snapshot};

/// The inode of the root directory of every subvolume.
const ROOT_INODE: u64 = 256;
/// The number of the subvolume that is the file system itself, which no list has.
const TOP_NUMBER: u64 = 5;

/// How snapshots of Btrfs are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtrfsOptions {
    /// The words of the `btrfs` command.
    pub command: Vec<String>,
}

impl Default for BtrfsOptions {
    fn default() -> Self {
        BtrfsOptions { command: vec!["btrfs".into()] }
    }
}

/// A subvolume that is seen.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subvolume {
    place: PathBuf,
    /// It can't be changed, so it needs no snapshot.
    read_only: bool,
}

/// Takes snapshots of the subvolumes that hold what is wanted, the outer ones first: each is of one moment.
pub(crate) fn take(
    options: &BtrfsOptions,
    mounts: &Mounts,
    concerned: &[&Mount],
    wanted: &Wanted<'_>,
    taken: &mut Taken,
) -> Result<()> {
    let owner = Owner::this()?;
    for mount in concerned.iter().filter(|mount| mount.kind == "btrfs") {
        let subvolumes = subvolumes(options, mounts, mount, &owner)?;
        if !subvolumes.iter().any(|subvolume| subvolume.place == mount.place) {
            let place = mount.place.display();
            taken.notes.push(format!("{place} is a part of a subvolume, and is read without a snapshot"));
        }
        let paths = wanted.paths.iter().map(|(path, _)| path.as_path());
        let held = paths.filter(|path| mounts.holder(path).is_some_and(|holder| holder.id == mount.id));
        let holding: BTreeSet<&Path> = held.filter_map(|path| holding(&subvolumes, path)).collect();
        let mut names = Vec::new();
        let mut made = Ok(());
        for subvolume in &subvolumes {
            let is_wanted = holding.contains(&*subvolume.place) || wanted.reaches(&subvolume.place);
            if is_wanted && !subvolume.read_only && made.is_ok() {
                let name = owner.new_name();
                made = snapshot(options, &subvolume.place, &name).map(|view| taken.views.push(view));
                names.push(name);
            } else {
                taken.live.push(subvolume.place.clone());
            }
        }
        if !names.is_empty() {
            let (options, place) = (options.clone(), mount.place.clone());
            taken.undo.push(Undo::Subvolumes { options, place, names });
        }
        made?;
    }
    Ok(())
}

/// The innermost subvolume around a path.
fn holding<'a>(subvolumes: &'a [Subvolume], path: &Path) -> Option<&'a Path> {
    let around = subvolumes.iter().map(|subvolume| &*subvolume.place).filter(|place| path.starts_with(place));
    around.max_by_key(|place| place.as_os_str().len())
}

fn snapshot(options: &BtrfsOptions, subvolume: &Path, name: &str) -> Result<SnapshotView> {
    let place = subvolume.join(format!(".{name}"));
    run(&words(&options.command, ["subvolume", "snapshot", "-r", text(subvolume)?, text(&place)?]))?;
    Ok(SnapshotView { path: subvolume.to_owned(), place })
}

/// The subvolumes that are seen below a mount, the outer ones first, without those of other runs. Those that a run which
/// was killed has left are removed.
fn subvolumes(
    options: &BtrfsOptions,
    mounts: &Mounts,
    mount: &Mount,
    owner: &Owner,
) -> Result<Vec<Subvolume>> {
    let read_only = list(options, "-ar", &mount.place)?;
    let all = list(options, "-a", &mount.place)?;
    let mut found = Vec::new();
    for (number, inside) in std::iter::once((TOP_NUMBER, PathBuf::from("/"))).chain(all) {
        if let Some(name) = snapshot_name(&inside) {
            if owner.is_leftover(name) {
                delete_one(options, &mount.place, number)?;
            }
            continue;
        }
        let Some(place) = seen_at(mount, &inside) else { continue };
        let is_seen = mounts.holder(&place).is_some_and(|holder| holder.id == mount.id);
        if is_seen && fs::symlink_metadata(&place).is_ok_and(|found| found.ino() == ROOT_INODE) {
            let read_only = mount.read_only || read_only.iter().any(|(other, _)| *other == number);
            found.push(Subvolume { place, read_only });
        }
    }
    found.sort();
    Ok(found)
}

/// Number and path of each subvolume of a file system.
fn list(options: &BtrfsOptions, flags: &str, place: &Path) -> Result<Vec<(u64, PathBuf)>> {
    Ok(parse(&run(&words(&options.command, ["subvolume", "list", flags, text(place)?]))?))
}

/// `ID 256 gen 7 top level 5 path <FS_TREE>/a/b`: the path is one from the top of the file system.
fn parse(list: &[u8]) -> Vec<(u64, PathBuf)> {
    let row = |line: &str| {
        let (head, path) = line.split_once(" path ")?;
        let number = head.strip_prefix("ID ")?.split(' ').next()?.parse().ok()?;
        Some((number, Path::new("/").join(path.strip_prefix("<FS_TREE>/").unwrap_or(path))))
    };
    String::from_utf8_lossy(list).lines().filter_map(row).collect()
}

/// Deletes the snapshots of these names that are there. By their numbers: who may write to the directory that one is in
/// could put a link to another subvolume in its place.
pub(crate) fn delete(options: &BtrfsOptions, place: &Path, names: &[String]) -> Result<()> {
    let mut deleted = Ok(());
    for (number, path) in list(options, "-a", place)? {
        if snapshot_name(&path).is_some_and(|name| names.iter().any(|one| one == name)) {
            deleted = deleted.and(delete_one(options, place, number));
        }
    }
    deleted
}

fn delete_one(options: &BtrfsOptions, place: &Path, number: u64) -> Result<()> {
    let number = number.to_string();
    run(&words(&options.command, ["subvolume", "delete", "--subvolid", &number, text(place)?])).map(drop)
}

/// The name of a snapshot of dbvault's.
fn snapshot_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix('.').filter(|name| is_snapshot(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_from_the_top() {
        let list =
            b"ID 256 gen 7 top level 5 path <FS_TREE>/a\nID 257 gen 7 top level 256 path a/dir/my path n\n\n";
        assert_eq!(parse(list), [(256, "/a".into()), (257, "/a/dir/my path n".into())]);
    }

    #[test]
    fn the_innermost_subvolume_holds_a_path() {
        let subvolumes: Vec<Subvolume> =
            ["/srv", "/srv/a"].map(|place| Subvolume { place: place.into(), read_only: false }).into();
        assert_eq!(holding(&subvolumes, Path::new("/srv/a/x")), Some(Path::new("/srv/a")));
        assert_eq!(holding(&subvolumes, Path::new("/srv/ab")), Some(Path::new("/srv")));
        assert_eq!(holding(&subvolumes, Path::new("/etc")), None);
    }
}
