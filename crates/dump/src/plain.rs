//! A plain dump of PostgreSQL: what it makes, without its rows.

use std::sync::Arc;

use memchr::memmem;

use crate::custom_toc::RawEntry;
use crate::plain_scanner::{Heading, PlainScanner};
use crate::positions::DataBlock;
use crate::read_at::{RangeReader, ReadAt, read_exact_at};
use crate::sql_words::{Words, copy_command, insert_command};
use crate::{Error, Result};

/// Most SQL that is held, bytes, without the rows.
const SCRIPT_BYTES_MAX: usize = 1 << 30;
/// How much of an INSERT command is looked at, bytes.
const INSERT_BYTES_MAX: u64 = 1 << 10;

/// A dump without its rows.
pub(crate) struct Script {
    /// What it makes, in its order; `id` counts from 1.
    pub(crate) entries: Vec<RawEntry>,
    /// Where rows are; the id is that of the entry.
    pub(crate) blocks: Vec<DataBlock>,
    /// Settings at its head.
    pub(crate) settings: Vec<RawEntry>,
}

/// Rows in a script.
struct Mark {
    /// The byte of the script that they come before.
    at: usize,
    block: DataBlock,
}

/// Where rows are, and how many: follows the stream from its beginning to its end.
pub(crate) fn locate(name: &str, bytes: &Arc<dyn ReadAt>) -> Result<PlainScanner> {
    let mut scanner = PlainScanner::default();
    let mut range = RangeReader::new(bytes.clone(), 0, u64::MAX);
    loop {
        let piece = range.fill().map_err(Error::read(name))?;
        let count = piece.len();
        if count == 0 {
            return Ok(scanner);
        }
        scanner.feed(piece);
        range.consume(count);
    }
}

/// Reads what is between the rows.
pub(crate) fn read_script(name: &str, bytes: &Arc<dyn ReadAt>, blocks: &[DataBlock]) -> Result<Script> {
    let mut scanner = PlainScanner::with_headings();
    let (mut script, mut marks, mut headings) = (Vec::new(), Vec::new(), Vec::new());
    let end = DataBlock { offset: bytes.len_bytes(), ..DataBlock::default() };
    let (mut at, mut skipped) = (0, 0);
    for (index, block) in blocks.iter().chain([&end]).enumerate() {
        let mut range = RangeReader::new(bytes.clone(), at, block.offset.saturating_sub(at));
        loop {
            let piece = range.fill().map_err(Error::read(name))?;
            let count = piece.len();
            if count == 0 {
                break;
            }
            if script.len() + count > SCRIPT_BYTES_MAX {
                let detail = format!("it has more than {} MiB of SQL beside rows", SCRIPT_BYTES_MAX >> 20);
                return Err(Error::Unsupported { name: name.to_owned(), detail });
            }
            scanner.feed(piece);
            script.extend_from_slice(piece);
            range.consume(count);
        }
        headings.extend(scanner.take_headings().into_iter().map(|Heading { end, text }| {
            (usize::try_from(end - skipped).unwrap_or(usize::MAX).min(script.len()), text)
        }));
        if index == blocks.len() {
            break;
        }
        if !scanner.jump(block.length) {
            return Err(Error::damaged(name, format!("there are no rows at byte {}", block.offset)));
        }
        marks.push(Mark { at: script.len(), block: *block });
        at = block.end();
        skipped += block.length;
    }
    Divider { name, bytes, script: &script, entries: Vec::new(), blocks: Vec::new() }.divide(headings, marks)
}

/// Divides a script into what it makes.
struct Divider<'a> {
    name: &'a str,
    bytes: &'a Arc<dyn ReadAt>,
    script: &'a [u8],
    entries: Vec<RawEntry>,
    blocks: Vec<DataBlock>,
}

impl Divider<'_> {
    fn divide(mut self, headings: Vec<(usize, Vec<u8>)>, marks: Vec<Mark>) -> Result<Script> {
        let begin = headings.first().map_or(self.script.len(), start_of_heading);
        let settings = settings(&self.script[..begin]);
        let mut marks = marks.into_iter().peekable();
        let ends = headings.iter().skip(1).map(start_of_heading).chain([self.script.len()]);
        for ((start, text), end) in headings.iter().zip(ends) {
            let mut entry = heading(text);
            entry.section = section(&entry).max(self.entries.last().map_or(0, |last| last.section));
            let mut from = *start;
            let mut used = false;
            while let Some(mark) = marks.next_if(|mark| mark.at <= end) {
                let before = self.script.get(from..mark.at).unwrap_or_default();
                let owner = entry.owner.clone();
                self.data(before, mark.block, owner)?;
                from = mark.at;
                used = true;
            }
            if used || entry.kind.as_deref().is_none_or(|kind| kind == b"TABLE DATA") {
                continue;
            }
            let sql = without_comment(self.script.get(from..end).unwrap_or_default());
            let sql = without_owner(sql);
            if let Some(names) = created(sql)
                && let [schema, table] = names.as_slice()
            {
                // A heading has no line breaks of names.
                (entry.schema, entry.tag) = (Some(schema.clone()), Some(table.clone()));
            }
            entry.sql = Some(sql.to_vec());
            self.push(entry);
        }
        Ok(Script { entries: self.entries, blocks: self.blocks, settings })
    }

    fn push(&mut self, entry: RawEntry) -> i64 {
        let id = self.entries.len() as i64 + 1;
        self.entries.push(RawEntry { id, ..entry });
        id
    }

    /// Rows, after the command `before`.
    fn data(&mut self, before: &[u8], block: DataBlock, owner: Option<Vec<u8>>) -> Result<()> {
        let before = without_comment(before.strip_prefix(b"\\.\n").unwrap_or(before));
        let (names, copy_sql) = if block.inserts {
            let length = block.length.min(INSERT_BYTES_MAX);
            let mut head = vec![0; usize::try_from(length).unwrap_or(0)];
            read_exact_at(&**self.bytes, block.offset, &mut head).map_err(Error::read(self.name))?;
            (insert_command(&head), None)
        } else {
            (copy_command(before).map(|named| named.table), Some(before.to_vec()))
        };
        let Some([schema, table]) = names.and_then(|names| <[Vec<u8>; 2]>::try_from(names).ok()) else {
            let detail = format!("the rows at byte {} are of no known table", block.offset);
            return Err(Error::damaged(self.name, detail));
        };
        let (kind, schema, tag) = (Some(b"TABLE DATA".to_vec()), Some(schema), Some(table));
        let entry = RawEntry {
            kind,
            schema,
            tag,
            copy_sql,
            owner,
            section: 3,
            has_data: true,
            ..RawEntry::default()
        };
        let id = self.push(entry);
        self.blocks.push(DataBlock { id: Some(id), ..block });
        Ok(())
    }
}

