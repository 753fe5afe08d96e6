//! Faults made to happen to the real program: whatever breaks, there is no archive of it, the archives before
//! are whole, and the next backup works with no manual step.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says so, and a skipped one its name"
)]

mod cli_support;

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_support::small_disk::SmallDisk;
use cli_support::{Home, Run, run};
use dbvault_testkit::dump_series::{DATABASE, DumpSeries};
use dbvault_testkit::postgres_server::PostgresServer;
use rustix::process::{Pid, Signal, kill_process};

/// Megabytes of the database that is dumped: enough to break a dump in its middle.
const MEGABYTES: u32 = 60;

fn command(home: &Home, server: &PostgresServer, words: &[&str]) -> Command {
    let mut command = home.command();
    command.args(words).envs(server.env());
    command
}

fn backup(home: &Home, server: &PostgresServer) -> Run {
    run(&mut command(home, server, &["backup", "--postgres", DATABASE]))
}

/// Starts a backup and waits until its dump is under way.
fn backup_under_way(home: &Home, server: &PostgresServer) -> Child {
    let mut command = command(home, server, &["backup", "--postgres", DATABASE]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'";
    while server.psql("postgres", copying).unwrap().trim() == "0" {
        assert!(Instant::now() < deadline, "the dump does not start");
    }
    child
}

fn end(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// Nothing but `archives` is there, all of it whole.
fn assert_only(home: &Home, archives: &[String]) {
    assert_eq!(home.archives(), archives);
    home.ok(["check", "--read-data"]);
}

/// The dump program of a running backup.
fn dump_program(backup: &Child) -> Pid {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
            let parent = tail.split(' ').nth(1).and_then(|parent| parent.parse().ok());
            if head.ends_with("(pg_dump") && parent == Some(backup.id()) {
                let pid = head.split(' ').next().and_then(|pid| pid.parse().ok());
                return pid.and_then(Pid::from_raw).unwrap();
            }
        }
        assert!(Instant::now() < deadline, "no pg_dump");
    }
}

#[test]
fn a_dump_that_is_cut_short_is_no_archive() {
    let mut server = PostgresServer::start().unwrap();
    DumpSeries::create(&server, MEGABYTES).unwrap();
    let home = Home::with_repository();
    assert_eq!(backup(&home, &server).code, 0);
    let before = home.archives();

    let running = backup_under_way(&home, &server);
    kill_process(dump_program(&running), Signal::KILL).unwrap();
    end(running).assert_failure(10, "pg_dump");
    assert_only(&home, &before);

    let running = backup_under_way(&home, &server);
    let dumping = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'";
    server.psql("postgres", dumping).unwrap();
    let ended = end(running);
    // The server says why only when its socket has room; else the client finds the connection closed.
    ended.assert_failure(10, "connection");
    assert_only(&home, &before);

    let running = backup_under_way(&home, &server);
    server.stop_immediate();
    end(running).assert_failure(10, "pg_dump");
    assert_only(&home, &before);

    server.restart().unwrap();
    let again = backup(&home, &server);
    assert_eq!(again.code, 0, "{again:#?}");
    assert_eq!(home.archives().len(), 2);
    let kept = server.row_hashes(DATABASE).unwrap();
    let restored = run(&mut command(&home, &server, &["restore", "--archive", "latest", "--to", "copy"]));
    assert_eq!(restored.code, 0, "{restored:#?}");
    assert_eq!(server.row_hashes("copy").unwrap(), kept);
}

#[test]
fn a_command_that_fails_is_no_archive() {
    let home = Home::with_repository();
    home.ok(["backup", "--command", "seq 100000", "--name", "numbers"]);
    let before = home.archives();
    for failing in ["seq 100000; exit 3", "seq 100000; kill -9 $$", "echo broken >&2; false", "not-a-program"]
    {
        let failed = home.fails(["backup", "--command", failing, "--name", "numbers"], 10, "");
        assert_eq!(failed.stderr.contains("broken"), failing.contains("broken"), "{failed:#?}");
        assert_only(&home, &before);
    }
    home.ok(["backup", "--command", "seq 100000", "--name", "numbers"]);
}

#[test]
fn a_full_disk_is_no_archive() {
    let home = Home::new();
    let path = home.path("disk");
    let Some(disk) = SmallDisk::mount(&path, "size=24m", "a_full_disk_is_no_archive") else { return };
    home.ok(["init", "disk/repo", "--key-file", "key"]);
    home.ok(["backup", "--command", "seq 100000", "--name", "small"]);
    let before = home.archives();
    let random = "openssl enc -aes-128-ctr -pass pass:x -nosalt -in /dev/zero 2>/dev/null | head -c 60000000";
    for _ in 0..3 {
        home.fails(["backup", "--command", random, "--name", "large"], 16, "no space left");
        assert_only(&home, &before);
    }
    assert_eq!(home.ok(["extract", "--archive", "latest", "--entry", "small"]).lines().count(), 100_000);
    disk.resize("size=200m");
    home.ok(["backup", "--command", random, "--name", "large"]);
    assert_eq!(home.archives().len(), before.len() + 1);
    home.ok(["check", "--read-data"]);
}

#[test]
fn two_programs_at_once_both_work() {
    let home = Home::with_repository();
    home.ok(["backup", "--command", "seq 2000000", "--name", "numbers"]);
    let start = |words: &[&str]| {
        let mut command = home.command();
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let slow = "seq 2000000; sleep 2; seq 3000000";
    let first = start(&["backup", "--command", slow, "--name", "numbers", "--archive", "one"]);
    sleep(Duration::from_millis(500));
    let second = start(&["backup", "--command", "seq 3000000", "--name", "numbers", "--archive", "two"]);
    let reader = start(&["extract", "--archive", "latest", "--entry", "numbers"]);
    let (second, reader, first) = (end(second), end(reader), end(first));
    assert_eq!((second.code, reader.code, first.code), (0, 0, 0), "{second:#?} {reader:#?} {first:#?}");
    assert_eq!(reader.stdout.lines().count(), 2_000_000);
    for (archive, lines) in [("one", 5_000_000), ("two", 3_000_000)] {
        assert_eq!(home.ok(["extract", "--archive", archive, "--entry", "numbers"]).lines().count(), lines);
    }
    home.ok(["check", "--read-data"]);
}
