//! An SQLite database file: its tables, and the rows of one of them, read from the pages that they are on.
//!
//! What a table's columns are and how its rows are stored is asked of SQLite itself, with an empty table of the same
//! definition in memory. Generated columns are left out, as `COPY` of PostgreSQL does it: a virtual one is not in the file.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use rusqlite::Connection;

use crate::contents::Format;
use crate::csv;
use crate::names::identifier;
use crate::produce::{PRODUCE_BYTES, Produce, Produced};
use crate::read_at::ReadAt;
use crate::sql_words::{Word, Words};
use crate::sqlite_tree::{Pages, Rows, TextEncoding, Value, values};
use crate::table::{Place, Table, TableKind};
use crate::{Error, Part, Result};

/// An open database file.
pub(crate) struct Sqlite {
    name: String,
    pages: Pages,
    /// Rows of `sqlite_schema`, in their order.
    things: Vec<Thing>,
}

/// A table, an index, a view or a trigger.
struct Thing {
    kind: String,
    name: String,
    /// The table that it belongs to.
    table: String,
    root: u32,
    sql: String,
}

/// A column of a table.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    /// The row's id is its value.
    is_row_id: bool,
    /// Whole numbers in it are stored as such and mean others.
    is_real: bool,
    /// Its value in rows that were there before it was.
    default: Value,
    /// Where in records it is.
    place: usize,
}

impl Sqlite {
    pub(crate) fn open(part: &Part) -> Result<(Sqlite, Vec<Table>)> {
        let bytes: Arc<dyn ReadAt> = part.bytes.clone();
        let failed = |error| failed(&part.name, error);
        let pages = Pages::open(bytes).map_err(failed)?;
        let mut rows = Rows::new(pages.clone(), 1).map_err(failed)?;
        let mut things = Vec::new();
        while let Some((_, record)) = rows.next().map_err(failed)? {
            things.extend(thing(&values(&record).map_err(failed)?, pages.text));
        }
        let sqlite = Sqlite { name: part.name.clone(), pages, things };
        let tables = sqlite.tables();
        Ok((sqlite, tables))
    }

    fn tables(&self) -> Vec<Table> {
        let table = |thing: &Thing| {
            let kind = match thing.kind.as_str() {
                // What SQLite keeps for itself.
                _ if thing.name.starts_with("sqlite_") => return None,
                "table" if thing.root == 0 => TableKind::VirtualTable,
                "table" => TableKind::Table,
                "view" => TableKind::View,
                _ => return None,
            };
            let (has_rows, place) =
                (kind == TableKind::Table, Place { root: thing.root, ..Place::default() });
            let name = thing.name.clone();
            Some(Table { schema: None, name, kind, rows: None, bytes: None, has_rows, place })
        };
        let mut tables: Vec<Table> = self.things.iter().filter_map(table).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        tables
    }

    pub(crate) fn schema_sql(&self) -> Vec<u8> {
        let shown = self.things.iter().filter(|thing| !thing.name.starts_with("sqlite_"));
        shown.fold(String::new(), |sql, thing| sql + &command(thing)).into_bytes()
    }

    fn definition(&self, table: &Table) -> Option<&Thing> {
        self.things
            .iter()
            .find(|thing| thing.name == table.name && matches!(thing.kind.as_str(), "table" | "view"))
    }

    pub(crate) fn columns(&self, table: &Table) -> Vec<String> {
        let columns = self.definition(table).filter(|_| table.has_rows).map(columns);
        let columns = columns.and_then(Result::ok).unwrap_or_default();
        columns.into_iter().map(|column| column.name).collect()
    }

