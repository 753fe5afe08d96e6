//! Text from outside cannot drive the terminal: what is not plain text is shown as its code.

use std::borrow::Cow;

/// `text` with control characters and invisible directives escaped, line breaks too.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, |character| !acts(character))
}

/// `text` with all but its line breaks and tabs escaped.
pub(crate) fn block(text: &str) -> Cow<'_, str> {
    escape(text, |character| matches!(character, '\n' | '\t') || !acts(character))
}

/// Control characters, and characters that re-order or split what stands around them.
fn acts(character: char) -> bool {
    let directive = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    character.is_control() || directive
}

fn escape(text: &str, plain: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&plain) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|character| match plain(character) {
        true => character.to_string(),
        false => character.escape_default().to_string(),
    });
    Cow::Owned(escaped.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_passes_as_it_is() {
        for plain in ["", "users", "größe 漢字 🗄", "a\\b 'c' \"d\""] {
            assert!(matches!(line(plain), Cow::Borrowed(same) if same == plain));
        }
    }

    #[test]
    fn whatever_drives_a_terminal_is_escaped() {
        assert_eq!(line("a\u{1b}[31mb\nc\r\u{7f}\u{9b}"), "a\\u{1b}[31mb\\nc\\r\\u{7f}\\u{9b}");
        assert_eq!(line("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(block("a\n\tb\r\u{1b}"), "a\n\tb\\r\\u{1b}");
        for code in (0..0x20).chain(0x7f..0xa0) {
            let text = char::from_u32(code).unwrap().to_string();
            assert!(line(&text).chars().all(|character| !character.is_control()), "{code:#x}");
        }
    }
}
