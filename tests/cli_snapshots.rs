//! Files read from snapshots: of one moment, whatever is written meanwhile, and no snapshot stays.
//!
//! Btrfs is a real one, on a loop device. For LVM, which needs a device mapper, programs stand in: their snapshot is a copy
//! of a frozen ext4. For ZFS see `crates/source/src/snapshot_zfs.rs`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that can't go on has failed")]

mod cli_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cli_support::Home;
use rustix::process::{Pid, Signal, kill_process};

/// A file system in a file, gone with the value.
struct Disk {
    place: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// `None`, with the name of the test in the summary, where there can be none.
    fn mount(home: &Home, kind: &str, test: &str) -> Option<Disk> {
        let (place, image) = (home.path("disk"), home.path("image"));
        fs::create_dir(&place).unwrap();
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let made = quiet(Command::new(format!("mkfs.{kind}")).arg(&image));
        let mounted = made.is_ok_and(|status| status.success())
            && quiet(Command::new("mount").args(["-o", "loop"]).args([&image, &place])).unwrap().success();
        if !mounted {
            println!("skipped: {test}: this user may not mount {kind} from a file");
            return None;
        }
        Some(Disk { place, image })
    }

    fn sh(&self, script: &str) -> String {
        let output = Command::new("sh").args(["-ec", script]).current_dir(&self.place).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.place).status();
    }
}

/// A tree whose first and last file always have the same number, or the first one more; between them is much to read.
struct Writer<'a> {
    tree: &'a Path,
    stop: AtomicBool,
}

impl Writer<'_> {
    fn prepare(tree: &Path) -> Writer<'_> {
        for name in ["a", "m", "z"] {
            fs::create_dir_all(tree.join(name)).unwrap();
        }
        let writer = Writer { tree, stop: AtomicBool::new(false) };
        writer.put("a/first", 0);
        writer.put("z/last", 0);
        let mut state = 1_u64;
        for number in 0..60 {
            let noise = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            });
            fs::write(tree.join(format!("m/{number:02}")), noise.take(1 << 20).collect::<Vec<_>>()).unwrap();
        }
        writer
    }

    fn put(&self, name: &str, number: u64) {
        let new = self.tree.join(format!("{name}.new"));
        fs::write(&new, number.to_string()).unwrap();
        fs::rename(new, self.tree.join(name)).unwrap();
    }

    /// Writes while `job` runs.
    fn during<T>(&self, job: impl FnOnce() -> T) -> T {
        self.stop.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = numbers(self.tree)[0];
                while !self.stop.load(Ordering::Relaxed) {
                    number += 1;
                    self.put("a/first", number);
                    self.put("z/last", number);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let _stop = StopAtEnd(&self.stop);
            thread::sleep(Duration::from_millis(50));
            job()
        })
    }
}

/// Ends the writer, also where the job fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the first and the last file say.
fn numbers(tree: &Path) -> [u64; 2] {
    ["a/first", "z/last"].map(|name| fs::read_to_string(tree.join(name)).unwrap().parse().unwrap())
}

fn is_of_one_moment(tree: &Path) -> bool {
    let [first, last] = numbers(tree);
    first == last || first == last + 1
}

/// Extracts an archive; where `tree` is then.
fn extracted(home: &Home, archive: &str, tree: &Path) -> PathBuf {
    let out = home.path(archive);
    home.ok(["extract", "--archive", archive, "--to", &out.display().to_string()]);
    out.join(tree.canonicalize().unwrap().strip_prefix("/").unwrap())
}

/// Names of snapshots in these directories.
fn snapshots_in(directories: &[&Path]) -> Vec<String> {
    let names = directories.iter().flat_map(|directory| fs::read_dir(directory).unwrap());
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("dbvault-snapshot-")).collect()
}

