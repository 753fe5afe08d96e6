//! Golden repositories: what an earlier version stored, every later version must read, bit for bit.
//!
//! `tests/golden/v1/` was made once, by this program, and is never made again: a test that fails here has found
//! that the program no longer reads what is out there. Beside it are its key file (`v1.key`), the sums of what it holds
//! (`v1.sha256`) and of its objects (`v1.objects.sha256`), and in another language, written from
//! `docs/format.md`, `reader.py` that reads it and `cuts.py` that cuts its streams again. `tests/golden/v1-tree/` is
//! the same for trees of files, which a later program of the same format stored, with `v1-tree.key`, `v1-tree.sha256` and
//! `v1-tree.objects.sha256`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: its helpers may panic, and say what is skipped"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dbvault_format::key_slot::{Secret, SlotKind};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{BackupOptions, CheckDepth, Client, NoMonitor, Reader, Repository};
use dbvault_storage::LocalStorage;
use zeroize::Zeroizing;

use dbvault_testkit::package::package_dir;

#[path = "golden/make.rs"]
mod make;
#[path = "golden/make_tree.rs"]
mod make_tree;

/// Every directory below `tests/golden`, oldest first.
const VERSIONS: [&str; 2] = ["v1", "v1-tree"];

/// Opens the passphrase slot.
const PASSPHRASE: &str = "correct horse battery staple";

/// Modules that `reader.py` needs: `pip install blake3 cryptography argon2-cffi zstandard`.
const PYTHON_MODULES: &str = "import argon2, blake3, cryptography, zstandard";

fn golden() -> PathBuf {
    package_dir().join("tests/golden")
}

/// The only secret in `tests/golden/<version>.key`.
fn key_file(version: &str) -> Secret {
    let text = fs::read_to_string(golden().join(format!("{version}.key"))).unwrap();
    let digits = text.lines().find_map(|line| line.strip_prefix("key: ")).unwrap();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    Secret::KeyFile(Zeroizing::new((0..digits.len()).step_by(2).map(byte).collect()))
}

fn passphrase() -> Secret {
    Secret::Passphrase(Zeroizing::new(PASSPHRASE.into()))
}

fn client(cache: &Path) -> Client {
    let interrupt = Arc::default();
    Client { host: "golden".into(), user: "tester".into(), cache_dir: cache.into(), interrupt }
}

fn open(place: &Path, cache: &Path, secret: &Secret) -> Repository {
    let storage = Arc::new(LocalStorage::open(place).unwrap());
    Repository::open(storage, client(cache), secret).unwrap()
}

