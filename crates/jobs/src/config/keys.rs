//! All keys of the configuration: what each takes, what it means, and what becomes of those that mean nothing here.
//!
//! One table for the loader, the schema, the reference in `docs/configuration.md` and the search for a key that was
//! meant.

mod databases;
mod files;
mod foreign;
mod monitoring;
mod top;

pub use databases::{COMMAND_DUMPS, DATABASES};
pub use files::FILES;
pub use foreign::FOREIGN;
pub use top::TOP;

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds where it is not given, in words; empty: nothing.
    pub default: &'static str,
    /// What it means, or for others than [`Effect::Yes`] why it means nothing.
    pub meaning: &'static str,
    /// What becomes of it.
    pub effect: Effect,
    /// Whether it must be given.
    pub required: bool,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is used.
    Yes,
    /// It is accepted, and nothing is lost by it having no effect.
    None,
    /// It is accepted, but what it asks for is not done: told at each backup.
    Missing,
    /// It is refused: without it something else would happen than was meant.
    Refused,
}

/// Keys in groups, so that databases can share some.
pub type Groups = &'static [&'static [Key]];

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text, or a number that is taken as text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A whole number from 0 to this.
    Number(u64),
    /// `true` or `false`.
    Flag,
    /// A path; `~/` is the home directory.
    Path,
    /// Words of a command or its arguments, as in a shell.
    Words,
    /// An age, such as `14d`.
    Age,
    /// A time, such as `30m`.
    Time,
    /// A text for a shell.
    Command,
    /// A list of texts for a shell, or one.
    Commands,
    /// A list of texts, or one.
    Texts,
    /// A list of paths, or one.
    Paths,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of some of these words.
    SomeOf(&'static [&'static str]),
    /// Keys; a text alone stands for the value of the named one.
    Map(Groups, Option<&'static str>),
    /// A list of such.
    Maps(Groups, Option<&'static str>),
    /// Anything.
    Anything,
}

impl Kind {
    /// What it is called in the reference.
    pub fn words(&self) -> String {
        match self {
            Kind::Text => "text".into(),
            Kind::Secret => "secret".into(),
            Kind::Number(_) => "number".into(),
            Kind::Flag => "true or false".into(),
            Kind::Path => "path".into(),
            Kind::Words => "words of a command".into(),
            Kind::Age => "age".into(),
            Kind::Time => "time".into(),
            Kind::Command => "shell command".into(),
            Kind::Commands => "list of shell commands".into(),
            Kind::Texts => "list of texts".into(),
            Kind::Paths => "list of paths".into(),
            Kind::OneOf(words) => words.join(", "),
            Kind::SomeOf(words) => format!("list of: {}", words.join(", ")),
            Kind::Map(..) => "keys".into(),
            Kind::Maps(..) => "list of keys".into(),
            Kind::Anything => "anything".into(),
        }
    }
}

impl Key {
    /// Whether one of the keys below it must be given.
    pub(crate) fn has_required(&self) -> bool {
        match self.kind {
            Kind::Map(groups, _) => groups.iter().flat_map(|group| group.iter()).any(|key| key.required),
            _ => false,
        }
    }
}

/// A key that is used.
const fn key(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning, effect: Effect::Yes, required: false }
}

/// A key that must be given.
const fn required(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { name, kind, default: "", meaning, effect: Effect::Yes, required: true }
}

/// A key without effect, and why nothing is lost.
const fn idle(name: &'static str, kind: Kind, why: &'static str) -> Key {
    Key { name, kind, default: "", meaning: why, effect: Effect::None, required: false }
}

/// A key that asks for what is not done, and what is to be done instead.
const fn missing(name: &'static str, kind: Kind, why: &'static str) -> Key {
    Key { name, kind, default: "", meaning: why, effect: Effect::Missing, required: false }
}

/// A key that is refused, and what to write instead.
const fn refused(name: &'static str, kind: Kind, why: &'static str) -> Key {
    Key { name, kind, default: "", meaning: why, effect: Effect::Refused, required: false }
}

/// The keys of the highest level.
pub const ROOT: Groups = &[TOP, FILES, DATABASES, COMMAND_DUMPS, monitoring::MONITORING, FOREIGN];

/// Sections of older files, whose keys are those of the highest level.
pub const SECTIONS: [&str; 6] = ["location", "storage", "retention", "consistency", "output", "hooks"];

/// The key of that name.
pub fn find(groups: Groups, name: &str) -> Option<&'static Key> {
    groups.iter().flat_map(|group| group.iter()).find(|key| key.name == name)
}

/// The name that was probably meant.
pub fn nearest(groups: Groups, name: &str) -> Option<&'static str> {
    /// Less alike than that is something else.
    const LIKENESS_MIN: f64 = 0.8;
    let alike = |key: &'static Key| (strsim::jaro_winkler(key.name, name), key.name);
    let all = groups.iter().flat_map(|group| group.iter()).map(alike);
    let best = all.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(groups: Groups) {
        let mut names: Vec<&str> = groups.iter().flat_map(|group| group.iter()).map(|key| key.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a key twice: {names:?}");
        for key in groups.iter().flat_map(|group| group.iter()) {
            assert!(!key.meaning.is_empty() && !key.meaning.ends_with('.'), "{}", key.name);
            assert!(!key.meaning.contains('|') && !key.default.contains('|'), "{}", key.name);
            if let Kind::Map(groups, _) | Kind::Maps(groups, _) = key.kind {
                check(groups);
            }
        }
    }

    #[test]
    fn every_key_is_there_once_and_says_what_it_means() {
        check(ROOT);
    }

    #[test]
    fn the_key_that_was_meant_is_found() {
        assert_eq!(nearest(ROOT, "postgres_databases"), Some("postgresql_databases"));
        assert_eq!(nearest(ROOT, "repository"), Some("repositories"));
        assert_eq!(nearest(ROOT, "keep_dayly"), Some("keep_daily"));
        assert_eq!(nearest(ROOT, "zzz"), None);
    }
}
