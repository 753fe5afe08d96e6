//! `prune` and `compact` through the program.

mod cli_support;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cli_support::small_disk::SmallDisk;
use cli_support::{Home, run};

fn home_with(archives: u32) -> Home {
    let home = Home::with_repository();
    for number in 0..archives {
        // Bytes that only this archive has.
        let command = format!("head -c 300000 /dev/urandom; echo {number}");
        home.ok(["backup", "--command", &command, "--name", "x", "--archive", &format!("a{number}")]);
    }
    home
}

#[test]
fn what_no_rule_keeps_goes_and_its_space_comes_back() {
    let home = home_with(4);
    let before = home.ok(["extract", "--archive", "a3"]);
    home.fails(["prune", "--keep-last", "1"], 19, "3 of 4 archives would be dropped");
    assert_eq!(home.archives().len(), 4, "nothing was dropped");
    let told = home.ok(["prune", "--keep-last", "2", "--explain", "--dry-run"]);
    assert!(told.contains("Keep a3") && told.contains("last 1") && told.contains("Would drop a0"), "{told}");
    assert_eq!(home.archives().len(), 4);
    let document = home.json(["prune", "--keep-last", "2", "--json"]);
    assert_eq!(home.archives(), ["a2", "a3"]);
    assert!(document["freed"]["bytes"].as_u64().unwrap() > 500_000, "{document}");
    assert_eq!(document["archives"][0]["kept"], false);
    assert!(home.json(["list", "--deleted", "--json"])["archives"].as_array().unwrap().len() == 2);
    assert_eq!(home.ok(["extract", "--archive", "a3"]), before);
    home.ok(["check", "--read-data"]);
    home.ok(["prune", "--keep-last", "1", "--drop-most"]);
    assert_eq!(home.archives(), ["a3"]);
}

#[test]
fn what_is_deleted_can_be_taken_back_as_long_as_one_wants() {
    let home = home_with(2);
    home.ok(["delete", "a0"]);
    home.ok(["compact", "--keep-deleted-days", "1"]);
    home.ok(["undelete", "a0"]);
    home.ok(["check", "--read-data"]);
    home.ok(["delete", "a0"]);
    let freed = home.json(["compact", "--json"]);
    assert_eq!(freed["archives"], 1);
    home.fails(["undelete", "a0"], 12, "no archive named a0");
    home.ok(["check", "--read-data"]);
}

#[test]
fn what_is_protected_or_tagged_stays() {
    let home = home_with(4);
    home.ok(["protect", "a0"]);
    let told = home.ok(["tag", "a1", "before upgrade", "keep"]);
    assert!(told.contains("before upgrade, keep"), "{told}");
    home.ok(["tag", "a1", "--remove", "before upgrade"]);
    home.fails(["delete", "a0"], 19, "is protected");
    home.fails(["tag", "a1"], 2, "tag needs a tag");
    home.fails(["tag", "a1", "two\nlines"], 20, "not a valid name");
    let list = home.ok(["list"]);
    assert!(list.contains("TAGS") && list.contains("protected") && list.contains("keep"), "{list}");
    let shown = home.json(["show", "a1", "--json"]);
    assert_eq!((&shown["tags"][0], &shown["protected"]), (&"keep".into(), &false.into()));
    let told = home.ok(["prune", "--keep-last", "1", "--keep-tag", "keep", "--explain"]);
    assert!(told.contains("protected") && told.contains("its tag keeps it"), "{told}");
    assert_eq!(home.archives(), ["a0", "a1", "a3"]);
    home.ok(["protect", "a0", "--remove"]);
    home.ok(["delete", "a0"]);
    home.fails(["protect", "a0"], 1, "is deleted");
    home.ok(["compact"]);
    home.ok(["check", "--read-data"]);
}

#[test]
fn the_rules_of_the_configuration_hold_where_none_is_given() {
    let home = home_with(3);
    let file = home.path("config/dbvault/config.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}keep_last: 2\nkeep_deleted_days: 1\n")).unwrap();
    home.ok(["prune"]);
    assert_eq!(home.archives(), ["a1", "a2"]);
    home.ok(["undelete", "a0"]);
    fs::write(&file, format!("{text}keep_within: fortnight\n")).unwrap();
    home.fails(["prune"], 22, "keep_within is not an age");
    fs::write(&file, format!("{text}keep_within: 14d\n")).unwrap();
    home.ok(["prune"]);
    assert_eq!(home.archives().len(), 3);
    home.fails(["prune", "--keep-within", "x"], 2, "not an age like 14d");
}

#[test]
fn a_running_backup_is_named_and_one_that_was_killed_is_not_waited_for() {
    let home = home_with(2);
    let slow = ["backup", "--command", "seq 1000; sleep 600", "--name", "slow"];
    let mut child = home.command().args(slow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sessions = home.path("repo/sessions");
    let until = Instant::now() + Duration::from_secs(30);
    while fs::read_dir(&sessions).map_or(0, Iterator::count) == 0 {
        assert!(Instant::now() < until, "the backup does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    home.ok(["delete", "a0"]);
    let told = run(home.command().arg("compact"));
    let process = format!("process {}", child.id());
    assert!(told.stderr.contains("wait until") && told.stderr.contains(&process), "{told:#?}");
    let document = home.json(["compact", "--json", "--wait", "1s"]);
    assert_eq!(document["waits_for"][0]["process"], child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    let document = home.json(["compact", "--json"]);
    assert!(document["waits_for"].as_array().unwrap().is_empty(), "{document}");
    assert!(document["bytes"].as_u64().unwrap() > 250_000, "{document}");
    home.ok(["check", "--read-data"]);
}

#[test]
fn a_full_disk_can_be_pruned() {
    let home = Home::new();
    let path = home.path("disk");
    let Some(disk) = SmallDisk::mount(&path, "size=24m", "a_full_disk_can_be_pruned") else { return };
    home.ok(["init", "disk/repo", "--key-file", "key"]);
    for number in 0..5 {
        home.ok([
            "backup",
            "--command",
            "head -c 3000000 /dev/urandom",
            "--name",
            "x",
            "--archive",
            &number.to_string(),
        ]);
    }
    // To the last byte.
    let filler = fs::File::create(path.join("filler")).unwrap();
    let _ = std::io::copy(&mut fs::File::open("/dev/zero").unwrap(), &mut &filler);
    home.fails(["backup", "--command", "head -c 3000000 /dev/urandom", "--name", "x"], 16, "no space left");
    let document = home.json(["prune", "--keep-last", "2", "--drop-most", "--json"]);
    assert!(document["freed"]["bytes"].as_u64().unwrap() > 8_500_000, "{document}");
    assert_eq!(home.archives(), ["3", "4"]);
    home.ok(["check", "--read-data"]);
    home.ok(["backup", "--command", "head -c 3000000 /dev/urandom", "--name", "x", "--archive", "after"]);
    home.ok(["check", "--read-data"]);
    drop(disk);
}
