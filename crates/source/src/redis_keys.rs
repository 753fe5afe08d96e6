//! How many keys does an RDB file hold? Its frame is followed as it streams by; values are passed over.
//!
//! Only keys that never expire are counted: of the others, nobody can say how many a later load still finds.

use std::collections::BTreeMap;

/// `REDIS` or `VALKEY` and digits of a version.
const HEAD_BYTES: u64 = 9;
/// What follows the byte that ends the data.
const CHECKSUM_BYTES: u64 = 8;

/// What comes next in the file.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The byte that says what follows: a key with its value, or something else.
    What,
    /// So many bytes.
    Skip(u64),
    /// A length, or another number in that form.
    Number,
    /// The number of a database.
    Database,
    /// A number, and so many times these.
    Times(&'static [Step]),
    /// These, so many times.
    Repeat(u64, &'static [Step]),
    /// A text, packed or not.
    Text,
    /// A number with a fraction, as old versions write it.
    Decimal,
    /// What a module has written, to its end.
    Module,
}

use Step::{Decimal, Module, Number, Skip, Text, Times};

const PAIR: &[Step] = &[Text, Text];
const PENDING: Step = Times(&[Skip(24), Number]);
const READ: Step = Times(&[Skip(16)]);
const GROUP_1: Step = Times(&[Text, Number, Number, PENDING, Times(&[Text, Skip(8), READ])]);
const GROUP_2: Step = Times(&[Text, Number, Number, Number, PENDING, Times(&[Text, Skip(8), READ])]);
const GROUP_3: Step = Times(&[Text, Number, Number, Number, PENDING, Times(&[Text, Skip(16), READ])]);
const STREAM_1: &[Step] = &[Times(PAIR), Number, Number, Number, GROUP_1];
const STREAM_2: &[Step] =
    &[Times(PAIR), Number, Number, Number, Number, Number, Number, Number, Number, GROUP_2];
const STREAM_3: &[Step] =
    &[Times(PAIR), Number, Number, Number, Number, Number, Number, Number, Number, GROUP_3];

/// The parts of a value, by the byte that tells its type; `None`: a type of a version to come, or of no version that
/// was ever released.
fn value(kind: u8) -> Option<&'static [Step]> {
    Some(match kind {
        0 | 9..=13 | 16 | 17 | 20 => &[Text],
        1 | 2 | 14 => &[Times(&[Text])],
        3 => &[Times(&[Text, Decimal])],
        4 => &[Times(PAIR)],
        5 => &[Times(&[Text, Skip(8)])],
        7 => &[Number, Module],
        15 => STREAM_1,
        18 => &[Times(&[Number, Text])],
        19 => STREAM_2,
        21 => STREAM_3,
        _ => return None,
    })
}

/// What follows a byte that tells of no key.
fn other(what: u8) -> Option<&'static [Step]> {
    Some(match what {
        0xF4 => &[Number, Number, Number],
        0xF5 => &[Text],
        0xF7 => &[Number, Module],
        0xF8 => &[Number],
        0xF9 => &[Skip(1)],
        0xFA => PAIR,
        0xFB => &[Number, Number],
        0xFC => &[Skip(8)],
        0xFD => &[Skip(4)],
        0xFE => &[Step::Database],
        _ => return None,
    })
}

/// Counts the keys of a file that is fed piece by piece.
#[derive(Debug)]
pub(crate) struct KeyCounts {
    /// What comes, the next last.
    steps: Vec<Step>,
    /// The beginning of what can't be told yet.
    held: Vec<u8>,
    database: u64,
    expires: bool,
    keys: BTreeMap<u64, u64>,
    ended: bool,
    /// Something is there that is not understood.
    lost: bool,
}

impl Default for KeyCounts {
    fn default() -> KeyCounts {
        KeyCounts {
            steps: vec![Step::What, Skip(HEAD_BYTES)],
            held: Vec::new(),
            database: 0,
            expires: false,
            keys: BTreeMap::new(),
            ended: false,
            lost: false,
        }
    }
}

