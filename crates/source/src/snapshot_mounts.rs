//! What is mounted where, as the kernel tells it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The kernel's list for this process.
const LIST: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its number.
    pub(crate) id: u64,
    /// The file system, as `major:minor`.
    pub(crate) device: String,
    /// What of the file system is mounted: a path in it.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) place: PathBuf,
    /// Its type: `btrfs`, `ext4` …
    pub(crate) kind: String,
    /// What the user mounted: a device, a dataset.
    pub(crate) source: String,
    /// Whether it can't be written to.
    pub(crate) read_only: bool,
}

/// All mounts, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Those of this process.
    pub(crate) fn read() -> Result<Mounts> {
        Ok(Mounts::parse(&fs::read(LIST).map_err(Error::io(format!("read {LIST}")))?))
    }

    pub(crate) fn parse(text: &[u8]) -> Mounts {
        Mounts(text.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }

    pub(crate) fn all(&self) -> &[Mount] {
        &self.0
    }

    /// The mount that a path is in: of those around it the innermost, and the last that was made there.
    pub(crate) fn holder(&self, path: &Path) -> Option<&Mount> {
        let around = self.0.iter().filter(|mount| path.starts_with(&mount.place));
        around.max_by_key(|mount| mount.place.as_os_str().len())
    }

    /// False where something else was mounted over it.
    pub(crate) fn is_visible(&self, mount: &Mount) -> bool {
        self.holder(&mount.place).is_some_and(|holder| holder.id == mount.id)
    }
}

/// `id parent device root place options [optional …] - kind source super-options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let word = |index: usize| Some(String::from_utf8_lossy(&unescape(fields.get(index)?)).into_owned());
    let path = |index: usize| Some(PathBuf::from(OsString::from_vec(unescape(fields.get(index)?))));
    Some(Mount {
        id: word(0)?.parse().ok()?,
        device: word(2)?,
        root: path(3)?,
        place: path(4)?,
        kind: word(dash + 1)?,
        source: word(dash + 2)?,
        read_only: word(5)?.split(',').any(|option| option == "ro"),
    })
}

/// Blanks and backslashes stand there as `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let number = (first == b'\\').then(|| after.get(..3)).flatten();
        let byte = number.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    out
}

/// A path of a file system, where it is seen below a mount of it; `None` where it is not.
pub(crate) fn seen_at(mount: &Mount, inside: &Path) -> Option<PathBuf> {
    let below = inside.strip_prefix(&mount.root).ok()?;
    // Joined with nothing, a path would end with a slash.
    Some(if below.as_os_str().as_bytes().is_empty() { mount.place.clone() } else { mount.place.join(below) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_holds_a_path() {
        let mounts = Mounts::parse(
            b"1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
              2 1 0:39 /@srv /srv rw master:1 shared:2 - btrfs /dev/sdb rw,subvol=/@srv\n\
              3 1 0:40 / /a\\040b ro - zfs tank/x\\134y rw\n\
              4 1 0:41 / /srv rw - tmpfs tmpfs rw\nnonsense\n",
        );
        assert_eq!(mounts.all().len(), 4);
        let holder = |path: &str| mounts.holder(Path::new(path)).unwrap().id;
        assert_eq!([holder("/etc"), holder("/srv/x"), holder("/a b"), holder("/a")], [1, 4, 3, 1]);
        assert!(!mounts.is_visible(&mounts.all()[1]) && mounts.is_visible(&mounts.all()[3]));
        assert_eq!(mounts.all()[2].source, "tank/x\\y");
        assert!(mounts.all()[2].read_only && !mounts.all()[1].read_only);
        let srv = &mounts.all()[1];
        assert_eq!(seen_at(srv, Path::new("/@srv/a")), Some("/srv/a".into()));
        assert_eq!(seen_at(srv, Path::new("/@srv")), Some("/srv".into()));
        assert_eq!(seen_at(srv, Path::new("/@")), None);
    }
}
