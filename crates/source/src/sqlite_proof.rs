//! Questions to a SQLite database that was just restored: is it sound, and how many rows has it?

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::sqlite::database_error;
use crate::{Error, Result};

/// Runs `PRAGMA integrity_check` and counts the rows of all tables.
///
/// Errors: [`Error::Incomplete`] with what the check found; tables of modules that are not there are not counted.
pub fn sqlite_row_counts(path: &Path) -> Result<BTreeMap<String, u64>> {
    let name = path.display().to_string();
    let failed = |error| database_error(format!("read {}", path.display()), error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(Error::Incomplete { name, detail: verdict });
    }
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
               AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let tables = statement.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
    let mut rows = BTreeMap::new();
    for table in tables {
        let table = table.map_err(failed)?;
        let question = format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\""));
        let count: i64 = connection.query_row(&question, [], |row| row.get(0)).map_err(failed)?;
        rows.insert(table, u64::try_from(count).unwrap_or_default());
    }
    Ok(rows)
}

/// The first field of the first row that a question gives, as text; "NULL" where it is NULL.
pub fn sqlite_ask(path: &Path, question: &str) -> Result<Option<String>> {
    let failed = |error| database_error(format!("ask {}", path.display()), error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let text = |row: &rusqlite::Row<'_>| {
        Ok(match row.get_ref(0)? {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(value) => value.to_string(),
            ValueRef::Real(value) => value.to_string(),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        })
    };
    connection.query_row(question, [], text).optional().map_err(failed)
}
