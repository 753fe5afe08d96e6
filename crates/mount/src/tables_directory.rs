//! The tables of one database as files: made of the dump while they are read.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use dbvault_dump::{Contents, Format, Table};
use dbvault_format::manifest::ArchiveManifest;
use dbvault_jobs::{Error, Result, contents};
use dbvault_repo::Reader;
use parking_lot::Mutex;

use crate::node::{Names, Node, What};
use crate::{in_a_line, names};

/// Dumps that are kept open for who looks into them next. Each holds the definitions of all that is in it.
const RECENT_MAX: usize = 4;

/// The script that makes all but rows.
const SCHEMA: &str = "schema.sql";

/// The tables of one database of an archive.
#[derive(Debug)]
pub(crate) struct TablesDirectory {
    pub(crate) manifest: ArchiveManifest,
    /// What the user calls the database.
    pub(crate) database: String,
    inode: u64,
    names: OnceLock<Arc<Names>>,
}

/// A file that is made of a dump while it is read.
#[derive(Debug)]
pub(crate) struct TableFile {
    pub(crate) directory: Arc<TablesDirectory>,
    form: Form,
    /// How long it is, bytes: known from the dump, or once it was read to its end.
    bytes: OnceLock<u64>,
}

#[derive(Clone, Debug)]
enum Form {
    /// The rows of the table of that name.
    Rows(String, Format),
    Schema,
}

/// Dumps that were looked into lately, by their directories.
#[derive(Default)]
pub(crate) struct Recent(Mutex<VecDeque<(u64, Arc<Contents>)>>);

impl std::fmt::Debug for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recent")
    }
}

impl Recent {
    fn get(&self, inode: u64, open: impl FnOnce() -> Result<Contents>) -> Result<Arc<Contents>> {
        let recent = || self.0.lock();
        if let Some((_, contents)) = recent().iter().find(|(known, _)| *known == inode) {
            return Ok(contents.clone());
        }
        let contents = Arc::new(open()?);
        let mut recent = recent();
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back((inode, contents.clone()));
        Ok(contents)
    }
}

impl TablesDirectory {
    pub(crate) fn new(manifest: ArchiveManifest, database: String) -> TablesDirectory {
        let inode = Node::inode(&manifest.id.0, &format!("{database}\0tables"));
        TablesDirectory { manifest, database, inode, names: OnceLock::new() }
    }

    /// The directory as a node.
    pub(crate) fn into_node(self) -> Node {
        Node { inode: self.inode, time_ms: self.manifest.started_ms, what: What::Tables(Arc::new(self)) }
    }

    /// What is in it: two files for each table, and the schema. Where the dump can't be looked into, a text says why.
    pub(crate) fn names(self: &Arc<Self>, reader: &Arc<Reader>, recent: &Recent) -> Arc<Names> {
        if let Some(names) = self.names.get() {
            return names.clone();
        }
        match self.open(reader, recent) {
            Ok(contents) => self.names.get_or_init(|| Arc::new(self.arrange(&contents))).clone(),
            Err(error) => {
                let text =
                    format!("The tables of {} can't be shown:\n{}\n", self.database, in_a_line(&error));
                let node = self.node(&text, What::Text(text.clone()));
                Arc::new(Names::from([("NO-TABLES.txt".to_owned(), node)]))
            }
        }
    }

    fn open(&self, reader: &Arc<Reader>, recent: &Recent) -> Result<Arc<Contents>> {
        recent.get(self.inode, || {
            let entries = reader.entries(&self.manifest)?;
            let wholes = contents::wholes(&entries);
            let whole = wholes.iter().find(|whole| contents::name(whole) == self.database);
            contents::open(reader, whole.map_or(&[], Vec::as_slice))
        })
    }

    fn node(&self, path: &str, what: What) -> Arc<Node> {
        let inode = Node::inode(&self.manifest.id.0, &format!("{}\0tables\0{path}", self.database));
        Arc::new(Node { inode, time_ms: self.manifest.started_ms, what })
    }

    fn arrange(self: &Arc<Self>, contents: &Contents) -> Names {
        let mut found = Names::new();
        let mut add = |name: &str, form: Form, bytes: Option<u64>| {
            let name = names::unused(&names::file_name(name), |name| found.contains_key(name));
            let bytes = bytes.map_or_else(OnceLock::new, OnceLock::from);
            let file = TableFile { directory: self.clone(), form, bytes };
            found.insert(name.clone(), self.node(&name, What::Table(file)));
        };
        add(SCHEMA, Form::Schema, Some(contents.schema_sql().len() as u64));
        for table in contents.tables().iter().filter(|table| table.has_rows) {
            for format in [Format::Copy, Format::Csv { header: false }] {
                if can_be(contents, table, format) {
                    let name = table.sql_name();
                    let bytes = table.bytes.filter(|_| format == Format::Copy);
                    add(&format!("{name}.{}", format.name()), Form::Rows(name, format), bytes);
                }
            }
        }
        found
    }
}

/// Whether rows can be had in a form. Where asking would take reading all of the dump, whoever opens the file is told.
fn can_be(contents: &Contents, table: &Table, format: Format) -> bool {
    !contents.knows_positions() || contents.rows(table, format).is_ok()
}

impl TableFile {
    /// How long it is, bytes; 0 as long as that is not known, as for other files that systems make while they are read.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.bytes.get().copied().unwrap_or(0)
    }

    /// Opens it at its beginning.
    pub(crate) fn open(&self, reader: &Arc<Reader>, recent: &Recent) -> Result<TableReader> {
        let contents = self.directory.open(reader, recent)?;
        let body = self.begin(&contents)?;
        Ok(TableReader { contents, body, at: 0, ended: false })
    }

    fn begin(&self, contents: &Contents) -> Result<Box<dyn Read + Send>> {
        match &self.form {
            Form::Schema => Ok(Box::new(io::Cursor::new(contents.schema_sql()))),
            Form::Rows(table, format) => {
                let table = contents.find(table).map_err(Error::from)?;
                Ok(contents.rows(table, *format).map_err(Error::from)?)
            }
        }
    }
}

/// A file that is being read, mostly from its beginning on.
pub(crate) struct TableReader {
    contents: Arc<Contents>,
    body: Box<dyn Read + Send>,
    /// Where it is, bytes.
    at: u64,
    ended: bool,
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableReader").field("at", &self.at).finish_non_exhaustive()
    }
}

impl TableReader {
    /// Reads bytes of `file` from `offset` on; gives how many, fewer than there is room for only at the end. Going back
    /// is beginning anew. After an error nothing is known: it begins anew, too.
    pub(crate) fn read_at(&mut self, file: &TableFile, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let read = self.try_read_at(file, offset, out);
        if read.is_err() {
            self.at = u64::MAX;
        }
        read
    }

    fn try_read_at(&mut self, file: &TableFile, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        if offset < self.at {
            self.body = file.begin(&self.contents).map_err(io::Error::other)?;
            (self.at, self.ended) = (0, false);
        }
        while self.at < offset && !self.ended {
            let step = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(64 << 10);
            self.fill(file, &mut vec![0; step])?;
        }
        if self.at == offset { self.fill(file, out) } else { Ok(0) }
    }

    /// Reads until `out` is full, or to the end.
    fn fill(&mut self, file: &TableFile, out: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < out.len() && !self.ended {
            match self.body.read(&mut out[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    let _ = file.bytes.set(self.at);
                }
                Ok(count) => {
                    filled += count;
                    self.at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
