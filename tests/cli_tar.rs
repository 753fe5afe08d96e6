//! Tar archives both ways: with GNU tar as the other side, and with tars that somebody made to harm.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cli_support::{Home, run_with_input};
use dbvault_testkit::noise;

fn sh(script: &str, directory: &Path) {
    let output = Command::new("bash").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

/// A tree with every kind of file that a tar can have, below the home.
fn make_tree(home: &Home) -> PathBuf {
    let tree = home.path("srv");
    let deep = tree.join(vec!["deeper-and-deeper"; 20].join("/"));
    for directory in [&tree.join("conf.d"), &tree.join("empty"), &tree.join("acl"), &deep] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(deep.join("x".repeat(255)), "deep").unwrap();
    for number in 0..300_u32 {
        let text = format!("setting {number}\n").repeat(number as usize % 40);
        fs::write(tree.join(format!("conf.d/{number:03}.conf")), text).unwrap();
    }
    let bytes = noise(3_000_000, 1);
    fs::write(tree.join("noise.raw"), &bytes).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"odd \n \xfc\xff name");
    fs::write(tree.join(odd), "x").unwrap();
    let long_odd = [&[0xe4; 200][..], b"/"].concat();
    fs::create_dir(tree.join(std::ffi::OsStr::from_bytes(&long_odd))).unwrap();
    symlink("nowhere/".repeat(40), tree.join("conf.d/long-link")).unwrap();
    symlink("conf.d", tree.join("link")).unwrap();
    for name in ["a-link", "z-link", "conf.d/in-link"] {
        fs::hard_link(tree.join("noise.raw"), tree.join(name)).unwrap();
    }
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(50_000_000).unwrap();
    (0..40).for_each(|n| sparse.write_all_at(&bytes[..4096], n * 1_000_000 + 8192).unwrap());
    File::create(tree.join("all-hole")).unwrap().set_len(10_000_000).unwrap();
    fs::set_permissions(tree.join("conf.d/002.conf"), fs::Permissions::from_mode(0o4711)).unwrap();
    sh(
        "mkfifo pipe; mknod null c 1 3; mknod disk b 259 1048575; mkdir sticky; chmod 1777 sticky
         setfattr -n user.text -v $'a\\nb=c\\n' conf.d/003.conf; setfattr -n user.bin -v 0x000aff3d conf.d/003.conf
         setfattr -n 'user.odd=%3D%' -v x conf.d/004.conf; setfattr -n trusted.t -v t acl
         setfacl -m u:1000:r,g:70000:rwx conf.d/005.conf; setfacl -d -m u:1001:rwx acl; setfacl -m g:1002:x acl
         chown 12345:54321 conf.d/006.conf; chown -h 3000000000:2097152 link
         touch -d '1960-01-01 00:00:00.123456789' conf.d/007.conf; touch -d '2400-01-01 00:00:00.5' conf.d/008.conf
         touch -h -d '2001-02-03 04:05:06.789' link; touch -d '2001-01-01' empty",
        &tree,
    );
    tree
}

