//! Everything that can go wrong for a user: a clear error, an exit code of its own, and nothing broken.

mod cli_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cli_support::{DBVAULT, Home, run, run_with_input};

const BACKUP: [&str; 5] = ["backup", "--command", "echo x", "--name", "x"];

#[test]
fn wrong_secrets() {
    let home = Home::new();
    let with = |passphrase: &str, words: &str| {
        run(home.command().args(words.split(' ')).env("DBVAULT_PASSPHRASE", passphrase))
    };
    assert_eq!(with("right", "init repo").code, 0);
    let wrong = with("wrong", "list");
    wrong.assert_failure(7, "wrong passphrase for");
    assert!(wrong.stderr.contains("hint: the passphrase is that in DBVAULT_PASSPHRASE"), "{wrong:#?}");
    with("", "list").assert_failure(21, "the passphrase is empty");
    with("", "init other").assert_failure(21, "the passphrase is empty");
    assert!(!home.path("other").exists());
    home.ok(["init", "third", "--key-file", "key"]);
    home.fails(["list", "--key-file", "key"], 7, "wrong key file for");
    fs::write(home.path("text"), "no key").unwrap();
    home.fails(["list", "--key-file", "text"], 7, "is not a dbvault key file");
    home.fails(["list"], 21, "no passphrase or key file for");
}

#[test]
fn secrets_come_from_files_and_commands() {
    let home = Home::new();
    fs::write(home.path("passphrase"), "secret\n").unwrap();
    let with =
        |name: &str, value: &str, words: &str| run(home.command().args(words.split(' ')).env(name, value));
    assert_eq!(with("DBVAULT_PASSPHRASE_FILE", "passphrase", "init repo").code, 0);
    assert_eq!(with("DBVAULT_PASSPHRASE_COMMAND", "cat passphrase", "list").code, 0);
    assert_eq!(with("DBVAULT_PASSPHRASE", "secret", "list").code, 0);
    let failed = with("DBVAULT_PASSPHRASE_COMMAND", "echo no such entry >&2; exit 1", "list");
    failed.assert_failure(21, "the passphrase command failed");
    assert!(failed.stderr.contains("    no such entry\n"), "{failed:#?}");
    let config = home.path("config/dbvault/config.yaml");
    let text = fs::read_to_string(&config).unwrap() + "passphrase_command: cat passphrase\n";
    fs::write(&config, text).unwrap();
    home.ok(["list"]);
}

#[test]
fn no_repository() {
    let home = Home::new();
    home.fails(["list"], 3, "no repository is named");
    home.fails(["list", "--repo", "nowhere"], 3, "no repository at nowhere");
    fs::create_dir(home.path("photos")).unwrap();
    fs::write(home.path("photos/cat.jpg"), "meow").unwrap();
    home.fails(["list", "--repo", "photos"], 4, "no repository at");
    home.fails(["list", "--repo", "photos/cat.jpg"], 4, "no repository at");
    home.fails(["init", "photos", "--key-file", "key"], 4, "there are other files at photos");
    assert!(!home.path("key").exists());
}

#[test]
fn a_repository_already() {
    let home = Home::with_repository();
    home.fails(["init", "repo", "--key-file", "key"], 5, "there is a repository already at repo");
    home.fails(["init", "new", "--key-file", "new/key"], 2, "inside the repository");
    home.fails(["init"], 5, "there is a repository already");
    Home::new().fails(["init"], 2, "init needs a directory");
    fs::create_dir(home.path("empty")).unwrap();
    home.ok(["init", "empty", "--key-file", "key"]);
}

#[test]
fn a_newer_format() {
    let home = Home::with_repository();
    let path = home.path("repo/config");
    let mut config = fs::read(&path).unwrap();
    config[10..12].copy_from_slice(&2_u16.to_le_bytes());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, &config).unwrap();
    let newer = home.fails(["list"], 8, "needs a newer version of dbvault");
    assert!(newer.stderr.contains("version 2"), "{newer:#?}");
    home.fails(BACKUP, 8, "needs a newer version of dbvault");
    home.fails(["init", "repo", "--key-file", "key"], 5, "already");
}

