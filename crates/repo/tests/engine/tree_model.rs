//! Trees in memory, and what a walk does with them: files that have not changed since the archive before are kept, others
//! are read.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::file_table::{Extent, FileKind, FileRecord, FileTime, compare_paths};
use dbvault_format::manifest::{ArchiveManifest, EntryRecord};
use dbvault_repo::{BackupTxn, PendingEntry, Reader, Repository, TreeWriter};

use crate::common::*;

/// Content of a file that begins and ends at a cut, bytes.
const LARGE_BYTES: usize = 64 << 10;

/// A file, and its version: what the times of a real one tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) record: FileRecord,
    pub(crate) content: Vec<u8>,
}

/// A path in the order of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<u8>);

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Path) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Path {
    fn cmp(&self, other: &Path) -> std::cmp::Ordering {
        compare_paths(&self.0, &other.0)
    }
}

/// Files by their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<Path, File>);

/// A record of a regular file.
pub(crate) fn record(path: &str, size_bytes: u64) -> FileRecord {
    FileRecord {
        path: path.as_bytes().to_vec().into(),
        kind: FileKind::Regular,
        mode: 0o644,
        uid: 0,
        gid: 0,
        user: Some("root".into()),
        group: Some("root".into()),
        modified: FileTime { seconds: 1_700_000_000, nanoseconds: 5 },
        size_bytes,
        gap_bytes: 0,
        extents: None,
        target: None,
        same_as: None,
        device: None,
        xattrs: Vec::new(),
        flags: 0,
        changed: FileTime::default(),
        inode: 1,
    }
}

impl Tree {
    /// Puts a regular file there; `version` is new whenever the content is.
    pub(crate) fn put(&mut self, path: &str, content: Vec<u8>, version: u64) {
        let record = FileRecord { inode: version, ..record(path, content.len() as u64) };
        self.0.insert(Path(path.into()), File { record, content });
    }

    /// Puts anything else there.
    pub(crate) fn put_record(&mut self, record: FileRecord, content: Vec<u8>) {
        assert_eq!(record.content_bytes(), content.len() as u64);
        self.0.insert(Path(record.path.to_vec()), File { record, content });
    }

    pub(crate) fn content_bytes(&self) -> u64 {
        self.0.values().map(|file| file.content.len() as u64).sum()
    }
}

/// A tree with everything that a table knows.
pub(crate) fn everything() -> Tree {
    let mut tree = Tree::default();
    let other = |path: &str, kind| FileRecord { kind, ..record(path, 0) };
    tree.put_record(other("", FileKind::Directory), Vec::new());
    tree.put_record(other("etc", FileKind::Directory), Vec::new());
    tree.put("etc/empty", Vec::new(), 1);
    tree.put("etc/hosts", text(900, 1), 2);
    tree.put("etc/large", noise(200_000, 2), 3);
    tree.put("etc/last", text(70, 3), 4);
    tree.put_record(
        FileRecord { same_as: Some(b"etc/hosts".to_vec().into()), ..record("etc/names", 900) },
        Vec::new(),
    );
    let extents = vec![Extent { offset: 10, bytes: 100 }, Extent { offset: 1 << 40, bytes: 5000 }];
    let sparse = FileRecord { extents: Some(extents), ..record("etc/sparse", 1 << 41) };
    tree.put_record(sparse, noise(5100, 4));
    let target = Some(b"../nowhere".to_vec().into());
    tree.put_record(FileRecord { target, ..other("etc/symlink", FileKind::Symlink) }, Vec::new());
    tree.put_record(other("etc-", FileKind::Fifo), Vec::new());
    tree
}

/// What a walk did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    pub(crate) read_bytes: u64,
    pub(crate) kept_files: usize,
    /// Not changed, and read all the same.
    pub(crate) not_kept_files: usize,
}

pub(crate) fn tree_meta() -> EntryMeta {
    EntryMeta {
        name: "files".into(),
        kind: EntryKind::Tree,
        grid: Grid::Content,
        attributes: BTreeMap::new(),
    }
}

