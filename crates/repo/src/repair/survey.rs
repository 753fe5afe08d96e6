//! What is wrong, and what that takes: only looks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use dbvault_format::header::ObjectKind;
use dbvault_format::id::{PackName, SessionId};
use dbvault_format::index_segment::IndexSegment;
use dbvault_format::note::Note;
use dbvault_format::object::from_cbor;
use dbvault_format::parity::Parity;
use dbvault_format::session::SessionRecord;
use dbvault_format::trash::TrashMark;
use dbvault_storage::{ErrorKind, Key};
use parking_lot::Mutex;
use rayon::prelude::*;

use super::epochs::Epochs;
use super::{RepairOptions, packs};
use crate::check::{CheckDepth, Finding};
use crate::monitor::{Counter, Monitor, Phase};
use crate::view::View;
use crate::{Error, Repository, Result, layout, parity};

/// What becomes of a damaged object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Goes to the quarantine; whatever is good in it is in the new root.
    Aside,
    /// As [`Fate::Aside`], and a fence takes its place: an archive slot.
    Fenced,
    /// As [`Fate::Aside`]; its pack gets parity anew.
    Remade,
    /// Stays: what to do about it is for a person to say.
    Left(&'static str),
}

/// What is wrong with the repository.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) findings: Vec<Finding>,
    /// Damaged small objects, segments, and whatever has a name that nothing can have.
    pub(super) small: BTreeMap<Key, Fate>,
    /// Packs that parity can restore.
    pub(super) restorable: BTreeSet<PackName>,
    /// Damaged packs that it can't.
    pub(super) bad: BTreeSet<PackName>,
    /// Packs without parity that are to get it.
    pub(super) without_parity: Vec<PackName>,
    /// Sessions that had filled their slots before the segments were listed: all of theirs are among these.
    pub(super) ended: BTreeSet<SessionId>,
    /// Segments that can be read.
    pub(super) segments: Vec<Key>,
    /// Packs of the storage, with their lengths, bytes.
    pub(super) stored: HashMap<PackName, u64>,
    /// Whether the index has to be made anew, with a new root.
    pub(super) needs_root: bool,
}

/// Packs by name, with the length that a segment tells, bytes.
type Sizes = HashMap<PackName, u64>;

/// Reads one object of a folder.
type Test = fn(&Repository, &Key) -> Result<()>;

/// Whether an object of a folder can have a name.
type Named = fn(&Key) -> bool;

impl Survey {
    /// Looks at everything but roots and condemned lists.
    pub(super) fn take(
        repo: &Repository,
        epochs: &Epochs,
        options: &RepairOptions,
        monitor: &std::sync::Arc<dyn Monitor>,
    ) -> Result<Survey> {
        monitor.phase(Phase::CheckStructure);
        let mut survey = Survey { needs_root: epochs.need_root(), ..Survey::default() };
        survey.look_at_small_objects(repo)?;
        survey.list_packs(repo)?;
        let view = match survey.needs_root {
            true => None,
            false => match View::load(repo) {
                // A condemned list that is only looked at: a repair that is done in earnest has finished it.
                Err(Error::Damaged { .. }) if options.dry_run => None,
                view => Some(view?),
            },
        };
        let (known, counting) = survey.look_at_segments(repo, view.as_ref(), epochs)?;
        survey.look_at_lengths(repo, &known, &counting)?;
        if options.read_data {
            monitor.phase(Phase::CheckData);
            survey.read_packs(repo, &**monitor)?;
        }
        survey.sort_packs(repo, &counting)?;
        survey.look_at_parity(repo, options)?;
        let unlisted = || survey.stored.keys().any(|name| !counting.contains_key(name));
        if let Some(view) = view.filter(|_| !survey.needs_root && unlisted()) {
            let reader = repo.reader_at(&view, monitor.clone())?;
            survey.needs_root = !reader.check(CheckDepth::Structure)?.damage.is_empty();
        }
        survey.findings.sort_by(|a, b| (&a.object, &a.problem).cmp(&(&b.object, &b.problem)));
        Ok(survey)
    }

    fn add(&mut self, key: &Key, problem: impl std::fmt::Display, fate: Fate) {
        let fate = match layout::quarantine(0, key) {
            Some(_) => fate,
            None => Fate::Left("its name is too long to be moved"),
        };
        self.findings.push(Finding::new(key, problem));
        self.needs_root |= matches!(fate, Fate::Fenced);
        self.small.insert(key.clone(), fate);
    }

