//! `!include`: parts of a configuration in files of their own, and how they are joined.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::yaml::{self, Field, Node, Problem, Value};

/// Largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most files within files.
const DEPTH_MAX: usize = 16;

const INCLUDE: &str = "!include";
const RETAIN: &str = "!retain";
const OMIT: &str = "!omit";
/// The key under which a map takes over what another one says.
const MERGE: &str = "<<";

/// Why a configuration could not be read.
pub(super) enum Failure {
    /// The system did not give the file.
    Io(PathBuf, std::io::Error),
    /// What is in it is wrong.
    Wrong(Problem),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::Wrong(problem)
    }
}

/// Reads the file at `path` with all that it includes; `files` gets the path of each that was read.
pub(super) fn load(path: &Path, files: &mut Vec<PathBuf>) -> Result<Node, Failure> {
    let text = read(path).map_err(|source| Failure::Io(path.to_owned(), source))?;
    let mut stack = vec![path.to_owned()];
    files.push(path.to_owned());
    let node = yaml::parse(&path.into(), &text)?;
    let node = Includer { files, stack: &mut stack }.resolve(node)?;
    no_tags_left(&node)?;
    Ok(node)
}

/// A file of text, and no longer than [`FILE_BYTES_MAX`].
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let length = fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "too large for a configuration"));
    }
    Ok(text)
}

struct Includer<'a> {
    files: &'a mut Vec<PathBuf>,
    /// The files that include each other, outermost first.
    stack: &'a mut Vec<PathBuf>,
}

impl Includer<'_> {
    /// Puts in what is included, and joins maps with what they take over.
    fn resolve(&mut self, node: Node) -> Result<Node, Failure> {
        if node.tag.as_deref() == Some(INCLUDE) {
            return self.include(&node);
        }
        let Node { at, tag, value } = node;
        let value = match value {
            Value::List(items) => {
                Value::List(items.into_iter().map(|item| self.resolve(item)).collect::<Result<_, _>>()?)
            }
            Value::Map(fields) => Value::Map(self.join(fields)?),
            scalar => scalar,
        };
        Ok(Node { at, tag, value })
    }

    fn join(&mut self, fields: Vec<Field>) -> Result<Vec<Field>, Failure> {
        let (mut base, mut own) = (Vec::new(), Vec::new());
        for field in fields {
            let Field { at, name, value } = field;
            let value = self.resolve(value)?;
            if name != MERGE {
                own.push(Field { at, name, value });
                continue;
            }
            for item in value.items() {
                let Value::Map(fields) = &item.value else {
                    return Err(Problem::new(&item.at, "only a map can be joined by <<").into());
                };
                base = merge_fields(base, fields.clone());
            }
        }
        Ok(if base.is_empty() { own } else { merge_fields(base, own) })
    }

    /// The files that `node` names, joined where there are several.
    fn include(&mut self, node: &Node) -> Result<Node, Failure> {
        let mut joined: Option<Node> = None;
        for item in node.items() {
            let Some(scalar) = item.as_scalar() else {
                return Err(Problem::new(&item.at, "!include needs the path of a file").into());
            };
            let included = self.include_file(item, Path::new(&scalar.text))?;
            joined = Some(match joined {
                Some(base) => merge(base, included),
                None => included,
            });
        }
        joined.ok_or_else(|| Problem::new(&node.at, "!include needs the path of a file").into())
    }

    fn include_file(&mut self, node: &Node, path: &Path) -> Result<Node, Failure> {
        let from = node.at.file.parent().unwrap_or(Path::new("."));
        let path = from.join(path);
        if self.stack.contains(&path) || self.stack.len() > DEPTH_MAX {
            return Err(Problem::new(&node.at, format!("{} includes itself", path.display())).into());
        }
        let text = read(&path)
            .map_err(|error| Problem::new(&node.at, format!("cannot read {}: {error}", path.display())))?;
        if !self.files.contains(&path) {
            self.files.push(path.clone());
        }
        let parsed = yaml::parse(&Arc::from(path.as_path()), &text)?;
        self.stack.push(path);
        let resolved = self.resolve(parsed);
        self.stack.pop();
        resolved
    }
}

/// `own` over `base`: maps are joined key by key, lists one behind the other, anything else is replaced.
fn merge(base: Node, own: Node) -> Node {
    if own.tag.as_deref() == Some(RETAIN) {
        return Node { tag: None, ..own };
    }
    let value = match (base.value, own.value) {
        (Value::Map(base), Value::Map(own)) => Value::Map(merge_fields(base, own)),
        (Value::List(base), Value::List(own)) => Value::List(merge_items(base, own)),
        (_, own) => own,
    };
    Node { at: own.at, tag: own.tag, value }
}

