//! Files: backed up, listed, found and extracted, as a person does it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use cli_support::Home;
use dbvault_testkit::noise;

/// A tree with a bit of everything, below the home.
fn make_tree(home: &Home) -> PathBuf {
    let tree = home.path("srv");
    for directory in ["conf.d", "uploads/2026", "cache", "empty"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    for number in 0..200_u32 {
        let text = format!("setting {number}\n").repeat(1 + number as usize % 40);
        fs::write(tree.join(format!("conf.d/{number:03}.conf")), text).unwrap();
    }
    fs::write(tree.join("uploads/2026/photo.raw"), noise(1_500_000, 1)).unwrap();
    fs::write(tree.join("uploads/odd \n name \u{fc}"), "x").unwrap();
    fs::write(tree.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
    fs::write(tree.join("cache/thing"), "made again at any time").unwrap();
    symlink("uploads/2026", tree.join("latest")).unwrap();
    fs::hard_link(tree.join("conf.d/001.conf"), tree.join("uploads/same.conf")).unwrap();
    fs::set_permissions(tree.join("conf.d/002.conf"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o1750)).unwrap();
    tree
}

/// What an independent program finds that differs.
fn differences(left: &Path, right: &Path) -> String {
    let with_slash = |path: &Path| format!("{}/", path.display());
    let output = Command::new("rsync")
        .args(["-naicHAXS", "--delete", "--modify-window=-1"])
        .args([with_slash(left), with_slash(right)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where an absolute path is below `root` once it is extracted there.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.canonicalize().unwrap().strip_prefix("/").unwrap())
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn a_tree_comes_back_as_it_was_and_is_not_read_twice() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    let path = tree.display().to_string();
    home.ok(["backup", &path, "--archive", "one"]);
    let again = home.json(["backup", &path, "--archive", "two", "--json"]);
    assert_eq!(again["new_bytes"], 0, "{again}");
    fs::write(tree.join("conf.d/100.conf"), "changed\n").unwrap();
    fs::remove_file(tree.join("conf.d/101.conf")).unwrap();
    fs::write(tree.join("conf.d/new.conf"), "new\n").unwrap();
    let third = home.json(["backup", &path, "--archive", "three", "--json"]);
    assert!(third["stored_bytes"].as_u64().unwrap() < 4000, "{third}");

    let out = home.path("out");
    home.ok(["extract", "--archive", "three", "--to", &out.display().to_string()]);
    assert_eq!(differences(&tree, &below(&out, &tree)), "");
    let first = home.path("first");
    home.ok(["extract", "--archive", "one", "--to", &first.display().to_string()]);
    let found = differences(&tree, &below(&first, &tree));
    for name in ["conf.d/100.conf", "conf.d/101.conf", "conf.d/new.conf"] {
        assert!(found.contains(name), "{name} in {found}");
    }
    home.ok(["check", "--read-data"]);
}

#[test]
fn an_extract_goes_on_where_one_before_ended() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    let path = tree.display().to_string();
    home.ok(["backup", &path, "--archive", "one"]);
    let out = home.path("out");
    let to = out.display().to_string();
    let made = home.json(["extract", "--archive", "one", "--to", &to, "--json"]);
    assert!(made["made"].as_u64().unwrap() > 200 && made["kept"] == 0, "{made}");
    let place = below(&out, &tree);
    let kept_inode = fs::metadata(place.join("conf.d/003.conf")).unwrap().ino();
    fs::write(place.join("conf.d/004.conf"), "broken").unwrap();
    fs::remove_file(place.join("conf.d/005.conf")).unwrap();
    fs::write(place.join("conf.d/extra.conf"), "not in the archive").unwrap();
    let again = home.json(["extract", "--archive", "one", "--to", &to, "--json"]);
    assert!(again["kept"].as_u64().unwrap() > 190, "{again}");
    assert_eq!(fs::metadata(place.join("conf.d/003.conf")).unwrap().ino(), kept_inode);
    assert!(place.join("conf.d/extra.conf").exists());
    home.ok(["extract", "--archive", "one", "--to", &to, "--delete"]);
    assert_eq!(differences(&tree, &place), "");
}

#[test]
fn paths_and_patterns_choose() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    let path = tree.display().to_string();
    let list = home.path("exclude");
    fs::write(&list, "# what is not wanted\n*.raw\n").unwrap();
    let list = list.display().to_string();
    home.ok([
        "backup",
        &path,
        "--archive",
        "one",
        "--exclude-caches",
        "--exclude",
        "*/00?.conf",
        "--exclude-from",
        &list,
    ]);
    let listed = home.ok(["list", "--archive", "one", "--files"]);
    assert!(!listed.contains("photo.raw") && !listed.contains("005.conf") && !listed.contains("cache/thing"));
    assert!(listed.contains("010.conf") && listed.contains("CACHEDIR.TAG"), "{listed}");
    assert!(listed.contains(" -> uploads/2026"), "{listed}");

    let inside = below(Path::new(""), &tree).display().to_string();
    let some = home.ok(["list", "--archive", "one", &format!("{inside}/uploads")]);
    assert!(some.contains("same.conf") && !some.contains("010.conf"), "{some}");
    let found = home.ok(["find", "*/01?.conf"]);
    assert_eq!(lines(&found).len(), 10, "{found}");
    assert!(found.starts_with("one  -rw"), "{found}");
    home.fails(["find", "*/nothing"], 12, "no file is like");

    let out = home.path("out");
    let to = out.display().to_string();
    let dry =
        home.ok(["extract", "--archive", "one", "--to", &to, "--dry-run", &format!("{inside}/uploads")]);
    assert!(dry.contains("same.conf") && !out.exists(), "{dry}");
    let depth = inside.split('/').count().to_string();
    let part = format!("{inside}/uploads");
    home.ok(["extract", "--archive", "one", "--to", &to, "--strip-components", &depth, &part]);
    let names: Vec<String> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["uploads"]);
    // Its other name was not extracted: the content is there all the same.
    assert_eq!(
        fs::read(out.join("uploads/same.conf")).unwrap(),
        fs::read(tree.join("conf.d/001.conf")).unwrap()
    );
}

