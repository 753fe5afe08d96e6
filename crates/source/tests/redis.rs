//! Redis against a real private server: what is dumped comes back, and what was cut never looks good.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: its helpers may panic and say what is skipped"
)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use common::{read_all, restore};
use dbvault_format::entry::{EntryMeta, EntryReport};
use dbvault_source::{
    Error, RedisOptions, RedisPlace, RedisServer, RedisSource, RedisTarget, RedisTargetOptions, Secret,
    Source,
};
use dbvault_testkit::redis_server;

fn started(test: &str, settings: &[&str]) -> Option<redis_server::RedisServer> {
    started_with(test, settings, false, false)
}

fn started_with(
    test: &str,
    settings: &[&str],
    password: bool,
    tcp: bool,
) -> Option<redis_server::RedisServer> {
    match redis_server::RedisServer::start_with(settings, password, tcp) {
        Ok(server) => Some(server),
        Err(error) => {
            assert!(error.starts_with(redis_server::NOT_INSTALLED), "{error}");
            println!("skipped: {test}: {error}");
            None
        }
    }
}

fn at(server: &redis_server::RedisServer) -> RedisServer {
    RedisServer {
        socket: Some(server.socket()),
        password: server.password().map(Secret::new),
        ..RedisServer::default()
    }
}

fn dump(server: RedisServer) -> Result<(EntryMeta, Vec<u8>, EntryReport), Error> {
    read_all(RedisSource::new(RedisOptions { server, entry_name: "cache".into(), label: None }))
}

fn into(place: RedisPlace) -> RedisTarget {
    RedisTarget::new(RedisTargetOptions { place, server_program: None, interrupt: Default::default() })
}

fn fill(server: &redis_server::RedisServer) {
    let mut lines = String::from(
        "SET plain \"odd \\x00\\xff\\r\\n value\"\nSET expiring soon EX 100000\nLPUSH list a b c\nSADD set x y\n\
         HSET hash f1 v1 f2 v2\nZADD sorted 1.5 a -inf b\nXADD stream 1-1 f v\nXGROUP CREATE stream g 0\nPFADD hll a b c\n\
         SETBIT bits 1000 1\nGEOADD geo 13.4 52.5 berlin\n\
         FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('hi', function() return 'hi' end)\"\n",
    );
    for number in 0..3000 {
        lines += &format!("SET key:{number} {}\n", "x".repeat(number % 300));
    }
    lines += "SELECT 3\nSET other database\nSELECT 15\nSET last one\n";
    server.commands(&lines).unwrap();
}

#[test]
fn all_databases_come_back_and_replace_what_was_there() {
    let test = "all_databases_come_back_and_replace_what_was_there";
    let settings = ["--enable-debug-command", "yes"];
    let (Some(one), Some(two)) = (started(test, &settings), started(test, &settings)) else { return };
    fill(&one);
    let (meta, bytes, report) = dump(at(&one)).unwrap();
    assert_eq!(report.warnings, Vec::<String>::new());
    assert!(meta.attributes["server_version"].starts_with("Redis "), "{meta:?}");
    two.commands("SET old one\nSET plain other\nSELECT 7\nSET old two\n").unwrap();
    for server in [&two, &one] {
        let mut target = into(RedisPlace::Server(at(server)));
        assert!(dbvault_source::Target::occupied(&mut target).unwrap().is_some());
        restore(target, &meta, &bytes).unwrap();
        for database in 0..16 {
            assert_eq!(
                server.digest(database).unwrap(),
                one.digest(database).unwrap(),
                "database {database}"
            );
        }
        assert_eq!(server.command(&["-n", "7", "DBSIZE"]).unwrap(), "0");
        assert_eq!(server.command(&["FCALL", "hi", "0"]).unwrap(), "hi");
        assert!(server.command(&["TTL", "expiring"]).unwrap().parse::<i64>().unwrap() > 99_000);
        let keys = server.command(&["INFO", "keyspace"]).unwrap();
        assert_eq!(keys.lines().filter(|line| line.starts_with("db")).count(), 3, "{keys}");
    }
}

