//! `schedule` through the program, with stand-ins for the programs of the system.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod cli_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cli_support::{Home, Run, run};

/// A home with programs that note how they are called.
fn home() -> Home {
    let home = Home::with_repository();
    let programs = home.path("bin");
    fs::create_dir(&programs).unwrap();
    let note = "echo \"$(basename $0) $*\" >> ../called";
    let crontab = "case $1 in -l) cat ../crontab || { echo no crontab for tester >&2; exit 1; } ;; \
                   -) cat > ../crontab ;; esac";
    let analyze = "case $3 in nonsense) echo Failed to parse >&2; exit 1;; esac";
    for (name, does) in [("systemctl", note), ("crontab", crontab), ("systemd-analyze", analyze)] {
        let path = programs.join(name);
        fs::write(&path, format!("#!/bin/sh\ncd {}\n{does}\n", programs.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    home
}

fn schedule(home: &Home, args: &[&str]) -> Run {
    let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    run(home.command().env("PATH", path).arg("schedule").args(args))
}

fn ok(home: &Home, args: &[&str]) -> String {
    let run = schedule(home, args);
    assert_eq!(run.code, 0, "{run:#?}");
    run.stdout
}

#[test]
fn a_timer_of_the_user_is_installed_shown_and_removed() {
    let home = home();
    let units = home.path("config/systemd/user");
    let text = ok(&home, &["install", "--user", "--dry-run"]);
    assert!(text.contains("OnCalendar=*-*-* 02:30:00") && !units.exists(), "{text}");
    let args = [
        "install",
        "--user",
        "--on-calendar",
        "Mon..Fri 22:00",
        "--run",
        "backup",
        "--run",
        "check --subset 5%",
    ];
    let told = ok(&home, &args);
    assert!(told.contains("Wrote") && told.contains("dbvault.timer"), "{told}");
    let service = fs::read_to_string(units.join("dbvault.service")).unwrap();
    assert!(
        service.contains("dbvault backup\n") && service.contains("dbvault check --subset \"5%%\"\n"),
        "{service}"
    );
    assert!(ok(&home, &args).contains("As it was:"), "the same again changes nothing");
    assert!(ok(&home, &["show", "--user"]).contains("OnCalendar=Mon..Fri 22:00"));
    assert!(ok(&home, &["remove", "--user", "--dry-run"]).contains("Would remove"));
    ok(&home, &["remove", "--user"]);
    assert_eq!(fs::read_dir(&units).unwrap().count(), 0);
    ok(&home, &["remove", "--user"]);
    let called = fs::read_to_string(home.path("called")).unwrap();
    let called: Vec<&str> = called.lines().collect();
    let installed = ["daemon-reload", "enable dbvault.timer", "restart dbvault.timer"];
    let removed = ["disable --now dbvault.timer", "daemon-reload"];
    let want: Vec<String> = installed
        .iter()
        .chain(&installed)
        .chain(&removed)
        .map(|args| format!("systemctl --user {args}"))
        .collect();
    assert_eq!(called, want);
}

#[test]
fn a_line_of_the_crontab_is_ours_and_the_others_stay() {
    let home = home();
    fs::write(home.path("crontab"), "MAILTO=me\n5 4 * * * mine\n").unwrap();
    ok(
        &home,
        &["install", "--crontab", "--daily", "2:05", "--run", "backup --archive x%y", "--run", "prune"],
    );
    let crontab = fs::read_to_string(home.path("crontab")).unwrap();
    assert!(crontab.starts_with("MAILTO=me\n5 4 * * * mine\n# dbvault schedule: "), "{crontab}");
    assert!(crontab.contains("\n5 2 * * * ") && crontab.contains("backup --archive x\\%y && "), "{crontab}");
    ok(&home, &["install", "--cron", "30 2 * * 1-5"]);
    let crontab = fs::read_to_string(home.path("crontab")).unwrap();
    assert_eq!(crontab.lines().count(), 4, "{crontab}");
    assert!(ok(&home, &["show", "--crontab"]).contains("30 2 * * 1-5 "));
    ok(&home, &["remove", "--crontab"]);
    assert_eq!(fs::read_to_string(home.path("crontab")).unwrap(), "MAILTO=me\n5 4 * * * mine\n");
    let json: serde_json::Value = serde_json::from_str(&ok(&home, &["show", "--crontab", "--json"])).unwrap();
    assert!(json["files"].as_array().unwrap().is_empty());
}

#[test]
fn times_that_nobody_understands_are_refused() {
    let home = home();
    schedule(&home, &["install", "--cron", "daily"]).assert_failure(2, "not five fields");
    schedule(&home, &["install", "--crontab", "--daily", "24:00"]).assert_failure(2, "not a time like 02:30");
    let run = schedule(&home, &["install", "--user", "--on-calendar", "nonsense"]);
    run.assert_failure(1, "systemd does not understand the time");
    assert!(run.stderr.contains("Failed to parse") && !home.path("config/systemd").exists(), "{run:#?}");
}
