//! Trees of files in a mount: real mounts, compared with what was backed up by the tools that people have.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed; a skipped one says so"
)]

mod cli_support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use cli_support::mount_point::{MountPoint, can_mount};
use cli_support::{Home, run, script};
use dbvault_testkit::noise;

fn mount(home: &Home) -> MountPoint {
    home.ok(["mount", "mnt"]);
    MountPoint(home.path("mnt").canonicalize().unwrap())
}

/// Where the files that were below `path` are shown, in archive `name`.
fn shown(point: &MountPoint, name: &str, path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap();
    point.0.join("archives").join(name).join("files").join(path.strip_prefix("/").unwrap())
}

/// What a program says that has to end well.
#[track_caller]
fn said(program: &str, args: &[&OsStr]) -> String {
    let ran = run(Command::new(program).args(args));
    assert_eq!(ran.code, 0, "{ran:#?}");
    ran.stdout
}

/// What an independent program finds that differs.
#[track_caller]
fn differences(left: &Path, right: &Path) -> String {
    let with_slash = |path: &Path| format!("{}/", path.display());
    let (left, right) = (with_slash(left), with_slash(right));
    let words = ["-naicHAXS", "--delete", "--modify-window=-1", &left, &right];
    said("rsync", &words.map(OsStr::new))
}

fn name(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// A tree with every kind of file that this user can make.
fn make_tree(home: &Home) -> PathBuf {
    let tree = home.path("srv");
    fs::create_dir_all(tree.join("deep/".to_owned() + &"d/".repeat(100))).unwrap();
    for directory in ["many", "empty", "a", "a.b", "web"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    fs::write(tree.join("a/inside"), "between a and a.b").unwrap();
    for number in 0..2000_u32 {
        fs::write(tree.join(format!("many/{number:04}")), format!("{number}\n").repeat(number as usize % 50))
            .unwrap();
    }
    fs::write(tree.join(name(&[b'n'; 255])), "a long name").unwrap();
    fs::write(tree.join(name(b"odd \n\xff\xfe")), "no UTF-8").unwrap();
    fs::write(tree.join("large"), noise(5 << 20, 1)).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(300 << 20).unwrap();
    sparse.write_all_at(&noise(200_000, 2), 100 << 20).unwrap();
    sparse.write_all_at(b"end", (200 << 20) + 5).unwrap();
    UnixListener::bind(tree.join("socket")).unwrap();
    script(
        &tree,
        "for n in 1 2 3; do echo file $n >web/$n; for o in 1 2 3 4; do ln web/$n web/$n-$o; done; done
         ln web/1 a/elsewhere
         ln -s ../nowhere dangling; ln -s a link
         mkfifo pipe; chmod 4711 a/inside; chmod 1777 empty; chmod 0 web/2
         touch -h -d '1969-12-31 23:59:58.123456789' dangling a.b
         touch -d '2100-01-01 00:00:00.000000001' large",
    );
    if rustix::process::geteuid().is_root() {
        script(
            &tree,
            "mknod null c 1 3; mknod disk b 8 17; chown 1234:5678 large; chown -h 42:43 link
             setfattr -n trusted.note -v hidden a; setfattr -h -n trusted.link -v on-a-link link
             setfacl -m u:77:r,g:88:rw large; setfacl -d -m u:99:rwx empty",
        );
    }
    script(&tree, "setfattr -n user.note -v 'some text' large; setfattr -n user.empty web/1");
    tree
}

#[test]
fn a_tree_is_shown_as_it_was() {
    if !can_mount("a_tree_is_shown_as_it_was") {
        return;
    }
    let home = Home::with_repository();
    let tree = make_tree(&home);
    home.ok(["backup", &tree.display().to_string(), "--archive", "one"]);
    let point = mount(&home);
    let there = shown(&point, "one", &tree);
    // Sockets can't be made by rsync: it would say so of each.
    assert_eq!(differences(&tree, &there), "");
    for way in ["latest/files", "by-date"] {
        assert!(point.0.join(way).is_dir(), "{way}");
    }
    let by_date = fs::read_dir(point.0.join("by-date")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(differences(&by_date.join("files"), &point.0.join("archives/one/files")), "");

    let web =
        ["1", "1-1", "1-4", "../a/elsewhere"].map(|name| fs::metadata(there.join("web").join(name)).unwrap());
    assert!(web.iter().all(|file| file.ino() == web[0].ino() && file.nlink() == 6), "{web:?}");
    assert_eq!(fs::metadata(there.join("large")).unwrap().nlink(), 1);
    assert!(fs::symlink_metadata(there.join("socket")).unwrap().file_type().is_socket());
    assert!(fs::symlink_metadata(there.join("pipe")).unwrap().file_type().is_fifo());
    let changed = |path: &Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec())).unwrap();
    assert_eq!(changed(&there.join("large")), changed(&tree.join("large")));
    if rustix::process::geteuid().is_root() {
        assert_eq!(fs::symlink_metadata(there.join("disk")).unwrap().rdev(), 8 << 8 | 17);
        let acl = said(
            "getfacl",
            &["-np", "--omit-header"]
                .map(OsStr::new)
                .into_iter()
                .chain([there.join("large").as_os_str()])
                .collect::<Vec<_>>(),
        );
        assert!(acl.contains("user:77:r--") && acl.contains("group:88:rw-"), "{acl}");
    }
    for refused in [
        fs::write(there.join("large"), "x"),
        fs::create_dir(there.join("new")),
        fs::remove_file(there.join("link")),
        fs::set_permissions(there.join("large"), fs::Permissions::from_mode(0o777)),
    ] {
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(30), "EROFS");
    }
    drop_mount(&home, point);
}