/// What an independent program finds that differs.
fn differences(left: &Path, right: &Path) -> String {
    let with_slash = |path: &Path| format!("{}/", path.display());
    let output = Command::new("rsync")
        .args(["-naicHAXS", "--numeric-ids", "--delete", "--modify-window=-1"])
        .args([with_slash(left), with_slash(right)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.canonicalize().unwrap().strip_prefix("/").unwrap())
}

fn inside(path: &Path) -> String {
    below(Path::new(""), path).display().to_string()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn gnu_tar_extracts_what_is_exported() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    home.ok(["backup", &text(&tree), "--archive", "one"]);
    let tar = home.path("one.tar");
    let document = home.json(["export-tar", "--archive", "one", &text(&tar), "--json"]);
    assert_eq!(document["bytes"].as_u64(), Some(fs::metadata(&tar).unwrap().len()));
    assert!(fs::metadata(&tar).unwrap().len() < 8_000_000, "holes are not written");
    let out = home.path("out");
    fs::create_dir(&out).unwrap();
    let extract = "tar -x --xattrs --xattrs-include='*' --acls -p --numeric-owner -f ../one.tar 2> ../said";
    sh(extract, &out);
    assert_eq!(differences(&tree, &below(&out, &tree)), "");
    // It wonders about times, and about a character set that it need not know.
    let said = fs::read_to_string(home.path("said")).unwrap();
    assert!(said.lines().all(|line| line.contains("time stamp") || line.contains("hdrcharset")), "{said}");
    assert!(fs::metadata(below(&out, &tree).join("sparse")).unwrap().blocks() < 2000);

    home.fails(["export-tar", "--archive", "one", &text(&tar)], 6, "there is a file already");
    home.ok(["export-tar", "--archive", "one", &text(&tar), "--force"]);
    let zstd = home.path("one.tar.zst");
    home.ok(["export-tar", "--archive", "one", &text(&zstd)]);
    assert!(fs::metadata(&zstd).unwrap().len() < fs::metadata(&tar).unwrap().len());
    let to_stdout = Command::new("cmp").arg(&tar).stdin(Stdio::piped()).arg("-").spawn();
    let mut compare = to_stdout.unwrap();
    let stdin = compare.stdin.take().unwrap();
    let status = home.command().args(["export-tar", "--archive", "one", "-"]).stdout(stdin).status().unwrap();
    assert!(status.success() && compare.wait().unwrap().success());

    // And back: from a file, a pipe and a compressed file.
    home.ok(["import-tar", "--archive", "file", &text(&tar)]);
    home.ok(["import-tar", "--archive", "compressed", &text(&zstd)]);
    let again = run_with_input(
        home.command().args(["import-tar", "--archive", "pipe", "-", "--timestamp", "2020-01-02T03:04:05Z"]),
        &fs::read(&tar).unwrap(),
    );
    assert_eq!(again.code, 0, "{again:#?}");
    let records = |archive: &str| home.ok(["list", "--archive", archive, "--files", "--json"]);
    for archive in ["file", "compressed", "pipe"] {
        assert_eq!(records(archive), records("one"), "{archive}");
    }
    let to = home.path("again");
    home.ok(["extract", "--archive", "pipe", "--to", &text(&to)]);
    assert_eq!(differences(&tree, &below(&to, &tree)), "");
    home.ok(["check", "--read-data"]);
    assert!(home.ok(["list"]).contains("2020-01-02"));
}

#[test]
fn what_gnu_tar_makes_is_imported() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    let parent = tree.parent().unwrap();
    let all = "--xattrs --xattrs-include='*' --acls";
    for (name, options) in [
        ("pax", format!("--format=pax {all}")),
        ("sparse-1.0", format!("--format=pax {all} --sparse --sparse-version=1.0")),
        ("sparse-0.1", format!("--format=pax {all} --sparse --sparse-version=0.1")),
        ("sparse-0.0", format!("--format=pax {all} --sparse --sparse-version=0.0")),
        ("named", format!("--format=pax {all} --sort=name")),
    ] {
        let make = format!("tar -c {options} srv | {} import-tar --archive {name} -", cli_support::DBVAULT);
        let run = cli_support::run(home.in_world("bash").args(["-c", &make]));
        assert_eq!(run.code, 0, "{run:#?}");
        let to = home.path(name);
        home.ok(["extract", "--archive", name, "--to", &text(&to)]);
        assert_eq!(differences(&tree, &to.join("srv")), "", "{name}");
        assert!(name.len() < 6 || fs::metadata(to.join("srv/sparse")).unwrap().blocks() < 2000);
    }
    // GNU's own form has no attributes, and whole seconds.
    sh("setfattr -x user.text srv/conf.d/003.conf; setfattr -x user.bin srv/conf.d/003.conf", parent);
    sh(
        "setfattr -x 'user.odd=%3D%' srv/conf.d/004.conf; setfattr -x trusted.t srv/acl; setfacl -R -b srv",
        parent,
    );
    sh("rm srv/conf.d/007.conf; find srv -depth -exec touch -h -d '2011-02-03 04:05:06' {} +", parent);
    for (name, options) in [("gnu", "--format=gnu"), ("gnu-sparse", "--format=gnu --sparse")] {
        sh(&format!("tar -c {options} -f {name}.tar srv"), parent);
        home.ok(["import-tar", "--archive", name, &text(&home.path(&format!("{name}.tar")))]);
        let to = home.path(name);
        home.ok(["extract", "--archive", name, "--to", &text(&to)]);
        assert_eq!(differences(&tree, &to.join("srv")), "", "{name}");
    }
}

