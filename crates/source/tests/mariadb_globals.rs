//! Users and grants of MariaDB and MySQL, and what can be restored in one way only.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod common;
#[path = "mariadb/support.rs"]
mod support;

use common::{read_all, restore};
use dbvault_format::entry::attribute;
use dbvault_source::{
    Error, Family, MariadbGlobalsTarget, MariadbGlobalsTargetOptions, MariadbOptions, MariadbServer,
    MariadbSource, MariadbTarget, MariadbTargetOptions,
};
use dbvault_testkit::mariadb_server;
use support::{at, program};

const USERS: &str = r"
CREATE DATABASE shop;
CREATE TABLE shop.t (a INT);
CREATE ROLE reader;
GRANT SELECT ON shop.* TO reader;
CREATE USER `o'dd ``user`@`10.0.0.%` IDENTIFIED BY 'secret\\''';
GRANT reader TO `o'dd ``user`@`10.0.0.%`;
SET DEFAULT ROLE reader FOR `o'dd ``user`@`10.0.0.%`;
GRANT INSERT (a) ON shop.t TO `o'dd ``user`@`10.0.0.%`;
CREATE USER twin@localhost IDENTIFIED BY 'old';
GRANT RELOAD ON *.* TO twin@localhost;
";

#[test]
fn users_and_grants_come_back_on_another_server() {
    let name = "users_and_grants_come_back_on_another_server";
    let start = mariadb_server::MariadbServer::start;
    let (Some(one), Some(two)) = (support::or_skipped(name, start), support::or_skipped(name, start)) else {
        return;
    };
    one.sql("", USERS).unwrap();
    let there =
        "CREATE DATABASE shop; CREATE TABLE shop.t (a INT); CREATE USER twin@localhost IDENTIFIED BY 'new'";
    two.sql("", there).unwrap();
    let of_both = "SHOW GRANTS FOR twin@localhost";
    let both = two.sql("", of_both).unwrap();

    let (meta, bytes, _) = read_all(MariadbSource::new(MariadbOptions::globals(at(&one))).unwrap()).unwrap();
    assert_eq!(meta.attributes[attribute::PART], "globals");
    let target =
        |replace| MariadbGlobalsTarget::new(MariadbGlobalsTargetOptions { server: at(&two), replace });
    let cut = restore(target(false), &meta, &bytes[..bytes.len() / 2]);
    assert!(matches!(cut, Err(Error::Incomplete { .. })), "{cut:?}");
    let report = restore(target(false), &meta, &bytes).unwrap();
    assert!(report.warnings.iter().any(|line| line.contains("as they were")), "{:?}", report.warnings);
    let shown = "SHOW GRANTS FOR `o'dd ``user`@`10.0.0.%`; SHOW GRANTS FOR reader; \
                 SELECT default_role FROM mysql.user WHERE Host = '10.0.0.%'";
    assert_eq!(two.sql("", shown).unwrap(), one.sql("", shown).unwrap());
    assert_eq!(two.sql("", of_both).unwrap(), both, "it was there already");
    restore(target(true), &meta, &bytes).unwrap();
    assert_eq!(two.sql("", of_both).unwrap(), one.sql("", of_both).unwrap());
}

const MYSQL: &str = r#"case "$*" in
*--version*) echo 'mysql  Ver 8.0.36 for Linux on x86_64';;
*VERSION*) printf '8.0.36\t3306\t/s\tme@%%\n';;
*'FROM mysql.user'*) printf 'ann\t%%\nrole\t%%\n';;
*role_edges*) printf 'role\t%%\n';;
*'SHOW CREATE USER `ann`'*) echo 'CREATE USER `ann`@`%` IDENTIFIED WITH x AS 0x24';;
*'SHOW CREATE USER `role`'*) echo 'CREATE USER `role`@`%` ACCOUNT LOCK';;
*'SHOW GRANTS FOR `ann`'*) echo 'GRANT `role`@`%` TO `ann`@`%`';;
*'SHOW GRANTS FOR `role`'*) echo 'GRANT SELECT ON *.* TO `role`@`%`';;
*) exit 1;; esac"#;

#[test]
fn users_of_mysql_are_asked_for_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let version = "echo 'mysqldump  Ver 8.0.36 for Linux on x86_64'";
    let server = MariadbServer {
        client_program: vec![program(directory.path(), "client", MYSQL)],
        dump_program: vec![program(directory.path(), "dumper", version)],
        ..MariadbServer::new(Family::Mysql)
    };
    let (_, bytes, _) = read_all(MariadbSource::new(MariadbOptions::globals(server)).unwrap()).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let want = [
        "CREATE USER IF NOT EXISTS `role`@`%` ACCOUNT LOCK;",
        "CREATE USER IF NOT EXISTS `ann`@`%` IDENTIFIED WITH x AS 0x24;",
        "GRANT SELECT ON *.* TO `role`@`%`;",
        "GRANT `role`@`%` TO `ann`@`%`;",
        "-- Dump completed",
    ];
    assert_eq!(lines, want);
}

