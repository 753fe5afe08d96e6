//! One archive as a directory: read when somebody looks into it, from its entry table alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::id::SessionId;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_jobs::contents;
use dbvault_repo::{Reader, Result};
use parking_lot::Mutex;

use crate::names;
use crate::node::{EntryFile, Names, Node, What};
use crate::tables_directory::TablesDirectory;
use crate::tree_directory::TreeDirectory;

/// An archive.
#[derive(Debug)]
pub(crate) struct ArchiveDirectory {
    pub(crate) manifest: ArchiveManifest,
    /// What is in it, once it was read.
    contents: Mutex<Option<Arc<Contents>>>,
}

/// What is in an archive.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) names: Arc<Names>,
    /// The databases, in the order of the archive.
    pub(crate) databases: Vec<Database>,
}

/// A database, or something else that is backed up under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    /// Its name, as a path.
    pub(crate) name: Vec<String>,
    /// Its file in the archive, or the directory where its parts are, from the directory of the archive.
    pub(crate) path: String,
    /// What stands behind a time that names the file: a dot and an extension, or nothing.
    pub(crate) extension: String,
}

impl ArchiveDirectory {
    pub(crate) fn new(manifest: ArchiveManifest) -> ArchiveDirectory {
        ArchiveDirectory { manifest, contents: Mutex::default() }
    }

    /// What is in it.
    ///
    /// Errors: the entry table can't be read. It is tried again the next time.
    pub(crate) fn contents(&self, reader: &Arc<Reader>) -> Result<Arc<Contents>> {
        let mut known = self.contents.lock();
        if let Some(contents) = &*known {
            return Ok(contents.clone());
        }
        let contents = Arc::new(arrange(&self.manifest, reader.entries(&self.manifest)?));
        *known = Some(contents.clone());
        Ok(contents)
    }

    /// What to show in place of what can't be read for `error`.
    pub(crate) fn damaged(&self, error: &str) -> Arc<Names> {
        let text = format!(
            "The table of what is in this archive can't be read:\n{error}\n\n`dbvault check` lists all that is damaged.\n"
        );
        let name = "DAMAGED.txt";
        Arc::new(Names::from([(name.to_owned(), Arc::new(text_node(&self.manifest, name, text)))]))
    }
}

fn text_node(manifest: &ArchiveManifest, name: &str, text: String) -> Node {
    // By what it says: the next time it may say something else.
    let inode = Node::inode(&manifest.id.0, &format!("{name}\n{text}"));
    Node { inode, time_ms: manifest.started_ms, what: What::Text(text) }
}

/// Finds a place for each entry.
fn arrange(manifest: &ArchiveManifest, entries: Vec<EntryRecord>) -> Contents {
    let (mut folder, mut databases) = (Folder::default(), Vec::<Database>::new());
    let with_tables: Vec<String> = contents::wholes(&entries)
        .iter()
        .filter(|whole| whole.first().is_some_and(|entry| may_have_tables(entry)))
        .map(|whole| contents::name(whole).to_owned())
        .collect();
    for entry in entries {
        let mut path = names::path(&entry.meta.name);
        let last = path.pop().unwrap_or_default();
        let last = names::with_extension(&last, &entry);
        let whole = entry.attribute(attribute::WHOLE).map(str::to_owned);
        let name = names::path(whole.as_deref().unwrap_or(&entry.meta.name));
        let (folders, file) = folder.add(&path, &last, file_of(manifest, entry));
        let database = match whole {
            // A directory of parts, where the entries are named after what they are parts of.
            Some(_) if folders.len() == name.len() => {
                Database { name, path: folders.join("/"), extension: String::new() }
            }
            _ => {
                let extension = file.rsplit_once('.').filter(|(stem, _)| !stem.is_empty());
                let extension = extension.map(|(_, extension)| format!(".{extension}")).unwrap_or_default();
                let path = folders.iter().chain([&file]).map(String::as_str).collect::<Vec<_>>().join("/");
                Database { name, path, extension }
            }
        };
        if databases.last() != Some(&database) {
            databases.push(database);
        }
    }
    for whole in with_tables {
        let mut path = names::path(&whole);
        let name = path.clone();
        let last = format!("{}.tables", path.pop().unwrap_or_default());
        let node = TablesDirectory::new(manifest.clone(), whole).into_node();
        let (folders, file) = folder.add(&path, &last, Place::File(Box::new(node)));
        let path = folders.iter().chain([&file]).map(String::as_str).collect::<Vec<_>>().join("/");
        databases.push(Database { name, path, extension: ".tables".to_owned() });
    }
    if !manifest.is_complete() {
        let name = "INCOMPLETE.txt";
        folder.add(&[], name, Place::File(Box::new(text_node(manifest, name, lacking(manifest)))));
    }
    Contents { names: Arc::new(folder.into_names(&manifest.id, "", manifest.started_ms)), databases }
}