#[test]
fn paths_choose_and_links_lead_to_what_is_chosen() {
    let home = Home::with_repository();
    let tree = make_tree(&home);
    home.ok(["backup", &text(&tree), "--archive", "one"]);
    let inside = inside(&tree);
    let depth = inside.split('/').count().to_string();
    let out = home.path("out");
    fs::create_dir(&out).unwrap();
    let tar = text(&home.path("some.tar"));
    let part = |path: &str| format!("{inside}/{path}");
    let paths = [part("conf.d"), part("noise.raw"), part("z-link")];
    let options = ["--force", "--strip-components", &depth, "--exclude", "*/00?.conf"];
    let all = ["export-tar", "--archive", "one", &tar].into_iter().chain(options);
    home.ok(all.chain(paths.iter().map(String::as_str)));
    sh("tar -x -f ../some.tar", &out);
    // `a-link`, which has the content, was not chosen.
    assert_eq!(fs::read(out.join("conf.d/in-link")).unwrap(), fs::read(tree.join("noise.raw")).unwrap());
    assert_eq!(fs::metadata(out.join("conf.d/in-link")).unwrap().nlink(), 3);
    assert!(out.join("conf.d/010.conf").exists() && !out.join("conf.d/001.conf").exists());
    assert!(!out.join("empty").exists());
    let short = home.ok(["export-tar", "--archive", "one", "-", "--strip-components", "99"]);
    assert_eq!(short.len(), 1024, "nothing is left");

    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    home.ok(["backup", &text(&tree), "--archive", "two"]);
    let run = home.run(["export-tar", "--archive", "two", &tar, "--force"]);
    assert_eq!(run.code, 28, "{run:#?}");
    assert!(run.stderr.contains("srv/socket: a tar has no sockets"), "{run:#?}");
    let app = home.make_sqlite("app.db", 10);
    home.ok(["backup", "--sqlite", &text(&app), "--archive", "three"]);
    home.fails(["export-tar", "--archive", "three", &tar], 12, "has no files");
}

