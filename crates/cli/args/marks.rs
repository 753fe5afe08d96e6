//! The words of commands about archives as they are: their names, tags and remarks, and marks to delete or to keep them.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The archives: names or ids
    #[arg(required = true, value_name = "ARCHIVE")]
    pub(crate) archives: Vec<String>,

    /// Only tell what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// The archive: a name, an id or latest
    pub(crate) archive: String,

    /// Tags to give it
    #[arg(value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Tag to take from it
    #[arg(long, value_name = "TAG")]
    pub(crate) remove: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    /// What to find: 'etc/*.conf', 're:passwd$', 'pp:home/me'
    #[arg(value_name = "PATTERN", required = true)]
    pub(crate) patterns: Vec<String>,

    /// Only in this archive
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) archive: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// The archive: a name, an id or latest
    pub(crate) archive: String,

    /// Its name from now on
    #[arg(value_name = "NEW_NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Comment {
    /// The archive: a name, an id or latest
    pub(crate) archive: String,

    /// What is said of it, in place of what was said before
    #[arg(value_name = "TEXT", required_unless_present = "remove", conflicts_with = "remove")]
    pub(crate) text: Option<String>,

    /// Say nothing of it any more
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Protect {
    /// The archives: names or ids
    #[arg(required = true, value_name = "ARCHIVE")]
    pub(crate) archives: Vec<String>,

    /// Protect them no more
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Undelete {
    /// The archives: names or ids
    #[arg(required = true, value_name = "ARCHIVE")]
    pub(crate) archives: Vec<String>,
}
