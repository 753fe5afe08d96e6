//! A tree with everything that makes trouble is captured, restored elsewhere, and compared by other programs.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use dbvault_files::{Patterns, PlaceOptions, Root, WalkOptions};
use support::{Unlocked, assert_same, captured, depth, has, is_root, restore, shell, write_file};
use tempfile::TempDir;

const NAME_BYTES_MAX: usize = 255;

fn tools_are_there(test: &str) -> bool {
    if !is_root() {
        println!("skipped: {test}: this user is not root and can't make devices");
        return false;
    }
    ["rsync", "setfacl", "setfattr", "chattr"].iter().all(|tool| has(tool, test))
}

/// Makes one of everything in `tree`.
fn make_hostile_tree(tree: &Path) {
    fs::create_dir(tree).unwrap();
    names(tree);
    sparse_files(tree);
    fs::create_dir(tree.join("kinds")).unwrap();
    drop(UnixListener::bind(tree.join("kinds/socket")).unwrap());
    shell(
        tree,
        r#"
        mkdir times modes acls links links/a links/b owned
        mkfifo -m 604 kinds/fifo
        mknod kinds/null c 1 3; mknod kinds/block b 7 200; mknod -m 600 kinds/wide c 1000 70000
        ln -s /nowhere/at/all kinds/dangling; ln -s . kinds/here; ln -s ../modes kinds/up; chown -h 1234:5678 kinds/here
        : >empty; head -c 5000000 /dev/urandom >big; head -c 4096 /dev/zero >zeros
        echo one >links/a/1; ln links/a/1 links/a/2; ln links/a/1 links/b/1; ln links/a/1 links/before
        ln kinds/fifo links/fifo; ln kinds/dangling links/symlink; ln kinds/null links/b/null
        for mode in 0000 0111 0444 2755 4755 6711 1644 7777; do echo $mode >modes/$mode; chown 33:44 modes/$mode; chmod $mode modes/$mode; done
        mkdir modes/closed modes/sticky; echo in >modes/closed/file; chmod 0000 modes/closed; chmod 1777 modes/sticky
        mkdir modes/setgid; chmod 2770 modes/setgid
        echo x >owned/numbers; chown 4000000000:3999999999 owned/numbers; echo y >owned/names; chown nobody:daemon owned/names
        for time in 1901-12-14 1969-12-31T23:59:59.999999999 1970-01-01T00:00:00Z 2038-01-19T03:14:08Z 2204-02-29 2445-12-31; do
            touch times/$time; touch -d $time times/$time; ln -s x times/link$time; touch -h -d $time times/link$time
        done
        mkdir times/old; echo x >times/old/x; touch -d 1955-05-05T05:05:05.123456789 times/old
        echo a >acls/file; setfacl -m u:1001:rwx,g:1002:r--,m::r-x acls/file; chmod g+w acls/file
        mkdir acls/default; setfacl -m u:1001:rwx acls/default; setfacl -d -m u:1003:rwx,o::- acls/default; mkdir acls/default/in; echo b >acls/default/in/file
        echo c >acls/default/without; setfacl -b acls/default/without
        setfattr -n user.note -v hello acls/file; setfattr -n user.binary -v 0x00ff0a acls/default; setfattr -n trusted.secret -v s empty
        setfattr -n trusted.onlink -v s -h kinds/dangling; setfattr -n trusted.onfifo -v s kinds/fifo; setfattr -n user.empty empty
        setfattr -n user.long -v $(head -c 2000 /dev/zero | tr '\0' x) modes/0444
        mkdir flags; echo a >flags/append; echo i >flags/immutable; echo d >flags/nodump; mkdir flags/closed; echo f >flags/closed/file
        ln flags/immutable flags/second; touch -d 2001-02-03 flags/immutable
        "#,
    );
    if shell(tree, "chattr +a flags/append 2>/dev/null && echo yes || true").trim() == "yes" {
        shell(tree, "chattr +i flags/immutable flags/closed; chattr +dA flags/nodump");
    }
}

fn names(tree: &Path) {
    let directory = tree.join("names");
    fs::create_dir(&directory).unwrap();
    let long = "x".repeat(NAME_BYTES_MAX);
    let names: [&[u8]; 14] = [
        b"with\nnewline",
        b"\xff\xfe not utf-8",
        b"-rf",
        b" space ",
        b"tab\t",
        b"\x1b[31mred",
        b"*?[]{}",
        b"back\\slash",
        b"quote'\"",
        "\u{fc}mlaut".as_bytes(),
        b"u\xcc\x88mlaut",
        b"...",
        b".dbvault-part-0000000000000000",
        long.as_bytes(),
    ];
    for name in names {
        write_file(&directory.join(OsStr::from_bytes(name)), name);
    }
    fs::create_dir(directory.join("y".repeat(NAME_BYTES_MAX))).unwrap();
    write_file(&directory.join("y".repeat(NAME_BYTES_MAX)).join(&long), "deep and long");
    let mut deep = tree.join("deep");
    for level in 0..200 {
        fs::create_dir(&deep).unwrap();
        write_file(&deep.join("file"), level.to_string());
        deep.push(format!("level{level}"));
    }
    fs::create_dir(tree.join("siblings")).unwrap();
    for name in ["a", "a/b", "a-b", "a.b", "ab", "a\u{1}"] {
        fs::create_dir(tree.join("siblings").join(name)).unwrap();
    }
}

