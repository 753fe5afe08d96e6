//! What stands for something else in values: constants, variables of the environment, credentials.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::yaml::{Field, Node, Problem, Scalar, Value};

/// Keys below which texts are run by a shell, which puts in variables itself.
const COMMANDS: [&str; 5] = ["run", "dump", "restore", "encryption_passcommand", "passphrase_command"];
/// Key of the constants.
pub(super) const CONSTANTS: &str = "constants";
/// Where containers find their secrets.
const CONTAINER_SECRETS: &str = "/run/secrets";

/// Looks up a variable of the environment.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub(super) fn environment(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// Puts in everything, in the whole tree. What is not there is told in the result, and the value is marked as
/// unresolved: a command that does not need it can go on.
pub(super) fn resolve(root: &mut Node, lookup: Lookup<'_>) -> Vec<Problem> {
    let constants = root.get(CONSTANTS).map(|node| node.fields().to_vec()).unwrap_or_default();
    let mut resolver = Resolver { constants, lookup, missing: Vec::new() };
    if let Value::Map(fields) = &mut root.value {
        for field in fields.iter_mut().filter(|field| field.name != CONSTANTS) {
            let command = runs_in_shell(&field.name);
            resolver.node(&mut field.value, command);
        }
    }
    resolver.missing
}

/// True of keys whose value is text for a shell.
pub(super) fn runs_in_shell(key: &str) -> bool {
    let hook = key.starts_with("before_") || key.starts_with("after_") || key == "on_error";
    hook || COMMANDS.contains(&key)
}

struct Resolver<'a> {
    constants: Vec<Field>,
    lookup: Lookup<'a>,
    missing: Vec<Problem>,
}

impl Resolver<'_> {
    fn node(&mut self, node: &mut Node, command: bool) {
        if let Value::Scalar(scalar) = &node.value
            && let Some(constant) = self.constants.iter().find(|field| is_named(&scalar.text, &field.name))
            && !matches!(constant.value.value, Value::Scalar(_))
        {
            node.value = constant.value.value.clone();
        }
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.node(item, command)),
            Value::Map(fields) => {
                for field in fields {
                    let command = command || runs_in_shell(&field.name);
                    self.node(&mut field.value, command);
                }
            }
            Value::Scalar(scalar) => {
                let before = scalar.text.clone();
                let outcome = self.scalar(scalar, command);
                if scalar.text != before || outcome.is_err() {
                    scalar.written = Some(before);
                }
                if let Err(message) = outcome {
                    scalar.unresolved = true;
                    self.missing.push(Problem::new(&node.at, message));
                }
            }
        }
    }

    fn scalar(&self, scalar: &mut Scalar, command: bool) -> Result<(), String> {
        self.put_constants(scalar, command);
        if command {
            // The shell knows the same variables; values that it puts in stand in no argument of a program.
            scalar.text = scalar.text.replace("\\${", "${");
            return Ok(());
        }
        scalar.text = self.put_variables(&scalar.text)?;
        if let Some(words) = scalar.text.strip_prefix("{credential ").and_then(|rest| rest.strip_suffix('}'))
        {
            scalar.text = self.credential(words)?;
        }
        Ok(())
    }

    fn put_constants(&self, scalar: &mut Scalar, command: bool) {
        for Field { name, value, .. } in &self.constants {
            let mark = format!("{{{name}}}");
            let Some(constant) = value.as_scalar().filter(|_| scalar.text.contains(&mark)) else { continue };
            // A constant with a space in it is one word of a command.
            let quoted = if command { shlex::try_quote(&constant.text).ok() } else { None };
            scalar.text = scalar.text.replace(&mark, quoted.as_deref().unwrap_or(&constant.text));
        }
    }

    /// `${NAME}`, `${NAME:-default}` and `${NAME-default}`; `\${` stays a `${`.
    fn put_variables(&self, text: &str) -> Result<String, String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('\\') {
                out += before;
                out += "${";
                rest = &rest[at + 2..];
                continue;
            }
            let inner = &rest[at + 2..];
            let name_end =
                inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
            let (name, behind) = inner.split_at(name_end);
            let end = behind.find('}');
            let default = end.and_then(|end| {
                let behind = &behind[..end];
                behind.strip_prefix(":-").or_else(|| behind.strip_prefix('-'))
            });
            match end {
                Some(end) if !name.is_empty() && (end == 0 || default.is_some()) => {
                    out += &rest[..at];
                    // As in a shell: with :- an empty variable counts as absent.
                    let colon = behind.starts_with(':');
                    let found = (self.lookup)(name).filter(|value| !(colon && value.is_empty()));
                    match (found, default) {
                        (Some(value), _) => out += &value,
                        (None, Some(default)) => out += default,
                        (None, None) => return Err(format!("the environment has no {name}")),
                    }
                    rest = &behind[end + 1..];
                }
                // Something else that begins like it.
                _ => {
                    out += &rest[..at + 2];
                    rest = inner;
                }
            }
        }
        Ok(out + rest)
    }

    /// What a credential says: `file PATH`, `systemd NAME` or `container NAME`.
    fn credential(&self, words: &str) -> Result<String, String> {
        let words = shlex::split(words).unwrap_or_default();
        let path = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["file", path] => expand_home(path),
            ["systemd", name] if is_file_name(name) => {
                let directory = (self.lookup)("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!("systemd gave no credential {name}: there is no CREDENTIALS_DIRECTORY")
                })?;
                Path::new(&directory).join(name)
            }
            ["container", name] if is_file_name(name) => Path::new(CONTAINER_SECRETS).join(name),
            _ => {
                return Err("a credential is {credential file PATH}, {credential systemd NAME} or \
                            {credential container NAME}"
                    .into());
            }
        };
        let text =
            fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn is_named(text: &str, name: &str) -> bool {
    text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) == Some(name)
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/')
}

