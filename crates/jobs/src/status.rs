//! How well backed up is each database? Read from the repository alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{ArchiveInfo, Monitor, Proof, Repository};

use crate::database::{ALL, Database};
use crate::{Error, Result};

/// A size below this share of the one before is a problem: one half.
const SHRUNK_DIVISOR: u64 = 2;

/// All that is known of the backups in a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Archives that are not deleted.
    pub archives: usize,
    /// Archives that can't be read.
    pub damaged: usize,
    /// The newest archive of each host.
    pub newest: BTreeMap<String, Newest>,
    /// Databases, and other sources, by host, name and kind.
    pub databases: Vec<DatabaseStatus>,
}

/// The newest archive of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Its name.
    pub archive: String,
    /// When its backup began and ended, milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// Likewise.
    pub finished_ms: i64,
    /// Whether all that was asked for is in it.
    pub complete: bool,
}

/// How well backed up one database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// Host that it is backed up from; empty where no archive has it.
    pub host: String,
    /// Name of its entry.
    pub name: String,
    /// What it is; `None` where every dump of it failed.
    pub kind: Option<EntryKind>,
    /// The newest archive that has it.
    pub last: Option<LastBackup>,
    /// Length of its stream in the archive before, bytes.
    pub previous_bytes: Option<u64>,
    /// Why it is not in the newest archive that should have it.
    pub failed: Option<String>,
    /// The last drill, and the name of the archive that was tried.
    pub drill: Option<(Proof, String)>,
    /// When a drill last could restore it, milliseconds since 1970 UTC.
    pub proven_ms: Option<i64>,
}

/// A backup of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastBackup {
    /// Name of the archive.
    pub archive: String,
    /// When the backup began, milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// When it ended.
    pub finished_ms: i64,
    /// How long this database took, milliseconds.
    pub duration_ms: u64,
    /// Length of its stream, bytes.
    pub original_bytes: u64,
    /// What it added to the repository, bytes.
    pub stored_bytes: u64,
}

/// What is wrong with the backups of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No archive has it.
    Missing,
    /// The newest archive that should have it does not, for this reason.
    Failed(String),
    /// Its last backup is so old, milliseconds.
    Old(i64),
    /// Its last backup has less than half of the bytes of the one before.
    Shrunk {
        /// Bytes of the one before.
        before_bytes: u64,
        /// Bytes of the last one.
        bytes: u64,
    },
    /// The last drill could not restore it, for this reason.
    NotRestorable(String),
    /// It was never tried whether it can be restored.
    NeverProven,
    /// That it could be restored is so long ago, milliseconds.
    ProofOld(i64),
}

/// What counts as a problem, beside what always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Greatest age of the last backup, milliseconds.
    pub max_age_ms: Option<i64>,
    /// Greatest age of the last drill that restored it, milliseconds; where it is set, there must be one.
    pub max_proof_age_ms: Option<i64>,
}

impl DatabaseStatus {
    /// What is wrong, the worst first.
    pub fn problems(&self, limits: &Limits, now_ms: i64) -> Vec<Problem> {
        let mut problems = Vec::new();
        let too_old = |since_ms: i64, limit_ms: Option<i64>| {
            let age_ms = now_ms - since_ms;
            limit_ms.is_some_and(|limit_ms| age_ms > limit_ms).then_some(age_ms)
        };
        match (&self.last, &self.failed) {
            (None, None) => problems.push(Problem::Missing),
            (_, Some(reason)) => problems.push(Problem::Failed(reason.clone())),
            (Some(_), None) => {}
        }
        if let Some(last) = &self.last {
            problems.extend(too_old(last.started_ms, limits.max_age_ms).map(Problem::Old));
            let before_bytes = self.previous_bytes.unwrap_or(0);
            if last.original_bytes < before_bytes / SHRUNK_DIVISOR {
                problems.push(Problem::Shrunk { before_bytes, bytes: last.original_bytes });
            }
        }
        match &self.drill {
            Some((proof, _)) if !proof.ok => problems.push(Problem::NotRestorable(proof.detail.clone())),
            _ => {}
        }
        match (limits.max_proof_age_ms, self.proven_ms) {
            (Some(_), None) => problems.push(Problem::NeverProven),
            (limit_ms, Some(proven_ms)) => {
                problems.extend(too_old(proven_ms, limit_ms).map(Problem::ProofOld))
            }
            (None, None) => {}
        }
        problems
    }
}

