//! A plain dump of PostgreSQL, followed while it streams by: where are the rows of which table?
//!
//! Rows stand in plain dumps between `COPY table (columns) FROM stdin;` and a line of a backslash and a dot, in which
//! nothing else is looked for. Outside of them texts, names, dollar quotes and comments are told apart, so that what
//! looks like a command in the body of a function is none. `pg_dump` writes a comment before each thing it makes,
//! which tells what it is; with `--inserts` the rows are `INSERT` commands after a comment "Data for Name".
//!
//! Memory: the command that is passing, where it is one of those, and a few numbers for each table.

use std::collections::BTreeMap;
use std::mem::take;

use memchr::{memchr, memchr_iter, memchr2};

use crate::names::table_name;
use crate::positions::DataBlock;
use crate::seeker::Seeker;
use crate::sql_words::{copy_command, insert_command, is_name_byte};

/// Longest command that is looked at, bytes: a COPY of 1,600 columns with the longest names has less.
const COMMAND_BYTES_MAX: usize = 1 << 20;
/// How much is looked at of an INSERT, bytes: the longest names of a schema and a table, and a few words.
const INSERT_BYTES_MAX: usize = 1 << 10;
/// Longest comment of a line that is kept, bytes.
const COMMENT_BYTES_MAX: usize = 4 << 10;
/// The line after the last row, with the end of the line before.
const ROWS_END: &[u8] = b"\n\\.\n";
/// Bytes of its own line.
const END_LINE_BYTES: u64 = 3;

/// How comments begin that tell what follows: rows, something else, or nothing.
const DATA_HEADING: &[u8] = b" Data for Name: ";
const HEADINGS: [&[u8]; 2] = [b" Name: ", b" PostgreSQL database dump complete"];

/// A comment that tells what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    /// The first byte after its line.
    pub(crate) end: u64,
    /// The line, without the dashes.
    pub(crate) text: Vec<u8>,
}

#[derive(Clone, Debug)]
enum State {
    /// Outside of all that follows.
    Plain,
    LineComment,
    BlockComment(u32),
    /// In a text; backslashes mean something, or not.
    Text {
        backslashes: bool,
    },
    /// After a backslash in a text.
    Escaped,
    /// In a name in quotation marks.
    Name,
    /// In the first mark of a dollar quote.
    DollarTag(Vec<u8>),
    Dollar(Seeker),
    /// In a line for psql, or what is left of the line of a COPY command.
    Line {
        then_rows: bool,
    },
    Rows(Seeker),
}

/// Follows a plain dump that is given to it piece by piece. Any bytes are taken.
#[derive(Debug)]
pub struct PlainScanner {
    state: State,
    /// The command that is passing, or as much of it as is of interest.
    command: Vec<u8>,
    command_start: u64,
    /// No bytes of the command have come yet.
    between: bool,
    /// The last two bytes outside of texts and comments.
    before: [u8; 2],
    /// The last text was one in which backslashes mean something.
    backslashes: bool,
    standard_texts: bool,
    comment: Vec<u8>,
    /// The last heading was one of rows.
    in_data: bool,
    keep_headings: bool,
    headings: Vec<Heading>,
    blocks: Vec<DataBlock>,
    /// The table that the last block is of, where it is made of INSERTs and may go on.
    inserting: Option<Vec<Vec<u8>>>,
    table: Option<String>,
    lines: u64,
    rows: BTreeMap<String, u64>,
    total_bytes: u64,
}

impl Default for PlainScanner {
    fn default() -> Self {
        PlainScanner {
            state: State::Plain,
            command: Vec::new(),
            command_start: 0,
            between: true,
            before: [b'\n'; 2],
            backslashes: false,
            standard_texts: true,
            comment: Vec::new(),
            in_data: false,
            keep_headings: false,
            headings: Vec::new(),
            blocks: Vec::new(),
            inserting: None,
            table: None,
            lines: 0,
            rows: BTreeMap::new(),
            total_bytes: 0,
        }
    }
}

