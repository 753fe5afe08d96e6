//! What is changed in a dump on its way into a database beside the live one.
//!
//! Events are created asleep: awake, they would work on data that is only being tried out, and twice. Three things in
//! a dump name the database that it is of, and are led to the one that is loaded: defaults that draw from a sequence,
//! triggers that were typed so, and settings of the database around routines that were made under other ones. And the first line of newer dumps of
//! MariaDB is left out: older clients, and those of MySQL, take it for a mistake.

use std::collections::BTreeSet;
use std::io::{self, Read};

use crate::mariadb_stream::SqlDump;
use crate::mariadb_tools::identifier;
use crate::mariadb_trigger::{Head, unqualified};
use crate::{Error, Result};

/// Lines of more bytes than this are passed on as they are, but for their beginning: rows.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Size of one read, bytes.
const READ_BYTES: usize = 256 << 10;

const SANDBOX: &[u8] = b"/*M!999999\\- enable the sandbox mode */";
const EVENT: &[u8] = b"/*!50106 CREATE*/";
const COLUMN: &[u8] = b"  `";
const VIEW: &[u8] = b"/*!50001 VIEW ";
const ALTER: &str = "ALTER DATABASE ";
const AWAKE: &str = "PRESERVE ENABLE";
const ASLEEP: &str = "PRESERVE DISABLE";

/// What is done to each line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewrite {
    /// The database that is named, and the one that is to be named.
    pub(crate) database: Option<(String, String)>,
    /// Create events asleep.
    pub(crate) sleep: bool,
    /// Create these events awake, though they are asleep.
    pub(crate) wake: BTreeSet<String>,
}

impl Rewrite {
    /// The line in its new form, or none where it is left out. Names of events that were put to sleep go to `slept`.
    pub(crate) fn line(&self, line: &[u8], slept: &mut BTreeSet<String>) -> Option<Vec<u8>> {
        if line.starts_with(SANDBOX) {
            return None;
        }
        let Ok(text) = std::str::from_utf8(line) else { return Some(line.to_vec()) };
        if line.starts_with(EVENT) {
            return Some(self.event(text, slept).into_bytes());
        }
        if let Some((from, to)) = &self.database {
            if line.starts_with(COLUMN) {
                return Some(requalified(text, from, to).into_bytes());
            }
            if line.starts_with(VIEW) {
                return Some(columns_requalified(text, from, to).into_bytes());
            }
            let named =
                text.strip_prefix(ALTER).and_then(|rest| rest.strip_prefix(identifier(from).as_str()));
            if let Some(rest) = named.filter(|rest| rest.starts_with(' ')) {
                return Some(format!("{ALTER}{}{rest}", identifier(to)).into_bytes());
            }
        }
        Some(line.to_vec())
    }

    fn event(&self, text: &str, slept: &mut BTreeSet<String>) -> String {
        let Some((name, schedule)) = event_name(text) else { return text.to_owned() };
        let (head, tail) = text.split_at(schedule);
        if self.sleep && tail.contains(AWAKE) {
            slept.insert(name);
            format!("{head}{}", tail.replacen(AWAKE, ASLEEP, 1))
        } else if self.wake.contains(&name) {
            format!("{head}{}", tail.replacen(ASLEEP, AWAKE, 1))
        } else {
            text.to_owned()
        }
    }

    /// All of a text.
    pub(crate) fn text(&self, text: &str) -> Result<String> {
        let mut bytes = text.as_bytes();
        let mut changed = String::with_capacity(text.len());
        Filter::new(&mut bytes, self.clone())
            .read_to_string(&mut changed)
            .map_err(|error| Error::from_io("read routines", error))?;
        Ok(changed)
    }
}

/// The name of the event that a line creates, and where its schedule begins.
fn event_name(text: &str) -> Option<(String, usize)> {
    let begin = text.find(" EVENT `")? + " EVENT `".len();
    let mut name = String::new();
    let mut characters = text[begin..].char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '`' {
            name.push(character);
        } else if characters.next_if(|(_, next)| *next == '`').is_some() {
            name.push('`');
        } else {
            return Some((name, begin + at + 1));
        }
    }
    None
}

