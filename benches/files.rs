//! A tree of many files beside Borg, restic and rustic: the first backup, the same again, one file changed, and a restore.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DBVAULT_FILES_FROM` | directories that the tree is copied from, with colons between; by default `/usr/share`, `/usr/include` and the sources that cargo has fetched |
//! | `DBVAULT_FILES_MB` | large files of `/usr/lib` are added up to this size of the tree, 2,100 by default |
//! | `DBVAULT_FILES_ROUNDS` | rounds, of which the fastest counts, 2 by default; each takes 3 GB for each tool |
//! | `DBVAULT_FILES_PEERS` | any of `borg`, `restic`, `rustic`; all by default |
//! | `DBVAULT_FILES_DIR` | directory for tree and repositories; it is kept, and a tree that is there is used |
//! | `DBVAULT_BIN` | the dbvault to measure, instead of the one just built |
//!
//! The tree is read before each turn, so that all find it in memory. The tools take turns, so that the machine's moods hit all of them. Nothing is removed before the end: ext4 looks for a
//! minute and more past inodes that have just been freed, which would double the time of the next restore. What a restore
//! gives is compared with the tree by rsync. Needs root, for owners.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports to the person who runs it"
)]

#[path = "shared/environment.rs"]
mod environment;
#[path = "shared/measure.rs"]
mod measure;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use environment::{Result, is_to_measure, number, words};
use measure::{Usage, bytes_stored, measure};

const SECRET: &str = "for measuring only";
/// Files of `/usr/lib` that fill the tree up are at least so long, bytes.
const LARGE_BYTES: u64 = 1 << 20;

/// A tool, and its words: `{tree}` is the tree, `{to}` an empty directory.
struct Tool {
    name: &'static str,
    program: &'static str,
    environment: &'static [(&'static str, &'static str)],
    init: &'static [&'static str],
    backup: &'static [&'static str],
    restore: &'static [&'static str],
    /// Whether the restore is run in the directory it goes to.
    restores_here: bool,
}

const TOOLS: [Tool; 4] = [
    Tool {
        name: "dbvault",
        program: "dbvault",
        environment: &[("DBVAULT_REPO", "{repo}"), ("DBVAULT_PASSPHRASE", SECRET)],
        init: &["init", "--quiet"],
        backup: &["backup", "--quiet", "{tree}"],
        restore: &["extract", "--quiet", "--archive", "latest", "--to", "{to}"],
        restores_here: false,
    },
    Tool {
        name: "Borg",
        program: "borg",
        environment: &[("BORG_REPO", "{repo}"), ("BORG_PASSPHRASE", SECRET), ("BORG_BASE_DIR", "{home}")],
        init: &["init", "--encryption", "repokey-blake2"],
        backup: &["create", "--compression", "zstd,3", "::{archive}", "{tree}"],
        restore: &["extract", "::{archive}"],
        restores_here: true,
    },
    Tool {
        name: "restic",
        program: "restic",
        environment: &[("RESTIC_REPOSITORY", "{repo}"), ("RESTIC_PASSWORD", SECRET)],
        init: &["init"],
        backup: &["backup", "{tree}"],
        restore: &["restore", "latest", "--target", "{to}"],
        restores_here: false,
    },
    Tool {
        name: "rustic",
        program: "rustic",
        environment: &[("RUSTIC_REPOSITORY", "{repo}"), ("RUSTIC_PASSWORD", SECRET)],
        init: &["init"],
        backup: &["backup", "--no-progress", "{tree}"],
        restore: &["restore", "--no-progress", "latest", "{to}"],
        restores_here: false,
    },
];