#[test]
fn a_program_of_mysql_gets_its_own_options() {
    let Some(real) = support::shared("a_program_of_mysql_gets_its_own_options") else { return };
    real.sql("", "CREATE DATABASE asked; CREATE TABLE asked.t AS SELECT 1 AS a").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let script = "case \"$*\" in *--version*) echo 'mysqldump  Ver 8.0.36 for Linux'; exit;; esac\n\
                  echo \"-- $*\"; echo '-- Dump completed'";
    let dumper = program(directory.path(), "dumper", script);
    let server = MariadbServer { dump_program: vec![dumper], tls: Some(false), ..at(real) };
    let server = MariadbServer { client_program: vec!["mariadb".into(), "--skip-ssl".into()], ..server };
    let (_, bytes, report) =
        read_all(MariadbSource::new(MariadbOptions::new(server, "asked")).unwrap()).unwrap();
    let said = String::from_utf8(bytes).unwrap();
    for option in
        ["--set-gtid-purged=OFF", "--column-statistics=0", "--ssl-mode=DISABLED", "--events", "-- asked"]
    {
        assert!(said.contains(option), "{option}: {said}");
    }
    let family = "dumped by a program of MySQL";
    assert!(report.warnings.iter().any(|line| line.contains(family)), "{:?}", report.warnings);
}

#[test]
fn a_trigger_that_names_its_database_does_not_reach_the_live_one() {
    let test = "a_trigger_that_names_its_database_does_not_reach_the_live_one";
    let Some(server) = support::shared(test) else { return };
    let named = "CREATE DATABASE named; CREATE TABLE named.t (a INT); \
                 CREATE TRIGGER named.x BEFORE INSERT ON named.t FOR EACH ROW SET NEW.a = 1";
    server.sql("", named).unwrap();
    let source = MariadbSource::new(MariadbOptions::new(at(server), "named")).unwrap();
    let (meta, bytes, _) = read_all(source).unwrap();
    server.sql("named", "DROP TRIGGER x").unwrap();
    let triggers =
        "SELECT EVENT_OBJECT_SCHEMA FROM information_schema.TRIGGERS WHERE TRIGGER_NAME = 'x' ORDER BY 1";
    for (name, want) in [("other_named", "other_named"), ("named", "named\nother_named")] {
        let target = MariadbTarget::new(MariadbTargetOptions::new(at(server), name)).unwrap();
        restore(target, &meta, &bytes).unwrap();
        assert_eq!(server.sql("", triggers).unwrap(), want);
    }
}

#[test]
fn other_databases_that_refer_to_the_live_one_are_not_harmed() {
    let Some(server) = support::shared("other_databases_that_refer_to_the_live_one_are_not_harmed") else {
        return;
    };
    let two = "CREATE DATABASE main_one; CREATE TABLE main_one.t (a INT PRIMARY KEY); INSERT INTO main_one.t VALUES (1); \
               CREATE DATABASE refers; CREATE TABLE refers.r (a INT, FOREIGN KEY (a) REFERENCES main_one.t (a)); \
               INSERT INTO refers.r VALUES (1);";
    server.sql("", two).unwrap();
    let source = MariadbSource::new(MariadbOptions::new(at(server), "main_one")).unwrap();
    let (meta, bytes, _) = read_all(source).unwrap();
    let outcome = restore(
        MariadbTarget::new(MariadbTargetOptions::new(at(server), "main_one")).unwrap(),
        &meta,
        &bytes,
    );
    assert!(
        matches!(&outcome, Err(Error::Database { message, .. }) if message.contains("refers.r")),
        "{outcome:?}"
    );
    assert_eq!(server.sql("refers", "SELECT COUNT(*) FROM r JOIN main_one.t USING (a)").unwrap(), "1");
    support::nothing_left_beside(server);
}

#[test]
fn a_table_that_was_dropped_comes_back_though_views_of_it_are_broken() {
    let test = "a_table_that_was_dropped_comes_back_though_views_of_it_are_broken";
    let Some(server) = support::shared(test) else { return };
    let all = "CREATE DATABASE broken; CREATE TABLE broken.t AS SELECT 1 AS a; CREATE VIEW broken.v AS SELECT a FROM broken.t";
    server.sql("", all).unwrap();
    let before = server.row_hashes("broken").unwrap();
    let source = MariadbSource::new(MariadbOptions::new(at(server), "broken")).unwrap();
    let (meta, bytes, _) = read_all(source).unwrap();
    server.sql("broken", "DROP TABLE t").unwrap();
    restore(MariadbTarget::new(MariadbTargetOptions::new(at(server), "broken")).unwrap(), &meta, &bytes)
        .unwrap();
    support::same(&server.row_hashes("broken").unwrap(), &before);
}
