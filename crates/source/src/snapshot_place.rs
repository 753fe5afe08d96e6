//! Where snapshots that have to be mounted are mounted, for as long as they are read.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::snapshot::{run, text, words};
use crate::snapshot_mounts::{Mount, Mounts};
use crate::snapshot_owner::Owner;
use crate::{Error, Result};

/// Where directories to mount on are made: gone with the next boot, as mounts are.
const AROUND: &str = "/run";

/// Makes an empty directory to mount a snapshot on; nobody else can enter it.
pub(crate) fn make(name: &str) -> Result<PathBuf> {
    let path = Path::new(AROUND).join(format!(".{name}"));
    let made = DirBuilder::new().mode(0o700).create(&path);
    made.map_err(Error::io(format!("make {}", path.display())))?;
    Ok(path)
}

/// Removes it; all that is in it would be an error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Unmounts and removes what runs that were killed left.
pub(crate) fn clean(owner: &Owner, umount: &[String]) -> Result<()> {
    let names = fs::read_dir(AROUND).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    for name in names {
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix('.')) else { continue };
        if !owner.is_leftover(name) {
            continue;
        }
        let path = Path::new(AROUND).join(format!(".{name}"));
        while Mounts::read()?.all().iter().any(|mount| mount.place == path) {
            run(&words(umount, [text(&path)?]))?;
        }
        remove(&path).map_err(Error::io(format!("remove {}", path.display())))?;
    }
    Ok(())
}

/// Where what `mount` shows is read, once the whole file system is mounted at `place`.
pub(crate) fn below(place: &Path, mount: &Mount) -> PathBuf {
    match mount.root.strip_prefix("/") {
        Ok(inside) if !inside.as_os_str().is_empty() => place.join(inside),
        _ => place.to_owned(),
    }
}
