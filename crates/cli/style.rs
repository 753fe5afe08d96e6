//! Colour, where the terminal and the user want it.

use std::env;
use std::io::{self, IsTerminal};

use crate::args::ColorChoice;

/// Whether text gets colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colored: bool,
}

impl Style {
    /// For what goes to standard error.
    pub(crate) fn for_stderr(choice: ColorChoice) -> Style {
        let colored = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => io::stderr().is_terminal() && terminal_wants_color(),
        };
        Style { colored }
    }

    /// True where text gets colour.
    pub(crate) fn is_colored(self) -> bool {
        self.colored
    }

    /// The heading of an error.
    pub(crate) fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// The heading of a warning.
    pub(crate) fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// The heading of a hint.
    pub(crate) fn hint(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colored { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// See <https://no-color.org>.
fn terminal_wants_color() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
