//! Options of tar archives, and of imports.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

#[derive(Debug, Args)]
pub(crate) struct ExportTar {
    /// The archive: its name, its id, or latest
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) archive: String,

    /// File to write; - is standard output. A name that ends with .zst is compressed
    #[arg(value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Only these files and what is below them
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<String>,

    /// Leave out what the pattern matches
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// Take so many components from the beginning of each path
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) strip_components: usize,

    /// Replace the file where it is there already
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportTar {
    /// Name of the archive to make
    #[arg(long, value_name = "NAME")]
    pub(crate) archive: String,

    /// A remark that is kept with the archive
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,

    /// When what is in it was made: 2026-11-01T03:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) timestamp: Option<Timestamp>,

    /// Directory with room for what comes through a pipe or is compressed; by default TMPDIR or /tmp
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// The tar archive; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The repository, as its own program takes it. What opens it comes from that program's environment variables
    #[arg(value_name = "REPO")]
    pub(crate) repository: String,

    /// Only archives of this name, or whose names are like this: 'web-*'; or the beginning of an id
    #[arg(long = "archive", visible_alias = "glob", value_name = "NAME|PATTERN")]
    pub(crate) archives: Vec<String>,

    /// Put this before each name
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) prefix: String,

    /// Directory with room for the largest archive, for a while; by default TMPDIR or /tmp
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// Only tell what would be imported
    #[arg(long)]
    pub(crate) dry_run: bool,
}
