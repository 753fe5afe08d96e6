//! Notes: tags of archives, which of them are protected, and which entries were proven to restore.

use std::collections::{BTreeMap, BTreeSet};

use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::manifest::ArchiveManifest;
use dbvault_format::note::{Note, Proof, TAG_BYTES_MAX};
use dbvault_format::object::{from_cbor, to_cbor};
use dbvault_storage::ErrorKind;

use crate::backup::check_name;
use crate::repository::now_ms;
use crate::{Error, Repository, Result, layout};

/// What is said of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Whether it may be neither deleted nor pruned. An archive whose note can't be read is protected.
    pub protected: bool,
    /// What the last drill of each entry found, by the name of the entry. Empty where the note can't be read.
    pub proofs: BTreeMap<String, Proof>,
    /// Its name from now on. Change it with [`Repository::rename`], which looks whether it is free.
    pub name: Option<String>,
    /// What the user says of it from now on; empty: nothing any more.
    pub comment: Option<String>,
}

impl Remarks {
    /// The manifest as it is shown: with the name and the comment that were given later.
    pub(crate) fn apply_to(&self, manifest: &mut ArchiveManifest) {
        if let Some(name) = &self.name {
            manifest.name.clone_from(name);
        }
        if let Some(comment) = &self.comment {
            manifest.comment = Some(comment.clone()).filter(|comment| !comment.is_empty());
        }
    }
}

/// Longest text that is kept of what a drill found, bytes.
pub const PROOF_DETAIL_BYTES_MAX: usize = 1_000;

impl Repository {
    /// Changes what is said of an archive. Whoever changes it at the same moment is not overwritten.
    ///
    /// Errors: [`Error::NoSuchArchive`]; [`Error::ArchiveState`] for a protected one that is deleted, perhaps at the
    /// same moment; [`Error::BadName`] for a tag of no or too many bytes, or with control
    /// characters; a note that can't be read.
    pub fn remark(&self, id: &SessionId, change: impl Fn(&mut Remarks)) -> Result<Remarks> {
        if self.storage.size(&layout::archive(id))?.is_none() {
            return Err(Error::NoSuchArchive { wanted: id.to_string() });
        }
        let after = loop {
            self.client.check_interrupt()?;
            let last = self.last_notes()?.get(id).copied();
            let before = last.map(|number| self.read_note(id, number)).transpose()?.unwrap_or_default();
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(after);
            }
            after.tags.iter().try_for_each(|tag| check_tag(tag))?;
            after.name.iter().try_for_each(|name| check_name(name))?;
            let note = Note {
                archive: *id,
                tags: after.tags.iter().cloned().collect(),
                protected: after.protected,
                written_ms: now_ms(),
                host: self.client.host.clone(),
                proofs: after.proofs.values().cloned().collect(),
                name: after.name.clone(),
                comment: after.comment.clone(),
            };
            let key = layout::note(id, last.map_or(0, |number| number + 1));
            // Where another client wrote one at the same moment, what to write is looked at again.
            if self.put_sealed_if_free(&key, ObjectKind::Note, &to_cbor(&note))? {
                self.storage.flush()?;
                break after;
            }
        };
        // Whoever deletes it looks at the notes after that: one of the two sees the other.
        if after.protected && self.is_deleted(id)? {
            return Err(Error::ArchiveState { id: *id, state: "deleted" });
        }
        Ok(after)
    }

    /// Gives an archive another name.
    ///
    /// Errors: [`Error::NameTaken`] where another archive that is not deleted has it; two clients that give two
    /// archives one name at the same moment may both succeed: it is then asked for by id. Else as those of
    /// [`Repository::remark`].
    pub fn rename(&self, id: &SessionId, name: &str) -> Result<Remarks> {
        check_name(name)?;
        let others = self.archives()?.archives;
        if others.iter().any(|other| other.manifest.id != *id && other.manifest.name == name) {
            return Err(Error::NameTaken { name: name.into() });
        }
        self.remark(id, |remarks| remarks.name = Some(name.into()))
    }

    /// Records what a drill found of one entry of an archive, in place of what an earlier one found of the same
    /// entry. More than [`PROOF_DETAIL_BYTES_MAX`] of its detail is cut off. The entry is not looked for.
    ///
    /// Errors: as those of [`Repository::remark`]; then nothing is recorded.
    pub fn record_proof(&self, id: &SessionId, mut proof: Proof) -> Result<Remarks> {
        proof.detail.truncate(proof.detail.floor_char_boundary(PROOF_DETAIL_BYTES_MAX));
        self.remark(id, |remarks| {
            remarks.proofs.insert(proof.entry.clone(), proof.clone());
        })
    }

    /// What is said of one archive.
    pub(crate) fn remarks_of(&self, id: &SessionId) -> Result<Remarks> {
        let last = self.last_notes()?.get(id).copied();
        last.map_or(Ok(Remarks::default()), |number| self.remarks_or_protected(id, number))
    }

    /// What is said of all archives of which anything is.
    pub(crate) fn all_remarks(&self) -> Result<BTreeMap<SessionId, Remarks>> {
        let last = self.last_notes()?.into_iter();
        last.map(|(id, number)| Ok((id, self.remarks_or_protected(&id, number)?))).collect()
    }

    /// The number of the last note of each archive that has one, readable or not.
    pub(crate) fn last_notes(&self) -> Result<BTreeMap<SessionId, u32>> {
        self.last_numbers_below(&layout::notes(), layout::parse_note)
    }

    fn remarks_or_protected(&self, id: &SessionId, number: u32) -> Result<Remarks> {
        match self.read_note(id, number) {
            Err(e @ Error::Damaged { .. }) => {
                tracing::warn!("{e}: archive {id} counts as protected");
                Ok(Remarks { protected: true, ..Remarks::default() })
            }
            // Collected since it was listed.
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => Ok(Remarks::default()),
            remarks => remarks,
        }
    }

    fn read_note(&self, id: &SessionId, number: u32) -> Result<Remarks> {
        let key = layout::note(id, number);
        let (_, body) = self.get_sealed(&key, &[ObjectKind::Note])?;
        let note: Note = from_cbor("note", &body).map_err(|e| Error::reading(key.as_str(), e))?;
        Ok(Remarks {
            tags: note.tags.into_iter().collect(),
            protected: note.protected,
            proofs: note.proofs.into_iter().map(|proof| (proof.entry.clone(), proof)).collect(),
            name: note.name,
            comment: note.comment,
        })
    }
}

fn check_tag(tag: &str) -> Result<()> {
    let ok = (1..=TAG_BYTES_MAX).contains(&tag.len()) && !tag.chars().any(char::is_control);
    if ok { Ok(()) } else { Err(Error::BadName { name: tag.into() }) }
}
