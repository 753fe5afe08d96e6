//! `diff`, as far as files of trees go: a line for each that differs.

use std::sync::Arc;

use dbvault_files::Patterns;
use dbvault_format::entry::EntryKind;
use dbvault_format::file_table::{FileKind, FileRecord};
use dbvault_jobs::Error as Job;
use dbvault_jobs::diff::{Change, EntryDiff};
use dbvault_jobs::diff_trees::{FileDiff, TreeDiff, diff_trees};
use dbvault_repo::Reader;
use serde_json::{Value, json};

use super::tree::shown;
use crate::context::Context;
use crate::error::Result;
use crate::output;

/// Text that is written at once, bytes.
const WRITE_BYTES: usize = 64 << 10;

/// How many files of each tree differ.
pub(super) type OfTrees = Vec<(String, TreeDiff)>;

/// Compares the trees among `entries`, and prints each file of `paths` that differs: as text, or as the beginning of a
/// JSON document up to the comma behind its first field, `files`. A tree of which no file differs is unchanged.
pub(super) fn show(
    context: &Context,
    reader: &Arc<Reader>,
    entries: &mut [EntryDiff],
    paths: &[String],
) -> Result<OfTrees> {
    let mut patterns = Patterns::new();
    if !paths.is_empty() {
        patterns.only(paths.iter().map(String::as_str)).map_err(Job::Files)?;
    }
    let mut lines = Lines { context, text: String::new(), count: 0 };
    if context.global.json {
        lines.text.push_str("{\n  \"files\": [");
    }
    let mut trees = OfTrees::new();
    for entry in entries.iter_mut().filter(|entry| entry.kind == EntryKind::Tree) {
        let mut failed = Ok(());
        let mut each = |file: &FileDiff<'_>| {
            failed = lines.add(file);
            failed.is_ok()
        };
        let takes = |path: &[u8]| paths.is_empty() || patterns.takes(path);
        let counts = diff_trees(reader, entry.old.first(), entry.new.first(), &takes, &mut each)?;
        failed?;
        if counts.differing() == 0 && !entry.old.is_empty() && !entry.new.is_empty() {
            entry.change = Change::Unchanged;
        }
        lines.sum(&counts);
        trees.push((entry.name.clone(), counts));
    }
    if context.global.json {
        lines.text.push_str(if lines.count > 0 { "\n  ]," } else { "]," });
    }
    lines.write()?;
    Ok(trees)
}

/// Lines on their way to standard output.
struct Lines<'a> {
    context: &'a Context,
    text: String,
    count: u64,
}

impl Lines<'_> {
    fn add(&mut self, file: &FileDiff<'_>) -> Result<()> {
        if self.context.global.json {
            let comma = if self.count > 0 { "," } else { "" };
            self.text.push_str(&format!("{comma}\n    {}", document_of(file)));
        } else if !self.context.global.quiet {
            if self.count == 0 {
                self.text.push_str(&row("CHANGE", "BEFORE", "AFTER", "FILE", ""));
            }
            let bytes = |record: Option<&FileRecord>| bytes(record).map_or("-".to_owned(), output::size);
            let what = file.aspects.names().collect::<Vec<_>>().join(", ");
            let what = if what.is_empty() { what } else { format!(" ({what})") };
            let (old, new) = (bytes(file.old), bytes(file.new));
            self.text.push_str(&row(file.change.name(), &old, &new, &shown(file.path()), &what));
        }
        self.count += 1;
        if self.text.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    /// How many there were, in a line.
    fn sum(&mut self, counts: &TreeDiff) {
        if self.context.global.json || self.context.global.quiet {
            return;
        }
        let TreeDiff { added, removed, changed, content_changed, unchanged } = counts;
        let unchanged = unchanged.map(|count| format!(", {count} unchanged")).unwrap_or_default();
        self.text.push_str(&format!(
            "Files: {added} added, {removed} removed, {changed} changed ({content_changed} of them in content){unchanged}\n\n"
        ));
    }

    fn write(&mut self) -> Result<()> {
        output::text(&std::mem::take(&mut self.text))
    }
}

fn row(change: &str, old: &str, new: &str, file: &str, what: &str) -> String {
    format!("{change:<8} {old:>10} {new:>10}  {file}{what}\n")
}

/// Length of what has one.
fn bytes(record: Option<&FileRecord>) -> Option<u64> {
    record.filter(|record| record.kind == FileKind::Regular).map(|record| record.size_bytes)
}

fn document_of(file: &FileDiff<'_>) -> Value {
    json!({
        "path": String::from_utf8_lossy(file.path()),
        "change": file.change.name(),
        "aspects": file.aspects.names().collect::<Vec<_>>(),
        "kind": file.new.or(file.old).map(|record| record.kind.name()),
        "old_bytes": bytes(file.old),
        "new_bytes": bytes(file.new),
    })
}

/// How many files of a tree differ.
pub(super) fn document(counts: &TreeDiff) -> Value {
    json!({
        "added": counts.added,
        "removed": counts.removed,
        "changed": counts.changed,
        "content_changed": counts.content_changed,
        "unchanged": counts.unchanged,
    })
}
