//! Choosing entries of an archive by what the user calls them.

use std::path::Path;

use dbvault_format::entry::attribute;
use dbvault_format::manifest::EntryRecord;

use crate::{Error, Result};

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
