//! Which things of a PostgreSQL dump belong to a table, and which it needs.
//!
//! Dependencies tell only a part of it: an entry of one part of a database can't name those of another, and plain dumps
//! have none. So the commands are asked which table they are about.

use std::collections::{BTreeSet, HashMap};

use crate::encoding::Encoding;
use crate::entry::{Entry, Section};
use crate::sql_words::{Word, Words};
use crate::table::Table;

/// Schema and name.
type Name = (Option<String>, String);

/// What a command is about.
#[derive(Debug, PartialEq, Eq)]
enum About {
    Table(Name),
    /// The column goes without saying.
    Column(Name),
    Index(Name),
    Sequence(Name),
    Statistics(Name),
}

/// Indexes of the entries that belong to a table, in their order.
pub(crate) fn entries_of(entries: &[Entry], table: &Table, encoding: Encoding) -> Vec<usize> {
    let name: Name = (table.schema.clone(), table.name.clone());
    let mut own = Own { name, encoding, sequences: BTreeSet::new(), others: BTreeSet::new() };
    entries.iter().for_each(|entry| own.note_sequence(entry));
    let belongs = |(index, entry): (usize, &Entry)| own.has(entry).then_some(index);
    entries.iter().enumerate().filter_map(belongs).collect()
}

/// A table and what is known to be its own.
struct Own {
    name: Name,
    encoding: Encoding,
    sequences: BTreeSet<Name>,
    /// Indexes and statistics.
    others: BTreeSet<Name>,
}

impl Own {
    /// The name that comes next; `levels` more of them belong to it.
    fn name(&self, entry: &Entry, words: &mut Words<'_>, levels: usize) -> Option<Name> {
        words.accept("ONLY");
        let mut names: Vec<String> =
            words.qualified().iter().map(|name| self.encoding.decode(name)).collect();
        names.truncate(names.len().saturating_sub(levels));
        let name = names.pop()?;
        // Old dumps set a search path in place of schemas.
        Some((names.pop().or_else(|| entry.schema.clone()), name))
    }

    fn named_after(&self, entry: &Entry, keyword: &str) -> Option<Name> {
        let mut words = Words::new(&entry.sql);
        if words.skip_to(keyword) { self.name(entry, &mut words, 0) } else { None }
    }

    /// A sequence belongs to the table that its column is of.
    fn note_sequence(&mut self, entry: &Entry) {
        let own = match entry.kind.as_str() {
            "SEQUENCE OWNED BY" => {
                let mut words = Words::new(&entry.sql);
                words.skip_to("BY").then(|| self.name(entry, &mut words, 1)).flatten()
            }
            "SEQUENCE" if entry.sql.starts_with(b"ALTER TABLE ") => self.named_after(entry, "TABLE"),
            _ => None,
        };
        if own.as_ref() == Some(&self.name) {
            self.sequences.insert((entry.schema.clone(), entry.tag.clone()));
        }
    }

    fn has(&mut self, entry: &Entry) -> bool {
        let itself = || (entry.schema.clone(), entry.tag.clone());
        let is_mine = |name: Option<Name>| name.as_ref() == Some(&self.name);
        match entry.kind.as_str() {
            "TABLE"
            | "FOREIGN TABLE"
            | "VIEW"
            | "MATERIALIZED VIEW"
            | "TABLE DATA"
            | "MATERIALIZED VIEW DATA" => itself() == self.name,
            "SEQUENCE" | "SEQUENCE SET" | "SEQUENCE OWNED BY" => self.sequences.contains(&itself()),
            "DEFAULT" | "CONSTRAINT" | "FK CONSTRAINT" | "CHECK CONSTRAINT" | "ROW SECURITY"
            | "PUBLICATION TABLE" => is_mine(self.named_after(entry, "TABLE")),
            "TABLE ATTACH" => is_mine(self.named_after(entry, "PARTITION")),
            "TRIGGER" | "POLICY" => is_mine(self.named_after(entry, "ON")),
            "RULE" => is_mine(self.named_after(entry, "TO")),
            "INDEX" | "STATISTICS" => {
                let own = is_mine(match entry.kind.as_str() {
                    "INDEX" => self.named_after(entry, "ON"),
                    _ => self.last_from(entry),
                });
                if own {
                    self.others.insert(itself());
                }
                own
            }
            "INDEX ATTACH" => self.others.contains(&itself()),
            "STATISTICS DATA" => itself() == self.name || self.others.contains(&itself()),
            "ACL" | "COMMENT" | "SECURITY LABEL" => match self.about(entry) {
                Some(About::Table(name) | About::Column(name)) => name == self.name,
                Some(About::Index(name) | About::Statistics(name)) => self.others.contains(&name),
                Some(About::Sequence(name)) => self.sequences.contains(&name),
                None => false,
            },
            _ => false,
        }
    }

    /// `CREATE STATISTICS name ON expressions FROM table`.
    fn last_from(&self, entry: &Entry) -> Option<Name> {
        let mut words = Words::new(&entry.sql);
        let mut last = None;
        while words.skip_to("FROM") {
            last = self.name(entry, &mut words.clone(), 0);
        }
        last
    }

