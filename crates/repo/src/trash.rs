//! Soft delete: an archive that is marked deleted is as it was until a collection takes it.

use std::collections::{BTreeMap, HashMap};

use crate::repository::now_ms;
use crate::side_by_side::try_side_by_side;
use crate::{Error, Repository, Result, layout};
use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::object::{from_cbor, to_cbor};
use dbvault_format::trash::{TrashAction, TrashMark};
use dbvault_storage::ErrorKind;

/// What a mark that was listed turned out to be.
enum Mark {
    There(TrashMark),
    Unreadable,
    /// It was cleared away meanwhile.
    Gone,
}

/// What is to become of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Delete,
    Undelete,
    /// Out of the trash, for good.
    Collect,
}

impl Step {
    fn action(self) -> TrashAction {
        match self {
            Step::Delete => TrashAction::Delete,
            Step::Undelete => TrashAction::Undelete,
            Step::Collect => TrashAction::Collect,
        }
    }

    /// Why it can't be done to an archive whose last mark says `before`.
    fn refusal(self, before: Option<TrashAction>) -> Option<&'static str> {
        let deleted = before == Some(TrashAction::Delete);
        match self {
            _ if before == Some(TrashAction::Collect) => Some("being collected"),
            Step::Delete if deleted => Some("deleted"),
            Step::Undelete | Step::Collect if !deleted => Some("not deleted"),
            _ => None,
        }
    }
}

impl Repository {
    /// Marks an archive deleted. Nothing is freed; [`Repository::undelete_archive`] takes it back.
    ///
    /// Errors: [`Error::NoSuchArchive`]; [`Error::ArchiveState`] where it is deleted already, or protected.
    pub fn delete_archive(&self, id: &SessionId) -> Result<()> {
        if self.remarks_of(id)?.protected {
            return Err(Error::ArchiveState { id: *id, state: "protected" });
        }
        self.mark(id, Step::Delete)
    }

    /// Takes a delete back. Errors: [`Error::NoSuchArchive`]; [`Error::ArchiveState`] where it is not deleted.
    pub fn undelete_archive(&self, id: &SessionId) -> Result<()> {
        self.mark(id, Step::Undelete)?;
        // The marks of an archive are cleared away after it: where a collection has done that since the last one was
        // read, its number was free again, and says nothing.
        match self.storage.size(&layout::archive(id))? {
            None => Err(Error::NoSuchArchive { wanted: id.to_string() }),
            Some(_) => Ok(()),
        }
    }

    /// Marks many archives deleted, but for those that are deleted already, or protected, or gone.
    pub fn delete_archives(&self, ids: &[SessionId]) -> Result<()> {
        let remarks = self.all_remarks()?;
        let protected = |id: &SessionId| remarks.get(id).is_some_and(|remarks| remarks.protected);
        let ids: Vec<SessionId> = ids.iter().copied().filter(|id| !protected(id)).collect();
        self.mark_all(&ids, Step::Delete)
    }

    fn mark(&self, id: &SessionId, step: Step) -> Result<()> {
        loop {
            self.client.check_interrupt()?;
            let last = self.last_numbers()?.get(id).copied();
            if self.mark_once(id, step, last)? {
                return Ok(self.storage.flush()?);
            }
        }
    }

    /// Marks many, with one look at what is there and one barrier. Those that it can't be done to are passed over:
    /// somebody else was quicker.
    fn mark_all(&self, ids: &[SessionId], step: Step) -> Result<()> {
        let last = self.last_numbers()?;
        try_side_by_side(ids, |id| {
            self.client.check_interrupt()?;
            let done = match self.mark_once(id, step, last.get(id).copied()) {
                Ok(false) => self.mark(id, step),
                done => done.map(drop),
            };
            match done {
                Err(Error::ArchiveState { .. } | Error::NoSuchArchive { .. }) => Ok(()),
                done => done,
            }
        })?;
        Ok(self.storage.flush()?)
    }

    /// Puts the mark after number `last`. Gives `false` where another client was quicker: then look again.
    fn mark_once(&self, id: &SessionId, step: Step, last: Option<u32>) -> Result<bool> {
        if self.storage.size(&layout::archive(id))?.is_none() {
            return Err(Error::NoSuchArchive { wanted: id.to_string() });
        }
        let before = match last.map(|number| self.read_mark(id, number)).transpose()? {
            // Cleared away since it was listed, and the archive before it.
            Some(Mark::Gone) => return Ok(false),
            Some(Mark::There(mark)) => Some(mark.action),
            Some(Mark::Unreadable) | None => None,
        };
        if let Some(state) = step.refusal(before) {
            return Err(Error::ArchiveState { id: *id, state });
        }
        let (action, host) = (step.action(), self.client.host.clone());
        let mark = TrashMark { archive: *id, action, marked_ms: now_ms(), host };
        let key = layout::trash_mark(id, last.map_or(0, |number| number + 1));
        self.put_sealed_if_free(&key, ObjectKind::Trash, &to_cbor(&mark))
    }

