//! Paths with stars, as a shell expands them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use regex::bytes::Regex;

use crate::glob::{Stars, to_regex};

/// The paths that a path with `*`, `?` or `[` names, sorted. A star stands for characters of one name, and for no name that
/// begins with a dot. None where nothing is like it; a path without such characters is itself, be it there or not.
/// Directories that can't be read have nothing in them.
pub fn expand_path(pattern: &Path) -> Vec<PathBuf> {
    let has_stars = |path: &Path| path.as_os_str().as_bytes().iter().any(|byte| b"*?[".contains(byte));
    if !has_stars(pattern) {
        return vec![pattern.to_owned()];
    }
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = Path::new(component.as_os_str());
        match component {
            Component::Normal(_) if has_stars(name) => {
                found = found.iter().flat_map(|directory| matching(directory, name)).collect();
            }
            _ => {
                found.iter_mut().for_each(|path| path.push(name));
                found.retain(|path| path.symlink_metadata().is_ok());
            }
        }
    }
    found.sort();
    found
}

/// Names in a directory that are like `pattern`.
fn matching(directory: &Path, pattern: &Path) -> Vec<PathBuf> {
    let Some(text) = pattern.to_str() else { return Vec::new() };
    let Ok(regex) = Regex::new(&format!(r"\A(?:{})\z", to_regex(text, Stars::StayInName))) else {
        return Vec::new();
    };
    let place = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let names = fs::read_dir(place).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    let is_like = |name: &std::ffi::OsString| {
        let bytes = name.as_bytes();
        regex.is_match(bytes) && (text.starts_with('.') || !bytes.starts_with(b"."))
    };
    names.filter(is_like).map(|name| directory.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_names_that_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in ["a/conf", "b/conf", "b/.hidden", "c", "[d]"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let expand = |pattern: &str| -> Vec<PathBuf> {
            let found = expand_path(&root.join(pattern));
            found.iter().map(|path| path.strip_prefix(root).unwrap().to_owned()).collect()
        };
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(expand("*/conf"), paths(&["a/conf", "b/conf"]));
        assert_eq!(expand("[ab]"), paths(&["a", "b"]));
        assert_eq!(expand("b/*"), paths(&["b/conf"]));
        assert_eq!(expand("b/.*"), paths(&["b/.hidden"]));
        assert_eq!(expand("?"), paths(&["a", "b", "c"]));
        assert_eq!(expand("*/none"), paths(&[]));
        assert_eq!(expand("none"), paths(&["none"]));
    }
}
