//! Options that choose files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which files are backed up.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct Files {
    /// Files and directories to back up, with all that is in them
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// A list of paths to back up, each as it is and nothing below it; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) files_from: Option<PathBuf>,

    /// Leave out what the pattern matches: '*.tmp', 'sh:home/*/.cache', 're:[0-9]+\.log$', 'pp:var/cache'
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// A file with a pattern a line
    #[arg(long, value_name = "FILE")]
    pub(crate) exclude_from: Vec<PathBuf>,

    /// Leave out what is in directories with a CACHEDIR.TAG
    #[arg(long)]
    pub(crate) exclude_caches: bool,

    /// Leave out directories that have a file of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) exclude_if_present: Vec<String>,

    /// Stay on the file systems of the paths that are given
    #[arg(long, short = 'x')]
    pub(crate) one_file_system: bool,

    /// Read files from a snapshot of the file systems that they are on, where there can be one
    #[arg(long, value_name = "KIND")]
    pub(crate) snapshot: Option<Snapshot>,
}

// Without words of their own, as those of `--color`.
/// Which snapshots files are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Snapshot {
    Auto,
    Btrfs,
    Zfs,
    Lvm,
    None,
}

/// Where files are extracted to, and how.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct ExtractFiles {
    /// Only these files and what is below them
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<String>,

    /// Extract the files of the archive below this directory; it is made where it is not there
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "table"])]
    pub(crate) to: Option<PathBuf>,

    /// Leave out what the pattern matches
    #[arg(long, value_name = "PATTERN", requires = "to")]
    pub(crate) exclude: Vec<String>,

    /// Take so many components from the beginning of each path
    #[arg(long, value_name = "N", default_value_t = 0, requires = "to")]
    pub(crate) strip_components: usize,

    /// Make anew what is there already and seems right by its size, times and owner
    #[arg(long, requires = "to")]
    pub(crate) overwrite: bool,

    /// Remove what is in an extracted directory and not in the archive
    #[arg(long, requires = "to")]
    pub(crate) delete: bool,

    /// Make holes of long stretches of zeros
    #[arg(long, requires = "to")]
    pub(crate) sparse: bool,

    /// Owners by their numbers, not by their names
    #[arg(long, requires = "to")]
    pub(crate) numeric_ids: bool,

    /// Only tell what would be made
    #[arg(long, requires = "to")]
    pub(crate) dry_run: bool,
}
