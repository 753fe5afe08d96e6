//! What to back up, in the order it is given: a `--name` belongs to the source before it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, Error, value_parser};
use dbvault_format::entry::EntryKind;
use dbvault_jobs::registry::SourceSpec;

/// The sources of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources(pub(crate) Vec<SourceSpec>);

impl clap::Args for Sources {
    fn augment_args(command: Command) -> Command {
        let each = |id: &'static str| Arg::new(id).long(id).action(ArgAction::Append);
        command.next_help_heading("Sources").args([
            each("postgres").value_name("DB").help("A PostgreSQL database: name, connection string or URI"),
            each("mariadb").value_name("DB").help("A MariaDB database, its address, or all"),
            each("mysql").value_name("DB").help("A MySQL database, its address, or all"),
            each("mongodb").value_name("DB").help("A MongoDB database, its address, or all"),
            each("redis").value_name("NAME").help("All data of a Redis or Valkey server: address or a name"),
            each("dolt").value_name("DB").help("A Dolt or Doltgres database, its address, or all"),
            each("sqlite")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A SQLite database file"),
            each("command").value_name("CMD").requires("name").help("What a command writes; needs --name"),
            Arg::new("stdin")
                .long("stdin")
                .action(ArgAction::SetTrue)
                .requires("name")
                .help("What is piped in; needs --name"),
            each("name").value_name("NAME").help("Name of the entry made from the source before it"),
        ])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Sources::augment_args(command)
    }
}

impl clap::FromArgMatches for Sources {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Sources, Error> {
        resolve(given(matches)).map(Sources).map_err(|message| {
            let mut command = Command::new("dbvault backup").about("");
            command.error(ErrorKind::ArgumentConflict, message)
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Sources::from_arg_matches(matches)?;
        Ok(())
    }
}

/// One option as given.
#[derive(Clone, Debug)]
enum Given {
    Postgres(String),
    Server(EntryKind, String),
    Sqlite(PathBuf),
    Command(String),
    Stdin,
    Name(String),
}

/// All options by their place on the command line.
fn given(matches: &ArgMatches) -> Vec<Given> {
    let mut by_place = BTreeMap::new();
    let mut texts = |id: &str, make: fn(String) -> Given| {
        let values = matches.get_many::<String>(id).into_iter().flatten();
        by_place.extend(matches.indices_of(id).into_iter().flatten().zip(values.cloned().map(make)));
    };
    texts("postgres", Given::Postgres);
    texts("mariadb", |text| Given::Server(EntryKind::Mariadb, text));
    texts("mysql", |text| Given::Server(EntryKind::Mysql, text));
    texts("mongodb", |text| Given::Server(EntryKind::Mongodb, text));
    texts("redis", |text| Given::Server(EntryKind::Redis, text));
    texts("dolt", |text| Given::Server(EntryKind::Dolt, text));
    texts("command", Given::Command);
    texts("name", Given::Name);
    let paths = matches.get_many::<PathBuf>("sqlite").into_iter().flatten();
    by_place
        .extend(matches.indices_of("sqlite").into_iter().flatten().zip(paths.cloned().map(Given::Sqlite)));
    if matches.get_flag("stdin") {
        by_place.extend(matches.index_of("stdin").map(|place| (place, Given::Stdin)));
    }
    by_place.into_values().collect()
}

fn resolve(given: Vec<Given>) -> Result<Vec<SourceSpec>, String> {
    let sources = given.iter().filter(|given| !matches!(given, Given::Name(_))).count();
    let mut specs: Vec<(Given, Option<String>)> = Vec::new();
    let mut early = None;
    for item in given {
        match item {
            Given::Name(name) => match specs.last_mut() {
                Some((_, taken)) if taken.is_none() => *taken = Some(name),
                // With a single source there is no doubt which one is meant.
                None if sources == 1 && early.is_none() => early = Some(name),
                _ => return Err(format!("--name {name} does not follow a source that has no name yet")),
            },
            source => specs.push((source, early.take())),
        }
    }
    specs.into_iter().map(|(source, name)| spec(source, name)).collect()
}

fn spec(source: Given, name: Option<String>) -> Result<SourceSpec, String> {
    let needed = |option: &str| format!("{option} needs a --name behind it");
    Ok(match source {
        Given::Postgres(database) => SourceSpec::Postgres { database, name },
        Given::Server(kind, address) => SourceSpec::Server { kind, address, name },
        Given::Sqlite(path) => SourceSpec::Sqlite { path, name },
        Given::Command(command) => SourceSpec::Command { command, name: name.ok_or(needed("--command"))? },
        Given::Stdin => SourceSpec::Stdin { name: name.ok_or(needed("--stdin"))? },
        Given::Name(name) => return Err(format!("--name {name} does not follow a source")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    fn parse(words: &str) -> Result<Vec<SourceSpec>, String> {
        let words = ["dbvault", "backup"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            crate::args::Command::Backup(backup) => Ok(backup.sources.0),
            other => Err(format!("{other:?}")),
        }
    }

    fn command(command: &str, name: &str) -> SourceSpec {
        SourceSpec::Command { command: command.into(), name: name.into() }
    }

    fn postgres(database: &str, name: Option<&str>) -> SourceSpec {
        SourceSpec::Postgres { database: database.into(), name: name.map(str::to_owned) }
    }

    #[test]
    fn sources_keep_their_order_and_names() {
        let all =
            parse("--command c1 --name n1 --postgres a --stdin --name n2 --postgres b --name n3 --sqlite f");
        let stdin = SourceSpec::Stdin { name: "n2".into() };
        let sqlite = SourceSpec::Sqlite { path: "f".into(), name: None };
        let want = vec![command("c1", "n1"), postgres("a", None), stdin, postgres("b", Some("n3")), sqlite];
        assert_eq!(all.unwrap(), want);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn servers_are_named_by_their_kind() {
        let server = |kind, address: &str, name: Option<&str>| SourceSpec::Server {
            kind,
            address: address.into(),
            name: name.map(str::to_owned),
        };
        assert_eq!(
            parse("--mariadb shop --mysql mysql://u@h/x --name y").unwrap(),
            [server(EntryKind::Mariadb, "shop", None), server(EntryKind::Mysql, "mysql://u@h/x", Some("y"))]
        );
    }

    #[test]
    fn a_name_may_go_before_an_only_source() {
        assert_eq!(parse("--name n --stdin").unwrap(), [SourceSpec::Stdin { name: "n".into() }]);
        assert!(parse("--name n --command a --command b --name m").is_err());
    }

    #[test]
    fn names_without_source_and_sources_without_name_are_refused() {
        for bad in [
            "--name n",
            "--stdin",
            "--command c",
            "--command c --name a --name b",
            "--command c --command d --name n",
            "--stdin --command d --name n",
            "--stdin --name a --stdin --name b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
