//! A small file system, to be filled.

use std::path::Path;
use std::process::{Command, Stdio};

/// A small file system of its own, gone with the value.
pub(crate) struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    /// `None`, with the name of the test in the summary, where this user may not mount.
    pub(crate) fn mount<'a>(path: &'a Path, options: &str, test: &str) -> Option<SmallDisk<'a>> {
        std::fs::create_dir_all(path).expect("a directory to mount on");
        if mount(path, options) {
            return Some(SmallDisk(path));
        }
        println!("skipped: {test}: this user may not mount");
        None
    }

    /// Gives it other options, its size among them.
    pub(crate) fn resize(&self, options: &str) {
        assert!(mount(self.0, &format!("remount,{options}")));
    }
}

fn mount(path: &Path, options: &str) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).stderr(Stdio::null());
    mount.status().is_ok_and(|status| status.success())
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
