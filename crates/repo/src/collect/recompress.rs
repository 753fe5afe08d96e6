//! Recompressing: packs that take less room at another level are stored again at that level.
//!
//! A collection that condemns packs although they are not waste. It takes a slice of them at a time, so that little of the
//! repository is condemned at once: a backup that begins meanwhile can't build on these. What a pack would save is found
//! out by trying; one that would save too little stays as it is, and is remembered in the local cache, as are those that
//! were written. Without the cache they are tried once more.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dbvault_format::Error as FormatError;
use dbvault_format::compress::{Codec, DeltaEncoder, Encoder, LEVELS};
use dbvault_format::id::{ChunkId, PackName};
use dbvault_format::pack::ChunkEntry;
use dbvault_format::seal::TAG_BYTES;
use dbvault_storage::Error as StorageError;
use parking_lot::Mutex;
use rayon::prelude::*;

use super::epoch::Epoch;
use super::live::Live;
use super::repack::{Repack, Tools};
use super::{CollectOptions, CollectReport, RunningBackup, TRIES_MAX, sweep};
use crate::index::{Location, PackInfo};
use crate::monitor::{Counter, Monitor};
use crate::pack_writer::Encoded;
use crate::view::View;
use crate::{Error, Reader, Repository, Result};

/// Bytes of packs that one epoch takes.
const SLICE_BYTES: u64 = 1 << 30;

/// A pack is written anew from this gain on: one byte in so many. Less may be lost again in the padding of packs.
const GAIN_ONE_IN: u64 = 32;

/// Records that are decoded together.
const BATCH_RECORDS: usize = 16;

/// How to recompress.
#[derive(Clone, Debug)]
pub struct RecompressOptions {
    /// Level, one of [`LEVELS`]; see `docs/format.md`.
    pub level: i32,
    /// Take the new form of each record also where it is larger. Otherwise the smaller one is kept.
    pub larger: bool,
    /// Most bytes of packs to try.
    pub bytes_max: u64,
    /// Only try; nothing is stored.
    pub dry_run: bool,
    /// How long to wait for backups that run.
    pub wait: Duration,
    /// See [`CollectOptions::silence`].
    pub silence: Duration,
}

/// What was done, or with `dry_run` would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecompressReport {
    /// Packs that were tried.
    pub tried_packs: u64,
    /// Those that were written anew.
    pub packs: u64,
    /// Bytes of the records in these before.
    pub before_bytes: u64,
    /// Bytes of the records that took their place.
    pub after_bytes: u64,
    /// Packs that were known to gain nothing at this level.
    pub known_packs: u64,
    /// Packs that are left for the next time.
    pub left_packs: u64,
    /// Backups that must end first; then nothing more was done.
    pub waits_for: Vec<RunningBackup>,
}

/// What an epoch is to recompress.
pub(super) struct Recode {
    level: i32,
    larger: bool,
    dry_run: bool,
    /// Most bytes of packs to try in all.
    bytes_max: u64,
    state: Mutex<State>,
}

/// What is known, and what trying has shown.
#[derive(Default)]
struct State {
    report: RecompressReport,
    /// Packs that need not be tried, and how many of them there were at the beginning.
    known: HashSet<PackName>,
    /// Bytes of packs that were tried.
    tried_bytes: u64,
    /// What the epoch that runs has tried: it may come to nothing.
    pending: Vec<Tried>,
    /// Packs that can't be read whole: for this run they stay as they are.
    unreadable: HashSet<PackName>,
    /// Whether another epoch may find more to try.
    more: bool,
}

/// A pack that was tried.
struct Tried {
    name: PackName,
    size_bytes: u64,
    /// Bytes of its records, and of those that took their place; `None` where it stays.
    written: Option<(u64, u64)>,
}

/// A pack to try.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) number: u32,
    pub(super) info: PackInfo,
}

/// A record, and its new form where that is to take its place.
struct Form {
    copy: Location,
    new: Option<(Codec, Vec<u8>)>,
}

impl Form {
    fn record_bytes(&self) -> u64 {
        match &self.new {
            Some((_, stored)) => (stored.len() + TAG_BYTES) as u64,
            None => u64::from(self.copy.entry.sealed_len),
        }
    }
}

