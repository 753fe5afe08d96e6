//! Repositories of Borg and restic, brought over: with the real programs on the other side.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and a skipped one says so"
)]

mod cli_support;

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cli_support::{Home, Run};
use dbvault_testkit::noise;
use serde_json::Value;

/// A user who has Borg, or restic, and a repository of it.
struct World {
    home: Home,
    path: String,
}

impl World {
    /// `None` where the program is not installed.
    fn new(program: &str, test: &str) -> Option<World> {
        let known = env::var("HOME").unwrap_or_default() + "/.cache/dbvault/borg/bin";
        let path = format!("{}:{known}", env::var("PATH").unwrap_or_default());
        if !env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
            println!("skipped: {test}: {program} is not installed");
            return None;
        }
        Some(World { home: Home::with_repository(), path })
    }

    fn in_world(&self, program: &str) -> Command {
        let mut command = self.home.in_world(program);
        command.env("PATH", &self.path).env("BORG_PASSPHRASE", "secret of borg");
        command.env("RESTIC_PASSWORD", "secret of restic").env("RESTIC_REPOSITORY", "restic");
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        cli_support::run(self.in_world(cli_support::DBVAULT).args(args))
    }

    fn json(&self, args: &[&str]) -> Value {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{run:#?}");
        serde_json::from_str(&run.stdout).unwrap()
    }

    fn tool(&self, program: &str, args: &[&str], directory: &Path) -> String {
        let run = cli_support::run(self.in_world(program).args(args).current_dir(directory));
        assert_eq!(run.code, 0, "{program} {args:?}: {run:#?}");
        run.stdout
    }

    fn borg(&self, args: &[&str]) -> String {
        self.tool("borg", args, &self.home.path(""))
    }

    fn sh(&self, script: &str) {
        self.tool("bash", &["-ec", script], &self.home.path(""));
    }

    /// What differs between what the archive is here and what `other` made of it there.
    fn differences(&self, archive: &str, other: &Path) -> String {
        let here = self.home.path("here");
        let _ = fs::remove_dir_all(&here);
        let run = self.run(&["extract", "--archive", archive, "--to", &here.display().to_string()]);
        assert_eq!(run.code, 0, "{run:#?}");
        let with_slash = |path: &Path| format!("{}/", path.display());
        let args = ["-naicHAXS", "--numeric-ids", "--delete", "--modify-window=-1"];
        let found =
            self.tool("rsync", &[&args[..], &[&with_slash(other), &with_slash(&here)]].concat(), &here);
        // The two directories themselves are in no archive.
        found.lines().filter(|line| !line.ends_with(" ./")).collect()
    }

    fn borg_extracted(&self, archive: &str) -> PathBuf {
        let there = self.home.path("there");
        let _ = fs::remove_dir_all(&there);
        fs::create_dir(&there).unwrap();
        let repository = self.home.path("borg");
        self.tool("borg", &["extract", "--sparse", &format!("{}::{archive}", repository.display())], &there);
        there
    }
}