impl KeyCounts {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.lost {
            match self.steps.pop() {
                Some(Step::Repeat(0, _) | Skip(0)) => {}
                Some(Step::Repeat(times, steps)) => {
                    self.steps.push(Step::Repeat(times - 1, steps));
                    self.come(steps);
                }
                Some(step) if bytes.is_empty() => {
                    self.steps.push(step);
                    return;
                }
                Some(Skip(count)) => {
                    let here = bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                    bytes = &bytes[here..];
                    self.steps.push(Skip(count - here as u64));
                }
                Some(step) => {
                    self.held.push(bytes[0]);
                    bytes = &bytes[1..];
                    self.steps.push(step);
                    self.look(step);
                }
                None if bytes.is_empty() => return,
                None => self.lost = true,
            }
        }
    }

    fn come(&mut self, steps: &[Step]) {
        self.steps.extend(steps.iter().rev());
    }

    /// Is what is held all that the step needs? Then it is done.
    fn look(&mut self, step: Step) {
        let first = self.held[0];
        let found = match step {
            Step::What => {
                self.done(&[]);
                return self.what(first);
            }
            Decimal => {
                let bytes = if first >= 253 { 0 } else { u64::from(first) };
                return self.done(&[Skip(bytes)]);
            }
            Text if first >> 6 == 3 => packed(&self.held),
            _ => number(&self.held).map(Found::Number),
        };
        match (step, found) {
            (_, None) => {}
            (_, Some(Found::Strange)) => self.lost = true,
            (Text, Some(Found::Number(count))) => self.done(&[Skip(count)]),
            (Times(steps), Some(Found::Number(times))) => self.done(&[Step::Repeat(times, steps)]),
            (Step::Database, Some(Found::Number(number))) => {
                self.database = number;
                self.done(&[]);
            }
            (Module, Some(Found::Number(kind))) => match kind {
                0 => self.done(&[]),
                1 | 2 => self.done(&[Number, Module]),
                3 => self.done(&[Skip(4), Module]),
                4 => self.done(&[Skip(8), Module]),
                5 => self.done(&[Text, Module]),
                _ => self.lost = true,
            },
            (_, Some(Found::Number(_))) => self.done(&[]),
        }
    }

    /// The step that was looked at is over; these come in its place.
    fn done(&mut self, instead: &[Step]) {
        self.steps.pop();
        self.held.clear();
        self.come(instead);
    }

    fn what(&mut self, what: u8) {
        if what == 0xFF {
            self.ended = true;
            self.steps.push(Skip(CHECKSUM_BYTES));
            return;
        }
        self.steps.push(Step::What);
        if let Some(steps) = other(what) {
            self.expires |= matches!(what, 0xFC | 0xFD);
            self.come(steps);
        } else if let Some(steps) = value(what) {
            if !std::mem::take(&mut self.expires) {
                *self.keys.entry(self.database).or_default() += 1;
            }
            self.come(steps);
            self.steps.push(Text);
        } else {
            self.lost = true;
        }
    }

    /// Keys that never expire, of each database that has some; `None` where the file was not understood to its end.
    pub(crate) fn finish(mut self) -> Option<BTreeMap<String, u64>> {
        self.feed(&[]);
        let whole = self.ended && !self.lost && self.steps.is_empty();
        whole.then(|| self.keys.into_iter().map(|(number, keys)| (format!("db{number}"), keys)).collect())
    }
}

enum Found {
    Number(u64),
    Strange,
}

/// The number that `held` is the beginning of, or all.
fn number(held: &[u8]) -> Option<u64> {
    let (first, rest) = held.split_first()?;
    let big = |count: usize| {
        rest.get(..count).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    match first >> 6 {
        0 => Some(u64::from(*first)),
        1 => big(1).map(|low| u64::from(first & 0x3F) << 8 | low),
        2 if *first == 0x80 => big(4),
        _ => big(8),
    }
}

/// How many bytes follow of a text that is packed: a small number, or one compressed.
fn packed(held: &[u8]) -> Option<Found> {
    match held[0] & 0x3F {
        0 => Some(Found::Number(1)),
        1 => Some(Found::Number(2)),
        2 => Some(Found::Number(4)),
        3 => {
            let compressed = number(&held[1..])?;
            let used = match held[1] >> 6 {
                0 => 1,
                1 => 2,
                _ if held[1] == 0x80 => 5,
                _ => 9,
            };
            number(&held[1 + used..]).map(|_| Found::Number(compressed))
        }
        _ => Some(Found::Strange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(body: &[u8], piece: usize) -> Option<BTreeMap<String, u64>> {
        let file = [b"REDIS0011".as_slice(), body].concat();
        let mut keys = KeyCounts::default();
        file.chunks(piece).for_each(|bytes| keys.feed(bytes));
        keys.finish()
    }

    #[test]
    fn keys_that_stay_are_counted_in_pieces_of_any_size() {
        let long = [&[0x42, 0x58], [b'x'; 600].as_slice()].concat();
        let parts: [&[u8]; 11] = [
            b"\xFA\x03ver\xC0\x07",
            b"\xFE\x00\xFB\x04\x01",
            b"\x00\x01a\xC2\x01\x02\x03\x04",
            b"\xFC\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01b\x01v",
            b"\x00\x01c\xC3\x02\x0Aab",
            b"\x05\x01d\x02\x01m\x01\x02\x03\x04\x05\x06\x07\x08\x01n\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\x04\x01e\x00",
            b"\xFE\x03\x12\x01f\x01\x02",
            &long,
            b"\x03\x01g\x02\x01m\xFF\x01n\x031.5",
            b"\xFF12345678",
        ];
        let file = parts.concat();
        for piece in [1, 2, 3, 7, 100, 5000] {
            let want = BTreeMap::from([("db0".to_owned(), 4), ("db3".to_owned(), 2)]);
            assert_eq!(counted(&file, piece), Some(want), "{piece}");
        }
        for length in 0..file.len() {
            assert_eq!(counted(&file[..length], 64), None, "cut after {length}");
        }
        assert_eq!(counted(&[&file, b"x".as_slice()].concat(), 64), None);
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(counted(b"\x63\x01a\x01b\xFF12345678", 10), None);
        assert_eq!(counted(b"\x00\x01a\xC7\xFF12345678", 10), None);
    }
}
