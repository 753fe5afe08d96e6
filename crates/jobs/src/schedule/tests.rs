use super::*;

fn plan(when: When) -> Plan {
    Plan {
        when,
        program: "/usr/bin/dbvault".into(),
        global_args: vec!["--repo".into(), "/srv/my $repo 100%".into()],
        actions: vec![vec!["backup".into()], vec!["prune".into()]],
    }
}

fn places(directory: &Path) -> Places {
    Places {
        system_units: directory.join("system"),
        user_units: directory.join("user"),
        systemd_runs: directory.to_owned(),
        is_root: false,
        interrupt: Interrupt::default(),
    }
}

#[test]
fn units_name_what_is_run_and_when() {
    let at = When::Daily { hour: 2, minute: 5 };
    let files = SystemdFiles::of(&plan(at.clone()), Keeper::System).unwrap();
    assert!(files.timer.contains("\nOnCalendar=*-*-* 02:05:00\n"), "{}", files.timer);
    let start = "\nExecStart=/usr/bin/dbvault --repo \"/srv/my $$repo 100%%\" ";
    for word in ["backup\n", "prune\n"] {
        assert!(files.service.contains(&format!("{start}{word}")), "{}", files.service);
    }
    assert!(files.service.contains("ProtectSystem=full") && files.service.contains("User=root"));
    let of_user = SystemdFiles::of(&plan(at), Keeper::User).unwrap();
    assert!(!of_user.service.contains("Protect") && !of_user.service.contains("User="), "{of_user:?}");
    let evil = SystemdFiles::of(&plan(When::Calendar("daily\nExecStart=x".into())), Keeper::User).unwrap();
    assert!(!evil.timer.contains("\nExecStart"), "{}", evil.timer);
    assert!(SystemdFiles::of(&plan(When::Cron("* * * * *".into())), Keeper::User).is_err());
}

#[test]
fn a_dry_run_writes_nothing_and_foreign_units_stay() {
    let directory = tempfile::tempdir().unwrap();
    let places = places(directory.path());
    assert_eq!(places.keeper(), Keeper::User);
    let plan = plan(When::Daily { hour: 2, minute: 5 });
    let done = install(&places, Keeper::User, &plan, true).unwrap();
    assert!(done.changed && done.files.len() == 2 && !places.user_units.exists());
    assert!(show(&places, Keeper::User).unwrap().files.is_empty());
    assert!(!remove(&places, Keeper::User, true).unwrap().changed);
    std::fs::create_dir(&places.user_units).unwrap();
    std::fs::write(places.user_units.join("dbvault.timer"), "[Timer]\n").unwrap();
    assert!(matches!(install(&places, Keeper::User, &plan, true), Err(Error::FileExists { .. })));
    assert!(matches!(remove(&places, Keeper::User, true), Err(Error::FileExists { .. })));
}
