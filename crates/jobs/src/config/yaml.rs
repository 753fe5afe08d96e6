//! YAML as a tree in which every value knows where it stands.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 64;
/// Most values in one file, with what anchors repeat.
const NODES_MAX: usize = 100_000;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The file.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What is wrong, or good to know, at a place. No value of a secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: At,
    /// What.
    pub message: String,
}

impl Problem {
    pub(super) fn new(at: &At, message: impl Into<String>) -> Problem {
        Problem { at: at.clone(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.at, self.message)
    }
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) at: At,
    /// Name of its tag, such as `!include`, where it has one that is not YAML's own.
    pub(super) tag: Option<String>,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// A text, number or anything else that is written in one piece.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Without quotes: `~` means nothing, not a tilde.
    pub(super) plain: bool,
    /// What the file says, where variables or credentials stood in it.
    pub(super) written: Option<String>,
    /// Something that it names is not there.
    pub(super) unresolved: bool,
}

/// Without the text, which may be a secret.
impl fmt::Debug for Scalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Scalar(…)")
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) at: At,
    pub(super) name: String,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn map(at: At, fields: Vec<Field>) -> Node {
        Node { at, tag: None, value: Value::Map(fields) }
    }

    pub(super) fn text(at: At, text: impl Into<String>) -> Node {
        let scalar = Scalar { text: text.into(), ..Scalar::default() };
        Node { at, tag: None, value: Value::Scalar(scalar) }
    }

    /// True where nothing is said: `key:`, `key: ~`, `key: null`.
    pub(super) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => {
                scalar.plain && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    pub(super) fn as_scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) if !self.is_null() => Some(scalar),
            _ => None,
        }
    }

    /// The fields of a map; none of anything else.
    pub(super) fn fields(&self) -> &[Field] {
        match &self.value {
            Value::Map(fields) => fields,
            _ => &[],
        }
    }

    /// The items of a list, or the only one where there is no list.
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ if self.is_null() => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// The value of a key, where it says something.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        let field = self.fields().iter().find(|field| field.name == name);
        field.map(|field| &field.value).filter(|value| !value.is_null())
    }

    /// Leaves a key out.
    pub(super) fn remove(&mut self, name: &str) {
        if let Value::Map(fields) = &mut self.value {
            fields.retain(|field| field.name != name);
        }
    }
}

/// Reads the only document of `text`. Errors: not YAML, several documents, a key twice, or past the bounds above.
pub(super) fn parse(file: &Arc<Path>, text: &str) -> Result<Node, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { file, parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(Node::map(reader.at(span.start), Vec::new())),
            Event::DocumentStart(_) => break,
            _ => {}
        }
    }
    let (event, span) = reader.next()?;
    let node = reader.node(event, span, 0)?;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(node),
            Event::DocumentStart(_) => {
                return Err(Problem::new(&reader.at(span.start), "a second document; a file has one"));
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    file: &'a Arc<Path>,
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
        }
    }

    fn scan_error(&self, error: &ScanError) -> Problem {
        let mut message = error.info().to_owned();
        if message.contains("mapping values are not allowed") {
            message += "; keys of one item begin in the same column, and a text with `: ` in it needs quotes";
        }
        Problem::new(&self.at(*error.marker()), message)
    }

    fn at(&self, marker: Marker) -> At {
        At { file: self.file.clone(), line: marker.line().max(1), column: marker.col() + 1 }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let at = self.at(span.start);
        if depth > DEPTH_MAX {
            return Err(Problem::new(&at, format!("nested deeper than {DEPTH_MAX}")));
        }
        self.count(&at, 1)?;
        let (anchor, tag, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let scalar = Scalar { text: text.into_owned(), plain, ..Scalar::default() };
                (anchor, name(tag.as_deref()), Value::Scalar(scalar))
            }
            Event::SequenceStart(anchor, tag) => {
                (anchor, name(tag.as_deref()), Value::List(self.list(depth)?))
            }
            Event::MappingStart(anchor, tag) => (anchor, name(tag.as_deref()), Value::Map(self.map(depth)?)),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Problem::new(&at, "an alias of what has not ended yet"));
                };
                self.count(&at, size(&node))?;
                return Ok(node);
            }
            _ => (0, None, Value::Scalar(Scalar { plain: true, ..Scalar::default() })),
        };
        let node = Node { at, tag, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, at: &At, nodes: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(Problem::new(at, format!("more than {NODES_MAX} values")));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (Event::StreamEnd, span) => {
                    return Err(Problem::new(&self.at(span.start), "a list has no end"));
                }
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Field>, Problem> {
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::MappingEnd => return Ok(fields),
                Event::StreamEnd => return Err(Problem::new(&self.at(span.start), "a map has no end")),
                _ => {}
            }
            let key = self.node(event, span, depth + 1)?;
            let Value::Scalar(Scalar { text: name, .. }) = key.value else {
                return Err(Problem::new(&key.at, "a key is one word"));
            };
            if let Some(first) = fields.iter().find(|field| field.name == name && name != "<<") {
                let message = format!("{name} is there already, in line {}", first.at.line);
                return Err(Problem::new(&key.at, message));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            fields.push(Field { at: key.at, name, value });
        }
    }
}

