//! The database as mysqldump would write it: tables with their rows in long INSERT statements.

use std::fs::File;
use std::io::{BufWriter, Write};

use super::rows::{self, Column};
use crate::postgres_server::PostgresServer;

/// A statement ends with the first row that reaches this; mysqldump's own default is about as much.
const STATEMENT_BYTES: usize = 1_000_000;

pub(super) fn write(server: &PostgresServer, file: &File) -> Result<(), String> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let failed = |error: std::io::Error| error.to_string();
    out.write_all(b"-- MySQL dump\n\n/*!40101 SET NAMES utf8mb4 */;\n").map_err(failed)?;
    for table in rows::tables(server)? {
        let columns = rows::columns(server, &table)?;
        out.write_all(definition(&table, &columns).as_bytes()).map_err(failed)?;
        let mut statement = String::new();
        rows::for_each(server, &table, |values| {
            statement.push_str(if statement.is_empty() { "(" } else { ",(" });
            for (index, (value, column)) in values.iter().zip(&columns).enumerate() {
                push_value(&mut statement, value.as_deref(), column, index > 0);
            }
            statement.push(')');
            if statement.len() < STATEMENT_BYTES {
                return Ok(());
            }
            writeln!(out, "INSERT INTO `{table}` VALUES {};", std::mem::take(&mut statement)).map_err(failed)
        })?;
        if !statement.is_empty() {
            writeln!(out, "INSERT INTO `{table}` VALUES {statement};").map_err(failed)?;
        }
        out.write_all(b"UNLOCK TABLES;\n\n").map_err(failed)?;
    }
    out.write_all(b"-- Dump completed\n").and_then(|()| out.flush()).map_err(failed)
}

fn definition(table: &str, columns: &[Column]) -> String {
    let column = |column: &Column| {
        let type_name = match column.type_name.as_str() {
            "bigint" => "bigint",
            "integer" => "int",
            "numeric" => "decimal(12,2)",
            "jsonb" => "json",
            "timestamp with time zone" => "datetime(6)",
            _ => "text",
        };
        format!("  `{}` {type_name},\n", column.name)
    };
    let columns: String = columns.iter().map(column).collect();
    format!(
        "DROP TABLE IF EXISTS `{table}`;\nCREATE TABLE `{table}` (\n{columns}  PRIMARY KEY (`id`)\n) ENGINE=InnoDB;\n\n\
         LOCK TABLES `{table}` WRITE;\n"
    )
}

fn push_value(statement: &mut String, value: Option<&str>, column: &Column, comma: bool) {
    if comma {
        statement.push(',');
    }
    match value {
        None => statement.push_str("NULL"),
        Some(number) if column.is_number() => statement.push_str(number),
        Some(text) => {
            statement.push('\'');
            for character in text.chars() {
                match character {
                    '\n' => statement.push_str("\\n"),
                    '\r' => statement.push_str("\\r"),
                    '\\' | '\'' | '"' => statement.extend(['\\', character]),
                    other => statement.push(other),
                }
            }
            statement.push('\'');
        }
    }
}
