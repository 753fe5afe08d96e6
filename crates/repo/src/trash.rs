//! Soft delete: an archive that is marked deleted is as it was until a collection takes it.

use std::collections::{BTreeMap, HashMap};

use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::object::{from_cbor, to_cbor};
use dbvault_format::trash::{TrashAction, TrashMark};
use dbvault_storage::ErrorKind;

use crate::repository::now_ms;
use crate::{Error, Repository, Result, layout};

impl Repository {
    /// Marks an archive deleted. Nothing is freed; [`Repository::undelete_archive`] takes it back.
    ///
    /// Errors: [`Error::NoSuchArchive`]; [`Error::ArchiveState`] where it is deleted already.
    pub fn delete_archive(&self, id: &SessionId) -> Result<()> {
        self.mark(id, TrashAction::Delete)
    }

    /// Takes a delete back. Errors: [`Error::NoSuchArchive`]; [`Error::ArchiveState`] where it is not deleted.
    pub fn undelete_archive(&self, id: &SessionId) -> Result<()> {
        self.mark(id, TrashAction::Undelete)
    }

    fn mark(&self, id: &SessionId, action: TrashAction) -> Result<()> {
        if self.storage.size(&layout::archive(id))?.is_none() {
            return Err(Error::NoSuchArchive { wanted: id.to_string() });
        }
        loop {
            self.client.check_interrupt()?;
            let last = self.last_numbers()?.get(id).copied();
            let mark = last.map(|number| self.read_mark(id, number)).transpose()?.flatten();
            let state = match (mark.map(|mark| mark.action), action) {
                (Some(TrashAction::Collect), _) => Some("being collected"),
                (Some(TrashAction::Delete), TrashAction::Delete) => Some("deleted"),
                (None | Some(TrashAction::Undelete), TrashAction::Undelete) => Some("not deleted"),
                _ => None,
            };
            if let Some(state) = state {
                return Err(Error::ArchiveState { id: *id, state });
            }
            let mark =
                TrashMark { archive: *id, action, marked_ms: now_ms(), host: self.client.host.clone() };
            let key = layout::trash_mark(id, last.map_or(0, |number| number + 1));
            match self.put_sealed(&key, ObjectKind::Trash, &to_cbor(&mark)) {
                // Another client marked it at the same moment: look again.
                Err(Error::Storage(e)) if e.kind() == ErrorKind::AlreadyExists => {}
                done => return done.and_then(|()| Ok(self.storage.flush()?)),
            }
        }
    }

    /// Archives that are deleted, and when they were, milliseconds since 1970 UTC.
    pub(crate) fn deleted_archives(&self) -> Result<HashMap<SessionId, i64>> {
        let mut deleted = HashMap::new();
        for (id, number) in self.last_numbers()? {
            if let Some(mark) =
                self.read_mark(&id, number)?.filter(|mark| mark.action != TrashAction::Undelete)
            {
                deleted.insert(id, mark.marked_ms);
            }
        }
        Ok(deleted)
    }

    /// The highest number of a mark of each archive that has one, readable or not.
    fn last_numbers(&self) -> Result<BTreeMap<SessionId, u32>> {
        let mut last = BTreeMap::<SessionId, u32>::new();
        for key in self.list_keys(&layout::trash())? {
            if let Some((id, number)) = layout::parse_trash_mark(&key) {
                let known = last.entry(id).or_default();
                *known = number.max(*known);
            }
        }
        Ok(last)
    }

    /// Reads a mark. An unreadable one counts as none: the archive shows, and `check` names the mark.
    fn read_mark(&self, id: &SessionId, number: u32) -> Result<Option<TrashMark>> {
        let key = layout::trash_mark(id, number);
        let mark = self.get_sealed(&key, &[ObjectKind::Trash]).and_then(|(_, body)| {
            from_cbor("trash mark", &body).map_err(|e| Error::reading(key.as_str(), e))
        });
        match mark {
            Err(Error::Damaged { .. }) => Ok(None),
            mark => mark.map(Some),
        }
    }
}
