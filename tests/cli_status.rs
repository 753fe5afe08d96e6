//! `status`, incomplete archives, and what drills recorded, through the program.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod cli_support;

use std::sync::Arc;

use cli_support::{Home, run};
use dbvault_format::key_slot::Secret;
use dbvault_jobs::key_file;
use dbvault_repo::{Client, Proof, Repository};
use dbvault_storage::LocalStorage;

/// Backs up what `command` prints, as the entry `x`.
fn back_up(home: &Home, archive: &str, command: &str) {
    home.ok(["backup", "--archive", archive, "--command", command, "--name", "x"]);
}

/// A home with a complete archive `one` of two databases, and a newer one that lacks `b.db`.
fn home_with_incomplete() -> Home {
    let home = Home::with_repository();
    home.make_sqlite("a.db", 10);
    let b = home.make_sqlite("b.db", 10);
    home.ok(["backup", "--archive", "one", "--sqlite", "a.db", "--sqlite", "b.db"]);
    std::fs::remove_file(b).unwrap();
    home.make_sqlite("a.db.new", 20);
    std::fs::rename(home.path("a.db.new"), home.path("a.db")).unwrap();
    home.fails(
        ["backup", "--archive", "two", "--sqlite", "a.db", "--sqlite", "b.db"],
        23,
        "missing in archive two",
    );
    home
}

#[test]
fn a_repository_without_backups_is_not_fine() {
    let home = Home::with_repository();
    home.fails(["status"], 25, "1 problem with the backups");
}

#[test]
fn a_backup_is_fine_until_it_is_old_or_has_shrunk() {
    let home = Home::with_repository();
    back_up(&home, "one", "seq 10000");
    let told = home.ok(["status", "--max-age", "26h"]);
    assert!(told.contains("LAST BACKUP") && told.contains("command") && told.contains("ok"), "{told}");
    let run = home.fails(["status", "--max-age", "0s"], 25, "x: the last backup is 0 min old");
    assert!(run.stdout.contains("old"), "{run:#?}");
    back_up(&home, "two", "seq 100");
    let run = home.run(["status", "--json"]);
    assert_eq!(run.code, 25, "{run:#?}");
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let x = &document["databases"][0];
    assert_eq!((&x["name"], &x["archive"], &x["original_bytes"]), (&"x".into(), &"two".into(), &292.into()));
    assert_eq!(x["problems"][0]["problem"], "shrunk");
    assert_eq!(x["previous_bytes"], 48894);
    back_up(&home, "three", "seq 100");
    home.ok(["status"]);
    home.fails(["status", "--database", "y"], 25, "1 problem");
    home.fails(["status", "--max-age", "1mo"], 2, "not an age");
}

#[test]
fn an_incomplete_archive_is_shown_as_one_and_is_not_the_latest() {
    let home = home_with_incomplete();
    let list = home.ok(["list"]);
    assert!(list.contains("incomplete"), "{list}");
    let document = home.json(["show", "two", "--json"]);
    let b = home.path("b.db").display().to_string();
    assert_eq!((&document["complete"], &document["failed"][0]["name"]), (&false.into(), &b.as_str().into()));
    let shown = home.ok(["show", "two"]);
    assert!(shown.contains("Lacks:") && shown.contains(&format!("lacks {b}: ")), "{shown}");
    assert_eq!(home.json(["show", "latest", "--json"])["name"], "one");
    let run = home.fails(["status"], 25, "b.db: the newest archive lacks it");
    assert!(run.stdout.contains("failed"), "{run:#?}");
    home.ok(["status", "--database", home.path("a.db").to_str().unwrap()]);
}

#[test]
fn latest_is_the_newest_archive_that_has_what_is_wanted() {
    let home = home_with_incomplete();
    let restored = |database: &str| {
        let args = ["restore", "--archive", "latest", "--database", database, "--to", "out.db", "--yes"];
        let run = run(home.command().args(args));
        assert_eq!(run.code, 0, "{run:#?}");
        (cli_support::sqlite_rows(&home.path("out.db")), run.stderr.contains("is newer and lacks "))
    };
    assert_eq!(restored("a.db"), (20, false));
    assert_eq!(restored("b.db"), (10, true));
    let run = run(home.command().args(["restore", "--archive", "latest", "--dry-run", "--json"]));
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["archive"]["name"], "one");
    assert!(run.stderr.contains("is newer and lacks "), "{run:#?}");
}

#[test]
fn incomplete_archives_do_not_push_complete_ones_out() {
    let home = home_with_incomplete();
    let told = home.ok(["prune", "--keep-last", "1", "--explain"]);
    assert!(told.contains("Keep one") && told.contains("Keep two"), "{told}");
    home.make_sqlite("b.db", 5);
    home.ok(["backup", "--archive", "three", "--sqlite", "a.db", "--sqlite", "b.db"]);
    home.ok(["prune", "--keep-last", "1", "--drop-most"]);
    assert_eq!(home.archives(), ["three"]);
}

#[test]
fn what_drills_found_is_shown() {
    let home = Home::with_repository();
    back_up(&home, "one", "seq 1000");
    home.fails(["status", "--max-proof-age", "40d"], 25, "no drill ever restored it");
    let repository = open(&home);
    let id = repository.find_archive("one").unwrap().manifest.id;
    let proof = |ok| {
        let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let detail = if ok { "counts are the same" } else { "7 rows are missing" };
        let (entry, proven_ms) = ("x".to_owned(), i64::try_from(now_ms).unwrap());
        Proof { entry, proven_ms, ok, detail: detail.into(), rows: Some(1000) }
    };
    repository.record_proof(&id, proof(true)).unwrap();
    home.ok(["status", "--max-proof-age", "40d"]);
    let list = home.ok(["list"]);
    assert!(list.contains("PROVEN") && list.contains("1 of 1, 2") && !list.contains("TAGS"), "{list}");
    let shown = home.ok(["show", "one"]);
    assert!(
        shown.contains("drill of x: restored") && shown.contains("1000 rows: counts are the same"),
        "{shown}"
    );
    assert_eq!(home.json(["list", "--json"])["archives"][0]["proofs"][0]["rows"], 1000);
    let metrics = home.ok(["status", "--prometheus"]);
    assert!(
        metrics.contains("dbvault_database_drill_success{") && metrics.contains("kind=\"command\"} 1"),
        "{metrics}"
    );
    repository.record_proof(&id, proof(false)).unwrap();
    home.fails(["status"], 25, "could not restore it: 7 rows are missing");
}

fn open(home: &Home) -> Repository {
    let client = Client {
        host: "test".into(),
        user: "tester".into(),
        cache_dir: home.path("other-cache"),
        interrupt: Arc::default(),
    };
    let secret = Secret::KeyFile(key_file::read(&home.path("key")).unwrap());
    let storage = Arc::new(LocalStorage::open(home.path("repo")).unwrap());
    Repository::open(storage, client, &secret).unwrap()
}
