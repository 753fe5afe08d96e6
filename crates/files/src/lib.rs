//! Files of the machine to records and content, and back: what is there, and how is it made again?
//!
//! A [`Walk`] finds files in the order of a file table, [`Capture`] tells all that one is and reads its content, a
//! [`Placer`] makes files from records below a target, and [`Patterns`] choose. Nothing here knows a repository.
//! Attributes, and what is restored without being opened, are reached through `/proc/self/fd`, which has to be there.

mod acl_text;
mod capture;
mod directory;
mod directory_stack;
mod error;
mod expand;
mod file_reader;
mod file_stat;
mod file_writer;
mod flags;
mod glob;
mod metadata;
mod names;
mod open_directory;
mod patterns;
mod place;
mod private_tree;
mod remove;
mod roots;
mod sparse;
mod temporary_name;
mod walk;
mod walk_level;
mod xattrs;

pub use acl_text::{AclReader, acl_to_text};
pub use capture::{Capture, Captured, HardLinks, UNCHANGED_MARGIN_SECONDS, is_unchanged};
pub use error::{Error, Problem, Result};
pub use expand::expand_path;
pub use file_reader::{FileReader, ReadEnd};
pub use file_stat::FileStat;
pub use file_writer::{FileWriter, PendingFile};
pub use patterns::{Patterns, Style, Verdict};
pub use place::{PlaceOptions, Placed, Placer, Report};
pub use private_tree::PrivateTree;
pub use roots::{Root, read_path_list};
pub use walk::{FoundFile, Walk, WalkOptions};