    /// `COMMENT ON ...`, `GRANT ... ON ...`, `SECURITY LABEL ON ...`.
    fn about(&self, entry: &Entry) -> Option<About> {
        let mut words = Words::new(&entry.sql);
        if !words.skip_to("ON") {
            return None;
        }
        let Some(Word::Plain(object)) = words.next() else { return None };
        match object.to_ascii_uppercase().as_slice() {
            b"TABLE" | b"VIEW" => Some(About::Table(self.name(entry, &mut words, 0)?)),
            b"FOREIGN" | b"MATERIALIZED" => {
                words.next();
                Some(About::Table(self.name(entry, &mut words, 0)?))
            }
            b"COLUMN" => Some(About::Column(self.name(entry, &mut words, 1)?)),
            b"INDEX" => Some(About::Index(self.name(entry, &mut words, 0)?)),
            b"SEQUENCE" => Some(About::Sequence(self.name(entry, &mut words, 0)?)),
            b"STATISTICS" => Some(About::Statistics(self.name(entry, &mut words, 0)?)),
            b"CONSTRAINT" | b"TRIGGER" | b"POLICY" | b"RULE" => {
                words.qualified();
                let table = words.accept("ON") && !words.accept("DOMAIN");
                if table { Some(About::Table(self.name(entry, &mut words, 0)?)) } else { None }
            }
            _ => None,
        }
    }
}

/// Indexes of the entries that must be there before a table and what is its own, in their order; without the table that
/// it is a partition of.
pub(crate) fn needs_of(entries: &[Entry], table: &Table, encoding: Encoding) -> Vec<usize> {
    let own: BTreeSet<usize> = entries_of(entries, table, encoding).into_iter().collect();
    let attached = own.iter().any(|index| entries[*index].kind == "TABLE ATTACH");
    let needing = |kind: &str| {
        !matches!(
            kind,
            "TABLE ATTACH"
                | "INDEX ATTACH"
                | "FK CONSTRAINT"
                | "TRIGGER"
                | "RULE"
                | "POLICY"
                | "PUBLICATION TABLE"
                | "ACL"
        )
    };
    let graph = Graph::new(entries, encoding);
    let mut found = BTreeSet::new();
    let mut waiting: Vec<usize> =
        own.iter().copied().filter(|index| needing(&entries[*index].kind)).collect();
    while let Some(index) = waiting.pop() {
        for needed in graph.needs(index) {
            let parent = attached && own.contains(&index) && entries[needed].kind == "TABLE";
            let before = entries[needed].section == Section::PreData;
            if before && !parent && !own.contains(&needed) && found.insert(needed) {
                waiting.push(needed);
            }
        }
    }
    found.into_iter().filter(|index| !is_standard_schema(&entries[*index])).collect()
}

/// Every database has it.
fn is_standard_schema(entry: &Entry) -> bool {
    entry.kind == "SCHEMA" && entry.tag == "public"
}

/// What needs what.
struct Graph<'a> {
    entries: &'a [Entry],
    encoding: Encoding,
    ids: HashMap<(usize, i64), usize>,
    names: HashMap<Name, Vec<usize>>,
    schemas: HashMap<&'a str, usize>,
    extensions: Vec<usize>,
    /// The dump tells what needs what.
    tells: bool,
}

impl<'a> Graph<'a> {
    fn new(entries: &'a [Entry], encoding: Encoding) -> Graph<'a> {
        let (mut ids, mut names, mut schemas) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut extensions = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            ids.insert((entry.part, entry.id), index);
            match entry.kind.as_str() {
                "SCHEMA" => drop(schemas.insert(entry.tag.as_str(), index)),
                "EXTENSION" => extensions.push(index),
                _ if entry.is_definition() && entry.section == Section::PreData => {
                    // Functions have their arguments in their tags.
                    let name = entry.tag.split('(').next().unwrap_or_default().to_owned();
                    let named: &mut Vec<usize> = names.entry((entry.schema.clone(), name)).or_default();
                    named.push(index);
                }
                _ => {}
            }
        }
        let tells = entries.iter().any(|entry| !entry.dependencies.is_empty());
        Graph { entries, encoding, ids, names, schemas, extensions, tells }
    }

    fn needs(&self, index: usize) -> Vec<usize> {
        let entry = &self.entries[index];
        let by_id = |id: &i64| self.ids.get(&(entry.part, *id)).copied();
        let mut needs: Vec<usize> = entry.dependencies.iter().filter_map(by_id).collect();
        needs.extend(entry.schema.as_deref().and_then(|schema| self.schemas.get(schema)));
        if !self.tells {
            self.add_named(entry, &mut needs);
        }
        needs
    }

    /// Plain dumps don't tell what needs what: whatever is named may be needed.
    fn add_named(&self, entry: &Entry, needs: &mut Vec<usize>) {
        let mut words = Words::new(&entry.sql);
        let mut unknown = false;
        loop {
            let names = words.qualified();
            if let [schema, name, ..] = names.as_slice() {
                let name = (Some(self.encoding.decode(schema)), self.encoding.decode(name));
                match self.names.get(&name) {
                    Some(found) => needs.extend(found.iter().filter(|found| {
                        // Comments and privileges have names of others in their tags.
                        self.entries[**found].kind != "COMMENT" && self.entries[**found].kind != "ACL"
                    })),
                    None => unknown |= schema != b"pg_catalog",
                }
            }
            if names.is_empty() && words.next().is_none() {
                break;
            }
        }
        if unknown {
            needs.extend(&self.extensions);
        }
    }
}
