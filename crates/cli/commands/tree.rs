//! Files of an archive: which are meant, and extracting them.

use std::io::Read;
use std::path::Path;

use dbvault_files::{Patterns, PlaceOptions, Root, WalkOptions, read_path_list};
use dbvault_format::entry::EntryKind;
use dbvault_format::file_table::{FileKind, FileRecord};
use dbvault_format::manifest::EntryRecord;
use dbvault_jobs::Error as Job;
use dbvault_jobs::tree_backup::TreeRequest;
use dbvault_jobs::tree_extract::{TreeExtract, TreeExtracted, extract_tree, make_target};
use dbvault_repo::Repository;
use dbvault_source::SnapshotOptions;
use serde_json::{Value, json};

use super::choice::choose;
use crate::args::{ExtractFiles, Files, Snapshot};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::{output, sanitize};

/// Decoded chunks that an extract keeps, bytes: it reads on and on, and what is behind is not needed again.
const CACHE_BYTES: usize = 24 << 20;

/// What a backup of files was asked for; `None` where no file was named.
pub(super) fn request(args: &Files) -> Result<Option<TreeRequest>> {
    let mut roots: Vec<Root> = args.paths.iter().map(Root::tree).collect();
    if let Some(list) = &args.files_from {
        let text = read(list)?;
        let paths = read_path_list(&*text).map_err(|source| cannot_read(list, source))?;
        roots.extend(paths.into_iter().map(Root::single));
    }
    if roots.is_empty() {
        return Ok(None);
    }
    let mut patterns = Patterns::new();
    for file in &args.exclude_from {
        let text = String::from_utf8_lossy(&read(file)?).into_owned();
        patterns.exclude_from(&file.display().to_string(), &text).map_err(Job::Files)?;
    }
    args.exclude.iter().try_for_each(|pattern| patterns.exclude(pattern)).map_err(Job::Files)?;
    let options = WalkOptions {
        patterns,
        one_file_system: args.one_file_system,
        exclude_caches: args.exclude_caches,
        exclude_if_present: args.exclude_if_present.iter().map(|name| name.as_bytes().to_vec()).collect(),
        ..WalkOptions::default()
    };
    let snapshots = snapshots(args.snapshot, SnapshotOptions::default());
    Ok(Some(TreeRequest { roots, options, snapshots, ..TreeRequest::default() }))
}

/// Which snapshots are meant: the command line goes before the configuration, of which it takes the commands.
pub(super) fn snapshots(asked: Option<Snapshot>, configured: SnapshotOptions) -> SnapshotOptions {
    let Some(asked) = asked else { return configured };
    let auto = asked == Snapshot::Auto;
    let SnapshotOptions { btrfs, zfs, lvm, .. } = configured;
    SnapshotOptions {
        btrfs: (auto || asked == Snapshot::Btrfs).then(|| btrfs.unwrap_or_default()),
        zfs: (auto || asked == Snapshot::Zfs).then(|| zfs.unwrap_or_default()),
        lvm: (auto || asked == Snapshot::Lvm).then(|| lvm.unwrap_or_default()),
        where_possible: auto,
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).map(drop)
    } else {
        std::fs::read(file).map(|found| text = found)
    };
    read.map_err(|source| cannot_read(file, source))?;
    Ok(text)
}

fn cannot_read(file: &Path, source: std::io::Error) -> Error {
    Job::Files(dbvault_files::Error::List { path: file.to_owned(), source }).into()
}

/// The entry that has the files of an archive.
pub(super) fn tree<'a>(archive: &str, entries: &'a [EntryRecord]) -> Result<&'a EntryRecord> {
    let found = entries.iter().find(|entry| entry.meta.kind == EntryKind::Tree);
    found.ok_or_else(|| Job::NoFiles { archive: archive.to_owned() }.into())
}

/// Extracts the files of an archive below a directory.
pub(super) fn extract(context: &Context, archive: &str, args: &ExtractFiles, to: &Path) -> Result<()> {
    let repository = context.open()?;
    let info = choose(context, &repository, archive, &[])?;
    let progress = context.progress();
    let board = progress.board();
    let reader = repository.reader_with_cache(CACHE_BYTES, board.clone())?;
    let entries = reader.entries(&info.manifest)?;
    let entry = tree(&info.manifest.name, &entries)?;
    let options = place_options(args)?;
    if args.dry_run {
        let patterns = options.patterns;
        drop(progress);
        for step in reader.open_table(entry)? {
            let (record, _) = step?;
            if patterns.takes(&record.path) {
                output::text(&format!("{}\n", shown(&record.path)))?;
            }
        }
        return Ok(());
    }
    make_target(to)?;
    let request = TreeExtract { to: to.to_owned(), options };
    let monitor: std::sync::Arc<dyn dbvault_repo::Monitor> = board;
    let done = extract_tree(&reader, entry, request, &monitor)?;
    drop(progress);
    report(context, &info.manifest.name, to, &done)
}

