//! A configuration as text again: for people without its secrets, for a new file as it was written.

use std::fmt::Write;

use serde_json::Value as Json;

use super::Config;
use super::check::flag;
use super::keys::{Effect, Groups, Key, Kind, ROOT, find};
use super::yaml::{Field, Node, Scalar, Value};

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// Which keys are written, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// What has an effect, as it is after constants, variables and credentials were put in; secrets hidden.
    Effective,
    /// All but what means nothing here, as it was written.
    Written,
}

impl Config {
    /// The effective configuration as YAML, without secrets. What runs in a shell, and arguments of programs, stand
    /// there as they are written in the file, before variables are put in.
    pub fn show(&self) -> String {
        self.tree.as_ref().map_or_else(String::new, |tree| yaml(tree, Form::Effective))
    }

    /// The same as JSON.
    pub fn show_json(&self) -> Json {
        self.tree.as_ref().map_or_else(|| Json::Object(serde_json::Map::new()), |tree| json_map(tree, ROOT))
    }
}

/// A tree as YAML.
pub(super) fn yaml(root: &Node, form: Form) -> String {
    let mut text = String::new();
    write_map(&mut text, root, Some(ROOT), form, 0);
    text
}

/// The fields of a map that are written, each with what is known of its key.
fn shown<'a>(
    node: &'a Node,
    groups: Option<Groups>,
    form: Form,
) -> impl Iterator<Item = (&'a Field, Option<&'static Key>)> {
    let known = move |field: &'a Field| (field, groups.and_then(|groups| find(groups, &field.name)));
    let wanted = move |(field, key): &(&Field, Option<&Key>)| match (form, key) {
        // Of these keys it is enough that they are there.
        (_, Some(key)) if field.value.is_null() => {
            matches!(key.kind, Kind::Map(_, None)) && !key.has_required()
        }
        _ if field.value.is_null() => false,
        (Form::Effective, Some(key)) => key.effect == Effect::Yes && !matches!(key.kind, Kind::Anything),
        (Form::Written, Some(key)) => key.effect != Effect::None,
        (_, None) => form == Form::Written,
    };
    node.fields().iter().map(known).filter(wanted)
}

fn groups_below(key: Option<&Key>) -> Option<Groups> {
    match key?.kind {
        Kind::Map(groups, _) | Kind::Maps(groups, _) => Some(groups),
        _ => None,
    }
}

fn write_map(text: &mut String, node: &Node, groups: Option<Groups>, form: Form, indent: usize) {
    for (field, key) in shown(node, groups, form) {
        let _ = write!(text, "{:indent$}{}:", "", scalar_text(&field.name));
        write_value(text, &field.value, key, form, indent);
    }
}

/// The value behind `key:` or a dash, up to the end of its last line.
fn write_value(text: &mut String, node: &Node, key: Option<&Key>, form: Form, indent: usize) {
    match &node.value {
        Value::Scalar(_) if node.is_null() => *text += " {}\n",
        Value::Scalar(scalar) => {
            let _ = writeln!(text, " {}", scalar_text(&words(scalar, key, form)));
        }
        Value::List(items) if items.is_empty() => *text += " []\n",
        Value::Map(fields) if fields.is_empty() => *text += " {}\n",
        Value::Map(_) => {
            *text += "\n";
            write_map(text, node, groups_below(key), form, indent + 4);
        }
        Value::List(items) => {
            *text += "\n";
            for item in items {
                let _ = write!(text, "{:1$}-", "", indent + 4);
                match &item.value {
                    Value::Map(_) => {
                        let mut inner = String::new();
                        write_map(&mut inner, item, groups_below(key), form, indent + 6);
                        let inner = if inner.is_empty() { "{}\n" } else { inner.trim_start() };
                        let _ = write!(text, " {inner}");
                    }
                    _ => write_value(text, item, key, form, indent + 4),
                }
            }
        }
    }
}

