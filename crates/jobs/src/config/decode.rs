//! From a tree that was found good to typed values.

use std::path::PathBuf;

use dbvault_files::Patterns;
use dbvault_format::entry::EntryKind;
use dbvault_source::{BtrfsOptions, LvmOptions, Secret, SnapshotOptions, ZfsOptions};

use super::directories::Directories;
use super::hooks::{CommandHook, Moment, Scope, State};
use super::interpolate::expand_home;
use super::monitoring::{Email, Event, Healthchecks, Monitoring, Ntfy, NtfyMessage, Prometheus, Webhook};
use super::yaml::{Node, Problem};
use super::{Config, RepositoryEntry, check};
use crate::database::{CommandDump, Connection, Database, DumpFormat, ExtraOptions, Programs, Ssl};

/// Actions after whose failure `on_error` runs.
const ERROR_ACTIONS: [&str; 4] = ["backup", "prune", "compact", "check"];
const PING_BODY_LIMIT_BYTES: usize = 100_000;
const NTFY_SERVER: &str = "https://ntfy.sh";
const SENDMAIL: [&str; 3] = ["sendmail", "-t", "-i"];

/// The values of a map. What was not resolved counts as not given.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Node);

impl<'a> Fields<'a> {
    fn text(self, name: &str) -> Option<String> {
        let scalar = self.0.get(name)?.as_scalar().filter(|scalar| !scalar.unresolved)?;
        Some(scalar.text.clone())
    }