/// Whether it is worth looking into: nobody has looked yet.
fn may_have_tables(entry: &EntryRecord) -> bool {
    match entry.meta.kind {
        EntryKind::Sqlite => true,
        EntryKind::Postgresql => entry.attribute(attribute::FORMAT) != Some("tar"),
        _ => false,
    }
}

fn file_of(manifest: &ArchiveManifest, entry: EntryRecord) -> Place {
    if entry.table.is_some() {
        return Place::File(Box::new(TreeDirectory::new(manifest, entry).into_node()));
    }
    let mode = entry.attribute(attribute::MODE).and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let inode = Node::inode(&manifest.id.0, &format!("{}\0", entry.meta.name));
    let file =
        EntryFile { archive: manifest.name.clone(), entry: entry.meta.name, stream: entry.stream, mode };
    Place::File(Box::new(Node { inode, time_ms: manifest.started_ms, what: What::Entry(file) }))
}

/// What an incomplete archive lacks, and why.
fn lacking(manifest: &ArchiveManifest) -> String {
    let mut text = "This archive is incomplete. It lacks what could not be dumped:\n".to_owned();
    for failed in &manifest.failed {
        let _ = write!(text, "\n{}: {}\n", failed.name, failed.reason.trim_end());
    }
    text
}

/// A directory that is being filled.
#[derive(Default)]
struct Folder(BTreeMap<String, Place>);

enum Place {
    Folder(Folder),
    File(Box<Node>),
}

impl Folder {
    /// Puts a file into folders below this; gives the names that they and it got: others may have been first.
    fn add(&mut self, folders: &[String], file: &str, place: Place) -> (Vec<String>, String) {
        let Some((first, rest)) = folders.split_first() else {
            let name = names::unused(file, |name| self.0.contains_key(name));
            self.0.insert(name.clone(), place);
            return (Vec::new(), name);
        };
        let name = names::unused(first, |name| matches!(self.0.get(name), Some(Place::File(_))));
        let below = self.0.entry(name.clone()).or_insert_with(|| Place::Folder(Folder::default()));
        match below {
            Place::Folder(below) => {
                let (mut folders, file) = below.add(rest, file, place);
                folders.insert(0, name);
                (folders, file)
            }
            // Not reached: a name was chosen that is no file's.
            Place::File(_) => (Vec::new(), name),
        }
    }

