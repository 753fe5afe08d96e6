//! MariaDB against a real private server: what is dumped comes back, and what was cut never looks good.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod common;
#[path = "mariadb/support.rs"]
mod support;

use std::fs;
use std::io::{Cursor, Read};
use std::time::{Duration, Instant};

use common::{read_all, restore};
use dbvault_format::entry::{EntryMeta, EntryReport, attribute};
use dbvault_source::{
    Error, Family, MariadbOptions, MariadbServer, MariadbSource, MariadbTarget, MariadbTargetOptions, Secret,
    Source, Target,
};
use dbvault_testkit::mariadb_server::{self, MariadbServerOptions};
use support::{at, filled, program, shared, stop_events};

fn dump(server: &MariadbServer, database: &str) -> Result<(EntryMeta, Vec<u8>, EntryReport), Error> {
    read_all(MariadbSource::new(MariadbOptions::new(server.clone(), database)).unwrap())
}

#[test]
fn everything_comes_back_under_its_own_and_another_name() {
    let Some(server) = shared("everything_comes_back_under_its_own_and_another_name") else { return };
    filled(server, "odd `one ü");
    stop_events(server, "odd `one ü");
    let before = server.row_hashes("odd `one ü").unwrap();
    let (meta, bytes, report) = dump(&at(server), "odd `one ü").unwrap();
    assert_eq!(meta.attributes[attribute::DATABASE], "odd `one ü");
    assert!(meta.attributes[attribute::SERVER_VERSION].contains("MariaDB"));
    let counts: serde_json::Value = serde_json::from_str(&report.attributes[attribute::ROW_COUNTS]).unwrap();
    assert_eq!(counts["odd `name'\"é漢"], 3);
    assert_eq!((&counts["parent"], &counts["empty"], &counts["pet"]), (&500.into(), &0.into(), &3.into()));
    assert!(report.warnings.iter().any(|line| line.contains("aria (Aria)")), "{:?}", report.warnings);

    for name in ["odd `one ü", "other"] {
        let target = MariadbTarget::new(MariadbTargetOptions::new(at(server), name)).unwrap();
        restore(target, &meta, &bytes).unwrap();
        support::same(&server.row_hashes(name).unwrap(), &before);
    }
    // What was restored works: triggers, routines, sequences, views, keys.
    let works = "CALL add_person('Cyd', @total); SELECT @total, twice(4); SELECT COUNT(*) FROM seen WHERE what LIKE \
                 'person;%Cyd'; INSERT INTO numbered (v) VALUES (3); SELECT COUNT(*) FROM numbered WHERE id = 120; \
                 SELECT COUNT(*) FROM with_function; DELETE FROM person WHERE id = 1; SELECT COUNT(*) FROM pet;";
    assert_eq!(server.sql("other", works).unwrap(), "3\t8\n1\n1\n3\n2");
    support::nothing_left_beside(server);
}

#[test]
fn a_restore_replaces_all_that_was_there_and_keeps_it_when_asked() {
    let Some(server) = shared("a_restore_replaces_all_that_was_there_and_keeps_it_when_asked") else {
        return;
    };
    filled(server, "replaced");
    stop_events(server, "replaced");
    let before = server.row_hashes("replaced").unwrap();
    let (meta, bytes, _) = dump(&at(server), "replaced").unwrap();
    server
        .sql(
            "replaced",
            "CREATE USER clerk@localhost; GRANT EXECUTE ON PROCEDURE add_person TO clerk@localhost;
             CREATE TABLE later (a INT); CREATE VIEW later_view AS SELECT 1 AS one; DELETE FROM pet; DROP TABLE aria;
             CREATE TRIGGER later_trigger BEFORE INSERT ON later FOR EACH ROW SET NEW.a = 1;
             CREATE PROCEDURE later_routine() SELECT 1;
             CREATE EVENT later_event ON SCHEDULE EVERY 1 SECOND DO INSERT INTO seen (what) VALUES ('later');
             ALTER DATABASE replaced CHARACTER SET ascii COLLATE ascii_bin;",
        )
        .unwrap();
    let options =
        MariadbTargetOptions { keep_old: true, ..MariadbTargetOptions::new(at(server), "replaced") };
    let mut target = MariadbTarget::new(options).unwrap();
    let occupied = target.occupied().unwrap().unwrap();
    assert!(occupied.contains("replaced"), "{occupied}");
    let report = restore(target, &meta, &bytes).unwrap();
    support::same(&server.row_hashes("replaced").unwrap(), &before);
    let kept = report.warnings.iter().find(|line| line.contains("is kept in")).unwrap();
    let kept = kept.split('"').nth(1).unwrap();
    let of_old = "SELECT COUNT(*) FROM later; SELECT one FROM later_view; SELECT STATUS FROM information_schema.EVENTS \
                  WHERE EVENT_SCHEMA = DATABASE() AND EVENT_NAME = 'later_event'";
    assert_eq!(server.sql(kept, of_old).unwrap(), "0\n1\nDISABLED");
    let grants = server.sql("", "SHOW GRANTS FOR clerk@localhost").unwrap();
    assert!(grants.contains("add_person"), "{grants}");
    server.sql("", &format!("DROP DATABASE `{kept}`")).unwrap();
    support::nothing_left_beside(server);
}

