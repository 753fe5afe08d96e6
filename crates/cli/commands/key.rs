//! `key`: the passphrases and key files of the repository.

use std::path::Path;

use dbvault_format::id::SlotId;
use dbvault_jobs::{key_file, place};
use dbvault_repo::{Repository, SlotInfo};
use serde_json::{Value, json};

use crate::args::NewKey;
use crate::context::{Accept, Context};
use crate::error::{Error, Result};
use crate::output::{self, Column};
use crate::{documents, sanitize};

/// Fewest digits that name a key slot.
const ID_DIGITS_MIN: usize = 4;

pub(super) fn list(context: &Context) -> Result<()> {
    let slots = context.open()?.key_slots()?;
    if context.global.json {
        return output::json(&json!({ "keys": slots.iter().map(documents::slot).collect::<Value>() }));
    }
    let columns = ["ID", "KIND", "LABEL", "MADE", "IN USE"].map(Column::Left);
    let rows = slots.iter().map(|slot| {
        vec![
            slot.id.to_string(),
            slot.kind.name().to_owned(),
            slot.label.clone(),
            output::local_time(slot.created_ms),
            if slot.current { "now" } else { "" }.to_owned(),
        ]
    });
    output::text(&output::table(&columns, rows))
}

pub(super) fn add(context: &Context, args: NewKey) -> Result<()> {
    let repository = context.open()?;
    let label = args.label.map_or_else(|| context.default_label(), Ok)?;
    let secret = context.new_secret(&repository.location(), args.new_key_file.as_deref())?;
    let id = repository.add_key(&secret, &label)?;
    tell(context, "Added key", &id)
}

pub(super) fn remove(context: &Context, wanted: &str, yes: bool) -> Result<()> {
    let repository = context.open()?;
    let slot = find(&repository, wanted)?;
    let SlotInfo { id, kind, label, .. } = &slot;
    let question = format!("Remove {} {id} ({label}) for good?", kind.name());
    if !yes && !context.confirm(&question, &format!("remove key {id}"))? {
        return Err(Error::NotRemoved { id: id.to_string() });
    }
    repository.remove_key(id)?;
    tell(context, "Removed key", id)
}

fn find(repository: &Repository, wanted: &str) -> Result<SlotInfo> {
    let slots = repository.key_slots()?.into_iter();
    let mut found: Vec<SlotInfo> = slots.filter(|slot| slot.id.to_string().starts_with(wanted)).collect();
    if wanted.len() < ID_DIGITS_MIN || found.len() != 1 {
        let count = found.len();
        return Err(Error::NoSuchSlot { wanted: sanitize::line(wanted).into_owned(), count });
    }
    Ok(found.remove(0))
}

pub(super) fn change_passphrase(context: &Context) -> Result<()> {
    let repository = context.unlock(Accept::Passphrase)?.repository;
    let secret = context.new_secret(&repository.location(), None)?;
    let id = repository.replace_key(&secret)?;
    tell(context, "Changed the passphrase: key", &id)
}

pub(super) fn export(context: &Context, output: &Path) -> Result<()> {
    let repository = context.open()?;
    let text = key_file::master_key_text(repository.id(), &repository.export_key());
    if output == Path::new("-") {
        output::bytes(text.as_bytes())?;
    } else {
        key_file::write_new(output, &text)?;
    }
    context.note(
        "This key opens the repository for ever, also after every passphrase was changed: \
         keep it off line and away from the repository",
    );
    Ok(())
}

pub(super) fn import(context: &Context, file: &Path, args: NewKey) -> Result<()> {
    let (path, _) = context.place_named()?;
    let place = place::find(&path)?;
    let master = key_file::read_master_key(file, &place.id)?;
    let label = args.label.map_or_else(|| context.default_label(), Ok)?;
    let secret = context.new_secret(&place.storage.location(), args.new_key_file.as_deref())?;
    let id = Repository::import_key(place.storage, context.client()?, &master, &secret, &label)?;
    tell(context, "Added key", &id)
}

fn tell(context: &Context, words: &str, id: &SlotId) -> Result<()> {
    if context.global.json {
        return output::json(&json!({ "id": id.to_string() }));
    }
    if context.global.quiet { Ok(()) } else { output::text(&format!("{words} {id}\n")) }
}
