use std::path::Path;

use super::*;
use crate::Error;
use crate::config::hooks::{Moment, State};
use crate::config::monitoring::Email;

fn say(file: &Path, when: Moment, scope: Scope, word: &str) -> CommandHook {
    let text = format!("echo {word}-{{repository_label}} >> {}", file.display());
    CommandHook { when, scope, actions: Vec::new(), states: Vec::new(), run: vec![text] }
}

/// A supervisor whose every step writes a word.
fn story(
    more: Vec<CommandHook>,
    labels: &[&str],
    work: impl FnOnce(&[usize], &RefCell<Situation>) -> Result<(), Error>,
) -> (String, Result<Option<()>, Error>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("story");
    let mail = format!("sed -n 's/^Subject: dbvault backup \\([a-z]*\\).*/\\1/p' >> {}", file.display());
    let email = Email {
        to: vec!["a".into()],
        from: None,
        sendmail_command: ["/bin/sh", "-c", &mail].map(str::to_owned).to_vec(),
        states: Vec::new(),
    };
    let monitoring = Monitoring { email: Some(email), ..Monitoring::default() };
    let scopes = [
        (Scope::Everything, "all"),
        (Scope::Configuration, "config"),
        (Scope::Repository, "repo"),
        (Scope::Action, "action"),
    ];
    let mut commands = more;
    for (scope, word) in scopes {
        commands.push(say(&file, Moment::Before, scope, word));
        commands.push(say(&file, Moment::After, scope, &format!("-{word}")));
    }
    commands.push(say(&file, Moment::After, Scope::Error, "error:{error}"));
    let supervisor = Supervisor {
        commands: &commands,
        monitoring: &monitoring,
        configuration_filename: String::new(),
        host: "db1".into(),
        interrupt: Interrupt::default(),
        warn: &|warning| panic!("{warning}"),
        log: &String::new,
    };
    let repositories: Vec<Named> =
        labels.iter().map(|label| Named { location: String::new(), label: (*label).into() }).collect();
    let outcome = supervisor.run("backup", &repositories, work);
    (std::fs::read_to_string(&file).unwrap_or_default().replace('\n', " "), outcome)
}

fn skip(label: &str) -> CommandHook {
    let text = format!("test {{repository_label}} != {label} || exit 75");
    CommandHook {
        when: Moment::Before,
        scope: Scope::Repository,
        actions: Vec::new(),
        states: Vec::new(),
        run: vec![text],
    }
}

#[test]
fn commands_and_monitors_stand_around_the_action_in_order() {
    let (told, outcome) = story(Vec::new(), &["one", "two"], |kept, _| {
        assert_eq!(kept, [0, 1]);
        Ok(())
    });
    outcome.unwrap().unwrap();
    assert_eq!(
        told,
        "all-one config-one began repo-one action-one repo-two action-two -action-two -repo-two -action-one \
         -repo-one ended -config-one -all-one "
    );
}

#[test]
fn a_failure_is_told_and_has_commands_of_its_own() {
    let (told, outcome) = story(Vec::new(), &["one"], |_, _| Err(Error::NoSources));
    assert!(matches!(outcome, Err(Error::NoSources)));
    assert_eq!(
        told,
        "all-one config-one began repo-one action-one -action-one -repo-one failed -config-one error:nothing to back \
         up-one -all-one "
    );
}

#[test]
fn a_repository_that_is_left_out_does_not_keep_others_from_their_turn() {
    let (told, outcome) = story(vec![skip("one")], &["one", "two"], |kept, situation| {
        assert_eq!((kept, situation.borrow().repository_label.as_str()), (&[1][..], "two"));
        Ok(())
    });
    outcome.unwrap().unwrap();
    assert!(told.contains("began repo-two action-two -action-two -repo-two ended"), "{told}");
    let (told, outcome) = story(vec![skip("one")], &["one"], |_, _| panic!("nothing is left to do"));
    assert_eq!(outcome.unwrap(), None);
    assert!(told.contains("began ended"), "{told}");
}

#[test]
fn a_failing_command_is_told_wherever_it_stands() {
    for (scope, when) in [
        (Scope::Configuration, Moment::Before),
        (Scope::Repository, Moment::Before),
        (Scope::Action, Moment::After),
        (Scope::Configuration, Moment::After),
    ] {
        let states = Vec::<State>::new();
        let failing = CommandHook { when, scope, actions: Vec::new(), states, run: vec!["exit 1".into()] };
        let done = Cell::new(false);
        let (told, outcome) = story(vec![failing], &["one"], |_, _| {
            done.set(true);
            Ok(())
        });
        assert!(matches!(outcome, Err(Error::Hook { .. })), "{scope:?}: {outcome:?}");
        assert_eq!(done.get(), when == Moment::After, "{scope:?}");
        assert!(told.contains("failed") && told.contains("error:command 1"), "{scope:?}: {told}");
        assert_eq!(told.matches(" failed ").count(), 1, "{told}");
    }
}

#[test]
fn nobody_is_told_of_what_people_do_by_hand() {
    let told = Cell::new(false);
    let email = Email {
        to: Vec::new(),
        from: None,
        sendmail_command: vec!["/nonexistent".into()],
        states: Vec::new(),
    };
    let monitoring = Monitoring { email: Some(email), ..Monitoring::default() };
    let supervisor = Supervisor {
        commands: &[],
        monitoring: &monitoring,
        configuration_filename: String::new(),
        host: String::new(),
        interrupt: Interrupt::default(),
        warn: &|_| told.set(true),
        log: &String::new,
    };
    supervisor.run::<_, Error>("restore", &[], |_, _| Ok(())).unwrap().unwrap();
    assert!(!told.get());
    supervisor.run::<_, Error>("backup", &[], |_, _| Ok(())).unwrap().unwrap();
    assert!(told.get(), "a monitor that can't be told is a warning");
}