    fn look_at_small_objects(&mut self, repo: &Repository) -> Result<()> {
        for (id, bytes) in crate::key_slots::read_all(&*repo.storage)? {
            if let Err(e) = dbvault_format::key_slot::note(&repo.master, (&repo.id, &id), &bytes) {
                let fate = Fate::Left("a key slot is for its owner to replace: key add, then key remove");
                self.add(&layout::key_slot(&id), e, fate);
            }
        }
        let folders: [(Key, Test, Named); 4] = [
            (layout::sessions(), test_session, |key| layout::parse_session(key).is_some()),
            (layout::trash(), test_trash, |key| layout::parse_trash_mark(key).is_some()),
            (layout::notes(), test_note, |key| layout::parse_note(key).is_some()),
            (layout::archives(), test_slot, |key| layout::parse_archive(key).is_some()),
        ];
        let numbered = |folder| repo.list_keys(&folder).map(|keys| keys.into_iter());
        for key in numbered(layout::roots())?.chain(numbered(layout::condemned())?) {
            let number = layout::parse_number(&key);
            if !number.is_some_and(|n| [layout::root(n), layout::condemned_list(n)].contains(&key)) {
                self.add(&key, "not a name an object can have here", Fate::Aside);
            }
        }
        for key in repo.list_keys(&layout::parities())? {
            if layout::parse_parity(&key).is_none() {
                self.add(&key, "not a name that parity can have", Fate::Aside);
            }
        }
        for (folder, test, named) in folders {
            for key in repo.list_keys(&folder)? {
                repo.client.check_interrupt()?;
                self.ended.extend(layout::parse_archive(&key));
                if !named(&key) {
                    self.add(&key, "not a name an object can have here", Fate::Aside);
                    continue;
                }
                match test(repo, &key) {
                    Err(Error::Damaged { source, .. }) => {
                        let fate = fate_of(repo, &key)?;
                        self.add(&key, source, fate);
                    }
                    Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    fn list_packs(&mut self, repo: &Repository) -> Result<()> {
        let (mut stored, mut misplaced) = (HashMap::new(), Vec::new());
        repo.storage.list(&layout::packs(), &mut |object| {
            match layout::parse_pack(&object.key).filter(|name| layout::pack(name) == object.key) {
                Some(name) => drop(stored.insert(name, object.size_bytes)),
                None => misplaced.push(object.key),
            }
            Ok(())
        })?;
        self.stored = stored;
        for key in misplaced {
            self.add(&key, "not a name a pack can have", Fate::Aside);
        }
        Ok(())
    }

    /// Reads all segments. Gives what packs they tell of, and what packs those tell of that count.
    fn look_at_segments(
        &mut self,
        repo: &Repository,
        view: Option<&View>,
        epochs: &Epochs,
    ) -> Result<(Sizes, Sizes)> {
        let (mut known, mut counting) = (Sizes::new(), Sizes::new());
        let counts: HashSet<Key> = view.map_or_else(HashSet::new, |view| {
            view.base_segments().chain(view.committed_segments().map(|(key, _)| key)).cloned().collect()
        });
        for key in repo.list_keys(&layout::index())? {
            repo.client.check_interrupt()?;
            if layout::parse_index_segment(&key).is_none() {
                self.add(&key, "not a name a segment can have", Fate::Aside);
                continue;
            }
            match read_segment(repo, &key) {
                Ok(segment) => {
                    let sizes = segment.packs.iter().map(|pack| (pack.name, pack.size_bytes));
                    if counts.contains(&key) {
                        // A base for a full disk lists what its own root deletes.
                        let deleted = |name: &PackName| view.is_some_and(|view| view.is_deleted(name));
                        counting.extend(sizes.clone().filter(|(name, _)| !deleted(name)));
                    }
                    known.extend(sizes);
                    self.segments.push(key);
                }
                Err(Error::Damaged { source, .. }) => {
                    self.add(&key, source, Fate::Aside);
                    self.needs_root = true;
                }
                Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        for name in epochs.root.iter().flat_map(|root| &root.base) {
            let Ok(key) = Key::new(name.clone()) else { continue };
            if !self.segments.contains(&key) && !self.small.contains_key(&key) {
                self.findings.push(Finding::new(&key, "missing"));
                self.needs_root = true;
            }
        }
        Ok((known, counting))
    }

    /// Packs that are shorter or longer than a segment says, or that no segment tells of and have no directory.
    fn look_at_lengths(&mut self, repo: &Repository, known: &Sizes, counting: &Sizes) -> Result<()> {
        let mut bad = Vec::new();
        for (name, size_bytes) in &self.stored {
            repo.client.check_interrupt()?;
            match known.get(name) {
                Some(listed) if listed == size_bytes => {}
                Some(listed) => bad.push((*name, format!("{size_bytes} bytes long, not {listed}"))),
                None => match packs::directory(repo, name, *size_bytes) {
                    Ok(_) => {}
                    Err(Error::Damaged { source, .. }) => bad.push((*name, source.to_string())),
                    Err(Error::Storage(e)) if e.kind() == ErrorKind::ShortRead => {
                        bad.push((*name, "ends too early".into()));
                    }
                    Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                },
            }
        }
        let moved = |name: &PackName| -> Result<bool> {
            let aside = layout::quarantine(0, &layout::pack(name));
            Ok(aside.map(|key| repo.storage.size(&key)).transpose()?.flatten().is_some())
        };
        let mut missing: HashSet<PackName> = counting.keys().copied().collect();
        // What a repair has moved aside and not put back yet.
        for name in parity::list(repo)? {
            if !self.stored.contains_key(&name) && moved(&name)? && parity::restore(repo, &name)?.is_some() {
                missing.insert(name);
            }
        }
        missing.retain(|name| !self.stored.contains_key(name));
        for name in missing.clone() {
            // Stored since all packs were listed, by a backup that has ended since.
            if let Some(size_bytes) = repo.storage.size(&layout::pack(&name))? {
                missing.remove(&name);
                self.stored.insert(name, size_bytes);
            }
        }
        bad.extend(missing.into_iter().map(|name| (name, "missing".to_owned())));
        self.add_bad(bad);
        Ok(())
    }

    fn add_bad(&mut self, bad: Vec<(PackName, String)>) {
        for (name, problem) in bad {
            if self.bad.insert(name) {
                self.findings.push(Finding::new(&layout::pack(&name), problem));
            }
        }
    }

    /// Reads all packs that look good so far, on all cores.
    fn read_packs(&mut self, repo: &Repository, monitor: &dyn Monitor) -> Result<()> {
        monitor.expect(Counter::PackBytes, self.stored.values().sum());
        let (bad, left) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        self.stored.par_iter().try_for_each(|(name, size_bytes)| {
            repo.client.check_interrupt()?;
            match packs::look(repo, name) {
                Ok(problem) => {
                    bad.lock().extend(problem.map(|problem| (*name, problem)));
                }
                // What can't be read can't be copied either: it stays where it is.
                Err(Error::Storage(e)) if e.kind() == ErrorKind::Io => {
                    left.lock().push((*name, format!("can't be read: {e}")));
                }
                Err(e) => return Err(e),
            }
            monitor.add(Counter::Packs, 1);
            monitor.add(Counter::PackBytes, *size_bytes);
            Ok(())
        })?;
        self.add_bad(std::mem::take(&mut *bad.lock()));
        for (name, problem) in std::mem::take(&mut *left.lock()) {
            let fate = Fate::Left("what the storage can't read can't be copied: mend the storage first");
            self.add(&layout::pack(&name), problem, fate);
        }
        Ok(())
    }

    /// Tells packs that parity can restore from those that it can't. A pack that is gone and not needed is neither.
    fn sort_packs(&mut self, repo: &Repository, counting: &Sizes) -> Result<()> {
        for name in std::mem::take(&mut self.bad) {
            repo.client.check_interrupt()?;
            if parity::restore(repo, &name)?.is_some() {
                self.needs_root |= !counting.contains_key(&name);
                self.restorable.insert(name);
            } else {
                self.needs_root |= self.stored.contains_key(&name) || counting.contains_key(&name);
                self.bad.insert(name);
            }
        }
        Ok(())
    }

    fn look_at_parity(&mut self, repo: &Repository, options: &RepairOptions) -> Result<()> {
        let there = parity::list(repo)?;
        for name in there.iter().filter(|_| options.read_data) {
            let key = layout::parity(name);
            let Ok(object) = repo.storage.get(&key, None) else { continue };
            let problem = match Parity::decode(name, &object) {
                Ok(parity) if parity.is_whole() => continue,
                Ok(_) => "its bytes do not have the hash at its end".to_owned(),
                Err(e) => e.to_string(),
            };
            self.add(&key, problem, Fate::Remade);
        }
        let wanted = options.parity_percent(repo).is_some();
        let without = self.stored.keys().filter(|name| {
            let damaged = self.small.contains_key(&layout::parity(name));
            (damaged || wanted && !there.contains(*name)) && !self.bad.contains(*name)
        });
        self.without_parity = without.copied().collect();
        self.without_parity.sort_unstable();
        Ok(())
    }
}

/// Reads a segment. Errors: [`Error::Damaged`] among others.
pub(super) fn read_segment(repo: &Repository, key: &Key) -> Result<IndexSegment> {
    let (_, body) = repo.get_sealed(key, &[ObjectKind::IndexSegment])?;
    IndexSegment::decode(&body).map_err(|e| Error::reading(key.as_str(), e))
}

fn test_session(repo: &Repository, key: &Key) -> Result<()> {
    let (_, body) = repo.get_sealed(key, &[ObjectKind::Session])?;
    from_cbor::<SessionRecord>("session", &body).map(drop).map_err(|e| Error::reading(key.as_str(), e))
}

fn test_trash(repo: &Repository, key: &Key) -> Result<()> {
    let (_, body) = repo.get_sealed(key, &[ObjectKind::Trash])?;
    from_cbor::<TrashMark>("trash mark", &body).map(drop).map_err(|e| Error::reading(key.as_str(), e))
}

fn test_note(repo: &Repository, key: &Key) -> Result<()> {
    let (_, body) = repo.get_sealed(key, &[ObjectKind::Note])?;
    from_cbor::<Note>("note", &body).map(drop).map_err(|e| Error::reading(key.as_str(), e))
}

fn test_slot(repo: &Repository, key: &Key) -> Result<()> {
    let id = layout::parse_archive(key).ok_or(Error::Poisoned)?;
    if repo.read_manifest(&id)?.is_some() {
        return Ok(());
    }
    let (_, body) = repo.get_sealed(key, &[ObjectKind::Fence])?;
    crate::check::fence_readable(&body).map_err(|e| Error::reading(key.as_str(), e))
}

/// Whether an object that was found damaged is so when it is looked at once more. What a bad cable or bad memory made
/// of good bytes must not move them.
pub(super) fn is_still_damaged(repo: &Repository, key: &Key) -> Result<bool> {
    let tested = if let Some(name) = layout::parse_pack(key).filter(|name| layout::pack(name) == *key) {
        return Ok(packs::look(repo, &name)?.is_some());
    } else if let Some(name) = layout::parse_parity(key) {
        let object = repo.storage.get(key, None)?;
        return Ok(!Parity::decode(&name, &object).is_ok_and(|parity| parity.is_whole()));
    } else if layout::parse_index_segment(key).is_some() {
        read_segment(repo, key).map(drop)
    } else if layout::parse_archive(key).is_some() {
        test_slot(repo, key)
    } else if layout::parse_session(key).is_some() {
        test_session(repo, key)
    } else if layout::parse_trash_mark(key).is_some() {
        test_trash(repo, key)
    } else if layout::parse_note(key).is_some() {
        test_note(repo, key)
    } else {
        // Its name is what is wrong with it.
        return Ok(true);
    };
    match tested {
        Err(Error::Damaged { .. }) => Ok(true),
        tested => tested.map(|()| false),
    }
}

/// What becomes of a small object that is damaged.
fn fate_of(repo: &Repository, key: &Key) -> Result<Fate> {
    if layout::parse_archive(key).is_some() {
        return Ok(Fate::Fenced);
    }
    let Some(session) = layout::parse_session(key) else { return Ok(Fate::Aside) };
    Ok(match repo.storage.size(&layout::archive(&session))? {
        Some(_) => Fate::Aside,
        // It may still run, and a collection waits for it by this name.
        None => Fate::Left("a backup may be running under it"),
    })
}