/// A tree with a bit of everything, below the home.
fn make_tree(world: &World) -> PathBuf {
    let tree = world.home.path("srv");
    for directory in ["conf.d", "uploads/2026", "logs", "empty", "borgmatic/postgresql_databases/localhost"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    for number in 0..400_u32 {
        let text = format!("setting {number}\n").repeat(1 + number as usize % 90);
        fs::write(tree.join(format!("conf.d/{number:03}.conf")), text).unwrap();
    }
    for number in 0..6 {
        fs::write(tree.join(format!("uploads/2026/{number}.raw")), noise(700_000, number)).unwrap();
    }
    fs::write(tree.join("borgmatic/postgresql_databases/localhost/users"), noise(2_000_000, 99)).unwrap();
    symlink("uploads/2026", tree.join("latest")).unwrap();
    fs::hard_link(tree.join("conf.d/001.conf"), tree.join("uploads/same.conf")).unwrap();
    fs::set_permissions(tree.join("conf.d/002.conf"), fs::Permissions::from_mode(0o4711)).unwrap();
    world.sh("cd srv; mkfifo pipe; mknod null c 1 3; truncate -s 20M sparse; echo end >> sparse
         printf x > $'odd \\n \\xfc name'; printf y > $(printf 'n%.0s' {1..255})
         setfattr -n user.text -v $'a\\nb' conf.d/003.conf; setfattr -n trusted.t -v t logs
         setfacl -m u:1000:r,g:70000:rwx conf.d/005.conf; setfacl -d -m u:1001:rwx logs
         chown 12345:54321 conf.d/006.conf; chattr +d conf.d/007.conf 2> /dev/null || true
         touch -d '1975-01-01 00:00:00.123456789' conf.d/008.conf; touch -d '2001-01-01' empty");
    tree
}

/// What a day does to it.
fn change(tree: &Path, day: u32) {
    for number in [day * 7 % 400, day * 31 % 400] {
        fs::write(tree.join(format!("conf.d/{number:03}.conf")), format!("changed on day {day}\n")).unwrap();
    }
    fs::write(tree.join(format!("logs/{day}.log")), format!("a line of day {day}\n").repeat(2000)).unwrap();
    let dump = tree.join("borgmatic/postgresql_databases/localhost/users");
    let mut bytes = fs::read(&dump).unwrap();
    bytes.splice(day as usize * 50_000..day as usize * 50_000, noise(4096, u64::from(day) + 1000));
    fs::write(&dump, bytes).unwrap();
    let _ = fs::remove_file(tree.join(format!("conf.d/{:03}.conf", 399 - day)));
}

/// A repository of Borg with so many archives; gives the tree they are of.
fn make_borg(world: &World, archives: u32) -> PathBuf {
    let tree = make_tree(world);
    world.borg(&["init", "--encryption", "repokey", "borg"]);
    for day in 0..archives {
        let archive = format!("borg::day-{day:02}");
        let time = format!("2025-03-{:02}T04:05:06", day + 1);
        let comment = format!("day \"{day}\" of März");
        world.borg(&["create", "--comment", &comment, "--timestamp", &time, &archive, "srv"]);
        change(&tree, day);
    }
    tree
}

fn size(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries
        .map(
            |entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() },
        )
        .sum()
}

#[test]
fn twenty_archives_of_borg_are_what_borg_extracts() {
    let Some(world) = World::new("borg", "twenty_archives_of_borg_are_what_borg_extracts") else { return };
    make_borg(&world, 20);
    let dry = world.json(&["import-borg", "borg", "--dry-run", "--json"]);
    assert_eq!(dry["archives"].as_array().unwrap().len(), 20, "{dry}");
    assert!(world.home.archives().is_empty());

    let some = world.json(&["import-borg", "borg", "--archive", "day-1?", "--archive", "day-03", "--json"]);
    assert_eq!(some["imported"], 11, "{some}");
    let done = world.json(&["import-borg", "borg", "--json"]);
    assert_eq!(
        (&done["imported"], &done["there"], &done["failed"]),
        (&9.into(), &11.into(), &0.into()),
        "{done}"
    );
    for day in 0..20 {
        let archive = format!("day-{day:02}");
        assert_eq!(world.differences(&archive, &world.borg_extracted(&archive)), "", "{archive}");
    }
    let (here, there) = (size(&world.home.path("repo")), size(&world.home.path("borg")));
    println!("20 archives: {here} bytes here, {there} bytes in Borg");
    assert!(here * 10 <= there * 11, "{here} bytes here, {there} in Borg");

    let show = world.json(&["show", "day-04", "--json"]);
    assert_eq!(show["comment"], "day \"4\" of März", "{show}");
    assert_eq!(show["started"], "2025-03-05T04:05:06.000Z", "{show}");
    let id = world.borg(&["list", "--format", "{name} {id}{NL}", "borg"]);
    let id = id.lines().find_map(|line| line.strip_prefix("day-04 ")).unwrap();
    assert!(show["entries"][0]["attributes"]["origin"].as_str().unwrap().ends_with(id), "{show}");
    let check = world.run(&["check", "--read-data"]);
    assert_eq!(check.code, 0, "{check:#?}");
    // The next backup of the tree is an ordinary one.
    let tree = world.home.path("srv").display().to_string();
    assert_eq!(world.run(&["backup", &tree, "--archive", "own"]).code, 0);
    assert_eq!(world.json(&["import-borg", "borg", "--json"])["there"], 20);
}

#[test]
fn an_import_that_was_killed_goes_on() {
    let Some(world) = World::new("borg", "an_import_that_was_killed_goes_on") else { return };
    make_borg(&world, 6);
    let spool = world.home.path("spool");
    fs::create_dir(&spool).unwrap();
    let spool_text = spool.display().to_string();
    let import = ["import-borg", "borg", "--spool", &spool_text];
    let mut killed = 0;
    for wanted in [1, 2, 4] {
        let mut child = world.in_world(cli_support::DBVAULT).args(import).spawn().unwrap();
        let began = Instant::now();
        let objects = || fs::read_dir(world.home.path("repo/archives")).map_or(0, Iterator::count);
        while objects() < wanted && child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(300));
            std::thread::sleep(Duration::from_millis(20));
        }
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > 0, "it was too fast to be killed");
    let run = world.run(&import);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stderr.contains("there already"), "{run:#?}");
    assert_eq!(world.home.archives().len(), 6);
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "nothing is left");
    for day in [0, 3, 5] {
        let archive = format!("day-{day:02}");
        assert_eq!(world.differences(&archive, &world.borg_extracted(&archive)), "", "{archive}");
    }
}

