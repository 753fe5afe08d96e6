//! Choosing entries of an archive by what the user calls them.

use std::path::Path;
use std::sync::Arc;

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{ArchiveInfo, ArchiveList, LATEST, Monitor, Repository};

use crate::{Error, Result};

/// Which of several databases of one name is meant: where it was when it was backed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Host name, address or socket directory.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// The user's word for the server.
    pub label: Option<String>,
    /// The word for the kind of database, as lists show it; a configuration's `…_databases` will do.
    pub kind: Option<String>,
}

impl Origin {
    /// Whether an entry comes from there.
    pub fn fits(&self, entry: &EntryRecord) -> bool {
        let known = |key| entry.attribute(key).map(str::to_owned);
        let is = |wanted: &Option<String>, key| wanted.is_none() || *wanted == known(key);
        let kind = self.kind.as_deref().map(|kind| kind.trim_end_matches("_databases"));
        is(&self.host, attribute::HOST)
            && is(&self.port.map(|port| port.to_string()), attribute::PORT)
            && is(&self.label, attribute::LABEL)
            && kind.is_none_or(|kind| kind == entry.meta.kind.name())
    }
}

/// The parts of the database that `wanted` means, in their order; one entry where it was dumped as one: that of the name,
/// else the only one that is a dump of the database of that name or of a file of that name.
pub fn find_whole<'a>(
    archive: &str,
    entries: &'a [EntryRecord],
    wanted: &str,
) -> Result<Vec<&'a EntryRecord>> {
    let of_whole: Vec<&EntryRecord> =
        entries.iter().filter(|entry| entry.attribute(attribute::WHOLE) == Some(wanted)).collect();
    if !of_whole.is_empty() {
        return Ok(of_whole);
    }
    let found = find(archive, entries, wanted)?;
    Ok(match found.attribute(attribute::WHOLE) {
        // One part alone is of no use.
        Some(whole) => {
            entries.iter().filter(|entry| entry.attribute(attribute::WHOLE) == Some(whole)).collect()
        }
        None => vec![found],
    })
}

/// An archive that was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// The archive.
    pub info: ArchiveInfo,
    /// The newest of those that were passed over, for what they lack.
    pub passed_over: Option<ArchiveInfo>,
}

/// The archive that `wanted` means when `entries` of it are wanted: a name, an id, or `latest`. That is the newest
/// that has them all, complete or not; where no entry is named, the newest complete one, or else the newest.
///
/// Errors: those of [`Repository::find_archive`] and of reading tables of entries.
pub fn archive(
    repository: &Repository,
    wanted: &str,
    entries: &[String],
    monitor: Arc<dyn Monitor>,
) -> Result<Chosen> {
    if wanted != LATEST {
        return Ok(Chosen { info: repository.find_archive(wanted)?, passed_over: None });
    }
    let ArchiveList { mut archives, damaged } = repository.archives()?;
    // It may be newer than all others.
    if let Some((_, damage)) = damaged.into_iter().next() {
        return Err(damage.into());
    }
    archives.retain(|info| info.deleted_ms.is_none());
    let mut place = None;
    if !entries.is_empty() {
        let reader = repository.reader(monitor)?;
        for (at, info) in archives.iter().enumerate().rev() {
            let table = reader.entries(&info.manifest)?;
            let has = |wanted: &String| table.iter().any(|entry| is_called(entry, wanted));
            if entries.iter().all(has) {
                place = Some(at);
                break;
            }
        }
    }
    let place = place.or_else(|| archives.iter().rposition(|info| info.manifest.is_complete()));
    let Some(place) = place.or(archives.len().checked_sub(1)) else {
        return Err(dbvault_repo::Error::NoSuchArchive { wanted: wanted.to_owned() }.into());
    };
    let newest = archives.last().filter(|newest| newest.manifest.id != archives[place].manifest.id).cloned();
    let passed_over = newest.filter(|newest| !newest.manifest.is_complete());
    Ok(Chosen { info: archives.swap_remove(place), passed_over })
}

fn is_called(entry: &EntryRecord, wanted: &str) -> bool {
    entry.meta.name == wanted || entry.attribute(attribute::WHOLE) == Some(wanted) || answers(entry, wanted)
}

/// The entry that `wanted` means: the one of that name, else the only one that is a dump of the database of that
/// name or of a file of that name.
pub fn find<'a>(archive: &str, entries: &'a [EntryRecord], wanted: &str) -> Result<&'a EntryRecord> {
    if let Some(entry) = entries.iter().find(|entry| entry.meta.name == wanted) {
        return Ok(entry);
    }
    let answering: Vec<&EntryRecord> = entries.iter().filter(|entry| answers(entry, wanted)).collect();
    match answering.as_slice() {
        [entry] => Ok(entry),
        several => Err(Error::NoSuchEntry {
            archive: archive.to_owned(),
            wanted: wanted.to_owned(),
            available: if several.is_empty() { names(entries) } else { names(several.iter().copied()) },
        }),
    }
}

/// The only entry there is.
pub fn only<'a>(archive: &str, entries: &'a [EntryRecord]) -> Result<&'a EntryRecord> {
    match entries {
        [entry] => Ok(entry),
        _ => Err(Error::EntryUnchosen { archive: archive.to_owned(), available: names(entries) }),
    }
}

fn answers(entry: &EntryRecord, wanted: &str) -> bool {
    let file_name = entry.attribute(attribute::PATH).and_then(|path| Path::new(path).file_name());
    entry.attribute(attribute::DATABASE) == Some(wanted) || file_name.is_some_and(|name| name == wanted)
}

fn names<'a>(entries: impl IntoIterator<Item = &'a EntryRecord>) -> Vec<String> {
    entries.into_iter().map(|entry| entry.meta.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbvault_format::chunk_list::StreamRef;
    use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
    use dbvault_format::manifest::Sizes;

    fn entry(name: &str, key: &str, value: &str) -> EntryRecord {
        EntryRecord {
            meta: EntryMeta {
                name: name.into(),
                kind: EntryKind::Sqlite,
                grid: Grid::Content,
                attributes: [(key.to_owned(), value.to_owned())].into(),
            },
            stream: StreamRef::default(),
            sizes: Sizes::default(),
            duration_ms: 0,
            report: EntryReport::default(),
            table: None,
        }
    }

    #[test]
    fn an_entry_answers_to_its_name_its_database_and_its_file_name() {
        let entries = [
            entry("shop", attribute::DATABASE, "users"),
            entry("/a/app.db", attribute::PATH, "/a/app.db"),
            entry("/b/app.db", attribute::PATH, "/b/app.db"),
            entry("users", attribute::DATABASE, "other"),
        ];
        let found = |wanted| find("x", &entries, wanted).map(|entry| entry.meta.name.as_str());
        assert_eq!(found("shop").unwrap(), "shop");
        assert_eq!(found("users").unwrap(), "users", "a name goes before a database");
        assert_eq!(found("other").unwrap(), "users");
        assert_eq!(found("/a/app.db").unwrap(), "/a/app.db");
        for (wanted, count) in [("app.db", 2), ("none", 4)] {
            let Err(Error::NoSuchEntry { available, .. }) = found(wanted) else { panic!("{wanted}") };
            assert_eq!(available.len(), count);
        }
        assert!(only("x", &entries).is_err());
        assert!(only("x", &entries[..1]).is_ok());
    }
}