/// The tag as it is written, where it is not YAML's own.
fn name(tag: Option<&Tag>) -> Option<String> {
    let tag = tag.filter(|tag| !tag.is_yaml_core_schema() && !tag.suffix.is_empty())?;
    Some(format!("{}{}", tag.handle, tag.suffix))
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(fields) => fields.iter().map(|field| size(&field.value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, String> {
        parse(&Path::new("c").into(), text).map_err(|problem| problem.to_string())
    }

    #[test]
    fn values_know_their_place() {
        let node = read("a: 1\nb:\n    - x\n    - {c: 'y'}\n").unwrap();
        let b = node.get("b").unwrap();
        let c = b.items()[1].get("c").unwrap();
        assert_eq!((c.at.line, c.at.column), (4, 11));
        assert_eq!(node.fields()[1].at.to_string(), "c:2:1");
        assert!(!c.as_scalar().unwrap().plain);
        assert!(read("a: ~\nb:").unwrap().fields().iter().all(|field| field.value.is_null()));
        assert_eq!(read("").unwrap().fields(), []);
        assert_eq!(read("# only a remark\n").unwrap().fields(), []);
    }

    #[test]
    fn what_is_not_yaml_is_an_error_with_its_place() {
        assert!(read("a: 1\nb: [1, 2\n").unwrap_err().starts_with("c:"));
        assert_eq!(read("a: 1\na: 2\n").unwrap_err(), "c:2:1: a is there already, in line 1");
        assert!(read("a: 1\n---\nb: 2\n").unwrap_err().contains("second document"));
        assert!(read("- name: x\n    host: y\n").unwrap_err().contains("same column"));
        assert!(read("? [a]\n: b\n").unwrap_err().contains("a key is one word"));
    }

    #[test]
    fn aliases_repeat_and_bombs_do_not_go_off() {
        let node = read("a: &x [1, 2]\nb: *x\n").unwrap();
        assert_eq!(node.get("b").unwrap().items().len(), 2);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let of = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{of}]\n");
        }
        assert!(read(&bomb).unwrap_err().contains("more than 100000 values"));
        assert!(read(&format!("{}{}", "[".repeat(80), "]".repeat(80))).unwrap_err().contains("deeper"));
    }

    #[test]
    fn tags_are_kept() {
        let node = read("a: !include b.yaml\nc: !!str 5\n").unwrap();
        assert_eq!(node.get("a").unwrap().tag.as_deref(), Some("!include"));
        assert_eq!(node.get("c").unwrap().tag, None);
    }
}
