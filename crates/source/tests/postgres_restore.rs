//! Restores to real PostgreSQL servers: what comes back, what is swapped, and what a failure leaves behind.

mod common;

use std::io::{self, Read};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{fill, read_all, restore, shared_server, source_options, target_options};
use dbvault_format::entry::{EntryKind, EntryMeta, Grid};
use dbvault_source::{Error, Interrupt, PostgresSource, PostgresTarget, PostgresTargetOptions, Target};
use dbvault_testkit::postgres_server::PostgresServer;

fn dump(server: &PostgresServer, database: &str) -> (EntryMeta, Vec<u8>) {
    let source = PostgresSource::new(source_options(server, database)).expect("good options");
    let (meta, bytes, _) = read_all(source).expect("dump");
    (meta, bytes)
}

fn target(options: PostgresTargetOptions) -> PostgresTarget {
    PostgresTarget::new(options).expect("good options")
}

/// All databases but the standard ones, in one line.
fn databases(server: &PostgresServer) -> String {
    let question = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database \
         WHERE NOT datistemplate AND datname <> 'postgres'";
    server.psql("postgres", question).expect("list")
}

/// Everything about a database that is not in it.
fn properties(server: &PostgresServer, database: &str) -> String {
    let literal = database.replace('\'', "''");
    let question = format!(
        "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, datacl, \
         shobj_description(oid, 'pg_database'), datallowconn, \
         (SELECT string_agg(s::text, ';' ORDER BY s::text) FROM (SELECT setrole::regrole, setconfig \
          FROM pg_db_role_setting WHERE setdatabase = d.oid) s) \
         FROM pg_database d WHERE datname = '{literal}'"
    );
    server.psql("postgres", &question).expect("properties")
}

/// The hashes of a database whose settings forbid writing; they need temporary views.
fn read_only_hashes(server: &PostgresServer, database: &str) -> String {
    let quoted = database.replace('"', "\"\"");
    let alter = |what: &str| {
        let sql = format!("ALTER DATABASE \"{quoted}\" {what}");
        server.psql("postgres", &sql).expect("alter");
    };
    alter("RESET default_transaction_read_only");
    let hashes = server.row_hashes(database).expect("hashes");
    alter("SET default_transaction_read_only = on");
    hashes
}

fn connect(server: &PostgresServer, database: &str) -> Child {
    let mut command = server.command("psql");
    command.args(["-X", "-d", database, "-c", "SELECT pg_sleep(60)"]);
    let session =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql");
    let question =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND query ~ 'sleep'");
    while server.psql("postgres", &question).expect("count") == "0" {}
    session
}

#[test]
fn everything_comes_back_under_odd_names() {
    let server = PostgresServer::start().unwrap();
    let name = "Users \"of\" 'Ünïcode' \\ x";
    let quoted = name.replace('"', "\"\"");
    let sql = format!(
        "CREATE ROLE bob; CREATE ROLE \"Al Ice\";
         CREATE DATABASE \"{quoted}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C' OWNER \"Al Ice\";
         ALTER DATABASE \"{quoted}\" SET search_path TO \"$user\", \"Odd \"\"Schema\", public;
         ALTER DATABASE \"{quoted}\" SET default_transaction_read_only = on;
         ALTER DATABASE \"{quoted}\" SET my.text = 'it''s; \\ here';
         ALTER ROLE bob IN DATABASE \"{quoted}\" SET work_mem = '7MB';
         ALTER DATABASE \"{quoted}\" CONNECTION LIMIT 5;
         REVOKE ALL ON DATABASE \"{quoted}\" FROM PUBLIC;
         GRANT CONNECT ON DATABASE \"{quoted}\" TO bob WITH GRANT OPTION;
         COMMENT ON DATABASE \"{quoted}\" IS 'DATABASE \"x\"; -- it''s';"
    );
    server.psql("postgres", &sql).unwrap();
    let writable = |sql: &str| server.psql(name, &format!("SET default_transaction_read_only = off; {sql}"));
    let text = "CREATE TABLE \"T\" (a text); INSERT INTO \"T\" SELECT i::text FROM generate_series(1, 999) i; \
                ALTER TABLE \"T\" OWNER TO bob; SELECT lo_from_bytea(7, 'seven')";
    writable(text).unwrap();
    let hashes = read_only_hashes(&server, name);
    let facts = properties(&server, name);
    let (meta, bytes) = dump(&server, name);

    // To another name, then over itself.
    let other = "Another 'one\"";
    let report = restore(target(target_options(&server, other)), &meta, &bytes).unwrap();
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(read_only_hashes(&server, other), hashes);
    assert_eq!(properties(&server, other), facts);
    restore(target(target_options(&server, name)), &meta, &bytes).unwrap();
    assert_eq!(read_only_hashes(&server, name), hashes);
    assert_eq!(properties(&server, name), facts);
    assert_eq!(databases(&server), format!("{other} {name}"));
}

