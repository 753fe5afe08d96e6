//! Archives of Borg: extracted by `borg` into a private directory, and stored from there.
//!
//! Not by `borg export-tar`: the tar of Borg 1 has whole seconds only, and neither attributes nor ACLs nor flags.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbvault_files::{Capture, Captured, HardLinks, PrivateTree, Problem, Root, Walk, WalkOptions};
use dbvault_format::file_table::{FileKind, FileRecord, FileTime};
use dbvault_repo::{Error as RepoError, Repository};
use dbvault_source::Interrupt;
use dbvault_source::process::Program;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::import::{Foreign, ForeignArchive};
use crate::tree_backup::TREE_NAME;
use crate::tree_import::{Provenance, Stored, TreeSink, store_archive};
use crate::{Error, Result, Watcher};

/// Digits of a repository's id that tell its private directory from others.
const ID_DIGITS: usize = 16;
/// What `borg list` tells of each file, each with a NUL behind it.
const LIST_FORMAT: &str = "{type}{NUL}{uid}{NUL}{user}{NUL}{gid}{NUL}{group}{NUL}{bpath}{NUL}";

/// A repository of Borg.
pub(crate) struct Borg {
    repository: String,
    origin: String,
    archives: Vec<ForeignArchive>,
    place: PrivateTree,
    interrupt: Interrupt,
}

/// What Borg knows of an archive's files, and what is extracted does not tell.
#[derive(Default)]
struct Listed {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    /// Directories that are in the archive; others were made on the way to what is.
    directories: HashSet<Box<[u8]>>,
}

impl Borg {
    /// Asks `borg` what there is. Archives are extracted below `spool`.
    ///
    /// Errors: `borg` is not there or fails; the place is another user's, or another import is using it.
    pub(crate) fn open(repository: &str, spool: &Path, interrupt: &Interrupt) -> Result<Borg> {
        // Borg runs elsewhere: a path must not depend on where we are.
        let absolute =
            Path::new(repository).canonicalize().ok().and_then(|path| path.to_str().map(str::to_owned));
        let repository = absolute.unwrap_or_else(|| repository.to_owned());
        let program = borg(&repository, interrupt).args([
            "list",
            "--json",
            "--format",
            "{hostname}{username}{comment}",
            "::",
        ]);
        let listed = program.run_captured().and_then(|captured| captured.into_success());
        let listed = listed.map_err(|source| Error::import(&repository, source))?;
        let malformed = |what: &str| Error::Foreign {
            repository: repository.clone(),
            what: format!("borg list: {what}"),
        };
        let listed: Value = serde_json::from_slice(&listed).map_err(|error| malformed(&error.to_string()))?;
        let id = listed["repository"]["id"].as_str().filter(|id| is_id(id));
        let id = id.ok_or_else(|| malformed("no id of the repository"))?;
        let rows = listed["archives"].as_array().ok_or_else(|| malformed("no archives"))?;
        let archives: Option<Vec<ForeignArchive>> = rows.iter().map(archive).collect();
        let archives = archives.ok_or_else(|| malformed("an archive without a name, an id or a time"))?;
        let name = format!("dbvault-import-{}", &id[..ID_DIGITS.min(id.len())]);
        let place = PrivateTree::take(spool, &name).map_err(|source| Error::File {
            action: "use",
            path: spool.join(&name),
            source,
        })?;
        let origin = format!("borg:{id}");
        Ok(Borg { repository, origin, archives, place, interrupt: interrupt.clone() })
    }

    /// Owners by their names in the archive, and its directories.
    fn list(&self, archive: &ForeignArchive) -> Result<Listed> {
        let failed = |source| Error::import(&archive.own_name, source);
        let program = borg(&self.repository, &self.interrupt).args(["list", "--format", LIST_FORMAT]);
        let (process, output) =
            program.arg(format!("::{}", archive.own_name)).spawn_reader().map_err(failed)?;
        let read = read_listed(BufReader::new(output));
        let listed = read.map_err(|error| failed(dbvault_source::Error::from_io("read from borg", error)))?;
        process.finish().map_err(failed)?;
        Ok(listed)
    }