/// Stores a tree; `old` is that of the archive before.
pub(crate) fn add_tree(
    txn: &BackupTxn,
    tree: &Tree,
    old: Option<&EntryRecord>,
) -> Result<(PendingEntry, Walk)> {
    let reader = txn.reader();
    let mut known = old.map(|old| reader.open_table(old)).transpose()?.into_iter().flatten().peekable();
    let old_content = old.map(|old| old.stream);
    txn.add_tree(tree_meta(), old_content.as_ref(), |writer| {
        let mut walk = Walk::default();
        for (Path(path), file) in &tree.0 {
            let before = |old: &Result<(FileRecord, Range<u64>)>| {
                old.as_ref().is_ok_and(|(old, _)| compare_paths(&old.path, path).is_lt())
            };
            while known.next_if(before).is_some() {}
            let same = |(old, range): &(FileRecord, Range<u64>)| {
                let old = FileRecord { gap_bytes: 0, ..old.clone() };
                (old == file.record).then(|| range.clone())
            };
            let old = known.peek().and_then(|old| same(old.as_ref().ok()?));
            let position = write_file(writer, file, old, &mut walk)?;
            writer.record(file.record.clone(), position)?;
        }
        Ok(walk)
    })
}

fn write_file(
    writer: &mut TreeWriter<'_>,
    file: &File,
    old: Option<Range<u64>>,
    walk: &mut Walk,
) -> Result<u64> {
    if let Some(old) = &old
        && let Some(position) = writer.keep(old)?
    {
        walk.kept_files += 1;
        return Ok(position);
    }
    walk.not_kept_files += usize::from(old.is_some());
    walk.read_bytes += file.content.len() as u64;
    let large = file.content.len() >= LARGE_BYTES;
    if large {
        writer.cut()?;
    }
    let position = writer.position();
    if large {
        assert_eq!(writer.copy(&mut file.content.as_slice(), u64::MAX)?, file.content.len() as u64);
        writer.cut()?;
    } else {
        writer.write(&file.content)?;
    }
    Ok(position)
}

/// The tree of an archive.
pub(crate) fn tree_entry(reader: &Arc<Reader>, manifest: &ArchiveManifest) -> EntryRecord {
    reader.entries(manifest).unwrap().into_iter().find(|entry| entry.table.is_some()).unwrap()
}

/// Makes an archive of a tree, with what is known from archive `old`.
pub(crate) fn backup_tree(
    repo: &Repository,
    name: &str,
    tree: &Tree,
    old: Option<&ArchiveManifest>,
) -> Result<(ArchiveManifest, Walk)> {
    let mut txn = begin(repo, name)?;
    let old = old.map(|old| tree_entry(&txn.reader(), old));
    let (pending, walk) = add_tree(&txn, tree, old.as_ref())?;
    txn.finish_entry(pending, EntryReport::default());
    Ok((txn.commit()?, walk))
}

/// The tree of an archive, as it comes out of it; gaps are passed over.
pub(crate) fn read_tree(reader: &Arc<Reader>, manifest: &ArchiveManifest) -> Result<Tree, String> {
    let entries = reader.entries(manifest).map_err(|e| format!("{e:?}"))?;
    let entry = entries.iter().find(|entry| entry.table.is_some()).ok_or("no tree")?;
    let mut content = reader.open_stream(&entry.stream).map_err(|e| format!("{e:?}"))?;
    let mut tree = Tree::default();
    let mut at = 0;
    for file in reader.open_table(entry).map_err(|e| format!("{e:?}"))? {
        let (record, range) = file.map_err(|e| format!("table: {e:?}"))?;
        content.skip(range.start - at);
        at = range.end;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        content.read_exact(&mut bytes).map_err(|e| format!("content: {e:?}"))?;
        let record = FileRecord { gap_bytes: 0, ..record };
        tree.0.insert(Path(record.path.to_vec()), File { record, content: bytes });
    }
    Ok(tree)
}

/// Panics where an archive does not hold this very tree.
pub(crate) fn assert_tree(repo: &Repository, manifest: &ArchiveManifest, tree: &Tree) {
    let found = read_tree(&reader(repo).unwrap(), manifest).unwrap();
    let paths = |tree: &Tree| tree.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&found), paths(tree), "{}", manifest.name);
    for (path, file) in &tree.0 {
        let (found, name) = (&found.0[path], String::from_utf8_lossy(&path.0));
        assert_eq!(found.record, file.record, "{}: {name}", manifest.name);
        assert!(found.content == file.content, "{}: {name} has other bytes", manifest.name);
    }
}
