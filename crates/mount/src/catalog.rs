//! What there is to see: the archives of the repository, by name, by date and by database. Follows the repository.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dbvault_format::id::SessionId;
use dbvault_repo::{ArchiveInfo, ArchiveList, Reader, Repository, Result};
use parking_lot::{Mutex, RwLock};

use crate::archive_directory::ArchiveDirectory;
use crate::node::{Names, Node, What};
use crate::tables_directory::Recent;
use crate::{in_a_line, names};

/// How old what is shown may be before the repository is asked again.
pub(crate) const REFRESH: Duration = Duration::from_secs(1);

/// The inode of the topmost directory: systems want this one.
pub(crate) const ROOT_INODE: u64 = 1;

/// What the topmost directory says of itself.
const README: &str = "\
What is backed up in this repository, to be read in place. Nothing here can be changed.

archives/NAME/...              everything in the archive of that name
archives/NAME/files/...        its files, as they were, from / on
latest                         leads to the newest archive
by-date/TIME                   leads to the archive of that time (UTC)
by-database/DATABASE/TIME.EXT  leads to one database as it was at that time (UTC)
DATABASE.tables/TABLE.csv      the rows of one table, made while they are read; .copy too
DATABASE.tables/schema.sql     all but rows

Entries are ordinary files, read at any place without a temporary copy:

  pg_restore -j 4 -d new by-database/users/TIME.dump
  sqlite3 'file:latest/app.db?immutable=1'

New archives appear by themselves, deleted ones go. A read of something that is damaged
fails with an input/output error; all else can be read. `dbvault umount` ends it.
";

/// What can be seen, and where it is read from.
#[derive(Debug)]
pub(crate) struct Catalog {
    repository: Repository,
    reader: Arc<Reader>,
    shown: RwLock<Arc<Shown>>,
    recent: Recent,
    asked: Mutex<Asked>,
    /// When the mount began, milliseconds since 1970 UTC: the time of what is in no archive.
    began_ms: i64,
}

/// When the repository was asked last, and whether it could be.
#[derive(Debug)]
struct Asked {
    at: Instant,
    failed: bool,
}

/// What can be seen at one moment.
#[derive(Debug)]
struct Shown {
    list: ArchiveList,
    /// By id: what was read of an archive is kept as long as the archive is there.
    archives: HashMap<SessionId, Shelf>,
    /// Directories that follow the repository, by their inodes.
    living: HashMap<u64, Arc<Names>>,
    by_database: OnceLock<HashMap<u64, Arc<Names>>>,
}

/// An archive, and the name that it has below `archives`.
#[derive(Clone, Debug)]
struct Shelf {
    name: String,
    node: Arc<Node>,
    directory: Arc<ArchiveDirectory>,
}

impl Catalog {
    /// Reads which archives there are.
    pub(crate) fn open(repository: Repository, reader: Arc<Reader>, began_ms: i64) -> Result<Catalog> {
        let list = repository.archives_after(&ArchiveList::default())?;
        let shown = RwLock::new(Arc::new(Shown::new(list, None, began_ms)));
        let asked = Mutex::new(Asked { at: Instant::now(), failed: false });
        Ok(Catalog { repository, reader, shown, recent: Recent::default(), asked, began_ms })
    }

    /// Where entries are read from.
    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Dumps that were looked into lately.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// The topmost directory.
    pub(crate) fn root(&self) -> Arc<Node> {
        Arc::new(living(ROOT_INODE, self.began_ms))
    }

    /// What is in the directory `node`; `None` where it is none, or is gone.
    pub(crate) fn names(&self, node: &Node) -> Option<Arc<Names>> {
        match &node.what {
            What::Directory(names) => Some(names.clone()),
            What::Archive(archive) => Some(match archive.contents(&self.reader) {
                Ok(contents) => contents.names.clone(),
                Err(error) => archive.damaged(&in_a_line(&error)),
            }),
            What::Living => self.shown().living(node.inode, &self.reader),
            What::Tables(tables) => Some(tables.names(&self.reader, &self.recent)),
            What::Link(_) | What::Text(_) | What::Entry(_) | What::Table(_) | What::Tree(_) => None,
        }
    }