fn main() -> Result<()> {
    if !is_to_measure() {
        return Ok(());
    }
    let temporary = tempfile::tempdir().map_err(words)?;
    let kept = env::var_os("DBVAULT_FILES_DIR").map(PathBuf::from);
    let mut place = Place { root: kept.unwrap_or_else(|| temporary.path().into()), round: 0 };
    let megabytes = number("DBVAULT_FILES_MB", 2100)?;
    let rounds = number("DBVAULT_FILES_ROUNDS", 2)?.max(1);
    place.make_tree(megabytes * 1_000_000)?;
    let tree = Counts::of(&place.tree())?;
    eprintln!("{} files, {} MB", tree.files, tree.bytes / 1_000_000);
    let peers = env::var("DBVAULT_FILES_PEERS").ok();
    let wanted = |tool: &&Tool| {
        tool.name == "dbvault" || peers.as_ref().is_none_or(|peers| peers.contains(tool.program))
    };
    let (tools, absent): (Vec<_>, Vec<_>) =
        TOOLS.iter().filter(wanted).partition(|tool| place.is_installed(tool));
    let mut figures: Vec<Vec<Figures>> = tools.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        place.round = round;
        for (tool, figures) in tools.iter().zip(&mut figures) {
            eprintln!("round {}: {}", round + 1, tool.name);
            figures.push(place.contest(tool)?);
        }
    }
    let fastest: Vec<Figures> = figures.iter().map(|rounds| Figures::fastest(rounds)).collect();
    let report = report(&tree, rounds, &tools, &absent, &fastest);
    println!("{report}");
    fs::remove_dir_all(place.root.join("rounds")).map_err(words)?;
    if megabytes == 2100 && peers.is_none() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/files.md");
        fs::write(file, report).map_err(words)?;
    }
    Ok(())
}

/// What is in a tree.
#[derive(Default)]
struct Counts {
    files: u64,
    bytes: u64,
}

impl Counts {
    fn of(directory: &Path) -> Result<Counts> {
        let mut counts = Counts::default();
        for entry in fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))? {
            let entry = entry.map_err(words)?;
            let metadata = entry.metadata().map_err(words)?;
            counts.files += 1;
            if metadata.is_dir() {
                let below = Counts::of(&entry.path())?;
                counts.files += below.files;
                counts.bytes += below.bytes;
            } else if metadata.is_file() {
                counts.bytes += metadata.len();
            }
        }
        Ok(counts)
    }
}

/// What a tool took.
#[derive(Clone, Copy)]
struct Figures {
    first: Usage,
    unchanged: Usage,
    changed: Usage,
    restore: Usage,
    stored_bytes: u64,
    growth_bytes: u64,
    peak_megabytes: f64,
}

impl Figures {
    fn fastest(rounds: &[Figures]) -> Figures {
        let of = |usage: fn(&Figures) -> Usage| {
            let mut all: Vec<Usage> = rounds.iter().map(usage).collect();
            all.sort_by(|a, b| a.wall_seconds.total_cmp(&b.wall_seconds));
            all[0]
        };
        let largest = rounds.iter().map(|round| round.peak_megabytes).fold(0.0, f64::max);
        Figures {
            first: of(|figures| figures.first),
            unchanged: of(|figures| figures.unchanged),
            changed: of(|figures| figures.changed),
            restore: of(|figures| figures.restore),
            peak_megabytes: largest,
            ..rounds[0]
        }
    }
}

/// The tree, and a directory for each tool.
struct Place {
    root: PathBuf,
    round: u64,
}

impl Place {
    fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    fn make_tree(&self, bytes: u64) -> Result<()> {
        let (tree, whole) = (self.tree(), self.root.join("tree.whole"));
        if whole.exists() {
            return Ok(());
        }
        fs::create_dir_all(&tree).map_err(words)?;
        for (number, from) in sources().into_iter().enumerate() {
            let to = tree.join(number.to_string());
            run(Command::new("cp").arg("-a").arg(&from).arg(&to))?;
        }
        let mut missing = bytes.saturating_sub(Counts::of(&tree)?.bytes);
        let large = tree.join("large");
        fs::create_dir_all(&large).map_err(words)?;
        let mut files = Vec::new();
        large_files(Path::new("/usr/lib"), &mut files)?;
        files.sort();
        for (number, (path, bytes)) in files.into_iter().enumerate() {
            if missing < bytes {
                break;
            }
            run(Command::new("cp").arg("-a").arg(&path).arg(large.join(number.to_string())))?;
            missing -= bytes;
        }
        fs::write(whole, "").map_err(words)
    }