    fn secret(self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    fn number<T: std::str::FromStr>(self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    fn flag(self, name: &str) -> Option<bool> {
        check::flag(&self.text(name)?)
    }

    fn path(self, name: &str) -> Option<PathBuf> {
        self.text(name).map(|text| expand_home(&text))
    }

    fn words(self, name: &str) -> Vec<String> {
        self.text(name).and_then(|text| shlex::split(&text)).unwrap_or_default()
    }

    fn items(self, name: &str) -> &'a [Node] {
        self.0.get(name).map(Node::items).unwrap_or_default()
    }

    fn texts(self, name: &str) -> Vec<String> {
        let scalars = self.items(name).iter().filter_map(Node::as_scalar);
        scalars.filter(|scalar| !scalar.unresolved).map(|scalar| scalar.text.clone()).collect()
    }

    /// The map under `name`; a text alone is the value of `short` in it.
    fn map(self, name: &str, short: &str) -> Option<Node> {
        self.0.get(name).map(|node| expand(node, short))
    }
}

fn expand(node: &Node, short: &str) -> Node {
    if !node.fields().is_empty() {
        return node.clone();
    }
    let field = super::yaml::Field { at: node.at.clone(), name: short.to_owned(), value: node.clone() };
    Node::map(node.at.clone(), vec![field])
}

/// Reads all of it. `problems` gets what only shows now.
pub(super) fn config(root: &Node, problems: &mut Vec<Problem>) -> Config {
    let fields = Fields(root);
    Config {
        repositories: repositories(fields, problems),
        key_file: fields.path("key_file"),
        passphrase_command: fields
            .text("passphrase_command")
            .or_else(|| fields.text("encryption_passcommand")),
        passphrase: fields.secret("encryption_passphrase"),
        archive_name_format: fields.text("archive_name_format"),
        directories: directories(fields, problems),
        snapshots: snapshots(fields),
        keep_last: fields.number("keep_last").or_else(|| fields.number("keep")),
        keep_hourly: fields.number("keep_hourly"),
        keep_daily: fields.number("keep_daily"),
        keep_weekly: fields.number("keep_weekly"),
        keep_monthly: fields.number("keep_monthly"),
        keep_yearly: fields.number("keep_yearly"),
        keep_within: fields.text("keep_within").and_then(|text| check::age(&text)),
        keep_tags: fields.texts("keep_tags"),
        keep_deleted_days: fields.number("keep_deleted_days"),
        databases: databases(fields, problems),
        command_dumps: fields.items("command_dumps").iter().map(|item| command_dump(Fields(item))).collect(),
        hooks: hooks(fields, problems),
        monitoring: monitoring(fields),
        ..Config::default()
    }
}

fn repositories(fields: Fields<'_>, problems: &mut Vec<Problem>) -> Vec<RepositoryEntry> {
    let mut entries: Vec<RepositoryEntry> = Vec::new();
    for item in fields.items("repositories") {
        let item = expand(item, "path");
        let fields = Fields(&item);
        let Some(path) = fields.path("path") else { continue };
        let entry = RepositoryEntry {
            path,
            label: fields.text("label"),
            key_file: fields.path("key_file"),
            passphrase_command: fields.text("passphrase_command"),
        };
        let twice = entries
            .iter()
            .any(|other| other.path == entry.path || other.label.is_some() && other.label == entry.label);
        if twice {
            problems.push(Problem::new(&item.at, "a repository of this path or label is there already"));
        }
        entries.push(entry);
    }
    entries
}

fn directories(fields: Fields<'_>, problems: &mut Vec<Problem>) -> Directories {
    type Try = fn(&mut Patterns, &str) -> dbvault_files::Result<()>;
    for (key, read) in [("patterns", Patterns::pattern as Try), ("exclude_patterns", Patterns::exclude)] {
        for item in fields.items(key) {
            let given = item.as_scalar().filter(|scalar| !scalar.unresolved);
            let read = given.map_or(Ok(()), |scalar| read(&mut Patterns::new(), &scalar.text));
            if let Err(dbvault_files::Error::Pattern { why, .. }) = read {
                problems.push(Problem::new(&item.at, format!("{key} has a bad pattern: {why}")));
            }
        }
    }
    Directories {
        sources: fields.texts("source_directories"),
        must_exist: fields.flag("source_directories_must_exist").unwrap_or(false),
        working_directory: fields.path("working_directory"),
        patterns: fields.texts("patterns"),
        patterns_from: fields.texts("patterns_from"),
        exclude_patterns: fields.texts("exclude_patterns"),
        exclude_from: fields.texts("exclude_from"),
        exclude_caches: fields.flag("exclude_caches").unwrap_or(false),
        exclude_if_present: fields.texts("exclude_if_present"),
        one_file_system: fields.flag("one_file_system").unwrap_or(false),
    }
}

/// Which snapshots are asked for: it is enough that a key is there.
fn snapshots(fields: Fields<'_>) -> SnapshotOptions {
    let there = |name: &str| {
        let field = fields.0.fields().iter().find(|field| field.name == name)?;
        Some(Fields(&field.value))
    };
    let put = |of: Fields<'_>, name: &str, command: &mut Vec<String>| {
        let words = of.words(name);
        if !words.is_empty() {
            *command = words;
        }
    };
    let btrfs = there("btrfs").map(|of| {
        let mut options = BtrfsOptions::default();
        put(of, "btrfs_command", &mut options.command);
        options
    });
    let zfs = there("zfs").map(|of| {
        let mut options = ZfsOptions::default();
        put(of, "zfs_command", &mut options.zfs);
        put(of, "mount_command", &mut options.mount);
        put(of, "umount_command", &mut options.umount);
        options
    });
    let lvm = there("lvm").map(|of| {
        let mut options = LvmOptions::default();
        options.snapshot_size = of.text("snapshot_size").unwrap_or(options.snapshot_size);
        put(of, "lvcreate_command", &mut options.lvcreate);
        put(of, "lvremove_command", &mut options.lvremove);
        put(of, "lvs_command", &mut options.lvs);
        put(of, "mount_command", &mut options.mount);
        put(of, "umount_command", &mut options.umount);
        options
    });
    SnapshotOptions { btrfs, zfs, lvm, where_possible: false }
}

fn databases(fields: Fields<'_>, problems: &mut Vec<Problem>) -> Vec<Database> {
    let kinds = [
        ("postgresql_databases", EntryKind::Postgresql),
        ("mariadb_databases", EntryKind::Mariadb),
        ("mysql_databases", EntryKind::Mysql),
        ("mongodb_databases", EntryKind::Mongodb),
        ("sqlite_databases", EntryKind::Sqlite),
        ("redis_databases", EntryKind::Redis),
        ("dolt_databases", EntryKind::Dolt),
    ];
    let mut databases: Vec<Database> = Vec::new();
    for (key, kind) in kinds {
        for item in fields.items(key) {
            let database = database(kind, Fields(item));
            if databases.contains(&database) {
                problems.push(Problem::new(&item.at, format!("{} is there already", database.name)));
            }
            databases.push(database);
        }
    }
    databases
}

