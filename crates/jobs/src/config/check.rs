//! Whether a tree says what the table of keys allows.

use jiff::{SignedDuration, Span};

use super::interpolate::expand_home;
use super::keys::{self, Effect, Groups, Key, Kind, SECTIONS};
use super::yaml::{At, Field, Node, Problem, Scalar, Value};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// What is not done although it is asked for.
    pub(super) warnings: Vec<Problem>,
    /// What has no effect.
    pub(super) notes: Vec<Problem>,
    /// Where secrets stand in the open.
    pub(super) open_secrets: Vec<At>,
}

/// Lifts the keys of older files' sections to the highest level.
pub(super) fn flatten(root: Node, problems: &mut Vec<Problem>) -> Node {
    let Value::Map(fields) = root.value else {
        if !root.is_null() {
            problems.push(Problem::new(&root.at, "a configuration is made of keys and values"));
        }
        return Node::map(root.at, Vec::new());
    };
    let mut flat: Vec<Field> = Vec::new();
    for field in fields {
        let is_section = SECTIONS.contains(&field.name.as_str());
        match field.value.value {
            Value::Map(inner) if is_section => {
                inner.into_iter().for_each(|field| add(&mut flat, field, problems))
            }
            _ if is_section && field.value.is_null() => {}
            _ => add(&mut flat, field, problems),
        }
    }
    Node::map(root.at, flat)
}

fn add(flat: &mut Vec<Field>, field: Field, problems: &mut Vec<Problem>) {
    match flat.iter().find(|other| other.name == field.name) {
        // Two sections of older files have one, and it has no effect.
        Some(_) if field.name == "prefix" => {}
        Some(other) => {
            let message = format!("{} is there already, in line {}", field.name, other.at.line);
            problems.push(Problem::new(&field.at, message));
        }
        None => flat.push(field),
    }
}

/// Compares a map with the keys it may have.
pub(super) fn check(node: &Node, groups: Groups, found: &mut Found) {
    for field in node.fields() {
        let Some(key) = keys::find(groups, &field.name) else {
            found.problems.push(Problem::new(&field.at, unknown(groups, &field.name)));
            continue;
        };
        if !field.value.is_null() {
            check_key(field, key, found);
        }
    }
    let required = groups.iter().flat_map(|group| group.iter()).filter(|key| key.required);
    for key in required.filter(|key| node.get(key.name).is_none()) {
        found.problems.push(Problem::new(&node.at, format!("{} is missing", key.name)));
    }
}

fn unknown(groups: Groups, name: &str) -> String {
    match keys::nearest(groups, name) {
        Some(nearest) => format!("unknown key {name}; {nearest} is the nearest one there is"),
        None if SECTIONS.contains(&name) => format!("{name} is not a section with keys of its own"),
        None => format!("unknown key {name}"),
    }
}

fn check_key(field: &Field, key: &Key, found: &mut Found) {
    let told = |what: &str| Problem::new(&field.at, format!("{} {what}: {}", key.name, key.meaning));
    match key.effect {
        Effect::Yes => check_value(&field.value, key, key.kind, found),
        Effect::None => found.notes.push(told("has no effect")),
        Effect::Missing if asks_for_nothing(&field.value) => {}
        Effect::Missing => found.warnings.push(told("is not done")),
        Effect::Refused => found.problems.push(told("can't be used")),
    }
}

/// An empty list, or `false`.
fn asks_for_nothing(node: &Node) -> bool {
    node.items().is_empty() || node.as_scalar().is_some_and(|scalar| flag(&scalar.text) == Some(false))
}