/// A member with a name and a target as they are, whatever these are.
fn member(kind: u8, name: &[u8], target: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let ustar = header.as_ustar_mut().unwrap();
    ustar.name[..name.len()].copy_from_slice(name);
    ustar.linkname[..target.len()].copy_from_slice(target);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut member = header.as_bytes().to_vec();
    member.extend(content);
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let len = (1..).find(|len: &usize| len.to_string().len() + rest == *len).unwrap();
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

#[test]
fn names_that_no_file_can_have_are_left_out_and_told() {
    let home = Home::with_repository();
    fs::write(home.path("victim"), "untouched").unwrap();
    let nul = [record("path", b"nul\0here"), record("comment", b"x")].concat();
    let long = record("path", &[b'a'; 5000]);
    let bad_acl = record("SCHILY.acl.access", b"user:nobody-of-this-name:rwx");
    let bad_map = [
        record("GNU.sparse.major", b"1"),
        record("GNU.sparse.minor", b"0"),
        record("GNU.sparse.realsize", b"9"),
    ];
    let members = [
        member(b'0', b"../victim", b"", b"x"),
        member(b'0', b"a/../../victim", b"", b"x"),
        member(b'x', b"p", b"", &nul),
        member(b'0', b"nul", b"", b"x"),
        member(b'x', b"p", b"", &long),
        member(b'0', b"long", b"", b"x"),
        member(b'1', b"hard-outside", b"../victim", b""),
        member(b'1', b"hard-nowhere", b"not/there", b""),
        member(b'1', b"hard-itself", b"hard-itself", b""),
        member(b'2', b"no-target", b"", b""),
        member(b'Q', b"unknown", b"", b"some content of a kind that nobody knows"),
        member(b'x', b"p", b"", &bad_map.concat()),
        member(b'0', b"bad-map", b"", b"1\nx\n"),
        member(b'2', b"trap", b"/", b""),
        member(b'0', b"trap/victim", b"", b"x"),
        member(b'x', b"p", b"", &bad_acl),
        member(b'0', b"acl", b"", b"kept without it"),
        // These are good.
        member(b'0', b"/absolute/./path", b"", b"absolute"),
        member(b'2', b"soft-outside", b"../../../victim", b""),
        member(b'0', b"twice", b"", b"first"),
        member(b'1', b"of-first", b"twice", b""),
        member(b'0', b"twice", b"", b"second"),
        member(b'1', b"of-second", b"./twice", b""),
        member(b'0', b"old-style/", b"", b""),
        vec![0; 1024],
        b"what is behind the end is not looked at".to_vec(),
    ];
    fs::write(home.path("evil.tar"), members.concat()).unwrap();
    let run = home.run(["import-tar", "--archive", "evil", "evil.tar"]);
    assert_eq!(run.code, 28, "{run:#?}");
    let bad = "../victim a/../../victim nul aaaa hard-outside hard-nowhere hard-itself no-target unknown bad-map \
               trap/victim";
    for name in bad.split_whitespace() {
        assert!(run.stderr.contains(&format!("left out {name}")), "{name}: {run:#?}");
    }
    assert!(run.stderr.contains("acl: its ACL names somebody"), "{run:#?}");
    let to = home.path("out");
    home.ok(["extract", "--archive", "evil", "--to", &text(&to)]);
    let content = |path: &str| fs::read_to_string(to.join(path)).unwrap();
    assert_eq!(content("absolute/path"), "absolute");
    assert_eq!((content("of-first").as_str(), content("twice").as_str()), ("first", "second"));
    assert_eq!(content("of-second"), "second");
    assert_eq!(content("acl"), "kept without it");
    assert!(to.join("old-style").is_dir() && fs::read_link(to.join("trap")).unwrap() == Path::new("/"));
    assert_eq!(fs::read_to_string(home.path("victim")).unwrap(), "untouched");
    home.ok(["check", "--read-data"]);
}

#[test]
fn what_is_cut_short_or_no_tar_makes_no_archive() {
    let home = Home::with_repository();
    let text = record("SCHILY.xattr.user.a", &[b'v'; 700]);
    let whole = [
        member(b'x', b"p", b"", &text),
        member(b'0', b"file", b"", &[b'x'; 2000]),
        member(b'L', b"././@LongLink", b"", &[b'n'; 300]),
        member(b'0', b"n", b"", b"content"),
        vec![0; 512],
    ]
    .concat();
    let import = |bytes: &[u8]| {
        fs::write(home.path("some.tar"), bytes).unwrap();
        home.run(["import-tar", "--archive", "some", "some.tar"])
    };
    for len in [0, 1, 511, 512, 600, 1024, 1535, 1536, 2048, 2600, 3584, 4096, 4608, 5120, whole.len() - 1] {
        let run = import(&whole[..len]);
        assert_eq!(run.code, 10, "{len}: {run:#?}");
        assert!(run.stderr.contains("cut short"), "{len}: {run:#?}");
    }
    let mut damaged = whole.clone();
    damaged[1536 + 3] ^= 1;
    let mut huge = member(b'0', b"huge", b"", b"");
    huge[124..136].copy_from_slice(b"777777777777");
    let sum: u32 = huge[..148].iter().chain(&huge[156..512]).map(|byte| u32::from(*byte)).sum::<u32>() + 256;
    huge[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let bad_record = member(b'x', b"p", b"", b"999 path=x\n");
    for (bytes, words) in [
        (vec![b'x'; 4096], "no tar archive"),
        (damaged, "a header is damaged"),
        (huge, "cut short"),
        ([bad_record, whole.clone()].concat(), "malformed"),
        ([&[0x1f, 0x8b, 8, 0][..], &[0; 600]].concat(), "gzip"),
        ([&[0x28, 0xb5, 0x2f, 0xfd][..], &[0; 600]].concat(), "some.tar"),
    ] {
        let run = import(&bytes);
        assert_eq!(run.code, 10, "{words}: {run:#?}");
        assert!(run.stderr.contains(words), "{words}: {run:#?}");
    }
    home.fails(["import-tar", "--archive", "some", "not-there.tar"], 10, "not-there.tar");
    assert!(home.archives().is_empty());
    assert_eq!(import(&whole).code, 0);
    home.fails(["import-tar", "--archive", "some", "some.tar"], 6, "some");
    home.fails(["import-tar", "--archive", "latest", "some.tar"], 20, "latest");
    let mut rest = String::new();
    File::open(home.path("some.tar")).unwrap().take(4).read_to_string(&mut rest).unwrap();
    assert_eq!(home.archives(), ["some"]);
}