/// Files below `directory`, relative to it, sorted.
fn files(directory: &Path) -> Vec<String> {
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

/// Sums of all files below `directory`, in the form of `sha256sum`.
fn sums(directory: &Path) -> String {
    let output = Command::new("sha256sum").args(files(directory)).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn committed_sums(name: &str) -> String {
    fs::read_to_string(golden().join(name)).unwrap()
}

/// Writes every entry of every archive to `<out>/<archive>/<entry>`.
fn extract_all(repo: &Repository, out: &Path) {
    let reader = repo.reader(Arc::new(NoMonitor)).unwrap();
    let list = repo.archives().unwrap();
    assert!(list.damaged.is_empty());
    for archive in list.archives {
        let directory = out.join(&archive.manifest.name);
        fs::create_dir_all(&directory).unwrap();
        for entry in reader.entries(&archive.manifest).unwrap() {
            let mut file = fs::File::create(directory.join(&entry.meta.name)).unwrap();
            std::io::copy(&mut reader.open_stream(&entry.stream).unwrap(), &mut file).unwrap();
            file.flush().unwrap();
            if entry.table.is_some() {
                fs::write(
                    directory.join(format!("{}.sums", entry.meta.name)),
                    sums_of_files(&reader, &entry),
                )
                .unwrap();
            }
        }
    }
}

/// A line for each file of a tree, as `reader.py` writes them.
fn sums_of_files(reader: &Arc<Reader>, entry: &EntryRecord) -> String {
    let content = reader.open_random(&entry.stream).unwrap();
    let lines = reader.open_table(entry).unwrap().map(|step| {
        let (record, range) = step.unwrap();
        let mut bytes = vec![0; (range.end - range.start) as usize];
        assert_eq!(content.read_at(range.start, &mut bytes).unwrap(), bytes.len());
        let path: String = record.path.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {} {path}\n", blake3::hash(&bytes).to_hex(), record.kind as u8)
    });
    lines.collect()
}

#[test]
fn no_golden_repository_is_left_out() {
    let listed: BTreeSet<String> = VERSIONS.iter().map(ToString::to_string).collect();
    let entries = fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.filter(|path| path.is_dir());
    let found: BTreeSet<String> =
        found.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(found, listed);
}

#[test]
fn golden_objects_are_those_that_were_committed() {
    for version in VERSIONS {
        assert_eq!(sums(&golden().join(version)), committed_sums(&format!("{version}.objects.sha256")));
    }
}

#[test]
fn golden_repositories_extract_bit_for_bit_with_either_secret() {
    for version in VERSIONS {
        for secret in [key_file(version), passphrase()] {
            let temporary = tempfile::tempdir().unwrap();
            let repo = open(&golden().join(version), &temporary.path().join("cache"), &secret);
            let out = temporary.path().join("out");
            extract_all(&repo, &out);
            assert_eq!(sums(&out), committed_sums(&format!("{version}.sha256")), "{secret:?}");
        }
        // Reading changes nothing.
        assert_eq!(sums(&golden().join(version)), committed_sums(&format!("{version}.objects.sha256")));
    }
}

#[test]
fn golden_repositories_list_what_they_should() {
    let temporary = tempfile::tempdir().unwrap();
    let repo = open(&golden().join("v1"), temporary.path(), &key_file("v1"));
    let archives = repo.archives().unwrap().archives;
    let seen: Vec<(&str, bool, u64)> = archives
        .iter()
        .map(|a| (a.manifest.name.as_str(), a.deleted_ms.is_some(), a.manifest.entry_count))
        .collect();
    assert_eq!(seen, [("day-1", false, 4), ("day-2", false, 2), ("day-3", true, 1)]);
    assert!(archives[1].manifest.sizes.delta_chunks > 0, "{:?}", archives[1].manifest.sizes);
    assert_eq!(repo.find_archive("latest").unwrap().manifest.name, "day-2");
    let kinds: Vec<SlotKind> = repo.key_slots().unwrap().iter().map(|slot| slot.kind).collect();
    assert_eq!(kinds, [SlotKind::KeyFile, SlotKind::Passphrase]);
}

#[test]
fn golden_repositories_check_clean() {
    for version in VERSIONS {
        let temporary = tempfile::tempdir().unwrap();
        let repo = open(&golden().join(version), temporary.path(), &key_file(version));
        let report = repo.check(CheckDepth::Data, Arc::new(NoMonitor)).unwrap();
        assert!(report.clean(), "{report:?}");
        let archives = if version == "v1" { 4 } else { 2 };
        assert_eq!(report.archives, archives, "three manifests and a fence, or two manifests");
    }
}

/// Cut points, chunk ids and similarity must not change either, or every client would store everything anew.
#[test]
fn golden_repositories_are_deduplicated_against() {
    let temporary = tempfile::tempdir().unwrap();
    let place = temporary.path().join("repository");
    for file in files(&golden().join("v1")) {
        fs::create_dir_all(place.join(&file).parent().unwrap()).unwrap();
        fs::copy(golden().join("v1").join(&file), place.join(&file)).unwrap();
    }
    let repo = open(&place, &temporary.path().join("cache"), &key_file("v1"));
    let options = BackupOptions { archive_name: "day-4".into(), comment: None };
    let mut txn = repo.begin_backup(options, Arc::new(NoMonitor)).unwrap();
    for (meta, bytes) in make::known_streams() {
        let pending = txn.add_entry(meta, &mut bytes.as_slice()).unwrap();
        txn.finish_entry(pending, Default::default());
    }
    let sizes = txn.commit().unwrap().sizes;
    assert_eq!((sizes.new_chunks, sizes.new_bytes), (0, 0), "{sizes:?}");
    let report = repo.check(CheckDepth::Data, Arc::new(NoMonitor)).unwrap();
    assert!(report.clean(), "{report:?}");
}

#[test]
fn golden_repositories_are_read_by_another_program() {
    let python = std::env::var("DBVAULT_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_modules = Command::new(&python).args(["-c", PYTHON_MODULES]).stderr(Stdio::null()).status();
    if !has_modules.is_ok_and(|status| status.success()) {
        println!(
            "skipped: golden_repositories_are_read_by_another_program: {python} lacks the modules of reader.py"
        );
        return;
    }
    for version in VERSIONS {
        let key = format!("{version}.key");
        let secrets: [&[&str]; 2] = [&["--key-file", &key], &["--passphrase", PASSPHRASE]];
        for secret in secrets {
            let temporary = tempfile::tempdir().unwrap();
            let out = temporary.path().join("out");
            let mut reader = Command::new(&python);
            reader.arg("reader.py").args(secret).arg(version).arg(&out).current_dir(golden());
            let done = reader.output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert_eq!(sums(&out), committed_sums(&format!("{version}.sha256")));
        }
        // Where chunks of a tree end is the writer's own affair.
        if version == "v1-tree" {
            continue;
        }
        let key_file = format!("{version}.key");
        let mut cuts = Command::new(&python);
        let done = cuts.args(["cuts.py", &key_file, version]).current_dir(golden()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// The example in `docs/format.md` is an object of the golden repository, byte for byte.
#[test]
fn the_worked_example_is_true() {
    let document = package_dir().join("docs/format.md");
    let document = fs::read_to_string(document).unwrap();
    assert!(document.contains(&make::worked_example(&golden().join("v1"), &key_file("v1"))));
}

#[test]
fn golden_trees_are_taken_over_by_the_next_archive() {
    let temporary = tempfile::tempdir().unwrap();
    let repo = open(&golden().join("v1-tree"), temporary.path(), &key_file("v1-tree"));
    let reader = repo.reader(Arc::new(NoMonitor)).unwrap();
    let archives = repo.archives().unwrap().archives;
    let of = |number: usize| -> Vec<(Vec<u8>, u64)> {
        let entry = reader.entries(&archives[number].manifest).unwrap().remove(0);
        let records = reader.open_table(&entry).unwrap().map(Result::unwrap);
        records.map(|(record, _)| (record.path.to_vec(), record.gap_bytes)).collect()
    };
    let (first, second) = (of(0), of(1));
    assert_eq!((first.len(), second.len()), (54, 54));
    assert!(first.iter().all(|(_, gap)| *gap == 0));
    assert!(second.iter().any(|(_, gap)| *gap > 0), "what was taken over with a chunk is passed over");
    let new = archives[1].manifest.sizes.new_bytes;
    assert!(new < 40_000, "{new} new bytes");
}

/// Makes what is missing of `tests/golden`, the sums, and for `v1` the example in `docs/format.md`. To try it out
/// elsewhere, name a directory in `DBVAULT_GOLDEN_DIR`.
#[test]
#[ignore = "only ever run once a format version"]
fn make_golden() {
    let into = std::env::var_os("DBVAULT_GOLDEN_DIR").map_or_else(golden, PathBuf::from);
    for version in VERSIONS {
        let place = into.join(version);
        if place.exists() {
            println!("{} is there already", place.display());
            continue;
        }
        let (cache, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let make = if version == "v1" { make::make } else { make_tree::make };
        make(&place, cache.path(), &key_file(version), &passphrase());
        extract_all(&open(&place, cache.path(), &key_file(version)), out.path());
        fs::write(into.join(format!("{version}.sha256")), sums(out.path())).unwrap();
        fs::write(into.join(format!("{version}.objects.sha256")), sums(&place)).unwrap();
        if version == "v1" {
            let example = make::worked_example(&place, &key_file(version));
            println!("{example}");
            if into == golden() {
                put_example(&example);
            }
        }
    }
}

/// Puts the worked example in its place in `docs/format.md`.
fn put_example(example: &str) {
    let path = package_dir().join("docs/format.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once("<!-- example -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of the example -->\n").unwrap();
    let marked = format!("<!-- example -->\n{example}<!-- end of the example -->\n");
    fs::write(&path, format!("{before}{marked}{after}")).unwrap();
}