impl Overview {
    /// Reads all manifests and tables of entries. Databases of `wanted` that no archive has are among the result,
    /// as missing; files, such as the configuration, are not.
    ///
    /// Errors: those of reading. What can't be read because it is damaged is counted.
    pub fn read(repository: &Repository, wanted: &[Database], monitor: Arc<dyn Monitor>) -> Result<Overview> {
        let list = repository.archives()?;
        let reader = repository.reader(monitor)?;
        let mut overview = Overview { damaged: list.damaged.len(), ..Overview::default() };
        let mut found = Found::default();
        let mut answered = vec![false; wanted.len()];
        for info in list.archives.iter().filter(|info| info.deleted_ms.is_none()) {
            let entries = match reader.entries(&info.manifest) {
                Err(dbvault_repo::Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    tracing::warn!("{error}: archive {} is not counted", info.manifest.id);
                    overview.damaged += 1;
                    continue;
                }
                Ok(entries) => entries,
            };
            overview.archives += 1;
            overview.newest.insert(info.manifest.host.clone(), newest(info));
            for parts in by_database(&entries).values() {
                found.has(info, parts);
            }
            info.manifest.failed.iter().for_each(|failed| found.lacks(info, &failed.name, &failed.reason));
            for (answered, database) in answered.iter_mut().zip(wanted) {
                let lacks = || info.manifest.failed.iter().any(|failed| failed.name == database.name);
                *answered |= entries.iter().any(|entry| is_of(entry, database)) || lacks();
            }
        }
        overview.databases = found.0.into_values().collect();
        let missing = wanted.iter().zip(&answered).filter(|(_, answered)| !**answered);
        overview.databases.extend(missing.map(|(database, _)| missing_status(database)));
        Ok(overview)
    }
}

fn newest(info: &ArchiveInfo) -> Newest {
    let manifest = &info.manifest;
    Newest {
        archive: manifest.name.clone(),
        started_ms: manifest.started_ms,
        finished_ms: manifest.finished_ms,
        complete: manifest.is_complete(),
    }
}

/// Databases by host and name.
#[derive(Default)]
struct Found(BTreeMap<(String, String), DatabaseStatus>);

impl Found {
    /// `info` has all `parts` of a database. Archives come oldest first.
    fn has(&mut self, info: &ArchiveInfo, parts: &[&EntryRecord]) {
        let Some(first) = parts.first().filter(|first| first.meta.kind != EntryKind::File) else { return };
        let manifest = &info.manifest;
        let status = self.at(&manifest.host, name_of(first));
        status.kind = Some(first.meta.kind);
        status.failed = None;
        let last = LastBackup {
            archive: manifest.name.clone(),
            started_ms: manifest.started_ms,
            finished_ms: manifest.finished_ms,
            // Parts are read side by side.
            duration_ms: parts.iter().map(|part| part.duration_ms).max().unwrap_or(0),
            original_bytes: parts.iter().map(|part| part.sizes.original_bytes).sum(),
            stored_bytes: parts.iter().map(|part| part.sizes.stored_bytes).sum(),
        };
        status.previous_bytes = status.last.replace(last).map(|before| before.original_bytes);
        // A drill tries all parts at once, and says the same of each.
        if let Some(proof) = info.remarks.proofs.get(&first.meta.name) {
            let newer = |(last, _): &(Proof, String)| last.proven_ms < proof.proven_ms;
            if status.drill.as_ref().is_none_or(newer) {
                status.drill = Some((proof.clone(), manifest.name.clone()));
            }
            let proven_ms = proof.ok.then_some(proof.proven_ms);
            status.proven_ms = status.proven_ms.max(proven_ms);
        }
    }

    /// `info` should have it.
    fn lacks(&mut self, info: &ArchiveInfo, name: &str, reason: &str) {
        self.at(&info.manifest.host, name).failed = Some(reason.to_owned());
    }

