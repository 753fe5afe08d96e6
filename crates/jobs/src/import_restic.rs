//! Snapshots of restic: `restic dump` writes each as a tar.

use std::sync::Arc;

use dbvault_repo::Repository;
use dbvault_source::Interrupt;
use dbvault_source::process::Program;
use jiff::Timestamp;
use serde_json::Value;

use crate::import::{Foreign, ForeignArchive};
use crate::tar::{Spool, store_tar};
use crate::tree_import::{Provenance, Stored};
use crate::{Error, Result, Watcher};

/// Digits of a snapshot's id that tell it from others of the same second.
const ID_DIGITS: usize = 8;

/// A repository of restic.
pub(crate) struct Restic {
    repository: String,
    origin: String,
    archives: Vec<ForeignArchive>,
    spool: Spool,
    interrupt: Interrupt,
}

impl Restic {
    /// Asks `restic` what there is. Errors: `restic` is not there or fails.
    pub(crate) fn open(repository: &str, spool: Spool, interrupt: &Interrupt) -> Result<Restic> {
        let ask = |words: &[&str]| -> Result<Value> {
            let program = restic(repository, interrupt).args(words);
            let said = program.run_captured().and_then(|captured| captured.into_success());
            let said = said.map_err(|source| Error::import(repository, source))?;
            serde_json::from_slice(&said).map_err(|error| malformed(repository, &error.to_string()))
        };
        let config = ask(&["cat", "config"])?;
        let id = config["id"].as_str().ok_or_else(|| malformed(repository, "no id of the repository"))?;
        let rows = ask(&["snapshots", "--json"])?;
        // Without snapshots it says null.
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        let archives: Option<Vec<ForeignArchive>> = rows.iter().map(archive).collect();
        let archives = archives.ok_or_else(|| malformed(repository, "a snapshot without an id or a time"))?;
        let (repository, origin) = (repository.to_owned(), format!("restic:{id}"));
        Ok(Restic { repository, origin, archives: named(archives), spool, interrupt: interrupt.clone() })
    }
}

fn malformed(repository: &str, what: &str) -> Error {
    Error::Foreign { repository: repository.to_owned(), what: format!("restic: {what}") }
}

/// restic by its name in `PATH`. Its repository is not an argument: an address may hold a password.
fn restic(repository: &str, interrupt: &Interrupt) -> Program {
    let program = Program::new("restic").package("restic").interrupt(interrupt);
    program.env("RESTIC_REPOSITORY", repository).env_remove(["RESTIC_REPOSITORY_FILE"])
}

fn archive(row: &Value) -> Option<ForeignArchive> {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let id = text("id");
    let time: Timestamp = row["time"].as_str()?.parse().ok()?;
    let tags = row["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| ForeignArchive {
        // Snapshots have no names.
        name: format!("{}-{}", text("hostname"), time.strftime("%Y-%m-%dT%H:%M:%SZ")),
        own_name: id.clone(),
        id,
        started_ms: time.as_millisecond(),
        host: text("hostname"),
        user: text("username"),
        comment: None,
        tags: tags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

/// Snapshots of one host and second get names of their own. The name of a snapshot does not depend on which others there are
/// but those.
fn named(mut archives: Vec<ForeignArchive>) -> Vec<ForeignArchive> {
    let names: Vec<String> = archives.iter().map(|archive| archive.name.clone()).collect();
    for archive in &mut archives {
        if names.iter().filter(|name| **name == archive.name).count() > 1 {
            archive.name = format!("{}-{}", archive.name, &archive.id[..ID_DIGITS.min(archive.id.len())]);
        }
    }
    archives
}

impl Foreign for Restic {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn archives(&self) -> &[ForeignArchive] {
        &self.archives
    }

    fn store(
        &mut self,
        repository: &Repository,
        archive: &ForeignArchive,
        provenance: Provenance,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Stored> {
        let failed = |source| Error::import(&archive.name, source);
        let program = restic(&self.repository, &self.interrupt).args(["dump", &archive.id, "/"]);
        let (process, mut output) = program.spawn_reader().map_err(failed)?;
        let copied = self.spool.copy(&mut output, &mut || Ok(()));
        drop(output);
        let spooled = match copied {
            Ok(spooled) => spooled,
            Err(error) => {
                process.kill();
                return Err(failed(dbvault_source::Error::from_io("take what restic dumps", error)));
            }
        };
        // Its end says whether it was whole.
        process.finish().map_err(failed)?;
        store_tar(repository, spooled, &format!("restic dump of {}", archive.name), provenance, watcher, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_and_named() {
        let row = |id: &str, time: &str| serde_json::json!({"id": id, "time": time, "hostname": "h", "username": "u", "tags": ["a", "b"]});
        let rows = [
            row("0011223344", "2026-11-22T09:13:25.123456789+01:00"),
            row("aabbccddee", "2026-11-22T08:13:25.9Z"),
            row("ffeeddccbb", "2026-11-22T08:13:26Z"),
        ];
        let archives = named(rows.iter().map(|row| archive(row).unwrap()).collect());
        let names: Vec<&str> = archives.iter().map(|archive| archive.name.as_str()).collect();
        let wanted =
            ["h-2026-11-22T08:13:25Z-00112233", "h-2026-11-22T08:13:25Z-aabbccdd", "h-2026-11-22T08:13:26Z"];
        assert_eq!(names, wanted);
        assert_eq!((archives[0].started_ms, archives[0].tags.len()), (1_795_335_205_123, 2));
        assert_eq!(archive(&row("x", "2026-11-22T08:13:26Z")), None);
    }
}
