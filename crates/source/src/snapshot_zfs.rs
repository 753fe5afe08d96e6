//! Snapshots of ZFS datasets: those of one pool are all of the same moment.

use std::collections::BTreeMap;

use crate::Result;
use crate::snapshot::{SnapshotView, Taken, Undo, run, text, words};
use crate::snapshot_mounts::{Mount, Mounts};
use crate::snapshot_owner::Owner;
use crate::snapshot_place;

/// How snapshots of ZFS are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZfsOptions {
    /// The words of the `zfs` command.
    pub zfs: Vec<String>,
    /// Those of `mount`.
    pub mount: Vec<String>,
    /// Those of `umount`.
    pub umount: Vec<String>,
}

impl Default for ZfsOptions {
    fn default() -> Self {
        let one = |word: &str| vec![word.to_owned()];
        ZfsOptions { zfs: one("zfs"), mount: one("mount"), umount: one("umount") }
    }
}

/// Takes snapshots of the datasets that hold what is wanted, and mounts each.
pub(crate) fn take(
    options: &ZfsOptions,
    mounts: &Mounts,
    concerned: &[&Mount],
    taken: &mut Taken,
) -> Result<()> {
    let ours = concerned.iter().filter(|mount| mount.kind == "zfs" && !mount.source.contains('@'));
    let mut pools: BTreeMap<&str, Vec<&Mount>> = BTreeMap::new();
    for mount in ours.filter(|mount| mounts.is_visible(mount)) {
        pools.entry(mount.source.split('/').next().unwrap_or_default()).or_default().push(mount);
    }
    if pools.is_empty() {
        return Ok(());
    }
    let owner = Owner::this()?;
    snapshot_place::clean(&owner, &options.umount)?;
    for mounts in pools.into_values() {
        clean(options, &mounts, &owner)?;
        let name = owner.new_name();
        let mut names: Vec<String> = mounts.iter().map(|mount| format!("{}@{name}", mount.source)).collect();
        names.sort_unstable();
        names.dedup();
        let args = std::iter::once("snapshot").chain(names.iter().map(String::as_str));
        run(&words(&options.zfs, args))?;
        taken.undo.extend(names.iter().map(|name| Undo::Run(words(&options.zfs, ["destroy", name]))));
        for mount in mounts {
            show(options, mount, &format!("{}@{name}", mount.source), &owner, taken)?;
        }
    }
    Ok(())
}

/// Mounts a snapshot.
fn show(options: &ZfsOptions, mount: &Mount, snapshot: &str, owner: &Owner, taken: &mut Taken) -> Result<()> {
    let place = snapshot_place::make(&owner.new_name())?;
    taken.undo.insert(0, Undo::Directory(place.clone()));
    run(&words(&options.mount, ["-t", "zfs", "-o", "ro", snapshot, text(&place)?]))?;
    taken.undo.insert(0, Undo::Run(words(&options.umount, [text(&place)?])));
    taken.views.push(SnapshotView { path: mount.place.clone(), place: snapshot_place::below(&place, mount) });
    Ok(())
}

/// Removes snapshots of these datasets that runs which were killed have left.
fn clean(options: &ZfsOptions, mounts: &[&Mount], owner: &Owner) -> Result<()> {
    let head = ["list", "-H", "-d", "1", "-t", "snapshot", "-o", "name"];
    let datasets = mounts.iter().map(|mount| mount.source.as_str());
    let list = run(&words(&options.zfs, head.into_iter().chain(datasets)))?;
    for snapshot in String::from_utf8_lossy(&list).lines() {
        if snapshot.split_once('@').is_some_and(|(_, name)| owner.is_leftover(name)) {
            run(&words(&options.zfs, ["destroy", snapshot]))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::print_stdout, reason = "a skipped test says its name")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::snapshot::{SnapshotOptions, Wanted, take_of};

    /// Makes a program that writes its arguments down, and then does this.
    fn stand_in(directory: &Path, name: &str, script: &str) -> Vec<String> {
        let (path, log) = (directory.join(name), directory.join("log"));
        let text = format!("#!/bin/sh\necho {name} \"$@\" >>{}\n{script}\n", log.display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        vec![path.to_str().unwrap().to_owned()]
    }

    /// Programs stand in for those of ZFS, which not every kernel has, and a list for what is mounted.
    #[test]
    fn stand_ins_for_zfs_take_mount_and_destroy() {
        let name = "stand_ins_for_zfs_take_mount_and_destroy";
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {name}: this user may not mount");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        let owner = Owner::this().unwrap().new_name();
        let boot = owner.rsplit('-').nth(3).unwrap();
        let gone = owner.replace(boot, "00000000");
        let left = format!("printf 'tank/a@daily\\ntank/a@{gone}\\ntank/a@{owner}\\n'");
        let options = ZfsOptions {
            zfs: stand_in(base, "zfs", &format!("[ \"$1\" != list ] || {left}")),
            mount: stand_in(base, "mount", ""),
            umount: stand_in(base, "umount", ""),
        };
        let list = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / /tank/a rw - zfs tank/a rw\n\
                    3 2 0:41 / /tank/a/b rw - zfs tank/b rw\n4 1 0:42 / /other rw - zfs pool/x rw\n";
        let is_left_out = |_: &Path| false;
        let paths = vec![(PathBuf::from("/tank/a/x"), true), (PathBuf::from("/tank/a"), true)];
        let wanted = Wanted { paths, one_file_system: false, is_left_out: &is_left_out };
        let all = SnapshotOptions { zfs: Some(options), ..SnapshotOptions::default() };
        let snapshots = take_of(&Mounts::parse(list.as_bytes()), &all, &wanted).unwrap();
        assert_eq!(snapshots.count, 2);
        let views: Vec<_> = snapshots
            .views
            .iter()
            .map(|view| (view.path.display().to_string(), view.place.clone()))
            .collect();
        assert_eq!((views[0].0.as_str(), views[1].0.as_str()), ("/tank/a", "/tank/a/b"));
        assert!(views.iter().all(|(_, place)| place.is_dir()));
        assert_eq!(snapshots.drop_all(), [""; 0]);
        assert!(views.iter().all(|(_, place)| !place.exists()));
        let log = fs::read_to_string(base.join("log")).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines[1], format!("zfs destroy tank/a@{gone}"), "{log}");
        assert!(
            lines[2].starts_with("zfs snapshot tank/a@dbvault-snapshot-") && lines[2].contains(" tank/b@"),
            "{log}"
        );
        assert!(lines[3].starts_with("mount -t zfs -o ro tank/a@dbvault-snapshot-"), "{log}");
        let count = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
        assert_eq!(
            [count("mount "), count("umount "), count("zfs destroy "), lines.len()],
            [2, 2, 3, 9],
            "{log}"
        );
    }
}
