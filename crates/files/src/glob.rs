//! Shell patterns as regular expressions, with the meaning that Borg gives them.

use std::fmt::Write as _;

/// Which characters `*` and `?` stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stars {
    /// Any, slashes too: `fm:`.
    CrossSlashes,
    /// Those of one name; `**/` is any number of directories: `sh:`.
    StayInName,
}

/// The regular expression of a pattern, without anchors. A character is one of UTF-8, or one byte that is none.
pub(crate) fn to_regex(pattern: &str, stars: Stars) -> String {
    let any = match stars {
        Stars::CrossSlashes => r"(?:(?s:.)|(?-u:[\x80-\xff]))",
        Stars::StayInName => r"(?:[^/]|(?-u:[\x80-\xff]))",
    };
    let mut out = String::with_capacity(pattern.len() * 2);
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if stars == Stars::StayInName
            && let Some(after) = rest.strip_prefix("**/")
        {
            let _ = write!(out, "(?:{any}*/)*");
            rest = after;
            continue;
        }
        let after = &rest[first.len_utf8()..];
        rest = after;
        match first {
            '*' => drop(write!(out, "{any}*")),
            '?' => out.push_str(any),
            '[' => match class(after) {
                Some((class, after)) => {
                    out.push_str(&class);
                    rest = after;
                }
                None => out.push_str(r"\["),
            },
            _ => out.push_str(&regex::escape(first.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

/// What is in brackets, as a class of a regular expression, and what is behind; `None` where no bracket closes.
fn class(text: &str) -> Option<(String, &str)> {
    let (negated, members) = match text.strip_prefix('!') {
        Some(members) => (true, members),
        None => (false, text),
    };
    // A closing bracket that comes first is a member.
    let skipped = usize::from(members.starts_with(']'));
    let end = skipped + members[skipped..].find(']')?;
    let mut out = String::from(if negated { "[^" } else { "[" });
    let mut characters = members[..end].chars().peekable();
    let mut is_empty = true;
    while let Some(first) = characters.next() {
        let mut ahead = characters.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                characters = ahead;
                last
            }
            _ => first,
        };
        // A range that runs backwards has no member.
        if first <= last {
            is_empty = false;
            let _ = write!(out, r"\x{{{:x}}}-\x{{{:x}}}", u32::from(first), u32::from(last));
        }
    }
    let after = &members[end + 1..];
    match (is_empty, negated) {
        (false, _) => Some((out + "]", after)),
        (true, false) => Some((r"[^\x00-\x{10ffff}]".to_owned(), after)),
        (true, true) => Some((r"(?s:.)".to_owned(), after)),
    }
}