/// Root may write anywhere, so it gives that right up first.
#[test]
fn a_read_only_directory() {
    let home = Home::with_repository();
    home.ok(BACKUP);
    let read_only = |yes: bool| {
        let directories = std::process::Command::new("find")
            .arg(home.path("repo"))
            .args(["-type", "d", "-exec", "chmod", if yes { "u-w" } else { "u+w" }, "{}", "+"])
            .status();
        assert!(directories.unwrap().success());
    };
    read_only(true);
    let without_rights = |args: &[&str]| {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = home.in_world("setpriv");
            command.args(["--bounding-set=-dac_override,-dac_read_search", "--", DBVAULT]);
            command
        } else {
            home.command()
        };
        run(command.args(args))
    };
    let backup = without_rights(&BACKUP);
    let list = without_rights(&["list"]);
    let extracted = without_rights(&["extract", "--archive", "latest"]);
    let init = without_rights(&["init", "repo/below", "--key-file", "key"]);
    read_only(false);
    backup.assert_failure(17, "permission denied");
    assert!(backup.stderr.contains("hint: check who may write there"), "{backup:#?}");
    assert_eq!((list.code, extracted.stdout.as_str()), (0, "x\n"), "reading needs no right to write");
    init.assert_failure(17, "permission denied");
    assert_eq!(home.archives().len(), 1);
}

#[test]
fn names_that_are_taken_or_bad() {
    let home = Home::with_repository();
    let named =
        |name: &str| BACKUP.iter().chain(&["--archive", name]).map(ToString::to_string).collect::<Vec<_>>();
    home.ok(named("one"));
    home.fails(named("one"), 6, "the name one is taken");
    let twice = ["backup", "--command", "touch ran", "--name", "x", "--command", "touch ran", "--name", "x"];
    home.fails(twice, 6, "two entries are named x");
    assert!(!home.path("ran").exists(), "found before anything runs");
    for bad in ["", "latest", "a\nb", &"x".repeat(4097)] {
        home.fails(named(bad), 20, "not a valid name");
    }
    home.fails(["backup", "--command", "echo x", "--name", ""], 20, "not a valid name");
    assert_eq!(home.archives(), ["one"]);
}

#[test]
fn sources_that_fail_leave_no_archive() {
    let home = Home::with_repository();
    let failed = home.fails(
        ["backup", "--command", "echo x; echo why >&2; exit 3", "--name", "x"],
        10,
        "exit status 3",
    );
    assert!(failed.stderr.contains("    why\n"), "{failed:#?}");
    assert!(failed.stderr.contains("there is no archive of this backup"), "{failed:#?}");
    home.fails(["backup", "--command", "kill -9 $$", "--name", "x"], 10, "killed by signal 9");
    home.fails(["backup", "--command", "true", "--name", "x"], 18, "empty stream: x");
    let mut piped = home.command();
    piped.args(["backup", "--stdin", "--name", "x"]);
    let empty = run_with_input(&mut piped, b"");
    empty.assert_failure(18, "empty stream: x");
    home.fails(["backup", "--sqlite", "nope.db"], 13, "no such database");
    fs::write(home.path("text.db"), "x".repeat(5000)).unwrap();
    home.fails(["backup", "--sqlite", "text.db"], 10, "cannot back up");
    // All of several.
    home.fails(
        ["backup", "--command", "exit 3", "--name", "x", "--command", "false", "--name", "y"],
        10,
        "exit status",
    );
    // One of several, for who wants all or nothing.
    let two = ["backup", "--command", "echo x", "--name", "x", "--command", "false", "--name", "y"];
    home.fails(two.into_iter().chain(["--all-or-nothing"]), 10, "cannot back up y");
    assert_eq!(home.archives(), [""; 0]);
    home.ok(BACKUP);
}

#[test]
fn a_source_that_fails_leaves_the_others() {
    let home = Home::with_repository();
    let mut sources = vec!["backup"];
    for (name, command) in [
        ("a", "seq 1 1000"),
        ("b", "echo b; echo why >&2; exit 7"),
        ("c", "echo c"),
        ("d", "kill -9 $$"),
        ("e", "echo e"),
    ] {
        sources.extend(["--command", command, "--name", name]);
    }
    let failed = home.fails(sources, 23, "2 sources are missing in archive");
    for text in [
        "error: cannot back up b",
        "exit status 7",
        "    why\n",
        "error: cannot back up d",
        "left out of the archive",
    ] {
        assert!(failed.stderr.contains(text), "{text}: {failed:#?}");
    }
    assert!(!failed.stderr.contains("there is no archive"), "{failed:#?}");
    for (name, bytes) in [("a", "1000\n"), ("c", "c\n"), ("e", "e\n")] {
        let extracted = home.ok(["extract", "--archive", "latest", "--entry", name]);
        assert!(extracted.ends_with(bytes), "{name}: {extracted}");
    }
    for name in ["b", "d"] {
        home.fails(["extract", "--archive", "latest", "--entry", name], 12, "no entry named");
    }
    home.ok(["check", "--read-data"]);
}