#[test]
fn a_list_of_paths_is_taken_and_databases_go_along() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    let app = home.make_sqlite("app.db", 10);
    let list = home.path("list");
    fs::write(&list, format!("{0}/conf.d/010.conf\n{0}/latest\n", tree.display())).unwrap();
    let document = home.json([
        "backup",
        "--files-from",
        &list.display().to_string(),
        "--sqlite",
        &app.display().to_string(),
        "--archive",
        "both",
        "--json",
    ]);
    let mut kinds: Vec<&str> =
        document["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["sqlite", "tree"], "{document}");
    let listed = home.ok(["list", "--archive", "both", "--files"]);
    assert!(listed.contains("010.conf") && !listed.contains("011.conf"), "{listed}");
    home.ok(["restore", "--archive", "both", "--yes"]);
}

#[test]
fn what_can_not_be_read_is_named_and_the_rest_kept() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    let path = tree.display().to_string();
    let gone = home.path("gone").display().to_string();
    let run = home.run(["backup", &path, &gone, "--archive", "one"]);
    assert_eq!(run.code, 28, "{run:#?}");
    assert!(run.stderr.contains("gone: ") && run.stderr.contains("o such file"), "{run:#?}");
    assert!(home.ok(["list", "--archive", "one", "--files"]).contains("010.conf"));
    // A path that leads through what is no directory, or a bad pattern: no archive.
    home.fails(["backup", &path, "--exclude", "re:(", "--archive", "two"], 2, "re:(");
    home.fails(["backup", &format!("{path}/none/file"), "--archive", "two"], 2, "cannot find");
    home.fails(["backup", "--exclude-from", "/nonexistent", &path, "--archive", "two"], 2, "/nonexistent");
    assert_eq!(home.archives(), ["one"]);
    home.fails(["extract", "--archive", "one", "etc"], 2, "--to");
    let app = home.make_sqlite("app.db", 10);
    home.ok(["backup", "--sqlite", &app.display().to_string(), "--archive", "three"]);
    let to = home.path("out").display().to_string();
    home.fails(["extract", "--archive", "three", "--to", &to], 12, "has no files");
}

#[test]
fn a_path_that_is_not_there_is_told_and_alone_makes_no_archive() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    let gone = home.path("gone");
    let run = home.run(["backup", gone.to_str().unwrap()]);
    run.assert_failure(2, &format!("cannot find {}", gone.display()));
    assert_eq!(home.archives(), [""; 0]);
    let run = home.run(["backup", "--archive", "one", gone.to_str().unwrap(), tree.to_str().unwrap()]);
    run.assert_failure(28, "1 file could not be stored");
    let line = format!("cannot find {}", gone.display());
    assert_eq!(run.stderr.matches(&line).count(), 1, "{run:#?}");
    assert_eq!(home.archives(), ["one"]);
}

#[test]
fn two_trees_of_a_host_do_not_make_each_other_read_again() {
    let home = Home::with_repository();
    let (first, second) = (make_tree(&home), home.path("other"));
    fs::create_dir(&second).unwrap();
    fs::write(second.join("file"), "of the other tree").unwrap();
    // A file that was changed just before a backup is read again by the next.
    sleep(Duration::from_millis(2100));
    let path = |tree: &Path| tree.display().to_string();
    for _ in 0..2 {
        home.ok(["backup", &path(&first)]);
        home.ok(["backup", &path(&second)]);
    }
    let unread = first.join("conf.d/010.conf");
    let log = home.path("strace");
    let mut traced = home.in_world("strace");
    traced.args(["-f", "-e", "trace=openat", "-o"]).arg(&log);
    let run = cli_support::run(traced.args([cli_support::DBVAULT, "backup"]).arg(&first));
    assert_eq!(run.code, 0, "{run:#?}");
    let opened = fs::read_to_string(log).unwrap();
    assert!(opened.contains("conf.d") && !opened.contains(unread.file_name().unwrap().to_str().unwrap()));
}