#[test]
fn settings_that_forbid_writing_come_back_without_forbidding_the_restore() {
    let server = shared_server();
    server.create_database("sealed").unwrap();
    fill(server, "sealed");
    let sql = "ALTER DATABASE sealed SET default_transaction_read_only = on; ALTER DATABASE sealed CONNECTION LIMIT 0";
    server.psql("postgres", sql).unwrap();
    let (meta, bytes) = dump(server, "sealed");
    restore(target(target_options(server, "sealed again")), &meta, &bytes).unwrap();
    assert_eq!(properties(server, "sealed again"), properties(server, "sealed"));
}

#[test]
fn tables_sequences_views_functions_and_large_objects_come_back() {
    let server = shared_server();
    server.create_database("rich").unwrap();
    fill(server, "rich");
    let hashes = server.row_hashes("rich").unwrap();
    let (meta, bytes) = dump(server, "rich");
    let mut fresh = target(target_options(server, "poor"));
    assert_eq!(fresh.occupied().unwrap(), None);
    restore(fresh, &meta, &bytes).unwrap();
    assert_eq!(server.row_hashes("poor").unwrap(), hashes);
    let place = target(target_options(server, "poor")).occupied().unwrap().unwrap();
    let socket = server.socket_dir();
    assert!(place.starts_with(&format!("database \"poor\" on socket {}", socket.display())), "{place}");
    assert!(place.contains(" kB)") || place.contains(" MB)"), "{place}");
}

#[test]
fn a_live_database_is_replaced_while_sessions_are_connected() {
    let server = shared_server();
    server.create_database("busy").unwrap();
    fill(server, "busy");
    let hashes = server.row_hashes("busy").unwrap();
    let (meta, bytes) = dump(server, "busy");
    server.psql("busy", "DROP TABLE parted CASCADE; CREATE TABLE newer (a int)").unwrap();
    let mut sessions: Vec<Child> = (0..3).map(|_| connect(server, "busy")).collect();
    let options = PostgresTargetOptions { keep_old: true, ..target_options(server, "busy") };
    let report = restore(target(options), &meta, &bytes).unwrap();
    assert_eq!(server.row_hashes("busy").unwrap(), hashes);
    for session in &mut sessions {
        assert!(!session.wait().unwrap().success());
    }
    let old = report.warnings[0].split('"').nth(1).unwrap().to_owned();
    assert!(old.starts_with("busy__dbvault_old_"), "{report:?}");
    assert_eq!(server.psql(&old, "SELECT count(*) FROM newer").unwrap(), "0");
    server.psql("postgres", &format!("DROP DATABASE \"{old}\"")).unwrap();
}

#[test]
fn clients_that_come_back_at_once_do_not_hold_up_the_swap() {
    let server = shared_server();
    server.create_database("crowded").unwrap();
    server.psql("crowded", "CREATE TABLE t AS SELECT 1 AS a").unwrap();
    let (meta, bytes) = dump(server, "crowded");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = server.psql("crowded", "SELECT a, pg_sleep(0.5) FROM t");
                }
            });
        }
        for _ in 0..3 {
            restore(target(target_options(server, "crowded")), &meta, &bytes).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.psql("crowded", "SELECT a FROM t").unwrap(), "1");
    assert!(!databases(server).contains("crowded__dbvault"));
    assert!(properties(server, "crowded").contains("|t|"), "connections are allowed");
}

