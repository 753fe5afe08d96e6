//! Dumps of real PostgreSQL servers: good ones, and every way in which one can go wrong.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{read_all, shared_server, source_options, stand_in_pg_dump};
use dbvault_format::entry::{EntryKind, attribute};
use dbvault_source::{Error, Interrupt, PostgresOptions, PostgresSource, Secret, Source};
use dbvault_testkit::postgres_server::{PostgresServer, ServerOptions};
use rustix::process::{Pid, Signal, kill_process};

fn source(options: PostgresOptions) -> PostgresSource {
    PostgresSource::new(options).expect("good options")
}

fn dump_error(options: PostgresOptions) -> Error {
    match read_all(source(options)) {
        Err(error) => error,
        Ok((meta, bytes, _)) => panic!("{}: {} bytes and no error", meta.name, bytes.len()),
    }
}

#[test]
fn a_dump_says_where_it_comes_from() {
    let server = shared_server();
    let name = "Facts = \"odd\" 'näme'";
    server.create_database(name).unwrap();
    let (meta, bytes, report) = read_all(source(source_options(server, name))).unwrap();
    assert_eq!((meta.name.as_str(), meta.kind), (name, EntryKind::Postgresql));
    let fact = |key: &str| meta.attributes[key].as_str();
    assert_eq!(fact(attribute::DATABASE), name);
    assert_eq!(fact(attribute::HOST), server.socket_dir().to_string_lossy());
    assert_eq!(fact(attribute::PORT), server.port().to_string());
    assert_eq!((fact(attribute::USER), fact(attribute::FORMAT)), ("postgres", "custom"));
    assert!(fact(attribute::SERVER_VERSION).starts_with("15."));
    assert!(fact(attribute::CLIENT_VERSION).starts_with("15."));
    assert!(bytes.starts_with(b"PGDMP") && report.warnings.is_empty());
}

#[test]
fn two_dumps_of_an_unchanged_database_differ_in_the_time_only() {
    let server = shared_server();
    server.create_database("same").unwrap();
    common::fill(server, "same");
    let first = read_all(source(source_options(server, "same"))).unwrap().1;
    thread::sleep(Duration::from_millis(1_100));
    let second = read_all(source(source_options(server, "same"))).unwrap().1;
    let differing = first.iter().zip(&second).filter(|(a, b)| a != b).count();
    assert!(first.len() == second.len() && (1..=3).contains(&differing), "{differing}");
}

#[test]
fn what_does_not_answer_is_told_apart() {
    let server = shared_server();
    match dump_error(source_options(server, "not there")) {
        Error::NoSuchDatabase { name } => assert_eq!(name, "not there"),
        other => panic!("{other:?}"),
    }
    let wrong_port = PostgresOptions { port: Some(1), ..source_options(server, "postgres") };
    match dump_error(wrong_port) {
        Error::Connect { server: place, .. } => assert!(place.ends_with("port 1"), "{place}"),
        other => panic!("{other:?}"),
    }
    let wrong_user =
        PostgresOptions { user: Some("nobody here".into()), ..source_options(server, "postgres") };
    assert!(matches!(dump_error(wrong_user), Error::Connect { .. }));
    let empty = tempfile::tempdir().unwrap();
    let no_tools =
        PostgresOptions { bin_dir: Some(empty.path().to_owned()), ..source_options(server, "postgres") };
    match dump_error(no_tools) {
        Error::ProgramMissing { program, package } => {
            assert_eq!((program.as_str(), package), ("psql", Some("postgresql-client")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pg_dump_older_than_the_server_is_refused_and_a_newer_one_is_taken() {
    let server = shared_server();
    let tools = stand_in_pg_dump(server, "exit 0");
    let options =
        || PostgresOptions { bin_dir: Some(tools.path().to_owned()), ..source_options(server, "postgres") };
    let old = "#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.3'";
    common::write_script(&tools.path().join("pg_dump"), old);
    match dump_error(options()) {
        Error::ProgramMissing { program, .. } => {
            assert!(program.contains("pg_dump 15 or newer") && program.contains("14.3"), "{program}");
        }
        other => panic!("{other:?}"),
    }
    let newer = "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'pg_dump (PostgreSQL) 17beta1'\n\
                 printf 'PGDMP\\001\\143\\000\\004\\010\\001 and so on'; printf '%s ' \"$@\" >&2";
    common::write_script(&tools.path().join("pg_dump"), newer);
    let (_, _, report) = read_all(source(options())).unwrap();
    assert!(report.warnings[0].contains("--compress=none"), "{:?}", report.warnings);
    assert!(report.warnings[1].contains("format version 1.99"), "{:?}", report.warnings);
}

#[test]
fn passwords_work_from_everywhere_and_never_show_on_a_command_line() {
    let server =
        PostgresServer::start_with(ServerOptions { password: true, tcp: true, ..ServerOptions::default() })
            .unwrap();
    let password = server.password().unwrap().to_owned();
    server.create_database("vault").unwrap();
    common::fill_big(&server, "vault", 30);

    let done = AtomicBool::new(false);
    let lines = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut lines = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    lines.insert(fs::read(entry.path().join("cmdline")).unwrap_or_default());
                }
            }
            lines
        });
        read_all(source(source_options(&server, "vault"))).unwrap();
        let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let uri = format!("postgresql://postgres:{encoded}@127.0.0.1:{}/vault", server.port());
        let (meta, ..) = read_all(source(PostgresOptions::new(uri))).unwrap();
        assert_eq!(meta.attributes[attribute::HOST], "127.0.0.1");
        assert!(!meta.attributes.values().any(|value| value.contains(&password)));
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    let lines: Vec<String> = lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    assert!(lines.iter().any(|line| line.contains("--format=custom")), "the dump was seen running");
    let needle = "tricky";
    assert!(!lines.iter().any(|line| line.contains(needle) || line.contains("%74%72%69%63")), "{lines:?}");

    let wrong = PostgresOptions { password: Some(Secret::new("wrong")), ..source_options(&server, "vault") };
    assert!(matches!(dump_error(wrong), Error::Connect { .. }));
}

#[test]
fn stand_ins_that_lie_are_caught() {
    let server = shared_server();
    server.create_database("lied").unwrap();
    common::fill(server, "lied");
    let whole = read_all(source(source_options(server, "lied"))).unwrap().1;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &whole).unwrap();
    let path = file.path().display();
    let run = |script: &str| {
        let tools = stand_in_pg_dump(server, script);
        let bin_dir = Some(tools.path().to_owned());
        read_all(source(PostgresOptions { bin_dir, ..source_options(server, "lied") }))
    };
    assert_eq!(run(&format!("cat {path}; echo note >&2")).unwrap().2.warnings, ["note"]);
    for cut in (0..whole.len()).step_by(whole.len() / 20).skip(1).chain([whole.len() - 1]) {
        let outcome = run(&format!("head -c {cut} {path}; exit 0"));
        assert!(matches!(outcome, Err(Error::Incomplete { .. })), "{cut}: {outcome:?}");
    }
    assert!(matches!(run("exit 0"), Err(Error::Empty { .. })));
    assert!(matches!(run("echo SELECT 1"), Err(Error::Incomplete { .. })));
    match run(&format!("cat {path}; echo 'at the very end' >&2; exit 1")) {
        Err(Error::ProgramFailed { program, how, stderr }) => {
            assert_eq!((program.as_str(), how.as_str()), ("pg_dump", "exit status 1"));
            assert_eq!(stderr, "at the very end");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(run("echo no >&2; exit 1"), Err(Error::ProgramFailed { .. })));
    assert!(matches!(run(&format!("cat {path}; kill -KILL $$")), Err(Error::ProgramFailed { .. })));
    let flood = run(&format!("head -c 3000000 /dev/zero | tr '\\0' x >&2; cat {path}"));
    assert!(flood.unwrap().2.warnings.iter().map(String::len).sum::<usize>() <= (64 << 10) + 10);
}

#[test]
fn a_hanging_pg_dump_is_interrupted() {
    let server = shared_server();
    let tools = stand_in_pg_dump(server, "printf PGDMP; sleep 54321");
    let interrupt = Interrupt::default();
    let bin_dir = Some(tools.path().to_owned());
    let options =
        PostgresOptions { bin_dir, interrupt: interrupt.clone(), ..source_options(server, "postgres") };
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(800));
        interrupt.store(true, Ordering::Relaxed);
    });
    let start = Instant::now();
    assert!(matches!(dump_error(options), Error::Interrupted));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(common::none_left(&["sleep", "54321"]));
}

