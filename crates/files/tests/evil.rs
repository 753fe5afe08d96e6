//! Records that somebody made to harm: nothing outside of the target is touched.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dbvault_files::PlaceOptions;
use dbvault_format::file_table::{
    DeviceNumber, Extent, FileKind, FileRecord, FileTime, Xattr, compare_paths,
};
use support::{File, Unlocked, restore, shell};

const ARCHIVES: u64 = 400;

/// Random numbers that are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }
}

fn record(path: &[u8], kind: FileKind) -> FileRecord {
    FileRecord {
        path: path.to_vec().into(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        modified: FileTime { seconds: 1_000_000_000, nanoseconds: 0 },
        size_bytes: 0,
        gap_bytes: 0,
        extents: None,
        target: None,
        same_as: None,
        device: None,
        xattrs: Vec::new(),
        flags: 0,
        changed: FileTime::default(),
        inode: 0,
    }
}

/// A directory beside the target that must stay as it is, and a target with traps in it.
fn stage(base: &Path) {
    shell(
        base,
        "mkdir -p canary/in target/dir target/full/sub; echo secret >canary/file; echo in >canary/in/file; chmod 640 canary/file
         ln -s file canary/link; ln -s ../canary target/out; ln -s ../../canary/in target/dir/out; ln -s ../canary/file target/outfile
         ln -s /canary target/abs; ln canary/file target/hard; echo own >target/dir/own; echo x >target/full/sub/x; ln -s out target/chain
         touch -d 2001-09-09T01:46:40Z canary/in/file",
    );
}

/// All that `lstat` tells of what is beside the target, but the number of names and the time of the last change of what
/// the target has a name of, and the contents.
fn canary(base: &Path) -> BTreeMap<String, String> {
    fn look(path: &Path, seen: &mut BTreeMap<String, String>) {
        let stat = fs::symlink_metadata(path).unwrap();
        let is_shared = path.ends_with("canary/file");
        let (links, changed) =
            if is_shared { (0, 0) } else { (stat.nlink(), stat.ctime_nsec() + stat.ctime()) };
        let content = if stat.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        let text = format!(
            "{:o} {} {} {} {} {} {links} {changed} {content:?}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ino()
        );
        seen.insert(path.display().to_string(), text);
        if stat.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                look(&entry.unwrap().path(), seen);
            }
        }
    }
    let mut seen = BTreeMap::new();
    look(&base.join("canary"), &mut seen);
    for entry in fs::read_dir(base).unwrap() {
        seen.insert(entry.unwrap().path().display().to_string(), String::new());
    }
    seen
}

fn evil_path(random: &mut Random, base: &Path) -> Vec<u8> {
    let absolute = base.join("canary/file").to_str().unwrap().as_bytes().to_vec();
    let fixed: [&[u8]; 26] = [
        b"..",
        b"../canary/file",
        b"dir/../../canary/file",
        b"/",
        &absolute,
        b"./x",
        b"dir/.",
        b"dir//own",
        b"a\0b",
        b"dir/",
        b"out/file",
        b"out/new",
        b"out/in/file",
        b"dir/out/file",
        b"chain/file",
        b"abs/file",
        b"outfile/x",
        b"hard",
        b"outfile",
        b"out",
        b"dir",
        b"dir/out",
        b"full",
        b"full/sub",
        b"",
        b"chain",
    ];
    if random.below(3) == 0 {
        return random.pick(&fixed).to_vec();
    }
    let names: [&[u8]; 12] =
        [b"a", b"b", b"out", b"dir", b"hard", b"x", b"new", b"sub", b"full", b"outfile", b"chain", b"..."];
    let count = 1 + random.below(4);
    (0..count).map(|_| random.pick(&names)).collect::<Vec<_>>().join(&b'/')
}

