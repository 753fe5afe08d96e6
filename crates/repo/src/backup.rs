//! A backup as a transaction: streams go in, and an archive appears at its end or not at all.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dbvault_format::chunk_list::StreamRef;
use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid};
use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::manifest::{
    ArchiveManifest, EntryRecord, FailedEntry, NAME_BYTES_MAX, Sizes, encode_entries,
};
use dbvault_storage::ErrorKind;
use parking_lot::Mutex;

use crate::index::ChunkIndex;
use crate::monitor::{Monitor, Phase};
use crate::pack_writer::PackWriter;
use crate::pipeline::Pipeline;
use crate::repository::{elapsed_ms, now_ms};
use crate::reuse::Reuse;
use crate::segment_writer::SegmentWriter;
use crate::session::Session;
use crate::tree_writer::{TreeWriter, store_tree};
use crate::view::View;
use crate::{Error, Reader, Repository, Result, layout};

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
    dated_ms: Option<i64>,
    /// Host and user, where these are not ours.
    made_by: Option<(String, String)>,
    names: Mutex<BTreeSet<String>>,
    entries: Vec<EntryRecord>,
    /// A stream could not be stored: chunks that are counted as stored may not be, so there is no commit.
    failed: AtomicBool,
    /// What was asked for and is not in the archive.
    missing: Vec<FailedEntry>,
    /// The archive this one is a copy of.
    original: Option<ArchiveManifest>,
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
                dated_ms: None,
                made_by: None,
                names: Mutex::default(),
                entries: Vec::new(),
                failed: AtomicBool::new(false),
                missing: Vec::new(),
                original: None,
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
    /// Dates the archive: what is backed up is of an earlier time, milliseconds since 1970 UTC.
    pub fn date(&mut self, started_ms: i64) {
        self.dated_ms = Some(started_ms);
    }

    /// Says where what is backed up comes from: the archive is of that host and user, not of this client.
    pub fn made_by(&mut self, host: String, user: String) {
        self.made_by = Some((host, user));
    }

    /// Id of the archive to be.
    pub fn id(&self) -> &SessionId {
        self.session.id()
    }

    /// Stores the stream of an entry to its end. Several threads may do so at once, each with a stream of its own;
    /// each takes as many workers as there are cores, and the memory for them.
    ///
    /// Errors: [`Error::NameTaken`] within this archive; [`Error::Source`] where `body` fails: then the rest may be
    /// committed without it. After an error of storing there is no commit; [`BackupTxn::suspend`] keeps what was
    /// stored.
    pub fn add_entry(&self, meta: EntryMeta, body: &mut dyn Read) -> Result<PendingEntry> {
        if meta.kind == EntryKind::Tree {
            return Err(Error::Format(dbvault_format::Error::malformed(
                "entry",
                "a tree is no single stream",
            )));
        }
        let (pending, ()) = self.store_entry(meta, |meta| {
            let (stream, sizes) = self.pipeline.store_stream(&meta.name, meta.grid, body)?;
            Ok(((), stream, None, sizes))
        })?;
        Ok(pending)
    }

    /// Stores a tree of files: `write` gives their content and their records. `base` is the content of an earlier tree:
    /// files that have not changed since are taken over from it, see [`TreeWriter::keep`]. Whatever kind `meta` has, that
    /// of the entry is [`EntryKind::Tree`].
    ///
    /// Takes about 15 MiB more than [`BackupTxn::add_entry`], however many files there are.
    ///
    /// Errors: those of [`BackupTxn::add_entry`], and those of `write`; where these are no [`Error::Source`], there is no
    /// commit either.
    pub fn add_tree<T>(
        &self,
        meta: EntryMeta,
        base: Option<&StreamRef>,
        write: impl FnOnce(&mut TreeWriter<'_>) -> Result<T>,
    ) -> Result<(PendingEntry, T)> {
        let base = base.map(|base| self.reader().open_items(base)).transpose()?;
        let meta = EntryMeta { kind: EntryKind::Tree, ..meta };
        self.store_entry(meta, |meta| store_tree(&self.pipeline, meta, base, write))
    }

    /// Reads earlier archives by the index of this backup; what another program stores meanwhile is not seen.
    pub fn reader(&self) -> Arc<Reader> {
        Reader::beside(&self.repo, self.pipeline.reuse().index().clone(), self.monitor.clone())
    }

    fn store_entry<T>(
        &self,
        meta: EntryMeta,
        store: impl FnOnce(&EntryMeta) -> Result<(T, StreamRef, Option<StreamRef>, Sizes)>,
    ) -> Result<(PendingEntry, T)> {
        check_name(&meta.name)?;
        if !self.names.lock().insert(meta.name.clone()) {
            return Err(Error::NameTaken { name: meta.name });
        }
        let began = Instant::now();
        let stored = store(&meta);
        // Where only the source failed, whatever was read of it is stored as it should be.
        if stored.as_ref().is_err_and(|e| !matches!(e, Error::Source { .. })) {
            self.failed.store(true, Ordering::Release);
        }
        let (value, stream, table, sizes) = stored?;
        let (duration_ms, report) = (elapsed_ms(began), EntryReport::default());
        Ok((PendingEntry(EntryRecord { meta, stream, sizes, duration_ms, report, table }), value))
    }

    /// Entries that are part of the archive so far, in order.
    pub fn entries(&self) -> &[EntryRecord] {
        &self.entries
    }

    /// Makes an entry part of the archive: its source has ended well.
    pub fn finish_entry(&mut self, pending: PendingEntry, report: EntryReport) {
        self.entries.push(EntryRecord { report, ..pending.0 });
    }

    /// Notes that an entry that was asked for is not in the archive: it will be incomplete. What was stored of it so
    /// far stays for the next backup.
    pub fn leave_out(&mut self, name: &str, reason: &str) {
        self.missing.push(FailedEntry { name: name.into(), reason: reason.into() });
    }

    /// Where streams go to.
    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Makes an entry part of the archive whose streams are stored.
    pub(crate) fn push_entry(&mut self, entry: EntryRecord) {
        self.entries.push(entry);
    }

    /// Makes an entry part of the archive that was stored from `original`, which it is a copy of.
    pub(crate) fn finish_copy(&mut self, pending: PendingEntry, original: &EntryRecord) {
        let EntryRecord { stream, table, sizes, .. } = pending.0;
        self.push_entry(EntryRecord { stream, table, sizes, ..original.clone() });
    }

    /// The archive is a copy of `original`: it tells of the same time, host and program, and lacks the same.
    pub(crate) fn copies(&mut self, original: ArchiveManifest) {
        self.original = Some(original);
    }

    /// Makes everything durable, then the archive visible: the only moment at which it comes to be.
    ///
    /// Errors: no archive is there, or, where the very last flush failed, one that a crash may take away.
    /// [`Error::Poisoned`] where a stream could not be stored.
    pub fn commit(self) -> Result<ArchiveManifest> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        if let Err(stop) = self.repo.client.check_interrupt() {
            self.suspend()?;
            return Err(stop);
        }
        let BackupTxn {
            repo,
            session,
            pipeline,
            monitor,
            options,
            started_ms,
            dated_ms,
            made_by,
            entries,
            missing,
            original,
            ..
        } = self;
        let table = store_table(&pipeline, &entries)?;
        monitor.phase(Phase::Commit);
        pipeline.finish()?;
        repo.storage.flush()?;
        let mut sizes = Sizes::default();
        entries.iter().for_each(|entry| sizes.add(&entry.sizes));
        sizes.stored_bytes += table.1.stored_bytes;
        let took_ms = now_ms() - started_ms;
        let started_ms = dated_ms.unwrap_or(started_ms);
        let (host, user) = made_by.unwrap_or_else(|| (repo.client.host.clone(), repo.client.user.clone()));
        let manifest = ArchiveManifest {
            id: *session.id(),
            name: options.archive_name,
            started_ms,
            finished_ms: started_ms.saturating_add(took_ms),
            host,
            user,
            program_version: env!("CARGO_PKG_VERSION").into(),
            entries: table.0,
            entry_count: entries.len() as u64,
            sizes,
            comment: options.comment,
            failed: missing,
        };
        let manifest = original.map_or_else(|| manifest.clone(), |original| as_copy(&manifest, original));
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

/// The manifest of a copy: what is of the copy itself is its id, where its entries are, and what it took to store them.
fn as_copy(made: &ArchiveManifest, original: ArchiveManifest) -> ArchiveManifest {
    ArchiveManifest {
        id: made.id,
        name: made.name.clone(),
        entries: made.entries,
        entry_count: made.entry_count,
        sizes: made.sizes,
        comment: made.comment.clone(),
        ..original
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
pub(crate) fn check_name(name: &str) -> Result<()> {
    let ok = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if ok { Ok(()) } else { Err(Error::BadName { name: name.into() }) }
}