    /// What can be seen now. Whoever comes while another asks the repository sees what was there before.
    fn shown(&self) -> Arc<Shown> {
        let shown = || self.shown.read().clone();
        if let Some(mut asked) = self.asked.try_lock()
            && asked.at.elapsed() >= REFRESH
        {
            match self.refresh(&shown()) {
                Ok(()) => asked.failed = false,
                Err(error) if !asked.failed => {
                    tracing::warn!("the list of archives is not brought up to date: {}", in_a_line(&error));
                    asked.failed = true;
                }
                Err(_) => {}
            }
            asked.at = Instant::now();
        }
        shown()
    }

    fn refresh(&self, before: &Shown) -> Result<()> {
        let list = self.repository.archives_after(&before.list)?;
        let same = |a: &ArchiveInfo, b: &ArchiveInfo| {
            a.manifest.id == b.manifest.id
                && a.manifest.name == b.manifest.name
                && a.deleted_ms.is_some() == b.deleted_ms.is_some()
        };
        let damaged = |list: &ArchiveList| list.damaged.iter().map(|(id, _)| *id).collect::<HashSet<_>>();
        let unchanged = list.archives.len() == before.list.archives.len()
            && list.archives.iter().zip(&before.list.archives).all(|(a, b)| same(a, b))
            && damaged(&list) == damaged(&before.list);
        if unchanged {
            return Ok(());
        }
        // Before anybody sees a new archive, its chunks can be found.
        self.reader.refresh()?;
        let shown = Arc::new(Shown::new(list, Some(before), self.began_ms));
        *self.shown.write() = shown;
        Ok(())
    }
}

fn living(inode: u64, time_ms: i64) -> Node {
    Node { inode, time_ms, what: What::Living }
}

/// The inode of what is in no archive.
fn inode(path: &str) -> u64 {
    Node::inode(b"", path)
}

fn link(path: &str, target: String, time_ms: i64) -> Arc<Node> {
    // By what it leads to: the next time it may lead elsewhere.
    Arc::new(Node { inode: inode(&format!("{path}\n{target}")), time_ms, what: What::Link(target) })
}

fn text(path: &str, text: &str, time_ms: i64) -> Arc<Node> {
    let inode = inode(&format!("{path}\n{text}"));
    Arc::new(Node { inode, time_ms, what: What::Text(text.to_owned()) })
}

impl Shown {
    fn new(list: ArchiveList, before: Option<&Shown>, began_ms: i64) -> Shown {
        let shelves = shelve(&list, before);
        let mut archives: Names =
            shelves.iter().map(|shelf| (shelf.name.clone(), shelf.node.clone())).collect();
        for (id, error) in &list.damaged {
            let words = format!(
                "The archive {id} can't be read:\n{}\n\n`dbvault check` lists all that is damaged.\n",
                in_a_line(error)
            );
            let name = format!("{}.DAMAGED.txt", &id.to_string()[..8]);
            let name = names::unused(&name, |name| archives.contains_key(name));
            archives.insert(name.clone(), text(&format!("archives/{name}"), &words, began_ms));
        }
        let mut by_date = Names::new();
        for shelf in &shelves {
            let time_ms = shelf.directory.manifest.started_ms;
            let name = names::unused(&names::time(time_ms), |name| by_date.contains_key(name));
            let target = format!("../archives/{}", shelf.name);
            by_date.insert(name.clone(), link(&format!("by-date/{name}"), target, time_ms));
        }
        let mut root = Names::from([("README.txt".to_owned(), text("README.txt", README, began_ms))]);
        for name in ["archives", "by-date", "by-database"] {
            root.insert(name.to_owned(), Arc::new(living(inode(name), began_ms)));
        }
        let (name, node) = latest(&list, &shelves, began_ms);
        root.extend(node.map(|node| (name.to_owned(), node)));
        let living = [(ROOT_INODE, root), (inode("archives"), archives), (inode("by-date"), by_date)];
        Shown {
            archives: shelves.into_iter().map(|shelf| (shelf.directory.manifest.id, shelf)).collect(),
            list,
            living: living.into_iter().map(|(inode, names)| (inode, Arc::new(names))).collect(),
            by_database: OnceLock::new(),
        }
    }

