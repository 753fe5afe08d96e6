//! Signals: the program ends soon and cleanly, with no archive, and what was stored is used again.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::io::Read;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_support::Home;
use rustix::process::{Pid, Signal, kill_process};

/// A program that writes `megabytes` of bytes that look random and are the same each time, then hangs.
fn stream_then_hang(megabytes: u32) -> String {
    format!(
        "openssl enc -aes-128-ctr -pass pass:x -nosalt -in /dev/zero 2>/dev/null | head -c {megabytes}000000; sleep 1000"
    )
}

fn start(home: &Home, args: &[&str]) -> Child {
    let mut command = home.command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

/// Sends `signal` and waits for the end: exit code, standard error, seconds.
fn end_by(mut child: Child, signal: Signal) -> (Option<i32>, String, f64) {
    let started = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (status.code(), stderr, started.elapsed().as_secs_f64())
}

/// Waits until `happened`.
fn wait_until(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Bytes of all files below a directory of the repository.
fn bytes_below(home: &Home, name: &str) -> usize {
    let path = home.path("repo").join(name);
    if path.exists() { cli_support::files_below(&path).values().map(Vec::len).sum() } else { 0 }
}

#[test]
fn every_signal_ends_a_backup_within_five_seconds() {
    let home = Home::with_repository();
    let hanging = ["backup", "--command", "trap '' TERM; echo x; touch started; sleep 1000", "--name", "x"];
    let started = home.path("started");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let child = start(&home, &hanging);
        wait_until("the command runs", || started.exists());
        std::fs::remove_file(&started).unwrap();
        let (ended, stderr, seconds) = end_by(child, signal);
        assert_eq!(ended, Some(code), "{stderr}");
        assert!(seconds < 5.0, "{seconds} s");
        assert!(stderr.contains("used by the next backup"), "{stderr}");
        assert!(stderr.ends_with("error: interrupted\n"), "{stderr}");
    }
    assert_eq!(home.archives(), [""; 0]);
    assert!(home.ok(["check", "--read-data"]).contains("no damage found"));
}

#[test]
fn waiting_for_standard_input_can_be_interrupted() {
    let home = Home::with_repository();
    let mut child = start(&home, &["backup", "--stdin", "--name", "x"]);
    let _open = child.stdin.take();
    wait_until("the backup has begun", || bytes_below(&home, "sessions") > 0);
    sleep(Duration::from_millis(200));
    let (code, stderr, seconds) = end_by(child, Signal::INT);
    assert_eq!(code, Some(130), "{stderr}");
    assert!(seconds < 5.0, "{seconds} s");
}

#[test]
fn what_was_stored_is_used_by_the_next_backup() {
    let home = Home::with_repository();
    let child = start(&home, &["backup", "--command", &stream_then_hang(100), "--name", "x"]);
    wait_until("packs are stored", || bytes_below(&home, "packs") > 60_000_000);
    let (code, stderr, seconds) = end_by(child, Signal::INT);
    assert_eq!(code, Some(130), "{stderr}");
    assert!(seconds < 5.0, "{seconds} s");
    assert_eq!(home.archives(), [""; 0]);
    // The same stream, ended where it should.
    let whole = stream_then_hang(100).replace("; sleep 1000", "");
    let next = home.json(["backup", "--command", &whole, "--name", "x", "--json"]);
    assert_eq!(next["original_bytes"].as_u64().map(|bytes| bytes / 1_000_000), Some(100));
    let new_bytes = next["new_bytes"].as_u64().unwrap();
    assert!(new_bytes < 60_000_000, "{new_bytes} bytes stored again");
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let home = Home::with_repository();
    // It can't be stopped, but ends by itself once nobody reads what it writes.
    let stubborn = "trap '' TERM; touch started; while :; do sleep 0.1; echo; done";
    let child = start(&home, &["backup", "--command", stubborn, "--name", "x"]);
    wait_until("the command runs", || home.path("started").exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    sleep(Duration::from_millis(300));
    let (code, _, seconds) = end_by(child, Signal::INT);
    assert_eq!(code, Some(130));
    assert!(seconds < 1.0, "{seconds} s");
}
