//! The words of commands that look at what is in archives, and change nothing.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The older archive: its name, its id, or latest
    #[arg(value_name = "OLDER")]
    pub(crate) older: String,

    /// The newer archive
    #[arg(value_name = "NEWER", default_value = "latest")]
    pub(crate) newer: String,

    /// Only these files and what is below them
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<String>,

    /// Only these entries or databases; all means all
    #[arg(long = "database", visible_alias = "entry", value_name = "NAME", num_args = 1..)]
    pub(crate) databases: Vec<String>,

    /// Tell how many rows of each table were removed and added; reads no more than what changed, as far as possible
    #[arg(long)]
    pub(crate) tables: bool,

    /// End with exit code 27 where anything differs
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Open {
    /// The archive: its name, its id, or latest
    #[arg(long, value_name = "ARCHIVE", default_value = "latest")]
    pub(crate) archive: String,

    /// The entry or database; may be left out where there is only one
    #[arg(long, visible_alias = "entry", value_name = "NAME")]
    pub(crate) database: Option<String>,

    /// Run its client, psql or sqlite3 or the like, and end with it
    #[arg(long, visible_alias = "client", conflicts_with = "command")]
    pub(crate) psql: bool,

    /// Nothing can be changed there by accident: PostgreSQL and SQLite
    #[arg(long)]
    pub(crate) read_only: bool,

    /// How many processes load what was dumped in parts; by default one for each core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) parallel: Option<u16>,

    /// Run this, with PGHOST and the like set, and end with it
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Tables {
    /// The archive: its name, its id, or latest
    #[arg(long, value_name = "ARCHIVE", default_value = "latest")]
    pub(crate) archive: String,

    /// Only this database
    #[arg(long, visible_alias = "entry", value_name = "NAME")]
    pub(crate) database: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Mount {
    /// Where to mount it: a directory that is empty or not there yet; by default one that is told
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Stay until it is unmounted or ended by Ctrl-C; by default it goes on in the background
    #[arg(long, short)]
    pub(crate) foreground: bool,

    /// Let other users read it too, root among them; users who are not root need user_allow_other in /etc/fuse.conf
    #[arg(long)]
    pub(crate) allow_other: bool,

    /// This is the process that goes on in the background
    #[arg(long, hide = true, conflicts_with = "foreground")]
    pub(crate) in_background: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// Where it is mounted; by default where dbvault mount mounts the repository
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}
