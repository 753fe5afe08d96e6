//! Configurations: those of borgmatic's users load as they stand, the schema and the reference agree with the loader,
//! secrets are shown nowhere, and a backup does what its file asks.
#![allow(clippy::unwrap_used, reason = "a test: its helpers may panic")]

mod cli_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cli_support::{Home, run, sqlite_rows};
use dbvault_jobs::config::{self, Config};
use serde_json::Value;

use dbvault_testkit::package::package_dir;

fn folder() -> PathBuf {
    package_dir().join("tests/config")
}

fn fixtures() -> Vec<PathBuf> {
    let yaml = |folder: PathBuf| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect::<Vec<_>>()
    };
    let mut all = [yaml(folder()), yaml(folder().join("borgmatic"))].concat();
    all.sort();
    all
}

#[test]
fn every_example_loads_as_it_stands() {
    let all = fixtures();
    assert!(all.len() >= 15, "{all:?}");
    for path in all {
        let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(config.has_sources(), "{}", path.display());
        let shown = config.show();
        let again = Config::parse(Path::new("/shown.yaml"), &shown)
            .unwrap_or_else(|error| panic!("{error}\n{shown}"));
        assert_eq!(again.databases.len(), config.databases.len(), "{shown}");
        assert!(!shown.contains("correct-horse"), "{shown}");
    }
}

#[test]
fn included_files_are_joined() {
    let config = Config::load(&folder().join("including.yaml")).unwrap();
    let names: Vec<&str> = config.databases.iter().map(|database| database.name.as_str()).collect();
    assert_eq!((names, config.keep_daily, config.keep_weekly), (vec!["shop", "letters"], Some(14), Some(4)));
    assert_eq!(config.repositories[0].path, Path::new("/backup/own"));
    assert_eq!((config.repositories.len(), config.hooks.len(), config.files.len()), (1, 1, 3));
}

/// The part of JSON Schema that the schema uses.
fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(value, root.pointer(reference.trim_start_matches('#')).unwrap(), root);
    }
    let named = |name: &str| match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    let type_fits = match &schema["type"] {
        Value::String(name) => named(name),
        Value::Array(names) => names.iter().any(|name| named(name.as_str().unwrap())),
        _ => true,
    };
    let any = schema["anyOf"].as_array().is_none_or(|any| any.iter().any(|one| fits(value, one, root)));
    let listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let items = value.as_array().zip(schema.get("items"));
    let items_fit = items.is_none_or(|(items, each)| items.iter().all(|item| fits(item, each, root)));
    let number_fits =
        value.as_u64().is_none_or(|number| schema["maximum"].as_u64().is_none_or(|max| number <= max));
    let text = value.as_str().zip(schema["pattern"].as_str());
    let pattern_fits = text.is_none_or(|(text, pattern)| matches(text, pattern));
    type_fits && pattern_fits && any && listed && items_fit && number_fits && fields_fit(value, schema, root)
}

/// The patterns that the schema has: words, digits, or something in braces.
fn matches(text: &str, pattern: &str) -> bool {
    let words = pattern.trim_start_matches("^(").split(")$").next().unwrap_or_default();
    let digits = pattern.starts_with("^[0-9]+$") && text.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('{') || digits || words.split('|').any(|word| word.trim_start_matches("[Tt]") == text)
}

fn fields_fit(value: &Value, schema: &Value, root: &Value) -> bool {
    let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else {
        return true;
    };
    let required = schema["required"].as_array().into_iter().flatten();
    required.into_iter().all(|name| fields.contains_key(name.as_str().unwrap()))
        && fields
            .iter()
            .all(|(name, value)| properties.get(name).is_some_and(|schema| fits(value, schema, root)))
}

