//! Another program, written from `docs/format.md` in another language, restores what these tests make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dbvault_storage::MemoryStorage;
use dbvault_testkit::crashing_storage::CrashStateChoice;
use dbvault_testkit::package::package_dir;
use dbvault_testkit::tier::{either, seed};

use crate::common::*;
use crate::story::Story;
use crate::tally::Tally;
use crate::worlds::*;

fn golden() -> PathBuf {
    package_dir().join("../../tests/golden")
}

/// The Python that has the modules of `reader.py`, or why there is none.
fn python() -> Result<String, String> {
    let python = std::env::var("DBVAULT_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let modules = "import argon2, blake3, cryptography, zstandard";
    let found = Command::new(&python).args(["-c", modules]).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(python);
    }
    Err(format!("{python} lacks the modules of reader.py"))
}

/// Restores all archives of a repository with the other program; gives what it says, by archive.
fn read(python: &str, storage: &MemoryStorage) -> Result<Expected, String> {
    let directory = temporary_dir();
    let [repository, out, key_file] = ["repository", "out", "key"].map(|name| directory.path().join(name));
    for name in storage.object_names() {
        let path = repository.join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, storage.read_raw(&name).unwrap()).unwrap();
    }
    fs::write(&key_file, format!("dbvault key file v1\nkey: {}\n", "01".repeat(32))).unwrap();
    let mut reader = Command::new(python);
    reader.arg(golden().join("reader.py")).arg("--key-file").args([&key_file, &repository, &out]);
    let done = reader.output().unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    let mut archives = Expected::new();
    let folders = fs::read_dir(out).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    for folder in folders.unwrap_or_else(|_| Vec::<PathBuf>::new()) {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let streams = entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
        archives.insert(name(&folder), streams);
    }
    Ok(archives)
}

#[test]
fn another_program_restores_what_is_left() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            println!("skipped: another_program_restores_what_is_left: {why}");
            return;
        }
    };
    let tally = Tally::new("independent reader");
    let mut worlds = vec![empty(), two_archives(), with_suspended(two_archives(), &data(5))];
    for world in [days(5), with_suspended(days(3), &data(5))] {
        let pruned = with_root(world, "day 0");
        worlds.extend([pruned.clone(), with_root(pruned, "day 1")]);
    }
    let mut archives = 0;
    for (number, world) in worlds.iter().enumerate() {
        match read(&python, &world.storage) {
            Ok(found) if found == world.expected => archives += found.len(),
            Ok(found) => tally.add(format!("world {number}: it finds {:?}", found.keys())),
            Err(e) => tally.add(format!("world {number}: {e}")),
        }
    }
    let story = Story::tell(&days(4), |teller| teller.prune(&["day 0", "day 2"]));
    let choice = CrashStateChoice { exhaustive_operations_max: 2, random_subsets_count: 1, seed: seed() };
    let states: Vec<_> = story.states(choice).collect();
    let step = states.len().div_ceil(either(30, 300));
    let mut states_count = 0;
    for state in states.iter().step_by(step) {
        states_count += 1;
        match read(&python, &state.storage) {
            Ok(found) => archives += found.len(),
            Err(e) => tally.add(format!("crash after {} operations: {e}", state.prefix_len)),
        }
    }
    tally.end(&[(worlds.len(), "repositories"), (states_count, "crash states"), (archives, "archives")]);
}
