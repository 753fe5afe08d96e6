//! Where a walk begins: paths as they were given, made absolute, sorted, each once.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{env, fs};

use dbvault_format::file_table::{PATH_BYTES_MAX, compare_paths};

use crate::error::{Error, Result};

/// A path to back up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// As it was given: relative ones begin in the working directory.
    pub path: PathBuf,
    /// Whether what is in a directory is taken too.
    pub recursive: bool,
}

impl Root {
    /// A path with all that is below it.
    pub fn tree(path: impl Into<PathBuf>) -> Root {
        Root { path: path.into(), recursive: true }
    }

    /// A path alone: of a directory only itself.
    pub fn single(path: impl Into<PathBuf>) -> Root {
        Root { path: path.into(), recursive: false }
    }

    /// Where it is: absolute, without links in the directories around it.
    ///
    /// # Errors
    /// The directory around it is not there, or the working directory is gone.
    pub fn place(&self) -> Result<PathBuf> {
        let resolved = Resolver::default().resolve(&self.path);
        let path = resolved.map_err(|source| Error::Root { path: self.path.clone(), source })?;
        Ok(Path::new("/").join(OsStr::from_bytes(&path)))
    }
}

/// Reads a list of paths, for `--files-from`. A separator is the byte 0 where there is one in the list, else a newline;
/// empty paths say nothing. The list is held in memory.
///
/// # Errors
/// It can't be read, or a path in it is longer than 4,096 bytes.
pub fn read_path_list(mut list: impl BufRead) -> io::Result<Vec<PathBuf>> {
    let mut text = Vec::new();
    list.read_to_end(&mut text)?;
    let separator = if text.contains(&0) { 0 } else { b'\n' };
    let paths = text.split(|byte| *byte == separator).filter(|path| !path.is_empty());
    paths
        .map(|path| {
            if path.len() > PATH_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a path of more than 4096 bytes"));
            }
            Ok(PathBuf::from(OsStr::from_bytes(path)))
        })
        .collect()
}

/// A root as a record has it: relative to `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) path: Box<[u8]>,
    pub(crate) recursive: bool,
}

/// Roots in the order of a walk, each once.
///
/// # Errors
/// The directory around a root is not there, or the working directory is gone.
pub(crate) fn prepare(roots: impl IntoIterator<Item = Root>) -> Result<Vec<Start>> {
    let mut resolver = Resolver::default();
    let mut starts: Vec<Start> = roots
        .into_iter()
        .map(|root| {
            let resolved = resolver.resolve(&root.path);
            let path = resolved.map_err(|source| Error::Root { path: root.path.clone(), source })?;
            Ok(Start { path: path.into(), recursive: root.recursive })
        })
        .collect::<Result<_>>()?;
    starts.sort_by(|left, right| {
        compare_paths(&left.path, &right.path).then(right.recursive.cmp(&left.recursive))
    });
    starts.dedup_by(|next, kept| next.path == kept.path);
    Ok(starts)
}

/// Finds the places of paths; remembers the last directory, for long lists.
#[derive(Default)]
struct Resolver {
    last: Option<(PathBuf, Vec<u8>)>,
}

impl Resolver {
    /// The place of a path relative to `/`. Links in the directories around it are followed, so that no record is below a
    /// link; what the path names itself is not, unless it ends with `/`, `.` or `..`.
    fn resolve(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let whole = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
        let (Some(name), Some(around), false) = (path.file_name(), path.parent(), whole) else {
            return Ok(relative(fs::canonicalize(path)?.into_os_string()));
        };
        if self.last.as_ref().is_none_or(|(last, _)| last != around) {
            let place = if around.as_os_str().is_empty() { env::current_dir()? } else { around.to_owned() };
            self.last = Some((around.to_owned(), relative(fs::canonicalize(place)?.into_os_string())));
        }
        let around = self.last.as_ref().map_or(&[][..], |(_, place)| place);
        Ok(crate::directory::join(around, name.as_bytes()))
    }
}

fn relative(absolute: OsString) -> Vec<u8> {
    let bytes = absolute.into_vec();
    bytes.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(bytes)
}
