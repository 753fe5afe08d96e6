//! Drill: entries of an archive restored into throw-away private places, and compared with what was backed up.
//!
//! No server of the user's is touched. What was found is recorded with the archive, so that lists tell when it was
//! last proven that it restores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_format::note::Proof;
use dbvault_repo::{Reader, Repository};
use dbvault_source::{Interrupt, PrivateMariadb, PrivatePostgres, row_counts};
use jiff::Timestamp;

use crate::database::{ALL, Database};
use crate::sandbox::{Sandbox, ServerOrigin};
use crate::selection::Origin;
use crate::{Error, Result, Watcher};

mod mariadb;
mod postgres;
mod redis;
mod sqlite;

/// What to try.
#[derive(Clone, Debug, Default)]
pub struct DrillRequest {
    /// Names of entries or databases; all where there are none.
    pub wanted: Vec<String>,
    /// Which of several of one name.
    pub origin: Origin,
    /// Questions to every database with SQL that is tried: each must be answered, and not by false, 0 or NULL.
    pub queries: Vec<String>,
    /// Databases of the configuration, which may have questions of their own.
    pub databases: Vec<Database>,
    /// Do not record what was found.
    pub dry_run: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was restored, and is what was backed up.
    Proven {
        /// Tables.
        tables: u64,
        /// Rows of them.
        rows: u64,
        /// Whether the rows were counted at the time of the backup too, and are as many.
        compared: bool,
    },
    /// It was not.
    Failed {
        /// Why, in words.
        reason: String,
    },
    /// There is no way to try one of this kind.
    Skipped,
}

/// One entry, or database, that was tried.
#[derive(Clone, Debug)]
pub struct Drilled {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// What was found.
    pub verdict: Verdict,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

/// What the tables and rows of a kind are called, one of each.
pub fn units(kind: EntryKind) -> (&'static str, &'static str) {
    if kind == EntryKind::Redis { ("database", "key") } else { ("table", "row") }
}

/// A drill of one archive.
pub struct Drill<'a> {
    repository: &'a Repository,
    manifest: &'a ArchiveManifest,
    sandbox: Sandbox<'a>,
    request: DrillRequest,
    postgres_servers: BTreeMap<ServerOrigin, PrivatePostgres>,
    mariadb_servers: BTreeMap<ServerOrigin, PrivateMariadb>,
}

