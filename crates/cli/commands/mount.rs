//! `mount` and `umount`: the repository as a file system.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dbvault_jobs::{Error as Job, place};
use dbvault_mount::{End, MountOptions, Mounted, make_private};
use dbvault_repo::Repository;
use dbvault_source::process::{Background, Program};
use serde_json::json;

use crate::args::{Mount, Umount};
use crate::context::{Accept, Context};
use crate::error::{Error, Result};
use crate::{documents, output};

/// A log that is longer is begun anew, bytes.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Digits of the repository's id in the name of its default mount point.
const ID_DIGITS: usize = 8;

pub(super) fn run(context: &Context, args: Mount) -> Result<()> {
    if !args.foreground && !args.in_background {
        return start_in_background(context);
    }
    let meant = context.place_named()?;
    let directory = match &args.directory {
        Some(directory) => directory.clone(),
        None => default_directory(&meant.0)?,
    };
    let repository = context.unlock_place(meant, Accept::Any)?.repository;
    let options = MountOptions { for_others: args.allow_other };
    let mounted = dbvault_mount::mount(&repository, &directory, &options)?;
    let log = if args.in_background { Some(leave(context, &repository)?) } else { None };
    tell(context, &repository, &mounted, log.as_deref())?;
    if args.in_background {
        close_output()?;
    }
    match mounted.serve(&context.interrupt())? {
        End::CutOff => context.warning("unmounted while files were open: reading them fails"),
        End::Unmounted | End::Interrupted => {}
    }
    Ok(())
}

/// Has this program do the same in a process that goes on; it asks for a passphrase, mounts, and says so.
fn start_in_background(context: &Context) -> Result<()> {
    let failed = |source| Error::Job(Job::Output { output: "this program".into(), source });
    let program = env::current_exe().map_err(failed)?;
    let program = Program::new(program).args(env::args_os().skip(1)).arg("--in-background");
    match program.interrupt(&context.interrupt()).start_background() {
        Ok(Background::Started(said)) => output::bytes(&said),
        Ok(Background::Ended(code)) => Err(Error::Background { code }),
        Err(dbvault_source::Error::Interrupted) => Err(Job::Interrupted.into()),
        Err(error) => Err(failed(std::io::Error::other(error))),
    }
}

/// Leaves the terminal, and has what is said from now on written to a log. Gives its path.
fn leave(context: &Context, repository: &Repository) -> Result<PathBuf> {
    let directory = context.client()?.cache_dir.join(repository.id().to_string());
    let path = directory.join("mount.log");
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
    let full = fs::metadata(&path).is_ok_and(|found| found.len() > LOG_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600).append(!full).write(true).truncate(full);
    let log = options.open(&path).map_err(failed)?;
    // A process that leads its group has left already.
    let _ = rustix::process::setsid();
    rustix::stdio::dup2_stdin(File::open("/dev/null").map_err(failed)?).map_err(|e| failed(e.into()))?;
    rustix::stdio::dup2_stderr(&log).map_err(|e| failed(e.into()))?;
    Ok(path)
}

/// The one that started us has heard all.
fn close_output() -> Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null").map_err(Error::Stdout)?;
    rustix::stdio::dup2_stdout(null).map_err(|error| Error::Stdout(error.into()))
}

fn tell(context: &Context, repository: &Repository, mounted: &Mounted, log: Option<&Path>) -> Result<()> {
    let directory = mounted.directory();
    if context.global.json {
        return output::json(&json!({
            "repository": documents::repository(repository),
            "directory": directory,
            "process": std::process::id(),
            "log": log,
        }));
    }
    let mut text = format!("{}\n", directory.display());
    if !context.global.quiet {
        text = format!("Mounted {} on {text}", repository.location());
        if let Some(log) = log {
            text += &format!("Reads that fail are told of in {}\n", log.display());
        }
    }
    output::text(&text)
}

/// Where the repository at `path` is mounted if nothing else is said: in the user's directory for what lives as long as
/// a session, or one like it. What is on the way to it is made.
fn default_directory(path: &Path) -> Result<PathBuf> {
    let id = place::find(path)?.id.to_string();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy().replace(char::is_whitespace, "_");
    let private = match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir()) {
        Some(runtime) => runtime.join("dbvault"),
        None => env::temp_dir().join(format!("dbvault-{}", rustix::process::geteuid().as_raw())),
    };
    make_private(&private)?;
    Ok(private.join(format!("{name}-{}", &id[..ID_DIGITS])))
}

pub(super) fn umount(context: &Context, args: Umount) -> Result<()> {
    let directory = match &args.directory {
        Some(directory) => directory.clone(),
        None => default_directory(&context.place_named()?.0)?,
    };
    let unmounted = dbvault_mount::unmount(&directory)?;
    if args.directory.is_none() {
        // The process that made it was to remove it. It may have been killed.
        let _ = fs::remove_dir(&unmounted);
    }
    if context.global.json {
        return output::json(&json!({ "directory": unmounted }));
    }
    context.note(&format!("Unmounted {}", unmounted.display()));
    Ok(())
}