fn merge_fields(mut base: Vec<Field>, own: Vec<Field>) -> Vec<Field> {
    for Field { at, name, value } in own {
        match base.iter_mut().find(|field| field.name == name) {
            Some(field) => {
                let old = std::mem::replace(&mut field.value, Node::text(at.clone(), ""));
                *field = Field { at, name, value: merge(old, value) };
            }
            None => base.push(Field { at, name, value }),
        }
    }
    base
}

fn merge_items(mut base: Vec<Node>, own: Vec<Node>) -> Vec<Node> {
    for item in own {
        if item.tag.as_deref() == Some(OMIT) {
            base.retain(|other| !same(other, &item));
        } else {
            base.push(item);
        }
    }
    base
}

/// Whether two values say the same, wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Scalar(one), Value::Scalar(other)) => one.text == other.text,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            let alike =
                |(one, other): (&Field, &Field)| one.name == other.name && same(&one.value, &other.value);
            one.len() == other.len() && one.iter().zip(other).all(alike)
        }
        _ => false,
    }
}

/// A tag that did nothing was meant to do something.
fn no_tags_left(node: &Node) -> Result<(), Problem> {
    match node.tag.as_deref() {
        Some(tag @ (RETAIN | OMIT)) => {
            return Err(Problem::new(&node.at, format!("{tag} changes nothing: no file is joined here")));
        }
        Some(tag) => return Err(Problem::new(&node.at, format!("unknown tag {tag}"))),
        None => {}
    }
    match &node.value {
        Value::Scalar(_) => Ok(()),
        Value::List(items) => items.iter().try_for_each(no_tags_left),
        Value::Map(fields) => fields.iter().try_for_each(|field| no_tags_left(&field.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_files(files: &[(&str, &str)]) -> Result<(Node, usize), String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let mut read = Vec::new();
        match load(&directory.path().join(files[0].0), &mut read) {
            Ok(node) => Ok((node, read.len())),
            Err(Failure::Wrong(problem)) => Err(problem.message),
            Err(Failure::Io(_, error)) => Err(error.to_string()),
        }
    }

    fn texts(node: &Node, name: &str) -> Vec<String> {
        let items = node.get(name).unwrap().items().iter();
        items.map(|item| item.as_scalar().unwrap().text.clone()).collect()
    }

    #[test]
    fn an_included_file_is_joined_with_what_is_said_beside_it() {
        let main =
            "<<: !include common.yaml\nkeep_daily: 3\nlist: [c]\nown: !retain [c]\nless:\n    - !omit b\n";
        let common = "keep_daily: 7\nkeep_weekly: 4\nlist: [a, b]\nown: [a]\nless: [a, b]\n";
        let (node, files) = load_files(&[("main.yaml", main), ("common.yaml", common)]).unwrap();
        assert_eq!(files, 2);
        assert_eq!(texts(&node, "keep_daily"), ["3"]);
        assert_eq!(texts(&node, "keep_weekly"), ["4"]);
        assert_eq!(texts(&node, "list"), ["a", "b", "c"]);
        assert_eq!(texts(&node, "own"), ["c"]);
        assert_eq!(texts(&node, "less"), ["a"]);
    }

    #[test]
    fn a_value_or_a_part_of_a_list_may_be_a_file() {
        let main = "hooks: !include hooks.yaml\nall: !include [one.yaml, two.yaml]\n";
        let files = [
            ("main.yaml", main),
            ("hooks.yaml", "on_error: [x]\n"),
            ("one.yaml", "a: 1\nb: 1\n"),
            ("two.yaml", "b: 2\n"),
        ];
        let (node, _) = load_files(&files).unwrap();
        assert_eq!(texts(node.get("hooks").unwrap(), "on_error"), ["x"]);
        assert_eq!(texts(node.get("all").unwrap(), "b"), ["2"]);
    }

    #[test]
    fn anchors_are_joined_too() {
        let main = "base: &base {hostname: h, port: 1}\ndb:\n    <<: *base\n    port: 2\n";
        let (node, _) = load_files(&[("main.yaml", main)]).unwrap();
        let db = node.get("db").unwrap();
        assert_eq!((texts(db, "hostname"), texts(db, "port")), (vec!["h".to_owned()], vec!["2".to_owned()]));
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, message) in [
            ("<<: !include main.yaml\n", "includes itself"),
            ("<<: !include absent.yaml\n", "cannot read"),
            ("a: !retain [b]\n", "changes nothing"),
            ("a: !other b\n", "unknown tag !other"),
            ("<<: 5\n", "only a map"),
        ] {
            let error = load_files(&[("main.yaml", text)]).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
