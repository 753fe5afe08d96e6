//! One large PostgreSQL database, dumped by several `pg_dump` at once that all see the same moment.
//!
//! A session of ours exports its snapshot and stays open as long as parts of it are dumped. The parts are the
//! definitions before the data, the data of tables in groups of about equal size, and what is made after the data:
//! indexes, constraints, triggers. Each is an archive of its own in the custom format; nothing goes to a disk here.
//!
//! See "Snapshot Synchronization Functions" in PostgreSQL's manual, and `--section` and `--snapshot` of `pg_dump`.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute, part};
use parking_lot::Mutex;

use crate::body::{BodyEnd, body};
use crate::postgres::{CheckedDump, PostgresOptions, ServerFacts, conninfo_of, dump_program, finish_dump};
use crate::postgres_format::{Checker, PostgresFormat};
use crate::postgres_tools::{Psql, Tool, Tools, identifier};
use crate::process::Process;
use crate::{Entry, Error, Result, Source};

/// Most tables that are named to one `pg_dump`: each is an argument. The last group takes all others.
const NAMED_TABLES_MAX: usize = 400;

/// Keeps the snapshot alive: a transaction that does nothing is ended by no time-out, and ends with its client.
const HOLD: &str = "SET idle_in_transaction_session_timeout = 0;\n\
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n\
    SELECT pg_catalog.pg_export_snapshot();\n\
    \\o /dev/null\n\
    SELECT 1 \\watch 30\n";

/// What of a database a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Section {
    PreData,
    /// These tables.
    Data(Vec<String>),
    /// All other data.
    RestOfData(Vec<String>),
    PostData,
}

impl Section {
    /// Arguments for `pg_dump`.
    fn arguments(&self) -> Vec<String> {
        let with = |section: &str, option: &str, tables: &[String]| {
            let tables = tables.iter().flat_map(|table| [option.to_owned(), table.clone()]);
            [format!("--section={section}")].into_iter().chain(tables).collect()
        };
        match self {
            Section::PreData => with("pre-data", "", &[]),
            Section::Data(tables) => with("data", "-t", tables),
            Section::RestOfData(others) => with("data", "-T", others),
            Section::PostData => with("post-data", "", &[]),
        }
    }

    fn part(&self) -> &'static str {
        match self {
            Section::PreData => part::PRE_DATA,
            Section::Data(_) | Section::RestOfData(_) => part::DATA,
            Section::PostData => part::POST_DATA,
        }
    }
}

/// What all parts share.
#[derive(Debug)]
struct Shared {
    name: String,
    options: PostgresOptions,
    parts: usize,
    held: Mutex<Option<Held>>,
}

/// A snapshot, as long as the process lives.
#[derive(Debug)]
struct Held {
    snapshot: String,
    pg_dump: Tool,
    attributes: std::collections::BTreeMap<String, String>,
    _session: Process,
}

impl Shared {
    /// Begins the session that holds the snapshot, unless another part has.
    fn hold<T>(&self, use_it: impl FnOnce(&Held) -> Result<T>) -> Result<T> {
        let mut held = self.held.lock();
        if held.is_none() {
            *held = Some(self.begin()?);
        }
        match &*held {
            Some(held) => use_it(held),
            None => Err(Error::Empty { name: self.name.clone() }),
        }
    }

    fn begin(&self) -> Result<Held> {
        let options = &self.options;
        let tools = Tools::new(options.bin_dir.clone());
        let psql = Psql::new(tools.newest("psql")?, conninfo_of(options)?, &options.interrupt);
        let facts = ServerFacts::ask(&psql)?;
        let pg_dump = match options.pg_dump.as_slice() {
            [] => tools.fitting("pg_dump", facts.major)?,
            words => Tool::given(words)?,
        };
        let mut script = tempfile::NamedTempFile::new().map_err(Error::io("make a temporary file"))?;
        script.write_all(HOLD.as_bytes()).map_err(Error::io("write a temporary file"))?;
        let (session, output) = psql.program().arg("-f").arg(script.path()).spawn_reader()?;
        let mut snapshot = String::new();
        let read = BufReader::new(output).read_line(&mut snapshot);
        read.map_err(|error| Error::from_io("read from psql", error))?;
        let snapshot = snapshot.trim().to_owned();
        if snapshot.is_empty() {
            let (program, how) = ("psql".to_owned(), "exported no snapshot".to_owned());
            return Err(Error::ProgramFailed { program, how, stderr: session.kill() });
        }
        let attributes = facts.attributes(&pg_dump, PostgresFormat::Custom.name(), options.label.as_deref());
        Ok(Held { snapshot, pg_dump, attributes, _session: session })
    }
}

