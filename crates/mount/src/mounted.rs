//! Mounting a repository, and serving it until it is unmounted.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dbvault_repo::{NoMonitor, Repository};
use fuser::{Config, MountOption, Session, SessionACL};
use rustix::io::Errno;

use crate::catalog::Catalog;
use crate::filesystem::Filesystem;
use crate::{Error, Result, mount_table, unmount};

/// Threads that serve requests: some wait for the storage while others decode.
const THREADS: std::ops::RangeInclusive<usize> = 4..=16;

/// How often is looked whether a mount shall end or has ended.
const POLL: Duration = Duration::from_millis(50);

/// How long open files may keep a mount that shall end, before they are cut off.
const GRACE: Duration = Duration::from_secs(2);

/// How a repository is mounted.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// Whether other users may read what is shown, too.
    pub for_others: bool,
}

/// A repository that is mounted, and not served yet: who looks into it waits.
#[derive(Debug)]
pub struct Mounted {
    session: Session<Filesystem>,
    directory: PathBuf,
    /// Whether the directory was made for this.
    made: bool,
}

/// Why a mount has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was unmounted from outside.
    Unmounted,
    /// The user wanted it.
    Interrupted,
    /// The user wanted it while files were open: reading them fails from now on.
    CutOff,
}

/// Mounts `repository` on `directory`, read-only. A directory that is missing is made, and removed at the end.
///
/// The index and the list of archives are read first: what can't be shown is not mounted. After an error nothing is.
pub fn mount(repository: &Repository, directory: &Path, options: &MountOptions) -> Result<Mounted> {
    check_device()?;
    let began_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let reader = repository.reader(Arc::new(NoMonitor))?;
    let catalog = Catalog::open(repository.clone(), reader, i64::try_from(began_ms).unwrap_or(0))?;
    let made = prepare(directory)?;
    let mounted = mount_table::absolute(directory)
        .map_err(|source| Error::Directory { directory: directory.into(), source })
        .and_then(|directory| {
            let filesystem = Filesystem::new(catalog, directory.clone(), options.for_others);
            let session = Session::new(filesystem, &directory, &config(repository, options))
                .map_err(|error| refused(&directory, options, error))?;
            Ok(Mounted { session, directory, made })
        });
    if mounted.is_err() && made {
        let _ = fs::remove_dir(directory);
    }
    mounted
}

fn config(repository: &Repository, options: &MountOptions) -> Config {
    // It goes through the arguments of a program that splits them at commas.
    let plain = |character: char| {
        if character.is_alphanumeric() || "/._-".contains(character) { character } else { '_' }
    };
    let location: String = repository.location().chars().map(plain).collect();
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(format!("{}{location}", mount_table::SOURCE)),
        MountOption::Subtype("dbvault".into()),
        MountOption::RO,
        MountOption::NoExec,
        MountOption::NoAtime,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    // Nobody else gets in otherwise, and whoever has the key may read all: also files of trees that were others' own.
    if options.for_others {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    config.acl = if options.for_others { SessionACL::All } else { SessionACL::Owner };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    config.n_threads = Some((2 * cores).clamp(*THREADS.start(), *THREADS.end()));
    config.clone_fd = true;
    config
}

/// Looks before anything is asked of the user whether this system and this user can mount at all.
fn check_device() -> Result<()> {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Error::FuseForbidden(error));
        }
        Err(_) => return Err(Error::NoFuse),
    }
    if rustix::process::geteuid().is_root() || unmount::helper_is_installed() {
        Ok(())
    } else {
        Err(Error::HelperMissing)
    }
}

/// Sees to it that `directory` is there, empty, and no mount; gives whether it was made.
fn prepare(directory: &Path) -> Result<bool> {
    let failed = |source| Error::Directory { directory: directory.into(), source };
    match fs::read_dir(directory) {
        Ok(mut names) => {
            let absolute = mount_table::absolute(directory).map_err(failed)?;
            if mount_table::find(&absolute).map_err(failed)?.is_some() {
                Err(Error::AlreadyMounted { directory: directory.into() })
            } else if names.next().is_some() {
                Err(Error::NotEmpty { directory: directory.into() })
            } else {
                Ok(false)
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(directory).map_err(failed)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Error::NotADirectory { directory: directory.into() })
        }
        Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => {
            Err(Error::Dead { directory: directory.into() })
        }
        Err(error) => Err(failed(error)),
    }
}

/// What the system means that does not let us mount.
fn refused(directory: &Path, options: &MountOptions, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied if options.for_others => Error::OthersForbidden,
        io::ErrorKind::NotFound => Error::HelperMissing,
        _ => Error::Mount { directory: directory.into(), source: error },
    }
}

impl Mounted {
    /// The mount point, as an absolute path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Serves the mount until it is unmounted, or until `interrupt` is set: then it is unmounted, and after 2 seconds
    /// even where files are open. A directory that was made for it is removed.
    pub fn serve(self, interrupt: &AtomicBool) -> Result<End> {
        let Mounted { session, directory, made } = self;
        let failed = |source| Error::Mount { directory: directory.clone(), source };
        let mut session = session.spawn().map_err(failed)?;
        let serving = std::mem::replace(&mut session.guard, thread::spawn(|| Ok(())));
        // It would unmount at its end what is unmounted already, or what somebody else has mounted there since.
        std::mem::forget(session);
        let end = wait(&serving, &directory, interrupt)?;
        if end != End::CutOff {
            serving
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
                .map_err(failed)?;
        }
        if made {
            // Somebody else may use it by now.
            let _ = fs::remove_dir(&directory);
        }
        Ok(end)
    }
}

/// Waits for the end of `serving`, or brings it about.
fn wait(serving: &JoinHandle<io::Result<()>>, directory: &Path, interrupt: &AtomicBool) -> Result<End> {
    while !interrupt.load(Ordering::Relaxed) {
        if serving.is_finished() {
            return Ok(End::Unmounted);
        }
        thread::sleep(POLL);
    }
    let until = Instant::now() + GRACE;
    loop {
        match unmount::detach(directory, false) {
            Err(Error::Busy { .. }) if Instant::now() < until => {}
            Err(Error::Busy { .. }) => {
                unmount::detach(directory, true)?;
                return Ok(End::CutOff);
            }
            Err(error) if !serving.is_finished() => return Err(error),
            _ => break,
        }
        thread::sleep(POLL);
    }
    while !serving.is_finished() {
        // Unmounted, and yet open: by a process that sees the mount in a place of its own.
        if Instant::now() > until + GRACE {
            return Ok(End::CutOff);
        }
        thread::sleep(POLL);
    }
    Ok(End::Interrupted)
}

/// Makes a directory that only this user can change, for mount points in a place that others write to. One that is
/// there is as good, if it is this user's own.
pub fn make_private(directory: &Path) -> Result<()> {
    let failed = |source| Error::Directory { directory: directory.into(), source };
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map_err(failed),
    }
    let found = fs::symlink_metadata(directory).map_err(failed)?;
    let own =
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if own { Ok(()) } else { Err(Error::NotOurs { directory: directory.into() }) }
}