#[test]
fn a_cut_dump_is_refused_and_the_live_database_is_as_it_was() {
    let Some(server) = shared("a_cut_dump_is_refused_and_the_live_database_is_as_it_was") else { return };
    filled(server, "live");
    stop_events(server, "live");
    let before = server.row_hashes("live").unwrap();
    let (meta, bytes, _) = dump(&at(server), "live").unwrap();
    let marker = bytes.len() - "-- Dump completed\n".len();
    for length in [0, 1, 700, bytes.len() / 3, bytes.len() / 2, marker, marker + 5] {
        let target = MariadbTarget::new(MariadbTargetOptions::new(at(server), "live")).unwrap();
        let outcome = restore(target, &meta, &bytes[..length]);
        assert!(
            matches!(outcome, Err(Error::Incomplete { .. } | Error::Empty { .. })),
            "{length} of {} bytes: {outcome:?}",
            bytes.len()
        );
    }
    // And one with a mistake in it.
    let broken = [b"CREATE TABLE broken (;\n".as_slice(), &bytes].concat();
    let target = MariadbTarget::new(MariadbTargetOptions::new(at(server), "live")).unwrap();
    assert!(matches!(restore(target, &meta, &broken), Err(Error::ProgramFailed { .. })));
    support::same(&server.row_hashes("live").unwrap(), &before);
    support::nothing_left_beside(server);
}

#[test]
fn a_swap_that_fails_puts_everything_back() {
    let Some(server) = shared("a_swap_that_fails_puts_everything_back") else { return };
    filled(server, "stays");
    stop_events(server, "stays");
    let (meta, bytes, _) = dump(&at(server), "stays").unwrap();
    server.sql("stays", "DELETE FROM pet; CREATE VIEW only_here AS SELECT 2 AS two").unwrap();
    let before = server.row_hashes("stays").unwrap();
    // A stand-in for the client does a swap up to the rename, once, and then fails.
    let directory = tempfile::tempdir().unwrap();
    let client = program(
        directory.path(),
        "client",
        &format!(
            "if test -e {0}/armed; then case \" $* \" in *' -e '*) ;; *) cat >{0}/in; \
             if grep -q dbvault_journal {0}/in; then rm {0}/armed; sed '/^RENAME TABLE/q' {0}/in | mariadb \"$@\"; \
             echo 'ERROR 1 (X): no' >&2; exit 1; fi; exec mariadb \"$@\" <{0}/in;; esac; fi; exec mariadb \"$@\"",
            directory.path().display()
        ),
    );
    let standing_in = MariadbServer { client_program: vec![client], ..at(server) };
    let mut target: Box<dyn Target> =
        Box::new(MariadbTarget::new(MariadbTargetOptions::new(standing_in, "stays")).unwrap());
    target.occupied().unwrap();
    target.load(&meta, &mut Cursor::new(&bytes)).unwrap();
    fs::write(directory.path().join("armed"), "").unwrap();
    let outcome = target.finish();
    assert!(
        matches!(&outcome, Err(Error::ProgramFailed { stderr, .. }) if stderr.contains("no")),
        "{outcome:?}"
    );
    assert!(!directory.path().join("armed").exists(), "the stand-in was not called");
    support::same(&server.row_hashes("stays").unwrap(), &before);
    support::nothing_left_beside(server);
}

