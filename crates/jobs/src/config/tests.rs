//! What files say, and what is said of mistakes in them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use dbvault_format::entry::EntryKind;
use dbvault_source::BtrfsOptions;

use super::hooks::{Moment, Scope, State};
use super::monitoring::Event;
use super::*;
use crate::database::DumpFormat;

fn load(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn parse(text: &str) -> Result<Config> {
    Config::parse(Path::new("/c.yaml"), text)
}

fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(Error::Config { problems }) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn databases_are_read_in_both_forms() {
    let flat = "postgresql_databases:\n    - name: users\n    - name: orders\n      hostname: db2\n      port: 5433\n      \
                username: u\n      password: p\n      format: tar\n      options: \"--role=someone 'a b'\"\n";
    let nested: String = flat.lines().map(|line| format!("    {line}\n")).collect();
    let config = load(flat);
    assert_eq!(config.databases, load(&format!("location:\nhooks:\n{nested}")).databases);
    let [users, orders] = config.databases.as_slice() else { panic!("{config:?}") };
    assert_eq!(users, &Database::new(EntryKind::Postgresql, "users"));
    assert_eq!(orders.source.hostname.as_deref(), Some("db2"));
    assert_eq!(orders.source.port, Some(5433));
    assert_eq!(orders.source.password.as_ref().map(Secret::expose), Some("p"));
    assert_eq!(orders.format, Some(DumpFormat::Tar));
    assert_eq!(orders.extra.dump, ["--role=someone", "a b"]);
}

#[test]
fn all_kinds_and_their_options_are_read() {
    let config = load(
        "mariadb_databases: [{name: all, skip_names: [test], tls: yes, events: false, mariadb_command: docker exec c mariadb}]\n\
         mongodb_databases: [{name: m, authentication_database: admin, restore_hostname: h2, restore_port: '27018'}]\n\
         sqlite_databases: [{name: s, path: /a.db, restore_path: /b.db}]\n\
         redis_databases: [{name: r, socket_path: /r.sock}]\n\
         dolt_databases: [{name: d, path: /dolt}]\n\
         command_dumps: [{name: ldap, dump: slapcat, restore: slapadd, end_marker: end, timeout: 30m}]\n",
    );
    let [mariadb, mongodb, sqlite, redis, dolt] = config.databases.as_slice() else { panic!("{config:?}") };
    assert_eq!((mariadb.skip_names.as_slice(), mariadb.source.tls), (&["test".to_owned()][..], Some(true)));
    assert!(mariadb.without_events && !mariadb.without_routines);
    assert_eq!(mariadb.programs.client, ["docker", "exec", "c", "mariadb"]);
    assert_eq!((mongodb.target.hostname.as_deref(), mongodb.target.port), (Some("h2"), Some(27018)));
    assert_eq!(mongodb.source.authentication_database.as_deref(), Some("admin"));
    assert_eq!(sqlite.restore_path.as_deref(), Some(Path::new("/b.db")));
    assert_eq!((redis.kind, dolt.kind), (EntryKind::Redis, EntryKind::Dolt));
    assert_eq!(config.command_dumps[0].timeout, Some(std::time::Duration::from_secs(1800)));
    assert!(config.has_sources());
}

#[test]
fn repositories_are_paths_or_keys() {
    let config = load("repositories:\n    - /a\n    - path: /b\n      label: other\n      key_file: /k\n");
    assert_eq!(config.repositories[0], RepositoryEntry { path: "/a".into(), ..Default::default() });
    assert_eq!(config.repositories[1].label.as_deref(), Some("other"));
    for (text, problem) in [
        ("repositories: [{path: ssh://u@h/./r}]", "/c.yaml:1:23: path is on another machine"),
        ("repositories: ['u@h:r.borg']", "is on another machine"),
        ("repositories: [r]", "path is not an absolute path"),
        ("repositories: [{label: x}]", "path is missing"),
        ("repositories: [/a, /a]", "there already"),
    ] {
        assert!(problems(text)[0].contains(problem), "{:?}", problems(text));
    }
}

#[test]
fn mistakes_are_all_told_with_their_places() {
    let all = problems(
        "keep_dayly: 1\npostgresql_databases:\n    - hostname: h\n      port: many\n      pasword: hunter2\n      container: c\n",
    );
    assert_eq!(all.len(), 5, "{all:#?}");
    assert_eq!(all[0], "/c.yaml:1:1: unknown key keep_dayly; keep_daily is the nearest one there is");
    let rest = all[1..].join("\n");
    for told in [
        "4:13: port is not a number",
        "5:7: unknown key pasword; password",
        "6:7: container can't be used",
        "3:7: name is missing",
    ] {
        assert!(rest.contains(told), "no {told} in {rest}");
    }
    assert!(!rest.contains("hunter2"), "{rest}");
}

#[test]
fn values_of_the_wrong_sort_are_told() {
    for (text, problem) in [
        ("keep_within: soon", "is not an age"),
        ("postgresql_databases: {name: x}", "is a list: each item begins with a dash"),
        ("postgresql_databases: users", "takes list of keys"),
        ("postgresql_databases: [{name: x, format: zip}]", "format is not one of custom"),
        ("mysql_databases: [{name: x, tls: maybe}]", "neither true nor false"),
        ("mysql_databases: [{name: x, options: \"'\"}]", "quote without its end"),
        ("sqlite_databases: [{name: x, path: a.db}]", "is not an absolute path"),
        ("commands: [{run: [x]}]", "one of before and after"),
        ("commands: [{before: action, states: [fail], run: [x]}]", "states are for"),
        ("keep_minutely: 5", "can't be used"),
        ("hooks: 5", "hooks is not a section"),
        ("- a", "keys and values"),
        ("postgresql_databases: [{name: x}, {name: x}]", "x is there already"),
    ] {
        assert!(problems(text).iter().any(|told| told.contains(problem)), "{text}: {:?}", problems(text));
    }
}

#[test]
fn hooks_are_read_in_both_forms() {
    let config = load(
        "before_backup: [echo 1]\nafter_backup:\n    - echo 2\non_error: echo 3\n\
         commands:\n    - before: action\n      when: [create, prune]\n      run: [a, b]\n    - after: error\n      run: c\n    \
         - after: repository\n      states: [fail]\n      run: [d]\n    - before: dump_data_sources\n      hooks: [postgresql]\n      run: [e]\n",
    );
    let [error, before, after, action, failed, repository, dumps] = config.hooks.as_slice() else {
        panic!("{:#?}", config.hooks)
    };
    assert_eq!(
        (error.scope, error.actions.len(), error.run.as_slice()),
        (Scope::Error, 4, &["echo 3".to_owned()][..])
    );
    assert_eq!(
        (before.when, before.scope, before.actions.as_slice()),
        (Moment::Before, Scope::Action, &["backup".to_owned()][..])
    );
    assert_eq!(after.states, [State::Finish]);
    assert_eq!((action.actions.join(" ").as_str(), action.run.len()), ("backup prune", 2));
    assert_eq!((failed.when, failed.scope), (Moment::After, Scope::Error));
    assert_eq!((repository.scope, repository.states.as_slice()), (Scope::Repository, &[State::Fail][..]));
    assert_eq!(
        (dumps.scope, dumps.concerns("backup"), dumps.concerns("prune")),
        (Scope::Action, true, false)
    );
}

#[test]
fn monitoring_is_read() {
    let config = load(
        "healthchecks: https://h/x\nntfy:\n    topic: t\n    priority_x: 1\n"
            .replace("    priority_x: 1\n", "    fail: {priority: 5}\n")
            .as_str(),
    );
    let monitoring = config.monitoring;
    let healthchecks = monitoring.healthchecks.unwrap();
    assert_eq!((healthchecks.ping_url.expose(), healthchecks.verify_tls), ("https://h/x", true));
    let ntfy = monitoring.ntfy.unwrap();
    assert_eq!((ntfy.server.as_str(), ntfy.states.as_slice()), ("https://ntfy.sh", &[Event::Fail][..]));
    assert_eq!(ntfy.fail.priority.as_deref(), Some("5"));
    let config =
        load("email: a@b\nprometheus: /x.prom\nwebhook: {url: https://w, secret: s, states: [fail, finish]}");
    assert_eq!(config.monitoring.email.unwrap().sendmail_command, ["sendmail", "-t", "-i"]);
    assert_eq!(config.monitoring.webhook.unwrap().states, [Event::Fail, Event::Finish]);
    assert_eq!(load("pushover: {token: x}").warnings.len(), 1);
}

#[test]
fn what_means_nothing_here_is_accepted_and_told() {
    let config = load(
        "location:\n    source_directories: []\n    repositories: [/r]\n    one_file_system: true\nstorage:\n    compression: lz4\n    \
         encryption_passcommand: pass x\nretention:\n    keep_within: 3H\n    prefix: a\nconsistency:\n    checks: [repository]\n    prefix: a\n",
    );
    assert_eq!(config.notes.len(), 3, "{:#?}", config.notes);
    assert!(config.notes.iter().any(|note| note.to_string().contains("compression has no effect")));
    assert_eq!(config.warnings, []);
    assert_eq!(config.passphrase_command.as_deref(), Some("pass x"));
    assert_eq!(config.keep_within.as_deref(), Some("3h"));
    assert!(config.directories.one_file_system && !config.has_sources());
    let config = load("exclude_nodump: false\nread_special: true");
    assert_eq!(config.warnings.len(), 1, "{:#?}", config.warnings);
}

#[test]
fn files_are_chosen_in_the_words_of_borgmatic() {
    let config = load(
        "source_directories: ['~/x', etc, '/srv/*']\nexclude_patterns: ['*.tmp', 're:[0-9]$']\npatterns: ['P fm', '+ /srv/a']\n\
         exclude_if_present: .nobackup\nexclude_caches: yes\nworking_directory: /w\nbtrfs:\nlvm:\n    snapshot_size: 5GB\n    lvcreate_command: sudo lvcreate\n",
    );
    assert_eq!((config.warnings.len(), config.notes.len(), config.has_sources()), (0, 0, true));
    let Directories { sources, exclude_if_present, working_directory, exclude_caches, .. } =
        &config.directories;
    assert_eq!((sources.len(), exclude_if_present.len(), *exclude_caches), (3, 1, true));
    assert_eq!(working_directory.as_deref(), Some(Path::new("/w")));
    assert_eq!(config.snapshots.btrfs, Some(BtrfsOptions::default()));
    let lvm = config.snapshots.lvm.clone().unwrap();
    assert_eq!((lvm.snapshot_size.as_str(), lvm.lvcreate.len(), lvm.lvs), ("5GB", 2, vec!["lvs".to_owned()]));
    assert!(config.snapshots.zfs.is_none());
    // What is shown says the same.
    assert_eq!(load(&config.show()).snapshots, config.snapshots, "{}", config.show());
    assert!(
        load("patterns: ['R /srv', '- *.tmp']").has_sources() && !load("patterns: ['- *.tmp']").has_sources()
    );
    let wrong = problems("exclude_patterns: ['re:(']\npatterns: ['x']\nsource_directories: {a: b}");
    assert_eq!(wrong.len(), 3, "{wrong:#?}");
}

#[test]
fn what_is_not_there_stops_only_what_needs_it() {
    let config =
        load("repositories: [/r]\npostgresql_databases: [{name: x, password: '${NONE}', port: '${NONE}'}]");
    assert_eq!(config.databases[0].source.password, None);
    assert_eq!(config.unresolved.len(), 2);
    assert!(config.check_resolved().is_err());
}

#[test]
fn secrets_are_shown_nowhere() {
    let text = "encryption_passphrase: hunter2\nconstants: {p: hunter2}\npostgresql_databases:\n    - name: x\n      port: 5433\n      \
                password: hunter2\n      options: --password=hunter2 --uri=a://u:hunter2@h\n      restore_password: '{p}'\n\
                mariadb_databases: [{name: y, restore_options: '--x {p}'}]\n\
                healthchecks: https://h/hunter2\nwebhook: {url: https://w/hunter2, secret: hunter2}\nntfy: {topic: t, access_token: hunter2}\n\
                on_error: ['curl http://u:hunter2@h']\n";
    let config = load(text);
    let (yaml, json) = (config.show(), config.show_json().to_string());
    assert!(!yaml.contains("hunter2") && !json.contains("hunter2"), "{yaml}");
    assert!(yaml.contains("      port: 5433\n") && yaml.contains("password: \"***\""), "{yaml}");
    // What is shown is YAML again.
    assert_eq!(load(&yaml).databases.len(), 2, "{yaml}");
    let error = problems(&text.replace("port: 5433", "port: hunter2x"))[0].clone();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_file_with_a_secret_is_its_owners_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    fs::write(&path, "encryption_passphrase: x\nntfy: {topic: t, password: y}\n").unwrap();
    for (mode, warnings) in [(0o600, 0), (0o644, 1)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Config::load(&path).unwrap().warnings.len(), warnings);
    }
    fs::write(&path, "encryption_passphrase: ${HOME}\n").unwrap();
    assert_eq!(Config::load(&path).unwrap().warnings, []);
    assert!(matches!(Config::load(Path::new("/nonexistent/c.yaml")), Err(Error::File { .. })));
}