#[test]
fn a_restore_that_fails_half_way_leaves_the_live_database_as_it_was() {
    let server = PostgresServer::start().unwrap();
    server.create_database("live").unwrap();
    fill(&server, "live");
    let (meta, bytes) = dump(&server, "live");
    server.psql("live", "CREATE TABLE precious AS SELECT 1 AS a").unwrap();
    let (hashes, facts) = (server.row_hashes("live").unwrap(), properties(&server, "live"));
    let unchanged = |what: &str| {
        assert_eq!(server.row_hashes("live").unwrap(), hashes, "{what}");
        assert_eq!(properties(&server, "live"), facts, "{what}");
        assert_eq!(databases(&server), "live", "{what}");
    };
    let mut session = connect(&server, "live");

    for cut in [0, 5, 3_000, bytes.len() / 2, bytes.len() - 1] {
        let error = restore(target(target_options(&server, "live")), &meta, &bytes[..cut]).unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. } | Error::Empty { .. }), "{cut}: {error:?}");
        unchanged(&format!("cut at {cut}"));
    }

    // A body that fails.
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the repository is gone"))
        }
    }
    let mut failing = target(target_options(&server, "live"));
    let mut body = (&bytes[..bytes.len() / 2]).chain(Broken);
    assert!(matches!(failing.load(&meta, &mut body), Err(Error::Io { .. })));
    drop(failing);
    unchanged("a body that fails");

    // A row that the server refuses.
    let mut bad_number = bytes.clone();
    let at = bad_number.windows(8).position(|text| text == b"100\tv100").unwrap();
    bad_number[at] = b'!';
    match restore(target(target_options(&server, "live")), &meta, &bad_number) {
        Err(Error::ProgramFailed { program, stderr, .. }) => {
            assert!(program == "pg_restore" && stderr.contains("invalid input syntax"), "{stderr}");
        }
        other => panic!("{other:?}"),
    }
    unchanged("a bad number");

    // Interrupted, and dropped before the swap.
    let interrupt = Interrupt::default();
    let options = PostgresTargetOptions { interrupt: interrupt.clone(), ..target_options(&server, "live") };
    let mut stopped = target(options);
    stopped.load(&meta, &mut &bytes[..]).unwrap();
    assert!(databases(&server).starts_with("live live__dbvault_"));
    interrupt.store(true, Ordering::Relaxed);
    assert!(matches!(Box::new(stopped).finish(), Err(Error::Interrupted)));
    assert_eq!(databases(&server), "live");
    assert!(session.try_wait().unwrap().is_none(), "nobody was thrown out");
    session.kill().unwrap();
    session.wait().unwrap();
}

#[test]
fn a_missing_role_is_told_with_the_way_out() {
    let from = shared_server();
    from.create_database("owned").unwrap();
    from.psql(
        "owned",
        "CREATE ROLE far; CREATE TABLE t (a int); ALTER TABLE t OWNER TO far; GRANT ALL ON t TO far",
    )
    .unwrap();
    from.psql("owned", "ALTER DATABASE owned OWNER TO far; GRANT CONNECT ON DATABASE owned TO far").unwrap();
    let (meta, bytes) = dump(from, "owned");
    let to = PostgresServer::start_with_password().unwrap();
    match restore(target(target_options(&to, "owned")), &meta, &bytes) {
        Err(Error::ProgramFailed { stderr, .. }) => {
            assert!(
                stderr.contains("role \"far\" does not exist") && stderr.contains("without owners"),
                "{stderr}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(databases(&to), "");
    let options =
        PostgresTargetOptions { no_owner: true, no_privileges: true, ..target_options(&to, "owned") };
    restore(target(options), &meta, &bytes).unwrap();
    assert_eq!(
        to.psql("owned", "SELECT tableowner FROM pg_tables WHERE tablename = 't'").unwrap(),
        "postgres"
    );
}

#[test]
fn what_was_not_asked_for_is_not_replaced() {
    let server = shared_server();
    server.create_database("early").unwrap();
    let (meta, bytes) = dump(server, "early");
    let mut late = target(target_options(server, "late"));
    assert_eq!(late.occupied().unwrap(), None);
    late.load(&meta, &mut &bytes[..]).unwrap();
    server.create_database("late").unwrap();
    server.psql("late", "CREATE TABLE mine (a int)").unwrap();
    assert!(matches!(Box::new(late).finish(), Err(Error::Database { .. })));
    server.psql("late", "SELECT * FROM mine").unwrap();

    let attributes = Default::default();
    let other = EntryMeta { name: "x".into(), kind: EntryKind::Sqlite, grid: Grid::Content, attributes };
    let mut wrong = target(target_options(server, "late"));
    assert!(matches!(wrong.load(&other, &mut &bytes[..]), Err(Error::Unsuitable { .. })));
}

#[test]
fn the_standard_database_itself_can_be_replaced() {
    let server = PostgresServer::start().unwrap();
    server.psql("postgres", "CREATE TABLE here AS SELECT 42 AS a").unwrap();
    let (meta, bytes) = dump(&server, "postgres");
    server.psql("postgres", "DROP TABLE here").unwrap();
    restore(target(target_options(&server, "postgres")), &meta, &bytes).unwrap();
    assert_eq!(server.psql("postgres", "SELECT a FROM here").unwrap(), "42");
}

#[test]
fn a_long_name_has_room_for_the_temporary_one() {
    let server = shared_server();
    let name = "ü".repeat(31);
    server.create_database(&name).unwrap();
    let (meta, bytes) = dump(server, &name);
    restore(target(target_options(server, &name)), &meta, &bytes).unwrap();
    assert!(databases(server).contains(&name));
}