fn evil_record(random: &mut Random, base: &Path) -> FileRecord {
    let kinds = [
        FileKind::Regular,
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::Symlink,
        FileKind::Fifo,
        FileKind::CharacterDevice,
        FileKind::BlockDevice,
        FileKind::Socket,
    ];
    let mut made = record(&evil_path(random, base), random.pick(&kinds));
    made.mode = random.pick(&[0o644, 0o755, 0, 0o4755, 0o7777, 0o10000]);
    made.uid = random.pick(&[0, 1, 65534]);
    made.modified.nanoseconds = random.pick(&[0, 0, 5, 1_000_000_000]);
    made.modified.seconds = random.pick(&[1_000_000_000, 0, i64::MIN, i64::MAX]);
    made.flags = random.pick(&[0, 0, 0, 0x10, 0x20, u32::MAX]);
    if made.kind == FileKind::Symlink {
        let absolute = base.join("canary").to_str().unwrap().as_bytes().to_vec();
        let targets: [&[u8]; 6] = [b"..", b"../canary", b"../canary/file", &absolute, b".", b"/"];
        made.target = Some(random.pick(&targets).to_vec().into());
    }
    if made.kind.is_device() {
        made.device = Some(DeviceNumber { major: random.pick(&[1, 8, u32::MAX]), minor: 3 });
    }
    if made.kind == FileKind::Regular {
        made.size_bytes = random.pick(&[0, 7, 7, 5000, 1 << 62]);
        if random.below(4) == 0 {
            made.extents = Some(vec![Extent { offset: random.pick(&[0, 3, u64::MAX]), bytes: 2 }]);
        }
    }
    if random.below(3) == 0 {
        made.same_as = Some(evil_path(random, base).into());
        // What would make it look like the right one.
        if random.below(2) == 0 {
            (made.mode, made.size_bytes) = (0o640, 7);
        }
    }
    if random.below(5) == 0 {
        let name = random.pick(&[
            "user.x",
            "trusted.x",
            "security.capability",
            "system.posix_acl_access",
            "a\0b",
            "",
        ]);
        let value = vec![1; usize::try_from(random.below(70)).unwrap()];
        made.xattrs.push(Xattr { name: name.as_bytes().to_vec().into(), value: value.into() });
    }
    made
}

fn evil_archive(seed: u64, base: &Path) -> (Vec<File>, PlaceOptions) {
    let mut random = Random(seed);
    let count = 4 + random.below(28);
    let mut records: Vec<FileRecord> = (0..count).map(|_| evil_record(&mut random, base)).collect();
    if random.below(4) > 0 {
        records.sort_by(|left, right| compare_paths(&left.path, &right.path));
        // The same name twice stays in half of them.
        if random.below(2) == 0 {
            records.dedup_by(|left, right| left.path == right.path);
        }
    }
    let content = |record: &FileRecord, random: &mut Random| {
        let promised = usize::try_from(record.content_bytes().min(10_000)).unwrap();
        vec![b'E'; random.pick(&[promised, promised, promised, promised + 1, promised.saturating_sub(1)])]
    };
    let mut files = Vec::new();
    for record in records {
        let content = content(&record, &mut random);
        files.push((record, content));
    }
    let options = PlaceOptions {
        strip_components: usize::try_from(random.pick(&[0, 0, 0, 1, 2])).unwrap(),
        delete_extra: random.below(3) == 0,
        keep_right: random.below(2) == 0,
        make_sparse: random.below(2) == 0,
        numeric_ids: random.below(2) == 0,
        ..PlaceOptions::default()
    };
    (files, options)
}

#[test]
fn evil_archives_stay_in_the_target() {
    let (mut records, mut refused) = (0, 0);
    for seed in 0..ARCHIVES {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        let _unlocked = Unlocked(base);
        stage(base);
        let before = canary(base);
        let (files, options) = evil_archive(seed, base);
        records += files.len();
        refused += restore(&files, &base.join("target"), options).len();
        assert_eq!(canary(base), before, "archive {seed}: {files:?}");
    }
    assert!(refused > records / 10, "{refused} of {records}: they were not evil");
    println!(
        "proof: evil archives: {ARCHIVES} archives, {records} records, {refused} refused, nothing outside touched"
    );
}

