//! The words of the commands that store archives anew, here or elsewhere: copy and recompress.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// Archives to copy: names, ids, or latest; by default all that the other repository does not have
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archives: Vec<String>,

    /// The repository to copy to, or its label in the configuration
    #[arg(long, value_name = "PATH|LABEL")]
    pub(crate) to: PathBuf,

    /// The key file that opens it; by default what the configuration says of it, then DBVAULT_TO_PASSPHRASE
    #[arg(long, value_name = "FILE", env = "DBVAULT_TO_KEY_FILE", hide_env_values = true)]
    pub(crate) to_key_file: Option<PathBuf>,

    /// Copy all archives that the other repository does not have, as without any name
    #[arg(long, conflicts_with = "archives")]
    pub(crate) all: bool,

    /// Only tell what would be copied
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Recompress {
    /// Level of compression, -7 to 19: higher takes longer and makes smaller
    #[arg(long, value_name = "N", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-7..=19))]
    pub(crate) level: i32,

    /// Take the new form also where it is larger; by default the smaller one is kept
    #[arg(long)]
    pub(crate) larger: bool,

    /// Only try, and tell what would be saved
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Most that may be read and tried, MB; the next run goes on from there
    #[arg(long, value_name = "MB")]
    pub(crate) repack_mb: Option<u64>,

    /// How long to wait for running backups: 30m, 2h
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    pub(crate) wait: Option<Duration>,
}
