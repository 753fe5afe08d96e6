//! Fuzzing of everything that reads bytes from outside. See `docs/contributing.md`.

pub mod targets;