impl Recode {
    fn new(repo: &Repository, options: &RecompressOptions) -> Result<Recode> {
        if !LEVELS.contains(&options.level) {
            return Err(Error::Format(FormatError::malformed(
                "level",
                "there is no such level of compression",
            )));
        }
        let RecompressOptions { level, larger, dry_run, bytes_max, .. } = *options;
        let recode = Recode { level, larger, dry_run, bytes_max, state: Mutex::default() };
        let known = fs::read(recode.path(repo)).unwrap_or_default();
        recode.state.lock().known =
            known.chunks_exact(32).filter_map(|name| name.try_into().ok().map(PackName)).collect();
        Ok(recode)
    }

    /// Packs with live records that are not known: as many as one epoch takes, or those in `among`.
    pub(super) fn candidates(
        &self,
        reader: &Reader,
        live: &Live,
        among: Option<&HashSet<PackName>>,
    ) -> Result<Vec<Candidate>> {
        let (mut candidates, mut known) = (Vec::new(), 0);
        let mut state = self.state.lock();
        for number in live.packs() {
            let info = reader.index().pack(number)?;
            let is_known = state.known.contains(&info.name);
            known += u64::from(is_known);
            let skipped = is_known || state.unreadable.contains(&info.name);
            if !skipped && among.is_none_or(|among| among.contains(&info.name)) {
                candidates.push(Candidate { number, info });
            }
        }
        candidates.sort_by_key(|candidate| candidate.info.name);
        if among.is_none() {
            let all = candidates.len();
            let budget = self.bytes_max.saturating_sub(state.tried_bytes);
            let mut left = if self.dry_run { budget } else { budget.min(SLICE_BYTES) };
            candidates.retain(|candidate| {
                let fits = candidate.info.size_bytes <= left;
                left -= if fits { candidate.info.size_bytes } else { 0 };
                fits
            });
            state.report.left_packs = (all - candidates.len()) as u64;
            state.more = state.report.left_packs > 0;
            if state.report.tried_packs == 0 {
                state.report.known_packs = known;
            }
        }
        Ok(candidates)
    }

    /// The epoch tries anew.
    pub(super) fn begin(&self) {
        let mut state = self.state.lock();
        state.pending.clear();
        state.more = true;
    }

    /// What the epoch has tried counts, and the packs that it made are `made`.
    pub(super) fn settle(&self, made: &[PackName]) {
        let mut state = self.state.lock();
        for tried in std::mem::take(&mut state.pending) {
            state.report.tried_packs += 1;
            state.tried_bytes += tried.size_bytes;
            if let Some((before, after)) = tried.written {
                state.report.packs += 1;
                state.report.before_bytes += before;
                state.report.after_bytes += after;
            }
            // One that was written anew, and is there all the same for a record of it, gains nothing more.
            state.known.insert(tried.name);
        }
        state.known.extend(made);
    }

    /// Drops those of `candidates` from `packs` that stay as they are.
    pub(super) fn retain_written(&self, packs: &mut HashSet<PackName>, candidates: &[Candidate]) {
        let state = self.state.lock();
        let written = state.pending.iter().filter(|tried| tried.written.is_some());
        let written: HashSet<PackName> = written.map(|tried| tried.name).collect();
        for Candidate { info, .. } in candidates.iter().filter(|one| !written.contains(&one.info.name)) {
            packs.remove(&info.name);
        }
    }

    fn remember(&self, candidate: &Candidate, written: Option<(u64, u64)>) {
        let PackInfo { name, size_bytes, .. } = candidate.info;
        self.state.lock().pending.push(Tried { name, size_bytes, written });
    }

