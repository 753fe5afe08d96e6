//! Where the package is whose tests run.

use std::env;
use std::path::PathBuf;

/// The directory of the package, as cargo tells it to a program that it starts: it is not built in, since two checkouts
/// may share a build directory, and a test must read the files of its own.
///
/// # Panics
/// Where the program was not started by cargo, or by a test that cargo started.
pub fn package_dir() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo starts tests and measurements"))
}
