//! `init`: makes a repository.

use std::path::{Path, PathBuf};

use dbvault_format::config::RepoParams;
use dbvault_jobs::config::{self, Config};
use dbvault_jobs::{Error as Job, place};
use dbvault_repo::Repository;
use jiff::Timestamp;
use serde_json::json;

use crate::args::Init;
use crate::configuration;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{documents, output};

/// Environment variable of the passphrase of the repository whose data keys the new one gets.
const LIKE_PASSPHRASE: &str = "DBVAULT_LIKE_PASSPHRASE";

pub(super) fn run(context: &Context, args: Init) -> Result<()> {
    let (path, key_file) = place_and_key(context, args.path)?;
    place::check_free(&path)?;
    let key_file = key_file.map(|key| absolute(&key)).transpose()?;
    if key_file.as_ref().is_some_and(|key| absolute(&path).is_ok_and(|path| key.starts_with(path))) {
        return Err(Error::Usage("a key file inside the repository protects nothing".into()));
    }
    let like = args
        .like
        .as_deref()
        .map(|other| context.unlock_other(other, args.like_key_file.clone(), LIKE_PASSPHRASE));
    let like = like.transpose()?.map(|other| other.repository);
    let label = args.label.map_or_else(|| context.default_label(), Ok)?;
    let secret = context.first_secret(&path.display().to_string(), key_file.as_deref())?;
    let created_ms = Timestamp::now().as_millisecond();
    let params = like.as_ref().map_or_else(RepoParams::default, |other| other.params().clone());
    let parity_percent = args.parity.or(params.parity_percent);
    let params = RepoParams { created_ms, parity_percent, ..params };
    let (storage, path) = place::create(&path)?;
    let repository = match &like {
        Some(other) => other.init_like(storage, params, &secret, &label)?,
        None => Repository::init(storage, context.client()?, params, &secret, &label)?,
    };
    if let Err(error) = repository.keep_reserve() {
        context.warning(&format!("no reserve for a full disk: {error}"));
    }
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

/// Where to make it, and the key file that will open it: what is given, or the only repository of the configuration.
fn place_and_key(context: &Context, path: Option<PathBuf>) -> Result<(PathBuf, Option<PathBuf>)> {
    let path = path.filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = path.or_else(|| context.repo_given().map(Path::to_owned)) {
        // Also the label of a repository of the configuration, which may be wrong for all that matters here.
        let known = context.configs().map(|configs| configuration::meant(Some(&path), configs));
        let known = configuration::only(known.unwrap_or_default());
        let (found, config) = known.unwrap_or_else(|_| (path.clone(), Config::default()));
        let path = if path.exists() { path } else { found };
        return Ok((path, context.key_file().or(config.key_file)));
    }
    match context.place_named() {
        Ok((path, config)) => Ok((path, context.key_file().or(config.key_file))),
        Err(Error::Job(Job::RepositoryUnnamed)) => {
            Err(Error::Usage("init needs a directory to make the repository in".into()))
        }
        Err(error) => Err(error),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::Write { path: path.display().to_string(), source })
}

/// A repository without its line in the configuration is still a good one.
fn record_default(context: &Context, path: &Path, key_file: Option<&Path>) -> bool {
    let file = configuration::own_file(&context.global);
    let recorded = file.and_then(|file| Ok(config::record_default(&file, path, key_file)?));
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
