//! `repair`, and the checks that read a part or need no key, through the program.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod cli_support;

use std::fs;
use std::path::{Path, PathBuf};

use cli_support::Home;

/// Files below a directory of the repository.
fn files(home: &Home, below: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, files),
                false => files.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(&home.path(&format!("repo/{below}")), &mut found);
    found.sort();
    found
}

fn back_up(home: &Home, archive: &str, seed: u32) {
    let command = format!(
        "seq {seed} {} | md5sum; seq {seed}00000 {seed}90000 | sort -R --random-source=key",
        seed + 9
    );
    home.ok(["backup", "--command", &command, "--name", "x", "--archive", archive]);
}

fn home_with(init: &[&str]) -> Home {
    let home = Home::new();
    home.ok([&["init", "repo", "--key-file", "key"], init].concat());
    back_up(&home, "first", 1);
    back_up(&home, "second", 2);
    home
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x55;
    let mut permissions = fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(path, permissions).unwrap();
    fs::write(path, bytes).unwrap();
}

fn largest(files: Vec<PathBuf>) -> PathBuf {
    files.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn a_lost_index_comes_back() {
    let home = home_with(&[]);
    let before = home.ok(["extract", "--archive", "first"]);
    fs::remove_dir_all(home.path("repo/index")).unwrap();
    home.fails(["check"], 9, "problem");
    let dry = home.run(["repair", "--dry-run"]);
    dry.assert_failure(9, "problem");
    assert!(dry.stdout.contains("archive first"), "{dry:#?}");
    assert!(files(&home, "index").is_empty(), "only looked");
    home.fails(["repair"], 19, "there is no terminal to ask whether to repair");
    let told = home.ok(["repair", "--yes"]);
    assert!(told.contains("Made the index anew: root 1 lists"), "{told}");
    home.ok(["check", "--read-data"]);
    assert_eq!(home.ok(["extract", "--archive", "first"]), before);
    assert_eq!(home.ok(["repair", "--yes"]), "Nothing to repair\n");
    home.ok(["prune", "--keep-last", "1"]);
    home.ok(["check", "--read-data"]);
}

#[test]
fn a_damaged_pack_goes_to_quarantine_and_the_next_backup_heals() {
    let home = home_with(&[]);
    let pack = largest(files(&home, "packs"));
    flip(&pack, 100_000);
    assert_eq!(home.ok(["repair", "--yes"]), "Nothing to repair\n", "it does not show in lengths");
    let document = home.run(["repair", "--yes", "--read-data", "--json"]);
    document.assert_failure(9, "1 problem found");
    let document: serde_json::Value = serde_json::from_str(&document.stdout).unwrap();
    let name = pack.strip_prefix(home.path("repo")).unwrap().to_str().unwrap();
    assert_eq!(document["quarantined"], serde_json::json!([name]));
    assert_eq!(document["lost_records"], 1, "{document}");
    assert_eq!(document["damage"].as_array().unwrap().len(), 1);
    assert!(home.path("repo/quarantine/00000000").join(name).exists() && !pack.exists());
    back_up(&home, "first again", 1);
    back_up(&home, "second again", 2);
    home.ok(["check", "--read-data"]);
    assert_eq!(home.ok(["extract", "--archive", "first"]), home.ok(["extract", "--archive", "first again"]));
}

#[test]
fn parity_restores_a_pack_and_is_read_through() {
    let home = home_with(&["--parity", "10"]);
    assert_eq!(files(&home, "parity").len(), files(&home, "packs").len());
    let before = home.ok(["extract", "--archive", "first"]);
    let whole: Vec<(PathBuf, Vec<u8>)> =
        files(&home, "packs").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    whole.iter().for_each(|(path, _)| flip(path, 50_000));
    assert_eq!(home.ok(["extract", "--archive", "first"]), before);
    home.fails(["check", "--read-data"], 9, "problem");
    home.fails(["check", "--no-key"], 9, "problem");
    let told = home.ok(["repair", "--yes", "--read-data"]);
    assert!(told.contains("by its parity"), "{told}");
    assert!(whole.iter().all(|(path, bytes)| fs::read(path).unwrap() == *bytes));
    home.ok(["check", "--read-data"]);
    fs::remove_file(&files(&home, "parity")[0]).unwrap();
    let check = home.run(["check"]);
    assert!(check.code == 0 && check.stderr.contains("has no parity"), "{check:#?}");
    assert!(home.ok(["repair", "--yes", "--add-parity"]).contains("Stored parity for 1 pack\n"));
    for bad in ["0", "101", "x"] {
        assert_eq!(home.run(["init", "other", "--key-file", "key", "--parity", bad]).code, 2);
    }
}

#[test]
fn checks_of_parts_and_of_what_was_not_read_lately() {
    let home = home_with(&[]);
    let packs = files(&home, "packs").len() as u64;
    let read = |args: &[&str]| {
        let document = home.json([&["check", "--json"], args].concat());
        (document["packs_read"].as_u64().unwrap(), document["part"].clone())
    };
    let (one, two) = (read(&["--subset", "50%"]), read(&["--subset", "50%"]));
    assert_eq!((one.0 + two.0, one.1, two.1), (packs, serde_json::json!([1, 2]), serde_json::json!([2, 2])));
    assert_eq!(read(&["--subset", "1/2"]).0, one.0);
    assert_eq!(read(&["--max-age", "30d"]).0, 0, "all was read just now");
    fs::remove_dir_all(home.path("cache")).unwrap();
    assert_eq!(read(&["--max-age", "30d"]).0, packs);
    assert!(home.ok(["check", "--subset", "3/7"]).contains("part 3/7: "));
    for bad in [["--subset", "0%"], ["--subset", "3/2"], ["--max-age", "x"]] {
        assert_eq!(home.run(["check", bad[0], bad[1]]).code, 2, "{bad:?}");
    }
    assert_eq!(home.run(["check", "--read-data", "--no-key"]).code, 2);
}

#[test]
fn without_a_key_packs_are_read_by_their_names() {
    let home = home_with(&[]);
    let run = |home: &Home| cli_support::run(home.command().args(["check", "--no-key", "--repo", "repo"]));
    fs::remove_file(home.path("key")).unwrap();
    let clean = run(&home);
    assert!(clean.code == 0 && clean.stdout.contains("no damage found"), "{clean:#?}");
    assert!(clean.stderr.contains("Without a key nobody sees"), "{clean:#?}");
    let pack = largest(files(&home, "packs"));
    flip(&pack, 12_345);
    let told = run(&home);
    told.assert_failure(9, "1 problem found");
    assert!(told.stdout.contains("its bytes do not have the hash that is its name"), "{told:#?}");
}
