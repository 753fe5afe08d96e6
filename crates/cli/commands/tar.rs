//! `export-tar` and `import-tar`: files of an archive as a tar, and a tar as an archive.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use dbvault_files::Patterns;
use dbvault_jobs::Error as Job;
use dbvault_jobs::tar::{
    Spool, TarExport, TarExported, TarImport, default_directory, export_tar, import_tar, write_file,
};
use dbvault_repo::Monitor;
use serde_json::json;

use super::choice::choose;
use super::tree;
use crate::args::{ExportTar, ImportTar};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{documents, output, sanitize};

pub(super) fn export(context: &Context, args: &ExportTar) -> Result<()> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Error::BinaryToTerminal);
    }
    let mut patterns = Patterns::new();
    args.exclude.iter().try_for_each(|pattern| patterns.exclude(pattern)).map_err(Job::Files)?;
    if !args.paths.is_empty() {
        patterns.only(args.paths.iter().map(String::as_str)).map_err(Job::Files)?;
    }
    let request = TarExport { patterns, strip_components: args.strip_components };
    let repository = context.open()?;
    let info = choose(context, &repository, &args.archive, &[])?;
    let progress = context.progress();
    let (reader, monitor): (_, Arc<dyn Monitor>) = (repository.reader(progress.board())?, progress.board());
    let entries = reader.entries(&info.manifest)?;
    let entry = tree::tree(&info.manifest.name, &entries)?;
    let name = if to_stdout { "standard output".to_owned() } else { args.output.display().to_string() };
    let mut write = |out: &mut dyn Write| export_tar(&reader, entry, &request, out, &name, &monitor);
    let written = if to_stdout {
        write(&mut output::RawStdout::new()).map_err(|error| match error {
            Job::Output { source, .. } => Error::Stdout(source),
            other => other.into(),
        })
    } else {
        write_file(&args.output, args.force, &mut write).map_err(Error::from)
    };
    drop(progress);
    report_export(context, args, &info.manifest.name, to_stdout, &written?)
}

fn report_export(
    context: &Context,
    args: &ExportTar,
    archive: &str,
    to_stdout: bool,
    written: &TarExported,
) -> Result<()> {
    let TarExported { bytes, report } = written;
    for problem in &report.problems {
        context.warning(&sanitize::line(problem));
    }
    if context.global.json && !to_stdout {
        output::json(&json!({
            "archive": archive,
            "output": args.output,
            "bytes": bytes,
            "files": report.files,
            "problems": report.problems,
            "problem_count": report.problem_count,
        }))?;
    } else if !to_stdout {
        let files = output::count(report.files, "file");
        context.note(&format!("Wrote {}: {files}, {}", args.output.display(), output::size(*bytes)));
    }
    wanting(report.problem_count)
}

pub(super) fn import(context: &Context, args: ImportTar) -> Result<()> {
    let name = if args.input == Path::new("-") {
        "standard input".to_owned()
    } else {
        args.input.display().to_string()
    };
    let input = open(&args.input).map_err(|source| Job::Tar { name: name.clone(), source })?;
    let request = TarImport {
        archive_name: args.archive,
        comment: args.comment,
        made_at: args.timestamp,
        spool: Spool { directory: args.spool.unwrap_or_else(default_directory) },
    };
    let repository = context.open()?;
    let progress = context.progress();
    let imported = import_tar(&repository, input, &name, request, progress.board());
    drop(progress);
    let imported = imported?;
    let (manifest, report) = (&imported.manifest, &imported.report);
    for problem in &report.problems {
        context.warning(&sanitize::line(problem));
    }
    if context.global.json {
        let mut document = documents::archive(manifest);
        document["files"] = report.files.into();
        document["problems"] = json!(report.problems);
        document["problem_count"] = report.problem_count.into();
        output::json(&document)?;
    } else if !context.global.quiet {
        let sizes = &manifest.sizes;
        output::text(&format!(
            "Archive {}: {}, {} read, {} new, {} stored\n",
            super::list::archive_words(manifest),
            output::count(report.files, "file"),
            output::size(sizes.original_bytes),
            output::size(sizes.new_bytes),
            output::size(sizes.stored_bytes),
        ))?;
    }
    wanting(report.problem_count)
}

fn open(path: &Path) -> io::Result<File> {
    if path == Path::new("-") {
        return Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    }
    File::open(path)
}

fn wanting(count: u64) -> Result<()> {
    if count == 0 { Ok(()) } else { Err(Error::FilesWanting { count }) }
}
