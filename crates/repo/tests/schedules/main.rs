//! Proof by trying out: every order in which clients can get in each other's way, random sequences of all commands
//! against a model, and mutants that must not survive.
//!
//! Longer with `DBVAULT_TORTURE=1`; another part of the random space with `DBVAULT_SEED=n`. Lines that begin with
//! `proof: ` tell how much was tried.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests panic on purpose")]

#[allow(dead_code, reason = "for the tests of the engine, which use all of it")]
#[path = "../engine/common.rs"]
mod common;
mod durability;
mod examine;
mod model;
mod mutants;
mod scenarios;
mod world;

/// How many times longer everything is.
pub(crate) fn scale() -> usize {
    dbvault_testkit::tier::either(1, 10)
}