    fn at(&mut self, host: &str, name: &str) -> &mut DatabaseStatus {
        let new = || DatabaseStatus {
            host: host.to_owned(),
            name: name.to_owned(),
            kind: None,
            last: None,
            previous_bytes: None,
            failed: None,
            drill: None,
            proven_ms: None,
        };
        self.0.entry((host.to_owned(), name.to_owned())).or_insert_with(new)
    }
}

/// The entries of each database, by the names of the databases.
fn by_database(entries: &[EntryRecord]) -> BTreeMap<&str, Vec<&EntryRecord>> {
    let mut databases = BTreeMap::<&str, Vec<&EntryRecord>>::new();
    for entry in entries {
        databases.entry(name_of(entry)).or_default().push(entry);
    }
    databases
}

/// The name of a database that may have been dumped in parts.
fn name_of(entry: &EntryRecord) -> &str {
    entry.attribute(attribute::WHOLE).unwrap_or(&entry.meta.name)
}

/// Whether `entry` is a backup of `database`, or of one of those that it stands for.
fn is_of(entry: &EntryRecord, database: &Database) -> bool {
    let named = || {
        database.name == ALL
            || name_of(entry) == database.name
            || database.label.as_ref() == Some(&entry.meta.name)
            || entry.attribute(attribute::DATABASE) == Some(database.name.as_str())
            || database.path.as_ref().is_some_and(|path| entry.attribute(attribute::PATH) == path.to_str())
    };
    entry.meta.kind == database.kind && named()
}

fn missing_status(database: &Database) -> DatabaseStatus {
    DatabaseStatus {
        host: database.source.hostname.clone().unwrap_or_default(),
        name: database.name.clone(),
        kind: Some(database.kind),
        last: None,
        previous_bytes: None,
        failed: None,
        drill: None,
        proven_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn status() -> DatabaseStatus {
        let mut status = missing_status(&Database::new(EntryKind::Postgresql, "users"));
        status.last = Some(LastBackup {
            archive: "a".into(),
            started_ms: 0,
            finished_ms: 1,
            duration_ms: 1,
            original_bytes: 1000,
            stored_bytes: 10,
        });
        status
    }

    fn proof(ok: bool) -> Option<(Proof, String)> {
        let detail = "rows differ".to_owned();
        Some((Proof { entry: "users".into(), proven_ms: 0, ok, detail, rows: None }, "a".into()))
    }

    #[test]
    fn a_backup_is_fine_until_it_is_old_small_missing_or_not_restorable() {
        let now_ms = 26 * HOUR_MS;
        let none = Limits::default();
        let limits = |hours| Limits { max_age_ms: Some(hours * HOUR_MS), ..none };
        assert!(status().problems(&none, now_ms).is_empty());
        assert!(status().problems(&limits(26), now_ms).is_empty(), "as old as it may be");
        assert_eq!(status().problems(&limits(25), now_ms), [Problem::Old(now_ms)]);
        let half = DatabaseStatus { previous_bytes: Some(2000), ..status() };
        assert!(half.problems(&none, now_ms).is_empty());
        let shrunk = DatabaseStatus { previous_bytes: Some(2002), ..status() };
        assert_eq!(shrunk.problems(&none, now_ms), [Problem::Shrunk { before_bytes: 2002, bytes: 1000 }]);
        let missing = DatabaseStatus { last: None, ..status() };
        assert_eq!(missing.problems(&none, now_ms), [Problem::Missing]);
        let failed = DatabaseStatus { failed: Some("why".into()), ..missing };
        assert_eq!(failed.problems(&none, now_ms), [Problem::Failed("why".into())]);
    }

    #[test]
    fn a_failed_drill_is_a_problem_and_none_is_one_where_it_is_asked_for() {
        let limits = Limits { max_proof_age_ms: Some(HOUR_MS), ..Limits::default() };
        assert_eq!(status().problems(&limits, 0), [Problem::NeverProven]);
        let proven = DatabaseStatus { drill: proof(true), proven_ms: Some(0), ..status() };
        assert!(proven.problems(&limits, HOUR_MS).is_empty());
        assert_eq!(proven.problems(&limits, HOUR_MS + 1), [Problem::ProofOld(HOUR_MS + 1)]);
        let failed = DatabaseStatus { drill: proof(false), ..status() };
        assert_eq!(failed.problems(&Limits::default(), 0), [Problem::NotRestorable("rows differ".into())]);
    }
}