fn sparse_files(tree: &Path) {
    let directory = tree.join("sparse");
    fs::create_dir(&directory).unwrap();
    let make = |name: &str, size: u64, data: &[u64]| {
        let file = File::create(directory.join(name)).unwrap();
        file.set_len(size).unwrap();
        for offset in data {
            file.write_all_at(&[b'd'; 5000], *offset).unwrap();
        }
    };
    make("hole only", 1 << 24, &[]);
    make("hole first", (1 << 20) + 5000, &[1 << 20]);
    make("hole last", 1 << 20, &[0]);
    // Not larger: the comparer reads all of it.
    make("large", 1 << 28, &[0, 1 << 20, 1 << 25, (1 << 28) - 5000]);
    make("odd", 1_234_567, &[777, 500_000]);
}

fn top_alone(options: PlaceOptions, tree: &Path) -> PlaceOptions {
    PlaceOptions { strip_components: depth(tree) - 1, ..options }
}

/// A directory, and two empty ones in it: what is backed up, and where it is brought back.
fn two_places() -> (TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (tree, target) = (directory.path().join("tree"), directory.path().join("target"));
    fs::create_dir(&tree).unwrap();
    fs::create_dir(&target).unwrap();
    (directory, tree, target)
}

#[test]
fn a_hostile_tree_comes_back_as_it_was() {
    if !tools_are_there("a_hostile_tree_comes_back_as_it_was") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let _unlocked = Unlocked(directory.path());
    let (tree, target) = (directory.path().join("tree"), directory.path().join("target"));
    make_hostile_tree(&tree);
    fs::create_dir(&target).unwrap();
    let (files, problems) = captured(vec![Root::tree(&tree)], WalkOptions::default());
    assert!(problems.is_empty(), "{problems:?}");
    let problems = restore(&files, &target, top_alone(PlaceOptions::default(), &tree));
    assert!(problems.is_empty(), "{problems:?}");
    assert_same(&tree, &target.join("tree"));
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    for name in ["hole only", "hole first", "hole last", "large", "odd"] {
        let place = Path::new("sparse").join(name);
        assert!(blocks(&target.join("tree").join(&place)) <= blocks(&tree.join(&place)) + 8, "{name}");
    }

    // Once more: nothing is written, and nothing changes.
    let inode = |name: &str| fs::symlink_metadata(target.join("tree").join(name)).unwrap().ino();
    let names = ["big", "kinds/dangling", "kinds/null", "flags/immutable", "links/b/1"];
    let before = names.map(inode);
    let problems = restore(&files, &target, top_alone(PlaceOptions::default(), &tree));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(names.map(inode), before);
    assert_same(&tree, &target.join("tree"));

    // And over things that are different.
    shell(
        &target.join("tree"),
        "rm -r times; ln -s /etc times; rm big; mkdir big; echo longer >zeros; chattr -i flags/closed; rm flags/closed/file
         echo extra >flags/closed/extra; mkdir -p extra/more; echo x >extra/more/x; chattr +i extra/more/x extra/more; setfacl -m u:7:rwx empty
         rm kinds/fifo; echo no >kinds/fifo; rm links/a/2; echo other >links/a/2; mkdir -p kinds2 modes/0444.d; chmod 700 modes/closed",
    );
    let options = || PlaceOptions { delete_extra: true, ..PlaceOptions::default() };
    // Components that are stripped here are those of the target alone, so that each directory comes once.
    let problems = restore(&files, &target, top_alone(options(), &tree));
    assert!(problems.is_empty(), "{problems:?}");
    // An ACL is no part of what tells a right file: it stays. All is made anew to be rid of it.
    let all = PlaceOptions { keep_right: false, ..options() };
    let problems = restore(&files, &target, top_alone(all, &tree));
    assert!(problems.is_empty(), "{problems:?}");
    assert_same(&tree, &target.join("tree"));
    let left: Vec<_> = shell(&target, "find . -name '.dbvault-part-*'").lines().map(str::to_owned).collect();
    assert_eq!(left, ["./tree/names/.dbvault-part-0000000000000000"]);
}

#[test]
fn a_huge_sparse_file_costs_what_is_in_it() {
    let (_directory, tree, target) = two_places();
    let file = File::create(tree.join("huge")).unwrap();
    let places = [0, 1 << 20, 1 << 35, (1 << 40) - 5000];
    for place in places {
        file.write_all_at(&[b'd'; 5000], place).unwrap();
    }
    drop(file);
    let (files, _) = captured(vec![Root::tree(&tree)], WalkOptions::default());
    assert!(files.last().unwrap().1.len() < 100_000);
    assert!(restore(&files, &target, top_alone(PlaceOptions::default(), &tree)).is_empty());
    let there = File::open(target.join("tree/huge")).unwrap();
    let metadata = there.metadata().unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(metadata.blocks() <= fs::metadata(tree.join("huge")).unwrap().blocks() + 8);
    for place in places {
        let mut bytes = [0; 5000];
        there.read_exact_at(&mut bytes, place).unwrap();
        assert_eq!(bytes, [b'd'; 5000], "{place}");
    }
}