    /// Extracts an archive; gives where it is.
    fn extract(&self, archive: &ForeignArchive) -> Result<PathBuf> {
        let failed = |source| Error::import(&archive.own_name, source);
        let place =
            self.place.fresh().map_err(Error::file("make", "the directory for what borg extracts"))?;
        let program = borg(&self.repository, &self.interrupt).args(["extract", "--numeric-ids", "--sparse"]);
        let program = program.arg(format!("::{}", archive.own_name)).directory(&place);
        program.run_captured().and_then(|captured| captured.into_success()).map_err(failed)?;
        Ok(place)
    }
}

impl Foreign for Borg {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn archives(&self) -> &[ForeignArchive] {
        &self.archives
    }

    fn store(
        &mut self,
        repository: &Repository,
        archive: &ForeignArchive,
        provenance: Provenance,
        watcher: Arc<dyn Watcher>,
    ) -> Result<Stored> {
        let listed = self.list(archive)?;
        let place = self.extract(archive)?;
        let walk = Walk::new([Root::tree(&place)], WalkOptions::default()).map_err(Error::Files)?;
        let absolute = place.canonicalize().map_err(Error::file("find", &place))?;
        let prefix = absolute.as_os_str().as_bytes();
        let around = prefix.strip_prefix(b"/").unwrap_or(prefix);
        let stored = store_archive(repository, provenance, watcher, true, |sink| {
            store_walk(repository, walk, around, &listed, sink)
        });
        self.place.empty().map_err(Error::file("empty", "the directory for what borg extracts"))?;
        stored
    }
}

/// Borg by its name in `PATH`; what opens the repository is in the environment, which it has from us.
fn borg(repository: &str, interrupt: &Interrupt) -> Program {
    let program = Program::new("borg").package("borgbackup").interrupt(interrupt);
    // Times are told without their zone.
    program.env("BORG_REPO", repository).env("TZ", "UTC").env("PYTHONUTF8", "1")
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn archive(row: &Value) -> Option<ForeignArchive> {
    let text = |key: &str| row[key].as_str().map(str::to_owned);
    let started: DateTime = row["start"].as_str()?.parse().ok()?;
    let name = text("name")?;
    Some(ForeignArchive {
        id: text("id").filter(|id| is_id(id))?,
        name: name.clone(),
        own_name: name,
        started_ms: started.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond(),
        host: text("hostname").unwrap_or_default(),
        user: text("username").unwrap_or_default(),
        comment: text("comment").filter(|comment| !comment.is_empty()),
        tags: Vec::new(),
    })
}

fn read_listed(mut output: impl BufRead) -> io::Result<Listed> {
    let mut listed = Listed::default();
    let mut fields: [Vec<u8>; 6] = Default::default();
    loop {
        for (index, field) in fields.iter_mut().enumerate() {
            field.clear();
            output.read_until(0, field)?;
            if field.is_empty() && index == 0 {
                return Ok(listed);
            }
            if field.pop() != Some(0) {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the list of files is cut short"));
            }
        }
        let [kind, uid, user, gid, group, path] = &fields;
        note_name(&mut listed.users, uid, user);
        note_name(&mut listed.groups, gid, group);
        if kind == b"d" {
            listed.directories.insert(if path == b"." { Box::default() } else { path.as_slice().into() });
        }
    }
}

/// Borg tells the number where there is no name.
fn note_name(names: &mut HashMap<u32, String>, number: &[u8], name: &[u8]) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    if let Ok(id) = text(number).parse::<u32>()
        && name != number
        && !name.is_empty()
        && !names.contains_key(&id)
    {
        names.insert(id, text(name).to_owned());
    }
}

fn refused(problem: &Problem) -> RepoError {
    let text = format!("{problem}: {}", problem.source);
    RepoError::Source { entry: TREE_NAME.into(), source: io::Error::other(text) }
}

