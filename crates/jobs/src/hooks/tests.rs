use super::*;

fn hook(when: Moment, scope: Scope, run: &[&str]) -> CommandHook {
    CommandHook {
        when,
        scope,
        actions: Vec::new(),
        states: Vec::new(),
        run: run.iter().map(|text| (*text).to_owned()).collect(),
    }
}

fn situation() -> Situation {
    Situation {
        repository: "/srv/it's $(touch harmed) `touch harmed`; \"$HOME\" \\".into(),
        action: "backup".into(),
        error: "line one\nline two".into(),
        ..Situation::default()
    }
}

/// What the commands write to `file` is what they were given.
fn written(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let text = format!("cd {}; {text} > out; test ! -e harmed", directory.path().display());
    let commands = [hook(Moment::Before, Scope::Action, &[&text])];
    let hooks = Hooks::new(&commands, Interrupt::default(), &|warning| panic!("{warning}"));
    let situation = RefCell::new(situation());
    hooks.around::<_, Error>(Scope::Action, &situation, || Ok(Some(()))).unwrap().unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn values_are_given_whole_and_never_run() {
    let repository = situation().repository;
    assert_eq!(written("printf %s {repository}"), repository);
    assert_eq!(written("printf %s \"{repository}\""), repository);
    assert_eq!(written("printf %s 'a {repository} b'"), format!("a {repository} b"));
    assert_eq!(written("printf %s \"$DBVAULT_HOOK_REPOSITORY\""), repository);
    assert_eq!(written("printf '%s|' {action} {archive} {error}"), "backup||line one\nline two|");
    // Quotes within a substitution within quotes: the guess is wrong, and nothing is run all the same.
    written("printf %s \"$(echo \"{repository}\")\"");
}

#[test]
fn other_braces_belong_to_the_shell() {
    assert_eq!(written("action=mine; printf %s ${action}-{unknown}-{"), "mine-{unknown}-{");
    assert_eq!(written("printf %s \\'{action}\\'"), "'backup'");
}

/// What happened, in order, with one hook of each sort that appends a word to a file.
fn story(before: &str, work: Result<(), Error>) -> (String, Result<Option<()>, Error>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let say = |word: &str| format!("echo {word} >> {}", path.display());
    let mut commands = vec![
        hook(Moment::Before, Scope::Action, &[&say("before"), before, &say("second")]),
        hook(Moment::After, Scope::Action, &[&say("finish-{error}")]),
        hook(Moment::After, Scope::Action, &[&say("fail-{error}")]),
        CommandHook { actions: vec!["prune".into()], ..hook(Moment::Before, Scope::Action, &["exit 1"]) },
        hook(Moment::Before, Scope::Repository, &["exit 1"]),
    ];
    commands[1].states = vec![State::Finish];
    commands[2].states = vec![State::Fail];
    let hooks = Hooks::new(&commands, Interrupt::default(), &|warning| panic!("{warning}"));
    let situation = RefCell::new(Situation { action: "backup".into(), ..Situation::default() });
    let outcome = hooks.around(Scope::Action, &situation, || {
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "work\n").unwrap();
        work.map(Some)
    });
    (std::fs::read_to_string(&path).unwrap().replace('\n', " "), outcome)
}

#[test]
fn hooks_stand_around_the_work() {
    let (told, outcome) = story("true", Ok(()));
    assert_eq!((told.as_str(), outcome.unwrap()), ("before second work finish- ", Some(())));
    let (told, outcome) = story("true", Err(Error::NoSources));
    assert_eq!(told, "before second work fail-nothing to back up ");
    assert!(matches!(outcome, Err(Error::NoSources)));
}

#[test]
fn a_failing_command_before_it_keeps_the_work_from_beginning() {
    let (told, outcome) = story("echo secret why >&2; exit 3", Ok(()));
    assert!(told.starts_with("before fail-command 2 before the action failed"), "{told}");
    let Err(Error::Hook { name, source }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(name.number, 2);
    let dbvault_source::Error::ProgramFailed { how, stderr, .. } = source else { panic!("{source}") };
    assert_eq!((how.as_str(), stderr.as_str()), ("exit status 3", "secret why"));
}

#[test]
fn exit_status_75_leaves_it_out_and_is_no_error() {
    let (told, outcome) = story("exit 75", Ok(()));
    assert_eq!((told.as_str(), outcome.unwrap()), ("before ", None));
}

#[test]
fn a_command_after_it_still_runs_when_the_user_stopped_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let commands = [hook(Moment::After, Scope::Action, &[&format!("echo cleaned > {}", path.display())])];
    let interrupt = Interrupt::default();
    let hooks = Hooks::new(&commands, interrupt.clone(), &|warning| panic!("{warning}"));
    let outcome = hooks.around::<(), _>(Scope::Action, &RefCell::default(), || {
        interrupt.store(true, Ordering::Relaxed);
        Err(Error::Interrupted)
    });
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "cleaned\n");
}

#[test]
fn a_failure_after_a_failure_is_a_warning_and_after_success_an_error() {
    let commands = [hook(Moment::After, Scope::Action, &["exit 4"])];
    let warnings = RefCell::new(Vec::new());
    let warn = |warning: &dyn fmt::Display| warnings.borrow_mut().push(warning.to_string());
    let hooks = Hooks::new(&commands, Interrupt::default(), &warn);
    let outcome = hooks.around::<(), _>(Scope::Action, &RefCell::default(), || Err(Error::NoSources));
    assert!(matches!(outcome, Err(Error::NoSources)));
    assert_eq!(*warnings.borrow(), ["command 1 after the action failed"]);
    let outcome = hooks.around::<_, Error>(Scope::Action, &RefCell::default(), || Ok(Some(())));
    assert!(matches!(outcome, Err(Error::Hook { .. })));
}

#[test]
fn the_text_of_a_command_is_not_in_the_list_of_processes() {
    let out = written("tr '\\0' ' ' < /proc/$$/cmdline");
    assert_eq!(out, "/bin/sh -c eval \"$DBVAULT_HOOK_SCRIPT\" ");
}
