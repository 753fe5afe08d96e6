//! What the documents show is run: see "Documents" in `docs/contributing.md`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: its helpers may panic, and say what is skipped"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dbvault_testkit::package::package_dir;
use dbvault_testkit::postgres_server::PostgresServer;

/// README.md, CHANGELOG.md and the documents below docs, with their text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = package_dir();
    let below = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        below.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    paths.extend([root.join("README.md"), root.join("CHANGELOG.md")]);
    paths.sort();
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// The `sh` blocks as one script, each line at the number it has in the document; None where there is no block.
fn script(document: &str) -> Option<String> {
    let (mut script, mut block, mut any) = (String::new(), None, false);
    for line in document.lines() {
        let fence = line.trim_start().strip_prefix("```");
        let runs = block == Some("sh") && fence.is_none();
        any |= runs;
        writeln!(script, "{}", if runs { line } else { "" }).unwrap();
        block = match (block, fence) {
            (None, Some(language)) => Some(language.trim()),
            (Some(_), Some(_)) => None,
            (same, None) => same,
        };
    }
    any.then_some(script)
}

fn fill(server: &PostgresServer, home: &Path) {
    server.create_database("users").unwrap();
    let people = "CREATE TABLE people AS SELECT i AS id, 'name ' || i AS name FROM generate_series(1, 100) i";
    server.psql("users", people).unwrap();
    server.create_database("orders").unwrap();
    server.psql("orders", "CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 100) i").unwrap();
    let app = rusqlite::Connection::open(home.join("app.db")).unwrap();
    app.execute_batch("CREATE TABLE notes (text); INSERT INTO notes VALUES ('one'), ('two')").unwrap();
}

/// Runs a script in a home of its own. Errors: which line failed, and what was printed.
fn run(script: &str, server: &PostgresServer) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let (home, programs) = (directory.path().join("home"), directory.path().join("bin"));
    [&home, &programs].into_iter().for_each(|path| fs::create_dir(path).unwrap());
    symlink(env!("CARGO_BIN_EXE_dbvault"), programs.join("dbvault")).unwrap();
    fill(server, &home);

    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", programs.display(), server.bin_dir().display());
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-o", "pipefail", "-c"]);
    bash.arg(format!("exec 2>&1; trap 'echo \"^ line $LINENO failed\"' ERR; {script}"));
    bash.env_clear().envs(server.env()).env("PATH", path).env("HOME", &home).env("LC_ALL", "C.UTF-8");
    bash.env("DBVAULT_PASSPHRASE", "for documents").env("DBVAULT_NEW_PASSPHRASE", "new, for documents");
    let output = bash.current_dir(&home).stdin(Stdio::null()).output().unwrap();
    for database in ["users", "orders", "users_test"] {
        server.psql("postgres", &format!("DROP DATABASE IF EXISTS {database}")).unwrap();
    }
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
}

#[test]
fn what_the_documents_show_works() {
    let server = match PostgresServer::start() {
        Ok(server) => server,
        Err(error) => {
            println!("skipped: what_the_documents_show_works: {error}");
            return;
        }
    };
    let mut failed = String::new();
    let mut run_any = false;
    for (path, text) in documents() {
        let Some(script) = script(&text) else { continue };
        run_any = true;
        if let Err(output) = run(&script, &server) {
            writeln!(failed, "{}:\n{output}", path.display()).unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert!(run_any, "no document shows anything that can be run");
}

#[test]
fn make_targets_that_are_named_exist() {
    let makefile = fs::read_to_string(package_dir().join("Makefile")).unwrap();
    for (path, text) in documents() {
        // In code only: "`make x`", or a line of a block that begins with "make x".
        let starts = text.match_indices("make ").filter(|(at, _)| text[..*at].ends_with(['`', '\n']));
        for (at, word) in starts {
            let rest = &text[at + word.len()..];
            let target: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            let exists = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            assert!(exists, "{} names make {target}", path.display());
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in documents() {
        for (at, mark) in text.match_indices("](") {
            let link = text[at + mark.len()..].split([')', '#']).next().unwrap();
            let target = path.parent().unwrap().join(link);
            let ok = link.is_empty() || link.contains("://") || target.exists();
            assert!(ok, "{} links to {link}, which is not there", path.display());
        }
    }
}

#[test]
fn blocks_are_found_and_keep_their_lines() {
    let document = "a\n```sh\none\n```\n```text\ntwo\n```\n<!--\n```sh\nthree\n```\n-->\n";
    assert_eq!(script(document).unwrap(), "\n\none\n\n\n\n\n\n\nthree\n\n\n");
    assert_eq!(script("```\nnone\n```\n"), None);
}