    fn is_installed(&self, tool: &Tool) -> bool {
        self.command(tool, &["--help"]).output().is_ok()
    }

    fn home(&self, tool: &Tool) -> PathBuf {
        self.root.join(format!("rounds/{}/{}", self.round, tool.program))
    }

    fn command(&self, tool: &Tool, line: &[&str]) -> Command {
        let program = match tool.program {
            "dbvault" => environment::program(),
            other => other.into(),
        };
        let home = self.home(tool);
        let filled = |word: &str, archive: &str| {
            word.replace("{tree}", &self.tree().to_string_lossy())
                .replace("{to}", &home.join("to").to_string_lossy())
                .replace("{repo}", &home.join("repository").to_string_lossy())
                .replace("{home}", &home.to_string_lossy())
                .replace("{archive}", archive)
        };
        let archives = fs::read_dir(home.join("archives")).map_or(0, Iterator::count);
        let mut command = Command::new(program);
        command.args(line.iter().map(|word| filled(word, &archives.to_string())));
        command.envs(tool.environment.iter().map(|(name, value)| (name, filled(value, ""))));
        command.env("HOME", &home).env("XDG_CACHE_HOME", home.join("cache")).env("LC_ALL", "C.UTF-8");
        command.env("XDG_CONFIG_HOME", home.join("config"));
        command
    }

    /// Backs the tree up, with another archive for every call.
    fn back_up(&self, tool: &Tool) -> Result<Usage> {
        let archives = self.home(tool).join("archives");
        let count = fs::read_dir(&archives).map_or(0, Iterator::count);
        fs::create_dir_all(archives.join(count.to_string())).map_err(words)?;
        measure(self.command(tool, tool.backup), None)
    }

    fn contest(&self, tool: &Tool) -> Result<Figures> {
        // What the disk takes is not what is compared: the first tool would pay for all.
        read_all(&self.tree())?;
        let home = self.home(tool);
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(home.join("to")).map_err(words)?;
        run(&mut self.command(tool, tool.init))?;
        let repository = home.join("repository");
        let first = self.back_up(tool)?;
        let stored_bytes = bytes_stored(&repository)?;
        let unchanged = self.back_up(tool)?;
        let before = bytes_stored(&repository)?;
        self.change_a_file()?;
        let changed = self.back_up(tool)?;
        let growth_bytes = bytes_stored(&repository)?.saturating_sub(before);
        let mut command = self.command(tool, tool.restore);
        if tool.restores_here {
            command.current_dir(home.join("to"));
        }
        let restore = measure(command, None)?;
        self.compare(tool)?;
        let all = [first, unchanged, changed, restore];
        let peak_megabytes = all.iter().map(|usage| usage.peak_megabytes).fold(0.0, f64::max);
        Ok(Figures { first, unchanged, changed, restore, stored_bytes, growth_bytes, peak_megabytes })
    }

    /// Adds a line to a file of middling length.
    fn change_a_file(&self) -> Result<()> {
        let path = self.tree().join("0/changed.txt");
        let mut text = fs::read_to_string(&path).unwrap_or_else(|_| "a line of text\n".repeat(2000));
        let _ = writeln!(text, "line {}", text.len());
        fs::write(path, text).map_err(words)
    }

    /// The restored tree is the tree, for rsync.
    fn compare(&self, tool: &Tool) -> Result<()> {
        let to = self.home(tool).join("to");
        let inside = to.join(self.tree().strip_prefix("/").map_err(words)?);
        let restored = if inside.exists() { inside } else { to };
        let output = Command::new("rsync")
            .args(["-naicHAXS", "--delete", "--modify-window=-1"])
            .args([format!("{}/", self.tree().display()), format!("{}/", restored.display())])
            .output()
            .map_err(|e| format!("rsync: {e}"))?;
        let found = String::from_utf8_lossy(&output.stdout);
        match found.lines().count() {
            0 if output.status.success() => Ok(()),
            count if tool.name != "dbvault" => {
                eprintln!("{}: rsync finds {count} differences", tool.name);
                Ok(())
            }
            count => {
                let first: Vec<&str> = found.lines().take(10).collect();
                Err(format!("WRONG FILES: rsync finds {count} differences, such as {first:#?}"))
            }
        }
    }
}