#[test]
fn a_link_never_leads_out_of_the_target() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    stage(base);
    let before = canary(base);
    let link = |path: &str, target: &str| {
        let mut link = record(path.as_bytes(), FileKind::Symlink);
        link.target = Some(target.as_bytes().to_vec().into());
        (link, Vec::new())
    };
    let file = |path: &str| {
        let mut file = record(path.as_bytes(), FileKind::Regular);
        file.size_bytes = 4;
        (file, b"evil".to_vec())
    };
    let other = |path: &str, original: &str| {
        let mut other = file(path).0;
        other.same_as = Some(original.as_bytes().to_vec().into());
        (other, Vec::new())
    };
    let directory_of = |path: &str| (record(path.as_bytes(), FileKind::Directory), Vec::new());
    // What is refused, and what is done without harm: the link itself is replaced.
    let harmless = [vec![file("outfile")], vec![file("hard")], vec![directory_of("out"), file("out/file")]];
    let refused = [
        vec![link("a", "../canary"), file("a/file")],
        vec![link("a", "../canary"), directory_of("a/in"), file("a/in/file")],
        vec![file("abs/file")],
        vec![file("out/file")],
        vec![file("dir/out/new")],
        vec![other("z1", "out/file")],
        vec![other("z2", "outfile")],
        vec![other("z3", "hard")],
        vec![directory_of("a2"), link("a2", "../canary"), file("a2/x")],
        vec![file("full")],
    ];
    for files in refused {
        let problems = restore(&files, &base.join("target"), PlaceOptions::default());
        assert!(!problems.is_empty(), "{files:?}");
        assert_eq!(canary(base), before, "{files:?}");
    }
    for files in harmless {
        let problems = restore(&files, &base.join("target"), PlaceOptions::default());
        assert!(problems.is_empty(), "{files:?}: {problems:?}");
        assert_eq!(canary(base), before, "{files:?}");
    }
    assert_eq!(fs::read_to_string(base.join("canary/file")).unwrap(), "secret\n");
    assert_eq!(fs::read_to_string(base.join("target/hard")).unwrap(), "evil");
}

#[test]
fn a_race_leads_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    stage(base);
    fs::create_dir(base.join("target/race")).unwrap();
    symlink("../canary", base.join("target/race.link")).unwrap();
    let before = canary(base);
    let mut files = vec![(record(b"race", FileKind::Directory), Vec::new())];
    for index in 0..3000 {
        let mut inner = record(format!("race/{index:04}").as_bytes(), FileKind::Directory);
        inner.mode = 0o700;
        let mut file = record(format!("race/{index:04}/file").as_bytes(), FileKind::Regular);
        file.size_bytes = 4;
        files.extend([(inner, Vec::new()), (file, b"evil".to_vec())]);
    }
    // Records that make the directories be found anew each time.
    let stripped: Vec<File> = (0..3000)
        .flat_map(|index| {
            let mut file = record(format!("{index:04}/race/file").as_bytes(), FileKind::Regular);
            file.size_bytes = 4;
            let mut link = record(format!("{index:04}/race/same").as_bytes(), FileKind::Regular);
            (link.size_bytes, link.same_as) = (4, Some(file.path.clone()));
            [(file, b"evil".to_vec()), (link, Vec::new())]
        })
        .collect();
    let (done, swaps) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let target = base.join("target");
    thread::scope(|scope| {
        scope.spawn(|| {
            let root =
                rustix::fs::open(&target, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
            while !done.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "race", &root, "race.link", flags).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        restore(&files[1..], &target, PlaceOptions::default());
        restore(&stripped, &target, PlaceOptions { strip_components: 1, ..PlaceOptions::default() });
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(canary(base), before);
    println!("proof: races: {} swaps, nothing outside touched", swaps.load(Ordering::Relaxed));
}

#[test]
fn writing_again_never_reaches_through_a_hard_link() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    stage(base);
    let mut file = record(b"hard", FileKind::Regular);
    (file.size_bytes, file.mode, file.uid) = (4, 0o777, 65534);
    let before = canary(base);
    restore(&[(file, b"evil".to_vec())], &base.join("target"), PlaceOptions::default());
    assert_eq!(canary(base), before);
}
