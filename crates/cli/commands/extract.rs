//! `extract`: the bytes of one entry.

use std::io::{self, IsTerminal};
use std::path::Path;

use dbvault_jobs::{Error as Job, extract, selection};

use super::restore::living;
use crate::args::Extract;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output;

pub(super) fn run(context: &Context, args: Extract) -> Result<()> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Error::BinaryToTerminal);
    }
    let repository = context.open()?;
    let info = living(&repository, &args.archive)?;
    let progress = context.progress();
    let (reader, board) = (repository.reader(progress.board())?, progress.board());
    let entries = reader.entries(&info.manifest)?;
    let archive = &info.manifest.name;
    let entry = match &args.entry {
        Some(wanted) => selection::find(archive, &entries, wanted)?,
        None => selection::only(archive, &entries)?,
    };
    if to_stdout {
        let mut out = output::RawStdout::new();
        let written = extract::to_writer(&reader, entry, &mut out, "standard output", &*board);
        drop(progress);
        return written.map(|_| ()).map_err(|error| match error {
            Job::Output { source, .. } => Error::Stdout(source),
            other => other.into(),
        });
    }
    let written_bytes = extract::to_file(&reader, entry, &args.output, args.force, &*board)?;
    drop(progress);
    if context.global.json {
        return output::json(&serde_json::json!({
            "archive": info.manifest.name,
            "entry": entry.meta.name,
            "output": args.output,
            "bytes": written_bytes,
        }));
    }
    context.note(&format!("Wrote {}: {}", args.output.display(), output::size(written_bytes)));
    Ok(())
}
