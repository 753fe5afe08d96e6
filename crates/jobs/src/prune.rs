//! Prune: archives that no rule keeps go into the trash.

use std::collections::BTreeSet;
use std::sync::Arc;

use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::{ArchiveInfo, ArchiveList, Monitor, Repository};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::retention::{self, Candidate, Rules, Verdict};
use crate::{Error, Result};

/// What a prune would do.
#[derive(Debug)]
pub struct Plan {
    /// All archives that are not deleted, oldest first, and what becomes of each.
    pub decisions: Vec<(ArchiveInfo, Verdict)>,
}

impl Plan {
    /// Decides by `rules`, at `now`, with the days of `zone`; archives with one of `keep_tags` stay.
    ///
    /// Errors: those of reading manifests. An archive whose table of entries can't be read is kept.
    pub fn make(
        repository: &Repository,
        rules: &Rules,
        keep_tags: &[String],
        now: Timestamp,
        zone: &TimeZone,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Plan> {
        let ArchiveList { archives, .. } = repository.archives()?;
        let archives: Vec<ArchiveInfo> =
            archives.into_iter().filter(|info| info.deleted_ms.is_none()).collect();
        let reader = repository.reader(monitor)?;
        let mut tables = Vec::new();
        for info in &archives {
            tables.push(match reader.entries(&info.manifest) {
                Err(stop @ dbvault_repo::Error::Interrupted) => return Err(stop.into()),
                entries => entries.ok(),
            });
        }
        let series = Series::of(&archives, &tables);
        let mut candidates = Vec::new();
        for (info, entries) in archives.iter().zip(&tables) {
            candidates.push(Candidate {
                id: info.manifest.id,
                series: series.of_archive(&info.manifest, entries.as_deref().unwrap_or_default()),
                started_ms: info.manifest.started_ms,
                protected: info.remarks.protected,
                tagged: info.remarks.tags.iter().any(|tag| keep_tags.contains(tag)),
                good: entries.is_some(),
                complete: info.manifest.is_complete(),
            });
        }
        let verdicts = retention::decide(&candidates, rules, now, zone);
        Ok(Plan { decisions: archives.into_iter().zip(verdicts).collect() })
    }

    /// Archives that no rule keeps.
    pub fn dropped(&self) -> impl Iterator<Item = &ArchiveInfo> {
        self.decisions.iter().filter(|(_, why)| why.is_none()).map(|(info, _)| info)
    }

    /// Errors: [`Error::DropsMost`] where more than half of the archives would go.
    pub fn check_share(&self) -> Result<()> {
        let (dropped, all) = (self.dropped().count(), self.decisions.len());
        if 2 * dropped > all { Err(Error::DropsMost { dropped, all }) } else { Ok(()) }
    }

    /// Marks what is dropped as deleted.
    pub fn carry_out(&self, repository: &Repository) -> Result<()> {
        let ids: Vec<_> = self.dropped().map(|info| info.manifest.id).collect();
        Ok(repository.delete_archives(&ids)?)
    }
}

/// Which archives are of one series: the same databases of the same host.
struct Series {
    /// Those that complete archives make: the host, and what is backed up there.
    complete: BTreeSet<(String, Vec<Item>)>,
}

/// A name, and the word for the kind.
type Item = (String, &'static str);

impl Series {
    fn of(archives: &[ArchiveInfo], tables: &[Option<Vec<EntryRecord>>]) -> Series {
        let both = archives.iter().zip(tables).filter(|(info, _)| info.manifest.is_complete());
        let key = |(info, entries): (&ArchiveInfo, &Option<Vec<EntryRecord>>)| {
            (info.manifest.host.clone(), items(entries.as_deref().unwrap_or_default()))
        };
        Series { complete: both.map(key).collect() }
    }

    /// The series of an archive. One that lacks something belongs to the complete ones that have what it has and
    /// what it lacks; where there is none, to others that have and lack the same.
    fn of_archive(&self, manifest: &ArchiveManifest, entries: &[EntryRecord]) -> String {
        let items = items(entries);
        let host = &manifest.host;
        if manifest.is_complete() {
            return words(host, &items);
        }
        let lacks = |item: &Item| manifest.failed.iter().any(|failed| failed.name == item.0);
        let fits = |(of_host, all): &&(String, Vec<Item>)| {
            of_host == host
                && all.len() == items.len() + manifest.failed.len()
                && all.iter().all(|item| items.contains(item) || lacks(item))
        };
        match self.complete.iter().find(fits) {
            Some((_, all)) => words(host, all),
            None => {
                let lacking = manifest.failed.iter().map(|failed| (failed.name.clone(), "?"));
                let mut all: Vec<Item> = items.into_iter().chain(lacking).collect();
                all.sort_unstable();
                words(host, &all)
            }
        }
    }
}

fn items(entries: &[EntryRecord]) -> Vec<Item> {
    let mut items: Vec<Item> =
        entries.iter().map(|entry| (entry.meta.name.clone(), entry.meta.kind.name())).collect();
    items.sort_unstable();
    items
}

fn words(host: &str, items: &[Item]) -> String {
    items.iter().fold(host.to_owned(), |text, (name, kind)| format!("{text}\n{kind} {name}"))
}
