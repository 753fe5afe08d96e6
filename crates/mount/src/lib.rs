//! A repository as a read-only file system: what is seen where, and how is it read?
//!
//! Archives, and the databases in them, are directories and files that can be read at any place. Listing takes
//! manifests alone; reading takes the chunks that are needed. Nothing is printed: what can't be read is a log event.

mod archive_directory;
mod attributes;
mod catalog;
mod error;
mod files;
mod filesystem;
mod mount_table;
mod mounted;
mod names;
mod node;
mod read_ahead;
mod tables_directory;
mod tree_directory;
mod trees;
mod unmount;

pub use error::{Error, Result};
pub use mounted::{End, MountOptions, Mounted, make_private, mount};
pub use unmount::unmount;

/// An error with its causes, in a line.
fn in_a_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {}", inner.to_string().trim_end());
        cause = inner.source();
    }
    text
}