/// The line with the database `to` where a sequence of the database `from` is drawn from.
pub(crate) fn requalified(text: &str, from: &str, to: &str) -> String {
    let (from, to) = (identifier(from), identifier(to));
    ["nextval(", "lastval(", "setval("].iter().fold(text.to_owned(), |text, function| {
        text.replace(&format!("{function}{from}."), &format!("{function}{to}."))
    })
}

/// The line with the database `to` where columns are named with the database `from`, a table and their name. Servers
/// write them so where the owner of a view may not read its tables. A table may have the name of its database: names of
/// two parts stay.
fn columns_requalified(text: &str, from: &str, to: &str) -> String {
    let (from, to) = (format!("{}.", identifier(from)), format!("{}.", identifier(to)));
    let mut changed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let part = match first {
            '\'' => quoted_end(rest, '\''),
            '`' => {
                let of_column = |rest: &str| {
                    let table = quoted_end(rest, '`');
                    rest.starts_with('`') && rest[table..].starts_with(".`")
                };
                if rest.strip_prefix(from.as_str()).is_some_and(of_column) {
                    changed += &to;
                    rest = &rest[from.len()..];
                }
                // Whole, so that no part of it is taken for a database.
                let mut end = quoted_end(rest, '`');
                while rest[end..].starts_with(".`") {
                    end += 1 + quoted_end(&rest[end + 1..], '`');
                }
                end
            }
            other => other.len_utf8(),
        };
        changed += &rest[..part];
        rest = &rest[part..];
    }
    changed
}