    /// Marks as collected all archives that were deleted before `before_ms`, milliseconds since 1970 UTC: they
    /// can't come back from then on (G0, rule C9).
    ///
    /// Errors: a mark that can't be read, for nobody knows what it says.
    pub(crate) fn take_from_trash(&self, before_ms: i64) -> Result<()> {
        let marks = self.read_last(|id, number| self.read_mark_strictly(id, number))?;
        // After the marks: who protects an archive looks at its marks after that, and one of the two sees the other.
        let remarks = self.all_remarks()?;
        let protected = |id: &SessionId| remarks.get(id).is_some_and(|remarks| remarks.protected);
        let is_due = |mark: &TrashMark| mark.action == TrashAction::Delete && mark.marked_ms < before_ms;
        let due =
            marks.into_iter().filter(|(id, _, mark)| mark.as_ref().is_some_and(is_due) && !protected(id));
        let due: Vec<SessionId> = due.map(|(id, ..)| id).collect();
        if due.is_empty() { Ok(()) } else { self.mark_all(&due, Step::Collect) }
    }

    /// Archives that a collection has taken, and the number of their last mark. Errors: a mark that can't be read.
    pub(crate) fn collected_archives(&self) -> Result<BTreeMap<SessionId, u32>> {
        let mut marks = self.read_last(|id, number| self.read_mark_strictly(id, number))?;
        marks.retain(|(_, _, mark)| mark.as_ref().is_some_and(|mark| mark.action == TrashAction::Collect));
        Ok(marks.into_iter().map(|(id, number, _)| (id, number)).collect())
    }

    /// What the last mark of each archive says, where it can be read.
    pub(crate) fn last_marks(&self) -> Result<HashMap<SessionId, TrashMark>> {
        let marks = self.read_last(|id, number| self.read_mark(id, number))?;
        let there = |(id, _, mark)| match mark {
            Mark::There(mark) => Some((id, mark)),
            Mark::Unreadable | Mark::Gone => None,
        };
        Ok(marks.into_iter().filter_map(there).collect())
    }

    /// What `read` gives for the last mark of each archive that has one, with its number.
    fn read_last<M: Send>(
        &self,
        read: impl Fn(&SessionId, u32) -> Result<M> + Sync,
    ) -> Result<Vec<(SessionId, u32, M)>> {
        let numbers: Vec<(SessionId, u32)> = self.last_numbers()?.into_iter().collect();
        try_side_by_side(&numbers, |(id, number)| Ok((*id, *number, read(id, *number)?)))
    }

    /// Whether an archive is deleted, or more than that.
    pub(crate) fn is_deleted(&self, id: &SessionId) -> Result<bool> {
        let Some(number) = self.last_numbers()?.get(id).copied() else { return Ok(false) };
        Ok(match self.read_mark(id, number)? {
            Mark::There(mark) => mark.action != TrashAction::Undelete,
            Mark::Gone => true,
            Mark::Unreadable => false,
        })
    }

    /// The highest number of a mark of each archive that has one, readable or not.
    fn last_numbers(&self) -> Result<BTreeMap<SessionId, u32>> {
        self.last_numbers_below(&layout::trash(), layout::parse_trash_mark)
    }

    /// Reads a mark; `None` where it was cleared away since it was listed, with its archive, which goes first.
    fn read_mark_strictly(&self, id: &SessionId, number: u32) -> Result<Option<TrashMark>> {
        let key = layout::trash_mark(id, number);
        let body = match self.get_sealed(&key, &[ObjectKind::Trash]) {
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => return Ok(None),
            read => read?.1,
        };
        from_cbor("trash mark", &body).map(Some).map_err(|e| Error::reading(key.as_str(), e))
    }

    /// Reads a mark. An unreadable one counts as none: the archive shows, and `check` names the mark.
    fn read_mark(&self, id: &SessionId, number: u32) -> Result<Mark> {
        match self.read_mark_strictly(id, number) {
            Err(Error::Damaged { .. }) => Ok(Mark::Unreadable),
            mark => Ok(mark?.map_or(Mark::Gone, Mark::There)),
        }
    }
}
