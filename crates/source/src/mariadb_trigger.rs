//! The head of a trigger's definition, which servers keep as it was typed.
//!
//! Where the database was typed too, the definition would reach from the database that is loaded into the live one.

use std::ops::Range;

/// What a line with the beginning of a definition turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// No trigger is defined here.
    Other,
    /// The head goes on in the next line.
    More,
    /// The text without names of databases in its head.
    Whole(String),
    /// It can't be understood.
    Unknown,
}

/// What the dump programs write before every trigger.
const CREATE: &str = "/*!50003 CREATE*/";

/// Takes the names of databases out of the head of the trigger that `text` begins to define.
pub(crate) fn unqualified(text: &str) -> Head {
    if !text.starts_with(CREATE) {
        return Head::Other;
    }
    match head(&tokens(text), text) {
        Some(ranges) => {
            let mut text = text.to_owned();
            // From behind, so that what is left stays where it is.
            ranges.into_iter().flatten().rev().for_each(|range| text.replace_range(range, ""));
            Head::Whole(text)
        }
        None if complete(text) => Head::Unknown,
        None => Head::More,
    }
}

/// The head ends with the words `FOR EACH`; a definition ends with the delimiter.
fn complete(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    upper.trim_end().ends_with(";;") || upper.split_whitespace().any(|word| word == "EACH")
}

/// `TRIGGER [IF NOT EXISTS] [db.]name BEFORE|AFTER event ON [db.]table FOR`: what is to be taken out.
fn head(tokens: &[Range<usize>], text: &str) -> Option<[Option<Range<usize>>; 2]> {
    let word = |at: usize| tokens.get(at).map(|range| text[range.clone()].to_ascii_uppercase());
    let mut at = (0..tokens.len()).find(|at| word(*at).as_deref() == Some("TRIGGER"))? + 1;
    if word(at).as_deref() == Some("IF") && word(at + 1).as_deref() == Some("NOT") {
        at += 3;
    }
    let qualifier = |at: usize| {
        (word(at + 1).as_deref() == Some("."))
            .then(|| Some(tokens.get(at)?.start..tokens.get(at + 2)?.start))
            .flatten()
    };
    let name = qualifier(at);
    at += if name.is_some() { 3 } else { 1 };
    if !matches!(word(at).as_deref(), Some("BEFORE" | "AFTER")) {
        return None;
    }
    at = (at..tokens.len()).find(|at| word(*at).as_deref() == Some("ON"))? + 1;
    let table = qualifier(at);
    at += if table.is_some() { 3 } else { 1 };
    (word(at).as_deref() == Some("FOR")).then_some([name, table])
}

/// Words, names in quotes and single signs, without comment marks.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let is_word = |character: char| character.is_alphanumeric() || character == '_' || character == '$';
        let length = if let Some(mark) = rest.strip_prefix("/*!") {
            at += 3 + mark.find(|character: char| !character.is_ascii_digit()).unwrap_or(mark.len());
            continue;
        } else if rest.starts_with("*/") {
            at += 2;
            continue;
        } else if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if first == '`' || first == '\'' || first == '"' {
            quoted(rest, first)
        } else if is_word(first) {
            rest.find(|character| !is_word(character)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        tokens.push(at..at + length);
        at += length;
    }
    tokens
}

/// Length of the quoted name that `text` begins with, with its quotes; a doubled quote is part of it.
fn quoted(text: &str, quote: char) -> usize {
    let mut from = 1;
    while let Some(at) = text[from..].find(quote) {
        from += at + 1;
        if !text[from..].starts_with(quote) {
            return from;
        }
        from += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_databases_are_taken_out_of_heads_only() {
        let begin = "/*!50003 CREATE*/ /*!50017 DEFINER=`tri``gger`@`%`*/ /*!50003 ";
        for (head, want) in [
            ("trigger db.x before insert on db.t for each row", "trigger x before insert on t for each row"),
            (
                "TRIGGER `d.b`.`x` AFTER UPDATE ON `d.b` . `t` FOR EACH ROW",
                "TRIGGER `x` AFTER UPDATE ON `t` FOR EACH ROW",
            ),
            (
                "TRIGGER if not exists db.x\nAFTER DELETE\nON t FOR EACH ROW",
                "TRIGGER if not exists x\nAFTER DELETE\nON t FOR EACH ROW",
            ),
            ("TRIGGER x BEFORE INSERT ON t FOR EACH ROW", "TRIGGER x BEFORE INSERT ON t FOR EACH ROW"),
        ] {
            let rest = " DELETE FROM db.other WHERE a = 'on db.t for' */;;\n";
            assert_eq!(
                unqualified(&format!("{begin}{head}{rest}")),
                Head::Whole(format!("{begin}{want}{rest}"))
            );
        }
        assert_eq!(unqualified(&format!("{begin}trigger db.x\n")), Head::More);
        assert_eq!(
            unqualified(&format!("{begin}trigger x /* c */ before insert on t for each row y */;;\n")),
            Head::Unknown
        );
        assert_eq!(unqualified("CREATE TRIGGER db.x"), Head::Other);
    }
}