#[test]
fn what_borg_can_not_read_is_named_and_the_rest_imported() {
    let Some(world) = World::new("borg", "what_borg_can_not_read_is_named_and_the_rest_imported") else {
        return;
    };
    let tree = make_borg(&world, 2);
    // An archive of a stream, and one whose content will be damaged.
    world.sh("echo of a pipe | borg create borg::stream -");
    fs::write(tree.join("only-here"), noise(3_000_000, 7)).unwrap();
    world.borg(&["create", "borg::damaged", "srv/only-here"]);
    world.borg(&["create", "borg::latest", "srv/conf.d"]);
    let data = world.home.path("borg/data/0");
    let mut segments: Vec<PathBuf> =
        fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort_by_key(|path| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap());
    let large = segments.iter().rfind(|path| fs::metadata(path).unwrap().len() > 2_900_000).unwrap();
    let mut bytes = fs::read(large).unwrap();
    bytes[1_500_000] ^= 1;
    fs::write(large, bytes).unwrap();

    let run = world.run(&["import-borg", "borg", "--json"]);
    assert_eq!(run.code, 23, "{run:#?}");
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    let state = |name: &str| {
        let rows = document["archives"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!((state("day-00").as_str(), state("day-01").as_str()), ("imported", "imported"));
    assert_eq!((state("stream").as_str(), state("damaged").as_str()), ("imported", "failed"));
    assert_eq!(state("latest"), "failed");
    assert!(run.stderr.contains("damaged is not imported"), "{run:#?}");
    assert_eq!(world.differences("stream", &world.borg_extracted("stream")), "");
    assert_eq!(world.home.archives().len(), 3);
    // A name that no archive can have here, under another one.
    assert_eq!(world.run(&["import-borg", "borg", "--archive", "latest", "--prefix", "borg-"]).code, 0);
    assert_eq!(world.home.archives().len(), 4);

    world.run(&["import-borg", "not-there"]).assert_failure(10, "cannot import");
    let mut wrong = world.in_world(cli_support::DBVAULT);
    let run = cli_support::run(wrong.args(["import-borg", "borg"]).env("BORG_PASSPHRASE", "wrong"));
    assert_eq!(run.code, 10, "{run:#?}");
    let mut nowhere = world.in_world(cli_support::DBVAULT);
    let run = cli_support::run(nowhere.args(["import-borg", "borg"]).env("PATH", "/nowhere"));
    run.assert_failure(14, "borg");
}

#[test]
fn flags_that_forbid_changes_come_along_and_are_cleared_away() {
    let test = "flags_that_forbid_changes_come_along_and_are_cleared_away";
    let Some(world) = World::new("borg", test) else { return };
    fs::create_dir(world.home.path("srv")).unwrap();
    fs::write(world.home.path("srv/fixed"), "must not change").unwrap();
    let chattr = |flag: &str, path: &str| {
        let mut command = Command::new("chattr");
        command
            .args([flag, path])
            .current_dir(world.home.path(""))
            .status()
            .is_ok_and(|status| status.success())
    };
    if !chattr("+i", "srv/fixed") {
        println!("skipped: {test}: the file system has no flags");
        return;
    }
    world.borg(&["init", "--encryption", "none", "borg"]);
    world.borg(&["create", "borg::one", "srv"]);
    let spool = world.home.path("spool");
    fs::create_dir(&spool).unwrap();
    let spool_text = spool.display().to_string();
    let imported = world.run(&["import-borg", "borg", "--spool", &spool_text]);
    let extracted = world.run(&["extract", "--archive", "one", "--to", "out"]);
    let lsattr = Command::new("lsattr").arg(world.home.path("out/srv/fixed")).output().unwrap();
    chattr("-i", "srv/fixed");
    chattr("-i", "out/srv/fixed");
    assert_eq!((imported.code, extracted.code), (0, 0), "{imported:#?} {extracted:#?}");
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0);
    let flags = String::from_utf8_lossy(&lsattr.stdout).into_owned();
    assert!(flags.split(' ').next().unwrap().contains('i'), "{flags}");
}

#[test]
fn snapshots_of_restic_come_with_their_tags() {
    let Some(world) = World::new("restic", "snapshots_of_restic_come_with_their_tags") else { return };
    let tree = make_tree(&world);
    // What `restic dump` does not write: whole seconds only, no pipes, devices and other names of files.
    world.sh("cd srv; rm pipe null uploads/same.conf; find . -exec touch -h -d '2011-02-03 04:05:06' {} +");
    let restic = |args: &[&str]| world.tool("restic", args, &world.home.path(""));
    restic(&["init", "--quiet"]);
    for day in 0..3_u32 {
        let tag = format!("day-{day}");
        let time = format!("2025-03-{:02} 04:05:06", day + 1);
        restic(&[
            "backup", "--quiet", "--host", "web", "--time", &time, "--tag", "all", "--tag", &tag, "srv",
        ]);
        change(&tree, day);
        world.sh("find srv -exec touch -h -d '2011-02-03 04:05:06' {} +");
    }
    let done = world.json(&["import-restic", "restic", "--json"]);
    assert_eq!((&done["imported"], &done["failed"]), (&3.into(), &0.into()), "{done}");
    assert_eq!(world.json(&["import-restic", "restic", "--json"])["there"], 3);
    for row in done["archives"].as_array().unwrap() {
        let there = world.home.path("there");
        let _ = fs::remove_dir_all(&there);
        let to = there.display().to_string();
        restic(&["restore", row["id"].as_str().unwrap(), "--target", &to]);
        assert_eq!(world.differences(row["name"].as_str().unwrap(), &there), "", "{row}");
    }
    let show = world.json(&["show", "web-2025-03-02T04:05:06Z", "--json"]);
    assert_eq!(show["host"], "web", "{show}");
    let list = world.json(&["list", "--json"]);
    let tags = &list["archives"][1]["tags"];
    assert_eq!(tags, &serde_json::json!(["all", "day-1"]), "{list}");
    assert!(size(&world.home.path("repo")) * 10 <= size(&world.home.path("restic")) * 11);
    assert!(fs::metadata(world.home.path("here/srv/conf.d/002.conf")).unwrap().mode() & 0o4000 != 0);

    // A pack that is gone: what needs it is not imported.
    let data = world.home.path("restic/data");
    let packs = fs::read_dir(&data).unwrap().flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
    let largest =
        packs.map(|entry| entry.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len());
    fs::remove_file(largest.unwrap()).unwrap();
    let run = world.run(&["import-restic", "restic", "--prefix", "again-", "--archive", "web-*"]);
    assert_eq!(run.code, 0, "all are there: {run:#?}");
    let fresh = world.home.run(["init", "other", "--key-file", "key"]);
    assert_eq!(fresh.code, 0, "{fresh:#?}");
    let run = world.run(&["import-restic", "restic", "--repo", "other", "--key-file", "key"]);
    assert_eq!(run.code, 23, "{run:#?}");
    assert!(run.stderr.contains("is not imported"), "{run:#?}");
}