    pub(crate) fn rows(&self, table: &Table, format: Format) -> Result<Box<dyn Read + Send>> {
        let no_rows = || Error::NoRows { table: table.sql_name(), kind: table.kind };
        let definition = self.definition(table).ok_or_else(no_rows)?;
        let (mut before, mut after) = (String::new(), String::new());
        if format == Format::Sql {
            before = format!("PRAGMA foreign_keys = OFF;\nBEGIN;\n{}", command(definition));
            for thing in
                self.things.iter().filter(|thing| thing.table == table.name && thing.name != table.name)
            {
                after += &command(thing);
            }
            after += "COMMIT;\n";
        } else if !table.has_rows {
            return Err(no_rows());
        }
        if !table.has_rows {
            return Ok(Box::new(Cursor::new(before + &after)));
        }
        let columns = columns(definition).map_err(|error| Error::damaged(&self.name, error.to_string()))?;
        let rows =
            Rows::new(self.pages.clone(), table.place.root).map_err(|error| failed(&self.name, error))?;
        if let Format::Csv { header: true } = format {
            let mut line = Vec::new();
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    line.push(b',');
                }
                csv::field(column.name.as_bytes(), columns.len() == 1, &mut line);
            }
            line.push(b'\n');
            before = String::from_utf8(line).unwrap_or_default();
        }
        let names: Vec<String> = columns.iter().map(|column| identifier(&column.name)).collect();
        let insert = format!("INSERT INTO {} ({}) VALUES (", identifier(&table.name), names.join(", "));
        let (text, name) = (self.pages.text, self.name.clone());
        let rows = Produced::new(TableRows { name, rows, columns, format, insert, text });
        Ok(Box::new(Cursor::new(before).chain(rows).chain(Cursor::new(after))))
    }
}

fn failed(name: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData if error.get_ref().is_none_or(|inner| !inner.is::<Error>()) => {
            Error::damaged(name, error.to_string())
        }
        _ => Error::read(name)(error),
    }
}

/// What makes it again.
fn command(thing: &Thing) -> String {
    if thing.sql.is_empty() { String::new() } else { format!("{};\n", thing.sql) }
}

fn thing(values: &[Value], encoding: TextEncoding) -> Option<Thing> {
    let text = |value: &Value| match value {
        Value::Text(bytes) => String::from_utf8_lossy(&encoding.decode(bytes)).into_owned(),
        _ => String::new(),
    };
    let [kind, name, table, root, sql] = values else { return None };
    let root = match root {
        Value::Integer(root) => u32::try_from(*root).unwrap_or(0),
        _ => 0,
    };
    Some(Thing { kind: text(kind), name: text(name), table: text(table), root, sql: text(sql) })
}