#[test]
fn both_ways_to_tell_the_end_are_understood_and_a_file_is_as_good() {
    let test = "both_ways_to_tell_the_end_are_understood_and_a_file_is_as_good";
    for diskless in ["yes", "no"] {
        let Some(server) = started(test, &["--repl-diskless-sync", diskless]) else { return };
        fill(&server);
        let (meta, bytes, _) = dump(at(&server)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.rdb");
        fs::write(&path, "old").unwrap();
        assert!(restore(into(RedisPlace::File(path.clone())), &meta, &bytes[..bytes.len() - 1]).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        restore(into(RedisPlace::File(path.clone())), &meta, &bytes).unwrap();
        let loaded =
            redis_server::RedisServer::start(&["--dir", &directory.path().display().to_string()]).unwrap();
        assert_eq!(loaded.command(&["DBSIZE"]).unwrap(), server.command(&["DBSIZE"]).unwrap());
    }
}

#[test]
fn what_was_cut_is_refused_and_the_live_data_is_as_it_was() {
    let test = "what_was_cut_is_refused_and_the_live_data_is_as_it_was";
    let Some(server) = started(test, &["--enable-debug-command", "yes"]) else { return };
    fill(&server);
    let (meta, bytes, _) = dump(at(&server)).unwrap();
    server.command(&["SET", "newer", "1"]).unwrap();
    let before = server.digest(0).unwrap();
    for length in [0, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        let outcome = restore(into(RedisPlace::Server(at(&server))), &meta, &bytes[..length]);
        assert!(matches!(outcome, Err(Error::Incomplete { .. } | Error::Empty { .. })), "{outcome:?}");
    }
    // No room for all to be loaded beside.
    let Some(small) = started(test, &["--databases", "16"]) else { return };
    let few = (0..10).map(|number| format!("SELECT {number}\nSET a b\n")).collect::<String>();
    small.commands(&few).unwrap();
    let outcome = restore(into(RedisPlace::Server(at(&small))), &meta, &bytes);
    assert!(
        matches!(&outcome, Err(Error::Unsuitable { detail, .. }) if detail.contains("empty")),
        "{outcome:?}"
    );
    assert_eq!(small.command(&["INFO", "keyspace"]).unwrap().matches("keys=1,").count(), 10);
    assert_eq!(server.digest(0).unwrap(), before);
}

#[test]
fn passwords_are_used_and_wrong_ones_told() {
    let test = "passwords_are_used_and_wrong_ones_told";
    let Some(server) = started_with(test, &[], true, true) else { return };
    server.command(&["SET", "a", "b"]).unwrap();
    let tcp = |password: Option<&str>| RedisServer {
        host: Some("127.0.0.1".into()),
        port: server.port(),
        password: password.map(Secret::new),
        ..RedisServer::default()
    };
    assert!(dump(tcp(server.password())).is_ok());
    for bad in [tcp(None), tcp(Some("wrong")), RedisServer { tls: true, ..tcp(None) }] {
        let outcome = dump(bad);
        assert!(matches!(outcome, Err(Error::Connect { .. })), "{outcome:?}");
    }
    let nowhere = RedisServer { socket: Some("/nonexistent/socket".into()), ..RedisServer::default() };
    assert!(matches!(dump(nowhere), Err(Error::Connect { .. })));
}

#[test]
fn a_server_that_is_killed_or_stalls_never_looks_good() {
    let test = "a_server_that_is_killed_or_stalls_never_looks_good";
    let Some(mut server) = started(test, &["--repl-diskless-sync", "no"]) else { return };
    let many = (0..60).map(|number| format!("SETRANGE big:{number} 1000000 x\n")).collect::<String>();
    server.commands(&format!("CONFIG SET rdbcompression no\n{many}")).unwrap();
    let mut source: Box<dyn Source> =
        Box::new(RedisSource::new(RedisOptions { server: at(&server), entry_name: "x".into(), label: None }));
    let mut entry = source.open().unwrap();
    entry.body.read_exact(&mut vec![0; 1_000_000]).unwrap();
    server.kill();
    let rest = std::io::copy(&mut entry.body, &mut std::io::sink());
    assert!(rest.is_err() && source.finish().is_err());

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1000];
        for answer in ["+PONG\r\n", "-ERR no\r\n", "+OK\r\n", "+OK\r\n", "\n\n$1000\r\nREDIS0011"] {
            let _ = stream.read(&mut buffer);
            stream.write_all(answer.as_bytes()).unwrap();
        }
        std::thread::sleep(Duration::from_secs(30));
    });
    let begun = Instant::now();
    let slow = RedisServer { socket: Some(socket), stall_timeout_ms: Some(300), ..RedisServer::default() };
    let outcome = dump(slow);
    assert!(
        matches!(&outcome, Err(Error::Connect { message, .. }) if message.contains("stalled")),
        "{outcome:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}