#[test]
fn what_loads_fits_the_schema_and_what_does_not_load_does_not() {
    let home = Home::new();
    let schema = home.json(["config", "schema"]);
    for path in fixtures() {
        let shown = home.json(["config", "show", "--json", "--config", path.to_str().unwrap()]);
        let config = &shown["configurations"][0]["configuration"];
        assert!(config.as_object().is_some_and(|map| !map.is_empty()), "{shown}");
        assert!(fits(config, &schema, &schema), "{}: {config:#}", path.display());
    }
    for wrong in [
        r#"{"postgresql_databases": [{"hostname": "h"}]}"#,
        r#"{"postgresql_databases": [{"name": "x", "port": 70000}]}"#,
        r#"{"postgresql_databases": {"name": "x"}}"#,
        r#"{"postgresql_databases": [{"name": "x", "container": "c"}]}"#,
        r#"{"commands": [{"before": "error", "run": ["x"]}]}"#,
        r#"{"hooks": {"x": 1}}"#,
        r#"{"keep_dayly": 1}"#,
    ] {
        assert!(!fits(&serde_json::from_str(wrong).unwrap(), &schema, &schema), "{wrong}");
        // JSON is YAML.
        assert!(Config::parse(Path::new("/c"), wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_reference_tells_every_key() {
    const BEGIN: &str = "<!-- keys -->\n";
    const END: &str = "<!-- end of keys -->\n";
    let path = package_dir().join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (told, tail) = rest.split_once(END).unwrap();
    let want = reference::all();
    if std::env::var_os("DBVAULT_BLESS").is_some() {
        fs::write(&path, format!("{head}{BEGIN}{want}{END}{tail}")).unwrap();
    } else {
        assert_eq!(told, want, "DBVAULT_BLESS=1 writes the tables anew");
    }
}

/// The tables of `docs/configuration.md`.
mod reference {
    use std::fmt::Write;

    use super::config::keys::{Effect, Groups, Key, Kind, ROOT};

    pub(crate) fn all() -> String {
        let mut text = String::from("\n");
        table(&mut text, "Highest level", ROOT);
        nested(&mut text, "", ROOT);
        for (effect, heading) in [
            (Effect::Missing, "Accepted, but not done: told at each backup"),
            (Effect::Refused, "Refused, and what to write instead"),
            (Effect::None, "Accepted without effect, and why"),
        ] {
            let _ = write!(text, "### {heading}\n\n| key | why |\n| --- | --- |\n");
            others(&mut text, "", ROOT, effect);
            text.push('\n');
        }
        text
    }

    fn keys(groups: Groups) -> impl Iterator<Item = &'static Key> {
        groups.iter().flat_map(|group| group.iter())
    }

    fn below(key: &Key) -> Option<Groups> {
        match key.kind {
            Kind::Map(groups, _) | Kind::Maps(groups, _) => Some(groups),
            _ => None,
        }
    }

    fn table(text: &mut String, heading: &str, groups: Groups) {
        let _ =
            write!(text, "### {heading}\n\n| key | takes | default | meaning |\n| --- | --- | --- | --- |\n");
        for key in keys(groups).filter(|key| key.effect == Effect::Yes) {
            let default = if key.required { "must be given" } else { key.default };
            let Key { name, meaning, .. } = key;
            let _ = writeln!(text, "| `{name}` | {} | {default} | {meaning} |", key.kind.words());
        }
        text.push('\n');
    }

    fn nested(text: &mut String, path: &str, groups: Groups) {
        for key in keys(groups) {
            let Some(inner) = below(key) else { continue };
            let path = format!("{path}{}", key.name);
            table(text, &format!("`{path}`"), inner);
            nested(text, &format!("{path}."), inner);
        }
    }

    fn others(text: &mut String, path: &str, groups: Groups, effect: Effect) {
        for key in keys(groups) {
            if key.effect == effect {
                let _ = writeln!(text, "| `{path}{}` | {} |", key.name, key.meaning);
            }
            if let Some(inner) = below(key) {
                others(text, &format!("{path}{}.", key.name), inner, effect);
            }
        }
    }
}

/// A user whose configuration names two repositories, a database and a command.
fn configured() -> Home {
    let home = Home::new();
    home.make_sqlite("app.db", 50);
    for repo in ["one", "two"] {
        home.ok(["init", repo, "--key-file", "key"]);
    }
    let at = |name: &str| home.path(name).display().to_string();
    let text = format!(
        "repositories:\n    - path: {}\n      label: first\n    - path: {}\nkey_file: {}\nsqlite_databases:\n    - name: app\n      \
         path: {}\ncommand_dumps:\n    - name: numbers\n      dump: seq 100\narchive_name_format: 'night-{{user}}'\n",
        at("one"),
        at("two"),
        at("key"),
        at("app.db")
    );
    fs::write(home.path("config/dbvault/config.yaml"), text).unwrap();
    home
}

#[test]
fn a_backup_without_arguments_does_what_the_file_asks() {
    let home = configured();
    home.ok(["backup"]);
    for repo in ["first", home.path("two").to_str().unwrap()] {
        let shown = home.json(["show", "night-tester", "--json", "--repository", repo]);
        let entries = shown["entries"].as_array().unwrap();
        let names: Vec<&str> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0] == "app" && names[1] == "numbers" && names[2].ends_with("config.yaml"), "{names:?}");
    }
    let error = home.fails(["list"], 3, "2 repositories are configured");
    assert!(error.stderr.contains("--repository: first, "), "{error:#?}");
    // The file comes back as it was, and the database with it.
    let file = home.path("config/dbvault/config.yaml");
    let text = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let repo = ["--repo", "one", "--key-file", "key"];
    home.ok([&["extract", "--archive", "latest", "--entry", "config.yaml", "--output", "back"][..], &repo]
        .concat());
    assert_eq!(fs::read(home.path("back")).unwrap(), text);
    fs::remove_file(home.path("app.db")).unwrap();
    home.ok([&["restore", "--archive", "latest", "--database", "app", "--yes"][..], &repo].concat());
    assert_eq!(sqlite_rows(&home.path("app.db")), 50);
}

#[test]
fn a_repository_that_is_gone_does_not_stop_the_other() {
    let home = configured();
    fs::rename(home.path("one"), home.path("away")).unwrap();
    home.fails(["backup"], 3, "no repository at");
    assert_eq!(home.json(["list", "--repo", "two", "--json"])["archives"].as_array().unwrap().len(), 1);
}

#[test]
fn prunes_and_checks_go_through_all_repositories() {
    let home = configured();
    home.ok(["backup"]);
    home.ok(["backup", "--archive", "second"]);
    home.ok(["prune", "--keep-last", "1"]);
    let count = |repo: &str| {
        let list = home.json(["list", "--repo", repo, "--key-file", "key", "--json"]);
        list["archives"].as_array().unwrap().len()
    };
    assert_eq!((count("one"), count("two")), (1, 1));
    home.ok(["compact"]);
    let both = home.run(["check"]);
    assert_eq!((both.code, both.stdout.matches("no damage found").count()), (0, 2), "{both:#?}");
    assert_eq!(home.ok(["check", "--repo", "two"]).matches("no damage found").count(), 1);
    // One that is gone does not stop the others, whichever it is.
    for gone in ["one", "two"] {
        fs::rename(home.path(gone), home.path("away")).unwrap();
        let check = home.run(["check"]);
        assert_eq!((check.code, check.stdout.matches("no damage found").count()), (3, 1), "{check:#?}");
        assert_eq!(home.run(["check", "--no-key"]).code, 3);
        fs::rename(home.path("away"), home.path(gone)).unwrap();
    }
}

#[test]
fn several_files_are_done_one_after_the_other() {
    let home = configured();
    fs::create_dir(home.path("config/dbvault.d")).unwrap();
    let other = format!(
        "repositories: ['{}']\nkey_file: {}\ncommand_dumps: [{{name: letters, dump: echo abc}}]\n",
        home.path("two").display(),
        home.path("key").display()
    );
    fs::write(home.path("config/dbvault.d/letters.yaml"), other).unwrap();
    home.ok(["backup"]);
    let count = |repo: &str| {
        let list = home.json(["list", "--repo", repo, "--key-file", "key", "--json"]);
        list["archives"].as_array().unwrap().len()
    };
    assert_eq!((count("one"), count("two")), (1, 2));
    // Only the files that are named.
    let path = home.path("config/dbvault.d/letters.yaml");
    home.ok(["backup", "--config", path.to_str().unwrap()]);
    assert_eq!(run(home.command().arg("backup").env("DBVAULT_CONFIG", &path)).code, 0);
    assert_eq!((count("one"), count("two")), (1, 4));
    // Another repository than those of the file.
    home.ok(["init", "three", "--key-file", "key"]);
    home.ok(["backup", "--config", path.to_str().unwrap(), "--repo", "three", "--key-file", "key"]);
    assert_eq!(count("three"), 1);
}

#[test]
fn what_the_environment_lacks_stops_a_backup_and_nothing_else() {
    let home = configured();
    let file = home.path("config/dbvault/config.yaml");
    let text =
        fs::read_to_string(&file).unwrap() + "postgresql_databases: [{name: x, password: '${NOT_THERE}'}]\n";
    fs::write(&file, text).unwrap();
    home.ok(["list", "--repo", "first"]);
    home.fails(["backup"], 22, "the environment has no NOT_THERE");
    home.fails(["config", "validate"], 22, "1 mistake in the configuration");
}

#[test]
fn generate_validate_and_show() {
    let home = Home::new();
    home.ok(["config", "generate"]);
    let file = home.path("config/dbvault/config.yaml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    home.fails(["config", "generate"], 6, "there is a file already");
    assert!(home.ok(["config", "validate"]).ends_with("config.yaml: good\n"));
    assert_eq!(home.ok(["config", "generate", "--destination", "-"]), fs::read_to_string(&file).unwrap());
    let other = Home::with_repository();
    other.ok(["config", "generate"]);
    let config = fs::read_to_string(other.path("config/dbvault/config.yaml")).unwrap();
    assert!(
        config.contains(other.path("repo").to_str().unwrap()) && config.contains("\n#key_file"),
        "{config}"
    );
    other.ok(["list"]);
    let wrong =
        "keep_dayly: 7\nntfy:\n    topic: t\n    password: hunter2\ncompression: lz4\npushover: {token: x}\n";
    fs::write(&file, wrong).unwrap();
    let told = home.fails(["config", "validate"], 22, "1 mistake in the configuration");
    assert!(
        told.stdout.contains("config.yaml:1:1: error: unknown key keep_dayly; keep_daily is"),
        "{told:#?}"
    );
    fs::write(&file, wrong.replace("dayly", "daily")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let told = home.ok(["config", "validate"]);
    for part in ["6:1: warning: pushover is not done", "others than its owner may read", "note: compression"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let document = home.json(["config", "validate", "--json"]);
    assert_eq!(document["files"][0]["notes"][0]["line"], 5);
    let shown = home.ok(["config", "show"]) + &home.ok(["config", "show", "--json"]);
    assert!(shown.contains("topic: t") && !shown.contains("hunter2") && !shown.contains("lz4"), "{shown}");
    for args in [&["list"][..], &["backup", "-vv"], &["backup", "--stdin", "--name", "x"]] {
        let run = home.run(args);
        assert!(run.code != 0 && !(run.stdout + &run.stderr).contains("hunter2"), "{args:?}");
    }
}

#[test]
fn a_configuration_of_borgmatic_is_taken_over() {
    let home = Home::new();
    let source = folder().join("borgmatic/nested_full.yaml");
    let imported = run(home.command().args(["config", "import-borgmatic", "--source"]).arg(&source));
    assert_eq!(imported.code, 0, "{imported:#?}");
    for part in
        ["postgresql_databases (1)", "compression has no effect", "source_directories (1)", "make others"]
    {
        assert!(imported.stderr.contains(part), "{part}: {imported:#?}");
    }
    let (old, new) =
        (Config::load(&source).unwrap(), Config::load(&home.path("config/dbvault/config.yaml")).unwrap());
    assert_eq!((old.databases, old.hooks, old.monitoring), (new.databases, new.hooks, new.monitoring));
    assert_eq!((old.keep_within, old.keep_hourly, new.notes.len()), (new.keep_within, new.keep_hourly, 0));
    home.fails(
        ["config", "import-borgmatic", "--source", source.to_str().unwrap()],
        6,
        "there is a file already",
    );
}

/// A user with a repository that the passphrase "open sesame" opens.
fn home_with_passphrase() -> Home {
    let home = Home::new();
    let init = run(home.command().args(["init", "repo"]).env("DBVAULT_PASSPHRASE", "open sesame"));
    assert_eq!(init.code, 0, "{init:#?}");
    home
}

#[test]
fn a_configuration_of_borgmatic_goes_on_from_the_file_of_init() {
    let home = home_with_passphrase();
    let source = home.path("borgmatic.yaml");
    let text = "repositories:\n    - path: /mnt/borg\nencryption_passcommand: cat /secret\nkeep_daily: 3\n";
    fs::write(&source, text).unwrap();
    let imported = home.run(["config", "import-borgmatic", "--source", source.to_str().unwrap()]);
    assert_eq!(imported.code, 0, "{imported:#?}");
    assert!(
        imported.stderr.contains("borgmatic.yaml:3:25: this is for the repository of Borg"),
        "{imported:#?}"
    );
    assert!(!imported.stderr.contains("make others"), "{imported:#?}");
    let config = Config::load(&home.path("config/dbvault/config.yaml")).unwrap();
    let repositories: Vec<&Path> = config.repositories.iter().map(|one| one.path.as_path()).collect();
    assert_eq!((repositories, config.keep_daily), (vec![home.path("repo").as_path()], Some(3)));
}

#[test]
fn the_passphrase_may_stand_in_the_configuration() {
    let home = home_with_passphrase();
    let file = home.path("config/dbvault/config.yaml");
    let text = fs::read_to_string(&file).unwrap();
    for (line, code) in [
        ("encryption_passphrase: open sesame\n", 0),
        ("encryption_passcommand: echo open sesame\n", 0),
        ("encryption_passphrase: hunter2\n", 7),
    ] {
        fs::write(&file, format!("{text}{line}")).unwrap();
        let list = home.run(["list"]);
        assert_eq!(list.code, code, "{list:#?}");
        assert!(!list.stderr.contains("hunter2"));
    }
}
