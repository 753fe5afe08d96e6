//! What the system says is mounted where.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Begins the source of every mount of ours.
pub(crate) const SOURCE: &str = "dbvault:";

/// Something that is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Numbers of its device: `0:39`.
    pub(crate) device: String,
    pub(crate) directory: PathBuf,
    pub(crate) source: OsString,
}

/// What is mounted on `directory`, the topmost of several; `None` where nothing is.
pub(crate) fn find(directory: &Path) -> io::Result<Option<Entry>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let mut entries = table.split(|byte| *byte == b'\n').filter_map(parse);
    Ok(entries.rfind(|entry| entry.directory == directory))
}

/// `directory` without links and dots on the way to it. It is not looked at itself: a mount may be dead.
pub(crate) fn absolute(directory: &Path) -> io::Result<PathBuf> {
    let directory = std::path::absolute(directory)?;
    match (directory.parent(), directory.file_name()) {
        (Some(parent), Some(name)) if name != ".." => {
            let resolved = parent.canonicalize()?.join(name);
            // A link to a mount is as good as the mount.
            let is_link = fs::symlink_metadata(&resolved).is_ok_and(|found| found.is_symlink());
            if is_link { resolved.canonicalize() } else { Ok(resolved) }
        }
        _ => directory.canonicalize(),
    }
}

/// One line: number, parent, device, root, mount point, options, any fields up to a dash, type, source, options.
fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = String::from_utf8(fields.nth(2)?.to_vec()).ok()?;
    let directory = fields.nth(1)?;
    let source = fields.skip_while(|field| *field != b"-").nth(2)?;
    Some(Entry { device, directory: unescape(directory).into(), source: unescape(source) })
}

/// Blanks, line breaks and backslashes are written as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = || u8::from_str_radix(std::str::from_utf8(after.get(..3)?).ok()?, 8).ok();
        match code().filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_system_writes_them() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134 rw,noatime master:1 shared:2 - fuse.x dbvault:/r\011 rw,user_id=0";
        let want =
            Entry { device: "98:0".into(), directory: "/mnt/a b\\".into(), source: "dbvault:/r\t".into() };
        assert_eq!(parse(line), Some(want));
        assert_eq!(parse(b"36 35 98:0 / /mnt rw"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(unescape(br"\04"), r"\04");
    }

    #[test]
    fn something_is_mounted_on_proc() {
        let found = find(Path::new("/proc")).unwrap().unwrap();
        assert_eq!(found.directory, Path::new("/proc"));
        assert_eq!(find(Path::new("/proc/self")).unwrap(), None);
    }

    #[test]
    fn paths_are_made_absolute_without_looking_at_their_end() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink(real.join("a"), real.join("link")).unwrap();
        assert_eq!(absolute(&real.join("a/../missing")).unwrap(), real.join("missing"));
        assert_eq!(absolute(&real.join("link")).unwrap(), real.join("a"));
        assert_eq!(absolute(&real.join("link/b")).unwrap(), real.join("a/b"));
        assert_eq!(absolute(&real.join("a/..")).unwrap(), real);
    }
}
