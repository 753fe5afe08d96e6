//! The table of an archive's entries, as several commands show it.

use dbvault_format::entry::{EntryKind, attribute};
use dbvault_format::manifest::EntryRecord;

use crate::output::{self, Column};

/// Entries with what they hold, cost and took.
pub(super) fn with_sizes(entries: &[EntryRecord]) -> String {
    use Column::{Left, Right};
    let columns =
        [Left("ENTRY"), Left("KIND"), Right("ORIGINAL"), Right("NEW"), Right("STORED"), Right("DURATION")];
    let rows = entries.iter().map(|entry| {
        vec![
            entry.meta.name.clone(),
            entry.meta.kind.name().to_owned(),
            output::size(entry.sizes.original_bytes),
            output::size(entry.sizes.new_bytes),
            output::size(entry.sizes.stored_bytes),
            output::duration(entry.duration_ms),
        ]
    });
    output::table(&columns, rows)
}

/// Entries with where they came from.
pub(super) fn with_sources(entries: &[EntryRecord]) -> String {
    use Column::Left;
    let columns = [Left("ENTRY"), Left("SOURCE"), Left("VERSION"), Left("TOOL")];
    let known = |entry: &EntryRecord, key| entry.attribute(key).unwrap_or("-").to_owned();
    let rows = entries.iter().map(|entry| {
        vec![
            entry.meta.name.clone(),
            source(entry),
            known(entry, attribute::SERVER_VERSION),
            known(entry, attribute::CLIENT_VERSION),
        ]
    });
    output::table(&columns, rows)
}

/// Where an entry came from, in words.
fn source(entry: &EntryRecord) -> String {
    let known = |key| entry.attribute(key).filter(|value| !value.is_empty());
    match entry.meta.kind {
        EntryKind::Stdin => "standard input".to_owned(),
        EntryKind::Command => format!("command {}", known(attribute::COMMAND).unwrap_or("-")),
        EntryKind::Sqlite | EntryKind::File => known(attribute::PATH).unwrap_or("-").to_owned(),
        _ => {
            let mut text = known(attribute::DATABASE).unwrap_or("-").to_owned();
            for (word, key) in [("on", attribute::HOST), ("port", attribute::PORT), ("as", attribute::USER)] {
                if let Some(value) = known(key) {
                    text += &format!(" {word} {value}");
                }
            }
            text
        }
    }
}

/// What tools said without failing, a line each.
pub(super) fn warnings(entries: &[EntryRecord]) -> Vec<String> {
    let of_entry = |entry: &EntryRecord| {
        let name = entry.meta.name.clone();
        entry.report.warnings.clone().into_iter().map(move |warning| format!("{name}: {warning}"))
    };
    entries.iter().flat_map(of_entry).collect()
}