    /// What is in the directory with this inode.
    fn living(&self, inode: u64, reader: &Arc<Reader>) -> Option<Arc<Names>> {
        let by_database = || self.by_database.get_or_init(|| self.arrange_databases(reader));
        self.living.get(&inode).or_else(|| by_database().get(&inode)).cloned()
    }

    /// Directories below `by-database`, by their inodes. Reads the entry tables of all archives, once.
    fn arrange_databases(&self, reader: &Arc<Reader>) -> HashMap<u64, Arc<Names>> {
        let mut directories = BTreeMap::from([("by-database".to_owned(), Names::new())]);
        let shown = self.list.archives.iter().filter_map(|info| self.archives.get(&info.manifest.id));
        for shelf in shown {
            let time_ms = shelf.directory.manifest.started_ms;
            let contents = match shelf.directory.contents(reader) {
                Ok(contents) => contents,
                Err(error) => {
                    let archive = &shelf.directory.manifest.name;
                    tracing::warn!(%archive, "not shown by database: {}", in_a_line(&error));
                    continue;
                }
            };
            for database in &contents.databases {
                let mut path = "by-database".to_owned();
                for part in &database.name {
                    let below = format!("{path}/{part}");
                    let names = directories.entry(path).or_default();
                    names.entry(part.clone()).or_insert_with(|| Arc::new(living(inode(&below), time_ms)));
                    path = below;
                }
                let up = "../".repeat(database.name.len() + 1);
                let target = format!("{up}archives/{}/{}", shelf.name, database.path);
                let name = format!("{}{}", names::time(time_ms), database.extension);
                let names = directories.entry(path.clone()).or_default();
                let name = names::unused(&name, |name| names.contains_key(name));
                names.insert(name.clone(), link(&format!("{path}/{name}"), target, time_ms));
            }
        }
        directories.into_iter().map(|(path, names)| (inode(&path), Arc::new(names))).collect()
    }
}

/// Gives each archive that is not deleted a name of its own, oldest first.
fn shelve(list: &ArchiveList, before: Option<&Shown>) -> Vec<Shelf> {
    let (mut shelves, mut taken) = (Vec::new(), HashSet::new());
    for info in list.archives.iter().filter(|info| info.deleted_ms.is_none()) {
        let manifest = &info.manifest;
        let known = before.and_then(|before| before.archives.get(&manifest.id));
        let directory = known.map_or_else(
            || Arc::new(ArchiveDirectory::new(manifest.clone())),
            |known| known.directory.clone(),
        );
        let name = names::unused(&names::file_name(&manifest.name), |name| taken.contains(name));
        taken.insert(name.clone());
        let node = Node {
            inode: Node::inode(&manifest.id.0, ""),
            time_ms: manifest.started_ms,
            what: What::Archive(directory.clone()),
        };
        shelves.push(Shelf { name, node: Arc::new(node), directory });
    }
    shelves
}

/// The link to the newest archive that is complete, or where none is, to the newest; or why there is none.
fn latest(list: &ArchiveList, shelves: &[Shelf], began_ms: i64) -> (&'static str, Option<Arc<Node>>) {
    // An archive that can't be read may be newer than all others: old data must not be taken for new.
    if !list.damaged.is_empty() {
        let name = "latest.UNKNOWN.txt";
        let words =
            "An archive that can't be read may be newer than all others: see archives/*.DAMAGED.txt.\n";
        return (name, Some(text(name, words, began_ms)));
    }
    let complete = shelves.iter().rev().find(|shelf| shelf.directory.manifest.is_complete());
    let newest = complete.or(shelves.last());
    let to = |shelf: &Shelf| {
        link("latest", format!("archives/{}", shelf.name), shelf.directory.manifest.started_ms)
    };
    ("latest", newest.map(to))
}
