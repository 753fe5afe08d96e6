//! A dump of PostgreSQL, of one part or several.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;

use dbvault_format::entry::attribute;
use parking_lot::Mutex;

use crate::contents::{Extent, Format};
use crate::csv::CsvRows;
use crate::custom::{self, CustomRows, Layout};
use crate::custom_toc::RawEntry;
use crate::encoding::Encoding;
use crate::entry::Entry;
use crate::positions::{self, DataBlock};
use crate::produce::Produced;
use crate::read_at::{RangeReader, ReadAt, read_exact_at};
use crate::sql_words::{Words, copy_command};
use crate::table::{Place, Table, TableKind};
use crate::{Error, Part, Result, plain, related, row_counts, table_sql};

/// Where the data of each entry of a part is.
type Blocks = Arc<HashMap<i64, DataBlock>>;

/// One stream.
struct Stream {
    name: String,
    bytes: Arc<dyn ReadAt>,
    /// `None` for a plain dump.
    layout: Option<Layout>,
    blocks: Mutex<Option<Blocks>>,
}

/// An open dump.
pub(crate) struct Postgres {
    streams: Vec<Stream>,
    /// Of all parts, in their order.
    pub(crate) entries: Vec<Entry>,
    pub(crate) encoding: Encoding,
}

/// What opening a part gives.
struct Opened {
    stream: Stream,
    entries: Vec<RawEntry>,
    rows: BTreeMap<String, u64>,
}

impl Postgres {
    /// Opens all parts and lists their tables.
    pub(crate) fn open(parts: Vec<Part>) -> Result<(Postgres, Vec<Table>)> {
        let (mut streams, mut entries, mut rows) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut encoding = Encoding::default();
        for (index, part) in parts.iter().enumerate() {
            let opened = open_part(part)?;
            let setting = opened.entries.iter().find(|entry| entry.kind.as_deref() == Some(b"ENCODING"));
            let set =
                setting.and_then(|entry| Encoding::of_command(entry.sql.as_deref().unwrap_or_default()));
            encoding = set.unwrap_or(encoding);
            entries.extend(opened.entries.into_iter().map(|raw| Entry::from_raw(raw, index, encoding)));
            streams.push(opened.stream);
            rows.extend(opened.rows);
        }
        let postgres = Postgres { streams, entries, encoding };
        let tables = postgres.tables(&rows);
        Ok((postgres, tables))
    }

    fn tables(&self, rows: &BTreeMap<String, u64>) -> Vec<Table> {
        let mut tables: BTreeMap<(Option<String>, String), Table> = BTreeMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let Some(kind) = kind_of(entry) else { continue };
            let table = || Table {
                schema: entry.schema.clone(),
                name: entry.tag.clone(),
                kind,
                rows: None,
                bytes: None,
                has_rows: false,
                place: Place::default(),
            };
            let table = tables.entry((entry.schema.clone(), entry.tag.clone())).or_insert_with(table);
            if entry.kind != "TABLE DATA" {
                table.place.definition = Some(index);
                table.kind = kind;
            } else if entry.has_data {
                table.place.data = Some(index);
                table.has_rows = true;
                let counted = rows.get(&table.sql_name()).copied();
                table.rows = counted.filter(|_| !entry.copy_sql.is_empty());
                table.bytes = self.known_block(entry).map(|block| block.row_bytes);
            }
        }
        tables.into_values().collect()
    }

    /// Where the data of an entry is, where that is known; its bytes are those of its rows.
    fn known_block(&self, entry: &Entry) -> Option<DataBlock> {
        let stream = self.streams.get(entry.part)?;
        let plain = stream.layout.is_none_or(|layout| layout.compression.is_none());
        let known = stream.blocks.lock().clone();
        known?.get(&entry.id).copied().filter(|_| plain)
    }

    pub(crate) fn knows_positions(&self) -> bool {
        let known = |stream: &Stream| stream.blocks.lock().is_some();
        self.streams.iter().all(known)
    }

    /// The entry that has the rows of a table, and where they are.
    fn data(&self, table: &Table) -> Result<(&Stream, &Entry, DataBlock)> {
        let no_rows = || Error::NoRows { table: table.sql_name(), kind: table.kind };
        let entry = table.place.data.and_then(|index| self.entries.get(index)).ok_or_else(no_rows)?;
        let stream = self.streams.get(entry.part).ok_or_else(no_rows)?;
        let block = stream.blocks()?.get(&entry.id).copied();
        let missing =
            || Error::damaged(&stream.name, format!("the rows of {} are missing", table.sql_name()));
        Ok((stream, entry, block.ok_or_else(missing)?))
    }

    pub(crate) fn rows(&self, table: &Table, format: Format) -> Result<Box<dyn Read + Send>> {
        if format == Format::Sql {
            return table_sql::script(self, table);
        }
        let (stream, entry, block) = self.data(table)?;
        let form = |detail: &str| {
            let (table, format) = (table.sql_name(), format.name());
            Err(Error::Form { table, format, detail: detail.to_owned() })
        };
        if block.inserts || entry.copy_sql.is_empty() {
            return form("the dump has them as INSERT commands");
        }
        let rows = stream.rows(block, true)?;
        let Format::Csv { header } = format else { return Ok(rows) };
        if self.encoding == Encoding::OtherWithAsciiInside {
            return form("in its encoding letters have bytes of quotation marks in them");
        }
        let Some(named) = copy_command(&entry.copy_sql) else {
            return form("its COPY command is not understood");
        };
        Ok(Box::new(Produced::new(CsvRows::new(rows, &named.columns, header))))
    }

    /// The rows as they are in the dump, and the entry that has them.
    pub(crate) fn raw_rows(&self, table: &Table) -> Result<(&Entry, Box<dyn Read + Send>)> {
        let (stream, entry, block) = self.data(table)?;
        Ok((entry, stream.rows(block, !entry.copy_sql.is_empty())?))
    }

    pub(crate) fn columns(&self, table: &Table) -> Vec<String> {
        let entry = table.place.data.and_then(|index| self.entries.get(index));
        let named = entry.and_then(|entry| copy_command(&entry.copy_sql)).unwrap_or_default();
        named.columns.iter().map(|name| self.encoding.decode(name)).collect()
    }

    pub(crate) fn extents(&self, table: &Table) -> Result<Vec<Extent>> {
        if !table.has_rows {
            return Ok(Vec::new());
        }
        let (_, entry, block) = self.data(table)?;
        Ok(vec![Extent { part: entry.part, offset: block.offset, length: block.length }])
    }

    fn at(&self, indexes: Vec<usize>) -> Vec<&Entry> {
        indexes.into_iter().filter_map(|index| self.entries.get(index)).collect()
    }

    pub(crate) fn entries_of(&self, table: &Table) -> Vec<&Entry> {
        self.at(related::entries_of(&self.entries, table, self.encoding))
    }

    pub(crate) fn needs_of(&self, table: &Table) -> Vec<&Entry> {
        self.at(related::needs_of(&self.entries, table, self.encoding))
    }

    pub(crate) fn settings_sql(&self) -> Vec<u8> {
        table_sql::settings(&self.entries)
    }

    pub(crate) fn schema_sql(&self) -> Vec<u8> {
        let mut sql = self.settings_sql();
        let definitions = self.entries.iter().filter(|entry| entry.is_definition());
        definitions.for_each(|entry| table_sql::add(entry, &mut sql));
        sql
    }
}

