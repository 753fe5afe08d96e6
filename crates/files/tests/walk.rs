//! What a walk finds, in which order, and what it leaves out.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod support;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use dbvault_files::{
    Capture, Patterns, Root, UNCHANGED_MARGIN_SECONDS, Walk, WalkOptions, is_unchanged, read_path_list,
};
use dbvault_format::file_table::{FileTime, compare_paths};
use support::{is_root, shell, strings, walked, write_file};

fn tree(script: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    shell(directory.path(), script);
    directory
}

/// What is found below `base`, `""` for itself.
fn found(base: &Path, roots: &[&str], options: WalkOptions) -> Vec<String> {
    let roots = roots.iter().map(|root| Root::tree(base.join(root))).collect();
    strings(&walked(roots, options), base)
}

#[test]
fn the_order_is_that_of_a_table() {
    let tree = tree(
        "mkdir -p a/b a-b a.b 'a b' ab; touch a/c a/b/x a-b/x b; mkdir many; cd many; seq 2000 | xargs touch",
    );
    let paths = walked(vec![Root::tree(tree.path())], WalkOptions::default());
    assert!(paths.windows(2).all(|pair| compare_paths(&pair[0], &pair[1]).is_lt()));
    let counted = shell(tree.path(), "find . | wc -l").trim().parse::<usize>().unwrap();
    assert_eq!(strings(&paths, tree.path()).len(), counted);
}

#[test]
fn roots_overlap_and_links_are_followed_around_them_only() {
    let tree = tree("mkdir -p a/b/c d e; touch a/b/f a/g d/h; ln -s a/b link; ln -s gone dangling");
    let base = tree.path();
    let all = found(base, &["a/b", "a", "a/b/f", "a/./b/../b"], WalkOptions::default());
    assert_eq!(all, ["", "a", "a/b", "a/b/c", "a/b/f", "a/g"]);
    assert_eq!(found(base, &["link", "dangling"], WalkOptions::default()), ["", "dangling", "link"]);
    assert_eq!(found(base, &["link/f"], WalkOptions::default()), ["", "a", "a/b", "a/b/f"]);
    assert_eq!(found(base, &["link/"], WalkOptions::default()), ["", "a", "a/b", "a/b/c", "a/b/f"]);
    assert_eq!(found(base, &["a/nothing", "d"], WalkOptions::default()), ["", "a", "!a/nothing", "d", "d/h"]);
    assert!(Walk::new([Root::tree(base.join("no/where"))], WalkOptions::default()).is_err());
    let single =
        vec![Root::single(base.join("d")), Root::single(base.join("a/b")), Root::tree(base.join("a/b/c"))];
    assert_eq!(strings(&walked(single, WalkOptions::default()), base), ["", "a", "a/b", "a/b/c", "d"]);
    assert_eq!(walked(vec![], WalkOptions::default()), Vec::<Vec<u8>>::new());
    assert_eq!(walked(vec![Root::single("/")], WalkOptions::default()), [b""]);
    let both = walked(vec![Root::single(base.join("e")), Root::single("/")], WalkOptions::default());
    assert_eq!(both.first().unwrap(), b"");
    assert_eq!(strings(&both[1..], base), ["", "e"]);
}

#[test]
fn lists_of_paths_have_two_separators() {
    let paths = |text: &[u8]| read_path_list(text).unwrap();
    assert_eq!(paths(b"/b\n\n/a b\n"), [Path::new("/b"), Path::new("/a b")]);
    assert_eq!(paths(b"/b\nc\0/a\0"), [Path::new("/b\nc"), Path::new("/a")]);
    assert!(read_path_list(&[b'x'; 5000][..]).is_err());
}

