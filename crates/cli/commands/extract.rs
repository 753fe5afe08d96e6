//! `extract`: the bytes of one entry, or the rows of one table in it.

use std::io::{self, IsTerminal};
use std::path::Path;

use dbvault_dump::{Contents, Format};
use dbvault_format::manifest::EntryRecord;
use dbvault_jobs::{Error as Job, contents, extract, selection};
use serde_json::{Value, json};

use super::choice::choose;
use super::tree;
use crate::args::{Extract, RowFormat};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output;

pub(super) fn run(context: &Context, args: Extract) -> Result<()> {
    if let Some(to) = &args.files.to {
        return tree::extract(context, &args.archive, &args.files, to);
    }
    if !args.files.paths.is_empty() {
        return Err(Error::Usage("files are extracted below a directory: --to DIR".into()));
    }
    let to_stdout = args.output == Path::new("-");
    if to_stdout && args.table.is_none() && io::stdout().is_terminal() {
        return Err(Error::BinaryToTerminal);
    }
    let repository = context.open()?;
    let info = choose(context, &repository, &args.archive, args.entry.as_slice())?;
    let progress = context.progress();
    let (reader, board) = (repository.reader(progress.board())?, progress.board());
    let entries = reader.entries(&info.manifest)?;
    let archive = &info.manifest.name;
    let mut table = Value::Null;
    let mut contents: Option<Contents> = None;
    let (name, mut body) = match &args.table {
        None => {
            let entry = match &args.entry {
                Some(wanted) => selection::find(archive, &entries, wanted)?,
                None => selection::only(archive, &entries)?,
            };
            (entry.meta.name.as_str(), extract::entry(&reader, entry, &*board)?)
        }
        Some(wanted) => {
            let whole = whole(archive, &entries, args.entry.as_deref())?;
            let contents = contents.insert(contents::open(&reader, &whole)?);
            let found = contents.find(wanted).map_err(Job::from)?;
            table = found.sql_name().into();
            (contents::name(&whole), extract::table(contents, found, format(&args), &*board)?)
        }
    };
    if to_stdout {
        let mut out = output::RawStdout::new();
        let written = extract::to_writer(&mut *body, &mut out, "standard output");
        drop(progress);
        return written.map(|_| ()).map_err(|error| match error {
            Job::Output { source, .. } => Error::Stdout(source),
            other => other.into(),
        });
    }
    let written_bytes = extract::to_file(&mut *body, &args.output, args.force)?;
    drop(progress);
    if context.global.json {
        let mut document = json!({
            "archive": info.manifest.name,
            "entry": name,
            "output": args.output,
            "bytes": written_bytes,
        });
        if !table.is_null() {
            document["table"] = table;
            document["format"] = format(&args).name().into();
        }
        return output::json(&document);
    }
    context.note(&format!("Wrote {}: {}", args.output.display(), output::size(written_bytes)));
    Ok(())
}

/// The entries of the database that is meant; the only one where none is named.
fn whole<'a>(
    archive: &str,
    entries: &'a [EntryRecord],
    wanted: Option<&str>,
) -> Result<Vec<&'a EntryRecord>> {
    if let Some(wanted) = wanted {
        return Ok(selection::find_whole(archive, entries, wanted)?);
    }
    let mut wholes = contents::wholes(entries);
    match (wholes.pop(), wholes.is_empty()) {
        (Some(whole), true) => Ok(whole),
        _ => Ok(vec![selection::only(archive, entries)?]),
    }
}

fn format(args: &Extract) -> Format {
    match args.format {
        RowFormat::Copy => Format::Copy,
        RowFormat::Csv => Format::Csv { header: args.header },
        RowFormat::Sql => Format::Sql,
    }
}