fn check_value(node: &Node, key: &Key, kind: Kind, found: &mut Found) {
    let mut wrong =
        |what: String| found.problems.push(Problem::new(&node.at, format!("{} {what}", key.name)));
    match kind {
        Kind::Anything => {}
        Kind::Map(groups, short) | Kind::Maps(groups, short) => match &node.value {
            Value::Map(_) if matches!(kind, Kind::Map(..)) => check(node, groups, found),
            Value::List(items) if matches!(kind, Kind::Maps(..)) => {
                for item in items {
                    check_value(item, key, Kind::Map(groups, short), found);
                }
            }
            Value::Scalar(_) if short.is_some() => {
                let inner = short.and_then(|name| keys::find(groups, name));
                if let Some(inner) = inner {
                    check_value(node, inner, inner.kind, found);
                }
            }
            Value::Map(_) => wrong("is a list: each item begins with a dash".into()),
            _ => wrong(format!("takes {}", kind.words())),
        },
        Kind::Commands | Kind::Texts | Kind::Paths | Kind::SomeOf(_) => {
            let each = match kind {
                Kind::Commands => Kind::Command,
                Kind::Paths => Kind::Path,
                Kind::SomeOf(words) => Kind::OneOf(words),
                _ => Kind::Text,
            };
            match &node.value {
                Value::Map(_) => wrong(format!("takes a {}", kind.words())),
                _ => node.items().iter().for_each(|item| check_value(item, key, each, found)),
            }
        }
        _ => match &node.value {
            Value::Scalar(scalar) => {
                if matches!(kind, Kind::Secret) && scalar.written.is_none() {
                    found.open_secrets.push(node.at.clone());
                }
                let problem = if scalar.unresolved { None } else { scalar_problem(scalar, kind) };
                if let Some(problem) = problem {
                    found.problems.push(Problem::new(&node.at, format!("{} {problem}", key.name)));
                }
            }
            _ => wrong(format!("takes one value: {}", kind.words())),
        },
    }
}

/// What is wrong with a single value. The value itself may come from a variable, and is not told.
fn scalar_problem(scalar: &Scalar, kind: Kind) -> Option<String> {
    let text = scalar.text.as_str();
    match kind {
        Kind::Number(max) if text.parse::<u64>().map_or(true, |number| number > max) => {
            Some(format!("is not a number from 0 to {max}"))
        }
        Kind::Flag if flag(text).is_none() => Some("is neither true nor false".into()),
        Kind::Path if is_elsewhere(text) => {
            Some("is on another machine; name a directory, such as a mounted one".into())
        }
        Kind::Path if !expand_home(text).is_absolute() => Some("is not an absolute path".into()),
        Kind::Words if shlex::split(text).is_none() => Some("has a quote without its end".into()),
        Kind::Age if age(text).is_none() => Some("is not an age like 14d, 2w, 36h, 3mo or 1y".into()),
        Kind::Time if time(text).is_none() => Some("is not a time like 90s, 30m or 2h".into()),
        Kind::OneOf(words) if !words.contains(&text) => Some(format!("is not one of {}", words.join(", "))),
        _ => None,
    }
}

/// An URL, or a place as `ssh` writes it: `user@host:path`.
fn is_elsewhere(text: &str) -> bool {
    let head = text.split('/').next().unwrap_or_default();
    !head.is_empty() && head.contains(':')
}

/// `true` or `false`, also in the words of older YAML.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// An age in the words of `jiff`. Borg's units are taken as Borg means them: `m` is months, `H` hours.
pub(super) fn age(text: &str) -> Option<String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    let (number, unit) = text.split_at(digits);
    let text = match unit {
        "m" => format!("{number}mo"),
        "H" => format!("{number}h"),
        "M" => format!("{number}m"),
        _ => text.to_owned(),
    };
    let span: Span = text.parse().ok()?;
    (!span.is_negative()).then_some(text)
}

/// A time; a number alone is seconds.
pub(super) fn time(text: &str) -> Option<std::time::Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(std::time::Duration::from_secs(seconds));
    }
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_borg_and_ours() {
        let all = ["3H", "14d", "2w", "6m", "3mo", "1y", "90M"].map(|text| age(text).unwrap());
        assert_eq!(all, ["3h", "14d", "2w", "6mo", "3mo", "1y", "90m"]);
        assert!(["", "d", "-3d", "soon", "3 x"].iter().all(|bad| age(bad).is_none()));
        assert_eq!(time("90"), Some(std::time::Duration::from_secs(90)));
        assert_eq!(time("2h"), Some(std::time::Duration::from_secs(7200)));
        assert!(time("-2h").is_none() && time("x").is_none());
    }
}