/// Columns that rows have, in their order. Asks SQLite, with an empty table of the same definition.
fn columns(thing: &Thing) -> Result<Vec<Column>, rusqlite::Error> {
    let mut words = Words::new(thing.sql.as_bytes());
    let plain = words.accept("CREATE") && words.accept("TABLE");
    words.table_name();
    if !plain || words.next() != Some(Word::Sign(b'(')) {
        return Err(rusqlite::Error::InvalidQuery);
    }
    let memory = Connection::open_in_memory()?;
    memory.execute(&thing.sql, [])?;
    let without_id: bool = memory.query_row(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
        [&thing.name],
        |row| row.get(0),
    )?;
    // Of a table without row ids, the index that it is, in the order in which its columns are stored.
    let mut statement = memory.prepare(
        "SELECT x.cid FROM pragma_index_list(?1) AS l, pragma_index_xinfo(l.name) AS x WHERE l.origin = 'pk' \
         ORDER BY x.seqno",
    )?;
    let stored: Vec<i64> = statement.query_map([&thing.name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut statement =
        memory.prepare("SELECT cid, name, type, dflt_value, pk, hidden FROM pragma_table_xinfo(?1)")?;
    let all = statement.query_map([&thing.name], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    })?;
    let all: Vec<(i64, String, String, Option<String>, i64, i64)> = all.collect::<Result<_, _>>()?;
    let keys = all.iter().filter(|column| column.4 > 0).count();
    let (mut columns, mut place) = (Vec::new(), 0);
    for (cid, name, declared, default, key, hidden) in all {
        if hidden == 2 {
            continue;
        }
        let in_record =
            if without_id { stored.iter().position(|stored| *stored == cid) } else { Some(place) };
        place += 1;
        // It is kept where it is a table of its own that has the key.
        let is_row_id = key > 0
            && keys == 1
            && !without_id
            && stored.is_empty()
            && declared.eq_ignore_ascii_case("INTEGER");
        if hidden == 0
            && let Some(place) = in_record
        {
            let default = default_value(&declared, default.as_deref())?;
            columns.push(Column { name, is_row_id, is_real: is_real(&declared), default, place });
        }
    }
    Ok(columns)
}

/// "Determination Of Column Affinity" in SQLite's documentation.
fn is_real(declared: &str) -> bool {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    !has(&["INT", "CHAR", "CLOB", "TEXT", "BLOB"]) && has(&["REAL", "FLOA", "DOUB"])
}

/// What a column of this type has in rows that were there before it was.
fn default_value(declared: &str, default: Option<&str>) -> Result<Value, rusqlite::Error> {
    use rusqlite::types::Value as Found;
    let Some(default) = default else { return Ok(Value::Null) };
    let scratch = Connection::open_in_memory()?;
    scratch.execute(&format!("CREATE TABLE d (c {declared} DEFAULT ({default}))"), [])?;
    scratch.execute("INSERT INTO d DEFAULT VALUES", [])?;
    Ok(match scratch.query_row("SELECT c FROM d", [], |row| row.get(0))? {
        Found::Null => Value::Null,
        Found::Integer(value) => Value::Integer(value),
        Found::Real(value) => Value::Real(value),
        Found::Text(text) => Value::Text(text.into_bytes()),
        Found::Blob(bytes) => Value::Blob(bytes),
    })
}

/// Makes rows in one of the forms.
struct TableRows {
    name: String,
    rows: Rows,
    columns: Vec<Column>,
    format: Format,
    insert: String,
    text: TextEncoding,
}

impl Produce for TableRows {
    fn produce(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let name = &self.name;
        let failed = |error| failed(name, error).into_io();
        while out.len() < PRODUCE_BYTES {
            let Some((id, record)) = self.rows.next().map_err(failed)? else { return Ok(false) };
            let mut record = values(&record).map_err(failed)?;
            if self.format == Format::Sql {
                out.extend_from_slice(self.insert.as_bytes());
            }
            for (index, column) in self.columns.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(match self.format {
                        Format::Copy => b"\t",
                        Format::Csv { .. } => b",",
                        Format::Sql => b", ",
                    });
                }
                // Defaults are UTF-8, values are in the encoding of the file.
                let (value, encoding) = match record.get_mut(column.place) {
                    Some(value) => (std::mem::replace(value, Value::Null), self.text),
                    None => (column.default.clone(), TextEncoding::Utf8),
                };
                let value = match value {
                    Value::Null if column.is_row_id => Value::Integer(id),
                    Value::Integer(value) if column.is_real => Value::Real(value as f64),
                    Value::Text(bytes) => Value::Text(encoding.decode(&bytes)),
                    value => value,
                };
                add(&value, self.format, self.columns.len() == 1, out);
            }
            out.extend_from_slice(if self.format == Format::Sql { b");\n" } else { b"\n" });
        }
        Ok(true)
    }
}

/// Adds a value; texts are UTF-8.
fn add(value: &Value, format: Format, alone: bool, out: &mut Vec<u8>) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = match (value, format) {
        (Value::Null, Format::Copy) => return out.extend_from_slice(b"\\N"),
        (Value::Null, Format::Csv { .. }) => return,
        (Value::Null, Format::Sql) => "NULL".to_owned(),
        (Value::Integer(value), _) => value.to_string(),
        (Value::Real(value), Format::Sql) if value.is_infinite() => {
            if *value > 0.0 { "9e999" } else { "-9e999" }.to_owned()
        }
        (Value::Real(value), _) if value.is_infinite() => {
            if *value > 0.0 { "Inf" } else { "-Inf" }.to_owned()
        }
        (Value::Real(value), _) => format!("{value:?}"),
        (Value::Blob(bytes), Format::Sql) => format!("X'{}'", hex(bytes)),
        (Value::Text(bytes), Format::Sql) if bytes.contains(&0) || std::str::from_utf8(bytes).is_err() => {
            format!("CAST(X'{}' AS TEXT)", hex(bytes))
        }
        (Value::Text(bytes), Format::Sql) => {
            out.push(b'\'');
            for &byte in bytes {
                out.extend_from_slice(if byte == b'\'' { b"''" } else { std::slice::from_ref(&byte) });
            }
            return out.push(b'\'');
        }
        (Value::Blob(bytes), Format::Copy) => format!("\\\\x{}", hex(bytes)),
        (Value::Blob(bytes), Format::Csv { .. }) => format!("\\x{}", hex(bytes)),
        (Value::Text(bytes), Format::Copy) => return csv::escape(bytes, out),
        (Value::Text(bytes), Format::Csv { .. }) => return csv::field(bytes, alone, out),
    };
    out.extend_from_slice(text.as_bytes());
}
