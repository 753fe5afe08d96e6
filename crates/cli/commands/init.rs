//! `init`: makes a repository.

use std::path::{Path, PathBuf};

use dbvault_format::config::RepoParams;
use dbvault_jobs::config::{self, Config};
use dbvault_jobs::place;
use dbvault_repo::Repository;
use jiff::Timestamp;
use serde_json::json;

use crate::args::Init;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{documents, output};

pub(super) fn run(context: &Context, args: Init) -> Result<()> {
    let given = args.path.or_else(|| context.global.repo.clone()).filter(|path| !path.as_os_str().is_empty());
    let path =
        given.ok_or_else(|| Error::Usage("init needs a directory to make the repository in".into()))?;
    place::check_free(&path)?;
    let key_file = context.key_file().map(|key| absolute(&key)).transpose()?;
    if key_file.as_ref().is_some_and(|key| absolute(&path).is_ok_and(|path| key.starts_with(path))) {
        return Err(Error::Usage("a key file inside the repository protects nothing".into()));
    }
    let label = args.label.map_or_else(|| context.default_label(), Ok)?;
    let secret = context.first_secret(&path.display().to_string(), key_file.as_deref())?;
    let params = RepoParams { created_ms: Timestamp::now().as_millisecond(), ..RepoParams::default() };
    let (storage, path) = place::create(&path)?;
    let repository = Repository::init(storage, context.client()?, params, &secret, &label)?;
    let is_default = record_default(context, &path, key_file.as_deref());
    if context.global.json {
        return output::json(&json!({
            "repository": documents::repository(&repository),
            "key_file": key_file,
            "default": is_default,
        }));
    }
    context.note(&words(&path, key_file.as_deref(), is_default));
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::Write { path: path.display().to_string(), source })
}

/// A repository without its line in the configuration is still a good one.
fn record_default(context: &Context, path: &Path, key_file: Option<&Path>) -> bool {
    let recorded = config::path().and_then(|file| Config::record_default(&file, path, key_file));
    recorded.unwrap_or_else(|error| {
        context.warning(&format!("not recorded as the default repository: {error}"));
        false
    })
}

fn words(path: &Path, key_file: Option<&Path>, is_default: bool) -> String {
    let mut text = format!("Repository made in {}", path.display());
    if is_default {
        text += "; it is the default from now on";
    }
    match key_file {
        Some(key_file) => {
            text += &format!(
                ".\nKeep a copy of the key file {} in a safe place away from this machine:",
                key_file.display()
            );
        }
        None => text += ".\nKeep the passphrase in a safe place away from this machine:",
    }
    text + "\nwithout it nobody can read the backups, and nobody can help. \
            dbvault key export writes down a spare key."
}
