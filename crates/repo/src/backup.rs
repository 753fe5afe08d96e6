//! A backup as a transaction: streams go in, and an archive appears at its end or not at all.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use dbvault_format::chunk_list::StreamRef;
use dbvault_format::entry::{EntryMeta, EntryReport, Grid};
use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::manifest::{ArchiveManifest, EntryRecord, NAME_BYTES_MAX, Sizes, encode_entries};
use dbvault_storage::ErrorKind;

use crate::index::ChunkIndex;
use crate::monitor::{Monitor, Phase};
use crate::pack_writer::PackWriter;
use crate::pipeline::Pipeline;
use crate::repository::now_ms;
use crate::reuse::Reuse;
use crate::segment_writer::SegmentWriter;
use crate::session::Session;
use crate::view::View;
use crate::{Error, Repository, Result, layout};

/// Times the commit is tried when its outcome is unknown.
const COMMIT_TRIES_MAX: u32 = 3;

/// What an archive is called.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    /// Name of the archive; must not be that of another.
    pub archive_name: String,
    /// What the user says of it.
    pub comment: Option<String>,
}

/// An entry whose stream is stored, and whose source has not told yet whether it was good.
#[derive(Debug)]
#[must_use = "an entry is part of the archive only after finish_entry"]
pub struct PendingEntry(EntryRecord);

/// A running backup. Dropped, it leaves only objects that nothing refers to.
#[derive(Debug)]
pub struct BackupTxn {
    repo: Repository,
    session: Session,
    pipeline: Pipeline,
    monitor: Arc<dyn Monitor>,
    options: BackupOptions,
    started_ms: i64,
    names: BTreeSet<String>,
    entries: Vec<EntryRecord>,
    /// A stream could not be stored: chunks that are counted as stored may not be, so there is no commit.
    failed: bool,
}

impl Repository {
    /// Begins a backup: registers the session, then reads the view (W0 and W1 of `docs/protocol.md`).
    ///
    /// Errors: [`Error::NameTaken`], [`Error::BadName`]; nothing is left behind then.
    pub fn begin_backup(&self, options: BackupOptions, monitor: Arc<dyn Monitor>) -> Result<BackupTxn> {
        check_name(&options.archive_name)?;
        if self.archives()?.archives.iter().any(|archive| archive.manifest.name == options.archive_name) {
            return Err(Error::NameTaken { name: options.archive_name });
        }
        let session = Session::register(self)?;
        match self.begin_registered(&session, options, monitor) {
            Ok((pipeline, monitor, options)) => Ok(BackupTxn {
                repo: self.clone(),
                session,
                pipeline,
                monitor,
                options,
                started_ms: now_ms(),
                names: BTreeSet::new(),
                entries: Vec::new(),
                failed: false,
            }),
            Err(e) => {
                // The first error is the one that tells; a registration that stays does no harm.
                let _ = session.end();
                Err(e)
            }
        }
    }

    fn begin_registered(
        &self,
        session: &Session,
        options: BackupOptions,
        monitor: Arc<dyn Monitor>,
    ) -> Result<(Pipeline, Arc<dyn Monitor>, BackupOptions)> {
        let view = View::load(self)?;
        let index = Arc::new(ChunkIndex::open(self, &view, &*monitor)?);
        let reuse = Arc::new(Reuse::new(self, index.clone(), view, *session.id()));
        let segments = SegmentWriter::new(self, reuse.clone(), *session.id());
        let packs = PackWriter::new(self, *session.id(), segments, index)?;
        monitor.phase(Phase::Store);
        Ok((Pipeline::new(self, reuse, packs, monitor.clone())?, monitor, options))
    }
}

impl BackupTxn {
    /// Id of the archive to be.
    pub fn id(&self) -> &SessionId {
        self.session.id()
    }

