//! One stored stream and what is known of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbvault_format::entry::EntryKind;
use dbvault_format::manifest::EntryRecord;

use crate::ReadAt;

/// One stream: all of a database, or one of the parts that it was dumped in.
#[derive(Clone)]
pub struct Part {
    /// Name of the entry, for messages.
    pub name: String,
    /// What the bytes are.
    pub kind: EntryKind,
    /// What was known before the dump, with what was known after it over that; see
    /// [`dbvault_format::entry::attribute`].
    pub attributes: BTreeMap<String, String>,
    /// The bytes.
    pub bytes: Arc<dyn ReadAt>,
}

impl Part {
    /// The stream of an entry of an archive.
    pub fn of(record: &EntryRecord, bytes: Arc<dyn ReadAt>) -> Part {
        let mut attributes = record.meta.attributes.clone();
        attributes.extend(record.report.attributes.clone());
        Part { name: record.meta.name.clone(), kind: record.meta.kind, attributes, bytes }
    }

    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }
}
