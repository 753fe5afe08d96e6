//! The engine: what is stored where, and when does an archive exist?
//!
//! Knows no database. Stored objects are never changed: packs, then index segments, then the archive are
//! written; archive, index segments, packs is the order in which they may go. `docs/protocol.md` is this
//! crate's argument why nothing is ever lost.

mod archives;
mod backup;
mod base_choice;
mod check;
mod chunk_reader;
mod entropy;
mod error;
mod index;
mod key_slots;
mod layout;
#[doc(hidden)]
pub mod measure;
mod monitor;
mod pack_reader;
mod pack_writer;
mod pipeline;
mod repository;
mod reuse;
mod segment_writer;
mod session;
mod stream_reader;
mod trash;
mod view;

pub use archives::{ArchiveInfo, ArchiveList};
pub use backup::{BackupOptions, BackupTxn, PendingEntry};
pub use check::{CheckDepth, CheckReport, DamagedEntry, Finding};
pub use error::{Error, Result};
pub use key_slots::SlotInfo;
pub use monitor::{Counter, Monitor, NoMonitor, Phase};
pub use repository::{Client, RepoProbe, Repository};
pub use stream_reader::{Reader, StreamReader};