    /// Writes down what need not be tried again. Where that fails, it is tried again.
    fn write_down(&self, repo: &Repository) {
        let path = self.path(repo);
        let mut names: Vec<PackName> = self.state.lock().known.iter().copied().collect();
        names.sort_unstable();
        let bytes: Vec<u8> = names.iter().flat_map(|name| name.0).collect();
        let new = path.with_extension(format!("{}.new", std::process::id()));
        if let Err(e) = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)) {
            tracing::debug!("{}: {e}", path.display());
        }
    }

    fn path(&self, repo: &Repository) -> PathBuf {
        let kind = if self.larger { "recoded" } else { "recompressed" };
        repo.cache_dir().join(format!("{kind}_{}", self.level))
    }

    /// Whether a pack is worth it.
    fn is_worth(&self, before: u64, after: u64, changed: bool) -> bool {
        let gain = before.saturating_sub(after);
        gain > 0 && gain >= before / GAIN_ONE_IN || self.larger && changed
    }
}

impl Repack<'_> {
    /// Stores the live records of those of `candidates` again that gain by it.
    pub(super) fn recompress(&self, candidates: &[Candidate], recode: &Recode) -> Result<()> {
        candidates.par_iter().try_for_each_init(Tools::default, |tools, candidate| {
            self.try_pack(candidate, recode, tools)?;
            self.reader.monitor().add(Counter::Packs, 1);
            Ok(())
        })
    }

    fn try_pack(&self, candidate: &Candidate, recode: &Recode, tools: &mut Tools) -> Result<()> {
        let all = self.reader.index().entries(&candidate.info.name)?;
        let before: u64 = all.iter().map(|entry| u64::from(entry.sealed_len)).sum();
        let live = self.live_copies(candidate.number, &candidate.info)?;
        let mut forms = Vec::new();
        for batch in live.chunks(BATCH_RECORDS) {
            self.reader.check_interrupt()?;
            if !self.try_batch(batch, recode, tools, &mut forms)? {
                tracing::warn!("pack {} stays as it is, for it can't be read whole", candidate.info.name);
                recode.state.lock().unreadable.insert(candidate.info.name);
                return Ok(());
            }
        }
        let after = forms.iter().map(Form::record_bytes).sum();
        let changed = forms.iter().any(|form| form.new.is_some());
        // No live record can be told: its directory can't be read.
        if live.is_empty() || !recode.is_worth(before, after, changed) {
            recode.remember(candidate, None);
            return Ok(());
        }
        recode.remember(candidate, Some((before, after)));
        if recode.dry_run {
            return Ok(());
        }
        forms.chunks(BATCH_RECORDS).try_for_each(|batch| self.put_batch(batch, tools))
    }

    /// Encodes records anew; `false` where one of them can't be read.
    fn try_batch(
        &self,
        batch: &[Location],
        recode: &Recode,
        tools: &mut Tools,
        forms: &mut Vec<Form>,
    ) -> Result<bool> {
        let Tools { bench, delta, whole, .. } = tools;
        let bases = batch.iter().filter_map(|copy| copy.entry.base);
        let wanted: Vec<ChunkId> = batch.iter().map(|copy| copy.entry.id).chain(bases).collect();
        let fetched: Result<Vec<&[u8]>> = self.reader.chunks().fetch(&wanted, bench).into_iter().collect();
        let Ok(fetched) = fetched else { return Ok(false) };
        let (plains, bases) = fetched.split_at(batch.len());
        let mut bases = bases.iter().copied();
        let mut encoder = Encoder::new(recode.level).map_err(Error::Format)?;
        let mut delta_encoder = DeltaEncoder::new(recode.level).map_err(Error::Format)?;
        for (copy, plain) in batch.iter().zip(plains) {
            let (codec, form) = match copy.entry.base.and_then(|_| bases.next()) {
                Some(base) => {
                    delta_encoder.encode(base, plain, delta).map_err(Error::Format)?;
                    (Codec::Delta, &*delta)
                }
                None => (encoder.encode(plain, whole).map_err(Error::Format)?, &*whole),
            };
            let old_len = (copy.entry.sealed_len as usize).saturating_sub(TAG_BYTES);
            // Of the same length it is the same, or as good.
            let take = form.len() < old_len || recode.larger && form.len() != old_len;
            forms.push(Form { copy: copy.clone(), new: take.then(|| (codec, form.clone())) });
        }
        Ok(true)
    }

    fn put_batch(&self, batch: &[Form], tools: &mut Tools) -> Result<()> {
        self.reader.check_interrupt()?;
        let Tools { verifier, bench, records, .. } = tools;
        let copies: Vec<Location> = batch.iter().map(|form| form.copy.clone()).collect();
        self.records.read(&copies, records);
        let wanted: Vec<ChunkId> = copies.iter().filter_map(|copy| copy.entry.base).collect();
        let mut bases = self.reader.chunks().fetch(&wanted, bench).into_iter();
        for (at, Form { copy, new }) in batch.iter().enumerate() {
            let base = copy.entry.base.and_then(|_| bases.next()).transpose();
            let (codec, stored) = match new {
                Some((codec, stored)) => (*codec, Ok(stored.as_slice())),
                None => (copy.entry.codec, records.get(at)),
            };
            // It stays where it is, then, and so does its pack.
            let (Ok(stored), Ok(base)) = (stored, base) else { continue };
            let entry = ChunkEntry { codec, ..copy.entry.clone() };
            self.put(&Encoded { entry, stored, base }, verifier)?;
        }
        Ok(())
    }
}

