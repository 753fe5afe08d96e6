//! Names of snapshots: by them a run knows its own, those of runs that go on, and those of runs that were killed.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// How the name of every snapshot begins.
const WORD: &str = "dbvault-snapshot-";
/// How names of directories that lead to snapshots begin: the same, hidden. No backup takes such a directory.
pub const SNAPSHOT_DIRECTORY_PREFIX: &str = ".dbvault-snapshot-";
/// Most of the host's name that is in one, bytes: a logical volume's name has room for 127.
const HOST_BYTES_MAX: usize = 40;

/// A process that makes snapshots: `dbvault-snapshot-HOST-BOOT-PROCESS-STARTED`, with the first of the boot's id, and when
/// the process was started, in ticks since then. So the number of a process that is used again tells nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    host: String,
    boot: String,
    process: u32,
    started: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn this() -> Result<Owner> {
        let process = std::process::id();
        let started = started(process).ok_or_else(|| Error::Io {
            what: format!("read /proc/{process}/stat"),
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        Ok(Owner { host: host()?, boot: boot()?, process, started })
    }

    /// A new name for a snapshot of this process.
    pub(crate) fn new_name(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Owner { host, boot, process, started } = self;
        format!("{WORD}{host}-{boot}-{process}-{started}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether `name` is that of a snapshot that dbvault took on this host, and the process that did is no more.
    pub(crate) fn is_leftover(&self, name: &str) -> bool {
        Owner::of(name).is_some_and(|other| {
            let is_running = other.boot == self.boot && started(other.process) == Some(other.started);
            other.host == self.host && !is_running
        })
    }

    /// Who made what has this name; `None` where that was not dbvault.
    fn of(name: &str) -> Option<Owner> {
        let mut words = name.strip_prefix(WORD)?.rsplitn(5, '-');
        let _number: u64 = words.next()?.parse().ok()?;
        let started = words.next()?.parse().ok()?;
        let process = words.next()?.parse().ok()?;
        let boot = words.next()?.to_owned();
        let host = words.next()?.to_owned();
        let is_boot = boot.len() == 8 && boot.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_boot.then_some(Owner { host, boot, process, started })
    }
}

/// Whether `name` is that of a snapshot that dbvault took, anywhere.
pub(crate) fn is_snapshot(name: &str) -> bool {
    Owner::of(name).is_some()
}

/// The name of this host, of what may be in names of snapshots.
fn host() -> Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name = fs::read_to_string(path).map_err(Error::io(format!("read {path}")))?;
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    Ok(name.trim().chars().take(HOST_BYTES_MAX).map(plain).collect())
}

fn boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(path).map_err(Error::io(format!("read {path}")))?;
    Ok(id.chars().take(8).collect())
}

/// When a process was started, in ticks since the machine was; `None` where there is none, or it has ended.
fn started(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in parentheses, may have blanks in it.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_process_that_is_no_more_left_is_left_over() {
        let this = Owner::this().unwrap();
        let name = this.new_name();
        assert_eq!(Owner::of(&name), Some(this.clone()));
        assert_ne!(name, this.new_name());
        assert!(!this.is_leftover(&name), "it is ours, and we run");
        let named = |owner: &Owner| owner.new_name();
        assert!(this.is_leftover(&named(&Owner { started: this.started + 1, ..this.clone() })));
        assert!(this.is_leftover(&named(&Owner { boot: "00000000".into(), ..this.clone() })));
        assert!(!this.is_leftover(&named(&Owner { host: "elsewhere".into(), started: 1, ..this.clone() })));
        for other in [
            "",
            "daily-2026-01-01",
            "dbvault-snapshot-",
            "dbvault-snapshot-mine",
            "dbvault-snapshot-a-b-c-d-e",
        ] {
            assert!(!this.is_leftover(other), "{other}");
        }
        let prefixed = format!("x{}", named(&Owner { started: 1, ..this.clone() }));
        assert!(!this.is_leftover(&prefixed));
    }
}
