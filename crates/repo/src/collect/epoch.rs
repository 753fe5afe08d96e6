//! One epoch of a collection, from condemning to the root (G1 to G6 of `docs/protocol.md`).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use dbvault_format::header::ObjectKind;
use dbvault_format::id::{PackName, SessionId};
use dbvault_format::object::{from_cbor, to_cbor};
use dbvault_format::root::{Condemned, Root};
use dbvault_storage::ErrorKind;

use super::base::{self, Base};
use super::live::{Ground, Live};
use super::recompress::Recode;
use super::repack;
use super::waste::wasteful;
use super::{CollectOptions, RunningBackup};
use crate::monitor::{Monitor, Phase};
use crate::pack_list::StoredPacks;
use crate::view::View;
use crate::{Error, Reader, Repository, Result, layout};

/// Segments of single sessions from which on they are folded even if no pack is to be deleted.
const FOLD_SEGMENTS_MIN: usize = 64;

/// How an epoch ended.
pub(super) enum Epoch {
    /// This collector put its root.
    Decided(Box<Decision>),
    /// Backups are still running.
    Waits(Vec<RunningBackup>, u64),
    /// Another collector was quicker.
    Lost,
    /// Nothing to delete, nothing to fold.
    Idle,
}

/// A root that was put.
pub(super) struct Decision {
    /// What was there before it.
    pub(super) view: View,
    pub(super) base: Base,
    /// Bytes of records that were stored again.
    pub(super) repacked_bytes: u64,
    /// The disk is full: there was no room to repack, or to write a base.
    pub(super) cramped: bool,
}

/// What is known of the repository at one moment.
struct Known {
    reader: Arc<Reader>,
    /// Archives that were taken from the trash. Read before the view: their slots may vanish at any time.
    collected: BTreeMap<SessionId, u32>,
    view: View,
    /// Packs that were there after the view was read: all that its archives need is among them.
    stored: StoredPacks,
    /// The session that has repacked in this epoch.
    own: Option<SessionId>,
}

impl Known {
    /// Reads it anew; `None` where epoch `number` is decided.
    fn read(
        repo: &Repository,
        number: u32,
        own: Option<SessionId>,
        open: impl FnOnce(&View) -> Result<Arc<Reader>>,
    ) -> Result<Option<Known>> {
        let (collected, view) = (repo.collected_archives()?, View::load(repo)?);
        if view.root_number + 1 != number {
            return Ok(None);
        }
        let (reader, stored) = (open(&view)?, repo.list_packs(&mut |_| {})?);
        Ok(Some(Known { reader, collected, view, stored, own }))
    }

    /// The same, later, with the index brought up to date.
    fn again(&self, repo: &Repository, number: u32, own: Option<SessionId>) -> Result<Option<Known>> {
        Known::read(repo, number, own, |view| {
            self.reader.update(view)?;
            Ok(self.reader.clone())
        })
    }

    /// Packs that a session has listed.
    fn packs_of(&self, session: SessionId) -> Result<Vec<PackName>> {
        let mut names = Vec::new();
        for key in self.view.segments_of(session) {
            let segment = base::read(self.reader.repo(), key)?;
            names.extend(segment.packs.iter().map(|pack| pack.name));
        }
        Ok(names)
    }

    /// Marks from all archives that were not taken from the trash.
    fn mark(&self, avoid: &HashSet<PackName>) -> Result<Live> {
        let mut archives = self.view.ended_sessions();
        archives.retain(|id| !self.collected.contains_key(id));
        let Known { reader, view, stored, .. } = self;
        reader.monitor().phase(Phase::Mark);
        Live::mark(&Ground { reader, view, own: self.own, stored, avoid }, &archives)
    }

    /// Those of `packs` that hold no marked record.
    fn not_marked<'a>(
        &self,
        live: &Live,
        packs: impl Iterator<Item = &'a PackName>,
    ) -> Result<Vec<PackName>> {
        let mut unmarked = Vec::new();
        for name in packs {
            let number = self.reader.index().pack_number(name)?;
            if number.is_none_or(|number| !live.has_pack(number)) {
                unmarked.push(*name);
            }
        }
        Ok(unmarked)
    }
}