impl Repository {
    /// Stores what takes less room at another level again at that level, and frees the packs it was in.
    ///
    /// As safe as a collection, which it is: see [`Repository::collect`]. What no archive needs goes with it, but nothing
    /// is taken from the trash. May be interrupted, and crash: what was done stays done, and the next one goes on.
    ///
    /// Errors: those of [`Repository::collect`]; a full disk, on which what was there is there.
    pub fn recompress(
        &self,
        options: &RecompressOptions,
        monitor: Arc<dyn Monitor>,
    ) -> Result<RecompressReport> {
        let recode = Recode::new(self, options)?;
        if options.dry_run {
            self.try_all(&recode, monitor)?;
            return Ok(std::mem::take(&mut recode.state.lock().report));
        }
        let (mut lost, mut waits_for) = (0, Vec::new());
        let collect = CollectOptions {
            wait: options.wait,
            silence: options.silence,
            repack_bytes_max: 0,
            ..CollectOptions::default()
        };
        while lost < TRIES_MAX && waits_for.is_empty() {
            // A backup that begins while packs are condemned stores their chunks again: none are as long as one runs.
            waits_for = self.wait_for_backups(&collect)?;
            if !waits_for.is_empty() {
                break;
            }
            match self.recompress_some(&recode, &collect, &monitor)? {
                Some(Epoch::Waits(sessions, _)) => waits_for = sessions,
                Some(Epoch::Lost) => lost += 1,
                Some(_) => {}
                None => break,
            }
        }
        let report = std::mem::take(&mut recode.state.lock().report);
        Ok(RecompressReport { waits_for, ..report })
    }

    /// One epoch; `None` where there is no more to do.
    fn recompress_some(
        &self,
        recode: &Recode,
        options: &CollectOptions,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Option<Epoch>> {
        let number = View::load(self)?.root_number + 1;
        let mut freed = CollectReport::default();
        sweep::finish(self, number - 1, &mut freed)?;
        recode.begin();
        match self.epoch(number, options, Some(recode), monitor) {
            Ok(Epoch::Decided(decision)) => {
                let cramped = decision.cramped;
                self.sweep(number, *decision, &mut freed)?;
                recode.write_down(self);
                if cramped {
                    let full = std::io::ErrorKind::StorageFull.into();
                    return Err(StorageError::io("packs", full).into());
                }
                let more = recode.state.lock().more;
                Ok(more.then_some(Epoch::Idle))
            }
            Ok(Epoch::Idle) => Ok(None),
            // Another collector cleared away what this one was reading.
            Err(e) if !matches!(e, Error::Interrupted) && self.is_decided(number)? => {
                tracing::debug!("{e}");
                Ok(Some(Epoch::Lost))
            }
            other => other.map(Some),
        }
    }

    /// Tries, and stores nothing.
    fn try_all(&self, recode: &Recode, monitor: Arc<dyn Monitor>) -> Result<()> {
        let (reader, live) = self.marked(monitor)?;
        let candidates = recode.candidates(&reader, &live, None)?;
        super::repack::run(&reader, &live, &[], Some((recode, &candidates)))?;
        recode.settle(&[]);
        Ok(())
    }
}
