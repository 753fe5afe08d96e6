//! The base index of a root: what all sessions that have committed list, in few large segments.

use std::collections::HashSet;

use dbvault_format::header::ObjectKind;
use dbvault_format::id::{PackName, SessionId};
use dbvault_format::index_segment::{IndexSegment, PackListing};
use dbvault_format::root::Root;
use dbvault_storage::Key;

use crate::pack_list::StoredPacks;
use crate::view::View;
use crate::{Error, Repository, Result, entropy, layout};

/// Packs that one segment of a base lists.
const SEGMENT_PACKS: usize = 1024;

/// A base is written anew where it has more segments than this that are not full.
const SMALL_SEGMENTS_MAX: usize = 8;

/// A base whose segments are written and whose root is not put yet.
#[derive(Debug)]
pub(super) struct Base {
    /// The root of it.
    pub(super) root: Root,
    /// Packs that it lists.
    pub(super) listed: HashSet<PackName>,
    /// Segments that were written for it.
    written: Vec<Key>,
}

impl Base {
    /// Deletes what was written: another collector's root was quicker, and this one will never be.
    pub(super) fn discard(&self, repo: &Repository) -> Result<()> {
        Ok(self.written.iter().try_for_each(|key| repo.storage.delete(key))?)
    }
}

/// Writes the segments of a base that lists what the base of `view`, the sessions that committed since, and the
/// session `own` list, but for `deleted`, and makes the root of it.
///
/// Packs that are not `stored` any more are left out: an earlier epoch deleted them, and had they been needed,
/// marking would have stopped.
pub(super) fn write(
    repo: &Repository,
    view: &View,
    own: Option<SessionId>,
    stored: &StoredPacks,
    deleted: Vec<PackName>,
) -> Result<Base> {
    let decided: HashSet<PackName> = deleted.iter().copied().collect();
    let gone = |name: &PackName| decided.contains(name) || !stored.contains_key(name);
    let mut writer = Writer::new(repo)?;
    match fill(&mut writer, view, own, &gone) {
        Ok((base, folded)) => {
            let Writer { known: listed, written, .. } = writer;
            Ok(Base { root: sorted(base, folded, deleted), listed, written })
        }
        Err(e) => {
            // The first error is the one that tells; what stays is cleared by the next collection.
            let _ = writer.written.iter().try_for_each(|key| repo.storage.delete(key));
            Err(e)
        }
    }
}

/// Gives the names of the segments, and the sessions that are folded.
fn fill(
    writer: &mut Writer,
    view: &View,
    own: Option<SessionId>,
    gone: &dyn Fn(&PackName) -> bool,
) -> Result<(Vec<String>, HashSet<SessionId>)> {
    let repo = writer.repo;
    let (mut kept, mut small) = (Vec::new(), Vec::new());
    let mut fold_small = false;
    for key in view.base_segments() {
        let names = read(repo, key)?.packs.into_iter().map(|pack| pack.name).collect::<Vec<_>>();
        let whole = !names.iter().any(gone);
        fold_small |= !whole;
        match whole && names.len() == SEGMENT_PACKS {
            true => writer.keep(key, names, &mut kept),
            false => small.push((key, names)),
        }
    }
    fold_small |= small.len() > SMALL_SEGMENTS_MAX;
    for (key, names) in small {
        match fold_small {
            true => writer.add_all(read(repo, key)?, gone)?,
            false => writer.keep(key, names, &mut kept),
        }
    }
    for key in own.iter().flat_map(|own| view.segments_of(*own)) {
        writer.add_all(read(repo, key)?, gone)?;
    }
    let mut folded = HashSet::new();
    for (key, session) in view.committed_segments() {
        writer.add_all(read(repo, key)?, gone)?;
        folded.insert(session);
    }
    folded.extend(view.folded_with_segments());
    writer.finish()?;
    kept.extend(writer.written.iter().map(|key| key.as_str().to_owned()));
    Ok((kept, folded))
}

/// A base for a full disk: the same, by the segments that are there. It lists packs that are gone too, which the
/// root names as deleted.
pub(super) fn write_nothing(
    repo: &Repository,
    view: &View,
    stored: &StoredPacks,
    mut deleted: Vec<PackName>,
) -> Result<Base> {
    let mut listed = HashSet::new();
    let (mut base, mut folded) = (Vec::new(), HashSet::new());
    let committed = view.committed_segments().map(|(key, session)| (key, Some(session)));
    for (key, session) in view.base_segments().map(|key| (key, None)).chain(committed) {
        listed.extend(read(repo, key)?.packs.iter().map(|pack| pack.name));
        base.push(key.as_str().to_owned());
        folded.extend(session);
    }
    folded.extend(view.folded_with_segments());
    deleted.extend(listed.iter().filter(|name| !stored.contains_key(name)));
    repo.storage.flush()?;
    Ok(Base { root: sorted(base, folded, deleted), listed, written: Vec::new() })
}

fn sorted(mut base: Vec<String>, folded: HashSet<SessionId>, mut deleted: Vec<PackName>) -> Root {
    base.sort_unstable();
    deleted.sort_unstable();
    let mut folded: Vec<SessionId> = folded.into_iter().collect();
    folded.sort_unstable();
    Root { base, folded, deleted }
}

/// Reads a segment. One that can't be read stops the collection: what it lists would be taken for dead.
pub(super) fn read(repo: &Repository, key: &Key) -> Result<IndexSegment> {
    let (_, body) = repo.get_sealed(key, &[ObjectKind::IndexSegment])?;
    IndexSegment::decode(&body).map_err(|e| Error::reading(key.as_str(), e))
}

/// Segments of one attempt, under a session id of its own (rule C4).
pub(crate) struct Writer<'a> {
    repo: &'a Repository,
    attempt: SessionId,
    /// Packs that were added.
    pub(crate) known: HashSet<PackName>,
    packs: Vec<PackListing>,
    /// Segments that were written.
    pub(crate) written: Vec<Key>,
}

impl<'a> Writer<'a> {
    /// For a base of its own.
    pub(crate) fn new(repo: &'a Repository) -> Result<Writer<'a>> {
        let attempt = entropy::session_id()?;
        Ok(Writer { repo, attempt, known: HashSet::new(), packs: Vec::new(), written: Vec::new() })
    }

    /// Keeps a segment as it is, with the packs that it lists.
    fn keep(&mut self, key: &Key, packs: Vec<PackName>, kept: &mut Vec<String>) {
        self.known.extend(packs);
        kept.push(key.as_str().to_owned());
    }

    /// Adds the packs of a segment, each once, but for those that are gone.
    pub(crate) fn add_all(&mut self, segment: IndexSegment, gone: &dyn Fn(&PackName) -> bool) -> Result<()> {
        for pack in segment.packs {
            if gone(&pack.name) || !self.known.insert(pack.name) {
                continue;
            }
            self.packs.push(pack);
            if self.packs.len() == SEGMENT_PACKS {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let segment = IndexSegment { packs: std::mem::take(&mut self.packs) };
        let key = layout::index_segment(&self.attempt, self.written.len() as u32);
        self.repo.put_sealed(&key, ObjectKind::IndexSegment, &segment.encode())?;
        self.written.push(key);
        Ok(())
    }

    /// Writes what is left, durably.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if !self.packs.is_empty() {
            self.write()?;
        }
        Ok(self.repo.storage.flush()?)
    }
}
