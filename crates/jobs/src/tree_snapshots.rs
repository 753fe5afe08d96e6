//! Files as they are at one moment: snapshots, and a walk that reads in them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dbvault_files::Verdict;
use dbvault_source::{SNAPSHOT_DIRECTORY_PREFIX, Snapshots, Wanted, take_snapshots};
use rustix::io::Errno;

use crate::tree_backup::{TREE_NAME, TreeRequest};
use crate::{Error, Result};

/// Takes the snapshots that `request` asks for, and makes it one that reads in them; it holds for as long as they are there.
/// `None` where it asks for none. What is not read in a snapshot is told by the notes.
///
/// Errors: something is missing that must be there, or all of it; a snapshot can't be taken. None is left then.
pub(crate) fn take(request: &TreeRequest) -> Result<(TreeRequest, Option<Snapshots>)> {
    let roots = || request.roots.iter().map(|root| &root.path);
    let nothing_is_there = !roots().any(|path| path.symlink_metadata().is_ok());
    let absent = request.missing.first().or_else(|| roots().next().filter(|_| nothing_is_there));
    if let Some(path) = absent.filter(|_| nothing_is_there || request.must_exist) {
        let source = Errno::NOENT.into();
        return Err(Error::Files(dbvault_files::Error::Root { path: path.clone(), source }));
    }
    let mut request = request.clone();
    // Also those of another run, or of one that was killed.
    request.options.hidden_prefix = SNAPSHOT_DIRECTORY_PREFIX;
    if request.snapshots.is_none() {
        return Ok((request, None));
    }
    let paths = request.roots.iter().map(|root| Ok((root.place()?, root.recursive)));
    let paths = paths.collect::<dbvault_files::Result<Vec<_>>>().map_err(Error::Files)?;
    let patterns = &request.options.patterns;
    let is_left_out = |path: &Path| {
        let verdict = patterns.verdict(relative(path));
        verdict != Verdict::Take && !patterns.looks_into(verdict)
    };
    let one_file_system = request.options.one_file_system;
    let wanted = Wanted { paths, one_file_system, is_left_out: &is_left_out };
    let snapshots =
        take_snapshots(&request.snapshots, &wanted).map_err(|source| Error::dump(TREE_NAME, source))?;
    let views = snapshots.views.iter();
    request.options.views = views.map(|view| (relative(&view.path).to_vec(), view.place.clone())).collect();
    Ok((request, Some(snapshots)))
}

/// What people should know of them.
pub(crate) fn notes(snapshots: &Snapshots) -> Vec<String> {
    let none = (snapshots.count == 0).then(|| "no snapshot was taken: files are read as they are".to_owned());
    none.into_iter().chain(snapshots.notes.iter().cloned()).collect()
}

/// As in a record.
fn relative(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}