#[test]
fn an_import_keeps_what_it_can_and_tells_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("borgmatic.yaml");
    let text = "location:\n    source_directories: [/home]\n    repositories: [user@host:r.borg]\nstorage:\n    compression: lz4\nhooks:\n    \
                postgresql_databases:\n        - name: users\n          password: ${PW}\n          port: ${PORT:-5433}\n    on_error: ['echo \"{error}\"']\n";
    fs::write(&path, text).unwrap();
    let import = import(&path, None).unwrap();
    assert_eq!(
        import.taken,
        ["source_directories (1)", "repositories (1)", "postgresql_databases (1)", "on_error (1)"]
    );
    assert_eq!(import.without_meaning.len(), 1);
    assert_eq!(import.to_decide.len(), 2, "{:#?}", import.to_decide);
    assert!(
        import.text.contains("password: \"${PW}\"") && !import.text.contains("compression"),
        "{}",
        import.text
    );
    let config = load(&import.text.replace("user@host:r.borg", "/r"));
    assert_eq!(config.hooks[0].run, ["echo \"{error}\""]);
}

#[test]
fn the_schema_knows_every_key() {
    let schema = schema();
    let properties = schema["properties"].as_object().unwrap();
    assert!(
        properties["keep_daily"]["description"].as_str().unwrap().contains("Default: 0; 7 without any rule")
    );
    assert!(properties.contains_key("hooks") && !properties.contains_key("keep_minutely"));
    let database = &properties["postgresql_databases"]["items"];
    assert_eq!(database["required"], serde_json::json!(["name"]));
    assert!(database["properties"]["password"]["writeOnly"].as_bool().unwrap());
}

/// Pieces that files are made of, and that are easily put in the wrong place.
const PIECES: &str = "[a-z{}$\\\\:*&!|>'\"#,\\-\\[\\]?~% \n0-9é]{0,12}";

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(4000))]

    /// Whatever stands in a file, it is read or refused, and what is shown of it can be read again.
    #[test]
    fn no_text_is_too_odd(at in 0..EXAMPLE.len(), length in 0..60usize, piece in PIECES, odd in "\\PC{0,40}", whole in proptest::bool::ANY) {
        let text = if whole {
            odd.replace('_', &piece)
        } else {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            bytes.splice(at..(at + length).min(EXAMPLE.len()), piece.bytes());
            String::from_utf8_lossy(&bytes).into_owned()
        };
        match parse(&text) {
            Ok(config) => {
                let shown = config.show();
                let again = load(&shown);
                proptest::prop_assert_eq!(&again.databases, &config.databases, "{}", shown);
                proptest::prop_assert_eq!(&again.hooks, &config.hooks, "{}", shown);
            }
            Err(Error::Config { problems }) => proptest::prop_assert!(!problems.is_empty()),
            Err(other) => panic!("{other}"),
        }
    }
}
