//! Archives go to another repository, with its own keys and with shared ones; what is stored is compressed anew.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cli_support::{Home, Run, run, run_with_input};
use dbvault_testkit::postgres_server::PostgresServer;
use serde_json::Value;

/// Text that compresses, and that is different for each seed.
fn rows(lines: u32, seed: u64) -> Vec<u8> {
    let row = |n: u32| {
        let hash = blake3::hash(&(u64::from(n) ^ seed << 32).to_le_bytes());
        format!("{n}\tname {}\t{}\n", n % 97, &hash.to_hex()[..12])
    };
    (0..lines).map(row).collect::<String>().into_bytes()
}

fn backup(home: &Home, archive: &str, bytes: &[u8]) {
    let run = run_with_input(
        home.command().args(["backup", "--stdin", "--name", "dump", "--archive", archive]),
        bytes,
    );
    assert_eq!(run.code, 0, "{run:#?}");
}

/// A home whose repository `repo` has archives of a stream that changes, and a second repository: `like` the first, or not.
fn two(like: bool) -> Home {
    let home = Home::with_repository();
    let mut day = rows(40_000, 1);
    for archive in ["monday", "tuesday", "wednesday"] {
        backup(&home, archive, &day);
        day[1_000_000..1_000_010].copy_from_slice(&archive.repeat(2).as_bytes()[..10]);
        day.extend(rows(500, 2));
    }
    let mut words = vec!["init", "second", "--key-file", "key2"];
    if like {
        words.extend(["--like", "repo", "--like-key-file", "key"]);
    }
    home.ok(words);
    home
}

fn copy(home: &Home, more: &[&str]) -> Run {
    home.run([&["copy", "--to", "second", "--to-key-file", "key2"], more].concat())
}

fn copy_json(home: &Home, more: &[&str]) -> Value {
    let run = copy(home, &[more, &["--json"]].concat());
    assert_eq!(run.code, 0, "{run:#?}");
    serde_json::from_str(&run.stdout).unwrap()
}

/// The program on the second repository.
fn second(home: &Home, words: &[&str]) -> Run {
    home.run([words, &["--repo", "second", "--key-file", "key2"]].concat())
}

fn states(document: &Value) -> Vec<(&str, &str)> {
    let archives = document["archives"].as_array().unwrap().iter();
    archives.map(|one| (one["name"].as_str().unwrap(), one["state"].as_str().unwrap())).collect()
}

fn sum(document: &Value, key: &str) -> u64 {
    document["archives"].as_array().unwrap().iter().map(|one| one[key].as_u64().unwrap()).sum()
}

fn assert_whole(home: &Home) {
    let check = second(home, &["check", "--read-data"]);
    assert_eq!(check.code, 0, "{check:#?}");
}

fn extracted(home: &Home, repo: &str, key: &str, archive: &str) -> Vec<u8> {
    let out = home.path("extracted");
    let _ = fs::remove_file(&out);
    let run = home.run([
        "extract",
        "--archive",
        archive,
        "--entry",
        "dump",
        "--output",
        "extracted",
        "--repo",
        repo,
        "--key-file",
        key,
    ]);
    assert_eq!(run.code, 0, "{run:#?}");
    fs::read(out).unwrap()
}