    /// Stores the stream of an entry to its end.
    ///
    /// Errors: [`Error::NameTaken`] within this archive; [`Error::Source`] where `body` fails. After an error
    /// of `body` or of storing there is no commit; [`BackupTxn::suspend`] keeps what was stored.
    pub fn add_entry(&mut self, meta: EntryMeta, body: &mut dyn Read) -> Result<PendingEntry> {
        check_name(&meta.name)?;
        if !self.names.insert(meta.name.clone()) {
            return Err(Error::NameTaken { name: meta.name });
        }
        let began = Instant::now();
        let stored = self.pipeline.store_stream(&meta.name, meta.grid, body);
        self.failed |= stored.is_err();
        let (stream, sizes) = stored?;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(PendingEntry(EntryRecord { meta, stream, sizes, duration_ms, report: EntryReport::default() }))
    }

    /// Entries that are part of the archive so far, in order.
    pub fn entries(&self) -> &[EntryRecord] {
        &self.entries
    }

    /// Makes an entry part of the archive: its source has ended well.
    pub fn finish_entry(&mut self, pending: PendingEntry, report: EntryReport) {
        self.entries.push(EntryRecord { report, ..pending.0 });
    }

    /// Makes everything durable, then the archive visible: the only moment at which it comes to be.
    ///
    /// Errors: no archive is there, or, where the very last flush failed, one that a crash may take away.
    /// [`Error::Poisoned`] where a stream could not be stored.
    pub fn commit(self) -> Result<ArchiveManifest> {
        if self.failed {
            return Err(Error::Poisoned);
        }
        if let Err(stop) = self.repo.client.check_interrupt() {
            self.suspend()?;
            return Err(stop);
        }
        let BackupTxn { repo, session, pipeline, monitor, options, started_ms, entries, .. } = self;
        let table = store_table(&pipeline, &entries)?;
        monitor.phase(Phase::Commit);
        pipeline.finish()?;
        repo.storage.flush()?;
        let mut sizes = Sizes::default();
        entries.iter().for_each(|entry| sizes.add(&entry.sizes));
        sizes.stored_bytes += table.1.stored_bytes;
        let manifest = ArchiveManifest {
            id: *session.id(),
            name: options.archive_name,
            started_ms,
            finished_ms: now_ms(),
            host: repo.client.host.clone(),
            user: repo.client.user.clone(),
            program_version: env!("CARGO_PKG_VERSION").into(),
            entries: table.0,
            entry_count: entries.len() as u64,
            sizes,
            comment: options.comment,
        };
        commit_slot(&repo, &manifest)?;
        if let Err(e) = session.end() {
            // The archive is there. A registration that stays makes a collection look at its slot, no more.
            tracing::warn!("the registration of this backup stays behind: {e}");
        }
        Ok(manifest)
    }

    /// Ends without an archive, but keeps what was stored so far where the next backup finds it.
    pub fn suspend(self) -> Result<()> {
        let kept = match self.pipeline.finish() {
            // Storing failed before: what the segments list by now is kept.
            Err(Error::Poisoned) => Ok(()),
            kept => kept,
        };
        self.session.end()?;
        kept?;
        Ok(self.repo.storage.flush()?)
    }
}

fn store_table(pipeline: &Pipeline, entries: &[EntryRecord]) -> Result<(StreamRef, Sizes)> {
    let table = encode_entries(entries);
    pipeline.store_stream("entry table", Grid::Content, &mut table.as_slice())
}

/// Fills the slot of the session. An unknown outcome is cleared up by looking at the slot: this manifest is
/// success, a tombstone is [`Error::Fenced`], and an empty slot is tried again.
fn commit_slot(repo: &Repository, manifest: &ArchiveManifest) -> Result<()> {
    let key = layout::archive(&manifest.id);
    let body = manifest.encode();
    let mut tries = 1;
    loop {
        let failure = match repo.put_sealed(&key, ObjectKind::Archive, &body) {
            Ok(()) => break,
            Err(e) => e,
        };
        match repo.read_manifest(&manifest.id) {
            Ok(Some(found)) if found == *manifest => break,
            Ok(_) => return Err(Error::Fenced { id: manifest.id }),
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound && tries < COMMIT_TRIES_MAX => {
                tries += 1
            }
            Err(_) => return Err(failure),
        }
    }
    Ok(repo.storage.flush()?)
}

/// Names are 1 to [`NAME_BYTES_MAX`] bytes, with no control characters.
fn check_name(name: &str) -> Result<()> {
    let ok = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if ok { Ok(()) } else { Err(Error::BadName { name: name.into() }) }
}
