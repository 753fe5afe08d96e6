//! Whole backups, through the same calls as the program makes.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use dbvault_format::config::RepoParams;
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::key_slot::Secret;
use dbvault_format::manifest::{ArchiveManifest, Sizes};
use dbvault_repo::{BackupOptions, Client, NoMonitor, Repository};
use dbvault_storage::LocalStorage;
use rustix::time::ClockId;

use crate::dumps::Dumps;
use crate::material::Material;
use crate::step::now;

/// What a backup took, and what it did for that.
pub(crate) struct Backup {
    pub(crate) cpu_seconds: f64,
    pub(crate) sizes: Sizes,
}

/// Into a fresh repository: the first day, then the second.
pub(crate) fn back_up_both_days(
    dumps: &Dumps,
    material: &Material,
    verify: bool,
) -> Result<[Backup; 2], String> {
    let work = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let repo = make_repository(work.path())?;
    let back_up = |path: &Path, name: &str, plain: &[u8]| {
        let mut stream = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let began = now(ClockId::ProcessCPUTime);
        let manifest = store(&repo, name, &mut stream).map_err(|error| error.to_string())?;
        let cpu_seconds = (now(ClockId::ProcessCPUTime) - began).as_secs_f64();
        if verify && read(&repo, &manifest).map_err(|error| error.to_string())? != plain {
            return Err(format!("{name}: what comes out is not what went in"));
        }
        Ok(Backup { cpu_seconds, sizes: manifest.sizes })
    };
    Ok([back_up(&dumps.day0, "day0", &material.day0)?, back_up(&dumps.day1, "day1", &material.day1)?])
}

/// An empty repository below `work`.
pub(crate) fn make_repository(work: &Path) -> Result<Repository, String> {
    let storage = LocalStorage::create(work.join("repository")).map_err(|error| error.to_string())?;
    let client = Client {
        host: "host".to_owned(),
        user: "user".to_owned(),
        cache_dir: work.join("cache"),
        interrupt: Arc::default(),
    };
    let secret = Secret::KeyFile(vec![1; 32].into());
    let repo = Repository::init(Arc::new(storage), client, RepoParams::default(), &secret, "measuring");
    repo.map_err(|error| error.to_string())
}

fn store(repo: &Repository, name: &str, stream: &mut dyn Read) -> dbvault_repo::Result<ArchiveManifest> {
    let options = BackupOptions { archive_name: name.to_owned(), comment: None };
    let mut backup = repo.begin_backup(options, Arc::new(NoMonitor))?;
    let stored = backup.add_entry(entry("users", Grid::Content), stream)?;
    backup.finish_entry(stored, EntryReport::default());
    backup.commit()
}

fn read(repo: &Repository, manifest: &ArchiveManifest) -> dbvault_repo::Result<Vec<u8>> {
    let reader = repo.reader(Arc::new(NoMonitor))?;
    let mut plain = Vec::new();
    for entry in reader.entries(manifest)? {
        let read = reader.open_stream(&entry.stream)?.read_to_end(&mut plain);
        read.map_err(|source| dbvault_repo::Error::Source { entry: entry.meta.name, source })?;
    }
    Ok(plain)
}

pub(crate) fn entry(name: &str, grid: Grid) -> EntryMeta {
    EntryMeta { name: name.to_owned(), kind: EntryKind::Stdin, grid, attributes: Default::default() }
}