/// A single value as it may be seen.
fn words(scalar: &Scalar, key: Option<&Key>, form: Form) -> String {
    let written = || scalar.written.as_ref().unwrap_or(&scalar.text);
    if form == Form::Written {
        return written().clone();
    }
    // A text alone stands for one key of several.
    let kind = match key.map(|key| key.kind) {
        Some(Kind::Map(groups, Some(short)) | Kind::Maps(groups, Some(short))) => {
            find(groups, short).map(|key| key.kind)
        }
        kind => kind,
    };
    match kind {
        Some(Kind::Secret) => HIDDEN.into(),
        Some(Kind::Command | Kind::Commands) => without_userinfo(written()),
        Some(Kind::Words) => without_userinfo(&without_passwords(written())),
        _ if written().contains("{credential ") => written().clone(),
        _ => without_userinfo(&scalar.text),
    }
}

/// Arguments without the value of any that is called like a secret.
fn without_passwords(text: &str) -> String {
    const SECRETS: [&str; 5] = ["password", "passwd", "pwd", "secret", "token"];
    let mut hide_next = false;
    let mut out: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let name = word.split('=').next().unwrap_or_default().to_lowercase();
        let secret = word.starts_with('-') && SECRETS.iter().any(|secret| name.contains(secret));
        let short =
            word.starts_with("-p") && word.len() > 2 && !word[2..].bytes().all(|byte| byte.is_ascii_digit());
        out.push(match word.split_once('=') {
            _ if hide_next => HIDDEN.into(),
            Some((name, _)) if secret => format!("{name}={HIDDEN}"),
            _ if short => format!("-p{HIDDEN}"),
            _ => word.to_owned(),
        });
        hide_next = secret && !word.contains('=');
    }
    out.join(" ")
}

/// A text without the passwords of the URLs in it.
fn without_userinfo(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out += before;
        let authority = &behind[..behind.find(['/', '?', ' ', '"', '\'']).unwrap_or(behind.len())];
        rest = behind;
        if let Some((user, _)) = authority.rsplit_once('@').and_then(|(userinfo, _)| userinfo.split_once(':'))
        {
            let _ = write!(out, "{user}:{HIDDEN}");
            rest = &behind[authority.rfind('@').unwrap_or(0)..];
        }
    }
    out + rest
}

/// A text as YAML: in quotes where it would be read as something else without.
fn scalar_text(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_./,+@%-".contains(c);
    let begins = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/';
    let word = matches!(text.to_lowercase().as_str(), "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if text.starts_with(begins) && text.chars().all(harmless) && !word {
        return text.to_owned();
    }
    // A JSON string is a YAML string too.
    Json::from(text).to_string()
}

fn json_map(node: &Node, groups: Groups) -> Json {
    let fields = shown(node, Some(groups), Form::Effective);
    Json::Object(fields.map(|(field, key)| (field.name.clone(), json(&field.value, key))).collect())
}

fn json(node: &Node, key: Option<&Key>) -> Json {
    match &node.value {
        Value::List(items) => items.iter().map(|item| json(item, key)).collect(),
        Value::Map(_) => groups_below(key).map_or(Json::Null, |groups| json_map(node, groups)),
        Value::Scalar(_) if node.is_null() => Json::Object(serde_json::Map::new()),
        Value::Scalar(scalar) => {
            let text = words(scalar, key, Form::Effective);
            let typed = match key.map(|key| key.kind) {
                Some(Kind::Number(_)) => text.parse::<u64>().ok().map(Json::from),
                Some(Kind::Flag) => flag(&text).map(Json::from),
                _ => None,
            };
            typed.unwrap_or_else(|| text.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_arguments_and_urls_are_hidden() {
        for (text, shown) in [
            ("--skip-comments --password=x -v", "--skip-comments --password=*** -v"),
            ("--password x --host h", "--password *** --host h"),
            ("-p5433 -phunter2", "-p5433 -p***"),
            ("--uri=mongodb://u:p@h/db x", "--uri=mongodb://u:***@h/db x"),
            ("curl https://h/a@b:c http://u:a:b@h", "curl https://h/a@b:c http://u:***@h"),
        ] {
            assert_eq!(without_userinfo(&without_passwords(text)), shown);
        }
    }

    #[test]
    fn texts_that_mean_something_else_are_quoted() {
        for plain in ["users", "/var/lib/a.db", "db1.example.org", "5433", "true"] {
            assert_eq!(scalar_text(plain), plain);
        }
        for quoted in ["", "~", "no", "a: b", "{x}", "- x", "#x", "a #b", "x\ny", "*a", "ä"] {
            assert!(scalar_text(quoted).starts_with('"'), "{quoted}");
        }
    }
}