#[test]
fn a_very_deep_tree_comes_back() {
    let (_directory, tree, target) = two_places();
    // More levels than a process may have files open.
    shell(
        &tree,
        "p=.; for i in $(seq 1500); do p=$p/d; done; mkdir -p $p; echo x >$p/f; find . -depth -exec touch -d 2002-02-02 {} +",
    );
    let (files, problems) = captured(vec![Root::tree(&tree)], WalkOptions::default());
    assert!(problems.is_empty(), "{problems:?}");
    let problems = restore(&files, &target, top_alone(PlaceOptions::default(), &tree));
    assert!(problems.is_empty(), "{problems:?}");
    let list =
        |path: &Path| shell(path, "find . -printf '%d %y %m %T@ %s\\n' | sed '/d [0-9]* /s/ [0-9]*$//'");
    assert_eq!(list(&target.join("tree")), list(&tree));
}

#[test]
fn the_record_of_the_root_is_that_of_the_target() {
    let directory = tempfile::tempdir().unwrap();
    let (mut files, _) = captured(vec![Root::single("/")], WalkOptions::default());
    files[0].0.mode = 0o751;
    files[0].0.modified.seconds = 1_000_000_000;
    let problems = restore(&files, directory.path(), PlaceOptions::default());
    assert_eq!(problems.len(), 0, "{problems:?}");
    let metadata = fs::metadata(directory.path()).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (0o751, 1_000_000_000));
}

#[test]
fn zeros_become_holes_on_request() {
    let (_directory, tree, target) = two_places();
    let mut content = vec![0; 3_000_000];
    for at in [0, 4095, 4096, 100_000, 100_001, 1_500_000, 2_999_999] {
        content[at] = 1;
    }
    write_file(&tree.join("file"), &content);
    write_file(&tree.join("zeros"), vec![0; 1_000_001]);
    let (files, _) = captured(vec![Root::tree(&tree)], WalkOptions::default());
    let options = PlaceOptions { make_sparse: true, ..PlaceOptions::default() };
    assert!(restore(&files, &target, top_alone(options, &tree)).is_empty());
    assert_eq!(fs::read(target.join("tree/file")).unwrap(), content);
    assert_eq!(fs::read(target.join("tree/zeros")).unwrap(), vec![0; 1_000_001]);
    assert_eq!(fs::metadata(target.join("tree/zeros")).unwrap().blocks(), 0);
    assert!(fs::metadata(target.join("tree/file")).unwrap().blocks() <= 8 * 8);
}

#[test]
fn patterns_choose_and_links_find_their_original() {
    let (_directory, tree, target) = two_places();
    shell(
        &tree,
        "mkdir a b; echo content >a/file; ln a/file b/other; echo no >b/no; chmod 750 b; touch -d 2001-01-01 b",
    );
    let (files, _) = captured(vec![Root::tree(&tree)], WalkOptions::default());
    let mut patterns = Patterns::new();
    let base = tree.strip_prefix("/").unwrap().to_str().unwrap();
    patterns.exclude(&format!("{base}/b/no")).unwrap();
    patterns.only([format!("{base}/b").as_str()]).unwrap();
    let extra = target.join("tree/b/no");
    fs::create_dir_all(extra.parent().unwrap()).unwrap();
    write_file(&extra, "kept, because the archive has it");
    write_file(&target.join("tree/b/extra"), "goes");
    write_file(&target.join("tree/extra"), "stays: nothing was said of this directory");
    let options = PlaceOptions { patterns, delete_extra: true, ..PlaceOptions::default() };
    let problems = restore(&files, &target, top_alone(options, &tree));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(
        shell(&target, "find . | sort | tr '\\n' ' '"),
        ". ./tree ./tree/b ./tree/b/no ./tree/b/other ./tree/extra "
    );
    assert_eq!(fs::read_to_string(target.join("tree/b/other")).unwrap(), "content\n");
    let metadata = fs::metadata(target.join("tree/b")).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (0o750, 978_307_200));
}

#[test]
fn directories_around_roots_come_back_too() {
    let (_directory, tree, target) = two_places();
    shell(&tree, "mkdir -p a/b/c a/x; chmod 711 a; chmod 500 a/b; touch -d 1999-09-09 a/b a");
    let (files, _) = captured(vec![Root::tree(tree.join("a/b/c"))], WalkOptions::default());
    assert!(restore(&files, &target, PlaceOptions::default()).is_empty());
    let there = target.join(tree.strip_prefix("/").unwrap());
    let metadata = |path: PathBuf| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.mode(), metadata.mtime())
    };
    for path in ["a", "a/b", "a/b/c"] {
        assert_eq!(metadata(there.join(path)), metadata(tree.join(path)), "{path}");
    }
    assert!(!there.join("a/x").exists());
}