/// Sources for the parts of a database, dumped in `streams` streams of data. Asks the server which tables there are.
///
/// Errors: as [`crate::PostgresSource::new`], and where the server can't be asked.
pub fn postgres_parts(name: &str, options: PostgresOptions, streams: usize) -> Result<Vec<Box<dyn Source>>> {
    let options = PostgresOptions { format: PostgresFormat::Custom, ..options };
    let psql = Tools::new(options.bin_dir.clone()).newest("psql")?;
    let psql = Psql::new(psql, conninfo_of(&options)?, &options.interrupt);
    let groups = groups(tables(&psql)?, streams.max(1) - 1);
    let named: Vec<String> = groups.iter().flatten().cloned().collect();
    let data = groups.into_iter().map(Section::Data);
    // The largest first, so that what is left at the end is small.
    let sections: Vec<Section> = [Section::PreData]
        .into_iter()
        .chain(data)
        .chain([Section::RestOfData(named), Section::PostData])
        .collect();
    let shared =
        Arc::new(Shared { name: name.to_owned(), options, parts: sections.len(), held: Mutex::new(None) });
    let part = |(number, section): (usize, Section)| -> Box<dyn Source> {
        let name = match &section {
            Section::PreData | Section::PostData => format!("{name}/{}", section.part()),
            Section::Data(_) | Section::RestOfData(_) => format!("{name}/data-{number}"),
        };
        Box::new(PartSource { name, section, shared: shared.clone(), running: None })
    };
    Ok(sections.into_iter().enumerate().map(part).collect())
}

/// Tables with data of their own, as `pg_dump -t` takes them, and their bytes.
fn tables(psql: &Psql) -> Result<Vec<(String, u64)>> {
    let fields = psql.run(&["SELECT n.nspname, c.relname, pg_catalog.pg_table_size(c.oid) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' \
         AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
         ORDER BY 3 DESC, 1, 2"])?;
    let row = |fields: &[String]| match fields {
        [schema, name, bytes] => {
            Some((format!("{}.{}", identifier(schema), identifier(name)), bytes.parse().unwrap_or(0)))
        }
        _ => None,
    };
    Ok(fields.chunks(3).filter_map(row).collect())
}

/// Divides the largest tables, sorted, into `count` groups of about equal size, and leaves as much to one more group.
fn groups(tables: Vec<(String, u64)>, count: usize) -> Vec<Vec<String>> {
    let mut groups = vec![(0_u64, Vec::new()); count + 1];
    // The last one takes what is not named, too.
    groups[count].0 = tables.iter().skip(NAMED_TABLES_MAX).map(|(_, bytes)| bytes).sum();
    for (table, bytes) in tables.into_iter().take(NAMED_TABLES_MAX) {
        if let Some((sum, group)) = groups.iter_mut().min_by_key(|(sum, _)| *sum) {
            *sum += bytes;
            group.push(table);
        }
    }
    groups.truncate(count);
    groups.into_iter().map(|(_, group)| group).filter(|group| !group.is_empty()).collect()
}

/// One part of a database.
#[derive(Debug)]
struct PartSource {
    name: String,
    section: Section,
    shared: Arc<Shared>,
    running: Option<(Process, BodyEnd<CheckedDump>)>,
}

impl Source for PartSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn group(&self) -> Option<&str> {
        Some(&self.shared.name)
    }

    fn open(&mut self) -> Result<Entry> {
        let shared = self.shared.clone();
        let conninfo = conninfo_of(&shared.options)?;
        shared.hold(|held| {
            let (process, output) = dump_program(&held.pg_dump, &conninfo, &shared.options)
                .arg(format!("--snapshot={}", held.snapshot))
                .args(self.section.arguments())
                .spawn_reader()?;
            let checker = Checker::new(PostgresFormat::Custom);
            let (body, end) = body(output, CheckedDump { name: self.name.clone(), checker });
            self.running = Some((process, end));
            let mut attributes = held.attributes.clone();
            for (key, value) in [
                (attribute::PART, self.section.part().to_owned()),
                (attribute::WHOLE, shared.name.clone()),
                (attribute::PARTS, shared.parts.to_string()),
            ] {
                attributes.insert(key.to_owned(), value);
            }
            let (name, kind) = (self.name.clone(), EntryKind::Postgresql);
            Ok(Entry { meta: EntryMeta { name, kind, grid: Grid::Content, attributes }, body })
        })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let (process, end) = self.running.take().ok_or_else(|| Error::Empty { name: self.name.clone() })?;
        finish_dump(&self.name, process, &end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_about_equal_and_the_rest_is_one_of_them() {
        let tables = |sizes: &[u64]| {
            sizes.iter().enumerate().map(|(n, bytes)| (format!("t{n}"), *bytes)).collect::<Vec<_>>()
        };
        assert_eq!(groups(tables(&[9, 5, 4]), 1), [["t0"]]);
        assert_eq!(groups(tables(&[9, 8, 7, 1, 1]), 2), [vec!["t0"], vec!["t1", "t4"]]);
        assert!(groups(tables(&[9, 8]), 0).is_empty() && groups(Vec::new(), 3).is_empty());
        let many: Vec<u64> = vec![1; 2 * NAMED_TABLES_MAX];
        assert_eq!(groups(tables(&many), 1)[0].len(), NAMED_TABLES_MAX);
    }
}
