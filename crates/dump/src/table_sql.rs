//! Scripts of SQL: one table with its rows, or all definitions.

use std::io::{Cursor, Read};

use crate::entry::Entry;
use crate::postgres::Postgres;
use crate::table::Table;
use crate::{Result, related};

/// What `pg_restore` sets as well.
const SETTINGS: &str = "SET check_function_bodies = false;\nSET xmloption = content;\n\
    SET client_min_messages = warning;\nSET row_security = off;\n";
/// Things of a table that need nothing but the table and what it needs.
const OWN_KINDS: [&str; 9] = [
    "TABLE",
    "FOREIGN TABLE",
    "VIEW",
    "MATERIALIZED VIEW",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
];

/// Encoding, search path and so on.
pub(crate) fn settings(entries: &[Entry]) -> Vec<u8> {
    let mut sql = Vec::new();
    for kind in ["ENCODING", "STDSTRINGS", "SEARCHPATH"] {
        if let Some(entry) = entries.iter().find(|entry| entry.kind == kind) {
            sql.extend_from_slice(&entry.sql);
        }
    }
    sql.extend_from_slice(SETTINGS.as_bytes());
    sql
}

/// Adds what makes the entry, after a comment that says what it is.
pub(crate) fn add(entry: &Entry, sql: &mut Vec<u8>) {
    // A line break in a name would end the comment.
    let line = |text: &str| text.replace(['\r', '\n'], " ");
    let schema = entry.schema.as_deref().map_or("-".to_owned(), line);
    let heading = format!(
        "\n--\n-- Name: {}; Type: {}; Schema: {schema}; Owner: {}\n--\n\n",
        line(&entry.tag),
        line(&entry.kind),
        line(&entry.owner)
    );
    sql.extend_from_slice(heading.as_bytes());
    match entry.sql.strip_prefix(b"CREATE SCHEMA ") {
        Some(rest) => {
            sql.extend_from_slice(b"CREATE SCHEMA IF NOT EXISTS ");
            sql.extend_from_slice(rest.trim_ascii_end());
        }
        None => sql.extend_from_slice(entry.sql.trim_ascii_end()),
    }
    sql.push(b'\n');
}

/// One table: what it needs, its definition, its rows, then its indexes and its constraints but those that need other
/// tables.
pub(crate) fn script(postgres: &Postgres, table: &Table) -> Result<Box<dyn Read + Send>> {
    let entries = &postgres.entries;
    let own = related::entries_of(entries, table, postgres.encoding);
    let own = own.into_iter().filter(|index| {
        OWN_KINDS.contains(&entries[*index].kind.as_str()) || entries[*index].kind == "INDEX"
    });
    let needs = related::needs_of(entries, table, postgres.encoding);
    let mut chosen: Vec<usize> = own.chain(needs).collect();
    chosen.sort_unstable();
    chosen.dedup();
    let (mut before, mut after) = (settings(entries), Vec::new());
    for index in chosen {
        let late = matches!(entries[index].kind.as_str(), "CONSTRAINT" | "CHECK CONSTRAINT" | "INDEX");
        add(&entries[index], if late { &mut after } else { &mut before });
    }
    if !table.has_rows {
        before.append(&mut after);
        return Ok(Box::new(Cursor::new(before)));
    }
    let (data, rows) = postgres.raw_rows(table)?;
    before.push(b'\n');
    let mut end = Vec::new();
    if !data.copy_sql.is_empty() {
        before.extend_from_slice(data.copy_sql.trim_ascii_end());
        before.push(b'\n');
        end.extend_from_slice(b"\\.\n");
    }
    let sequences = related::entries_of(entries, table, postgres.encoding);
    for entry in sequences.iter().map(|index| &entries[*index]).filter(|entry| entry.kind == "SEQUENCE SET") {
        add(entry, &mut end);
    }
    end.append(&mut after);
    Ok(Box::new(Cursor::new(before).chain(rows).chain(Cursor::new(end))))
}
