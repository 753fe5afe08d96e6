//! The engine as a whole, one module a subject; each fault that is claimed to be survived is made to happen.
// Helpers of tests panic on purpose, as the tests do, and tell how much was tried.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod cache;
mod common;
mod concurrent;
mod copies;
mod crash;
mod damage;
mod deltas;
mod faults;
mod flushes;
mod keys;
mod objects;
mod order;
mod protocol;
mod round_trip;
mod sample;
mod sources;
