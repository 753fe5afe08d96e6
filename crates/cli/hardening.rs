//! Secrets stay out of core files and out of reach of debuggers of the same user.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids core files for this process and its children. A system that refuses loses us nothing but this.
pub(crate) fn keep_secrets_out_of_core_files() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
