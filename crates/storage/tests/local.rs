//! What is particular to objects on a local disk: full and read-only file systems, left-over files.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: its helpers may panic, and say what is skipped"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use dbvault_storage::{ErrorKind, Key, LocalStorage, OPEN_FILES_MAX, Storage};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn listed(storage: &LocalStorage, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut each = |meta: dbvault_storage::ObjectMeta| {
        names.push(meta.key.as_str().to_owned());
        Ok(())
    };
    storage.list(&key(prefix), &mut each).unwrap();
    names.sort();
    names
}

/// Paths of all files below `directory`, objects or not.
fn files_below(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path.display().to_string());
        }
    }
    files.sort();
    files
}

/// A small file system in memory, unmounted when dropped. One at a time: the child that mounts another one holds, until
/// it becomes `mount`, every file that is open here, and with it the room of a file that was just removed.
struct SmallDisk {
    directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl SmallDisk {
    /// `None`, after printing why, where this machine does not let us mount.
    fn mount(test: &str, options: &str) -> Option<SmallDisk> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        match Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(directory.path())
            .output()
        {
            Ok(output) if output.status.success() => Some(SmallDisk { directory, _alone }),
            Ok(output) => {
                println!("skipped: {test}: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: {test}: mount: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn make_read_only(&self) {
        let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).status().unwrap();
        assert!(remounted.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as a storage of the test may still hold the directory open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn create_makes_private_directories_and_refuses_what_is_in_use() {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("some/where/deep");
    LocalStorage::create(&path).unwrap();
    for made in ["some", "some/where", "some/where/deep"] {
        assert_eq!(fs::metadata(outer.path().join(made)).unwrap().mode() & 0o777, 0o700, "{made}");
    }
    let storage = LocalStorage::create(&path).unwrap();
    storage.put_new(&key("packs/1"), &[b"x"]).unwrap();
    assert_eq!(LocalStorage::create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(LocalStorage::open(&path).unwrap().get(&key("packs/1"), None).unwrap(), b"x");
    for (made, mode) in [("packs", 0o700), ("packs/1", 0o600)] {
        assert_eq!(fs::metadata(path.join(made)).unwrap().mode() & 0o777, mode, "{made}");
    }
}

#[test]
fn open_wants_an_existing_directory() {
    let outer = tempfile::tempdir().unwrap();
    let absent = outer.path().join("absent");
    assert_eq!(LocalStorage::open(&absent).unwrap_err().kind(), ErrorKind::NotFound);
    let file = outer.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(LocalStorage::open(&file).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(LocalStorage::create(&file).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(LocalStorage::create(file.join("below")).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn a_read_only_file_system_denies_changes_and_allows_reads() {
    let Some(disk) = SmallDisk::mount("a_read_only_file_system_denies_changes_and_allows_reads", "size=1m")
    else {
        return;
    };
    let storage = LocalStorage::open(disk.path()).unwrap();
    storage.put_new(&key("a/object"), &[b"bytes"]).unwrap();
    disk.make_read_only();
    let denied = [
        storage.put_new(&key("a/new"), &[b"x"]),
        storage.put_new(&key("new/new"), &[b"x"]),
        storage.delete(&key("a/object")),
        LocalStorage::create(disk.path().join("new")).map(drop),
    ];
    for result in denied {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    let reader = LocalStorage::open(disk.path()).unwrap();
    assert_eq!(reader.get(&key("a/object"), Some(1..3)).unwrap(), b"yt");
    assert_eq!(listed(&reader, "a"), ["a/object"]);
    assert_eq!(
        reader.put_new(&key("a/object"), &[b"x"]).unwrap_err().kind(),
        ErrorKind::AlreadyExists,
        "a taken name is told before the disk is touched"
    );
    reader.flush().unwrap();
}

#[test]
fn a_full_disk_leaves_no_part_of_an_object() {
    let Some(disk) = SmallDisk::mount("a_full_disk_leaves_no_part_of_an_object", "size=1m") else { return };
    let storage = LocalStorage::open(disk.path()).unwrap();
    let small = vec![1; 300_000];
    storage.put_new(&key("packs/small"), &[&small]).unwrap();
    let before = files_below(disk.path());
    for _ in 0..3 {
        let error = storage.put_new(&key("packs/large"), &[&small, &[2; 2_000_000]]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(files_below(disk.path()), before);
    }
    assert_eq!(storage.get(&key("packs/small"), None).unwrap(), small);
    assert_eq!(storage.size(&key("packs/large")).unwrap(), None);
    storage.flush().unwrap();
    storage.put_new(&key("packs/fits"), &[&small]).unwrap();
    storage.delete(&key("packs/small")).unwrap();
    assert_eq!(listed(&storage, "packs"), ["packs/fits"]);
}

#[test]
fn a_disk_without_room_for_names_says_so() {
    let Some(disk) = SmallDisk::mount("a_disk_without_room_for_names_says_so", "nr_inodes=8") else { return };
    let storage = LocalStorage::open(disk.path()).unwrap();
    let first_error = (0..20).find_map(|n| storage.put_new(&key(&format!("a/{n}")), &[b"x"]).err());
    assert_eq!(first_error.unwrap().kind(), ErrorKind::NoSpace);
    for name in listed(&storage, "a") {
        assert_eq!(storage.get(&key(&name), None).unwrap(), b"x");
    }
}

#[test]
fn what_crashed_processes_left_is_ignored_and_can_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    storage.put_new(&key("packs/0a/object"), &[b"x"]).unwrap();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let left =
        [("packs/0a/.tmp-1", 3), ("packs/.tmp-2", 3), (".tmp-3", 3), ("packs/.tmp-new", 0), (".other", 3)];
    for (name, age_hours) in left {
        let file = fs::File::create(directory.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - hours(age_hours)).unwrap();
    }
    fs::create_dir(directory.path().join(".hidden")).unwrap();
    fs::write(directory.path().join(".hidden/.tmp-4"), "x").unwrap();
    fs::write(directory.path().join("packs/Not an object"), "x").unwrap();
    fs::create_dir(directory.path().join("packs/0b")).unwrap();

    assert_eq!(listed(&storage, "packs"), ["packs/0a/object"]);
    assert_eq!(storage.remove_stale_temporaries(hours(2)).unwrap(), 3);
    assert_eq!(storage.remove_stale_temporaries(hours(2)).unwrap(), 0);
    assert!(directory.path().join("packs/.tmp-new").exists());
    assert!(directory.path().join(".other").exists());
    assert_eq!(storage.remove_stale_temporaries(Duration::MAX).unwrap(), 0);
    assert_eq!(storage.remove_stale_temporaries(Duration::ZERO).unwrap(), 1);
    assert_eq!(storage.get(&key("packs/0a/object"), None).unwrap(), b"x");
}

#[test]
fn no_temporary_file_outlives_its_put() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    storage.put_new(&key("a/1"), &[b"x"]).unwrap();
    storage.put_new(&key("a/1"), &[b"x"]).unwrap_err();
    // A directory where the object should be: the naming fails.
    fs::create_dir(directory.path().join("a/2")).unwrap();
    assert_eq!(storage.put_new(&key("a/2"), &[b"x"]).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(storage.put_new(&key("a/1/below"), &[b"x"]).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(files_below(directory.path()), [directory.path().join("a/1").display().to_string()]);
}

#[test]
fn two_storages_over_one_directory_race_for_names() {
    const ROUNDS: usize = 100;
    let directory = tempfile::tempdir().unwrap();
    let start = Barrier::new(2);
    let contender = |number: u8| {
        let storage = LocalStorage::open(directory.path()).unwrap();
        let mut won_count = 0;
        for round in 0..ROUNDS {
            start.wait();
            match storage.put_new(&key(&format!("{round}/object")), &[&[number; 100]]) {
                Ok(()) => won_count += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}"),
            }
        }
        storage.flush().unwrap();
        won_count
    };
    let contender = &contender;
    let won: [usize; 2] = thread::scope(|scope| {
        let threads = [0, 1].map(|number| scope.spawn(move || contender(number)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(won[0] + won[1], ROUNDS);
    let storage = LocalStorage::open(directory.path()).unwrap();
    let seconds = (0..ROUNDS).filter(|round| {
        let bytes = storage.get(&key(&format!("{round}/object")), None).unwrap();
        assert!(bytes == [0; 100] || bytes == [1; 100]);
        bytes[0] == 1
    });
    assert_eq!(seconds.count(), won[1]);
}

#[test]
fn a_directory_that_somebody_removed_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    storage.put_new(&key("packs/0a/1"), &[b"x"]).unwrap();
    fs::remove_dir_all(directory.path().join("packs")).unwrap();
    storage.put_new(&key("packs/0a/2"), &[b"x"]).unwrap();
    storage.flush().unwrap();
    assert_eq!(listed(&storage, "packs"), ["packs/0a/2"]);
}

#[test]
fn damage_from_outside_shows_although_files_stay_open() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    storage.put_new(&key("object"), &[&[7; 100]]).unwrap();
    assert_eq!(storage.get(&key("object"), Some(90..100)).unwrap(), [7; 10]);
    fs::OpenOptions::new().write(true).open(directory.path().join("object")).unwrap().set_len(95).unwrap();
    assert_eq!(storage.get(&key("object"), Some(90..100)).unwrap_err().kind(), ErrorKind::ShortRead);
    assert_eq!(storage.get(&key("object"), Some(90..95)).unwrap(), [7; 5]);
}

#[test]
fn ranged_reads_keep_a_bounded_number_of_files_open() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    for n in 0..3 * OPEN_FILES_MAX {
        storage.put_new(&key(&format!("a/{n}")), &[&n.to_le_bytes()]).unwrap();
    }
    for _ in 0..2 {
        for n in 0..3 * OPEN_FILES_MAX {
            assert_eq!(storage.get(&key(&format!("a/{n}")), Some(0..8)).unwrap(), n.to_le_bytes());
        }
    }
    // Other tests of this process have files open too, but not below our directory.
    let open_count = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.starts_with(directory.path().join("a")))
        .count();
    assert_eq!(open_count, OPEN_FILES_MAX);
}

#[test]
fn a_directory_moved_to_another_disk_by_a_link_is_used_and_loops_end() {
    let directory = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    symlink(other.path(), directory.path().join("packs")).unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    storage.put_new(&key("packs/0a/1"), &[b"x"]).unwrap();
    storage.flush().unwrap();
    assert_eq!(listed(&storage, "packs"), ["packs/0a/1"]);
    assert!(other.path().join("0a/1").exists());
    fs::write(other.path().join(".tmp-old"), "x").unwrap();
    assert_eq!(storage.remove_stale_temporaries(Duration::ZERO).unwrap(), 1);

    symlink(".", other.path().join("0a/loop")).unwrap();
    assert!(listed(&storage, "packs").contains(&"packs/0a/1".to_owned()));
}

#[test]
fn users_who_may_not_read_are_told_so() {
    let test = "users_who_may_not_read_are_told_so";
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(directory.path()).is_ok() {
        println!("skipped: {test}: this user may read everything");
        return;
    }
    assert_eq!(LocalStorage::open(directory.path()).unwrap_err().kind(), ErrorKind::PermissionDenied);
}
