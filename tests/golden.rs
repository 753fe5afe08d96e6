//! Golden repositories: what an earlier version stored, every later version must read, bit for bit.
//!
//! `tests/golden/v1/` was made once, by this program, and is never made again: a test that fails here has found
//! that the program no longer reads what is out there. Beside it are its key file, the sums of what it holds
//! (`v1.sha256`) and of its objects (`v1.objects.sha256`), and in another language, written from
//! `docs/format.md`, `reader.py` that reads it and `cuts.py` that cuts its streams again.
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
use dbvault_repo::{BackupOptions, CheckDepth, Client, NoMonitor, Repository};
use dbvault_storage::LocalStorage;
use zeroize::Zeroizing;

#[path = "golden/make.rs"]
mod make;

/// Every directory below `tests/golden`, oldest first.
const VERSIONS: [&str; 1] = ["v1"];

/// Opens the passphrase slot.
const PASSPHRASE: &str = "correct horse battery staple";

/// Modules that `reader.py` needs: `pip install blake3 cryptography argon2-cffi zstandard`.
const PYTHON_MODULES: &str = "import argon2, blake3, cryptography, zstandard";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
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
        }
    }
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
        assert_eq!(report.archives, 4, "three manifests and a fence");
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
        let secrets: [&[&str]; 2] = [&["--key-file", "v1.key"], &["--passphrase", PASSPHRASE]];
        for secret in secrets {
            let temporary = tempfile::tempdir().unwrap();
            let out = temporary.path().join("out");
            let mut reader = Command::new(&python);
            reader.arg("reader.py").args(secret).arg(version).arg(&out).current_dir(golden());
            let done = reader.output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert_eq!(sums(&out), committed_sums(&format!("{version}.sha256")));
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
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    let document = fs::read_to_string(document).unwrap();
    assert!(document.contains(&make::worked_example(&golden().join("v1"), &key_file("v1"))));
}

/// Makes `tests/golden/v1` where there is none, its sums, and the example in `docs/format.md`. To try it out
/// elsewhere, name a directory in `DBVAULT_GOLDEN_DIR`.
#[test]
#[ignore = "only ever run once a format version"]
fn make_golden() {
    let into = std::env::var_os("DBVAULT_GOLDEN_DIR").map_or_else(golden, PathBuf::from);
    let place = into.join("v1");
    if place.exists() {
        println!("{} is there already", place.display());
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    make::make(&place, cache.path(), &key_file("v1"), &passphrase());
    let out = tempfile::tempdir().unwrap();
    extract_all(&open(&place, cache.path(), &key_file("v1")), out.path());
    fs::write(into.join("v1.sha256"), sums(out.path())).unwrap();
    fs::write(into.join("v1.objects.sha256"), sums(&place)).unwrap();
    let example = make::worked_example(&place, &key_file("v1"));
    println!("{example}");
    if into == golden() {
        put_example(&example);
    }
}

/// Puts the worked example in its place in `docs/format.md`.
fn put_example(example: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once("<!-- example -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of the example -->\n").unwrap();
    let marked = format!("<!-- example -->\n{example}<!-- end of the example -->\n");
    fs::write(&path, format!("{before}{marked}{after}")).unwrap();
}
