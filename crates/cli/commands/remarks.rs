//! `tag`, `rename`, `comment` and `protect`: what users say of an archive after it was made.

use dbvault_repo::{ArchiveInfo, Error as Repo, Remarks, Repository};
use serde_json::{Value, json};

use super::delete::find_all;
use super::list::archive_words;
use crate::args::{Comment, Protect, Rename, Tag};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{documents, output, sanitize};

pub(super) fn tag(context: &Context, args: Tag) -> Result<()> {
    if args.tags.is_empty() && args.remove.is_empty() {
        return Err(Error::Usage("tag needs a tag to add, or one to --remove".into()));
    }
    change(context, &[args.archive], |remarks| {
        remarks.tags.retain(|tag| !args.remove.contains(tag));
        remarks.tags.extend(args.tags.iter().cloned());
    })
}

pub(super) fn rename(context: &Context, args: &Rename) -> Result<()> {
    if args.name == dbvault_repo::LATEST {
        return Err(Repo::BadName { name: args.name.clone() }.into());
    }
    change_each(context, std::slice::from_ref(&args.archive), |repository, info| {
        repository.rename(&info.manifest.id, &args.name).map(drop)
    })
}

pub(super) fn comment(context: &Context, args: Comment) -> Result<()> {
    let comment = args.text.unwrap_or_default();
    change(context, &[args.archive], |remarks| remarks.comment = Some(comment.clone()))
}

pub(super) fn protect(context: &Context, args: Protect) -> Result<()> {
    change(context, &args.archives, |remarks| remarks.protected = !args.remove)
}

fn change(context: &Context, wanted: &[String], change: impl Fn(&mut Remarks)) -> Result<()> {
    change_each(context, wanted, |repository, info| repository.remark(&info.manifest.id, &change).map(drop))
}

fn change_each(
    context: &Context,
    wanted: &[String],
    change: impl Fn(&Repository, &ArchiveInfo) -> dbvault_repo::Result<()>,
) -> Result<()> {
    let repository = context.open()?;
    let archives = find_all(&repository, wanted)?;
    // Before the first is touched.
    for info in &archives {
        if info.deleted_ms.is_some() {
            return Err(Repo::ArchiveState { id: info.manifest.id, state: "deleted" }.into());
        }
    }
    archives.iter().try_for_each(|info| change(&repository, info))?;
    let ids: Vec<String> = archives.iter().map(|info| info.manifest.id.to_string()).collect();
    let changed = find_all(&repository, &ids)?;
    if context.global.json {
        return output::json(&json!({
            "archives": changed.iter().map(documents::archive_info).collect::<Value>(),
        }));
    }
    for info in changed.iter().filter(|_| !context.global.quiet) {
        output::text(&format!("{}: {}\n", archive_words(&info.manifest), words(info)))?;
    }
    Ok(())
}

/// What is said of an archive, in a line.
fn words(info: &ArchiveInfo) -> String {
    let state = if info.remarks.protected { "protected" } else { "not protected" };
    let tags = Some(tags(&info.remarks)).filter(|tags| !tags.is_empty());
    let comment = info.manifest.comment.as_ref().map(|comment| sanitize::line(comment));
    let all = tags.into_iter().chain(comment.map(|comment| comment.to_string())).chain([state.to_owned()]);
    all.collect::<Vec<_>>().join("; ")
}

/// The tags of an archive, in a line.
pub(super) fn tags(remarks: &Remarks) -> String {
    let tags: Vec<_> = remarks.tags.iter().map(|tag| sanitize::line(tag)).collect();
    tags.join(", ")
}
