//! `diff` of trees: which files were added, removed and changed, and what of them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;
use std::path::{Path, PathBuf};

use cli_support::{Home, script};
use serde_json::Value;

fn make_tree(home: &Home) -> PathBuf {
    let tree = home.path("srv");
    fs::create_dir(&tree).unwrap();
    script(
        &tree,
        "mkdir etc var gone; for n in $(seq 300); do echo line $n of many >etc/$n.conf; done
         seq 200000 >var/large; truncate -s 5M var/sparse; printf x >>var/sparse; ln -s old var/link
         echo web >var/web; ln var/web var/web-2; echo lost >gone/file; mkfifo var/pipe",
    );
    tree
}

/// Path from the tree on, change and aspects of each file that differs.
fn differing(tree: &Path, document: &Value) -> Vec<(String, String, Vec<String>)> {
    let root = tree.canonicalize().unwrap().to_str().unwrap().trim_start_matches('/').to_owned();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |file: &Value| {
        let path = text(&file["path"]);
        let path =
            path.strip_prefix(&root).unwrap_or_else(|| panic!("{path}")).trim_start_matches('/').to_owned();
        (path, text(&file["change"]), file["aspects"].as_array().unwrap().iter().map(text).collect())
    };
    document["files"].as_array().unwrap().iter().map(of).collect()
}

/// A change of every kind.
fn change(tree: &Path) {
    script(
        tree,
        "rm -r gone; echo new >etc/new.conf; echo changed >etc/7.conf; chmod 600 etc/8.conf
         touch -d 2001-01-01 etc/9.conf; ln -sfn new var/link; setfattr -n user.a -v b etc/10.conf
         cp -p var/large l; sed -i 's/^150000$/15OOOO/' l; touch -r var/large l; cat l >var/large; touch -r l var/large; rm l
         cp etc/11.conf t; cat t >etc/11.conf; touch -r t etc/11.conf; rm t etc/12.conf; mkdir etc/12.conf
         echo other >var/web; touch -d 2002-02-02 etc var",
    );
}

#[test]
fn files_that_differ_are_told_with_what_of_them() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    // What is around the tree may change meanwhile.
    let path = tree.canonicalize().unwrap().display().to_string();
    home.ok(["backup", &path, "--archive", "one"]);
    change(&tree);
    home.ok(["backup", &path, "--archive", "two"]);

    let document = home.json(["diff", "one", "two", &path, "--json"]);
    let found = differing(&tree, &document);
    let want: Vec<(&str, &str, &[&str])> = vec![
        ("", "changed", &["time"]),
        ("etc", "changed", &["time"]),
        ("etc/10.conf", "changed", &["xattrs"]),
        ("etc/11.conf", "changed", &["time"]),
        ("etc/12.conf", "changed", &["kind", "mode", "time"]),
        ("etc/7.conf", "changed", &["content", "time"]),
        ("etc/8.conf", "changed", &["mode"]),
        ("etc/9.conf", "changed", &["time"]),
        ("etc/new.conf", "added", &[]),
        ("gone", "removed", &[]),
        ("gone/file", "removed", &[]),
        ("var", "changed", &["time"]),
        ("var/large", "changed", &["content"]),
        ("var/link", "changed", &["time", "target"]),
        ("var/web", "changed", &["content", "time"]),
        ("var/web-2", "changed", &["content", "time"]),
    ];
    let found: Vec<(&str, &str, Vec<&str>)> = found
        .iter()
        .map(|(path, change, aspects)| {
            (path.as_str(), change.as_str(), aspects.iter().map(String::as_str).collect())
        })
        .collect();
    // The time of `var/large` was put back to the nanosecond, and `touch -r` may say nothing of it.
    assert_eq!(found, want.iter().map(|(a, b, c)| (*a, *b, c.to_vec())).collect::<Vec<_>>());
    let counts = &document["entries"][0]["file_counts"];
    assert_eq!(
        (&counts["added"], &counts["removed"], &counts["changed"]),
        (&1.into(), &2.into(), &13.into()),
        "{counts}"
    );
    assert_eq!(counts["content_changed"], 4, "{counts}");
    assert!(counts["unchanged"].as_u64().unwrap() > 290, "{counts}");

    let text = home.ok(["diff", "one", "two", &path]);
    assert!(
        text.contains("/etc/8.conf (mode)\n")
            && text.contains("1 added, 2 removed, 13 changed (4 of them in content)"),
        "{text}"
    );
    let narrow = home.json([
        "diff",
        "one",
        "two",
        &format!("{}/gone", tree.canonicalize().unwrap().display()),
        "--json",
    ]);
    assert_eq!(differing(&tree, &narrow).len(), 2, "{narrow}");
    // Of a name whose file is not among the paths: what that file is, all the same.
    let web = format!("{}/var/web-2", tree.canonicalize().unwrap().display());
    let narrow = home.json(["diff", "one", "two", &web, "--json"]);
    assert_eq!(
        differing(&tree, &narrow),
        [("var/web-2".into(), "changed".into(), vec!["content".into(), "time".into()])]
    );
    home.fails(["diff", "one", "two", "--exit-code"], 27, "differ");
}

#[test]
fn what_is_the_same_is_found_so_however_it_was_stored() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    // What is around the tree may change meanwhile.
    let path = tree.canonicalize().unwrap().display().to_string();
    home.ok(["backup", &path, "--archive", "one"]);
    home.ok(["backup", &path, "--archive", "same"]);
    home.ok(["diff", "one", "same", &path, "--exit-code"]);
    home.ok(["backup", &path, "--exclude", "*/1*.conf", "--archive", "apart"]);
    let document = home.json(["diff", "one", "apart", &path, "--json"]);
    let changes = differing(&tree, &document);
    assert!(
        changes.iter().all(|(path, change, _)| change == "removed" && path.contains("/1")),
        "{changes:?}"
    );
    assert_eq!(changes.len(), 111, "{changes:?}");
    // A file that was rewritten with the same bytes has another time, and no other content.
    script(&tree, "for n in $(seq 300); do cp etc/$n.conf t; cat t >etc/$n.conf; done; rm t; touch etc");
    home.ok(["backup", &path, "--archive", "again"]);
    let document = home.json(["diff", "one", "again", &path, "--json"]);
    assert_eq!(document["entries"][0]["file_counts"]["content_changed"], 0, "{document}");
    assert_eq!(document["entries"][0]["file_counts"]["added"], 0);

    // Holes that came or went are no other content.
    script(&tree, "cp --sparse=never var/sparse t; cat t >var/sparse; touch -r t var/sparse; rm t");
    home.ok(["backup", &path, "--archive", "full"]);
    let sparse = format!("{}/var/sparse", tree.canonicalize().unwrap().display());
    let found = differing(&tree, &home.json(["diff", "again", "full", &sparse, "--json"]));
    assert!(found.iter().all(|(_, _, aspects)| !aspects.contains(&"content".to_owned())), "{found:?}");

    // Beside a database, and against an archive that has no files.
    let app = home.make_sqlite("app.db", 10);
    home.ok(["backup", "--sqlite", &app.display().to_string(), "--archive", "none"]);
    let document = home.json(["diff", "again", "none", &path, "--json"]);
    let counts = &document["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["kind"] == "tree")
        .unwrap()["file_counts"];
    assert_eq!((&counts["added"], &counts["changed"]), (&0.into(), &0.into()), "{counts}");
    assert!(counts["removed"].as_u64().unwrap() > 300);
}
