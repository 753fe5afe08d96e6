//! Every command of the program, doing what it is for.

mod cli_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use cli_support::{DBVAULT, Home, run, run_with_input, sqlite_rows};
use serde_json::Value;

#[test]
fn the_four_lines_of_the_readme_run_as_they_stand() {
    let home = Home::new();
    let path = home.make_sqlite("app.db", 100);
    let dbvault =
        |words: &str| run(home.command().args(words.split(' ')).env("DBVAULT_PASSPHRASE", "secret"));
    assert_eq!(dbvault("init repo").code, 0);
    assert_eq!(dbvault("backup --sqlite app.db").code, 0);
    let list = dbvault("list");
    assert_eq!(list.stdout.lines().count(), 2, "{list:#?}");
    fs::remove_file(&path).unwrap();
    let restored = dbvault("restore --archive latest");
    assert_eq!(restored.code, 0, "{restored:#?}");
    assert_eq!(sqlite_rows(&path), 100);
}

#[test]
fn init_records_the_first_repository_and_its_key_file() {
    let home = Home::new();
    let made = home.json(["init", "repo", "--key-file", "key", "--json"]);
    assert_eq!(made["default"], true);
    assert_eq!(made["repository"]["id"].as_str().unwrap().len(), 64);
    let config = fs::read_to_string(home.path("config/dbvault/config.yaml")).unwrap();
    let canonical = home.path("repo").canonicalize().unwrap();
    assert!(config.contains(&format!("- path: \"{}\"", canonical.display())), "{config}");
    assert!(config.contains("      key_file: "), "{config}");
    assert_eq!(fs::metadata(home.path("key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(home.archives(), [""; 0], "found by the configuration alone");

    // The second repository is no default, and the key file may be used again.
    let second = home.json(["init", "other", "--key-file", "key", "--json"]);
    assert_eq!(second["default"], false);
    assert_eq!(fs::read_to_string(home.path("config/dbvault/config.yaml")).unwrap(), config);
    home.ok(["list", "--repo", "other", "--key-file", "key"]);
}

#[test]
fn init_tells_what_to_keep_safe() {
    let home = Home::new();
    let run = run(home.command().args(["init", "repo"]).env("DBVAULT_PASSPHRASE", "secret"));
    assert!(run.stderr.contains("Keep the passphrase in a safe place"), "{run:#?}");
    assert!(run.stderr.contains("it is the default from now on"), "{run:#?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn a_backup_holds_any_number_of_entries() {
    let home = Home::with_repository();
    home.make_sqlite("app.db", 10);
    let mut command = home.command();
    command.args(["backup", "--sqlite", "app.db", "--name", "app", "--stdin", "--name", "piped"]);
    command.args(["--command", "echo from a command; echo careful >&2", "--name", "made"]);
    command.args(["--archive", "first", "--comment", "a remark", "--json"]);
    let backup = run_with_input(&mut command, b"from standard input");
    assert_eq!(backup.code, 0, "{backup:#?}");
    let archive: Value = serde_json::from_str(&backup.stdout).unwrap();
    assert_eq!((&archive["name"], &archive["comment"]), (&"first".into(), &"a remark".into()));
    let entries = archive["entries"].as_array().unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["app", "piped", "made"]);
    let kinds: Vec<_> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["sqlite", "stdin", "command"]);
    assert_eq!(entries[1]["original_bytes"], 19);
    assert_eq!(entries[2]["warnings"][0], "careful");
    assert_eq!(home.ok(["extract", "--archive", "first", "--entry", "piped"]), "from standard input");
    assert_eq!(home.ok(["extract", "--archive", "first", "--entry", "made"]), "from a command\n");
}

#[test]
fn a_backup_shows_a_table_and_repeats_cost_nothing() {
    let home = Home::with_repository();
    let backup = ["backup", "--command", "seq 100000", "--name", "numbers"];
    let first = home.ok(backup);
    assert!(first.starts_with("ENTRY    KIND     ORIGINAL"), "{first}");
    assert!(first.contains("numbers  command    589 kB"), "{first}");
    let second = home.json(backup.iter().chain(&["--json"]));
    assert_eq!(second["entries"][0]["new_bytes"], 0);
    assert_eq!(home.run(backup.iter().chain(&["--quiet"])).stdout, "");
    let archives = home.archives();
    assert_eq!(archives.len(), 3);
    assert!(archives.iter().all(|name| name.contains("-20") && name.contains('T')), "{archives:?}");
}

#[test]
fn show_tells_all_of_an_archive() {
    let home = Home::with_repository();
    let database = home.make_sqlite("app.db", 10);
    home.ok(["backup", "--sqlite", "app.db", "--archive", "one", "--comment", "a remark"]);
    let text = home.ok(["show", "one"]);
    for words in ["Archive:   one", "User:      tester", "Comment:   a remark", "DURATION", "sqlite"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert!(text.contains(database.to_str().unwrap()), "{text}");
    let by_option = home.ok(["show", "--archive", "one"]);
    assert_eq!(by_option, text);
    assert_eq!(home.ok(["show"]), text, "the latest");
    let document = home.json(["show", "--json"]);
    let id = document["id"].as_str().unwrap();
    assert_eq!(home.ok(["show", &id[..8]]), text, "the beginning of the id");
    assert_eq!(document["entries"][0]["attributes"]["path"], database.to_str().unwrap());
    assert!(document["started"].as_str().unwrap().ends_with('Z'));
    let entries = home.json(["list", "--archive", "one", "--json"]);
    assert_eq!(entries["entries"], document["entries"]);
}

#[test]
fn deleted_archives_come_back() {
    let home = Home::with_repository();
    for name in ["one", "two"] {
        home.ok(["backup", "--command", "echo x", "--name", "x", "--archive", name]);
    }
    home.ok(["delete", "one", "--dry-run"]);
    assert_eq!(home.archives(), ["one", "two"]);
    let deleted = home.run(["delete", "two"]);
    assert!(deleted.stderr.contains("dbvault undelete "), "{deleted:#?}");
    assert_eq!(home.archives(), ["one"]);
    assert_eq!(home.ok(["show"]).lines().next(), Some("Archive:   one"), "latest passes over deleted ones");
    let all = home.json(["list", "--deleted", "--json"]);
    assert!(all["archives"][0]["deleted"].is_null() && all["archives"][1]["deleted"].is_string());
    home.fails(["delete", "two"], 1, "is deleted");
    home.fails(["extract", "--archive", "two"], 1, "dbvault undelete");
    home.ok(["undelete", "two"]);
    assert_eq!(home.archives(), ["one", "two"]);
    home.fails(["undelete", "two"], 1, "is not deleted");
}

#[test]
fn restore_asks_before_it_overwrites() {
    let home = Home::with_repository();
    let path = home.make_sqlite("app.db", 10);
    home.ok(["backup", "--sqlite", "app.db", "--command", "echo x", "--name", "x"]);
    rusqlite::Connection::open(&path).unwrap().execute("DELETE FROM t", []).unwrap();
    let refused = home.fails(["restore", "--archive", "latest"], 19, "overwrite file");
    assert!(refused.stderr.contains("--yes"), "{refused:#?}");
    assert_eq!(sqlite_rows(&path), 0);

    let plan = home.json(["restore", "--archive", "latest", "--dry-run", "--json"]);
    assert_eq!(plan["entries"].as_array().unwrap().len(), 1, "the command's output is no database");
    assert!(plan["entries"][0]["replaces"].as_str().unwrap().contains("app.db"));
    assert_eq!(sqlite_rows(&path), 0);

    let done = home.json(["restore", "--archive", "latest", "--yes", "--json"]);
    assert!(done["entries"][0]["destination"].as_str().unwrap().contains("app.db"));
    assert_eq!(sqlite_rows(&path), 10);
}

#[test]
fn restore_puts_one_entry_elsewhere() {
    let home = Home::with_repository();
    home.make_sqlite("app.db", 10);
    home.make_sqlite("web.db", 20);
    home.ok(["backup", "--sqlite", "app.db", "--sqlite", "web.db"]);
    home.fails(["restore", "--archive", "latest", "--to", "new.db"], 12, "has 2 entries");
    home.ok(["restore", "--archive", "latest", "--to", "new.db", "--database", "web.db"]);
    assert_eq!(sqlite_rows(&home.path("new.db")), 20);
}

#[test]
fn extract_writes_whole_files_only() {
    let home = Home::with_repository();
    home.ok(["backup", "--command", "seq 1000", "--name", "numbers"]);
    let numbers: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(home.ok(["extract", "--archive", "latest"]), numbers);
    assert_eq!(home.ok(["extract", "--archive", "latest", "--database", "numbers"]), numbers);
    let to_file = ["extract", "--archive", "latest", "--output", "out"];
    home.ok(to_file);
    assert_eq!(fs::read_to_string(home.path("out")).unwrap(), numbers);
    home.fails(to_file, 6, "there is a file already");
    fs::write(home.path("out"), "other").unwrap();
    home.ok(to_file.iter().chain(&["--force"]));
    assert_eq!(fs::read_to_string(home.path("out")).unwrap(), numbers);
    home.ok(["extract", "--archive", "latest", "--output", "/dev/null"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn check_finds_nothing_and_then_damage() {
    let home = Home::with_repository();
    home.ok(["backup", "--command", "seq 100000", "--name", "numbers"]);
    for depth in [&["check"][..], &["check", "--read-data"]] {
        assert!(home.ok(depth).contains("no damage found"));
        assert_eq!(home.json(depth.iter().chain(&["--json"]))["clean"], true);
    }
    let packs = cli_support::files_below(&home.path("repo/packs"));
    let (path, bytes) = packs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(path, &damaged).unwrap();
    let found = home.fails(["check", "--read-data"], 9, " found in ");
    assert!(found.stdout.contains("damage found"), "{found:#?}");
    let found = home.fails(["check", "--read-data", "--json"], 9, " found in ");
    let report: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(report["clean"], false);
    assert!(!report["findings"].as_array().unwrap().is_empty());
    let run = home.run(["extract", "--archive", "latest", "--output", "out"]);
    run.assert_failure(9, "hint: dbvault check --read-data");
    assert!(!home.path("out").exists(), "no half file");
}

#[test]
fn keys_come_and_go() {
    let home = Home::with_repository();
    let add =
        home.command().args(["key", "add", "--label", "spare"]).env("DBVAULT_NEW_PASSPHRASE", "new").output();
    assert!(add.unwrap().status.success());
    home.ok(["key", "add", "--new-key-file", "second-key"]);
    let keys = home.json(["key", "list", "--json"]);
    let keys = keys["keys"].as_array().unwrap();
    let of = |label: &str, kind: &str| {
        let mut found = keys.iter().filter(|key| key["label"] == label && key["kind"] == kind);
        found.next().unwrap_or_else(|| panic!("{label} in {keys:?}"))["id"].as_str().unwrap().to_owned()
    };
    let spare = of("spare", "passphrase");
    assert_eq!(keys.len(), 3);
    home.ok(["list", "--key-file", "second-key"]);
    let with = |passphrase: &str, args: &[&str]| {
        // Apart from the configuration, which names a key file.
        let mut command = home.command();
        command.args(args).env("XDG_CONFIG_HOME", home.path("none")).env("DBVAULT_REPO", home.path("repo"));
        run(command.env("DBVAULT_PASSPHRASE", passphrase).env("DBVAULT_NEW_PASSPHRASE", "newer"))
    };
    assert_eq!(with("new", &["list"]).code, 0);
    assert_eq!(with("new", &["key", "change-passphrase"]).code, 0);
    with("new", &["list"]).assert_failure(7, "wrong passphrase");
    let no_new = run(home.command().args(["key", "add"]));
    no_new.assert_failure(21, "set DBVAULT_NEW_PASSPHRASE, ");
    assert_eq!(with("newer", &["list"]).code, 0);
    home.fails(["key", "remove", &spare[..6], "--yes"], 12, "0 key slots");
    home.fails(["key", "remove", "zz", "--yes"], 12, "key slots begin with zz");
    let keys = home.json(["key", "list", "--json"]);
    let ids: Vec<_> = keys["keys"].as_array().unwrap().iter().filter(|key| key["current"] == false).collect();
    home.fails(["key", "remove", ids[0]["id"].as_str().unwrap()], 19, "whether to remove key");
    for id in &ids {
        home.ok(["key", "remove", id["id"].as_str().unwrap(), "--yes"]);
    }
    let last = home.json(["key", "list", "--json"])["keys"][0]["id"].as_str().unwrap().to_owned();
    home.fails(["key", "remove", &last, "--yes"], 1, "is the last one");
}

#[test]
fn an_exported_key_opens_the_repository_again() {
    let home = Home::with_repository();
    home.ok(["key", "export", "--output", "master"]);
    assert_eq!(fs::metadata(home.path("master")).unwrap().permissions().mode() & 0o777, 0o600);
    let printed = home.ok(["key", "export"]);
    assert_eq!(printed, fs::read_to_string(home.path("master")).unwrap());
    fs::remove_file(home.path("key")).unwrap();
    assert_ne!(home.run(["list"]).code, 0);
    home.ok(["key", "import", "master", "--new-key-file", "key"]);
    home.ok(["list"]);
    home.fails(["key", "import", "key", "--new-key-file", "third"], 7, "is not a dbvault master key");
    home.ok(["init", "other", "--key-file", "key"]);
    let foreign = ["--repo", "other", "key", "import", "master", "--new-key-file", "third"];
    home.fails(foreign, 7, "the key is that of repository");
    assert!(!home.path("third").exists());
}

#[test]
fn the_program_describes_itself() {
    let home = Home::new();
    assert!(home.ok(["version"]).starts_with("dbvault "));
    let version = home.json(["version", "--json"]);
    assert_eq!(version["format_version"], 1);
    assert!(home.ok(["--version"]).contains(version["version"].as_str().unwrap()));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(home.ok(["completions", shell]).contains("dbvault"), "{shell}");
    }
    assert!(home.ok(["man"]).contains(".TH dbvault 1"));
    home.ok(["man", "--output", "man"]);
    assert!(home.path("man/dbvault-key-add.1").exists());
    let help = home.ok(["--help"]);
    assert!(help.contains("Exit codes:") && help.contains("130  ended by Ctrl-C"), "{help}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let home = Home::with_repository();
    home.ok(["backup", "--command", "seq 1000000", "--name", "numbers"]);
    let shell = |script: &str| run(home.in_world("bash").args(["-c", script]).env("D", DBVAULT));
    let list = shell("set -o pipefail; \"$D\" list | head -1");
    assert_eq!((list.code, list.stderr.as_str()), (0, ""), "{list:#?}");
    let extract = shell("\"$D\" extract --archive latest | head -1; echo ${PIPESTATUS[0]}");
    assert_eq!((extract.stdout.as_str(), extract.stderr.as_str()), ("1\n141\n", ""));
    let mut child =
        home.command().args(["man"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}

#[test]
fn nothing_of_it_gets_into_core_files() {
    let home = Home::with_repository();
    home.ok(["backup", "--command", "ulimit -H -c", "--name", "limit"]);
    assert_eq!(home.ok(["extract", "--archive", "latest"]), "0\n", "children inherit the limit");
}