#[test]
fn no_program_no_server_no_database() {
    let home = Home::with_repository();
    fs::create_dir(home.path("empty")).unwrap();
    let mut command = home.command();
    command.args(["backup", "--postgres", "users"]).env("DBVAULT_PG_BINDIR", home.path("empty"));
    let missing = run(&mut command);
    missing.assert_failure(14, "program not found");
    assert!(missing.stderr.contains("postgresql-client"), "{missing:#?}");
    let socket = home.path("empty").display().to_string();
    let away = ["backup", "--postgres", "users", "--host", &socket, "--port", "1"];
    home.fails(away, 15, "cannot connect to");
}

#[test]
fn things_that_are_not_there() {
    let home = Home::with_repository();
    home.fails(["show"], 12, "no archive named latest");
    home.ok(BACKUP);
    home.ok(["backup", "--command", "echo a", "--name", "a", "--command", "echo b", "--name", "b"]);
    home.fails(["show", "nightly"], 12, "no archive named nightly");
    home.fails(["delete", "latest", "nightly"], 12, "no archive named nightly");
    assert_eq!(home.archives().len(), 2, "nothing is deleted when a name is wrong");
    let run = home.fails(["extract", "--archive", "latest"], 12, "has 2 entries");
    assert!(run.stderr.contains("a, b"), "{run:#?}");
    let run = home.fails(["extract", "--archive", "latest", "--entry", "c"], 12, "has no entry named c");
    assert!(run.stderr.contains("it has: a, b"), "{run:#?}");
    home.fails(["restore", "--archive", "latest"], 11, "cannot be restored into a database");
    home.fails(
        ["restore", "--archive", "latest", "--database", "a"],
        11,
        "cannot be restored into a database",
    );
}

#[test]
fn wrong_command_lines() {
    let home = Home::with_repository();
    for words in
        ["", "frobnicate", "backup --stdin", "backup --name x", "restore", "key", "list --quiet --verbose"]
    {
        let run = home.run(words.split_whitespace());
        assert_eq!(run.code, 2, "{words}: {run:#?}");
    }
    home.fails(["backup"], 2, "nothing to back up");
}

#[test]
fn wrong_configurations() {
    let home = Home::with_repository();
    let config = home.path("config/dbvault/config.yaml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{good}retain: 7\n")).unwrap();
    home.fails(["list"], 22, "config.yaml:4:1: unknown key retain");
    fs::write(&config, "repositories: [repo]\n").unwrap();
    home.fails(["list"], 22, "path is not an absolute path");
    fs::write(&config, "repositories: [\n").unwrap();
    home.fails(["list"], 22, "config.yaml:2:1");
}

#[test]
fn standard_output_that_is_full() {
    let home = Home::with_repository();
    home.ok(BACKUP);
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [&["list"][..], &["list", "--json"], &["extract", "--archive", "latest"], &["version"]] {
        let output = home.command().args(args).stdout(full()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(16), "{args:?}: {stderr}");
        assert!(stderr.contains("error: cannot write to standard output"), "{stderr}");
    }
}

#[test]
fn names_from_outside_do_not_reach_the_terminal() {
    let home = Home::with_repository();
    let evil = "evil\u{1b}[2J\u{202e}.db";
    home.make_sqlite(evil, 1);
    let backup =
        home.run(["backup", "--sqlite", evil, "--name", "x", "--comment", "a\u{7}b", "--archive", "one"]);
    assert_eq!(backup.code, 0, "{backup:#?}");
    for args in [&["show"][..], &["list"], &["restore", "--archive", "latest", "--dry-run"]] {
        let run = home.run(args);
        let text = run.stdout + &run.stderr;
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{args:?}: {text:?}");
    }
    let missing = home.run(["show", "\u{1b}[31mred"]);
    missing.assert_failure(12, "\\u{1b}[31mred");
    assert!(!missing.stderr.contains('\u{1b}'));
}

#[test]
fn a_key_file_that_others_may_read_is_warned_of() {
    let home = Home::with_repository();
    fs::set_permissions(home.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let list = home.run(["list"]);
    assert_eq!(list.code, 0);
    assert!(list.stderr.contains("warning: others than its owner may read"), "{list:#?}");
}