/// Where the text or name ends that `text` begins with, in these quotes.
fn quoted_end(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\\' && quote != '`' {
            characters.next();
        } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// A dump on its way: checked and changed.
pub(crate) struct Filter<'a> {
    body: &'a mut dyn Read,
    rewrite: Rewrite,
    dump: SqlDump,
    slept: BTreeSet<String>,
    /// The line that has begun.
    line: Vec<u8>,
    /// The line is too long to be one that is changed.
    long: bool,
    ready: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(body: &'a mut dyn Read, rewrite: Rewrite) -> Filter<'a> {
        Filter {
            body,
            rewrite,
            dump: SqlDump::default(),
            slept: BTreeSet::new(),
            line: Vec::new(),
            long: false,
            ready: Vec::new(),
            given: 0,
            ended: false,
        }
    }

    /// Whether all of the dump was read; the dump as it was; the events that were put to sleep.
    pub(crate) fn finish(self) -> (bool, SqlDump, BTreeSet<String>) {
        (self.ended, self.dump, self.slept)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.given = 0;
        let mut piece = vec![0; READ_BYTES];
        while self.ready.is_empty() && !self.ended {
            let count = self.body.read(&mut piece)?;
            self.ended = count == 0;
            self.dump.feed(&piece[..count]);
            for part in piece[..count].split_inclusive(|byte| *byte == b'\n') {
                self.part(part)?;
            }
            if self.ended {
                self.end_line()?;
            }
        }
        Ok(())
    }

    fn part(&mut self, part: &[u8]) -> io::Result<()> {
        let ends = part.ends_with(b"\n");
        if self.long {
            self.ready.extend_from_slice(part);
            self.long = !ends;
            return Ok(());
        }
        self.line.extend_from_slice(part);
        if ends {
            return self.end_line();
        }
        if self.line.len() > LINE_BYTES_MAX {
            self.ready.append(&mut self.line);
            self.long = true;
        }
        Ok(())
    }

    fn end_line(&mut self) -> io::Result<()> {
        if !self.line.first().is_some_and(|byte| b"/ A".contains(byte)) {
            self.ready.append(&mut self.line);
            return Ok(());
        }
        if self.rewrite.database.is_some()
            && let Ok(text) = std::str::from_utf8(&self.line)
        {
            match unqualified(text) {
                Head::Other => {}
                Head::Whole(text) => self.line = text.into_bytes(),
                // The next line is added to it.
                Head::More if !self.ended && self.line.len() <= LINE_BYTES_MAX => return Ok(()),
                Head::More | Head::Unknown => {
                    let head: String = text.chars().take(200).collect();
                    let detail =
                        format!("a trigger can't be understood, so it is restored only in place: {head}");
                    return Err(Error::Unsuitable { name: "the dump".to_owned(), detail }.into_io());
                }
            }
        }
        self.ready.extend(self.rewrite.line(&self.line, &mut self.slept).unwrap_or_default());
        self.line.clear();
        Ok(())
    }
}

impl Read for Filter<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() && !buffer.is_empty() {
            self.fill()?;
        }
        let count = buffer.len().min(self.ready.len() - self.given);
        buffer[..count].copy_from_slice(&self.ready[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT_LINE: &str = "/*!50106 CREATE*/ /*!50117 DEFINER=`r`@`%`*/ /*!50106 EVENT `a``PRESERVE ENABLE` ON \
                              SCHEDULE EVERY 1 DAY ON COMPLETION NOT PRESERVE ENABLE DO SELECT 'PRESERVE ENABLE' */ ;;\n";

    #[test]
    fn columns_of_views_follow_their_database() {
        let view = "/*!50001 VIEW `v` AS select `s`.`t`.`a` AS `a`,'`s`.`t`.`a` it''s' AS `s`,`s`.`b` AS `b`,`o`.`s`.`t` \
                    from (`t` join `s`) */;";
        let want = "/*!50001 VIEW `v` AS select `x``y`.`t`.`a` AS `a`,'`s`.`t`.`a` it''s' AS `s`,`s`.`b` AS `b`,`o`.`s`.`t` \
                    from (`t` join `s`) */;";
        assert_eq!(columns_requalified(view, "s", "x`y"), want);
    }

    #[test]
    fn events_are_put_to_sleep_and_woken_again() {
        let sleep = Rewrite { sleep: true, ..Rewrite::default() };
        let mut slept = BTreeSet::new();
        let asleep = sleep.line(EVENT_LINE.as_bytes(), &mut slept).unwrap();
        let asleep = String::from_utf8(asleep).unwrap();
        assert!(
            asleep.contains("ON COMPLETION NOT PRESERVE DISABLE DO SELECT 'PRESERVE ENABLE'"),
            "{asleep}"
        );
        assert_eq!(slept, BTreeSet::from(["a`PRESERVE ENABLE".to_owned()]));
        let wake = Rewrite { wake: slept, ..Rewrite::default() };
        assert_eq!(wake.text(&asleep).unwrap(), EVENT_LINE);
        assert_eq!(Rewrite::default().text(&asleep).unwrap(), asleep, "others stay asleep");
    }

    #[test]
    fn only_what_must_be_is_changed_whatever_the_pieces() {
        let text = "/*M!999999\\- enable the sandbox mode */ \n  `id` int DEFAULT nextval(`app`.`s`),\nALTER DATABASE `app` CHARACTER SET x ;\nALTER DATABASE `app2` x ;\nINSERT INTO `t` \
                    VALUES\n('nextval(`app`.`s`)\\n  `');\n  `x` text DEFAULT 'é'\n-- Dump completed";
        let want = "  `id` int DEFAULT nextval(`new`.`s`),\nALTER DATABASE `new` CHARACTER SET x ;\nALTER DATABASE `app2` x ;\nINSERT INTO `t` \
                    VALUES\n('nextval(`app`.`s`)\\n  `');\n  `x` text DEFAULT 'é'\n-- Dump completed";
        let database = Some(("app".to_owned(), "new".to_owned()));
        let rewrite = Rewrite { database, sleep: true, ..Rewrite::default() };
        for size in [1, 2, 5, 1000] {
            let mut bytes = Pieces(text.as_bytes(), size);
            let mut filter = Filter::new(&mut bytes, rewrite.clone());
            let mut got = String::new();
            filter.read_to_string(&mut got).unwrap();
            assert_eq!(got, want);
            let (ended, dump, _) = filter.finish();
            assert!(ended && dump.finish().is_ok());
        }
    }

    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = buffer.len().min(self.1);
            self.0.read(&mut buffer[..size])
        }
    }
}
