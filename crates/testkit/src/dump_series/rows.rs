//! The rows of a table one by one, for the streams that PostgreSQL does not write itself.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::DATABASE;
use crate::postgres_server::PostgresServer;

/// A column and its type, in PostgreSQL's words.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) type_name: String,
}

impl Column {
    /// Whether values are numbers, which need no quotes.
    pub(super) fn is_number(&self) -> bool {
        ["bigint", "integer", "numeric"].contains(&self.type_name.as_str())
    }
}

/// The tables in alphabetical order.
pub(super) fn tables(server: &PostgresServer) -> Result<Vec<String>, String> {
    let sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    Ok(server.psql(DATABASE, sql)?.lines().map(str::to_owned).collect())
}

pub(super) fn columns(server: &PostgresServer, table: &str) -> Result<Vec<Column>, String> {
    let sql = format!(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"
    );
    let text = server.psql(DATABASE, &sql)?;
    let column = |line: &str| {
        let (name, type_name) = line.split_once('|')?;
        Some(Column { name: name.to_owned(), type_name: type_name.to_owned() })
    };
    Ok(text.lines().filter_map(column).collect())
}

/// Calls `each` with the values of every row, in the order of their ids; None stands for NULL.
pub(super) fn for_each(
    server: &PostgresServer,
    table: &str,
    mut each: impl FnMut(&[Option<String>]) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("psql: {error}");
    let mut command = server.command("psql");
    let copy = format!("COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT");
    command.args(["-X", "-q", "-d", DATABASE, "-c", &copy]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut psql = command.spawn().map_err(failed)?;
    let stdout = psql.stdout.take().ok_or("psql has no output")?;
    for line in BufReader::with_capacity(1 << 20, stdout).lines() {
        let values: Vec<Option<String>> = line.map_err(failed)?.split('\t').map(value).collect();
        each(&values)?;
    }
    let status = psql.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(format!("psql: {status}")) }
}

/// A field of COPY's text format.
fn value(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    let mut text = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    Some(text)
}
