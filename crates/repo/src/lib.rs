//! The engine: what is stored where, and when does an archive exist?
//!
//! Knows no database. Stored objects are never changed: packs, then index segments, then the archive are
//! written; archive, index segments, packs is the order in which they may go. `docs/protocol.md` is this
//! crate's argument why nothing is ever lost.

mod archives;
mod backup;
mod base_choice;
mod block_writer;
mod carry;
mod check;
mod chunk_reader;
mod collect;
mod copy;
mod decoded_cache;
mod entropy;
mod error;
mod file_content;
mod index;
mod key_slots;
mod layout;
mod liveness;
#[doc(hidden)]
pub mod measure;
mod monitor;
mod notes;
mod pack_list;
mod pack_reader;
mod pack_writer;
mod parity;
mod pipeline;
mod random_reader;
mod repair;
mod repository;
mod reserve;
mod reuse;
#[doc(hidden)]
pub mod scripted;
mod segment_writer;
mod session;
mod side_by_side;
mod splice;
mod stream_diff;
mod stream_items;
mod stream_reader;
mod table_index;
mod table_pages;
mod table_reader;
mod trash;
mod tree_writer;
mod view;

pub use archives::{ArchiveInfo, ArchiveList, LATEST};
pub use backup::{BackupOptions, BackupTxn, PendingEntry};
pub use check::scrub::{ScrubReport, scrub};
pub use check::{CheckDepth, CheckReport, DamagedEntry, FILES_NAMED_MAX, Finding, Part};
pub use collect::{
    CollectOptions, CollectReport, Exclusive, RecompressOptions, RecompressReport, RunningBackup,
};
pub use copy::{Copied, CopyCounts, Counterpart};
pub use dbvault_format::note::Proof;
pub use error::{Error, Result};
pub use file_content::FileContent;
pub use key_slots::SlotInfo;
pub use monitor::{Counter, Monitor, NoMonitor, Phase};
pub use notes::{PROOF_DETAIL_BYTES_MAX, Remarks};
pub use random_reader::{CACHE_BYTES, RandomReader};
pub use repair::{RepairOptions, RepairReport};
pub use repository::{Client, RepoProbe, Repository};
pub use stream_diff::{SharedRun, StreamDiff};
pub use stream_items::StreamItems;
pub use stream_reader::{Reader, StreamReader};
pub use table_index::{Found, Listed, TableIndex};
pub use table_pages::{TableFile, TablePages};
pub use table_reader::TableReader;
pub use tree_writer::TreeWriter;
