//! Where tests mount repositories.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

/// A mount point that is no mount any more when the test ends, however it does.
pub(crate) struct MountPoint(pub(crate) PathBuf);

impl Drop for MountPoint {
    fn drop(&mut self) {
        if is_mounted(&self.0) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
}

impl MountPoint {
    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// The process that serves it.
    pub(crate) fn process(&self) -> Pid {
        let mut text = [0; 20];
        let count = rustix::fs::getxattr(&self.0, "user.dbvault.process", &mut text).expect("a mount");
        let number = std::str::from_utf8(&text[..count]).ok().and_then(|text| text.parse().ok());
        number.and_then(Pid::from_raw).expect("the id of a process")
    }
}

pub(crate) fn is_mounted(directory: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("what is mounted");
    table.lines().any(|line| line.split(' ').nth(4) == directory.to_str())
}

/// Whether this system can mount; says so if not.
pub(crate) fn can_mount(test: &str) -> bool {
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => return true,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("skipped: {test}: this user may not use /dev/fuse");
        }
        Err(error) => println!("skipped: {test}: /dev/fuse: {error}"),
    }
    false
}