/// Where the line of a heading begins, and the line of dashes before it.
fn start_of_heading((end, text): &(usize, Vec<u8>)) -> usize {
    end.saturating_sub(text.len() + "--\n".len() + "--\n".len())
}

/// Name, kind, schema and owner that a heading tells.
fn heading(text: &[u8]) -> RawEntry {
    let field = |text: &mut Vec<u8>, key: &str| -> Option<Vec<u8>> {
        let at = memmem::rfind(text, key.as_bytes())?;
        let value = text.split_off(at + key.len());
        text.truncate(at);
        Some(value).filter(|value| value != b"-")
    };
    let mut text = text.to_vec();
    field(&mut text, "; Tablespace: ");
    let owner = field(&mut text, "; Owner: ");
    let schema = field(&mut text, "; Schema: ");
    let kind = field(&mut text, "; Type: ");
    let tag = field(&mut text, "Name: ").or_else(|| field(&mut text, "Data for Name: "));
    RawEntry { owner, schema, kind, tag, ..RawEntry::default() }
}

/// As the custom format tells it.
fn section(entry: &RawEntry) -> i64 {
    match entry.kind.as_deref().unwrap_or_default() {
        b"TABLE DATA" | b"SEQUENCE SET" | b"BLOB" | b"BLOBS" | b"BLOB METADATA" => 3,
        b"INDEX"
        | b"INDEX ATTACH"
        | b"CONSTRAINT"
        | b"FK CONSTRAINT"
        | b"CHECK CONSTRAINT"
        | b"TRIGGER"
        | b"RULE"
        | b"POLICY"
        | b"ROW SECURITY"
        | b"STATISTICS"
        | b"EVENT TRIGGER"
        | b"PUBLICATION"
        | b"PUBLICATION TABLE"
        | b"SUBSCRIPTION"
        | b"MATERIALIZED VIEW DATA" => 4,
        _ => 2,
    }
}

/// Settings at the head of a dump, named as the custom format does it.
fn settings(head: &[u8]) -> Vec<RawEntry> {
    let known = [
        ("ENCODING", "SET client_encoding"),
        ("STDSTRINGS", "SET standard_conforming_strings"),
        ("SEARCHPATH", "SELECT pg_catalog.set_config('search_path'"),
    ];
    let setting = |line: &[u8]| {
        let (kind, _) = known.iter().find(|(_, start)| line.starts_with(start.as_bytes()))?;
        let (kind, sql) = (kind.as_bytes().to_vec(), [line, b"\n"].concat());
        Some(RawEntry { tag: Some(kind.clone()), kind: Some(kind), sql: Some(sql), ..RawEntry::default() })
    };
    head.split(|byte| *byte == b'\n').filter_map(setting).collect()
}

/// Without the end of the heading and blanks around.
fn without_comment(sql: &[u8]) -> &[u8] {
    sql.strip_prefix(b"--\n").unwrap_or(sql).trim_ascii()
}

/// Without what gives it to its owner, and settings for what comes next.
fn without_owner(mut sql: &[u8]) -> &[u8] {
    loop {
        let start = memchr::memrchr(b'\n', sql).map_or(0, |at| at + 1);
        let last = &sql[start..];
        let owner = last.starts_with(b"ALTER ") && memmem::find(last, b" OWNER TO ").is_some();
        let setting = last.starts_with(b"SET default_");
        if start == 0 || !(owner || setting) {
            return sql;
        }
        sql = sql[..start].trim_ascii_end();
    }
}

/// Schema and name of the table or view that is made.
fn created(sql: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Words::new(sql);
    if !words.accept("CREATE") {
        return None;
    }
    for word in ["UNLOGGED", "FOREIGN", "MATERIALIZED", "RECURSIVE"] {
        words.accept(word);
    }
    (words.accept("TABLE") || words.accept("VIEW")).then(|| words.qualified())
}