fn drop_mount(home: &Home, point: MountPoint) {
    home.ok(["umount", "mnt"]);
    drop(point);
}

#[test]
fn tools_work_on_it_and_holes_are_holes() {
    if !can_mount("tools_work_on_it_and_holes_are_holes") {
        return;
    }
    let home = Home::with_repository();
    let tree = make_tree(&home);
    home.ok(["backup", &tree.display().to_string(), "--archive", "one"]);
    let point = mount(&home);
    let there = shown(&point, "one", &tree);
    let (to, from) = (home.path("copy"), there.as_os_str());
    said("cp", &[OsStr::new("-a"), from, to.as_os_str()]);
    assert_eq!(differences(&tree, &to), "");
    assert!(fs::metadata(to.join("sparse")).unwrap().blocks() < 4096, "cp keeps holes");

    let mut sparse = File::open(there.join("sparse")).unwrap();
    let stored = fs::metadata(there.join("sparse")).unwrap();
    assert_eq!(stored.len(), 300 << 20);
    assert!(stored.blocks() < 4096, "{} blocks", stored.blocks());
    // Where Rust's standard library has no word for it: data and holes.
    let seek = |file: &File, at| rustix::fs::seek(file, at).ok();
    let data = seek(&sparse, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!((100 << 20) - data < 4097, "{data}");
    let hole = seek(&sparse, rustix::fs::SeekFrom::Hole(100 << 20)).unwrap();
    assert!(((100 << 20) + 200_000..101 << 20).contains(&hole), "{hole}");
    assert_eq!(seek(&sparse, rustix::fs::SeekFrom::Data(250 << 20)), None);
    assert_eq!(sparse.seek(SeekFrom::End(0)).unwrap(), 300 << 20);
    let mut page = [1; 300];
    sparse.read_exact_at(&mut page, (200 << 20) - 100).unwrap();
    assert!(
        page[..105].iter().all(|byte| *byte == 0) && &page[105..108] == b"end" && page[108..] == [0; 192]
    );

    // `tar` of both is the same, and so is a search.
    let unpacked = home.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    script(
        &there,
        &format!(
            "tar --xattrs --xattrs-include='*' --acls --exclude socket -cf - . | \
             tar --xattrs --xattrs-include='*' --acls -xpf - -C {0}",
            unpacked.display()
        ),
    );
    fs::remove_file(tree.join("socket")).unwrap();
    assert_eq!(
        differences(&tree, &unpacked).lines().filter(|line| !line.starts_with(".d..t")).collect::<Vec<_>>(),
        [""; 0]
    );
    let search = |at: &Path| {
        let ran = run(Command::new("grep").args(["-rc", "--devices=skip", "^1"]).arg("many").current_dir(at));
        assert_eq!(ran.code, 0, "{ran:#?}");
        let mut lines: Vec<String> = ran.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(search(&there), search(&tree));
    let count = |at: &Path| said("find", &[at.as_os_str()]).matches('\n').count();
    // The socket that is gone, and the names with line breaks in them, count on both sides.
    assert_eq!(count(&there), count(&tree) + 1);
    drop(sparse);
    drop_mount(&home, point);
}

#[test]
fn many_read_at_once_and_each_archive_shows_its_own() {
    if !can_mount("many_read_at_once_and_each_archive_shows_its_own") {
        return;
    }
    let home = Home::with_repository();
    let tree = home.path("srv");
    for number in 0..3000_u64 {
        let directory = tree.join(format!("d{}/e{}", number % 7, number % 31));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(number.to_string()), noise(number as usize * 7 % 5000, number)).unwrap();
    }
    let path = tree.display().to_string();
    home.ok(["backup", &path, "--archive", "one"]);
    let copy = home.path("before");
    said("cp", &[OsStr::new("-a"), tree.as_os_str(), copy.as_os_str()]);
    for number in (0..3000_u64).step_by(100) {
        let directory = tree.join(format!("d{}/e{}", number % 7, number % 31));
        fs::write(directory.join(number.to_string()), "changed").unwrap();
        fs::write(directory.join("new"), number.to_string()).unwrap();
    }
    let point = mount(&home);
    // Made while it is mounted.
    home.ok(["backup", &path, "--archive", "two"]);
    thread::sleep(std::time::Duration::from_millis(1500));
    let (one, two) = (shown(&point, "one", &tree), shown(&point, "two", &tree));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(differences(&copy, &one), ""));
            scope.spawn(|| assert_eq!(differences(&tree, &two), ""));
        }
    });
    assert_eq!(fs::read(one.join("nothing")).unwrap_err().raw_os_error(), Some(2));
    assert_eq!(fs::read(one.join("d0/e0/0/below-a-file")).unwrap_err().raw_os_error(), Some(20));
    drop_mount(&home, point);
}

