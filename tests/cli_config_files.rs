//! Files that a configuration names, beside databases.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;
use std::path::PathBuf;

use cli_support::Home;

/// A tree below the home.
fn make_tree(home: &Home) -> PathBuf {
    let tree = home.path("srv");
    for (name, text) in [
        ("one/conf/a.conf", "a"),
        ("two/conf/b.conf", "b"),
        ("two/.hidden", "h"),
        ("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55"),
        ("cache/thing", "t"),
        ("skip/.nobackup", ""),
        ("skip/file", "s"),
        ("old.tmp", "o"),
        ("keep.txt", "k"),
    ] {
        fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
        fs::write(tree.join(name), text).unwrap();
    }
    tree
}

/// Writes the configuration: that of the repository, and `text`, in which `{}` is the home.
fn configure(home: &Home, text: &str) {
    let here = home.path("").display().to_string();
    let here = here.trim_end_matches('/');
    let head = format!("repositories: ['{here}/repo']\nkey_file: '{here}/key'\n");
    fs::write(home.path("config/dbvault/config.yaml"), head + &text.replace("{}", here)).unwrap();
}

/// Paths of an archive below the tree, without it.
fn paths(home: &Home, archive: &str) -> Vec<String> {
    let listed = home.ok(["list", "--archive", archive, "--files"]);
    let tail = |line: &str| line.split_once("/srv/").map(|(_, path)| path.to_owned());
    listed.lines().filter_map(tail).collect()
}

#[test]
fn files_and_databases_go_into_one_archive_and_come_back() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    let app = home.make_sqlite("app.db", 10);
    configure(
        &home,
        "source_directories: ['{}/srv']\nexclude_patterns: ['*.tmp']\nexclude_caches: true\nexclude_if_present: [.nobackup]\n\
         sqlite_databases: [{name: app, path: '{}/app.db'}]\nkeep_last: 1\n",
    );
    assert!(home.ok(["config", "validate"]).ends_with("config.yaml: good\n"));
    let document = home.json(["backup", "--archive", "one", "--json"]);
    let mut kinds: Vec<&str> =
        document["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["file", "sqlite", "tree"], "{document}");
    let found = paths(&home, "one");
    assert!(
        found.contains(&"one/conf/a.conf".into()) && found.contains(&"cache/CACHEDIR.TAG".into()),
        "{found:?}"
    );
    for out in ["old.tmp", "cache/thing", "skip/file"] {
        assert!(!found.contains(&out.into()), "{out} in {found:?}");
    }
    let out = home.path("out");
    home.ok(["extract", "--archive", "one", "--to", &out.display().to_string()]);
    let below = out.join(tree.canonicalize().unwrap().strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(below.join("two/conf/b.conf")).unwrap(), "b");
    fs::remove_file(&app).unwrap();
    home.ok(["restore", "--archive", "one", "--yes"]);
    assert_eq!(cli_support::sqlite_rows(&app), 10);
    // The tree is as any entry: archives with and without a file are of one series, of which one is kept.
    fs::write(tree.join("keep.txt"), "changed").unwrap();
    home.ok(["backup", "--archive", "two"]);
    assert!(home.ok(["status"]).contains("files"));
    home.ok(["prune"]);
    assert_eq!(home.archives(), ["two"]);
}

#[test]
fn paths_may_be_relative_and_have_stars() {
    let home = Home::with_repository();
    make_tree(&home);
    configure(
        &home,
        "working_directory: '{}'\nsource_directories: ['srv/*/conf', srv/keep.txt, 'srv/two/*']\n",
    );
    home.ok(["backup", "--archive", "one"]);
    let found = paths(&home, "one");
    assert_eq!(found.iter().filter(|path| path.ends_with(".conf")).count(), 2, "{found:?}");
    assert!(
        found.contains(&"keep.txt".into()) && !found.iter().any(|path| path.contains("hidden")),
        "{found:?}"
    );
    // Lines of patterns name paths too, and the first that matches decides. An older file has sections.
    fs::write(home.path("lines"), "# a remark\nR srv/two\n- **/*.conf\n").unwrap();
    fs::write(home.path("ignore"), "*.txt\n").unwrap();
    configure(
        &home,
        "location:\n    working_directory: '{}'\n    patterns: ['R srv', 'P fm', '+ */one/conf/*', '! */skip']\n    patterns_from: lines\n    \
         exclude_from: [ignore]\nhooks:\n",
    );
    home.ok(["backup", "--archive", "two"]);
    let found = paths(&home, "two");
    assert!(found.contains(&"one/conf/a.conf".into()) && found.contains(&"two/.hidden".into()), "{found:?}");
    for out in ["two/conf/b.conf", "skip", "keep.txt"] {
        assert!(!found.contains(&out.into()), "{out} in {found:?}");
    }
}

#[test]
fn what_is_not_there_is_told_and_the_rest_is_kept() {
    let home = Home::with_repository();
    make_tree(&home);
    home.make_sqlite("app.db", 10);
    let text = "source_directories: ['{}/srv', '{}/gone/deep', '{}/none/*']\nsqlite_databases: [{name: app, path: '{}/app.db'}]\n";
    configure(&home, text);
    let run = home.run(["backup", "--archive", "one"]);
    run.assert_failure(28, "2 files could not be stored");
    assert!(run.stderr.contains("gone/deep") && run.stderr.contains("none/*"), "{run:#?}");
    assert!(paths(&home, "one").contains(&"keep.txt".into()));
    home.ok(["restore", "--archive", "one", "--yes"]);
    configure(&home, &format!("{text}source_directories_must_exist: true\n"));
    let run = home.run(["backup", "--archive", "two"]);
    run.assert_failure(23, "gone/deep");
    assert_eq!(home.archives(), ["one", "two"]);
    home.fails(["list", "--archive", "two", "--files"], 12, "has no files");
    configure(&home, "source_directories: ['{}/gone']\nsource_directories_must_exist: true\n");
    // The configuration itself is stored.
    home.fails(["backup", "--archive", "three"], 23, "cannot find");
    configure(&home, "source_directories: ['{}/srv']\nexclude_patterns: ['re:(']\n");
    let run = home.run(["config", "validate"]);
    assert!(run.code == 22 && run.stdout.contains("error: exclude_patterns has a bad pattern"), "{run:#?}");
    home.fails(["backup", "--archive", "four"], 22, "bad pattern");
    configure(&home, "source_directories: ['{}/srv']\nexclude_from: '{}/nothing'\n");
    home.fails(["backup", "--archive", "four"], 2, "nothing");
    assert_eq!(home.archives(), ["one", "two", "three"]);
}
