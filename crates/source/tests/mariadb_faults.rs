//! A restore into MariaDB that fails at each of its steps in turn: the live database is the old one or the new one.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod common;
#[path = "mariadb/support.rs"]
mod support;

use std::fs;
use std::io::{self, Cursor, Read};
use std::path::Path;

use common::read_all;
use dbvault_source::{
    Error, MariadbOptions, MariadbServer, MariadbSource, MariadbTarget, MariadbTargetOptions, Target,
};
use dbvault_testkit::{mariadb_server, tier};
use support::{at, program};

/// More steps than a restore has.
const STEPS_MAX: u32 = 80;

const SMALL: &str = "
CREATE DATABASE small;
USE small;
CREATE SEQUENCE numbers;
CREATE TABLE parent (id INT PRIMARY KEY DEFAULT NEXTVAL(numbers));
CREATE TABLE child (p INT, FOREIGN KEY (p) REFERENCES parent (id));
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1);
CREATE VIEW seen AS SELECT p FROM child;
CREATE TRIGGER fill BEFORE INSERT ON child FOR EACH ROW SET NEW.p = 2;
CREATE FUNCTION twice(x INT) RETURNS INT DETERMINISTIC RETURN x * 2;
CREATE EVENT later ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01 00:00:00' DO SELECT 1;
";
/// What the live database has that the dump has not, and the other way round.
const CHANGE: &str = "
DROP FUNCTION twice;
CREATE PROCEDURE newer() SELECT 2;
DROP TRIGGER fill;
CREATE TABLE newer_table (a INT);
CREATE TRIGGER newer_trigger BEFORE INSERT ON newer_table FOR EACH ROW SET NEW.a = 1;
DELETE FROM child;
CREATE VIEW newer_view AS SELECT 1 AS one;
DROP EVENT later;
CREATE EVENT newer_event ON SCHEDULE EVERY 1 YEAR STARTS '2038-01-01 00:00:00' DO SELECT 2;
";

/// A program that fails when it is called for the time that the file `fail` names: before it does anything, or after.
fn failing(directory: &Path, real: &str) -> String {
    let script = format!(
        "case \"$*\" in *--version*) exec {real} \"$@\";; esac\n\
         cd {0}; count=$(($(cat count) + 1)); echo $count >count\n\
         if test \"$count\" != \"$(cat fail)\"; then exec {real} \"$@\"; fi\n\
         if test -e after; then {real} \"$@\" >/dev/null; else cat >/dev/null; fi\n\
         echo 'ERROR 2013 (HY000): lost' >&2; exit 1",
        directory.display()
    );
    program(directory, &format!("failing-{real}"), &script)
}

#[test]
fn whichever_step_fails_the_live_database_is_whole() {
    let test = "whichever_step_fails_the_live_database_is_whole";
    let Some(server) = support::or_skipped(test, mariadb_server::MariadbServer::start) else { return };
    server.sql("", SMALL).unwrap();
    let dumped = server.row_hashes("small").unwrap();
    let source = MariadbSource::new(MariadbOptions::new(at(&server), "small")).unwrap();
    let (meta, bytes, _) = read_all(source).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let standing_in = MariadbServer {
        client_program: vec![failing(directory.path(), "mariadb")],
        dump_program: vec![failing(directory.path(), "mariadb-dump")],
        ..at(&server)
    };
    let mut steps = 0;
    for after in [false, true] {
        if after {
            file("after", "");
        }
        for step in 1..STEPS_MAX {
            server.sql("", "DROP DATABASE small").unwrap();
            server.sql("", SMALL).unwrap();
            server.sql("small", CHANGE).unwrap();
            let before = server.row_hashes("small").unwrap();
            file("count", "0");
            file("fail", &step.to_string());
            let options = MariadbTargetOptions::new(standing_in.clone(), "small");
            let mut target: Box<dyn Target> = Box::new(MariadbTarget::new(options).unwrap());
            let outcome = target.load(&meta, &mut Cursor::new(&bytes)).and_then(|()| target.finish());
            let calls: u32 =
                fs::read_to_string(directory.path().join("count")).unwrap().trim().parse().unwrap();
            let now = server.row_hashes("small").unwrap();
            support::same(&now, if outcome.is_ok() { &dumped } else { &before });
            for left in server.sql("", "SHOW DATABASES LIKE '%\\_\\_dbvault\\_%'").unwrap().lines() {
                server.sql("", &format!("DROP DATABASE `{left}`")).unwrap();
            }
            if calls < step {
                assert!(outcome.is_ok(), "{outcome:?}");
                steps += step - 1;
                break;
            }
        }
    }
    assert!(steps > 30, "only {steps} steps were tried");
}