/// A path in which `~/` is the home directory of this user.
pub(crate) fn expand_home(path: &str) -> PathBuf {
    match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            etcetera::home_dir().map_or_else(|_| path.into(), |home| home.join(rest.trim_start_matches('/')))
        }
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn resolved(text: &str) -> (Node, Vec<String>) {
        let mut node = yaml::parse(&Path::new("c").into(), text).unwrap();
        let lookup = |name: &str| match name {
            "NAME" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let missing = resolve(&mut node, &lookup);
        (node, missing.into_iter().map(|problem| problem.to_string()).collect())
    }

    fn text(yaml: &str) -> String {
        let (node, missing) = resolved(yaml);
        assert_eq!(missing, [""; 0]);
        node.get("a").unwrap().as_scalar().unwrap().text.clone()
    }

    #[test]
    fn variables_of_the_environment_are_put_in() {
        for (from, to) in [
            ("a: x${NAME}y${NAME}", "xvaluey".to_owned() + "value"),
            ("a: ${NONE:-other one}", "other one".into()),
            ("a: ${EMPTY:-other}", "other".into()),
            ("a: ${EMPTY-other}z", "z".into()),
            ("a: ${NONE-}z", "z".into()),
            (r"a: \${NAME}", "${NAME}".into()),
            ("a: $NAME ${} ${a b} ${NAME", "$NAME ${} ${a b} ${NAME".into()),
        ] {
            assert_eq!(text(from), to, "{from}");
        }
    }

    #[test]
    fn what_is_absent_is_told_and_stops_nothing() {
        let (node, missing) = resolved("a: 1\nb:\n    - password: ${NONE}\n");
        assert_eq!(missing, ["c:3:17: the environment has no NONE"]);
        assert!(node.get("b").unwrap().items()[0].get("password").unwrap().as_scalar().unwrap().unresolved);
    }

    #[test]
    fn constants_are_put_in_and_quoted_for_shells() {
        let constants = "constants:\n    app: my app\n    list: [x, y]\n";
        assert_eq!(text(&format!("{constants}a: '{{app}}-1 {{other}}'")), "my app-1 {other}");
        let (node, _) =
            resolved(&format!("{constants}a: '{{list}}'\non_error:\n    - 'echo {{app}} ${{NONE}}'"));
        assert_eq!(node.get("a").unwrap().items().len(), 2);
        let command = &node.get("on_error").unwrap().items()[0];
        assert_eq!(command.as_scalar().unwrap().text, "echo 'my app' ${NONE}");
    }

    #[test]
    fn credentials_are_read_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(text(&format!("a: '{{credential file {}}}'", path.display())), "hunter2");
        for (bad, why) in [
            ("'{credential file /nonexistent}'", "cannot read /nonexistent"),
            ("'{credential systemd x}'", "CREDENTIALS_DIRECTORY"),
            ("'{credential keepassxc a b}'", "a credential is"),
            ("'{credential container ../x}'", "a credential is"),
        ] {
            let (_, missing) = resolved(&format!("a: {bad}"));
            assert!(missing[0].contains(why), "{missing:?}");
        }
    }
}