#[test]
fn tagged_directories_keep_their_tags_only() {
    let tree = tree(
        "mkdir -p cache/in fake no/in kept; touch cache/in/x cache/y fake/x no/x no/in/y no/.nobackup kept/x
         printf 'Signature: 8a477f597d28d172789f06886806bc55\\n# a' >cache/CACHEDIR.TAG; echo other >fake/CACHEDIR.TAG; touch -d 2000-01-01 kept/x",
    );
    let options = WalkOptions {
        exclude_caches: true,
        exclude_if_present: vec![b".nobackup".to_vec()],
        ..WalkOptions::default()
    };
    assert_eq!(
        found(tree.path(), &[""], options),
        [
            "",
            "cache",
            "cache/CACHEDIR.TAG",
            "fake",
            "fake/CACHEDIR.TAG",
            "fake/x",
            "kept",
            "kept/x",
            "no",
            "no/.nobackup"
        ]
    );
}

#[test]
fn excluded_directories_are_not_walked_into() {
    let tree = tree("mkdir -p a/keep/in b; touch a/x a/keep/in/y a/keep/z b/x.o b/y");
    let base = tree.path().to_str().unwrap().trim_start_matches('/');
    let with = |set: &dyn Fn(&mut Patterns)| {
        let mut patterns = Patterns::new();
        set(&mut patterns);
        WalkOptions { patterns, ..WalkOptions::default() }
    };
    let excluded = with(&|patterns| {
        patterns.exclude(&format!("{base}/a")).unwrap();
        patterns.exclude("*.o").unwrap();
    });
    assert_eq!(found(tree.path(), &[""], excluded), ["", "b", "b/y"]);
    let taken_back = with(&|patterns| {
        patterns.pattern(&format!("+ {base}/a/keep")).unwrap();
        patterns.exclude(&format!("{base}/a")).unwrap();
    });
    let kept = ["", "a", "a/keep", "a/keep/in", "a/keep/in/y", "a/keep/z", "b", "b/x.o", "b/y"];
    assert_eq!(found(tree.path(), &[""], taken_back), kept);
    let not_looked = with(&|patterns| {
        patterns.pattern(&format!("! {base}/a")).unwrap();
        patterns.pattern(&format!("+ {base}/a/keep")).unwrap();
    });
    assert_eq!(found(tree.path(), &[""], not_looked), ["", "b", "b/x.o", "b/y"]);
    let content = with(&|patterns| patterns.exclude(&format!("{base}/a/")).unwrap());
    assert_eq!(found(tree.path(), &[""], content), ["", "a", "b", "b/x.o", "b/y"]);
}

#[test]
fn other_file_systems_are_left_out_unless_they_are_roots() {
    let name = "other_file_systems_are_left_out_unless_they_are_roots";
    let tree = tree("mkdir -p a/mounted/in b; touch a/x");
    let mount = tree.path().join("a/mounted");
    if !is_root()
        || !Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mount).status().unwrap().success()
    {
        println!("skipped: {name}: this user may not mount");
        return;
    }
    shell(&mount, "mkdir sub; touch sub/f");
    let one = || WalkOptions { one_file_system: true, ..WalkOptions::default() };
    let alone = found(tree.path(), &[""], one());
    let rooted = found(tree.path(), &["", "a/mounted/sub"], one());
    let both = found(tree.path(), &["", "a/mounted"], one());
    Command::new("umount").arg(&mount).status().unwrap();
    assert_eq!(alone, ["", "a", "a/mounted", "a/x", "b"]);
    assert_eq!(rooted, ["", "a", "a/mounted", "a/mounted/sub", "a/mounted/sub/f", "a/x", "b"]);
    assert_eq!(both, rooted);
}

#[test]
fn paths_that_are_too_long_are_named() {
    let directory = tempfile::tempdir().unwrap();
    // 20 levels of 250 bytes; made in steps, since no path may be as long as all of it.
    let name = "n".repeat(250);
    shell(
        directory.path(),
        &format!("for i in $(seq 20); do mkdir {name}; touch {name}/f; cd -P {name}; done"),
    );
    let found = walked(vec![Root::tree(directory.path())], WalkOptions::default());
    let errors: Vec<_> = found.iter().filter(|path| path[0] == b'!').collect();
    assert_eq!(errors.len(), 1, "the first directory that no path can name");
    assert!(found.iter().all(|path| path.len() <= 4096 + 1 || path[0] == b'!'));
    // The standard library removes it without long paths.
    shell(directory.path(), &format!("rm -rf {name}"));
}