    fn into_names(self, archive: &SessionId, path: &str, time_ms: i64) -> Names {
        let node = |(name, place): (String, Place)| {
            let node = match place {
                Place::File(node) => *node,
                Place::Folder(below) => {
                    let path = format!("{path}/{name}");
                    let names = Arc::new(below.into_names(archive, &path, time_ms));
                    Node { inode: Node::inode(&archive.0, &path), time_ms, what: What::Directory(names) }
                }
            };
            (name, Arc::new(node))
        };
        self.0.into_iter().map(node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbvault_format::chunk_list::StreamRef;
    use dbvault_format::entry::{EntryMeta, EntryReport, Grid, part};
    use dbvault_format::manifest::{FailedEntry, Sizes};

    fn entry(name: &str, kind: EntryKind, attributes: &[(&str, &str)]) -> EntryRecord {
        let attributes =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        EntryRecord {
            meta: EntryMeta { name: name.into(), kind, grid: Grid::Content, attributes },
            stream: StreamRef::default(),
            sizes: Sizes::default(),
            duration_ms: 0,
            report: EntryReport::default(),
            table: None,
        }
    }

    fn manifest(failed: Vec<FailedEntry>) -> ArchiveManifest {
        ArchiveManifest {
            id: SessionId([7; 16]),
            name: "nightly".into(),
            started_ms: 1,
            finished_ms: 2,
            host: "db1".into(),
            user: "root".into(),
            program_version: "0.1.0".into(),
            entries: StreamRef::default(),
            entry_count: 0,
            sizes: Sizes::default(),
            comment: None,
            failed,
        }
    }

    /// All files below `names`, as paths.
    fn files(names: &Names, at: &str, found: &mut Vec<String>) {
        for (name, node) in names {
            match &node.what {
                What::Directory(below) => files(below, &format!("{at}{name}/"), found),
                _ => found.push(format!("{at}{name}")),
            }
        }
    }

    fn arranged(entries: Vec<EntryRecord>) -> (Vec<String>, Vec<Database>) {
        let (contents, mut found) = (arrange(&manifest(Vec::new()), entries), Vec::new());
        files(&contents.names, "", &mut found);
        (found, contents.databases)
    }

    #[test]
    fn entries_are_found_under_their_names() {
        let (files, databases) = arranged(vec![
            entry("users", EntryKind::Postgresql, &[("format", "custom")]),
            entry("/srv/app.db", EntryKind::Sqlite, &[]),
            entry("people.csv", EntryKind::Command, &[]),
        ]);
        assert_eq!(files, ["people.csv", "srv/app.db", "srv/app.db.tables", "users.dump", "users.tables"]);
        let path = |name: &[&str], path: &str, extension: &str| Database {
            name: name.iter().map(|part| (*part).to_owned()).collect(),
            path: path.into(),
            extension: extension.into(),
        };
        assert_eq!(
            databases,
            [
                path(&["users"], "users.dump", ".dump"),
                path(&["srv", "app.db"], "srv/app.db", ".db"),
                path(&["people.csv"], "people.csv", ".csv"),
                path(&["users"], "users.tables", ".tables"),
                path(&["srv", "app.db"], "srv/app.db.tables", ".tables"),
            ]
        );
    }

    #[test]
    fn parts_of_a_database_are_one_directory() {
        let of = |name: &str, part: &str| {
            let attributes = [(attribute::WHOLE, "shop"), (attribute::PART, part), ("format", "custom")];
            entry(name, EntryKind::Postgresql, &attributes)
        };
        let (files, databases) = arranged(vec![
            of("shop/pre-data", part::PRE_DATA),
            of("shop/data-1", part::DATA),
            of("shop/post-data", part::POST_DATA),
        ]);
        let want = ["shop/data-1.dump", "shop/post-data.dump", "shop/pre-data.dump", "shop.tables"];
        assert_eq!(files, want);
        assert_eq!(databases.len(), 2);
        assert_eq!((databases[0].path.as_str(), databases[0].extension.as_str()), ("shop", ""));
    }

    #[test]
    fn names_that_collide_stay_apart_and_none_is_lost() {
        let (files, databases) = arranged(vec![
            entry("a", EntryKind::Stdin, &[]),
            entry("a/b", EntryKind::Stdin, &[]),
            entry("/a/b", EntryKind::Stdin, &[]),
            entry("a//b", EntryKind::Stdin, &[]),
            entry("../x", EntryKind::Stdin, &[]),
            entry("users", EntryKind::Mariadb, &[]),
            entry("users.sql", EntryKind::Command, &[]),
        ]);
        assert_eq!(files, ["%2E%2E/x", "a", "a~2/b", "a~2/b~2", "a~2/b~3", "users.sql", "users~2.sql"]);
        assert_eq!(databases[1].path, "a~2/b");
    }

    #[test]
    fn every_file_has_a_number_of_its_own_that_stays() {
        let entries =
            || (0..200).map(|n| entry(&format!("d{}/{n}", n % 7), EntryKind::Stdin, &[])).collect::<Vec<_>>();
        fn numbers(names: &Names, found: &mut Vec<u64>) {
            for node in names.values() {
                found.push(node.inode);
                if let What::Directory(below) = &node.what {
                    numbers(below, found);
                }
            }
        }
        let [mut once, mut again] = [Vec::new(), Vec::new()];
        numbers(&arrange(&manifest(Vec::new()), entries()).names, &mut once);
        numbers(&arrange(&manifest(Vec::new()), entries()).names, &mut again);
        assert_eq!(once, again);
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), 207);
    }

    #[test]
    fn an_incomplete_archive_tells_what_it_lacks() {
        let failed = FailedEntry { name: "orders".into(), reason: "the server is down".into() };
        let contents = arrange(&manifest(vec![failed]), vec![entry("users", EntryKind::Stdin, &[])]);
        let What::Text(text) = &contents.names["INCOMPLETE.txt"].what else { panic!("no text") };
        assert!(text.contains("orders: the server is down"), "{text}");
        assert_eq!(contents.names.len(), 2);
    }
}