/// Stores what is in the directory `around`, as if that were `/`. Nobody else changes it: whatever can't be read, or changes
/// meanwhile, is an error.
fn store_walk(
    repository: &Repository,
    walk: Walk,
    around: &[u8],
    listed: &Listed,
    sink: &mut TreeSink<'_, '_>,
) -> dbvault_repo::Result<()> {
    let (capture, mut links) = (Capture::new(), HardLinks::new());
    for found in walk {
        repository.check_interrupt()?;
        let file = found.map_err(|problem| refused(&problem))?;
        let Some(path) = inside(&file.path, around) else { continue };
        if file.stat.kind == FileKind::Directory && !listed.directories.contains(path) {
            continue;
        }
        if let Some(first) = links.first_name(&file) {
            let first = inside(&first, around).unwrap_or_default().to_vec();
            sink.file(as_listed(capture.other_name(&file, first), path, listed), None)?;
            continue;
        }
        let Captured { record, content, problems } = capture.capture(&file).map_err(|p| refused(&p))?;
        if let Some(problem) = problems.first() {
            return Err(refused(problem));
        }
        let record = as_listed(record, path, listed);
        let is_stored = match content {
            None => sink.file(record, None)?,
            Some(mut content) => {
                let is_stored = sink.file(record, Some(&mut content))?;
                let end = content.finish().map_err(|e| refused(&Problem::new(&file.path, "read", e)))?;
                if end.changed {
                    return Err(refused(&Problem::found(&file.path, "read", "it changed while it was read")));
                }
                is_stored
            }
        };
        if is_stored {
            links.add(&file);
        }
    }
    Ok(())
}

/// The path below `around`; empty for that itself.
fn inside<'a>(path: &'a [u8], around: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(around)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// A record as Borg has it: inode and time of change are of what was extracted, and so are the names of owners.
fn as_listed(record: FileRecord, path: &[u8], listed: &Listed) -> FileRecord {
    FileRecord {
        path: path.to_vec().into(),
        user: listed.users.get(&record.uid).cloned(),
        group: listed.groups.get(&record.gid).cloned(),
        changed: FileTime::default(),
        inode: 0,
        ..record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let text = b"d\x000\x00root\x000\x00root\x00srv\x00-\x001001\x001001\x005\x00tty\x00srv/a\nb\xff\x00\
                     d\x000\x00root\x000\x00root\x00.\x00";
        let listed = read_listed(&text[..]).unwrap();
        assert_eq!(listed.users, HashMap::from([(0, "root".to_owned())]));
        assert_eq!(listed.groups, HashMap::from([(0, "root".to_owned()), (5, "tty".to_owned())]));
        let directories = [Box::<[u8]>::from(&b"srv"[..]), Box::default()];
        assert_eq!(listed.directories, HashSet::from(directories));
        for cut in 1..30 {
            assert!(read_listed(&text[..cut]).is_err() || text[cut - 1] == 0, "{cut}");
        }
    }

    #[test]
    fn archives_are_read() {
        let row = serde_json::json!({
            "name": "a", "id": "00ff", "start": "2026-11-22T08:13:25.500000", "hostname": "h", "username": "u",
            "comment": "",
        });
        let found = archive(&row).unwrap();
        assert_eq!((found.started_ms, found.comment), (1_795_335_205_500, None));
        assert_eq!(
            archive(&serde_json::json!({"name": "a", "id": "../x", "start": "2026-11-22T08:13:25"})),
            None
        );
    }

    #[test]
    fn paths_are_those_below_the_directory() {
        assert_eq!(inside(b"tmp/x/tree/a/b", b"tmp/x/tree"), Some(&b"a/b"[..]));
        assert_eq!(inside(b"tmp/x/tree", b"tmp/x/tree"), Some(&b""[..]));
        assert_eq!(inside(b"tmp/x", b"tmp/x/tree"), None);
        assert_eq!(inside(b"tmp/x/trees", b"tmp/x/tree"), None);
    }
}
