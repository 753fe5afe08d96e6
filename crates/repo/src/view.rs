//! The view: which index segments count, and which packs may not be reused.
//!
//! The order of reading is the protocol (`docs/protocol.md`, W1): condemned lists first, then the latest root,
//! then archive slots and index segments. A pack that is condemned after we looked belongs to an epoch whose
//! collector waits for us, because we registered before.

use std::collections::{HashMap, HashSet};

use dbvault_format::header::ObjectKind;
use dbvault_format::id::{PackName, SessionId};
use dbvault_format::object::from_cbor;
use dbvault_format::root::{Condemned, Root};
use dbvault_storage::{ErrorKind, Key};

use crate::side_by_side::side_by_side;
use crate::{Error, Repository, Result, layout};

/// How a session ended, as its archive slot tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its slot holds a manifest.
    Committed,
    /// Its slot holds a tombstone.
    Fenced,
}

/// What a client needs to know before it uses the index.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Number of the latest root; 0 before the first collection.
    pub(crate) root_number: u32,
    /// Segments that make up the base index of that root.
    base: HashSet<Key>,
    /// Sessions that wrote these.
    based: HashSet<SessionId>,
    /// Sessions whose own segments the base replaces.
    folded: HashSet<SessionId>,
    /// Sessions that have ended; all others run or died.
    outcomes: HashMap<SessionId, Outcome>,
    /// Packs that the latest root deletes: its base may list them all the same.
    deleted: HashSet<PackName>,
    /// Those, and packs condemned by an epoch whose root this view has not seen.
    condemned: HashSet<PackName>,
    /// Packs of all condemned lists that still exist.
    condemned_ever: HashSet<PackName>,
    /// All index segments.
    segments: Vec<Key>,
}

impl View {
    /// Reads the view.
    pub(crate) fn load(repo: &Repository) -> Result<View> {
        let mut view = View::default();
        let condemned = repo.list_keys(&layout::condemned())?;
        view.read_root(repo)?;
        for key in condemned {
            view.read_condemned(repo, &key)?;
        }
        let mut slots = repo.list_keys(&layout::archives())?;
        slots.retain(|key| layout::parse_archive(key).is_some());
        let outcomes = side_by_side(&slots, |key| read_outcome(repo, key));
        for (key, outcome) in slots.iter().zip(outcomes) {
            view.outcomes.extend(layout::parse_archive(key).zip(outcome?));
        }
        view.segments = repo.list_keys(&layout::index())?;
        Ok(view)
    }

    fn read_root(&mut self, repo: &Repository) -> Result<()> {
        let keys = repo.list_keys(&layout::roots())?;
        let Some(number) = keys.iter().filter_map(layout::parse_number).max() else { return Ok(()) };
        let key = layout::root(number);
        let (_, body) = repo.get_sealed(&key, &[ObjectKind::Root])?;
        let root: Root = from_cbor("root", &body).map_err(|e| Error::reading(key.as_str(), e))?;
        self.root_number = number;
        // A name that no segment can have names none.
        self.base = root.base.into_iter().filter_map(|name| Key::new(name).ok()).collect();
        self.based = self.base.iter().filter_map(layout::parse_index_segment).collect();
        self.folded = root.folded.into_iter().collect();
        self.condemned.extend(&root.deleted);
        self.deleted = root.deleted.into_iter().collect();
        Ok(())
    }

    fn read_condemned(&mut self, repo: &Repository, key: &Key) -> Result<()> {
        let Some(number) = layout::parse_number(key) else { return Ok(()) };
        let body = match repo.get_sealed(key, &[ObjectKind::Condemned]) {
            // Its epoch was decided and cleared away since we listed it.
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => return Ok(()),
            read => read?.1,
        };
        let list: Condemned =
            from_cbor("condemned list", &body).map_err(|e| Error::reading(key.as_str(), e))?;
        if number > self.root_number {
            self.condemned.extend(&list.packs);
        }
        self.condemned_ever.extend(list.packs);
        Ok(())
    }

