//! The surface of the command line: what `--help` says of every command, so that a change shows as one diff.

mod cli_support;

use std::fmt::Write;

use cli_support::Home;

const COMMANDS: [&str; 42] = [
    "",
    "init",
    "backup",
    "list",
    "show",
    "restore",
    "drill",
    "diff",
    "open",
    "tables",
    "extract",
    "mount",
    "umount",
    "status",
    "check",
    "repair",
    "delete",
    "undelete",
    "tag",
    "protect",
    "prune",
    "compact",
    "schedule",
    "schedule install",
    "schedule show",
    "schedule remove",
    "config",
    "config generate",
    "config validate",
    "config show",
    "config schema",
    "config import-borgmatic",
    "key",
    "key list",
    "key add",
    "key remove",
    "key change-passphrase",
    "key export",
    "key import",
    "version",
    "completions",
    "man",
];

#[test]
fn the_help_of_every_command() {
    let home = Home::new();
    let help = |command: &str| home.ok(command.split_whitespace().chain(["--help"]));
    let mut reference = String::new();
    for command in COMMANDS {
        let _ = write!(reference, "=== dbvault {command}\n{}\n", help(command));
    }
    insta::assert_snapshot!("help", reference);
}
