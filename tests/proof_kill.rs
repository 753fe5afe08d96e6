//! The real program is killed at its system calls, one after the other, and at random times. Beside it stands an
//! oracle that knows what was backed up: archives are whole, the current one is whole or absent, and the next
//! backup and prune work with no manual step.
//!
//! strace counts the calls of each thread by itself: of several, the first that comes to the chosen number is hit.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says so, and a skipped one its name"
)]

mod cli_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cli_support::{DBVAULT, Home, Run, run};
use dbvault_testkit::tier::{is_long, seed};

/// The calls that change something, and those that come before: one family after the other is counted.
const FAMILIES: [&str; 7] = [
    "openat",
    "write,pwrite64,writev",
    "fsync,fdatasync",
    "rename,renameat,renameat2",
    "link,linkat",
    "unlink,unlinkat",
    "mkdir,mkdirat",
];

/// What `run` gives for a program that SIGKILL ended.
const KILLED: i32 = 1009;

/// Length of the data of an archive, bytes.
const DATA_BYTES: usize = 120_000;

/// Text that nothing compresses well and nothing else has.
fn data(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; DATA_BYTES / 2];
    blake3::Hasher::new_derive_key("dbvault tests kill")
        .update(name.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// A home that is copied for every kill, and what the oracle knows of it.
struct Stage {
    home: Home,
    /// Archives that must stay.
    keeps: Vec<&'static str>,
    /// Archives that may be there or not.
    may_have: Vec<&'static str>,
    /// What is killed.
    words: Vec<&'static str>,
}

fn backup(home: &Home, archive: &str) -> Run {
    fs::write(home.path(archive), data(archive)).unwrap();
    let command = format!("cat {archive}");
    home.run(["backup", "--command", &command, "--name", "x", "--archive", archive])
}

fn home_with(archives: &[&str]) -> Home {
    let home = Home::with_repository();
    archives.iter().for_each(|archive| assert_eq!(backup(&home, archive).code, 0));
    home
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

impl Stage {
    fn copy(&self) -> Home {
        let home = Home::new();
        copy_dir(&self.home.path(""), &home.path(""));
        // The settings name the repository by its whole path.
        let [from, to] = [&self.home, &home].map(|home| home.path("").to_str().unwrap().to_owned());
        for (path, bytes) in cli_support::files_below(&home.path("config")) {
            fs::write(path, String::from_utf8(bytes).unwrap().replace(&from, &to)).unwrap();
        }
        home
    }

    /// Kills the program at its `nth` call of a family; gives how it ended.
    fn kill_at(&self, home: &Home, family: &str, nth: usize) -> i32 {
        let inject = format!("inject={family}:signal=KILL:when={nth}");
        let mut strace = home.in_world("strace");
        strace.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={family}"),
            "-e",
            &inject,
            DBVAULT,
        ]);
        run(strace.args(&self.words)).code
    }

    /// Kills the program some time after its start; gives how it ended.
    fn kill_after(&self, home: &Home, time: Duration) -> i32 {
        let mut command = home.command();
        command.args(&self.words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(time);
        child.kill().unwrap();
        child.wait().unwrap().code().unwrap_or(KILLED)
    }

    /// Compares what is there with what the oracle knows, and goes on.
    fn examine(&self, home: &Home, ended_well: bool, what: &str) {
        let there = home.archives();
        for name in &self.keeps {
            assert!(there.iter().any(|other| other == name), "{what}: {name} is lost: {there:?}");
        }
        let new = self.words.contains(&"backup");
        assert!(!(new && ended_well) || there.contains(&"now".to_owned()), "{what}: {there:?}");
        for name in &there {
            assert!(self.keeps.iter().chain(&self.may_have).any(|known| known == name), "{what}: {name}");
            assert!(
                home.ok(["extract", "--archive", name]).into_bytes() == data(name),
                "{what}: {name} is other"
            );
        }
        home.ok(["check", "--read-data"]);
        let next = backup(home, "next");
        assert_eq!(next.code, 0, "{what}: {next:#?}");
        home.ok(["prune", "--keep-last", "1", "--drop-most"]);
        home.ok(["compact"]);
        assert_eq!(home.archives(), ["next"], "{what}");
        assert!(home.ok(["extract", "--archive", "next"]).into_bytes() == data("next"), "{what}");
        home.ok(["check", "--read-data"]);
    }

    /// Kills at the calls of all families: at every one in the long tier, else at the 1st, 2nd, 4th, 8th and so on.
    fn kill_everywhere(&self, name: &str) {
        let (mut kills, mut calls) = (0, BTreeMap::new());
        let began = Instant::now();
        for family in FAMILIES {
            let mut nth = 1;
            loop {
                let home = self.copy();
                let code = self.kill_at(&home, family, nth);
                self.examine(&home, code == 0, &format!("{name}: killed at {family} number {nth}"));
                if code == 0 {
                    break;
                }
                kills += 1;
                calls.insert(family, nth);
                nth = if is_long() { nth + 1 } else { nth * 2 };
            }
        }
        let seconds = began.elapsed().as_secs();
        println!("proof: kill at a system call of {name}: {kills} kills, 0 violations, {seconds} s");
        assert!(kills > 10, "{calls:?}");
    }

    /// Kills at times that follow from the seed, up to what a whole run takes.
    fn kill_any_time(&self, name: &str) {
        let began = Instant::now();
        run(self.copy().command().args(&self.words));
        let whole = began.elapsed();
        let (times, mut kills) = (if is_long() { 150 } else { 8 }, 0);
        for number in 0..times {
            let home = self.copy();
            let hash = blake3::hash(&[seed().to_le_bytes(), u64::to_le_bytes(number)].concat());
            let part = f64::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) / 65536.0;
            let code = self.kill_after(&home, whole.mul_f64(part));
            kills += usize::from(code == KILLED);
            self.examine(&home, code == 0, &format!("{name}: killed after {part} of {whole:?}"));
        }
        let seconds = began.elapsed().as_secs();
        println!("proof: kill at any time of {name}: {kills} kills, 0 violations, {seconds} s");
    }

    fn prove(&self, test: &str, name: &str) {
        self.kill_any_time(name);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=none", "true"]).stderr(Stdio::null());
        match strace.status() {
            Ok(status) if status.success() => self.kill_everywhere(name),
            Ok(_) => println!("skipped: {test}: this user may not trace programs"),
            Err(error) => println!("skipped: {test}: strace: {error}"),
        }
    }
}

#[test]
fn a_killed_backup_leaves_all_or_nothing() {
    let home = home_with(&["old"]);
    fs::write(home.path("now"), data("now")).unwrap();
    let words = vec!["backup", "--command", "cat now", "--name", "x", "--archive", "now"];
    let stage = Stage { home, keeps: vec!["old"], may_have: vec!["now"], words };
    stage.prove("a_killed_backup_leaves_all_or_nothing", "backup");
}

#[test]
fn a_killed_prune_takes_nothing_that_is_kept() {
    let home = home_with(&["a", "b", "kept"]);
    let words = vec!["prune", "--keep-last", "1", "--drop-most"];
    let stage = Stage { home, keeps: vec!["kept"], may_have: vec!["a", "b"], words };
    stage.prove("a_killed_prune_takes_nothing_that_is_kept", "prune");
}

#[test]
fn a_killed_compact_takes_nothing_that_is_kept() {
    let home = home_with(&["a", "b", "kept"]);
    home.ok(["delete", "a"]);
    home.ok(["delete", "b"]);
    let stage = Stage { home, keeps: vec!["kept"], may_have: vec![], words: vec!["compact"] };
    stage.prove("a_killed_compact_takes_nothing_that_is_kept", "compact");
}