#[test]
fn a_server_that_is_killed_while_it_loads_keeps_what_it_had() {
    let test = "a_server_that_is_killed_while_it_loads_keeps_what_it_had";
    let Some(mut server) = support::or_skipped(test, mariadb_server::MariadbServer::start) else { return };
    server.sql("", SMALL).unwrap();
    server
        .sql("small", "CREATE TABLE large AS SELECT seq, REPEAT(MD5(seq), 20) AS text FROM seq_1_to_40000")
        .unwrap();
    let source = MariadbSource::new(MariadbOptions::new(at(&server), "small")).unwrap();
    let (meta, bytes, _) = read_all(source).unwrap();
    let before = server.row_hashes("small").unwrap();
    let pid = server.pid().unwrap().to_string();

    struct KillHalfWay<'a>(&'a [u8], usize, String);
    impl Read for KillHalfWay<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(100_000);
            if self.0.len() > self.1 && self.0.len() <= self.1 + count {
                std::process::Command::new("kill").args(["-KILL", &self.2]).status()?;
            }
            self.0.read(&mut buffer[..count])
        }
    }
    let mut body = KillHalfWay(&bytes, bytes.len() / 2, pid);
    let options = MariadbTargetOptions::new(at(&server), "small");
    let mut target = MariadbTarget::new(options).unwrap();
    let outcome = target.load(&meta, &mut body);
    assert!(matches!(outcome, Err(Error::ProgramFailed { .. } | Error::Connect { .. })), "{outcome:?}");
    drop(target);
    server.restart().unwrap();
    support::same(&server.row_hashes("small").unwrap(), &before);
}

/// A client that carries out only so many lines of a swap as the file `lines` says, and nothing from then on: both
/// dbvault and the server are gone.
fn dying(directory: &Path) -> String {
    let script = format!(
        "case \"$*\" in *--version*|*' -e '*) test -e {0}/dead || exec mariadb \"$@\";; esac\n\
         cd {0}; if ! test -e dead; then cat >input\n\
         if ! grep -q dbvault_journal input; then exec mariadb \"$@\" <input; fi\n\
         wc -l <input >all; head -n \"$(cat lines)\" input | mariadb \"$@\" 2>/dev/null; touch dead; fi\n\
         echo 'ERROR 1 (HY000): gone' >&2; exit 1",
        directory.display()
    );
    program(directory, "dying-client", &script)
}

