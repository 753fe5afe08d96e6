//! Archives of a repository: listing and finding them.

use std::collections::HashMap;

use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::manifest::ArchiveManifest;
use dbvault_format::trash::{TrashAction, TrashMark};
use dbvault_storage::ErrorKind;

use crate::notes::Remarks;
use crate::side_by_side::side_by_side;
use crate::{Error, Repository, Result, layout};

/// Fewest hexadecimal digits that are taken for the beginning of an archive id.
const ID_DIGITS_MIN: usize = 4;

/// The name that means the newest archive.
pub const LATEST: &str = "latest";

/// An archive and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveInfo {
    /// Its manifest.
    pub manifest: ArchiveManifest,
    /// When it was deleted, milliseconds since 1970 UTC, or `None` where it is not.
    pub deleted_ms: Option<i64>,
    /// What users say of it.
    pub remarks: Remarks,
}

/// All archives.
#[derive(Debug, Default)]
pub struct ArchiveList {
    /// Those that can be read, oldest first.
    pub archives: Vec<ArchiveInfo>,
    /// Those that can't, and why.
    pub damaged: Vec<(SessionId, Error)>,
}

impl Repository {
    /// Reads all manifests. A damaged one does not hide the others. What a collection has taken from the trash can't
    /// come back, nor be restored: it is not among them.
    pub fn archives(&self) -> Result<ArchiveList> {
        self.archives_after(&ArchiveList::default())
    }

    /// The same for somebody who asks again and again: a manifest that is in `known` is not read once more.
    pub fn archives_after(&self, known: &ArchiveList) -> Result<ArchiveList> {
        let marks = self.last_marks()?;
        let mut remarks = self.all_remarks()?;
        let mut list = self.archives_marked(&marks, known)?;
        for archive in &mut list.archives {
            archive.remarks = remarks.remove(&archive.manifest.id).unwrap_or_default();
            archive.remarks.apply_to(&mut archive.manifest);
        }
        Ok(list)
    }

    fn archives_marked(
        &self,
        marks: &HashMap<SessionId, TrashMark>,
        known: &ArchiveList,
    ) -> Result<ArchiveList> {
        let known: HashMap<SessionId, &ArchiveManifest> =
            known.archives.iter().map(|archive| (archive.manifest.id, &archive.manifest)).collect();
        let mut list = ArchiveList::default();
        let mut ids: Vec<SessionId> =
            self.list_keys(&layout::archives())?.iter().filter_map(layout::parse_archive).collect();
        ids.retain(|id| marks.get(id).is_none_or(|mark| mark.action != TrashAction::Collect));
        let manifests = side_by_side(&ids, |id| match known.get(id) {
            Some(manifest) => Ok(Some((*manifest).clone())),
            None => self.read_manifest(id),
        });
        for (id, manifest) in ids.into_iter().zip(manifests) {
            let deleted = marks.get(&id).filter(|mark| mark.action == TrashAction::Delete);
            let deleted_ms = deleted.map(|mark| mark.marked_ms);
            match manifest {
                Ok(Some(manifest)) => {
                    list.archives.push(ArchiveInfo { manifest, deleted_ms, remarks: Remarks::default() });
                }
                Ok(None) => {}
                Err(e @ (Error::Damaged { .. } | Error::Newer { .. })) => list.damaged.push((id, e)),
                // Collected since it was listed.
                Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        list.archives.sort_by_key(|archive| (archive.manifest.started_ms, archive.manifest.id));
        Ok(list)
    }

    /// The manifest of an archive, or `None` where its slot is fenced.
    pub(crate) fn read_manifest(&self, id: &SessionId) -> Result<Option<ArchiveManifest>> {
        let key = layout::archive(id);
        let (kind, body) = self.get_sealed(&key, &[ObjectKind::Archive, ObjectKind::Fence])?;
        if kind == ObjectKind::Fence {
            return Ok(None);
        }
        ArchiveManifest::decode(id, &body).map(Some).map_err(|e| Error::reading(key.as_str(), e))
    }

    /// Finds an archive: `latest` for the newest complete one that is not deleted, or where none is complete the
    /// newest; or a name, or an id or the beginning of one. A name goes before an id; archives that are not deleted go before deleted ones.
    ///
    /// Errors: [`Error::NoSuchArchive`], [`Error::AmbiguousArchive`].
    pub fn find_archive(&self, wanted: &str) -> Result<ArchiveInfo> {
        let mut list = self.archives()?;
        let missing = || Error::NoSuchArchive { wanted: wanted.into() };
        if wanted == LATEST {
            // An unreadable archive may be newer than all others: to pass over it in silence would give old
            // data for new.
            if let Some((_, damage)) = list.damaged.pop() {
                return Err(damage);
            }
            list.archives.retain(|archive| archive.deleted_ms.is_none());
            let complete = list.archives.iter().rposition(|archive| archive.manifest.is_complete());
            let newest = complete.or(list.archives.len().checked_sub(1));
            return newest.map(|place| list.archives.swap_remove(place)).ok_or_else(missing);
        }
        let digits = wanted.len() >= ID_DIGITS_MIN && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        let by_name = |archive: &ArchiveInfo| archive.manifest.name == wanted;
        let by_id = |archive: &ArchiveInfo| digits && archive.manifest.id.to_string().starts_with(wanted);
        for test in [&by_name as &dyn Fn(&ArchiveInfo) -> bool, &by_id] {
            for deleted in [false, true] {
                let found = list.archives.iter().filter(|a| a.deleted_ms.is_some() == deleted && test(a));
                match found.collect::<Vec<_>>().as_slice() {
                    [] => {}
                    [one] => return Ok((*one).clone()),
                    many => return Err(Error::AmbiguousArchive { wanted: wanted.into(), count: many.len() }),
                }
            }
        }
        let damaged = list.damaged.into_iter().find(|(id, _)| digits && id.to_string().starts_with(wanted));
        Err(damaged.map_or_else(missing, |(_, damage)| damage))
    }
}
