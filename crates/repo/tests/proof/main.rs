//! The proof kit: crashes, errors and damage in great number, and what must hold after each.
//!
//! Each test prints what it tried in lines that begin with `proof: `; see `docs/reliability.md`.
// Helpers of tests panic on purpose, as the tests do, and tell how much was tried.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod bytes;
#[path = "../engine/common.rs"]
#[allow(dead_code, reason = "each test target takes what it needs")]
mod common;
mod crash;
mod errors;
mod eye;
mod ledger;
#[path = "../engine/objects.rs"]
#[allow(dead_code, reason = "each test target takes what it needs")]
mod objects;
mod reader;
#[path = "../engine/sample.rs"]
#[allow(dead_code, reason = "each test target takes what it needs")]
mod sample;
mod story;
mod tally;
mod worlds;
