//! Rust text, understood just enough for the rules: what is code, what is a comment, what is a string.

use std::ops::Range;

/// A source file with its comments and literals told apart from its code.
pub(crate) struct Code {
    /// The text with the inside of comments, strings and characters turned into spaces; lines stay lines.
    pub(crate) code: String,
    /// Where each string literal begins, and what stands between its quotes.
    pub(crate) strings: Vec<(usize, String)>,
}

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// From the word `fn` to the closing brace.
    pub(crate) range: Range<usize>,
}

impl Code {
    pub(crate) fn parse(text: &str) -> Code {
        let bytes = text.as_bytes();
        let mut code = bytes.to_vec();
        let mut strings = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let Some((inside, end)) = literal_or_comment(bytes, at) else {
                at += 1;
                continue;
            };
            if bytes[inside.start - 1] == b'"' {
                strings.push((at, text[inside.clone()].to_owned()));
            }
            blank(&mut code, inside);
            at = end;
        }
        Code { code: String::from_utf8(code).expect("only whole characters are blanked"), strings }
    }

    /// The same without items under `#[cfg(test)]`.
    pub(crate) fn without_tests(mut self) -> Code {
        const MARK: &str = "#[cfg(test)]";
        let mut from = 0;
        while let Some(found) = self.code[from..].find(MARK) {
            let start = from + found;
            let end = item_end(self.code.as_bytes(), start + MARK.len());
            let mut code = std::mem::take(&mut self.code).into_bytes();
            blank(&mut code, start..end);
            self.code = String::from_utf8(code).expect("only whole characters are blanked");
            self.strings.retain(|(at, _)| !(start..end).contains(at));
            from = end;
        }
        self
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for at in self.words("fn") {
            let rest = self.code[at + 2..].trim_start();
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let end = item_end(self.code.as_bytes(), at);
            // `fn(u8) -> u8` is a type, and a function of a trait may have no body.
            if !name.is_empty() && self.code[..end].ends_with('}') {
                functions.push(Function { name, range: at..end });
            }
        }
        functions
    }

    /// Where `word` stands alone in the code.
    pub(crate) fn words(&self, word: &str) -> Vec<usize> {
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
        let alone = |at: &usize| {
            let (before, after) = (&self.code[..*at], &self.code[*at + word.len()..]);
            !before.ends_with(part_of_word) && !after.starts_with(part_of_word)
        };
        self.code.match_indices(word).map(|(at, _)| at).filter(alone).collect()
    }

    /// Number of the line that holds byte `at`, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }
}

fn blank(bytes: &mut [u8], range: Range<usize>) {
    bytes[range].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// If a comment or a literal begins at `at`: what is inside of it, and where it ends.
fn literal_or_comment(bytes: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        let end = at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return Some((at + 2..end, end));
    }
    if rest.starts_with(b"/*") {
        let end = comment_end(bytes, at);
        return Some((at + 2..end, end));
    }
    match rest[0] {
        b'"' => Some(quoted(bytes, at, b'"')),
        b'\'' if is_character(rest) => Some(quoted(bytes, at, b'\'')),
        b'r' if !at.checked_sub(1).is_some_and(|before| is_word(bytes[before]) && bytes[before] != b'b') => {
            raw_string(bytes, at)
        }
        _ => None,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Comments nest.
fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn quoted(bytes: &[u8], start: usize, quote: u8) -> (Range<usize>, usize) {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    let end = at.min(bytes.len());
    (start + 1..end, (end + 1).min(bytes.len()))
}

/// `'x'` and `'\n'`, but not the lifetime `'x`.
fn is_character(rest: &[u8]) -> bool {
    let width = match rest.get(1) {
        None | Some(b'\'') => return false,
        Some(b'\\') => return true,
        Some(0..=0x7f) => 1,
        Some(0x80..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..) => 4,
    };
    rest.get(1 + width) == Some(&b'\'')
}

fn raw_string(bytes: &[u8], start: usize) -> Option<(Range<usize>, usize)> {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let inside = start + 1 + hashes + 1;
    if bytes.get(inside - 1) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = [b"\"".to_vec(), vec![b'#'; hashes]].concat();
    let length = bytes[inside..].windows(closing.len()).position(|window| window == closing)?;
    Some((inside..inside + length, inside + length + closing.len()))
}

/// Where the item ends that begins at `start`, in text without comments and literals: behind its last brace,
/// or behind the semicolon of one without.
fn item_end(code: &[u8], start: usize) -> usize {
    let (mut braces, mut others) = (0, 0);
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others -= 1,
            b'{' => braces += 1,
            b'}' => braces -= 1,
            _ => {}
        }
        // A parameter's closing bracket, met by a function type within it, ends the item as well.
        if others < 0 || braces < 0 || (others == 0 && braces == 0 && matches!(byte, b'}' | b';')) {
            return if braces < 0 { at } else { at + 1 };
        }
    }
    code.len()
}

#[test]
fn comments_and_literals_are_told_from_code() {
    let text = "a /* x /* y */ \" */ b // fn\n\"c\\\" // d\" 'e' '\\'' 'é' &'f g r#\"h\" {\"# br\"i\" r#j";
    let code = Code::parse(text);
    assert_eq!(code.code.len(), text.len());
    let words: Vec<&str> = code.code.split_whitespace().collect();
    assert_eq!(words[..4], ["a", "/*", "b", "//"]);
    assert!(code.code.ends_with("r#j") && code.code.contains("&'f g"));
    let strings: Vec<&str> = code.strings.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(strings, ["c\\\" // d", "h\" {", "i"]);
    assert_eq!(code.line(code.strings[0].0), 2);
}

#[test]
fn functions_and_tests_are_found() {
    let text = "trait T { fn a(&self) -> [u8; 2]; }\nfn b(c: fn(u8) -> u8) {\n  { }\n}\n\
        #[cfg(test)]\nmod tests { fn d() { \"x\" } }\nfn e() {}";
    let code = Code::parse(text);
    let lines = |f: &Function| (f.name.clone(), code.line(f.range.start), code.line(f.range.end - 1));
    let found: Vec<_> = code.functions().iter().map(lines).collect();
    assert_eq!(found, [("b".into(), 2, 4), ("d".into(), 6, 6), ("e".into(), 7, 7)]);
    let code = Code::parse(text).without_tests();
    let names: Vec<String> = code.functions().into_iter().map(|f| f.name).collect();
    assert_eq!((names, code.strings.len()), (vec!["b".to_owned(), "e".to_owned()], 0));
}