#[test]
fn others_see_what_they_could_see() {
    let test = "others_see_what_they_could_see";
    if !can_mount(test) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: {test}: this user can not become another");
        return;
    }
    let home = Home::with_repository();
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = home.path("srv");
    fs::create_dir(&tree).unwrap();
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
    script(
        &tree,
        "umask 022; echo all >all; echo none >none; chmod 600 none; echo own >own; chown 4321 own; chmod 400 own
         echo list >list; chmod 600 list; setfacl -m u:4321:r list
         echo kept >kept; chmod 640 kept; chgrp 4321 kept; setfacl -m g::-,m::r kept",
    );
    home.ok(["backup", &tree.display().to_string(), "--archive", "one"]);
    home.ok(["mount", "mnt", "--allow-other"]);
    let point = MountPoint(home.path("mnt").canonicalize().unwrap());
    let there = shown(&point, "one", &tree);
    for (file, may) in [("all", true), ("none", false), ("own", true), ("list", true), ("kept", false)] {
        let read = |at: &Path| {
            let words = ["--reuid", "4321", "--regid", "4321", "--clear-groups", "cat"];
            run(Command::new("setpriv").args(words).arg(at.join(file))).code == 0
        };
        assert_eq!((read(&tree), read(&there)), (may, may), "{file}");
        assert!(fs::read(there.join(file)).is_ok(), "{file}");
    }
    drop_mount(&home, point);
}

#[test]
fn what_is_damaged_fails_by_itself_and_is_named() {
    if !can_mount("what_is_damaged_fails_by_itself_and_is_named") {
        return;
    }
    let home = Home::with_repository();
    let tree = home.path("srv");
    fs::create_dir(&tree).unwrap();
    for number in 0..8_u64 {
        fs::write(tree.join(format!("file-{number}")), noise(1 << 20, number)).unwrap();
    }
    home.ok(["backup", &tree.display().to_string(), "--archive", "one"]);
    let (pack, mut bytes) = cli_support::files_below(&home.path("repo/packs"))
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 0x40;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();

    let point = mount(&home);
    let there = shown(&point, "one", &tree);
    let hurt: Vec<u64> = (0..8)
        .filter(|number| match fs::read(there.join(format!("file-{number}"))) {
            Ok(read) => {
                assert!(read == noise(1 << 20, *number), "{number}");
                false
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "EIO: {error}");
                true
            }
        })
        .collect();
    assert_eq!(hurt.len(), 1);
    let path = tree.canonicalize().unwrap().join(format!("file-{}", hurt[0]));
    let log = cli_support::files_below(&home.path("cache"))
        .into_iter()
        .find(|(path, _)| path.ends_with("mount.log"));
    let log = String::from_utf8(log.unwrap().1).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a read failed")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for word in ["ERROR", "one", &format!("files{}", path.display()), "can't be read"] {
        assert!(lines[0].contains(word), "no {word} in {}", lines[0]);
    }
    drop_mount(&home, point);

    // The other commands name it, too.
    let check = home.run(["check", "--read-data"]);
    assert!(check.code != 0 && check.stdout.contains(&format!("\n  {}\n", path.display())), "{check:#?}");
    let check = home.run(["check", "--read-data", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    let damage = &document["damage"][0];
    assert_eq!(damage["files"][0], path.to_str().unwrap().trim_start_matches('/'), "{damage}");
    assert_eq!((&damage["file_count"], &damage["file_table"]), (&1.into(), &false.into()), "{damage}");
    let extract = home.run(["extract", "--archive", "one", "--to", "out"]);
    assert!(
        extract.code != 0 && extract.stderr.contains(path.to_str().unwrap().trim_start_matches('/')),
        "{extract:#?}"
    );
    for number in (0..8).filter(|number| *number != hurt[0]) {
        let file =
            home.path("out").join(path.with_file_name(format!("file-{number}")).strip_prefix("/").unwrap());
        assert!(fs::read(file).unwrap() == noise(1 << 20, number));
    }
}