impl<'a> Drill<'a> {
    /// A drill of `manifest`.
    pub fn new(
        repository: &'a Repository,
        reader: &'a Arc<Reader>,
        manifest: &'a ArchiveManifest,
        request: DrillRequest,
        interrupt: Interrupt,
    ) -> Result<Drill<'a>> {
        let entries = reader.entries(manifest)?;
        let entries = entries.into_iter().filter(|entry| request.origin.fits(entry)).collect();
        Ok(Drill {
            repository,
            manifest,
            sandbox: Sandbox { reader, archive: &manifest.name, entries, interrupt },
            request,
            postgres_servers: BTreeMap::new(),
            mariadb_servers: BTreeMap::new(),
        })
    }

    /// Tries everything that is wanted, and records what was found of each.
    ///
    /// Errors: there is nothing of that name, it was stopped, or what was found can't be recorded. What fails of an
    /// entry is no error: its verdict tells.
    pub fn run(mut self, watcher: &dyn Watcher) -> Result<Vec<Drilled>> {
        let wholes = self.wholes()?;
        let mut drilled = Vec::new();
        for whole in &wholes {
            let Some(first) = whole.first() else { continue };
            let name = first.attribute(attribute::WHOLE).unwrap_or(&first.meta.name).to_owned();
            let began = Instant::now();
            let verdict = match self.try_one(&name, whole, watcher) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => Verdict::Failed { reason: crate::lanes::reason(&error) },
                Ok(verdict) => verdict,
            };
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            if !self.request.dry_run {
                self.record(whole, &verdict)?;
            }
            drilled.push(Drilled { name, kind: first.meta.kind, verdict, took_ms });
        }
        Ok(drilled)
    }

    /// What is wanted: all parts of each.
    fn wholes(&self) -> Result<Vec<Vec<EntryRecord>>> {
        let mut names: Vec<String> = self.request.wanted.clone();
        if names.is_empty() {
            let is_database = |entry: &&EntryRecord| {
                let part = entry.attribute(attribute::PART);
                part.is_none() || entry.attribute(attribute::WHOLE).is_some()
            };
            let name = |entry: &EntryRecord| {
                entry.attribute(attribute::WHOLE).unwrap_or(&entry.meta.name).to_owned()
            };
            names = self.sandbox.entries.iter().filter(is_database).map(name).collect();
            names.dedup();
        }
        names.iter().map(|name| self.sandbox.whole(name)).collect()
    }

    fn try_one(&mut self, name: &str, whole: &[EntryRecord], watcher: &dyn Watcher) -> Result<Verdict> {
        match whole.first().map(|entry| entry.meta.kind) {
            Some(EntryKind::Postgresql) => self.try_postgres(name, whole, watcher),
            Some(EntryKind::Mariadb | EntryKind::Mysql) => self.try_mariadb(name, whole, watcher),
            Some(EntryKind::Redis) => self.try_redis(name, whole, watcher),
            Some(EntryKind::Sqlite) => self.try_sqlite(name, whole, watcher),
            _ => Ok(Verdict::Skipped),
        }
    }

    /// Asks all questions that there are to what was restored of `entry`: the first that is not answered well.
    fn unanswered(
        &self,
        entry: &EntryRecord,
        ask: &mut dyn FnMut(&str) -> dbvault_source::Result<Option<String>>,
    ) -> Result<Option<Verdict>> {
        let known = |database: &&Database| {
            let name = entry.attribute(attribute::DATABASE).unwrap_or(&entry.meta.name);
            let label = database.label.as_deref();
            database.kind == entry.meta.kind
                && [ALL, name, &entry.meta.name].contains(&database.name.as_str())
                && (label.is_none() || label == entry.attribute(attribute::LABEL))
        };
        let of_database =
            self.request.databases.iter().filter(known).flat_map(|database| &database.drill_queries);
        for query in self.request.queries.iter().chain(of_database) {
            let answer = ask(query).map_err(|error| Error::restore(&entry.meta.name, error, &[]))?;
            let words = match answer.as_deref() {
                None => "nothing",
                Some("f") => "false",
                Some("0") => "0",
                Some("" | "NULL") => "NULL",
                Some(_) => continue,
            };
            return Ok(Some(Verdict::Failed { reason: format!("{query} is answered by {words}") }));
        }
        Ok(None)
    }

    fn record(&self, whole: &[EntryRecord], verdict: &Verdict) -> Result<()> {
        let (ok, detail, rows) = match verdict {
            Verdict::Skipped => return Ok(()),
            Verdict::Failed { reason } => (false, reason.clone(), None),
            Verdict::Proven { tables, rows, compared } => {
                let compared =
                    if *compared { "as when it was backed up" } else { "not counted at the backup" };
                let (table, row) = units(whole.first().map_or(EntryKind::Command, |entry| entry.meta.kind));
                (true, format!("{tables} {table}s, {rows} {row}s, {compared}"), Some(*rows))
            }
        };
        let proven_ms = Timestamp::now().as_millisecond();
        for entry in whole {
            let entry = entry.meta.name.clone();
            let proof = Proof { entry, proven_ms, ok, detail: detail.clone(), rows };
            self.repository.record_proof(&self.manifest.id, proof)?;
        }
        Ok(())
    }
}

/// Rows that were counted at the time of the backup, of all parts.
fn recorded(whole: &[EntryRecord]) -> BTreeMap<String, u64> {
    let each = whole.iter().filter_map(|entry| entry.attribute(attribute::ROW_COUNTS));
    each.flat_map(row_counts::from_json).collect()
}

/// Every table that was counted must be there with as many rows; tables that were not counted then may be more.
fn compare(recorded: &BTreeMap<String, u64>, found: &BTreeMap<String, u64>) -> Verdict {
    let words = |count: Option<&u64>| count.map_or("no table".to_owned(), |rows| format!("{rows} rows"));
    let different: Vec<String> = recorded
        .iter()
        .filter(|(table, rows)| found.get(*table) != Some(rows))
        .map(|(table, rows)| format!("{table}: {rows} rows backed up, {} restored", words(found.get(table))))
        .collect();
    match different.as_slice() {
        [] => Verdict::Proven {
            tables: found.len() as u64,
            rows: found.values().sum(),
            compared: !recorded.is_empty(),
        },
        [first] => Verdict::Failed { reason: first.clone() },
        [first, rest @ ..] => Verdict::Failed { reason: format!("{first}; and {} more tables", rest.len()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_table_and_a_missing_row_are_told() {
        let rows =
            |rows: &[(&str, u64)]| rows.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
        let backed_up = rows(&[("a", 3), ("b", 0)]);
        let proven = |compared, tables, rows| Verdict::Proven { tables, rows, compared };
        assert_eq!(compare(&backed_up, &rows(&[("a", 3), ("b", 0), ("c", 7)])), proven(true, 3, 10));
        assert_eq!(compare(&rows(&[]), &rows(&[("c", 7)])), proven(false, 1, 7));
        let failed = |found: &[(&str, u64)]| match compare(&backed_up, &rows(found)) {
            Verdict::Failed { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(failed(&[("a", 2), ("b", 0)]), "a: 3 rows backed up, 2 rows restored");
        assert_eq!(failed(&[]), "a: 3 rows backed up, no table restored; and 1 more tables");
    }
}
