//! Archives of a repository: listing and finding them.

use std::collections::HashMap;

use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::manifest::ArchiveManifest;
use dbvault_storage::ErrorKind;

use crate::{Error, Repository, Result, layout};

/// Fewest hexadecimal digits that are taken for the beginning of an archive id.
const ID_DIGITS_MIN: usize = 4;

/// The name that means the newest archive.
const LATEST: &str = "latest";

/// An archive and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveInfo {
    /// Its manifest.
    pub manifest: ArchiveManifest,
    /// When it was deleted, milliseconds since 1970 UTC, or `None` where it is not.
    pub deleted_ms: Option<i64>,
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
    /// Reads all manifests. A damaged one does not hide the others.
    pub fn archives(&self) -> Result<ArchiveList> {
        let deleted: HashMap<SessionId, i64> = self.deleted_archives()?;
        let mut list = ArchiveList::default();
        for key in self.list_keys(&layout::archives())? {
            let Some(id) = layout::parse_archive(&key) else { continue };
            match self.read_manifest(&id) {
                Ok(Some(manifest)) => {
                    list.archives.push(ArchiveInfo { manifest, deleted_ms: deleted.get(&id).copied() });
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

    /// Finds an archive: `latest` for the newest that is not deleted, or a name, or an id or the beginning of
    /// one. A name goes before an id; archives that are not deleted go before deleted ones.
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
            return list
                .archives
                .into_iter()
                .rfind(|archive| archive.deleted_ms.is_none())
                .ok_or_else(missing);
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
