//! Trash marks and notes: of those of an archive the last one counts, so a damaged one may not just go.

use std::collections::BTreeSet;

use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::note::Note;
use dbvault_format::object::to_cbor;
use dbvault_format::trash::{TrashAction, TrashMark};
use dbvault_storage::Key;

use super::survey::Survey;
use crate::layout::Numbered;
use crate::repository::now_ms;
use crate::{Repository, Result, layout};

/// Says once more, with the next number, what a damaged mark or note that is the last of its archive counts as: the
/// archive is not deleted, and it is protected. Without the damaged one the one before it would count, which may say
/// the opposite. Durable when it returns.
///
/// Somebody else may have been quicker: then that counts.
pub(super) fn outnumber(repo: &Repository, survey: &Survey) -> Result<()> {
    for (archive, number) in last_and_damaged(repo, survey, &layout::trash(), layout::parse_trash_mark)? {
        let (action, host) = (TrashAction::Undelete, repo.client.host.clone());
        let mark = TrashMark { archive, action, marked_ms: now_ms(), host };
        repo.put_sealed_if_free(
            &layout::trash_mark(&archive, number + 1),
            ObjectKind::Trash,
            &to_cbor(&mark),
        )?;
    }
    for (archive, number) in last_and_damaged(repo, survey, &layout::notes(), layout::parse_note)? {
        let (tags, host) = (Vec::new(), repo.client.host.clone());
        // A name or a comment that was given later is lost with it: those of the manifest count again.
        let (proofs, name, comment) = (Vec::new(), None, None);
        let note = Note { archive, tags, protected: true, written_ms: now_ms(), host, proofs, name, comment };
        repo.put_sealed_if_free(&layout::note(&archive, number + 1), ObjectKind::Note, &to_cbor(&note))?;
    }
    Ok(repo.storage.flush()?)
}

/// Archives that are there and whose last object below `folder` is damaged, with its number.
fn last_and_damaged(
    repo: &Repository,
    survey: &Survey,
    folder: &Key,
    parse: Numbered,
) -> Result<Vec<(SessionId, u32)>> {
    let damaged: BTreeSet<(SessionId, u32)> = survey.small.keys().filter_map(parse).collect();
    if damaged.is_empty() {
        return Ok(Vec::new());
    }
    let last = repo.last_numbers_below(folder, parse)?;
    let mut found = Vec::new();
    for (archive, number) in damaged {
        let there = repo.storage.size(&layout::archive(&archive))?.is_some();
        if there && last.get(&archive) == Some(&number) && number < u32::MAX {
            found.push((archive, number));
        }
    }
    Ok(found)
}