#[test]
fn in_place_loads_into_the_live_database() {
    let Some(server) = shared("in_place_loads_into_the_live_database") else { return };
    filled(server, "classic");
    stop_events(server, "classic");
    let (meta, bytes, _) = dump(&at(server), "classic").unwrap();
    server.sql("classic", "DELETE FROM pet; CREATE TABLE stays (a INT)").unwrap();
    let options = MariadbTargetOptions { in_place: true, ..MariadbTargetOptions::new(at(server), "classic") };
    restore(MariadbTarget::new(options).unwrap(), &meta, &bytes).unwrap();
    assert_eq!(
        server.sql("classic", "SELECT COUNT(*) FROM pet; SELECT COUNT(*) FROM stays").unwrap(),
        "3\n0"
    );
}

#[test]
fn all_means_the_databases_of_users() {
    let Some(server) = shared("all_means_the_databases_of_users") else { return };
    server.sql("", "CREATE DATABASE IF NOT EXISTS `one ``of``\tthem`").unwrap();
    let names = at(server).databases(&[]).unwrap();
    assert!(names.contains(&"one `of`\tthem".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| MariadbServer::is_system_database(name)), "{names:?}");
}

#[test]
fn what_can_not_be_reached_is_told_apart() {
    let Some(server) = shared("what_can_not_be_reached_is_told_apart") else { return };
    assert!(matches!(dump(&at(server), "absent"), Err(Error::NoSuchDatabase { name }) if name == "absent"));
    let nobody =
        MariadbServer { user: Some("nobody".into()), password: Some(Secret::new("x")), ..at(server) };
    assert!(matches!(dump(&nobody, "mysql"), Err(Error::Connect { .. })));
    let nowhere = MariadbServer { socket: Some("/nonexistent/socket".into()), ..at(server) };
    assert!(matches!(dump(&nowhere, "mysql"), Err(Error::Connect { .. })));
    let missing = MariadbServer { dump_program: vec!["no-such-program".into()], ..at(server) };
    assert!(matches!(dump(&missing, "mysql"), Err(Error::ProgramMissing { .. })));
}

#[test]
fn a_password_is_seen_by_nobody_and_works() {
    let options = MariadbServerOptions { password: true, tcp: true };
    let Some(server) = support::or_skipped("a_password_is_seen_by_nobody_and_works", || {
        mariadb_server::MariadbServer::start_with(options)
    }) else {
        return;
    };
    server.sql("", "CREATE DATABASE shop; CREATE TABLE shop.t AS SELECT 1 AS a").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let spy = |name: &str, real: &str| {
        program(
            directory.path(),
            name,
            &format!("{{ tr '\\0' '\\n' </proc/$$/cmdline; env; }} >>{}; exec {real} \"$@\"", seen.display()),
        )
    };
    let (dumper, client) = (spy("dumper", "mariadb-dump"), spy("client", "mariadb"));
    let with = |password: &str| MariadbServer {
        host: Some("127.0.0.1".into()),
        port: Some(server.port()),
        user: Some(server.user().into()),
        password: Some(Secret::new(password)),
        dump_program: vec![dumper.clone()],
        client_program: vec![client.clone()],
        ..MariadbServer::new(Family::Mariadb)
    };
    let password = server.password().unwrap();
    let (meta, bytes, _) = dump(&with(password), "shop").unwrap();
    let target = MariadbTarget::new(MariadbTargetOptions::new(with(password), "copy")).unwrap();
    restore(target, &meta, &bytes).unwrap();
    assert_eq!(server.sql("copy", "SELECT a FROM t").unwrap(), "1");
    assert!(matches!(dump(&with("wrong"), "shop"), Err(Error::Connect { .. })));
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("--defaults-file=") && !seen.contains(password), "{seen}");
    assert!(!format!("{meta:?} {:?}", with(password)).contains(password));
}

#[test]
fn comments_that_are_switched_off_stay_on() {
    let Some(server) = shared("comments_that_are_switched_off_stay_on") else { return };
    server.sql("", "CREATE DATABASE noted; CREATE TABLE noted.t AS SELECT 1 AS a").unwrap();
    let dump_options = vec!["--skip-comments".to_owned(), "--single-transaction".to_owned()];
    let options = MariadbOptions { dump_options, ..MariadbOptions::new(at(server), "noted") };
    let (_, bytes, report) = read_all(MariadbSource::new(options).unwrap()).unwrap();
    assert!(bytes.ends_with(b"-- Dump completed\n"));
    assert!(report.warnings.iter().any(|line| line.contains("--skip-comments")), "{:?}", report.warnings);
    let refused = MariadbOptions {
        dump_options: vec!["--tab=/tmp".to_owned()],
        ..MariadbOptions::new(at(server), "noted")
    };
    assert!(matches!(read_all(MariadbSource::new(refused).unwrap()), Err(Error::Unsuitable { .. })));
}

