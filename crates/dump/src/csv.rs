//! Rows as `COPY` writes them, to rows as `COPY ... CSV` writes them.
//!
//! See "COPY" in PostgreSQL's manual: NULL is nothing at all; a text is in quotation marks where it is empty, has a comma,
//! a quotation mark or a line break in it, or is a lone `\.`.

use std::io::{self, BufRead, BufReader, Read};

use memchr::{memchr, memchr_iter, memchr3};

use crate::produce::{PRODUCE_BYTES, Produce};

/// Longest line that is taken, bytes: PostgreSQL has values up to 1 GiB, and writes bytes as two letters each.
const LINE_BYTES_MAX: u64 = 4 << 30;

/// Makes CSV of lines.
pub(crate) struct CsvRows {
    lines: BufReader<Box<dyn Read + Send>>,
    columns: usize,
    /// Names for the first line.
    header: Option<Vec<Vec<u8>>>,
    line: Vec<u8>,
    field: Vec<u8>,
}

impl CsvRows {
    pub(crate) fn new(rows: Box<dyn Read + Send>, columns: &[Vec<u8>], header: bool) -> CsvRows {
        CsvRows {
            lines: BufReader::with_capacity(PRODUCE_BYTES, rows),
            columns: columns.len(),
            header: header.then(|| columns.to_vec()),
            line: Vec::new(),
            field: Vec::new(),
        }
    }
}

impl Produce for CsvRows {
    fn produce(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        if let Some(names) = self.header.take() {
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                field(name, names.len() == 1, out);
            }
            out.push(b'\n');
        }
        while out.len() < PRODUCE_BYTES {
            self.line.clear();
            (&mut self.lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
            match self.line.pop() {
                None => return Ok(false),
                Some(b'\n') => {}
                Some(_) if self.line.len() as u64 >= LINE_BYTES_MAX - 1 => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a row that is longer than any"));
                }
                Some(last) => self.line.push(last),
            }
            if self.columns > 0 {
                row(&self.line, self.columns == 1, &mut self.field, out);
            }
            out.push(b'\n');
        }
        Ok(true)
    }
}

fn row(line: &[u8], alone: bool, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    // Most lines have nothing in them that would have to be looked at value by value.
    let plain = memchr3(b'\\', b'"', b',', line).is_none() && memchr(b'\r', line).is_none();
    let mut start = 0;
    for end in memchr_iter(b'\t', line).chain([line.len()]) {
        let text = &line[start..end];
        if start > 0 {
            out.push(b',');
        }
        start = end + 1;
        if plain && !text.is_empty() {
            out.extend_from_slice(text);
        } else if text == b"\\N" {
            // NULL is nothing.
        } else if memchr(b'\\', text).is_none() {
            field(text, alone, out);
        } else {
            scratch.clear();
            unescape(text, scratch);
            field(scratch, alone, out);
        }
    }
}

/// Adds a value that is not NULL.
pub(crate) fn field(text: &[u8], alone: bool, out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    let quoted = text.is_empty() || alone && text == b"\\." || text.iter().any(special);
    if !quoted {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &byte in text {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// What backslashes in a line of `COPY` stand for.
pub(crate) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(&letter) = rest.get(at + 1) else {
            out.push(b'\\');
            return;
        };
        rest = &rest[at + 2..];
        out.push(match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => other,
        });
    }
    out.extend_from_slice(rest);
}

/// Adds a value that is not NULL to a line as `COPY` writes it.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            other => {
                out.push(other);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::produce::Produced;

    fn csv(rows: &'static [u8], columns: &[&str], header: bool) -> String {
        let columns: Vec<Vec<u8>> = columns.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut text = String::new();
        Produced::new(CsvRows::new(Box::new(rows), &columns, header)).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn values_are_quoted_as_postgresql_does_it() {
        assert_eq!(csv(b"", &["a"], false), "");
        assert_eq!(csv(b"\n\\N\n\\\\.\n\\\\N\n", &["a"], false), "\"\"\n\n\"\\.\"\n\\N\n");
        assert_eq!(csv(b"\\\\.\t\n", &["a", "b"], true), "a,b\n\\.,\"\"\n");
        assert_eq!(csv(b"\n\n", &[], true), "\n\n\n");
        let rows = b"a,b\t\"x\"\t1\\n2\\r\t\\t\\b\\f\\v \xc3\xbc\n";
        assert_eq!(
            csv(rows, &["a", "b", "c", "d"], false),
            "\"a,b\",\"\"\"x\"\"\",\"1\n2\r\",\t\u{8}\u{c}\u{b} ü\n"
        );
        assert_eq!(csv(b"1\n", &["a,\""], true), "\"a,\"\"\"\n1\n");
    }

    #[test]
    fn what_is_escaped_is_the_same_again() {
        let text: Vec<u8> = (1..=255).collect();
        let (mut escaped, mut again) = (Vec::new(), Vec::new());
        escape(&text, &mut escaped);
        unescape(&escaped, &mut again);
        assert_eq!(again, text);
    }
}