/// Reads all files once, so that the system has them in memory.
fn read_all(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(words)? {
        let entry = entry.map_err(words)?;
        let kind = entry.file_type().map_err(words)?;
        if kind.is_dir() {
            read_all(&entry.path())?;
        } else if kind.is_file() {
            let mut file = fs::File::open(entry.path()).map_err(words)?;
            io::copy(&mut file, &mut io::sink()).map_err(words)?;
        }
    }
    Ok(())
}

fn sources() -> Vec<PathBuf> {
    if let Some(from) = env::var_os("DBVAULT_FILES_FROM") {
        return env::split_paths(&from).collect();
    }
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let all = ["/usr/share".into(), "/usr/include".into(), cargo.join("registry/src")];
    all.into_iter().filter(|path| path.exists()).collect()
}

fn large_files(directory: &Path, found: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))? {
        let entry = entry.map_err(words)?;
        let metadata = entry.metadata().map_err(words)?;
        if metadata.is_dir() {
            large_files(&entry.path(), found)?;
        } else if metadata.is_file() && metadata.len() >= LARGE_BYTES {
            found.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn report(tree: &Counts, rounds: u64, tools: &[&Tool], absent: &[&Tool], all: &[Figures]) -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut report = format!(
        "# A tree of files\n\nMeasured by `make bench-files`: {} files, {} MB; the fastest of {rounds} rounds. Load of the machine at \
         the end: {}.\n\n| | first | unchanged | one file changed | restore | stored | growth by that file | peak memory |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        tree.files,
        tree.bytes / 1_000_000,
        load.split(' ').next().unwrap_or_default(),
    );
    for (tool, figures) in tools.iter().zip(all) {
        let seconds = |usage: Usage| format!("{:.2} s (CPU {:.1} s)", usage.wall_seconds, usage.cpu_seconds);
        let _ = writeln!(
            report,
            "| {} | {} | {} | {} | {} | {:.1} MB | {:.1} kB | {:.0} MB |",
            tool.name,
            seconds(figures.first),
            seconds(figures.unchanged),
            seconds(figures.changed),
            seconds(figures.restore),
            figures.stored_bytes as f64 / 1e6,
            figures.growth_bytes as f64 / 1e3,
            figures.peak_megabytes,
        );
    }
    for tool in absent {
        let _ = writeln!(report, "| {} | not installed | | | | | | |", tool.name);
    }
    if let (Some(ours), Some(at)) = (all.first(), tools.iter().position(|tool| tool.name == "Borg")) {
        goals(&mut report, ours, &all[at]);
    }
    report
}

fn goals(report: &mut String, ours: &Figures, borg: &Figures) {
    report.push_str("\n| goal | reached | |\n| --- | --- | --- |\n");
    let ratio = |usage: fn(&Figures) -> Usage| usage(ours).wall_seconds / usage(borg).wall_seconds;
    let stored = ours.stored_bytes as f64 / borg.stored_bytes as f64;
    let lines = [
        ("first backup at most 0.3 of Borg's time", ratio(|figures| figures.first), 0.3),
        ("unchanged at most 0.2 of Borg's time", ratio(|figures| figures.unchanged), 0.2),
        ("restore at most 0.5 of Borg's time", ratio(|figures| figures.restore), 0.5),
        ("stored at most what Borg stores", stored, 1.0),
        ("one changed file: less than 100 kB", ours.growth_bytes as f64 / 1e3, 100.0),
        ("peak memory at most 200 MB", ours.peak_megabytes, 200.0),
    ];
    for (goal, reached, bound) in lines {
        let verdict = if reached <= bound { "pass" } else { "FAIL" };
        let _ = writeln!(report, "| {goal} | {reached:.3} | {verdict} |");
    }
}