#[test]
fn deep_trees_need_few_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let script =
        "p=.; for i in $(seq 900); do p=$p/d; done; mkdir -p $p; echo x >$p/f; touch z; cd d/d/d; touch z";
    shell(directory.path(), script);
    let root = Root::tree(directory.path());
    let mut opened_max = 0;
    let mut count = 0;
    for item in Walk::new([root], WalkOptions::default()).unwrap() {
        drop(item.unwrap());
        count += 1;
        if count % 100 == 0 {
            opened_max = opened_max.max(fs::read_dir("/proc/self/fd").unwrap().count());
        }
    }
    let around = directory.path().components().count() - 2;
    assert_eq!(count, 900 + 1 + 1 + 2 + around);
    assert!(opened_max < 250, "{opened_max}");
}

#[test]
fn what_can_not_be_read_is_named_and_the_rest_goes_on() {
    let tree = tree("mkdir a b; touch a/x b/y closed; chmod 000 a closed");
    let base = tree.path();
    let mut walk = Walk::new([Root::tree(base)], WalkOptions::default()).unwrap();
    let capture = Capture::new();
    let b = walk.find(|item| item.as_ref().is_ok_and(|file| file.path.ends_with(b"/b"))).unwrap().unwrap();
    fs::remove_file(base.join("b/y")).unwrap();
    fs::remove_dir(base.join("b")).unwrap();
    let problem = capture.capture(&b).unwrap_err();
    assert!(problem.is_vanished());
    assert!(problem.to_string().contains("/b: "), "{problem}");
    assert!(problem.path.ends_with(b"/b"));
    // A file that is another by now is not taken for it.
    let closed = Walk::new([Root::tree(base.join("closed"))], WalkOptions::default())
        .unwrap()
        .last()
        .unwrap()
        .unwrap();
    fs::rename(base.join("closed"), base.join("was")).unwrap();
    symlink("/etc/passwd", base.join("closed")).unwrap();
    capture.capture(&closed).unwrap_err();
    fs::remove_file(base.join("closed")).unwrap();
    write_file(&base.join("closed"), "another");
    assert!(capture.capture(&closed).unwrap_err().source.to_string().contains("replaced"));
}

#[test]
fn a_file_that_changes_while_it_is_read_keeps_its_promise() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let read = |change: &dyn Fn()| {
        write_file(&path, vec![1; 100_000]);
        let found = Walk::new([Root::tree(&path)], WalkOptions::default()).unwrap().last().unwrap().unwrap();
        let file = Capture::new().capture(&found).unwrap();
        let mut reader = file.content.unwrap();
        let mut content = vec![0; 1000];
        reader.read_exact(&mut content).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        change();
        reader.read_to_end(&mut content).unwrap();
        assert_eq!((content.len(), file.record.size_bytes), (100_000, 100_000));
        let ones = content.iter().filter(|byte| **byte == 1).count();
        let end = reader.finish().unwrap();
        (ones, end.changed, end.missing_bytes)
    };
    assert_eq!(read(&|| {}), (100_000, false, 0));
    let set_len = |bytes| fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes).unwrap();
    assert_eq!(read(&|| set_len(5000)), (5000, true, 95_000));
    assert_eq!(read(&|| set_len(0)), (1000, true, 99_000));
    assert_eq!(read(&|| set_len(200_000)), (100_000, true, 0));
    assert_eq!(read(&|| drop(shell(directory.path(), "touch file"))), (100_000, true, 0));
    assert_eq!(read(&|| fs::remove_file(&path).unwrap()), (100_000, true, 0));
}

