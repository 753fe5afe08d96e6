//! Fuzzing of everything that reads bytes from outside. See `docs/contributing.md`.

// By its path: with the package it is in would come RocksDB, a quarter of an hour to build for fuzzing.
#[path = "../../crates/jobs/src/retention.rs"]
pub mod retention;
pub mod targets;