/// Dumps 30 MB and lets `strike` happen once some of it has come.
fn struck_dump(
    server: &mut PostgresServer,
    strike: impl FnOnce(&mut PostgresServer),
) -> Result<usize, Error> {
    let mut source: Box<dyn Source> = Box::new(source(source_options(server, "struck")));
    let mut entry = source.open().expect("works");
    if let Err(error) = entry.body.read_exact(&mut vec![0; 100_000]) {
        panic!("{error}: {:?}", source.finish());
    }
    strike(server);
    let mut bytes = vec![0; 100_000];
    entry.body.read_to_end(&mut bytes).map_err(|error| Error::from_io("read", error))?;
    source.finish().map(|_| bytes.len())
}

#[test]
fn a_dump_that_is_struck_down_half_way_is_not_good() {
    let mut server = PostgresServer::start().unwrap();
    server.create_database("struck").unwrap();
    common::fill_big(&server, "struck", 30);

    let error = struck_dump(&mut server, |server| {
        let socket = server.socket_dir().to_string_lossy().into_owned();
        for id in common::processes_with(&["pg_dump", &socket, "--format=custom"]) {
            kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
        }
    })
    .unwrap_err();
    assert!(matches!(&error, Error::ProgramFailed { how, .. } if how == "killed by signal 9"), "{error:?}");

    let error = struck_dump(&mut server, |server| {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'dbvault'";
        assert_eq!(server.psql("postgres", end).unwrap(), "1");
    })
    .unwrap_err();
    assert!(
        matches!(&error, Error::ProgramFailed { stderr, .. } if stderr.contains("terminat")),
        "{error:?}"
    );

    let error = struck_dump(&mut server, PostgresServer::stop_immediate).unwrap_err();
    assert!(matches!(error, Error::ProgramFailed { .. }), "{error:?}");
    server.restart().unwrap();
    // When only the postmaster dies, the one process that serves the dump may come to its end first.
    let outcome = struck_dump(&mut server, PostgresServer::kill);
    server.restart().unwrap();
    let whole = read_all(source(source_options(&server, "struck"))).unwrap().1.len();
    match outcome {
        Ok(bytes) => assert_eq!(bytes, whole),
        Err(error) => assert!(matches!(error, Error::ProgramFailed { .. }), "{error:?}"),
    }
}

#[test]
fn a_dropped_source_leaves_no_pg_dump_behind() {
    let server = PostgresServer::start().unwrap();
    server.create_database("left").unwrap();
    common::fill_big(&server, "left", 30);
    let mut source = source(source_options(&server, "left"));
    let mut entry = source.open().unwrap();
    entry.body.read_exact(&mut [0; 100]).unwrap();
    let socket = server.socket_dir().to_string_lossy().into_owned();
    assert_eq!(common::processes_with(&["pg_dump", &socket]).len(), 1);
    drop(source);
    assert!(common::none_left(&["pg_dump", &socket]));
}