impl Repository {
    /// What all archives need that are not taken from the trash.
    pub(super) fn marked(&self, monitor: Arc<dyn Monitor>) -> Result<(Arc<Reader>, Live)> {
        let (collected, view) = (self.collected_archives()?, View::load(self)?);
        let (reader, stored) = (self.reader_at(&view, monitor)?, self.list_packs(&mut |_| {})?);
        let known = Known { reader, collected, view, stored, own: None };
        let live = known.mark(&HashSet::new())?;
        Ok((known.reader, live))
    }

    /// Runs epoch `number`. With `recode` it is there to compress packs anew.
    pub(super) fn epoch(
        &self,
        number: u32,
        options: &CollectOptions,
        recode: Option<&Recode>,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Epoch> {
        // Before the view: what backups store after this may be needed by archives that the view does not have.
        let packs = self.list_packs(&mut |_| {})?;
        let open = |view: &View| self.reader_at(view, monitor.clone());
        let Some(known) = Known::read(self, number, None, open)? else { return Ok(Epoch::Lost) };
        let condemned = match self.read_condemned(number)? {
            Some(list) => {
                // Whoever put it may have died before it was durable.
                self.storage.flush()?;
                Some(list)
            }
            None => self.condemn(&known, &packs, number, options, recode)?,
        };
        let Some(condemned) = condemned else { return Ok(Epoch::Idle) };
        let list = match self.storage.get(&layout::condemned_list(number), None) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Epoch::Lost),
            list => list?,
        };
        let running = self.wait_for_sessions(&list, options)?;
        if !running.is_empty() {
            let waiting = condemned.packs.iter().filter_map(|name| known.stored.get(name)).sum();
            return Ok(Epoch::Waits(running, waiting));
        }
        let Some(known) = known.again(self, number, None)? else { return Ok(Epoch::Lost) };
        self.decide(known, number, &condemned, options, recode)
    }

    /// Puts the list of those of `packs` that are to go (G1, G2), durably: those that are not marked, and while no backup
    /// runs that would store their chunks again, those that are worth repacking, or are to be compressed anew. `None` where
    /// there are none, and nothing to fold either.
    fn condemn(
        &self,
        known: &Known,
        packs: &StoredPacks,
        number: u32,
        options: &CollectOptions,
        recode: Option<&Recode>,
    ) -> Result<Option<Condemned>> {
        let live = known.mark(&HashSet::new())?;
        let mut packs = known.not_marked(&live, packs.keys())?;
        let registered = super::sweep::registered_sessions(self)?;
        if let Some(recode) = recode {
            let slice = recode.candidates(&known.reader, &live, None)?;
            if slice.is_empty() {
                return Ok(None);
            }
            packs.extend(slice.iter().map(|candidate| candidate.info.name));
        } else if registered.is_empty() {
            let worth = wasteful(&known.reader, &live, None, options.repack_bytes_max)?;
            packs.extend(worth.into_iter().map(|pack| pack.info.name));
        }
        let loose = known.view.committed_segments().count() + known.view.segments_without_slot().count();
        let to_clear = known.collected.keys().any(|id| !registered.contains(id));
        if packs.is_empty() && loose < FOLD_SEGMENTS_MIN && !to_clear {
            return Ok(None);
        }
        packs.sort_unstable();
        let list = Condemned { packs };
        let key = layout::condemned_list(number);
        if !self.put_sealed_if_free(&key, ObjectKind::Condemned, &to_cbor(&list))? {
            return self.read_condemned(number);
        }
        self.storage.flush()?;
        Ok(Some(list))
    }

    fn read_condemned(&self, number: u32) -> Result<Option<Condemned>> {
        let key = layout::condemned_list(number);
        let body = match self.get_sealed(&key, &[ObjectKind::Condemned]) {
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => return Ok(None),
            read => read?.1,
        };
        from_cbor("condemned list", &body).map(Some).map_err(|e| Error::reading(key.as_str(), e))
    }

    /// Marks again, repacks, and puts the root (G5, G6).
    fn decide(
        &self,
        known: Known,
        number: u32,
        condemned: &Condemned,
        options: &CollectOptions,
        recode: Option<&Recode>,
    ) -> Result<Epoch> {
        let mut avoid: HashSet<PackName> = condemned.packs.iter().copied().collect();
        let live = known.mark(&avoid)?;
        let chosen = wasteful(&known.reader, &live, Some(&avoid), options.repack_bytes_max)?;
        let candidates = match recode {
            Some(recode) => recode.candidates(&known.reader, &live, Some(&avoid))?,
            None => Vec::new(),
        };
        if chosen.is_empty() && candidates.is_empty() {
            return self.conclude(&known, &live, number, condemned, 0);
        }
        let recoding = recode.map(|recode| (recode, candidates.as_slice()));
        let repacked = match repack::run(&known.reader, &live, &chosen, recoding) {
            Err(e) if is_no_space(&e) => return self.conclude_cramped(&known, &live, number, condemned),
            repacked => repacked?,
        };
        let Some(known) = known.again(self, number, Some(repacked.session))? else { return Ok(Epoch::Lost) };
        // Packs that stay are as good as any: what is stored against their records is not to be looked for elsewhere.
        recode.iter().for_each(|recode| recode.retain_written(&mut avoid, &candidates));
        let live = known.mark(&avoid)?;
        let made = known.packs_of(repacked.session)?;
        match self.conclude(&known, &live, number, condemned, repacked.stored_bytes) {
            Ok(Epoch::Decided(decision)) => {
                recode.iter().filter(|_| !decision.cramped).for_each(|recode| recode.settle(&made));
                Ok(Epoch::Decided(decision))
            }
            // There was room for the packs, and none to list them: without them, then.
            Err(e) if is_no_space(&e) => {
                let known = Known { own: None, ..known };
                self.conclude_cramped(&known, &known.mark(&avoid)?, number, condemned)
            }
            done => done,
        }
    }

    /// Writes a base without the condemned packs that nothing needs, and puts the root of it.
    fn conclude(
        &self,
        known: &Known,
        live: &Live,
        number: u32,
        condemned: &Condemned,
        repacked_bytes: u64,
    ) -> Result<Epoch> {
        let deleted = known.not_marked(live, condemned.packs.iter())?;
        match base::write(self, &known.view, known.own, &known.stored, deleted) {
            Err(e) if is_no_space(&e) && known.own.is_none() => {
                self.conclude_cramped(known, live, number, condemned)
            }
            base => self.put_decision(known, number, base?, repacked_bytes, false),
        }
    }

    /// The same on a full disk: only what is wholly dead goes.
    fn conclude_cramped(
        &self,
        known: &Known,
        live: &Live,
        number: u32,
        condemned: &Condemned,
    ) -> Result<Epoch> {
        let deleted = known.not_marked(live, condemned.packs.iter())?;
        let base = base::write_nothing(self, &known.view, &known.stored, deleted)?;
        self.put_decision(known, number, base, 0, true)
    }

    fn put_decision(
        &self,
        known: &Known,
        number: u32,
        base: Base,
        repacked_bytes: u64,
        cramped: bool,
    ) -> Result<Epoch> {
        if self.put_root(number, &base.root)? {
            let view = known.view.clone();
            return Ok(Epoch::Decided(Box::new(Decision { view, base, repacked_bytes, cramped })));
        }
        base.discard(self)?;
        Ok(Epoch::Lost)
    }

    /// Puts the root of an epoch, durably (G6), or tells that there is another one.
    pub(crate) fn put_root(&self, number: u32, root: &Root) -> Result<bool> {
        let made = self.put_sealed_if_free(&layout::root(number), ObjectKind::Root, &to_cbor(root))?;
        // One that is there may be ours, written, and the answer lost: the names in its base are nobody else's.
        if !made && self.read_root(number)?.as_ref() != Some(root) {
            return Ok(false);
        }
        self.storage.flush()?;
        Ok(true)
    }

    pub(super) fn read_root(&self, number: u32) -> Result<Option<Root>> {
        if number == 0 {
            return Ok(None);
        }
        let key = layout::root(number);
        let (_, body) = self.get_sealed(&key, &[ObjectKind::Root])?;
        from_cbor("root", &body).map(Some).map_err(|e| Error::reading(key.as_str(), e))
    }
}

fn is_no_space(error: &Error) -> bool {
    matches!(error, Error::Storage(e) if e.kind() == ErrorKind::NoSpace)
}
