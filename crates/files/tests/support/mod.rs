//! Trees in memory, and the tools that trees are compared with.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a part of several tests, which may panic"
)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use dbvault_files::{
    Capture, FileWriter, HardLinks, PendingFile, PlaceOptions, Placed, Placer, Problem, Root, Walk,
    WalkOptions,
};
use dbvault_format::file_table::{FileRecord, FileTableOrder, decode_record};

/// A record and the content that belongs to it.
pub(crate) type File = (FileRecord, Vec<u8>);

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program is there; says so where it is not.
pub(crate) fn has(program: &str, test: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !found.status.success() {
        println!("skipped: {test}: {program} is not installed");
    }
    found.status.success()
}

/// Runs a program that must not fail.
pub(crate) fn run(program: &str, arguments: &[&OsStr]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}: {said}", output.status);
    output.stdout
}

pub(crate) fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").arg("-euc").arg(script).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All paths that a walk finds, relative to `/`; problems as `!path`.
pub(crate) fn walked(roots: Vec<Root>, options: WalkOptions) -> Vec<Vec<u8>> {
    let name = |found| match found {
        Ok(dbvault_files::FoundFile { path, .. }) => path,
        Err(Problem { path, .. }) => [b"!", path.as_slice()].concat(),
    };
    Walk::new(roots, options).unwrap().map(name).collect()
}

/// Records and contents of a tree; every record goes through its encoding.
pub(crate) fn captured(roots: Vec<Root>, options: WalkOptions) -> (Vec<File>, Vec<Problem>) {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    let (capture, mut links, mut order) = (Capture::new(), HardLinks::new(), FileTableOrder::default());
    for found in Walk::new(roots, options).unwrap() {
        let found = match found {
            Ok(found) => found,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let mut content = Vec::new();
        let record = if let Some(first) = links.first_name(&found) {
            capture.other_name(&found, first)
        } else {
            let file = match capture.capture(&found) {
                Ok(file) => file,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            problems.extend(file.problems);
            if let Some(mut reader) = file.content {
                let promised = reader.remaining_bytes();
                reader.read_to_end(&mut content).unwrap();
                assert_eq!(content.len() as u64, promised);
                assert!(!reader.finish().unwrap().changed);
            }
            links.add(&found);
            file.record
        };
        let (record, _) = decode_record(&record.encode()).unwrap().unwrap();
        order.next(&record).unwrap();
        assert_eq!(content.len() as u64, record.content_bytes());
        files.push((record, content));
    }
    (files, problems)
}

/// Restores with several threads; gives the problems.
pub(crate) fn restore(files: &[File], target: &Path, options: PlaceOptions) -> Vec<Problem> {
    let problems = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&problems);
    let mut placer =
        Placer::new(target, options, Arc::new(move |problem| told.lock().unwrap().push(problem))).unwrap();
    let (sender, receiver) = mpsc::sync_channel::<(Box<PendingFile>, &[u8])>(4);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let next = receiver.lock().unwrap().recv();
                    let Ok((pending, content)) = next else { return };
                    if let Err(problem) = pending.create().and_then(|writer| write(writer, content)) {
                        problems.lock().unwrap().push(problem);
                    }
                }
            });
        }
        for (record, content) in files {
            let mut placed = placer.place(record);
            let mut content = content;
            if matches!(placed, Placed::NeedsOriginal) {
                let original = files.iter().find(|(other, _)| Some(&other.path) == record.same_as.as_ref());
                let Some((original, bytes)) = original else { continue };
                content = bytes;
                placed = placer.place(&FileRecord { path: record.path.clone(), ..original.clone() });
            }
            if let Placed::Content(pending) = placed {
                sender.send((pending, content)).unwrap();
            }
        }
        drop(sender);
        placer.finish();
    });
    let mut problems = problems.lock().unwrap();
    std::mem::take(&mut *problems)
}

fn write(mut writer: FileWriter, content: &[u8]) -> Result<(), Problem> {
    for piece in content.chunks(100_001) {
        writer.write(piece)?;
    }
    writer.finish()
}

/// How many components a path has.
pub(crate) fn depth(path: &Path) -> usize {
    path.components().count() - 1
}

/// Two trees must be the same: to rsync, and by a listing of our own.
pub(crate) fn assert_same(left: &Path, right: &Path) {
    let slash = |path: &Path| PathBuf::from(format!("{}/", path.display()));
    let options = ["-naicHAXS", "--delete"].map(OsStr::new);
    let (left_slash, right_slash) = (slash(left), slash(right));
    let found = run("rsync", &[options[0], options[1], left_slash.as_os_str(), right_slash.as_os_str()]);
    assert_eq!(String::from_utf8_lossy(&found), "", "what rsync would change");
    let (left, right) = (listing(left), listing(right));
    let lines = |left: &BTreeSet<Vec<u8>>, right: &BTreeSet<Vec<u8>>| -> Vec<String> {
        left.difference(right).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    };
    assert_eq!((lines(&left, &right), lines(&right, &left)), (vec![], vec![]), "only left, only right");
}

/// All that `find` and `lsattr` tell of a tree.
pub(crate) fn listing(tree: &Path) -> BTreeSet<Vec<u8>> {
    let format = r"%P\t%y\t%m\t%U\t%G\t%T@\t%n\t%l\0";
    let found = run("find", &[tree.as_os_str(), "-printf".as_ref(), format.as_ref()]);
    let mut lines: BTreeSet<Vec<u8>> = found.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let sizes = r"%P\t%s\0";
    let typed = ["!", "-type", "d", "-printf", sizes].map(OsStr::new);
    let found = run("find", &[&[tree.as_os_str()][..], &typed[..]].concat());
    lines.extend(found.split(|byte| *byte == 0).map(<[u8]>::to_vec));
    lines.extend(flags(tree));
    lines
}

/// Flags of regular files with plain names; file systems without flags have none.
fn flags(tree: &Path) -> Vec<Vec<u8>> {
    let output = Command::new("lsattr").arg("-R").arg(tree).output().unwrap();
    let prefix = tree.as_os_str().as_bytes();
    let line = |line: &[u8]| {
        let at = line.windows(prefix.len()).position(|part| part == prefix)?;
        let flags: Vec<u8> =
            line[..at].iter().filter(|byte| b"aAcdDijsSCm".contains(byte)).copied().collect();
        Some([&flags[..], b"\t", &line[at + prefix.len()..]].concat())
    };
    output.stdout.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// Takes flags from files that hinder their removal.
pub(crate) struct Unlocked<'a>(pub(crate) &'a Path);

impl Drop for Unlocked<'_> {
    fn drop(&mut self) {
        let _ = Command::new("chattr").args(["-R", "-f", "-i", "-a"]).arg(self.0).output();
    }
}

pub(crate) fn write_file(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
}

pub(crate) fn strings(paths: &[Vec<u8>], base: &Path) -> Vec<String> {
    let base = base.strip_prefix("/").unwrap().as_os_str().as_bytes();
    let below = |path: &Vec<u8>| {
        let text = String::from_utf8_lossy(path);
        let base = String::from_utf8_lossy(base);
        match text.strip_prefix('!') {
            Some(text) => text.strip_prefix(&*base).map(|rest| format!("!{}", rest.trim_start_matches('/'))),
            None => text.strip_prefix(&*base).map(|rest| rest.trim_start_matches('/').to_owned()),
        }
    };
    paths.iter().filter_map(below).collect()
}