#[test]
fn all_archives_go_over_once_and_keep_what_is_said_of_them() {
    for like in [true, false] {
        let home = two(like);
        home.ok(["tag", "monday", "first"]);
        home.ok(["protect", "monday"]);
        home.ok(["comment", "tuesday", "the second"]);
        let planned = copy_json(&home, &["--dry-run"]);
        let missing = [("monday", "missing"), ("tuesday", "missing"), ("wednesday", "missing")];
        assert_eq!(states(&planned), missing);
        let none: Value = serde_json::from_str(&second(&home, &["list", "--json"]).stdout).unwrap();
        assert_eq!(none["archives"].as_array().unwrap().len(), 0, "a dry run changes nothing");

        let done = copy_json(&home, &[]);
        assert_eq!(done["shared_keys"], like);
        assert!(states(&done).iter().all(|(_, state)| *state == "copied"), "{done}");
        assert_eq!(sum(&done, "recoded_chunks") == 0, like, "{done}");
        assert_eq!(sum(&done, "carried_chunks") > 0, like, "{done}");
        let stored = |at: usize| done["archives"][at]["copy"]["stored_bytes"].as_u64().unwrap();
        assert!(stored(2) * 5 < stored(0), "{done}");
        assert_whole(&home);
        for archive in ["monday", "tuesday", "wednesday"] {
            let same =
                extracted(&home, "repo", "key", archive) == extracted(&home, "second", "key2", archive);
            assert!(same, "{archive} is another");
        }
        let list = |repo, key| {
            let list = home.json(["list", "--json", "--repo", repo, "--key-file", key]);
            let keys = ["name", "started", "finished", "host", "user", "comment", "tags", "protected"];
            let one = |info: &Value| keys.map(|key| info[key].clone());
            list["archives"].as_array().unwrap().iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(list("repo", "key"), list("second", "key2"));

        // Once more: all is there, also what was renamed there. A new one goes over alone.
        let renamed = second(&home, &["rename", "tuesday", "the other day"]);
        assert_eq!(renamed.code, 0, "{renamed:#?}");
        backup(&home, "thursday", &rows(1000, 3));
        let again = copy_json(&home, &["--all"]);
        let there =
            [("monday", "there"), ("tuesday", "there"), ("wednesday", "there"), ("thursday", "copied")];
        assert_eq!(states(&again), there);
    }
}

#[test]
fn records_go_over_as_they_are_where_keys_are_shared() {
    let home = two(true);
    // Each record is as long as it was, whatever the level of the other repository.
    let done = copy_json(&home, &[]);
    let carried = sum(&done, "carried_bytes");
    let packs = |repo: &str| -> u64 {
        let files = cli_support::files_below(&home.path(repo).join("packs"));
        files.values().map(|bytes| bytes.len() as u64).sum()
    };
    assert!(carried > 100_000 && carried <= packs("repo"), "{carried} of {}", packs("repo"));
    assert_eq!(sum(&done, "recoded_chunks"), 0);
}

#[test]
fn a_name_that_is_taken_a_damaged_archive_and_wrong_keys_are_told() {
    for like in [true, false] {
        let home = two(like);
        let before = cli_support::files_below(&home.path("repo/packs"));
        backup(&home, "bad", &rows(30_000, 9));
        backup(&home, "good", &rows(5_000, 10));
        let mut new: Vec<PathBuf> = cli_support::files_below(&home.path("repo/packs")).into_keys().collect();
        new.retain(|path| !before.contains_key(path));
        // The largest of the new packs is that of the damaged archive.
        let place = |path: &PathBuf| home.path("repo/packs").join(path);
        let worst = new.iter().map(place).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        damage(&worst);
        let taken = run_with_input(
            home.command().args(["backup", "--stdin", "--name", "dump", "--archive", "monday"]).args([
                "--repo",
                "second",
                "--key-file",
                "key2",
            ]),
            b"another",
        );
        assert_eq!(taken.code, 0, "{taken:#?}");
        let run = copy(&home, &[]);
        assert_eq!(run.code, 6, "{run:#?}");
        assert!(
            run.stderr.contains("monday") && run.stderr.contains("cannot read dump of archive bad"),
            "{run:#?}"
        );
        let list: Value = serde_json::from_str(&second(&home, &["list", "--json"]).stdout).unwrap();
        let names: Vec<&str> =
            list["archives"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["tuesday", "wednesday", "good", "monday"]);
        assert_whole(&home);
        // Alone, by its own code.
        copy(&home, &["bad"]).assert_failure(9, "archive bad");
    }
    let home = two(false);
    home.fails(["copy", "--to", "second"], 21, "second");
    home.fails(["copy", "--to", "second", "--to-key-file", "key"], 7, "second");
    home.fails(["copy", "--to", "repo", "--to-key-file", "key"], 2, "another repository");
    home.fails(["copy", "--to", "nowhere", "--to-key-file", "key"], 3, "nowhere");
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    // Some records: too many for luck.
    for at in (100..middle).step_by(5_000) {
        bytes[at] ^= 1;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_copy_that_is_ended_goes_on_and_leaves_no_half_archive() {
    for (like, signal) in [(true, "KILL"), (true, "INT"), (false, "INT"), (false, "KILL")] {
        let home = two(like);
        let mut noise = vec![0; 60_000_000];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
        backup(&home, "large", &noise);
        assert_eq!(copy(&home, &["monday", "tuesday", "wednesday"]).code, 0);
        let packs = home.path("second/packs");
        let count = || cli_support::files_below(&packs).len();
        let enough = count() + 2;
        let mut copying = home.command();
        copying.args(["copy", "--to", "second", "--to-key-file", "key2"]);
        let mut child = copying.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(120);
        while count() < enough && child.try_wait().unwrap().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.is_ok());
        child.wait().unwrap();
        assert_whole(&home);
        let done = copy_json(&home, &[]);
        let (last, before) =
            states(&done).split_last().map(|(last, before)| (*last, before.to_vec())).unwrap();
        assert_eq!(before, [("monday", "there"), ("tuesday", "there"), ("wednesday", "there")]);
        // On a machine that is fast enough it was there before the signal. What a kill loses are the packs since the last
        // segment, here all.
        assert!(matches!(last, ("large", "copied" | "there")), "{done}");
        if last.1 == "copied" && signal == "INT" {
            let new = done["archives"][3]["copy"]["new_bytes"].as_u64().unwrap();
            assert!(new < noise.len() as u64, "{new} bytes were stored again");
        }
        assert_whole(&home);
        assert!(extracted(&home, "second", "key2", "large") == noise);
        assert!(states(&copy_json(&home, &[])).iter().all(|(_, state)| *state == "there"));
    }
}

#[test]
fn databases_and_trees_come_back_from_the_copy() {
    let server = PostgresServer::start().expect("PostgreSQL starts");
    server.create_database("users").unwrap();
    let table = "CREATE TABLE t AS SELECT id, md5(id::text) AS text FROM generate_series(1, 2000) id";
    server.psql("users", table).unwrap();
    let before = server.row_hashes("users").unwrap();
    for like in [true, false] {
        let home = two(like);
        let tree = home.path("srv");
        fs::create_dir_all(tree.join("conf.d")).unwrap();
        for number in 0..300_u64 {
            fs::write(tree.join(format!("conf.d/{number:03}")), rows(20, number)).unwrap();
        }
        fs::write(tree.join("large"), rows(20_000, 5)).unwrap();
        symlink("large", tree.join("link")).unwrap();
        fs::hard_link(tree.join("large"), tree.join("other name")).unwrap();
        let path = tree.display().to_string();
        let made = run(home
            .command()
            .args(["backup", "--postgres", "users", &path, "--archive", "all"])
            .envs(server.env()));
        assert_eq!(made.code, 0, "{made:#?}");
        // Its files are spliced, and its content has gaps.
        fs::remove_file(tree.join("conf.d/150")).unwrap();
        home.ok(["backup", &path, "--archive", "later"]);
        assert_eq!(copy(&home, &[]).code, 0);
        assert_whole(&home);
        let out = home.path("out").display().to_string();
        let run = second(&home, &["extract", "--archive", "later", "--to", &out]);
        assert_eq!(run.code, 0, "{run:#?}");
        let below = home.path("out").join(tree.canonicalize().unwrap().strip_prefix("/").unwrap());
        let found = Command::new("diff").arg("-r").args([&tree, &below]).output().unwrap();
        assert!(found.status.success() && found.stdout.is_empty(), "{found:?}");
        assert_eq!(fs::read_link(below.join("link")).unwrap(), Path::new("large"));
        let to = ["restore", "--archive", "all", "--database", "users", "--to", "copied", "--yes"];
        let words = [&to[..], &["--repo", "second", "--key-file", "key2"]].concat();
        let restored = cli_support::run(home.command().args(words).envs(server.env()));
        assert_eq!(restored.code, 0, "{restored:#?}");
        assert_eq!(server.row_hashes("copied").unwrap(), before);
        server.psql("postgres", "DROP DATABASE copied").unwrap();
    }
}

#[test]
fn recompressing_saves_room_and_changes_nothing_else() {
    let home = Home::with_repository();
    let (one, two) = (rows(60_000, 1), rows(60_000, 2));
    backup(&home, "one", &one);
    backup(&home, "two", &two);
    let size = || -> u64 {
        cli_support::files_below(&home.path("repo/packs")).values().map(|bytes| bytes.len() as u64).sum()
    };
    let before = size();
    let tried = home.json(["recompress", "--level", "19", "--dry-run", "--json"]);
    assert_eq!(size(), before);
    let done = home.json(["recompress", "--level", "19", "--json"]);
    for key in ["packs", "before_bytes", "after_bytes"] {
        assert_eq!(done[key], tried[key], "{key}: {tried} and {done}");
    }
    let saved = done["before_bytes"].as_u64().unwrap() - done["after_bytes"].as_u64().unwrap();
    assert!(saved > 0 && size() < before, "{done}: {before} became {}", size());
    home.ok(["check", "--read-data"]);
    assert!(extracted(&home, "repo", "key", "one") == one);
    assert!(extracted(&home, "repo", "key", "two") == two);
    let again = home.ok(["recompress", "--level", "19"]);
    assert!(again.starts_with("Nothing to gain; 0 packs tried"), "{again}");
    // A level that does worse changes nothing.
    let after = size();
    home.ok(["recompress", "--level", "-7"]);
    assert_eq!(size(), after);
    home.fails(["recompress", "--level", "20"], 2, "--level");
}
