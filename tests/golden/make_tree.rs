//! Makes a golden repository with trees of files: every kind, and a second archive that takes over what has not changed.

use std::path::Path;
use std::sync::Arc;

use dbvault_format::chunker::ChunkerParams;
use dbvault_format::config::RepoParams;
use dbvault_format::entry::{EntryKind, EntryReport, Grid};
use dbvault_format::file_table::{DeviceNumber, Extent, FileKind, FileRecord, FileTime, Xattr};
use dbvault_format::key_slot::Secret;
use dbvault_repo::{BackupOptions, NoMonitor, Repository};
use dbvault_storage::{LocalStorage, Storage};

use super::client;
use super::make::{Numbers, meta};

/// Files by their records, in the order of a table, each with its content.
type Files = Vec<(FileRecord, Vec<u8>)>;

fn record(path: &[u8], kind: FileKind) -> FileRecord {
    FileRecord {
        path: path.to_vec().into(),
        kind,
        mode: if kind == FileKind::Directory { 0o755 } else { 0o640 },
        uid: 0,
        gid: 1000,
        user: Some("root".into()),
        group: None,
        modified: FileTime { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
        size_bytes: 0,
        gap_bytes: 0,
        extents: None,
        target: None,
        same_as: None,
        device: None,
        xattrs: Vec::new(),
        flags: 0,
        changed: FileTime { seconds: -1, nanoseconds: 999_999_999 },
        inode: 7,
    }
}

/// The files on one day: on the second one is another, one is gone, and one is new.
fn files(day: u64) -> Files {
    let regular = |path: &[u8], content: Vec<u8>| {
        (FileRecord { size_bytes: content.len() as u64, ..record(path, FileKind::Regular) }, content)
    };
    let bare = |record: FileRecord| (record, Vec::new());
    let mut files: Files = vec![
        bare(record(b"", FileKind::Directory)),
        bare(record(b"dev", FileKind::Directory)),
        bare(FileRecord {
            device: Some(DeviceNumber { major: 8, minor: 17 }),
            ..record(b"dev/disk", FileKind::BlockDevice)
        }),
        bare(FileRecord {
            device: Some(DeviceNumber { major: 1, minor: 3 }),
            ..record(b"dev/null", FileKind::CharacterDevice)
        }),
        bare(record(b"etc", FileKind::Directory)),
    ];
    for number in 0..40_u64 {
        let version = if number == 20 { day } else { 1 };
        let line = format!("setting {number} = {version}\n");
        files.push(regular(
            format!("etc/{number:02}.conf").as_bytes(),
            line.repeat(30 + number as usize).into_bytes(),
        ));
    }
    if day > 1 {
        files.retain(|(record, _)| record.path.as_slice() != b"etc/30.conf");
        files.push(regular(b"etc/new", b"new on the second day\n".to_vec()));
    }
    let (mut noted, text) = regular(b"etc/noted", b"with attributes\n".to_vec());
    let xattr =
        |name: &[u8], value: &[u8]| Xattr { name: name.to_vec().into(), value: value.to_vec().into() };
    noted.xattrs = vec![xattr(b"user.empty", b""), xattr(b"user.note", &[0, 255])];
    (noted.mode, noted.flags) = (0o4711, 16);
    let link = FileRecord {
        target: Some(b"../nowhere".to_vec().into()),
        size_bytes: 10,
        ..record(b"link", FileKind::Symlink)
    };
    let (name, content) = (b"odd \n \xff".as_slice(), Numbers(day).bytes(3000));
    let extents = vec![Extent { offset: 4096, bytes: 5000 }, Extent { offset: 1 << 40, bytes: 7 }];
    let sparse =
        FileRecord { size_bytes: 1 << 41, extents: Some(extents), ..record(b"sparse", FileKind::Regular) };
    files.extend([
        (noted, text),
        bare(FileRecord {
            same_as: Some(b"etc/noted".to_vec().into()),
            ..record(b"etc/other", FileKind::Regular)
        }),
        regular(b"large", Numbers(31).bytes(150_000)),
        bare(link),
        regular(name, content),
        bare(record(b"pipe", FileKind::Fifo)),
        bare(record(b"socket", FileKind::Socket)),
        (sparse, Numbers(32).bytes(5007)),
        regular(b"zero", Vec::new()),
    ]);
    files
}

/// Makes the repository.
pub(super) fn make(place: &Path, cache: &Path, key_file: &Secret, passphrase: &Secret) {
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::create(place).unwrap());
    let params = RepoParams {
        chunker: ChunkerParams { min_bytes: 2 << 10, average_bytes: 8 << 10, max_bytes: 32 << 10 },
        pack_bytes: 64 << 10,
        ..RepoParams::default()
    };
    let repo = Repository::init(storage.clone(), client(cache), params, key_file, "golden key file").unwrap();
    repo.add_key(passphrase, "golden passphrase").unwrap();
    for day in [1, 2] {
        store(&repo, day);
    }
    storage.flush().unwrap();
}

/// Stores the files of a day. What is as it was the day before is taken over.
fn store(repo: &Repository, day: u64) {
    let options = BackupOptions { archive_name: format!("day-{day}"), comment: None };
    let mut txn = repo.begin_backup(options, Arc::new(NoMonitor)).unwrap();
    let reader = txn.reader();
    let before = repo.archives().unwrap().archives.pop();
    let old = before.map(|info| reader.entries(&info.manifest).unwrap().remove(0));
    let table = old.as_ref().map(|old| reader.open_table(old).unwrap());
    let known: Vec<_> = table.into_iter().flatten().map(|step| step.unwrap()).collect();
    let yesterday = if day > 1 { files(day - 1) } else { Files::new() };
    let tree = meta("files", EntryKind::Tree, Grid::Content, &[]);
    let base = old.as_ref().map(|old| old.stream);
    let (pending, ()) = txn
        .add_tree(tree, base.as_ref(), |writer| {
            for (record, content) in files(day) {
                let same = yesterday.contains(&(record.clone(), content.clone()));
                let place = known.iter().find(|(old, _)| same && old.path == record.path);
                let kept = place.map(|(_, range)| writer.keep(range)).transpose()?.flatten();
                let position = kept.unwrap_or(writer.position());
                if kept.is_none() {
                    writer.write(&content)?;
                }
                writer.record(record, position)?;
            }
            Ok(())
        })
        .unwrap();
    txn.finish_entry(pending, EntryReport::default());
    txn.commit().unwrap();
}