fn place_options(args: &ExtractFiles) -> Result<PlaceOptions> {
    let mut patterns = Patterns::new();
    args.exclude.iter().try_for_each(|pattern| patterns.exclude(pattern)).map_err(Job::Files)?;
    if !args.paths.is_empty() {
        patterns.only(args.paths.iter().map(String::as_str)).map_err(Job::Files)?;
    }
    Ok(PlaceOptions {
        numeric_ids: args.numeric_ids,
        make_sparse: args.sparse,
        keep_right: !args.overwrite,
        delete_extra: args.delete,
        strip_components: args.strip_components,
        patterns,
    })
}

fn report(context: &Context, archive: &str, to: &Path, done: &TreeExtracted) -> Result<()> {
    for problem in &done.problems {
        context.warning(problem);
    }
    if context.global.json {
        output::json(&json!({
            "archive": archive,
            "to": to,
            "made": done.made,
            "kept": done.kept,
            "problems": done.problems,
            "problem_count": done.problem_count,
        }))?;
    } else {
        let kept = if done.kept > 0 { format!(", {} were there already", done.kept) } else { String::new() };
        context.note(&format!("{}: {} made{kept}", to.display(), output::count(done.made, "file")));
    }
    match done.problem_count {
        0 => Ok(()),
        count => Err(Error::FilesWanting { count }),
    }
}

/// A path as people read it, from `/` on.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", sanitize::line(&String::from_utf8_lossy(path)))
}

/// Lists files of an archive: those of `paths` and below, or all.
pub(super) fn list(
    context: &Context,
    repository: &Repository,
    archive: &str,
    paths: &[String],
) -> Result<()> {
    let info = repository.find_archive(archive)?;
    let progress = context.progress();
    let reader = repository.reader(progress.board())?;
    let entries = reader.entries(&info.manifest)?;
    drop(progress);
    let mut patterns = Patterns::new();
    if !paths.is_empty() {
        patterns.only(paths.iter().map(String::as_str)).map_err(Job::Files)?;
    }
    for step in reader.open_table(tree(&info.manifest.name, &entries)?)? {
        let (record, _) = step?;
        if patterns.takes(&record.path) {
            print(context, &record, None)?;
        }
    }
    Ok(())
}

/// A line for a file; a JSON document a line where that is asked for.
pub(super) fn print(context: &Context, record: &FileRecord, archive: Option<&str>) -> Result<()> {
    if context.global.json {
        let mut document = document(record);
        if let Some(archive) = archive {
            document["archive"] = archive.into();
        }
        return output::text(&format!("{document}\n"));
    }
    let owner = |name: &Option<String>, number: u32| name.clone().unwrap_or_else(|| number.to_string());
    let time = record.modified.seconds.saturating_mul(1000);
    let target = match (&record.target, &record.same_as) {
        (_, Some(first)) => format!(" = {}", shown(first)),
        (Some(target), None) => format!(" -> {}", sanitize::line(&String::from_utf8_lossy(target))),
        _ => String::new(),
    };
    let archive = archive.map(|archive| format!("{}  ", sanitize::line(archive))).unwrap_or_default();
    output::text(&format!(
        "{archive}{}{} {:<8} {:<8} {:>10} {} {}{target}\n",
        letter(record.kind),
        permissions(record.mode),
        owner(&record.user, record.uid),
        owner(&record.group, record.gid),
        record.size_bytes,
        output::local_time(time),
        shown(&record.path),
    ))
}

fn document(record: &FileRecord) -> Value {
    json!({
        "path": String::from_utf8_lossy(&record.path),
        "kind": record.kind.name(),
        "mode": format!("{:04o}", record.mode),
        "uid": record.uid,
        "gid": record.gid,
        "user": record.user,
        "group": record.group,
        "bytes": record.size_bytes,
        "modified_ms": record.modified.seconds.saturating_mul(1000)
            .saturating_add(i64::from(record.modified.nanoseconds / 1_000_000)),
        "target": record.target.as_ref().map(|target| String::from_utf8_lossy(target)),
        "same_as": record.same_as.as_ref().map(|path| String::from_utf8_lossy(path)),
    })
}

fn letter(kind: FileKind) -> char {
    match kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::CharacterDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Socket => 's',
    }
}

/// As `ls` shows them.
fn permissions(mode: u16) -> String {
    let mut text = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 > 0 { 'r' } else { '-' });
        text.push(if bits & 2 > 0 { 'w' } else { '-' });
        text.push(match (bits & 1 > 0, mode & special > 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_shown_as_ls_does() {
        for (mode, text) in [
            (0o644, "rw-r--r--"),
            (0o4755, "rwsr-xr-x"),
            (0o2640, "rw-r-S---"),
            (0o1777, "rwxrwxrwt"),
            (0, "---------"),
        ] {
            assert_eq!(permissions(mode), text);
        }
    }
}