fn database(kind: EntryKind, fields: Fields<'_>) -> Database {
    let first = |names: &[&str]| {
        let given = names.iter().map(|name| fields.words(name));
        given.into_iter().find(|words| !words.is_empty()).unwrap_or_default()
    };
    let ssl = Ssl {
        mode: fields.text("ssl_mode"),
        cert: fields.path("ssl_cert"),
        key: fields.path("ssl_key"),
        root_cert: fields.path("ssl_root_cert"),
        crl: fields.path("ssl_crl"),
    };
    let connection = |prefix: &str| {
        let name = |key: &str| format!("{prefix}{key}");
        Connection {
            hostname: fields.text(&name("hostname")),
            port: fields.number(&name("port")),
            socket_path: fields.path(&name("socket_path")),
            username: fields.text(&name("username")),
            password: fields.secret(&name("password")),
            tls: fields.flag(&name("tls")),
            authentication_database: fields.text("authentication_database").filter(|_| prefix.is_empty()),
            ssl: if prefix.is_empty() { ssl.clone() } else { Ssl::default() },
        }
    };
    Database {
        label: fields.text("label"),
        skip_names: fields.texts("skip_names"),
        path: fields.path("path"),
        source: connection(""),
        target: connection("restore_"),
        restore_path: fields.path("restore_path"),
        format: fields.text("format").and_then(|text| format(&text)),
        no_owner: fields.flag("no_owner").unwrap_or(false),
        programs: Programs {
            dump: first(&[
                "pg_dump_command",
                "mariadb_dump_command",
                "mysql_dump_command",
                "mongodump_command",
                "redis_command",
                "dolt_command",
            ]),
            restore: first(&["pg_restore_command", "mongorestore_command"]),
            client: first(&["psql_command", "mariadb_command", "mysql_command"]),
        },
        extra: ExtraOptions {
            dump: fields.words("options"),
            list: fields.words("list_options"),
            restore: fields.words("restore_options"),
            analyze: fields.words("analyze_options"),
        },
        without_routines: !fields.flag("routines").unwrap_or(true),
        without_events: !fields.flag("events").unwrap_or(true),
        streams: fields.number("streams"),
        drill_queries: fields.texts("drill_queries"),
        stall_timeout_ms: fields
            .text("stall_timeout")
            .and_then(|text| check::time(&text))
            .and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
        ..Database::new(kind, fields.text("name").unwrap_or_default())
    }
}

fn format(text: &str) -> Option<DumpFormat> {
    match text {
        "custom" => Some(DumpFormat::Custom),
        "plain" => Some(DumpFormat::Plain),
        "directory" => Some(DumpFormat::Directory),
        "tar" => Some(DumpFormat::Tar),
        _ => None,
    }
}

fn command_dump(fields: Fields<'_>) -> CommandDump {
    CommandDump {
        name: fields.text("name").unwrap_or_default(),
        dump: fields.text("dump").unwrap_or_default(),
        restore: fields.text("restore"),
        end_marker: fields.text("end_marker"),
        timeout: fields.text("timeout").and_then(|text| check::time(&text)),
    }
}

/// The hooks of `commands`, and of the older keys.
fn hooks(fields: Fields<'_>, problems: &mut Vec<Problem>) -> Vec<CommandHook> {
    let mut hooks = older_hooks(fields);
    for item in fields.items("commands") {
        let fields = Fields(item);
        let (when, word) = match (fields.text("before"), fields.text("after")) {
            (Some(word), None) => (Moment::Before, word),
            (None, Some(word)) => (Moment::After, word),
            _ => {
                problems.push(Problem::new(&item.at, "a command needs one of before and after"));
                continue;
            }
        };
        let states = fields.texts("states");
        if when == Moment::Before && !states.is_empty() {
            problems.push(Problem::new(&item.at, "states are for commands that run after something"));
        }
        let dumps = word == "dump_data_sources";
        let actions: Vec<String> = fields.texts("when").iter().map(|name| action(name).to_owned()).collect();
        hooks.push(CommandHook {
            when,
            scope: scope(&word),
            actions: if dumps { vec!["backup".into()] } else { actions },
            states: states
                .iter()
                .map(|word| if word == "fail" { State::Fail } else { State::Finish })
                .collect(),
            run: fields.texts("run"),
        });
    }
    hooks
}

