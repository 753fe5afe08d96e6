//! The same rows in a SQLite file, which then lives days of its own.

use std::path::Path;

use rusqlite::{Connection, params_from_iter};

use super::rows::{self, Column};
use crate::postgres_server::PostgresServer;

/// A day as [`next_day`](super::DumpSeries::next_day) has it. Which rows are hit is drawn from their ids, for
/// SQLite's random numbers have no seed.
const NEXT_DAY: &str = include_str!("sqlite_next_day.sql");

pub(super) fn write(server: &PostgresServer, path: &Path) -> Result<(), String> {
    let failed = |error: rusqlite::Error| format!("{}: {error}", path.display());
    let mut file = Connection::open(path).map_err(failed)?;
    file.execute_batch("PRAGMA journal_mode = off; PRAGMA synchronous = off").map_err(failed)?;
    for table in rows::tables(server)? {
        let columns = rows::columns(server, &table)?;
        file.execute_batch(&definition(&table, &columns)).map_err(failed)?;
        let marks = vec!["?"; columns.len()].join(", ");
        let transaction = file.transaction().map_err(failed)?;
        let mut insert =
            transaction.prepare(&format!("INSERT INTO {table} VALUES ({marks})")).map_err(failed)?;
        rows::for_each(server, &table, |values| {
            insert.execute(params_from_iter(values)).map(drop).map_err(failed)
        })?;
        drop(insert);
        transaction.commit().map_err(failed)?;
    }
    file.execute_batch("CREATE INDEX orders_of_user ON orders (user_id)").map_err(failed)
}

pub(super) fn next_day(path: &Path, day: u32) -> Result<(), String> {
    let failed = |error: rusqlite::Error| format!("{}: {error}", path.display());
    let file = Connection::open(path).map_err(failed)?;
    file.execute_batch(&NEXT_DAY.replace(":day", &day.to_string())).map_err(failed)
}

fn definition(table: &str, columns: &[Column]) -> String {
    let column = |column: &Column| {
        let type_name = match column.type_name.as_str() {
            "bigint" | "integer" => "INTEGER",
            "numeric" => "REAL",
            _ => "TEXT",
        };
        let key = if column.name == "id" { " PRIMARY KEY" } else { "" };
        format!("{} {type_name}{key}", column.name)
    };
    let columns: Vec<String> = columns.iter().map(column).collect();
    format!("CREATE TABLE {table} ({})", columns.join(", "))
}
