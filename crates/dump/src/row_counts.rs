//! Rows of tables at the time of a dump, as an attribute of its entry tells them.

use std::collections::BTreeMap;

/// A JSON object from names of tables to counts.
pub fn to_json(rows: &BTreeMap<String, u64>) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}

/// Reads it; nothing where it is none.
pub fn from_json(text: &str) -> BTreeMap<String, u64> {
    serde_json::from_str(text).unwrap_or_default()
}
