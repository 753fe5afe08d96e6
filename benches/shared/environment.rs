//! What every benchmark asks of its environment.
#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::env;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

pub(crate) type Result<T> = std::result::Result<T, String>;

/// Whether this run is to measure: `cargo test --benches` runs these programs too, but without the word.
pub(crate) fn is_to_measure() -> bool {
    env::args().any(|argument| argument == "--bench")
}

/// The number that a variable holds, or `default`.
pub(crate) fn number<T: FromStr>(name: &str, default: T) -> Result<T> {
    match env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text.parse().map_err(|_| format!("{name} is not a number: {text}")),
    }
}

/// The dbvault to measure.
pub(crate) fn program() -> PathBuf {
    env::var_os("DBVAULT_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_dbvault").into()).into()
}

/// An error in words.
pub(crate) fn words(error: impl Display) -> String {
    error.to_string()
}
