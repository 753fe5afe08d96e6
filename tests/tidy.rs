//! The style guide as a test: what `docs/architecture.md` and `docs/contributing.md` ask for and a program can see.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/layers.rs"]
mod layers;

use code::Code;

use dbvault_testkit::package::package_dir;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Directories that hold what is made, not what is written.
const MADE: [&str; 6] = [".git", "target", "fuzz/target", "fuzz/corpus", "fuzz/artifacts", "benches/results"];

/// A file of the project; its path begins at the root.
struct File {
    path: String,
    /// None where it is not text.
    text: Option<String>,
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let mut files = Vec::new();
    collect(&package_dir(), "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
});

fn collect(root: &Path, folder: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = PathBuf::from(folder).join(entry.file_name()).to_str().unwrap().to_owned();
        if MADE.contains(&path.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, files);
        } else {
            files.push(File { text: String::from_utf8(fs::read(entry.path()).unwrap()).ok(), path });
        }
    }
}

fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
}

/// All Rust files.
fn rust() -> impl Iterator<Item = (&'static str, Code)> {
    texts().filter(|(path, _)| path.ends_with(".rs")).map(|(path, text)| (path, Code::parse(text)))
}

/// The Rust files that the product is made of, without their tests.
fn product() -> impl Iterator<Item = (&'static str, Code)> {
    let is_product = |path: &str| {
        let in_sources = path.contains("/src/") || path.starts_with("crates/cli/");
        let for_tests = path.contains("/tests/") || path.ends_with("/tests.rs");
        in_sources && !for_tests && !path.starts_with("crates/testkit/") && !path.starts_with("fuzz/")
    };
    rust().filter(move |(path, _)| is_product(path)).map(|(path, code)| (path, code.without_tests()))
}

/// What breaks a rule, a line for each place.
#[derive(Default)]
struct Breaches(String);

impl Breaches {
    fn add(&mut self, path: &str, line: usize, what: impl std::fmt::Display) {
        writeln!(self.0, "{path}:{line}: {what}").unwrap();
    }

    /// Every place where the code of `path` has one of `words`.
    fn add_all(&mut self, path: &str, code: &Code, words: &[&str], why: &str) {
        for word in words {
            code.words(word)
                .into_iter()
                .for_each(|at| self.add(path, code.line(at), format!("{word}: {why}")));
        }
    }