impl Stream {
    /// Where the data of each entry is; follows the stream where that is not known yet.
    fn blocks(&self) -> Result<Blocks> {
        let mut blocks = self.blocks.lock();
        if let Some(known) = &*blocks {
            return Ok(known.clone());
        }
        let found = by_id(&custom::locate(&self.name, &self.bytes)?);
        *blocks = Some(found.clone());
        Ok(found)
    }

    fn rows(&self, block: DataBlock, copied: bool) -> Result<Box<dyn Read + Send>> {
        let Some(layout) = self.layout else {
            return Ok(Box::new(RangeReader::new(self.bytes.clone(), block.offset, block.length)));
        };
        if let Some(method) = layout.compression {
            let detail =
                format!("pg_dump compressed its rows by {method}; dbvault compresses what it stores itself");
            return Err(Error::Unsupported { name: self.name.clone(), detail });
        }
        let rows = CustomRows::new(&self.name, self.bytes.clone(), layout, block, copied)?;
        Ok(Box::new(Produced::new(rows)))
    }
}

fn by_id(blocks: &[DataBlock]) -> Blocks {
    Arc::new(blocks.iter().filter_map(|block| Some((block.id?, *block))).collect())
}

fn open_part(part: &Part) -> Result<Opened> {
    let Part { name, bytes, .. } = part;
    let mut magic = [0; 5];
    read_exact_at(&**bytes, 0, &mut magic).map_err(Error::read(name))?;
    let told = part.attribute(attribute::DATA_POSITIONS);
    let mut known = told.and_then(|text| positions::from_text(text, bytes.len_bytes()));
    let mut rows = part.attribute(attribute::ROW_COUNTS).map(row_counts::from_json).unwrap_or_default();
    let stream = |layout, blocks: Option<Blocks>| Stream {
        name: name.clone(),
        bytes: bytes.clone(),
        layout,
        blocks: Mutex::new(blocks),
    };
    if &magic == b"PGDMP" {
        let end = known.as_deref().and_then(|blocks| blocks.first()).map(|first| first.offset);
        let toc = custom::read_toc(name, bytes, end)?;
        let stream = stream(Some(toc.layout), known.as_deref().map(by_id));
        return Ok(Opened { stream, entries: toc.entries, rows });
    }
    if known.is_none() {
        let scanner = plain::locate(name, bytes)?;
        rows = scanner.row_counts().clone();
        known = Some(scanner.data_blocks().to_vec());
    }
    let script = plain::read_script(name, bytes, &known.unwrap_or_default())?;
    let stream = stream(None, Some(by_id(&script.blocks)));
    let entries = script.settings.into_iter().chain(script.entries).collect();
    Ok(Opened { stream, entries, rows })
}

/// What the entry makes or has the rows of, where it has columns.
fn kind_of(entry: &Entry) -> Option<TableKind> {
    match entry.kind.as_str() {
        "TABLE" if entry.relation_kind == Some('p') || is_partitioned(&entry.sql) => {
            Some(TableKind::PartitionedTable)
        }
        "TABLE" | "TABLE DATA" => Some(TableKind::Table),
        "FOREIGN TABLE" => Some(TableKind::ForeignTable),
        "VIEW" => Some(TableKind::View),
        "MATERIALIZED VIEW" => Some(TableKind::MaterializedView),
        _ => None,
    }
}

/// `CREATE TABLE name (...) PARTITION BY ...`.
fn is_partitioned(sql: &[u8]) -> bool {
    let mut words = Words::new(sql);
    while words.skip_to("PARTITION") {
        if words.accept("BY") {
            return true;
        }
    }
    false
}
