//! What dbvault does for its user: joins sources, targets and the repository, and knows where settings and
//! secrets come from.
//!
//! Errors are facts; nothing here prints, asks or words a message. The command line passes callbacks where a
//! person must be asked.

pub mod backup;
pub mod client;
pub mod config;
mod error;
pub mod extract;
pub mod key_file;
pub mod place;
pub mod registry;
pub mod restore;
pub mod secrets;
pub mod selection;
pub mod unlock;
mod watcher;

pub use error::{Error, Result};
pub use watcher::Watcher;
