//! Files and directories that a configuration wants backed up.

use std::path::PathBuf;

/// Which files are backed up, in the words of the configuration: nothing is looked up yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directories {
    /// Paths; stars stand for names.
    pub sources: Vec<String>,
    /// Whether one that is not there keeps files from being backed up.
    pub must_exist: bool,
    /// Where relative paths begin.
    pub working_directory: Option<PathBuf>,
    /// Lines of patterns, which may name paths too.
    pub patterns: Vec<String>,
    /// Files of such lines.
    pub patterns_from: Vec<String>,
    /// Patterns of what is left out.
    pub exclude_patterns: Vec<String>,
    /// Files of such.
    pub exclude_from: Vec<String>,
    /// Leave out what is in directories with a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Leave out what is in directories that have a file of one of these names.
    pub exclude_if_present: Vec<String>,
    /// Stay on the file systems of the paths.
    pub one_file_system: bool,
}

impl Directories {
    /// True where a path is named, or a file that may name one.
    pub fn is_given(&self) -> bool {
        let is_root = |line: &String| line.trim_start().starts_with(['R', 'r']);
        !self.sources.is_empty() || !self.patterns_from.is_empty() || self.patterns.iter().any(is_root)
    }
}
