//! The engine as a whole, one module a subject; each fault that is claimed to be survived is made to happen.
// Helpers of tests panic on purpose, as the tests do, and tell how much was tried.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod cache;
mod collect;
mod common;
mod concurrent;
mod copies;
mod copy;
mod crash;
mod deltas;
mod faults;
mod fences;
mod flushes;
mod full_disk;
mod keys;
mod notes;
mod objects;
mod order;
mod parity;
mod protocol;
mod random;
mod recompress;
mod repack;
mod repair;
mod round_trip;
mod sample;
mod scrub;
mod sources;
mod stream_diff;
mod table_index;
mod tree_model;
mod trees;
