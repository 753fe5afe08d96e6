//! Archives of other programs' repositories into this one: which there are, which are here already, and one after the other.
//!
//! What an imported archive comes from is kept with it, so that an import that was stopped goes on where it was. Each is read
//! again from this repository and compared with what the other program gave; a proof says so.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dbvault_files::Patterns;
use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::note::Proof;
use dbvault_repo::{ArchiveInfo, Error as RepoError, NoMonitor, Repository};
use dbvault_source::Interrupt;

use crate::import_borg::Borg;
use crate::import_restic::Restic;
use crate::tar::Spool;
use crate::tree_backup::{TREE_NAME, TreeReport};
use crate::tree_import::{Provenance, Stored, prove};
use crate::{Error, Result, Watcher};

/// Whose repository it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Borg 1.
    Borg,
    /// restic.
    Restic,
}

impl Program {
    /// The word for it: the name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Program::Borg => "borg",
            Program::Restic => "restic",
        }
    }
}

/// What is imported.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// Whose repository.
    pub program: Program,
    /// The repository, as its own program takes it. What opens it comes from the environment, as that program takes it.
    pub repository: String,
    /// Only archives whose names, or the beginnings of whose ids, are like one of these; all, where there is none.
    pub wanted: Vec<String>,
    /// Put before each name.
    pub prefix: String,
    /// Only tell.
    pub dry_run: bool,
    /// A directory with room for the largest archive, for a while.
    pub spool: PathBuf,
}

/// An archive of another program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignArchive {
    /// Its id there.
    pub id: String,
    /// Its name here.
    pub name: String,
    /// The name by which its own program finds it.
    pub own_name: String,
    /// When it was begun, milliseconds since 1970 UTC.
    pub started_ms: i64,
    /// Where it was made.
    pub host: String,
    /// Who made it.
    pub user: String,
    /// What was said of it.
    pub comment: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// What became of an archive.
#[derive(Debug)]
pub enum Became {
    /// It is not here yet: only told, in a dry run.
    Wanting,
    /// It was here already, and has been compared with what was read.
    There,
    /// It is here now.
    Imported(TreeReport),
    /// It is not here, and why.
    Failed(Error),
}

/// How many archives became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Those that are here now.
    pub imported: u64,
    /// Those that were.
    pub there: u64,
    /// Those that could not be read or stored.
    pub failed: u64,
    /// Files of all imported archives that are not as they were.
    pub problems: u64,
}

/// A repository of another program.
pub(crate) trait Foreign {
    /// What its origin begins with: program and id of the repository.
    fn origin(&self) -> &str;

    /// Its archives, in the order in which they are imported.
    fn archives(&self) -> &[ForeignArchive];

