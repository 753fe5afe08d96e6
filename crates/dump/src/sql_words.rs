//! SQL as words: enough to find which table a command is about, whatever is in its names and texts.

use memchr::{memchr, memmem};

/// A part of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A keyword or a name, as it stands there.
    Plain(Vec<u8>),
    /// A name in quotation marks, without them.
    Quoted(Vec<u8>),
    /// A text or a number.
    Literal,
    /// Anything else.
    Sign(u8),
}

impl Word {
    /// Whether it is this keyword, in letters of any size.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Plain(text) if text.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    fn name(self) -> Option<Vec<u8>> {
        match self {
            Word::Plain(text) | Word::Quoted(text) => Some(text),
            _ => None,
        }
    }
}

/// The words of some SQL; comments are passed over.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
    /// Open parentheses.
    pub(crate) depth: usize,
}

impl<'a> Words<'a> {
    pub(crate) fn new(sql: &'a [u8]) -> Words<'a> {
        Words { rest: sql, depth: 0 }
    }

    /// Takes the next word where it is this keyword.
    pub(crate) fn accept(&mut self, keyword: &str) -> bool {
        let mut ahead = self.clone();
        let is = ahead.next().is_some_and(|word| word.is(keyword));
        if is {
            *self = ahead;
        }
        is
    }

    /// Takes words up to this keyword, outside of parentheses, and it; false where there is none.
    pub(crate) fn skip_to(&mut self, keyword: &str) -> bool {
        while let Some(word) = self.next() {
            if self.depth == 0 && word.is(keyword) {
                return true;
            }
        }
        false
    }

    /// Takes names with dots between them.
    pub(crate) fn qualified(&mut self) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        loop {
            let mut ahead = self.clone();
            let Some(name) = ahead.next().and_then(Word::name) else { return names };
            names.push(name);
            *self = ahead.clone();
            if ahead.next() != Some(Word::Sign(b'.')) {
                return names;
            }
            *self = ahead;
        }
    }

    /// Takes the name of a table in any of the quotation marks that SQLite knows.
    pub(crate) fn table_name(&mut self) {
        self.skip_blanks();
        let close = match self.rest.first() {
            Some(mark @ (b'`' | b'\'')) => *mark,
            Some(b'[') => b']',
            _ => return drop(self.qualified()),
        };
        self.take(1);
        self.quoted(close, false);
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// What is in quotation marks, of which the first is taken already.
    fn quoted(&mut self, mark: u8, backslashes: bool) -> Vec<u8> {
        let mut text = Vec::new();
        while let Some((&byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            match byte {
                b'\\' if backslashes => text.extend_from_slice(self.take(1)),
                _ if byte != mark => text.push(byte),
                _ if rest.first() == Some(&mark) => text.extend_from_slice(self.take(1)),
                _ => break,
            }
        }
        text
    }

    /// `$tag$...$tag$`, or a sign.
    fn dollar(&mut self) -> Word {
        let tag = self.rest[1..].iter().take_while(|byte| is_name_byte(**byte) && **byte != b'$').count();
        if self.rest.get(1 + tag) != Some(&b'$') {
            self.take(1);
            return Word::Sign(b'$');
        }
        let mark = self.take(tag + 2);
        let end = memmem::find(self.rest, mark).map_or(self.rest.len(), |at| at + mark.len());
        self.take(end);
        Word::Literal
    }

    fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.take(blanks);
            if self.rest.starts_with(b"--") {
                let end = memchr(b'\n', self.rest).unwrap_or(self.rest.len());
                self.take(end);
            } else if self.rest.starts_with(b"/*") {
                let end = memmem::find(self.rest, b"*/").map_or(self.rest.len(), |at| at + 2);
                self.take(end);
            } else {
                return;
            }
        }
    }
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        self.skip_blanks();
        let first = *self.rest.first()?;
        Some(match first {
            b'"' => {
                self.take(1);
                Word::Quoted(self.quoted(b'"', false))
            }
            b'\'' => {
                self.take(1);
                self.quoted(b'\'', false);
                Word::Literal
            }
            b'E' | b'e' if self.rest.get(1) == Some(&b'\'') => {
                self.take(2);
                self.quoted(b'\'', true);
                Word::Literal
            }
            b'$' => self.dollar(),
            _ if first.is_ascii_digit() => {
                let count = self.rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                self.take(count);
                Word::Literal
            }
            _ if is_name_byte(first) => {
                let count = self.rest.iter().take_while(|byte| is_name_byte(**byte)).count();
                Word::Plain(self.take(count).to_vec())
            }
            _ => {
                self.take(1);
                match first {
                    b'(' => self.depth += 1,
                    b')' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                Word::Sign(first)
            }
        })
    }
}

/// Whether a name or a keyword may have it in it.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// A table and columns that a command names, in the encoding of the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Schema and name.
    pub(crate) table: Vec<Vec<u8>>,
    pub(crate) columns: Vec<Vec<u8>>,
}

/// What `COPY table (columns) FROM stdin` names; `None` where it is no such command.
pub(crate) fn copy_command(sql: &[u8]) -> Option<Named> {
    let mut words = Words::new(sql);
    let table = Some(words.accept("COPY")).filter(|is| *is).map(|_| words.qualified())?;
    let mut columns = Vec::new();
    let mut ahead = words.clone();
    if ahead.next() == Some(Word::Sign(b'(')) {
        loop {
            match ahead.next()? {
                Word::Sign(b')') => break,
                Word::Sign(b',') => {}
                word => columns.push(word.name()?),
            }
        }
        words = ahead;
    }
    let from_stdin = words.accept("FROM") && words.accept("stdin");
    (from_stdin && !table.is_empty()).then_some(Named { table, columns })
}

/// The table that `INSERT INTO table` names.
pub(crate) fn insert_command(sql: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Words::new(sql);
    let table = if words.accept("INSERT") && words.accept("INTO") { words.qualified() } else { Vec::new() };
    Some(table).filter(|table| !table.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood_whatever_their_names_are() {
        let named = copy_command(b"COPY public.\"odd \"\"na.me\" (\"x, (y\", z) FROM stdin;").unwrap();
        assert_eq!(named.table, [b"public".to_vec(), b"odd \"na.me".to_vec()]);
        assert_eq!(named.columns, [b"x, (y".to_vec(), b"z".to_vec()]);
        assert_eq!(copy_command(b"COPY public.e  FROM stdin").unwrap().columns.len(), 0);
        for other in [
            "COPY a TO stdout",
            "COPY",
            "COPY FROM stdin",
            "COPY a (b",
            "SELECT 1",
            "COPY (SELECT 1) FROM stdin",
        ] {
            assert!(copy_command(other.as_bytes()).is_none(), "{other}");
        }
        assert_eq!(
            insert_command(b"INSERT INTO \"A\".b VALUES (1)").unwrap(),
            [b"A".to_vec(), b"b".to_vec()]
        );
        let mut words =
            Words::new(b"x (ON a) $q$ ON b $q$ 'ON c''' e'\\' ON d' /* ON e */ -- ON f\n ON g.h$1");
        assert!(words.skip_to("on"));
        assert_eq!(words.qualified(), [b"g".to_vec(), b"h$1".to_vec()]);
        assert_eq!(words.next(), None);
    }
}
