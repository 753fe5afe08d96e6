//! Snapshots of logical volumes: each has room of its own for what changes meanwhile, and is mounted.

use serde_json::Value;

use crate::snapshot::{SnapshotView, Taken, Undo, run, text, words};
use crate::snapshot_mounts::{Mount, Mounts};
use crate::snapshot_owner::Owner;
use crate::{Error, Result, snapshot_place};

/// How snapshots of logical volumes are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LvmOptions {
    /// Room for what changes while a snapshot is there, as `lvcreate` takes it: `5GB`, or with a per cent sign `10%ORIGIN`.
    pub snapshot_size: String,
    /// The words of the `lvcreate` command.
    pub lvcreate: Vec<String>,
    /// Those of `lvremove`.
    pub lvremove: Vec<String>,
    /// Those of `lvs`.
    pub lvs: Vec<String>,
    /// Those of `mount`.
    pub mount: Vec<String>,
    /// Those of `umount`.
    pub umount: Vec<String>,
}

impl Default for LvmOptions {
    fn default() -> Self {
        let one = |word: &str| vec![word.to_owned()];
        LvmOptions {
            snapshot_size: "10%ORIGIN".into(),
            lvcreate: one("lvcreate"),
            lvremove: one("lvremove"),
            lvs: one("lvs"),
            mount: one("mount"),
            umount: one("umount"),
        }
    }
}

/// A logical volume.
#[derive(Debug, PartialEq, Eq)]
struct Volume {
    group: String,
    name: String,
    /// Paths of its device.
    devices: [String; 2],
}

/// Takes snapshots of the logical volumes that hold what is wanted, and mounts each. Where none seems to be one, and
/// `quiet`, LVM is not asked.
pub(crate) fn take(
    options: &LvmOptions,
    mounts: &Mounts,
    concerned: &[&Mount],
    quiet: bool,
    taken: &mut Taken,
) -> Result<()> {
    let may_be = |mount: &&&Mount| {
        let mapped = mount.source.starts_with("/dev/mapper/") || mount.source.starts_with("/dev/dm-");
        let is_device = mount.source.starts_with("/dev/") && mount.kind != "btrfs" && mount.kind != "zfs";
        is_device && (mapped || !quiet) && mounts.is_visible(mount)
    };
    let candidates: Vec<&Mount> = concerned.iter().filter(may_be).copied().collect();
    if candidates.is_empty() {
        return Ok(());
    }
    let owner = Owner::this()?;
    snapshot_place::clean(&owner, &options.umount)?;
    let volumes = volumes(options)?;
    let (left, volumes): (Vec<Volume>, Vec<Volume>) =
        volumes.into_iter().partition(|volume| owner.is_leftover(&volume.name));
    for Volume { group, name, .. } in left {
        run(&words(&options.lvremove, ["--force", "--yes", &format!("{group}/{name}")]))?;
    }
    for mount in candidates {
        if let Some(volume) = volumes.iter().find(|volume| volume.devices.contains(&mount.source)) {
            snapshot(options, mount, volume, &owner, taken)?;
        }
    }
    Ok(())
}

fn snapshot(
    options: &LvmOptions,
    mount: &Mount,
    volume: &Volume,
    owner: &Owner,
    taken: &mut Taken,
) -> Result<()> {
    let Volume { group, name: origin, .. } = volume;
    let name = owner.new_name();
    let how = if options.snapshot_size.contains('%') { "--extents" } else { "--size" };
    let size = [how, options.snapshot_size.as_str()];
    // To be written to, so that the file system's journal can be applied when it is mounted.
    let head = ["--snapshot", "--permission", "rw", "--name", &name];
    let from = format!("{group}/{origin}");
    run(&words(&options.lvcreate, head.into_iter().chain(size).chain([from.as_str()])))?;
    let whole = format!("{group}/{name}");
    taken.undo.insert(0, Undo::Run(words(&options.lvremove, ["--force", "--yes", &whole])));
    let place = snapshot_place::make(&name)?;
    taken.undo.insert(0, Undo::Directory(place.clone()));
    // XFS refuses a second file system of the same id otherwise.
    let how = if mount.kind == "xfs" { "ro,nouuid" } else { "ro" };
    let device = format!("/dev/{whole}");
    run(&words(&options.mount, ["-t", &mount.kind, "-o", how, &device, text(&place)?]))?;
    taken.undo.insert(0, Undo::Run(words(&options.umount, [text(&place)?])));
    taken.views.push(SnapshotView { path: mount.place.clone(), place: snapshot_place::below(&place, mount) });
    Ok(())
}

/// All logical volumes of the machine.
fn volumes(options: &LvmOptions) -> Result<Vec<Volume>> {
    let args = ["--reportformat", "json", "--options", "vg_name,lv_name,lv_path,lv_dm_path"];
    let said = run(&words(&options.lvs, args))?;
    parse(&said).ok_or_else(|| Error::ProgramFailed {
        program: options.lvs.join(" "),
        how: "said what can't be understood".into(),
        stderr: String::new(),
    })
}

fn parse(said: &[u8]) -> Option<Vec<Volume>> {
    let document: Value = serde_json::from_slice(said).ok()?;
    let mut volumes = Vec::new();
    for report in document.get("report")?.as_array()? {
        for row in report.get("lv")?.as_array()? {
            let field = |name: &str| Some(row.get(name)?.as_str()?.to_owned());
            let (group, name) = (field("vg_name")?, field("lv_name")?);
            let devices = [field("lv_path")?, field("lv_dm_path")?];
            volumes.push(Volume { group, name, devices });
        }
    }
    Some(volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        let said = br#"{"report":[{"lv":[{"vg_name":"vg","lv_name":"root","lv_path":"/dev/vg/root","lv_dm_path":"/dev/mapper/vg-root"}]}],"log":[]}"#;
        let volumes = parse(said).unwrap();
        assert_eq!((volumes[0].group.as_str(), volumes[0].name.as_str()), ("vg", "root"));
        assert_eq!(volumes[0].devices, ["/dev/vg/root", "/dev/mapper/vg-root"]);
        assert_eq!(parse(b"{}"), None);
    }
}
