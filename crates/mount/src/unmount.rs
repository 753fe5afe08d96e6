//! Unmounting, also what a process left that was killed.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbvault_source::process::Program;
use nix::mount::{MntFlags, umount2};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::filesystem::PROCESS_ATTRIBUTE;
use crate::{Error, Result, mount_table};

/// The program that mounts and unmounts for users who are not root.
const HELPER: &str = "fusermount3";

/// Debian's package that has it.
const HELPER_PACKAGE: &str = "fuse3";

/// How long is waited for the process that served a mount.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Unmounts the repository that is mounted on `directory`, and waits for the end of the process that served it. Gives
/// the mount point as an absolute path.
///
/// A mount whose process is gone is cleaned up, even where it is in use. Errors: [`Error::NotMounted`],
/// [`Error::Busy`]; then nothing is changed.
pub fn unmount(directory: &Path) -> Result<PathBuf> {
    let failed = |source| Error::Unmount { directory: directory.into(), source };
    let absolute = match mount_table::absolute(directory) {
        Ok(absolute) => absolute,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotMounted { directory: directory.into() });
        }
        Err(error) => return Err(failed(error)),
    };
    let found = mount_table::find(&absolute).map_err(failed)?;
    let ours = found
        .is_some_and(|mount| mount.source.as_encoded_bytes().starts_with(mount_table::SOURCE.as_bytes()));
    if !ours {
        return Err(Error::NotMounted { directory: directory.into() });
    }
    let process = serving(&absolute);
    detach(&absolute, is_dead(&absolute))?;
    if let Some(process) = process {
        wait_for_end(&process);
    }
    Ok(absolute)
}

/// Whether the process is gone that served the mount.
pub(crate) fn is_dead(directory: &Path) -> bool {
    let dead = rustix::io::Errno::NOTCONN.raw_os_error();
    fs::metadata(directory).is_err_and(|error| error.raw_os_error() == Some(dead))
}

/// The process that serves the mount on `directory`, if it says.
fn serving(directory: &Path) -> Option<rustix::fd::OwnedFd> {
    let mut text = [0_u8; 20];
    let count = rustix::fs::getxattr(directory, PROCESS_ATTRIBUTE, &mut text).ok()?;
    let number = std::str::from_utf8(text.get(..count)?).ok()?.parse().ok()?;
    pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()
}

fn wait_for_end(process: &rustix::fd::OwnedFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let until = Instant::now() + END_TIMEOUT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

/// Unmounts `directory`; with `in_use` also where files are open, reading which fails from then on.
pub(crate) fn detach(directory: &Path, in_use: bool) -> Result<()> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::ResourceBusy => Error::Busy { directory: directory.into() },
        _ => Error::Unmount { directory: directory.into(), source },
    };
    let flags = if in_use { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match umount2(directory, flags) {
        // Only root may; others have a program for it.
        Err(nix::errno::Errno::EPERM) => detach_by_helper(directory, in_use),
        done => done.map_err(|error| failed(error.into())),
    }
}

fn detach_by_helper(directory: &Path, in_use: bool) -> Result<()> {
    let failed = |source| Error::Unmount { directory: directory.into(), source };
    let program = Program::new(helper()).package(HELPER_PACKAGE).arg("-u");
    let program = if in_use { program.arg("-z") } else { program };
    let captured = program.arg("--").arg(directory).run_captured().map_err(|error| match error {
        dbvault_source::Error::ProgramMissing { .. } => Error::HelperMissing,
        error => failed(io::Error::other(error)),
    })?;
    match captured.into_success() {
        Ok(_) => Ok(()),
        Err(dbvault_source::Error::ProgramFailed { stderr, .. }) if stderr.contains("busy") => {
            Err(Error::Busy { directory: directory.into() })
        }
        Err(error) => Err(failed(io::Error::other(error))),
    }
}

/// The name of the helper, or the path that the environment says.
fn helper() -> std::ffi::OsString {
    env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| HELPER.into())
}

/// Whether the program is there that mounts for users who are not root.
pub(crate) fn helper_is_installed() -> bool {
    let helper = PathBuf::from(helper());
    if helper.is_absolute() {
        return helper.exists();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/bin".into(), "/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(&helper).exists())
}
