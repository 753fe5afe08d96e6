//! Mutants: each leaves out one step that nothing may be lost without, and must make the test fail that it names.
//!
//! A file of `tests/mutants` has lines `why:`, `file:` and `test:` (what follows `cargo test --release`), then pairs of
//! texts: `<<<<`, the old one, `====`, the new one, `>>>>`. `make mutants` tries them all, in a copy of the tree.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dbvault_testkit::package::package_dir;

/// A test that a mutant makes hang fails too, after this time.
const TEST_TIME_MAX: Duration = Duration::from_secs(15 * 60);

struct Mutant {
    name: String,
    file: String,
    test: String,
    /// Old and new texts.
    pairs: Vec<(String, String)>,
}

impl Mutant {
    fn parse(name: &str, text: &str) -> Mutant {
        let field = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{name} has no {key}")).trim().to_owned()
        };
        assert!(!field("why:").is_empty(), "{name} says nothing");
        let pair = |block: &str| {
            let (body, _) = block.split_once("\n>>>>").unwrap_or_else(|| panic!("{name}: >>>> is missing"));
            let body = format!("{body}\n");
            let (old, new) = body.split_once("\n====\n").unwrap_or_else(|| panic!("{name}: ==== is missing"));
            (old.to_owned(), new.strip_suffix('\n').unwrap_or_default().to_owned())
        };
        let pairs: Vec<_> = text.split("<<<<\n").skip(1).map(pair).collect();
        assert!(!pairs.is_empty(), "{name} changes nothing");
        Mutant { name: name.to_owned(), file: field("file:"), test: field("test:"), pairs }
    }

    /// The source with the mutation. Errors: a text that is not there exactly once.
    fn apply(&self, source: &str) -> Result<String, String> {
        let mut mutated = source.to_owned();
        for (old, new) in &self.pairs {
            match source.matches(old.as_str()).count() {
                1 => mutated = mutated.replace(old.as_str(), new),
                count => return Err(format!("{}: {} has this {count} times:\n{old}", self.name, self.file)),
            }
        }
        Ok(mutated)
    }
}

fn root() -> PathBuf {
    package_dir().join("../..")
}

fn mutants() -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(root().join("tests/mutants")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        mutants.push(Mutant::parse(&name, &fs::read_to_string(path).unwrap()));
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    mutants
}

#[test]
fn every_mutant_can_be_made() {
    let wrong: Vec<String> = mutants()
        .iter()
        .filter_map(|mutant| mutant.apply(&fs::read_to_string(root().join(&mutant.file)).unwrap()).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A copy of the tree that goes away at the end. Its place is always the same, so that what was built of it is used
/// again.
struct Copy(PathBuf);

impl Copy {
    fn make() -> Copy {
        let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        let copy = Copy(root().join(target).join("mutants"));
        let _ = fs::remove_dir_all(&copy.0);
        let files = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root())
            .output()
            .unwrap();
        for name in String::from_utf8(files.stdout).unwrap().lines() {
            let (from, to) = (root().join(name), copy.0.join(name));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            if from.is_file() {
                fs::copy(from, to).unwrap();
            }
        }
        // Cargo knows packages by their names, versions and places in the tree. Under the same version, what is built
        // here would be taken for what is built of the tree itself, and the other way round.
        let manifest = fs::read_to_string(copy.0.join("Cargo.toml")).unwrap();
        let line = manifest.lines().find(|line| line.starts_with("version = ")).unwrap();
        let other = "version = \"0.0.0-mutant\"";
        fs::write(copy.0.join("Cargo.toml"), manifest.replacen(line, other, 1)).unwrap();
        copy
    }

    fn cargo(&self, test: &str, build_only: bool) -> Output {
        let mut words: Vec<&str> = test.split_whitespace().collect();
        // The last word is the name of a test.
        let name = words.pop().unwrap();
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--release", "--offline"]).args(words).current_dir(&self.0);
        match build_only {
            true => cargo.arg("--no-run"),
            false => cargo.args(["--", "--nocapture", name]),
        };
        let log = self.0.join("mutant.log");
        cargo.stdout(fs::File::create(&log).unwrap()).stderr(Stdio::null()).stdin(Stdio::null());
        let mut child = cargo.spawn().unwrap();
        let began = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if began.elapsed() > TEST_TIME_MAX => {
                    child.kill().unwrap();
                    break child.wait().unwrap();
                }
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        Output { status, stdout: fs::read(&log).unwrap(), stderr: Vec::new() }
    }

    /// Whether the test passes. Panics where it can't be built, or is not there.
    fn passes(&self, what: &str, test: &str) -> bool {
        assert!(self.cargo(test, true).status.success(), "{what} can't be built");
        let output = self.cargo(test, false);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("running 1 test\n"), "{what}: there is no one test {test}");
        output.status.success()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
#[ignore = "builds everything anew for each mutant: make mutants"]
fn none_survives() {
    let only = std::env::var("DBVAULT_MUTANT").unwrap_or_default();
    let mutants: Vec<Mutant> = mutants().into_iter().filter(|mutant| mutant.name.contains(&only)).collect();
    let (began, copy) = (Instant::now(), Copy::make());
    let mut tests: Vec<&str> = mutants.iter().map(|mutant| mutant.test.as_str()).collect();
    tests.sort_unstable();
    tests.dedup();
    // Who asks for few mutants knows the tests.
    for test in tests.into_iter().filter(|_| only.is_empty()) {
        assert!(copy.passes("the tree as it is", test), "{test} fails without a mutant");
    }
    let mut survived = Vec::new();
    for mutant in &mutants {
        let path = copy.0.join(&mutant.file);
        let source = fs::read_to_string(&path).unwrap();
        fs::write(&path, mutant.apply(&source).unwrap()).unwrap();
        let passed = copy.passes(&mutant.name, &mutant.test);
        fs::write(&path, source).unwrap();
        println!("{}: {}", mutant.name, if passed { "SURVIVED" } else { "caught" });
        if passed {
            survived.push(mutant.name.as_str());
        }
    }
    let (count, seconds) = (mutants.len(), began.elapsed().as_secs());
    println!(
        "proof: mutants: {count} mutants, {} caught, {} survived, {seconds} s",
        count - survived.len(),
        survived.len()
    );
    assert!(survived.is_empty(), "{survived:?}");
}
