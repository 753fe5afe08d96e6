//! The program on a terminal: questions, hidden input, Ctrl-C.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cli_support;

use std::process::Command;

use cli_support::{DBVAULT, Home};
use rexpect::session::{PtySession, spawn_command};

const TIMEOUT_MS: u64 = 30_000;

/// Runs `dbvault` with `words` on a terminal, then tells its exit code and whether the terminal still echoes.
fn on_terminal(home: &Home, words: &str) -> PtySession {
    let mut shell: Command = home.in_world("sh");
    let script = format!("stty echo; \"$D\" {words}; echo code $?; stty -a | grep -ow -e '-\\?echo'");
    shell.args(["-c", &script]).env("D", DBVAULT);
    spawn_command(shell, Some(TIMEOUT_MS)).expect("a terminal")
}

fn ends(terminal: &mut PtySession, code: i32) {
    terminal.exp_string(&format!("code {code}\r\n")).unwrap();
    let echo = terminal.read_line().unwrap();
    assert_eq!(echo.trim(), "echo", "the terminal is as it was");
    terminal.exp_eof().unwrap();
}

fn init(home: &Home, passphrase: &str) {
    let mut terminal = on_terminal(home, "init repo");
    terminal.exp_string("New passphrase for repo: ").unwrap();
    terminal.send_line(passphrase).unwrap();
    let between = terminal.exp_string("The same again: ").unwrap();
    assert!(!between.contains(passphrase), "typed passphrases are not shown: {between:?}");
    terminal.send_line(passphrase).unwrap();
    terminal.exp_string("Repository made in").unwrap();
    ends(&mut terminal, 0);
}

#[test]
fn init_asks_twice_and_then_the_passphrase_opens() {
    let home = Home::new();
    init(&home, "pass phrase ü");
    let mut terminal = on_terminal(&home, "list");
    terminal.exp_string("Passphrase for ").unwrap();
    terminal.send_line("pass phrase ü").unwrap();
    terminal.exp_string("No archives").unwrap();
    ends(&mut terminal, 0);
}

#[test]
fn init_takes_no_empty_passphrase_and_no_two_different_ones() {
    let home = Home::new();
    let mut terminal = on_terminal(&home, "init repo");
    terminal.exp_string("New passphrase").unwrap();
    terminal.send_line("").unwrap();
    terminal.exp_string("the passphrase is empty").unwrap();
    ends(&mut terminal, 21);
    let mut terminal = on_terminal(&home, "init repo");
    terminal.exp_string("New passphrase").unwrap();
    terminal.send_line("one").unwrap();
    terminal.exp_string("The same again: ").unwrap();
    terminal.send_line("two").unwrap();
    terminal.exp_string("the two passphrases differ").unwrap();
    ends(&mut terminal, 21);
    assert!(!home.path("repo").exists());
}

#[test]
fn a_wrong_passphrase_may_be_typed_again() {
    let home = Home::new();
    init(&home, "right");
    let mut terminal = on_terminal(&home, "list");
    for (typed, answer) in [("wrong", "wrong passphrase, try again"), ("right", "No archives")] {
        terminal.exp_string("Passphrase for ").unwrap();
        terminal.send_line(typed).unwrap();
        terminal.exp_string(answer).unwrap();
    }
    ends(&mut terminal, 0);
    let mut terminal = on_terminal(&home, "list");
    for _ in 0..3 {
        terminal.exp_string("Passphrase for ").unwrap();
        terminal.send_line("wrong").unwrap();
    }
    terminal.exp_string("wrong passphrase for").unwrap();
    ends(&mut terminal, 7);
}

#[test]
fn ctrl_c_at_a_question_ends_it() {
    let home = Home::new();
    let mut terminal = on_terminal(&home, "init repo");
    terminal.exp_string("New passphrase").unwrap();
    // The shell that waits for the program sees the signal too, and would end before it tells the code.
    let status = terminal.send_control('c');
    assert!(status.is_ok());
    terminal.exp_string("interrupted").unwrap();
    terminal.exp_eof().unwrap();
    assert!(!home.path("repo").exists());
}

#[test]
fn restore_asks_and_no_means_no() {
    let home = Home::with_repository();
    let path = home.make_sqlite("app.db", 10);
    home.ok(["backup", "--sqlite", "app.db"]);
    rusqlite::Connection::open(&path).unwrap().execute("DELETE FROM t", []).unwrap();
    for (answer, code, rows) in [("n", 19, 0), ("", 19, 0), ("y", 0, 10)] {
        let mut terminal = on_terminal(&home, "restore --archive latest");
        terminal.exp_string("This will be overwritten:").unwrap();
        terminal.exp_string("app.db").unwrap();
        terminal.exp_string("[y/N] ").unwrap();
        terminal.send_line(answer).unwrap();
        ends(&mut terminal, code);
        assert_eq!(cli_support::sqlite_rows(&path), rows, "{answer:?}");
    }
}

#[test]
fn an_entry_is_not_written_to_a_terminal() {
    let home = Home::with_repository();
    home.ok(["backup", "--command", "echo x", "--name", "x"]);
    let mut terminal = on_terminal(&home, "extract --archive latest");
    terminal.exp_string("an entry is not written to a terminal").unwrap();
    ends(&mut terminal, 2);
}

#[test]
fn a_backup_draws_its_progress() {
    let home = Home::with_repository();
    let mut terminal =
        on_terminal(&home, "backup --command 'head -c 1000000 /dev/zero; sleep 2' --name zeros");
    terminal.exp_string("zeros: 1.0 MB").unwrap();
    terminal.exp_string("ORIGINAL").unwrap();
    ends(&mut terminal, 0);
}