    /// Reads an archive and stores it.
    fn store(
        &mut self,
        repository: &Repository,
        archive: &ForeignArchive,
        provenance: Provenance,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Stored>;
}

/// Imports what is wanted of a repository; `told` hears of each archive when it is done.
///
/// Errors: the other repository can't be read, or this one can't be written. An archive that can't be read is told, and the
/// others go on.
pub fn import(
    repository: &Repository,
    request: &ImportRequest,
    interrupt: &Interrupt,
    watcher: &Arc<dyn Watcher>,
    told: &mut dyn FnMut(&ForeignArchive, &Became),
) -> Result<ImportSummary> {
    let mut foreign: Box<dyn Foreign> = match request.program {
        Program::Borg => Box::new(Borg::open(&request.repository, &request.spool, interrupt)?),
        Program::Restic => {
            let spool = Spool { directory: request.spool.clone() };
            Box::new(Restic::open(&request.repository, spool, interrupt)?)
        }
    };
    let archives = wanted(foreign.archives(), request)?;
    let here = imported(repository)?;
    let mut summary = ImportSummary::default();
    for (index, archive) in archives.iter().enumerate() {
        repository.check_interrupt()?;
        watcher.entry_begins(&archive.name, index, archives.len(), None);
        let origin = format!("{}/{}", foreign.origin(), archive.id);
        let became = match here.get(&origin) {
            Some(info) => there(repository, info, archive, request, watcher),
            None => Ok(Became::Wanting),
        };
        let became = match became {
            Ok(Became::Wanting) if !request.dry_run => {
                import_one(repository, &mut *foreign, archive, origin, watcher).map(Became::Imported)
            }
            other => other,
        };
        watcher.entry_ends(&archive.name);
        let became = became.or_else(of_one_archive)?;
        match &became {
            Became::Wanting => {}
            Became::There => summary.there += 1,
            Became::Imported(report) => {
                summary.imported += 1;
                summary.problems += report.problem_count;
            }
            Became::Failed(_) => summary.failed += 1,
        }
        told(archive, &became);
    }
    Ok(summary)
}

/// An error that says nothing of the archives that are still to come.
fn of_one_archive(error: Error) -> Result<Became> {
    match error {
        Error::Import { .. }
        | Error::Tar { .. }
        | Error::NotAsRead { .. }
        | Error::Dump { .. }
        | Error::Files(_)
        | Error::File { .. }
        | Error::Repo(RepoError::NameTaken { .. } | RepoError::BadName { .. }) => Ok(Became::Failed(error)),
        other => Err(other),
    }
}

/// The archives that are wanted, under their names here.
fn wanted(all: &[ForeignArchive], request: &ImportRequest) -> Result<Vec<ForeignArchive>> {
    let mut patterns = Patterns::new();
    for pattern in &request.wanted {
        // What a pattern takes is what an exclusion of it would leave out.
        patterns.exclude(&format!("fm:{pattern}")).map_err(Error::Files)?;
    }
    let is_wanted = |archive: &&ForeignArchive| {
        request.wanted.is_empty()
            || !patterns.takes(archive.own_name.as_bytes())
            || request.wanted.iter().any(|id| id.len() >= 8 && archive.id.starts_with(id.as_str()))
    };
    let named = |archive: &ForeignArchive| {
        let name = format!("{}{}", request.prefix, archive.name).replace(char::is_control, "_");
        ForeignArchive { name, ..archive.clone() }
    };
    Ok(all.iter().filter(is_wanted).map(named).collect())
}

/// The archives here that were imported, by their origins.
fn imported(repository: &Repository) -> Result<HashMap<String, ArchiveInfo>> {
    let reader = repository.reader(Arc::new(NoMonitor))?;
    let mut found = HashMap::new();
    for info in repository.archives()?.archives.into_iter().filter(|info| info.deleted_ms.is_none()) {
        let entries = reader.entries(&info.manifest)?;
        let mut trees = entries.into_iter().filter(|entry| entry.meta.kind == EntryKind::Tree);
        if let Some(origin) = trees.find_map(|mut entry| entry.meta.attributes.remove(attribute::ORIGIN)) {
            found.insert(origin, info);
        }
    }
    Ok(found)
}

/// An archive that is here. A run that was ended too early may have left something to do.
fn there(
    repository: &Repository,
    info: &ArchiveInfo,
    archive: &ForeignArchive,
    request: &ImportRequest,
    watcher: &Arc<dyn Watcher>,
) -> Result<Became> {
    let is_proven = info.remarks.proofs.get(TREE_NAME).is_some_and(|proof| proof.ok);
    if is_proven || request.dry_run {
        return Ok(Became::There);
    }
    match prove(repository, &info.manifest, watcher.clone()) {
        Ok(()) => remark(repository, info, archive).map(|()| Became::There),
        Err(error @ Error::NotAsRead { .. }) => {
            tracing::warn!("{error}");
            Ok(Became::Wanting)
        }
        Err(error) => Err(error),
    }
}

fn import_one(
    repository: &Repository,
    foreign: &mut dyn Foreign,
    archive: &ForeignArchive,
    origin: String,
    watcher: &Arc<dyn Watcher>,
) -> Result<TreeReport> {
    let provenance = Provenance {
        name: archive.name.clone(),
        comment: archive.comment.clone(),
        started_ms: Some(archive.started_ms),
        made_by: Some((archive.host.clone(), archive.user.clone())),
        origin: Some(origin),
    };
    let Stored { manifest, report } = foreign.store(repository, archive, provenance, watcher.clone())?;
    let info = repository.find_archive(&manifest.id.to_string())?;
    remark(repository, &info, archive)?;
    Ok(report)
}

/// Says that the archive has been compared, and what the other program said of it.
fn remark(repository: &Repository, info: &ArchiveInfo, archive: &ForeignArchive) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let proof = Proof {
        entry: TREE_NAME.into(),
        proven_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        ok: true,
        detail: "content and file table are those that were read for the import".into(),
        rows: None,
    };
    repository.remark(&info.manifest.id, |remarks| {
        remarks.tags.extend(archive.tags.iter().cloned());
        remarks.proofs.insert(proof.entry.clone(), proof.clone());
    })?;
    Ok(())
}