#[test]
fn an_unchanged_file_is_known_by_lstat_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write_file(&path, "one");
    let stat = || Walk::new([Root::tree(&path)], WalkOptions::default()).unwrap().last().unwrap().unwrap();
    let found = stat();
    let record = Capture::new().capture(&found).unwrap().record;
    let later =
        |seconds| FileTime { seconds: found.stat.changed.seconds + seconds, nanoseconds: 999_999_999 };
    assert!(is_unchanged(&found.stat, &record, later(UNCHANGED_MARGIN_SECONDS)));
    assert!(
        !is_unchanged(&found.stat, &record, later(UNCHANGED_MARGIN_SECONDS - 1)),
        "too close to the backup"
    );
    std::thread::sleep(std::time::Duration::from_millis(20));
    // The same size and time of content, as programs set them that mean to hide a change.
    shell(directory.path(), "cp -p file reference; echo -n two >file; touch -r reference file");
    let changed = stat();
    assert_eq!(
        (changed.stat.modified, changed.stat.size_bytes),
        (found.stat.modified, found.stat.size_bytes)
    );
    assert!(!is_unchanged(&changed.stat, &record, later(1000)));
}

#[test]
fn an_unreadable_file_is_named_for_users_who_are_not_root() {
    let name = "an_unreadable_file_is_named_for_users_who_are_not_root";
    let tree = tree(
        "mkdir open shut; echo x >open/secret; echo y >open/file; touch shut/in; chmod 000 open/secret shut",
    );
    if !is_root() {
        let found = strings(&walked(vec![Root::tree(tree.path())], WalkOptions::default()), tree.path());
        assert_eq!(found, ["", "open", "open/file", "open/secret", "shut", "!shut"]);
        return;
    }
    // The same as a user: this program again.
    fs::set_permissions(tree.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    shell(tree.path(), "chown -R nobody .");
    if std::env::var_os("DBVAULT_AS_USER").is_some() {
        return;
    }
    let copy = tree.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["--exact", name, "--nocapture"])
        .env("TMPDIR", tree.path())
        .env("DBVAULT_AS_USER", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_is_read_elsewhere_keeps_its_paths() {
    let deep = "d/".repeat(80);
    let tree = tree(&format!(
        "mkdir -p live/in/hole live/z shot/in/hole shot/{deep} hole .hidden-x; touch live/new live/z/x shot/old shot/{deep}f; touch hole/h z"
    ));
    let base = tree.path();
    let relative =
        |name: &str| base.join(name).strip_prefix("/").unwrap().as_os_str().as_encoded_bytes().to_vec();
    let views = [("live", "shot"), ("live/in/hole", "hole"), ("live/z", "live/z")];
    let options = WalkOptions {
        views: views.map(|(path, place)| (relative(path), base.join(place))).into(),
        hidden_prefix: ".hidden-",
        ..WalkOptions::default()
    };
    let all = found(base, &[""], options.clone());
    assert!(all.contains(&format!("live/{deep}f")) && all.contains(&"live/old".into()), "{all:?}");
    // What is not there in the snapshot around it is not found, wherever it is read.
    assert!(
        all.iter().all(|path| !path.contains("new") && !path.contains("hidden") && path != "live/z"),
        "{all:?}"
    );
    assert_eq!(all.iter().filter(|path| path.ends_with("hole/h")).count(), 2, "{all:?}");
    assert_eq!(all.last().unwrap(), "z", "the walk goes on around it");
    assert!(all.iter().all(|path| !path.starts_with('!')), "{all:?}");
    let inside = found(base, &["live/old", "live/in/hole"], options.clone());
    assert_eq!(inside, ["", "live", "live/in", "live/in/hole", "live/in/hole/h", "live/old"]);
    // As the root of a view is another directory than the one that was looked for, its content is captured there.
    let (files, problems) = support::captured(vec![Root::tree(base.join("live"))], options);
    assert!(problems.is_empty(), "{problems:?}");
    assert!(files.len() > 80);
}