    fn none(&self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

#[test]
fn crates_depend_downwards_only() {
    let mut breaches = Breaches::default();
    layers::check(&mut breaches, |path| texts().find(|(at, _)| *at == path).map(|(_, text)| text));
    breaches.none();
}

#[test]
fn files_are_short() {
    let mut breaches = Breaches::default();
    for (path, text) in texts().filter(|(path, _)| path.ends_with(".rs")) {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.add(path, lines, format!("a file of {lines} lines; at most {FILE_LINES_MAX}"));
        }
    }
    breaches.none();
}

#[test]
fn functions_fit_a_screen() {
    let mut breaches = Breaches::default();
    for (path, code) in rust() {
        for function in code.functions() {
            let first = code.line(function.range.start);
            let lines = code.line(function.range.end - 1) - first + 1;
            if lines > FUNCTION_LINES_MAX {
                let name = function.name;
                breaches.add(path, first, format!("{name} has {lines} lines; at most {FUNCTION_LINES_MAX}"));
            }
        }
    }
    breaches.none();
}

#[test]
fn only_the_layout_names_objects() {
    const FOLDERS: [&str; 10] = [
        "archives/",
        "condemned/",
        "index/",
        "keys/",
        "packs/",
        "parity/",
        "quarantine/",
        "roots/",
        "sessions/",
        "trash/",
    ];
    let mut breaches = Breaches::default();
    let layers_above = ["crates/repo/", "crates/jobs/", "crates/cli/"];
    let concerned = |path: &str| layers_above.iter().any(|layer| path.starts_with(layer));
    for (path, code) in product().filter(|(path, _)| concerned(path) && *path != "crates/repo/src/layout.rs")
    {
        for (at, text) in &code.strings {
            if FOLDERS.iter().any(|folder| text.starts_with(folder)) {
                breaches.add(
                    path,
                    code.line(*at),
                    format!("\"{text}\" is built in crates/repo/src/layout.rs only"),
                );
            }
        }
    }
    breaches.none();
}

#[test]
fn programs_are_started_in_one_file_only() {
    const WORDS: [&str; 3] = ["process::Command", "tokio::process", "os::unix::process::CommandExt"];
    let mut breaches = Breaches::default();
    for (path, code) in product().filter(|(path, _)| *path != "crates/source/src/process.rs") {
        breaches.add_all(path, &code, &WORDS, "programs are started in crates/source/src/process.rs only");
        for at in code.code.match_indices("process::{").map(|(at, _)| at) {
            let list = code.code[at..].split('}').next().unwrap_or_default();
            if list.split(|c: char| !c.is_alphanumeric()).any(|word| word == "Command") {
                breaches.add(
                    path,
                    code.line(at),
                    "programs are started in crates/source/src/process.rs only",
                );
            }
        }
    }
    breaches.none();
}

#[test]
fn only_the_command_line_prints() {
    const WORDS: [&str; 6] = ["print!", "println!", "eprint!", "eprintln!", "stdout()", "stderr()"];
    let mut breaches = Breaches::default();
    for (path, code) in product().filter(|(path, _)| !path.starts_with("crates/cli/")) {
        breaches.add_all(path, &code, &WORDS, "only the command line prints");
    }
    breaches.none();
}

#[test]
fn nothing_that_is_shipped_follows_a_script() {
    const WORDS: [&str; 2] = ["scripted::begin", "scripted::keep_indexes_in_memory"];
    let mut breaches = Breaches::default();
    for (path, code) in product() {
        breaches.add_all(path, &code, &WORDS, "ids, keys and times are chosen by tests only");
    }
    breaches.none();
}

#[test]
fn nothing_is_unsafe_or_left_for_later() {
    let mut breaches = Breaches::default();
    for (path, code) in rust() {
        breaches.add_all(path, &code, &["unsafe"], "there is a safe way, or a crate that has one");
        breaches.add_all(path, &code, &["todo!", "unimplemented!", "dbg!"], "finish it first");
    }
    breaches.none();
}

#[test]
fn objects_are_deleted_in_few_places_only() {
    /// Signs of life of a session that ended; a key slot that is removed; the steps back of a failed `init`; the
    /// parity of packs that are gone; damaged objects of which there is a copy in quarantine; a base that lost; the
    /// reserve on a full disk.
    const ALLOWED: [&str; 7] = [
        "crates/repo/src/session.rs",
        "crates/repo/src/key_slots.rs",
        "crates/repo/src/repository.rs",
        "crates/repo/src/parity.rs",
        "crates/repo/src/repair/quarantine.rs",
        "crates/repo/src/collect/base.rs",
        "crates/repo/src/reserve.rs",
    ];
    let allowed = |path: &str| ALLOWED.contains(&path) || path == "crates/repo/src/collect/sweep.rs";
    let mut breaches = Breaches::default();
    for (path, code) in product().filter(|(path, _)| !path.starts_with("crates/storage/") && !allowed(path)) {
        for (at, _) in code.code.match_indices("storage.delete(") {
            breaches.add(
                path,
                code.line(at),
                "stored objects are deleted by a collection and a few named files only",
            );
        }
    }
    breaches.none();
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // Put together here, so that this file does not break its own rule.
    let paths = ["root", "home", "work"].map(|folder| format!("/{folder}/"));
    let hosts = ["crates.io", "pypi.org", "pythonhosted.org", "npmjs.org", "debian.org"];
    let mut breaches = Breaches::default();
    for (path, text) in texts().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for (index, line) in text.lines().enumerate() {
            let host = |rest: &str| rest.split(['/', ' ', '"', ')']).next().unwrap_or_default().to_owned();
            let url_hosts: Vec<String> = line.split("://").skip(1).map(host).collect();
            if url_hosts.iter().any(|found| hosts.iter().any(|host| found.ends_with(host))) {
                breaches.add(path, index + 1, "names the host of a package registry");
            }
            let absolute =
                |path: &&String| line.match_indices(path.as_str()).any(|(at, _)| starts_path(line, at));
            if let Some(found) = paths.iter().find(absolute) {
                breaches.add(path, index + 1, format!("a path below {found} is one machine's own"));
            }
        }
    }
    breaches.none();
}

/// Whether a path begins at `at`, and does not just go on there.
fn starts_path(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~})$/".contains(c))
}

#[test]
fn every_document_is_linked() {
    let mut breaches = Breaches::default();
    let documents = || texts().filter(|(path, _)| path.starts_with("docs/") && path.ends_with(".md"));
    for (path, _) in documents() {
        let name = path.rsplit('/').next().unwrap_or(path);
        let linked = |text: &str| text.contains(&format!("{name})")) || text.contains(&format!("{name}#"));
        let readme = texts().filter(|(path, _)| *path == "README.md");
        if !documents().chain(readme).any(|(from, text)| from != path && linked(text)) {
            breaches.add(path, 1, "no other document links to it");
        }
    }
    breaches.none();
}

#[test]
fn every_golden_file_is_read() {
    let mut breaches = Breaches::default();
    let is_test = |path: &str| path.ends_with(".rs") && path.starts_with("tests/") && path != "tests/tidy.rs";
    let below =
        |path: &'static str| path.strip_prefix("tests/golden/").and_then(|rest| rest.split('/').next());
    let mut names: Vec<&str> = FILES.iter().filter_map(|file| below(&file.path)).collect();
    names.dedup();
    for name in names.into_iter().filter(|name| !name.ends_with(".md")) {
        if !texts().any(|(path, text)| is_test(path) && text.contains(name)) {
            breaches.add(&format!("tests/golden/{name}"), 1, "no test reads it");
        }
    }
    breaches.none();
}

#[test]
fn every_product_file_says_what_it_is() {
    let mut breaches = Breaches::default();
    for (path, _) in product() {
        let text = texts().find(|(at, _)| *at == path).map(|(_, text)| text).unwrap_or_default();
        if !text.starts_with("//! ") {
            breaches.add(path, 1, "begins with one line of documentation");
        }
    }
    breaches.none();
}