#[test]
fn a_swap_that_nobody_is_left_to_take_back_is_taken_back_by_the_next_restore() {
    let test = "a_swap_that_nobody_is_left_to_take_back_is_taken_back_by_the_next_restore";
    let Some(server) = support::or_skipped(test, mariadb_server::MariadbServer::start) else { return };
    server.sql("", SMALL).unwrap();
    let dumped = server.row_hashes("small").unwrap();
    let dump = || MariadbSource::new(MariadbOptions::new(at(&server), "small")).unwrap();
    let (meta, bytes, _) = read_all(dump()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let dying = MariadbServer { client_program: vec![dying(directory.path())], ..at(&server) };
    let target = |server: MariadbServer| -> Box<dyn Target> {
        Box::new(MariadbTarget::new(MariadbTargetOptions::new(server, "small")).unwrap())
    };
    let (mut taken_back, mut between) = (0, 0);
    let stride = tier::either(4, 1);
    for lines in (1..4).chain((4..).step_by(stride)) {
        server.sql("", "DROP DATABASE small").unwrap();
        server.sql("", SMALL).unwrap();
        server.sql("small", CHANGE).unwrap();
        let before = server.row_hashes("small").unwrap();
        fs::write(file("lines"), lines.to_string()).unwrap();
        let mut dead = target(dying.clone());
        dead.load(&meta, &mut Cursor::new(&bytes)).unwrap();
        dead.finish().unwrap_err();
        fs::remove_file(file("dead")).unwrap();

        let now = server.row_hashes("small").unwrap();
        let left =
            server.sql("", "SELECT 1 FROM information_schema.TABLES WHERE TABLE_NAME = 'dbvault_journal'");
        if left.unwrap().is_empty() {
            support::same(&now, if lines == 1 { &before } else { &dumped });
        } else if now != before {
            between += 1;
            let refused = read_all(dump()).unwrap_err();
            assert!(
                matches!(&refused, Error::Database { message, .. } if message.contains("restore")),
                "{refused}"
            );
        }
        let mut next = target(at(&server));
        next.load(&meta, &mut Cursor::new(&bytes)).unwrap();
        if lines > 1 && now != dumped {
            support::same(&server.row_hashes("small").unwrap(), &before);
        }
        let report = next.finish().unwrap();
        taken_back += report.warnings.iter().filter(|line| line.contains("taken back")).count();
        support::same(&server.row_hashes("small").unwrap(), &dumped);
        read_all(dump()).unwrap();
        for left in server.sql("", "SHOW DATABASES LIKE '%\\_\\_dbvault\\_%'").unwrap().lines() {
            server.sql("", &format!("DROP DATABASE `{left}`")).unwrap();
        }
        if lines >= fs::read_to_string(file("all")).unwrap().trim().parse::<u32>().unwrap() {
            break;
        }
    }
    assert!(between > 5 && taken_back > 5, "{between} states between, {taken_back} taken back");
}

/// Writes down a swap of `name` as one that has begun does, beside `name`.
fn begun_swap(server: &mariadb_server::MariadbServer, name: &str) -> String {
    let beside = format!("{name}__dbvault_old_1");
    let journal =
        format!(r#"{{"name":"{name}","temporary":"none","beside":"{beside}","tables":[],"old":null}}"#);
    server
        .sql(
            "",
            &format!(
                "CREATE DATABASE {beside}; CREATE TABLE {beside}.dbvault_journal (place INT PRIMARY KEY, text LONGTEXT);
                 INSERT INTO {beside}.dbvault_journal VALUES (0, '{journal}')"
            ),
        )
        .unwrap();
    beside
}

#[test]
fn a_swap_that_goes_on_is_told_from_one_that_was_cut_short() {
    let test = "a_swap_that_goes_on_is_told_from_one_that_was_cut_short";
    let Some(server) = support::or_skipped(test, mariadb_server::MariadbServer::start) else { return };
    server.sql("", SMALL).unwrap();
    let refused = || match dump_small(at(&server)).unwrap_err() {
        Error::Database { message, .. } => message,
        other => panic!("{other}"),
    };
    let beside = begun_swap(&server, "small");
    // While the swap of another database goes on, too.
    for (lock, words) in [("other__dbvault_old_1", "cut short"), (beside.as_str(), "right now")] {
        std::thread::scope(|scope| {
            scope.spawn(|| server.sql("", &format!("DO GET_LOCK('{lock}', 0); DO SLEEP(600)")));
            let holder = format!("SELECT IS_USED_LOCK('{lock}')");
            let id =
                std::iter::repeat_with(|| server.sql("", &holder).unwrap()).find(|id| id != "NULL").unwrap();
            let message = refused();
            assert!(message.contains(words), "{lock}: {message}");
            server.sql("", &format!("KILL {id}")).unwrap();
        });
    }
    assert!(refused().contains("cut short"));
}

fn dump_small(server: MariadbServer) -> Result<(), Error> {
    read_all(MariadbSource::new(MariadbOptions::new(server, "small")).unwrap()).map(drop)
}

#[test]
fn a_swap_that_ends_while_it_is_looked_at_is_in_nobodys_way() {
    let test = "a_swap_that_ends_while_it_is_looked_at_is_in_nobodys_way";
    let Some(server) = support::or_skipped(test, mariadb_server::MariadbServer::start) else { return };
    server.sql("", SMALL).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for name in ["other", "small"] {
        let beside = begun_swap(&server, name);
        // Just before the client reads it, it is gone.
        let script = format!(
            "case \"$*\" in *'SELECT text FROM'*) \
             mariadb \"${{@:1:$#-2}}\" -e 'DROP DATABASE {beside}'; touch {0}/{name};; esac; exec mariadb \"$@\"",
            directory.path().display()
        );
        let client = program(directory.path(), &format!("client-{name}"), &script);
        dump_small(MariadbServer { client_program: vec![client], ..at(&server) }).unwrap();
        assert!(directory.path().join(name).exists(), "it was never looked at");
    }
}
