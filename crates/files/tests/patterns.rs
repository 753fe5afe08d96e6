//! Patterns beside what Borg's documentation says of its own, and lists as gitignore has them.
#![allow(clippy::unwrap_used, reason = "a test")]

use dbvault_files::{Error, Patterns};

fn excluded(pattern: &str, path: &str) -> bool {
    let mut patterns = Patterns::new();
    patterns.exclude(pattern).unwrap();
    !patterns.takes(path.as_bytes())
}

fn check(pattern: &str, hits: &[&str], misses: &[&str]) {
    for path in hits {
        assert!(excluded(pattern, path), "{pattern} has to match {path}");
    }
    for path in misses {
        assert!(!excluded(pattern, path), "{pattern} must not match {path}");
    }
}

#[test]
fn documented_examples_of_borg() {
    check("*.o", &["a.o", "home/user/file.o", "a.o/below"], &["file.odt", "o"]);
    check(
        "home/*/junk",
        &["home/user/junk", "home/user/junk/x", "home/a/b/junk"],
        &["home/junk", "home/user/junk2"],
    );
    check("/srv/user/cache/", &["srv/user/cache/x", "srv/user/cache/x/y"], &["srv/user/cache"]);
    check("*/.bundler/gems", &["home/user/.bundler/gems", "home/user/.bundler/gems/x"], &[".bundler/gem"]);
    check(
        "re:^home/[^/]+\\.tmp/",
        &["home/file.tmp/below"],
        &["home/a/file.tmp/x", "home/.tmp", "x/home/file.tmp/"],
    );
    check("re:\\.tmp$", &["a/b.tmp"], &["a/b.tmp/c"]);
    check(
        "sh:home/*/.thumbnails",
        &["home/user/.thumbnails", "home/user/.thumbnails/a/b"],
        &["home/a/b/.thumbnails"],
    );
    check("sh:**/.cache", &[".cache", "home/x/.cache", "home/x/.cache/y"], &["home/x.cache"]);
    check("sh:home/**/*.o/", &["home/a.o/x", "home/b/c/a.o/x"], &["home/a.o", "a.o/x"]);
    check("pp:home/user", &["home/user", "home/user/x"], &["home/user2", "x/home/user"]);
    check("pf:/srv/user/.cache", &["srv/user/.cache"], &["srv/user/.cache/x"]);
    check("pp:/", &["a", "a/b"], &[]);
}

#[test]
fn signs_of_shell_patterns() {
    check("fm:a?c", &["abc", "a/c", "a\u{e4}c"], &["ac", "abbc"]);
    check("sh:a?c", &["abc", "a\u{e4}c"], &["a/c", "ac"]);
    check("fm:[a-c]x[!0-9]", &["axz", "cxa"], &["dxz", "ax1"]);
    check("sh:[]]x[[]", &["]x["], &["[x]"]);
    check("fm:a[", &["a["], &["a"]);
    check("fm:[z-a]", &[], &["z", "a"]);
    check("fm:a{b,c}", &["a{b,c}"], &["ab"]);
    check("fm:a.b+(c)|d$", &["a.b+(c)|d$"], &["axb+(c)|d$", "d"]);
    check("sh:a**b", &["ab", "axxb"], &["a/b"]);
    check("sh:**/b/**/c", &["b/c", "x/b/y/z/c"], &["bc", "b/cc"]);
    check("fm:./a//b/../c", &["a/c"], &["a/b"]);
    check("fm:*\n*", &["a\nb"], &["ab"]);
}

#[test]
fn bytes_that_are_no_text_are_matched() {
    for pattern in ["fm:*.o", "sh:a/*.o", "fm:a/?.o", "re:(?-u:\\xff)\\.o$"] {
        let mut patterns = Patterns::new();
        patterns.exclude(pattern).unwrap();
        assert!(!patterns.takes(b"a/\xff.o"), "{pattern}");
    }
}

#[test]
fn the_first_pattern_decides() {
    let mut patterns = Patterns::new();
    let text = "# a comment\n\nR /home\nP fm\n+ home/*/keep\nP sh\n- home/*\n! re:^secret$\n+ pp:secret\n";
    patterns.patterns_from("list", text).unwrap();
    assert_eq!(patterns.roots(), ["/home"]);
    let taken = |path: &str| patterns.takes(path.as_bytes());
    assert!(taken("home/a/b/keep") && taken("home") && taken("other") && taken("secret/x"));
    assert!(!taken("home/a") && !taken("home/a/x") && !taken("secret"));
}

#[test]
fn lists_are_as_in_gitignore() {
    let mut patterns = Patterns::new();
    let text = "\u{feff}# comment\n\n  node_modules  \n*.log\n!important.log\n/home/*/junk\nbuild/\nsh:home/*/only\n\\#odd\n\\!odd\n";
    patterns.exclude_from("list", text).unwrap();
    let taken = |path: &str| patterns.takes(path.as_bytes());
    for path in [
        "node_modules",
        "a/b/node_modules/c",
        "x.log",
        "a/x.log",
        "home/a/b/junk",
        "a/build/x",
        "home/a/only",
        "a/#odd",
        "!odd",
    ] {
        assert!(!taken(path), "{path}");
    }
    for path in
        ["important.log", "a/important.log", "x/home/a/junk", "home/a/b/only", "a/build", "odd", "# comment"]
    {
        assert!(taken(path), "{path}");
    }
}

#[test]
fn paths_of_an_archive_are_prefixes() {
    let mut patterns = Patterns::new();
    patterns.exclude("*.o").unwrap();
    patterns.only(["/etc", "sh:home/*/x"]).unwrap();
    let taken = |path: &str| patterns.takes(path.as_bytes());
    assert!(taken("etc") && taken("etc/a") && taken("home/u/x/y"));
    assert!(!taken("etc/a.o") && !taken("home") && !taken("etcetera") && !taken(""));
}

#[test]
fn a_bad_pattern_is_named_with_its_line() {
    let failed =
        |add: &dyn Fn(&mut Patterns) -> Result<(), Error>| add(&mut Patterns::new()).unwrap_err().to_string();
    let text = failed(&|patterns| patterns.exclude_from("x.txt", "a\n\n# b\nre:a(b\n"));
    assert!(text.starts_with("bad pattern in x.txt:4: re:a(b: "), "{text}");
    assert!(failed(&|patterns| patterns.exclude("xx:a")).contains("styles are fm, sh, re, pp and pf"));
    assert!(failed(&|patterns| patterns.exclude("sh:")).contains("empty"));
    assert!(
        failed(&|patterns| patterns.patterns_from("p", "+ a\nQ b")).starts_with("bad pattern in p:2: Q b: ")
    );
    assert!(failed(&|patterns| patterns.pattern("+")).contains("a line is"));
    assert!(
        failed(&|patterns| patterns.exclude("re:(a{1000}){1000}{1000}"))
            .starts_with("bad pattern in --exclude")
    );
}
