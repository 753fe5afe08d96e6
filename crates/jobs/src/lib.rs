//! What dbvault does for its user: joins sources, targets and the repository, and knows where settings and
//! secrets come from.
//!
//! Errors are facts; nothing here prints, asks or words a message. The command line passes callbacks where a
//! person must be asked.

pub mod archive_name;
pub mod backup;
pub mod client;
pub mod config;
pub mod configured;
pub mod contents;
pub mod database;
pub mod diff;
mod diff_files;
mod diff_rows;
pub mod diff_tables;
pub mod diff_trees;
pub mod drill;
mod error;
pub mod extract;
pub mod hooks;
pub mod import;
mod import_borg;
mod import_restic;
pub mod key_file;
mod lanes;
pub mod metrics;
pub mod monitoring;
pub mod open;
pub mod place;
pub mod prune;
pub mod registry;
pub mod restore;
pub mod restore_table;
pub mod retention;
mod sandbox;
pub mod schedule;
pub mod secrets;
pub mod selection;
pub mod status;
mod stored_dump;
pub mod supervise;
pub mod tar;
pub mod tree_backup;
pub mod tree_extract;
mod tree_import;
mod tree_snapshots;
pub mod unlock;
mod watcher;

pub use error::{Error, Result};
pub use watcher::Watcher;