fn older_hooks(fields: Fields<'_>) -> Vec<CommandHook> {
    let backup: &[&str] = &["backup"];
    let mut known: Vec<(String, Moment, Scope, &[&str])> = vec![
        ("before_everything".into(), Moment::Before, Scope::Everything, backup),
        ("after_everything".into(), Moment::After, Scope::Everything, backup),
        ("before_actions".into(), Moment::Before, Scope::Repository, &[]),
        ("after_actions".into(), Moment::After, Scope::Repository, &[]),
        ("on_error".into(), Moment::After, Scope::Error, &ERROR_ACTIONS),
    ];
    let actions: [&[&str]; 5] = [backup, &["prune"], &["compact"], &["check"], &["extract"]];
    for names in actions {
        known.push((format!("before_{}", names[0]), Moment::Before, Scope::Action, names));
        known.push((format!("after_{}", names[0]), Moment::After, Scope::Action, names));
    }
    let mut hooks = Vec::new();
    for (key, when, scope, actions) in known {
        let run = fields.texts(&key);
        if run.is_empty() {
            continue;
        }
        let only_after_success = when == Moment::After && matches!(scope, Scope::Action | Scope::Repository);
        hooks.push(CommandHook {
            when,
            scope,
            actions: actions.iter().map(|name| (*name).to_owned()).collect(),
            states: if only_after_success { vec![State::Finish] } else { Vec::new() },
            run,
        });
    }
    hooks
}

fn scope(word: &str) -> Scope {
    match word {
        "repository" => Scope::Repository,
        "configuration" => Scope::Configuration,
        "everything" => Scope::Everything,
        "error" => Scope::Error,
        // The dumps are what a backup does.
        _ => Scope::Action,
    }
}

/// What the command line calls an action.
fn action(name: &str) -> &str {
    match name {
        "create" => "backup",
        "repo-create" | "rcreate" => "init",
        "repo-list" | "rlist" => "list",
        "info" | "repo-info" | "rinfo" => "show",
        other => other,
    }
}

fn monitoring(fields: Fields<'_>) -> Monitoring {
    Monitoring {
        healthchecks: fields.map("healthchecks", "ping_url").and_then(|node| healthchecks(Fields(&node))),
        ntfy: fields.map("ntfy", "topic").and_then(|node| ntfy(Fields(&node))),
        webhook: fields.map("webhook", "url").and_then(|node| {
            let fields = Fields(&node);
            Some(Webhook {
                url: fields.secret("url")?,
                secret: fields.secret("secret"),
                states: events(fields),
            })
        }),
        email: fields.map("email", "to").and_then(|node| email(Fields(&node))),
        prometheus: fields
            .map("prometheus", "textfile")
            .and_then(|node| Some(Prometheus { textfile: Fields(&node).path("textfile")? })),
    }
}

fn healthchecks(fields: Fields<'_>) -> Option<Healthchecks> {
    Some(Healthchecks {
        ping_url: fields.secret("ping_url")?,
        verify_tls: fields.flag("verify_tls").unwrap_or(true),
        send_logs: fields.flag("send_logs").unwrap_or(false),
        ping_body_limit_bytes: fields.number("ping_body_limit").unwrap_or(PING_BODY_LIMIT_BYTES),
        states: events(fields),
        create_slug: fields.flag("create_slug").unwrap_or(false),
    })
}

fn ntfy(fields: Fields<'_>) -> Option<Ntfy> {
    let message = |name: &str| {
        let Some(node) = fields.0.get(name) else { return NtfyMessage::default() };
        let fields = Fields(node);
        NtfyMessage {
            title: fields.text("title"),
            message: fields.text("message"),
            priority: fields.text("priority"),
            tags: fields.text("tags"),
        }
    };
    Some(Ntfy {
        topic: fields.text("topic")?,
        server: fields.text("server").unwrap_or_else(|| NTFY_SERVER.into()),
        username: fields.text("username"),
        password: fields.secret("password"),
        access_token: fields.secret("access_token"),
        start: message("start"),
        finish: message("finish"),
        fail: message("fail"),
        states: or_fail(events(fields)),
    })
}

fn email(fields: Fields<'_>) -> Option<Email> {
    let to = fields.texts("to");
    let command = fields.words("sendmail_command");
    (!to.is_empty()).then(|| Email {
        to,
        from: fields.text("from"),
        sendmail_command: if command.is_empty() { SENDMAIL.map(str::to_owned).to_vec() } else { command },
        states: or_fail(events(fields)),
    })
}

fn events(fields: Fields<'_>) -> Vec<Event> {
    let event = |word: String| match word.as_str() {
        "start" => Event::Start,
        "finish" => Event::Finish,
        "log" => Event::Log,
        _ => Event::Fail,
    };
    fields.texts("states").into_iter().map(event).collect()
}

fn or_fail(states: Vec<Event>) -> Vec<Event> {
    if states.is_empty() { vec![Event::Fail] } else { states }
}