impl PlainScanner {
    /// One that keeps headings as well.
    pub(crate) fn with_headings() -> PlainScanner {
        PlainScanner { keep_headings: true, ..PlainScanner::default() }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            let at = self.total_bytes;
            let used = match &mut self.state {
                State::Rows(seeker) => {
                    let end = seeker.find_end(rest);
                    let used = end.unwrap_or(rest.len());
                    self.lines += memchr_iter(b'\n', &rest[..used]).count() as u64;
                    if end.is_some() {
                        self.end_rows(at + used as u64);
                    }
                    used
                }
                State::Dollar(seeker) => {
                    let end = seeker.find_end(rest);
                    if end.is_some() {
                        self.state = State::Plain;
                    }
                    end.unwrap_or(rest.len())
                }
                State::Plain => self.plain(rest),
                _ => self.quoted(rest),
            };
            rest = &rest[used..];
            self.total_bytes = at + used as u64;
        }
    }

    /// Rows of each table that has passed whole, by its name with its schema, as SQL writes them; of those that came as
    /// lines.
    pub fn row_counts(&self) -> &BTreeMap<String, u64> {
        &self.rows
    }

    /// Where the rows of each table were that has passed whole.
    pub fn data_blocks(&self) -> &[DataBlock] {
        match self.state {
            State::Rows(_) => &self.blocks[..self.blocks.len().saturating_sub(1)],
            _ => &self.blocks,
        }
    }

    /// The headings since the last call.
    pub(crate) fn take_headings(&mut self) -> Vec<Heading> {
        take(&mut self.headings)
    }

    /// Where rows are passing, the next `length` bytes are rows and nothing else, and are not shown; false where no rows
    /// are passing. At the beginning of a command they may be commands.
    pub(crate) fn jump(&mut self, length: u64) -> bool {
        let possible = match &mut self.state {
            State::Rows(seeker) => {
                *seeker = Seeker::new(ROWS_END, b"\n");
                true
            }
            State::Plain => self.between,
            _ => false,
        };
        self.total_bytes += length;
        possible
    }

    /// Outside of texts. Gives how many bytes it has looked at.
    fn plain(&mut self, piece: &[u8]) -> usize {
        for (index, &byte) in piece.iter().enumerate() {
            let [before_last, last] = self.before;
            if self.between {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.before = [last, byte];
                        continue;
                    }
                    b'\\' => {
                        self.state = State::Line { then_rows: false };
                        return index + 1;
                    }
                    // Comments belong to no command; a sign alone begins none.
                    b'-' | b'/' => {}
                    b'*' if last == b'/' => {}
                    _ => self.begin_command(self.total_bytes + index as u64),
                }
            }
            self.before = [last, byte];
            let next = match byte {
                b'-' if last == b'-' => Some(State::LineComment),
                b'*' if last == b'/' => Some(State::BlockComment(1)),
                b'\'' => {
                    let marked = matches!(last, b'e' | b'E') && !is_name_byte(before_last);
                    let goes_on = last == b'\'';
                    self.backslashes =
                        if goes_on { self.backslashes } else { marked || !self.standard_texts };
                    Some(State::Text { backslashes: self.backslashes })
                }
                b'"' => Some(State::Name),
                b'$' if !is_name_byte(last) => Some(State::DollarTag(vec![b'$'])),
                _ => None,
            };
            if !self.between {
                self.note(byte);
            }
            if let Some(state) = next {
                if matches!(state, State::LineComment | State::BlockComment(_)) {
                    self.before = [b' '; 2];
                    self.comment.clear();
                }
                self.state = state;
                return index + 1;
            }
            if byte == b';' && self.end_command(self.total_bytes + index as u64 + 1) {
                return index + 1;
            }
        }
        piece.len()
    }

    fn begin_command(&mut self, at: u64) {
        self.between = false;
        self.command_start = at;
        self.command.clear();
    }

    /// Keeps the byte where the command may be of interest.
    fn note(&mut self, byte: u8) {
        let kept = match self.command.first() {
            None => true,
            Some(b'C' | b'c' | b'S' | b's') => self.command.len() < COMMAND_BYTES_MAX,
            Some(b'I' | b'i') => self.command.len() < INSERT_BYTES_MAX,
            Some(_) => false,
        };
        // Most commands that begin so are others.
        let other = self.command.len() == 4
            && !self.command.eq_ignore_ascii_case(b"COPY")
            && !self.command.eq_ignore_ascii_case(b"SET ")
            && !self.command.eq_ignore_ascii_case(b"INSE");
        if kept && !other {
            self.command.push(byte);
        }
    }

    /// After a semicolon; says whether rows follow.
    fn end_command(&mut self, end: u64) -> bool {
        self.between = true;
        let mut command = take(&mut self.command);
        let mut rows_follow = false;
        if self.in_data
            && let Some(table) = insert_command(&command)
        {
            self.end_insert(table, end);
        } else if !command.is_empty() {
            if let Some(named) = copy_command(&command) {
                let names: Vec<Option<&str>> =
                    named.table.iter().map(|name| std::str::from_utf8(name).ok()).collect();
                self.table = match names.as_slice() {
                    [Some(schema), Some(name)] => Some(table_name(schema, name)),
                    _ => None,
                };
                self.state = State::Line { then_rows: true };
                rows_follow = true;
            } else if command.eq_ignore_ascii_case(b"SET standard_conforming_strings = off;") {
                self.standard_texts = false;
            }
            self.inserting = None;
        }
        command.clear();
        self.command = command;
        rows_follow
    }

    fn end_insert(&mut self, table: Vec<Vec<u8>>, end: u64) {
        // With the end of its line.
        let end = end + 1;
        match self.blocks.last_mut() {
            Some(block) if self.inserting.as_ref() == Some(&table) => block.length = end - block.offset,
            _ => self.blocks.push(DataBlock {
                offset: self.command_start,
                length: end - self.command_start,
                inserts: true,
                ..DataBlock::default()
            }),
        }
        if let Some(block) = self.blocks.last_mut() {
            block.row_bytes = block.length;
        }
        self.inserting = Some(table);
    }

    fn begin_rows(&mut self, at: u64) {
        self.lines = 0;
        self.blocks.push(DataBlock { offset: at, ..DataBlock::default() });
        self.state = State::Rows(Seeker::new(ROWS_END, b"\n"));
    }

    fn end_rows(&mut self, end: u64) {
        self.state = State::Plain;
        self.before = [b'\n'; 2];
        if let Some(block) = self.blocks.last_mut() {
            block.length = (end - block.offset).saturating_sub(END_LINE_BYTES);
            block.row_bytes = block.length;
        }
        if let Some(table) = self.table.take() {
            self.rows.insert(table, self.lines.saturating_sub(1));
        }
    }

    /// Inside of a text, a name, a comment or a line. Gives how many bytes it has looked at.
    fn quoted(&mut self, piece: &[u8]) -> usize {
        match &mut self.state {
            State::Text { backslashes } => {
                let found = if *backslashes { memchr2(b'\'', b'\\', piece) } else { memchr(b'\'', piece) };
                match found {
                    Some(at) if piece[at] == b'\\' => self.state = State::Escaped,
                    Some(_) => self.back(b'\''),
                    None => {}
                }
                found.map_or(piece.len(), |at| at + 1)
            }
            State::Escaped => {
                self.state = State::Text { backslashes: true };
                1
            }
            State::Name => {
                let end = memchr(b'"', piece);
                let used = end.map_or(piece.len(), |at| at + 1);
                piece[..used].iter().for_each(|byte| self.note(*byte));
                if end.is_some() {
                    self.back(b'"');
                }
                used
            }
            State::LineComment => {
                let end = memchr(b'\n', piece);
                let used = end.map_or(piece.len(), |at| at + 1);
                let room = COMMENT_BYTES_MAX.saturating_sub(self.comment.len());
                self.comment.extend_from_slice(&piece[..end.unwrap_or(used).min(room)]);
                if end.is_some() {
                    self.end_comment(self.total_bytes + used as u64);
                }
                used
            }
            State::BlockComment(_) => self.block_comment(piece),
            State::DollarTag(tag) => {
                let byte = piece[0];
                if byte == b'$' {
                    tag.push(byte);
                    self.state = State::Dollar(Seeker::new(&take(tag), b""));
                    return 1;
                }
                if is_name_byte(byte) && tag.len() < COMMENT_BYTES_MAX {
                    tag.push(byte);
                    return 1;
                }
                // It was none; the byte may begin something else.
                self.back(b'$');
                0
            }
            State::Line { then_rows } => {
                let then_rows = *then_rows;
                let Some(end) = memchr(b'\n', piece) else { return piece.len() };
                self.back(b'\n');
                if then_rows {
                    self.begin_rows(self.total_bytes + end as u64 + 1);
                }
                end + 1
            }
            State::Plain | State::Dollar(_) | State::Rows(_) => 0,
        }
    }

    /// After the end of a text, a name, a comment or a line; `last` is the last byte of it.
    fn back(&mut self, last: u8) {
        self.state = State::Plain;
        self.before = [b' ', last];
    }

    fn end_comment(&mut self, end: u64) {
        self.back(b'\n');
        if !self.between {
            self.note(b'\n');
        }
        let data = self.comment.starts_with(DATA_HEADING);
        if data || HEADINGS.iter().any(|heading| self.comment.starts_with(heading)) {
            self.in_data = data;
            if self.keep_headings {
                self.headings.push(Heading { end, text: self.comment.clone() });
            }
        }
    }

    fn block_comment(&mut self, piece: &[u8]) -> usize {
        for (index, &byte) in piece.iter().enumerate() {
            let last = self.before[1];
            self.before = [last, byte];
            let State::BlockComment(depth) = &mut self.state else { return index };
            match (last, byte) {
                (b'/', b'*') => *depth = depth.saturating_add(1),
                (b'*', b'/') => *depth -= 1,
                _ => continue,
            }
            let over = *depth == 0;
            // A sign belongs to one mark only.
            self.before = [b' '; 2];
            if over {
                self.state = State::Plain;
                if !self.between {
                    b"*/".iter().for_each(|byte| self.note(*byte));
                }
                return index + 1;
            }
        }
        piece.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"--
-- PostgreSQL database dump
--

\restrict 'x

SET client_encoding = 'UTF8';
--
-- Name: f(); Type: FUNCTION; Schema: public; Owner: o
--

CREATE FUNCTION public.f() RETURNS text AS $_$
COPY public.no (a) FROM stdin;
1
\.
-- Data for Name: x
$_$;
/* COPY public.no FROM stdin;
 /* */ ' */ COMMENT ON FUNCTION public.f() IS 'it''s; 
COPY public.no FROM stdin;
\';
COMMENT ON TABLE x IS E'a\'
COPY public.no FROM stdin;
';
--
-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: o
--

COPY public.a ("x;'", y) FROM stdin;
1	\\.
\N	;'$$--
\.

COPY "P"."a""b"  FROM stdin;
\.

--
-- Data for Name: i; Type: TABLE DATA; Schema: public; Owner: o
--

INSERT INTO public.i VALUES (1, 'x;''');
INSERT INTO public.i VALUES (2, E';\'');

--
-- Name: r; Type: RULE; Schema: public; Owner: o
--

INSERT INTO public.i VALUES (3);
--
-- PostgreSQL database dump complete
--

\unrestrict x
"#;

    fn texts(blocks: &[DataBlock]) -> Vec<&'static str> {
        blocks.iter().map(|block| &DUMP[block.offset as usize..block.end() as usize]).collect()
    }

    #[test]
    fn rows_are_found_and_nothing_that_looks_like_them() {
        for piece_bytes in [1, 2, 3, 7, 100, DUMP.len()] {
            let mut scanner = PlainScanner::with_headings();
            DUMP.as_bytes().chunks(piece_bytes).for_each(|piece| scanner.feed(piece));
            let inserts =
                "INSERT INTO public.i VALUES (1, 'x;''');\nINSERT INTO public.i VALUES (2, E';\\'');\n";
            let expected = ["1\t\\\\.\n\\N\t;'$$--\n", "", inserts];
            assert_eq!(texts(scanner.data_blocks()), expected, "{piece_bytes}");
            let counts: Vec<_> =
                scanner.row_counts().iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
            assert_eq!(counts, [("\"P\".\"a\"\"b\"", 0), ("public.a", 2)]);
            assert_eq!(scanner.take_headings().len(), 5);
        }
    }

    #[test]
    fn what_is_cut_off_gives_only_what_was_whole() {
        for end in 0..DUMP.len() {
            let mut scanner = PlainScanner::default();
            scanner.feed(&DUMP.as_bytes()[..end]);
            assert!(scanner.data_blocks().iter().all(|block| block.end() <= 1 + end as u64));
        }
    }
}
