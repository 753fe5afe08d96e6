//! Bytes <-> values: what is every byte of a repository, and what does it mean?
//!
//! Pure: no input or output, no clock, no threads, no random numbers.

pub mod entry;