#[test]
fn equal_databases_are_dumped_equal() {
    let Some(server) = shared("equal_databases_are_dumped_equal") else { return };
    filled(server, "twice");
    stop_events(server, "twice");
    let first = dump(&at(server), "twice").unwrap().1;
    assert!(first == dump(&at(server), "twice").unwrap().1);
}

fn kill(pid: &str) {
    assert!(std::process::Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
}

/// Reads some of the dump, does something to it, and reads the rest.
fn disturbed(
    server: &MariadbServer,
    database: &str,
    after: usize,
    disturb: impl FnOnce(),
) -> Result<(), Error> {
    let mut source: Box<dyn Source> =
        Box::new(MariadbSource::new(MariadbOptions::new(server.clone(), database)).unwrap());
    let mut entry = source.open()?;
    let mut head = vec![0; after];
    entry.body.read_exact(&mut head).map_err(|error| Error::from_io("read", error))?;
    disturb();
    std::io::copy(&mut entry.body, &mut std::io::sink()).map_err(|error| Error::from_io("read", error))?;
    source.finish().map(drop)
}

#[test]
fn a_dump_that_is_killed_never_looks_good() {
    let name = "a_dump_that_is_killed_never_looks_good";
    let Some(mut server) = support::or_skipped(name, mariadb_server::MariadbServer::start) else { return };
    let large = "CREATE DATABASE large; USE large; CREATE TABLE t AS SELECT seq, REPEAT(MD5(seq), 20) AS text FROM \
                 seq_1_to_60000";
    server.sql("", large).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let dumper =
        program(directory.path(), "dumper", &format!("echo $$ >{}; exec mariadb-dump \"$@\"", pid.display()));
    let known = MariadbServer { dump_program: vec![dumper], ..at(&server) };
    for after in [1, 5_000, 3_000_000, 20_000_000] {
        let outcome = disturbed(&known, "large", after, || {
            kill(fs::read_to_string(&pid).unwrap().trim());
        });
        assert!(
            matches!(&outcome, Err(Error::ProgramFailed { how, .. }) if how.contains("signal 9")),
            "{outcome:?}"
        );
    }
    for after in [5_000, 10_000_000] {
        let outcome = disturbed(&at(&server).clone(), "large", after, || {
            kill(&server.pid().unwrap().to_string());
        });
        assert!(outcome.is_err(), "killed after {after} bytes");
        server.restart().unwrap();
    }
    assert!(disturbed(&at(&server), "large", 1_000_000, || ()).is_ok());
}

#[test]
fn a_dump_that_stalls_is_ended() {
    let Some(server) = shared("a_dump_that_stalls_is_ended") else { return };
    server.sql("", "CREATE DATABASE stalled; CREATE TABLE stalled.t AS SELECT 1 AS a").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let dumper = program(
        directory.path(),
        "dumper",
        "case \"$*\" in *--version*) exec mariadb-dump --version;; esac; echo begun; sleep 60; echo '-- Dump completed'",
    );
    let slow = MariadbServer { dump_program: vec![dumper], stall_timeout_ms: Some(300), ..at(server) };
    let begun = Instant::now();
    let outcome = dump(&slow, "stalled");
    assert!(
        matches!(&outcome, Err(Error::ProgramFailed { how, .. }) if how.contains("stalled")),
        "{outcome:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_program_that_claims_success_too_early_is_not_believed() {
    let Some(server) = shared("a_program_that_claims_success_too_early_is_not_believed") else { return };
    server.sql("", "CREATE DATABASE early; CREATE TABLE early.t AS SELECT 1 AS a").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let dumper = program(directory.path(), "dumper", "mariadb-dump \"$@\" | sed '/Dump completed/d'");
    let liar = MariadbServer { dump_program: vec![dumper], ..at(server) };
    assert!(matches!(dump(&liar, "early"), Err(Error::Incomplete { .. })));
    let failing = program(
        directory.path(),
        "failing",
        "mariadb-dump \"$@\"; case \"$*\" in *--version*) exit 0;; esac; echo oh >&2; exit 3",
    );
    let failing = MariadbServer { dump_program: vec![failing], ..at(server) };
    let outcome = dump(&failing, "early");
    assert!(matches!(&outcome, Err(Error::ProgramFailed { stderr, .. }) if stderr == "oh"), "{outcome:?}");
}