    /// Segments to have in the index: those of the base, of committed sessions that are not folded, and of
    /// sessions that have not ended, whose packs can be adopted.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (&Key, SessionId)> {
        self.segments.iter().filter_map(|key| {
            let session = layout::parse_index_segment(key)?;
            let own =
                !self.folded.contains(&session) && self.outcomes.get(&session) != Some(&Outcome::Fenced);
            (own || self.base.contains(key)).then_some((key, session))
        })
    }

    /// Segments of the base.
    pub(crate) fn base_segments(&self) -> impl Iterator<Item = &Key> {
        self.segments.iter().filter(|key| self.base.contains(key))
    }

    /// Segments of sessions that have committed and that no root has folded yet.
    pub(crate) fn committed_segments(&self) -> impl Iterator<Item = (&Key, SessionId)> {
        self.segments.iter().filter_map(|key| {
            let session = layout::parse_index_segment(key)?;
            let committed = self.outcomes.get(&session) == Some(&Outcome::Committed);
            (committed && !self.folded.contains(&session) && !self.base.contains(key))
                .then_some((key, session))
        })
    }

    /// Sessions that are folded, and of which segments are still there.
    pub(crate) fn folded_with_segments(&self) -> impl Iterator<Item = SessionId> {
        let sessions = self.segments.iter().filter_map(layout::parse_index_segment);
        sessions.filter(|session| self.folded.contains(session))
    }

    /// Segments of sessions whose slots are empty: they run, or ended without an archive, or are no sessions but
    /// attempts at a base.
    pub(crate) fn segments_without_slot(&self) -> impl Iterator<Item = (&Key, SessionId)> {
        self.segments.iter().filter_map(|key| {
            let session = layout::parse_index_segment(key)?;
            (!self.outcomes.contains_key(&session)).then_some((key, session))
        })
    }

    /// Segments of one session.
    pub(crate) fn segments_of(&self, session: SessionId) -> impl Iterator<Item = &Key> {
        self.segments.iter().filter(move |key| layout::parse_index_segment(key) == Some(session))
    }

    /// All index segments that are there.
    pub(crate) fn all_segments(&self) -> &[Key] {
        &self.segments
    }

    /// How a session ended, if it has.
    pub(crate) fn outcome(&self, session: &SessionId) -> Option<Outcome> {
        self.outcomes.get(session).copied()
    }

    /// Sessions that have filled their slot, sorted.
    pub(crate) fn ended_sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.outcomes.keys().copied().collect();
        sessions.sort_unstable();
        sessions
    }

    /// Whether the latest root deletes a pack.
    pub(crate) fn is_deleted(&self, pack: &PackName) -> bool {
        self.deleted.contains(pack)
    }

    /// Whether a pack that `sessions` list is in the base, or will be in the next one.
    pub(crate) fn lists(&self, sessions: &[SessionId]) -> bool {
        sessions.iter().any(|session| {
            self.based.contains(session) || self.outcomes.get(session) == Some(&Outcome::Committed)
        })
    }

    /// Whether a pack that `sessions` list may be reused, and how.
    pub(crate) fn standing(&self, pack: &PackName, sessions: &[SessionId]) -> Standing {
        if self.condemned.contains(pack) {
            Standing::Absent
        } else if self.lists(sessions) {
            Standing::Listed
        } else if self.condemned_ever.contains(pack) {
            Standing::Absent
        } else {
            Standing::Adoptable
        }
    }
}

/// What a writer may do with a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Reuse it: a segment that counts lists it.
    Listed,
    /// Reuse it and list it again: only sessions that never committed do.
    Adoptable,
    /// Nothing: for a writer it is not there.
    Absent,
}

/// Reads which of the two kinds an archive slot is. Only a tombstone is opened: one damaged byte must not make
/// an archive look like one, and its chunks like waste.
fn read_outcome(repo: &Repository, key: &Key) -> Result<Option<Outcome>> {
    use dbvault_format::header::{HEADER_BYTES, Header};
    let head = repo.storage.get(key, Some(0..HEADER_BYTES as u64));
    let kinds = [ObjectKind::Archive, ObjectKind::Fence];
    // A slot whose head can't be read is taken for an archive: its chunks must stay.
    match head.map(|head| Header::decode(&head, &kinds).map(|(header, _)| header.kind)) {
        Ok(Ok(ObjectKind::Fence)) => match repo.get_sealed(key, &[ObjectKind::Fence]) {
            Ok(_) => Ok(Some(Outcome::Fenced)),
            Err(Error::Damaged { .. }) => Ok(Some(Outcome::Committed)),
            Err(e) => Err(e),
        },
        Ok(Err(e @ dbvault_format::Error::Newer { .. })) => Err(Error::reading(key.as_str(), e)),
        Ok(_) => Ok(Some(Outcome::Committed)),
        // Collected since it was listed.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == ErrorKind::ShortRead => Ok(Some(Outcome::Committed)),
        Err(e) => Err(e.into()),
    }
}
