//! Bytes <-> values: what is every byte of a repository, and what does it mean?
//!
//! Pure: no input or output, no clock, no threads, no random numbers. `docs/format.md` is this crate in
//! prose, box by box; a file here is named after one noun of that document.

pub mod bytes;
pub mod chunk_list;
pub mod chunker;
pub mod compress;
pub mod config;
pub mod entry;
mod error;
pub mod file_table;
pub mod header;
pub mod id;
pub mod index_segment;
pub mod key_slot;
pub mod keys;
pub mod manifest;
pub mod note;
pub mod object;
pub mod pack;
pub mod padding;
pub mod parity;
pub mod root;
pub mod seal;
pub mod session;
pub mod similarity;
pub mod trash;

pub use error::{Error, Result};

/// Largest chunk, plaintext bytes: nothing larger is ever allocated for one record.
pub const CHUNK_BYTES_MAX: usize = 16 << 20;

/// Longest chain of chunks that must be decoded to read one: a whole chunk has depth 0.
pub const DELTA_DEPTH_MAX: u8 = 31;