fn wait_until(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_archive_of_a_btrfs_subvolume_is_of_one_moment() {
    let home = Home::with_repository();
    let Some(disk) = Disk::mount(&home, "btrfs", "an_archive_of_a_btrfs_subvolume_is_of_one_moment") else {
        return;
    };
    disk.sh("btrfs -q subvolume create data; mkdir data/deep; btrfs -q subvolume create data/deep/inner; echo in >data/deep/inner/file
             btrfs -q subvolume create data/other; echo no >data/other/file
             btrfs -q subvolume snapshot -r data/other data/frozen; mkdir data/live; mount -t tmpfs none data/live; echo live >data/live/file");
    let tree = disk.place.join("data");
    let writer = Writer::prepare(&tree);
    let path = tree.display().to_string();
    writer.during(|| {
        // Files vanish under it, and it may say so.
        home.run(["backup", &path, "--archive", "torn"]);
        home.ok(["backup", &path, "--archive", "whole", "--snapshot", "btrfs", "--exclude", "*/data/other"]);
        home.ok(["backup", &path, "--archive", "auto", "--snapshot", "auto"]);
    });
    assert!(!is_of_one_moment(&extracted(&home, "torn", &tree)), "the writer was too slow to show anything");
    for archive in ["whole", "auto"] {
        let out = extracted(&home, archive, &tree);
        assert!(is_of_one_moment(&out), "{archive}: {:?}", numbers(&out));
        for (name, text) in [("deep/inner/file", "in\n"), ("frozen/file", "no\n"), ("live/file", "live\n")] {
            assert_eq!(fs::read_to_string(out.join(name)).unwrap(), text, "{archive}: {name}");
        }
        assert_eq!(out.join("other").exists(), archive == "auto");
        assert_eq!(snapshots_in(&[&out, &out.join("deep/inner")]), [""; 0]);
    }
    assert_eq!(snapshots_in(&[&tree, &tree.join("deep/inner"), &tree.join("other")]), [""; 0]);
    // At rest it is the same tree; only what a snapshot is made in says when that was.
    home.ok(["backup", &path, "--archive", "rest", "--snapshot", "btrfs"]);
    let out = extracted(&home, "rest", &tree);
    let differ = Command::new("rsync")
        .args(["-naicHAXSO", "--delete", "--modify-window=-1"])
        .args([format!("{path}/"), format!("{}/", out.display())])
        .output()
        .unwrap();
    assert!(differ.status.success() && differ.stdout.is_empty(), "{differ:?}");
}

#[test]
fn unchanged_files_are_not_opened_in_a_snapshot_either() {
    let home = Home::with_repository();
    let Some(disk) = Disk::mount(&home, "btrfs", "unchanged_files_are_not_opened_in_a_snapshot_either")
    else {
        return;
    };
    disk.sh("btrfs -q subvolume create data; cd data; for i in $(seq 300); do echo text $i >unchanged-$i; done; ln unchanged-1 other-name");
    // Files that changed just before a backup are read again by the next one.
    thread::sleep(Duration::from_millis(2500));
    let path = disk.place.join("data").display().to_string();
    let opened = |archive: &str, kind: &str| {
        let trace = home.path("trace");
        let mut strace = home.in_world("strace");
        strace.args(["-f", "-qq", "-e", "trace=openat,open", "-o"]).arg(&trace);
        strace.arg(cli_support::DBVAULT).args(["backup", &path, "--snapshot", kind, "--archive", archive]);
        let run = cli_support::run(&mut strace);
        assert_eq!(run.code, 0, "{run:#?}");
        fs::read_to_string(&trace).unwrap().matches("\"unchanged-").count()
    };
    // One of the two names of a file is opened.
    assert!(opened("one", "btrfs") >= 299);
    assert_eq!(opened("two", "btrfs"), 0);
    disk.sh("echo new >data/unchanged-7");
    assert_eq!(opened("three", "btrfs"), 1);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(opened("four", "btrfs"), 1, "it had changed just before");
    assert_eq!(opened("five", "none"), 0, "nor where the snapshot is left out");
}

#[test]
fn snapshots_of_a_backup_that_was_stopped_or_killed_do_not_stay() {
    let home = Home::with_repository();
    let Some(disk) =
        Disk::mount(&home, "btrfs", "snapshots_of_a_backup_that_was_stopped_or_killed_do_not_stay")
    else {
        return;
    };
    // The names of others only look like ours.
    disk.sh("btrfs -q subvolume create data; cd data
             btrfs -q subvolume create .dbvault-snapshot-mine; btrfs -q subvolume snapshot -r . .snap-daily");
    let tree = disk.place.join("data");
    let _files = Writer::prepare(&tree);
    let path = tree.display().to_string();
    let ours = || -> Vec<String> {
        snapshots_in(&[&tree]).into_iter().filter(|name| name != ".dbvault-snapshot-mine").collect()
    };
    let start = |archive: &str| {
        let mut command = home.command();
        command.args(["backup", &path, "--snapshot", "btrfs", "--archive", archive]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("a snapshot", || !ours().is_empty());
        child
    };
    let mut killed = start("killed");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let left = ours();
    assert_eq!(left.len(), 1, "{left:?}");
    let mut stopped = start("stopped");
    wait_until("what was left to be gone", || !ours().iter().any(|name| left.contains(name)));
    kill_process(Pid::from_child(&stopped), Signal::INT).unwrap();
    assert_eq!(stopped.wait().unwrap().code(), Some(130));
    assert_eq!(ours(), [""; 0]);
    assert_eq!(home.archives(), [""; 0]);
    home.ok(["backup", &path, "--snapshot", "btrfs", "--archive", "good"]);
    assert_eq!((ours().len(), snapshots_in(&[&tree]).len()), (0, 1));
    assert!(tree.join(".snap-daily").exists() && tree.join(".dbvault-snapshot-mine").exists());
}

#[test]
fn what_can_not_be_had_is_told() {
    let home = Home::with_repository();
    fs::create_dir(home.path("plain")).unwrap();
    fs::write(home.path("plain/file"), "x").unwrap();
    let path = home.path("plain").display().to_string();
    for kind in ["auto", "none", "zfs"] {
        let run = home.run(["backup", &path, "--snapshot", kind, "--archive", kind]);
        assert_eq!(run.code, 0, "{run:#?}");
        assert_eq!(run.stderr.contains("no snapshot was taken"), kind != "none", "{run:#?}");
    }
    let Some(disk) = Disk::mount(&home, "btrfs", "what_can_not_be_had_is_told") else { return };
    disk.sh("btrfs -q subvolume create data; echo x >data/file");
    let path = disk.place.join("data").display().to_string();
    let app = home.make_sqlite("app.db", 10).display().to_string();
    // Where there is no such program: an error, a note, or an archive without files.
    let without = |args: &[&str]| {
        cli_support::run(home.command().arg("backup").args(args).env("PATH", home.path("home")))
    };
    without(&[&path, "--snapshot", "btrfs", "--archive", "a"]).assert_failure(14, "program not found: btrfs");
    let run = without(&[&path, "--snapshot", "auto", "--archive", "b"]);
    assert!(
        run.code == 0 && run.stderr.contains("read without a snapshot: program not found: btrfs"),
        "{run:#?}"
    );
    let run = without(&[&path, "--snapshot", "btrfs", "--sqlite", &app, "--archive", "c"]);
    run.assert_failure(23, "cannot back up files");
    assert!(home.ok(["list", "--archive", "b", "--files"]).contains("data/file"));
    home.fails(["list", "--archive", "c", "--files"], 12, "has no files");
}

/// A program of the test's own.
fn script(home: &Home, name: &str, text: &str) -> String {
    let path = home.path(name);
    fs::write(&path, format!("#!/bin/sh\nset -e\nhome={}\n{text}\n", home.path("").display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_configuration_reads_from_stand_ins_for_logical_volumes() {
    let test = "a_configuration_reads_from_stand_ins_for_logical_volumes";
    let home = Home::with_repository();
    let Some(disk) = Disk::mount(&home, "ext4", test) else { return };
    let device = disk.sh("findmnt -n -o SOURCE --target .").trim().to_owned();
    fs::create_dir(home.path("volumes")).unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host: String =
        host.trim().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
    let killed = format!("dbvault-snapshot-{}-00000000-1-1-0", host.chars().take(40).collect::<String>());
    fs::write(home.path("volumes").join(&killed), "left").unwrap();
    fs::write(home.path("volumes/daily"), "not ours").unwrap();
    let row = r#"{\"vg_name\":\"vg\",\"lv_name\":\"%s\",\"lv_path\":\"/dev/vg/%s\",\"lv_dm_path\":\"%s\"}"#;
    let lvs = format!(
        "printf \"{{\\\"report\\\":[{{\\\"lv\\\":[{row}\" data data {device}
         for one in \"$home\"volumes/*; do n=${{one##*/}}; printf \",{row}\" $n $n /dev/mapper/vg-$n; done; echo ']}}]}}'"
    );
    let copy = format!(
        "while [ $# -gt 1 ]; do [ \"$1\" != --name ] || name=$2; shift; done; [ \"$1\" = vg/data ]
         fsfreeze -f {0}; cp --sparse=always {1} \"$home\"volumes/$name; fsfreeze -u {0}",
        disk.place.display(),
        disk.image.display()
    );
    let remove = "while [ $# -gt 1 ]; do shift; done; rm \"$home\"volumes/${1#vg/}";
    let mount =
        "[ \"$1 $2 $3 $4\" = '-t ext4 -o ro' ]; mount -o ro,loop \"$home\"volumes/${5#/dev/vg/} \"$6\"";
    let tree = disk.place.join("srv");
    let config = format!(
        "repositories: [{}]\nkey_file: {}\nsource_directories: [{}]\nlvm:\n    snapshot_size: 50%ORIGIN\n    lvs_command: {}\n    \
         lvcreate_command: {}\n    lvremove_command: {}\n    mount_command: {}\n",
        home.path("repo").display(),
        home.path("key").display(),
        tree.display(),
        script(&home, "lvs", &lvs),
        script(&home, "lvcreate", &copy),
        script(&home, "lvremove", remove),
        script(&home, "mount", mount),
    );
    fs::write(home.path("config/dbvault/config.yaml"), config).unwrap();
    let writer = Writer::prepare(&tree);
    writer.during(|| {
        home.ok(["backup", "--archive", "whole"]);
        home.run(["backup", "--archive", "torn", "--snapshot", "none"]);
    });
    assert!(is_of_one_moment(&extracted(&home, "whole", &tree)));
    assert!(!is_of_one_moment(&extracted(&home, "torn", &tree)), "the writer was too slow to show anything");
    let names = fs::read_dir(home.path("volumes")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["daily"]);
    let ours = |name: &String| name.contains(&format!("-{host}-"));
    assert_eq!(snapshots_in(&[Path::new("/run")]).into_iter().filter(ours).count(), 0);
}
