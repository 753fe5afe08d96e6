//! Metrics for the textfile collector of Prometheus' node exporter: see `docs/monitoring.md`.
//!
//! The file has samples of all repositories that write to it. Each action puts those of its own repository in place
//! of the old ones and leaves the others; the samples of an action stay until the same action ends again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::status::{DatabaseStatus, Overview};
use crate::{Error, Result};

/// How metrics of a finished action begin.
const ACTION_PREFIX: &str = "dbvault_action_";

/// Names, types and meanings, in the order of the file.
const METRICS: [(&str, &str); 15] = [
    ("dbvault_archives", "Archives that are not deleted."),
    ("dbvault_archives_damaged", "Archives that can't be read."),
    ("dbvault_last_archive_timestamp_seconds", "When the newest backup of the host ended."),
    ("dbvault_last_archive_complete", "Whether the newest archive of the host lacks nothing."),
    (
        "dbvault_database_last_backup_timestamp_seconds",
        "When the last backup of the database ended, 0 for never.",
    ),
    ("dbvault_database_in_newest_archive", "0 where the newest archive that should have it does not."),
    ("dbvault_database_duration_seconds", "How long the last backup of the database took."),
    ("dbvault_database_bytes", "Length of the last backup."),
    ("dbvault_database_previous_bytes", "Length of the backup before."),
    ("dbvault_database_stored_bytes", "What the last backup added to the repository."),
    ("dbvault_database_proven_timestamp_seconds", "When a drill last could restore it, 0 for never."),
    ("dbvault_database_drill_success", "Whether the last drill could restore it."),
    ("dbvault_action_timestamp_seconds", "When the action last ended."),
    ("dbvault_action_success", "Whether it ended well."),
    ("dbvault_action_duration_seconds", "How long it took."),
];

/// An action that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActionEnd<'a> {
    /// `backup`, `prune` …
    pub action: &'a str,
    /// When, milliseconds since 1970 UTC.
    pub ended_ms: i64,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// Whether it ended well.
    pub ok: bool,
}

/// Samples: name, labels as they stand in the file, value as it stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics(BTreeMap<(String, String), String>);

impl Metrics {
    /// Those of a repository.
    pub fn of(repository: &str, overview: &Overview) -> Metrics {
        let mut metrics = Metrics::default();
        let repository = ("repository", repository);
        metrics.set("dbvault_archives", &[repository], overview.archives as f64);
        metrics.set("dbvault_archives_damaged", &[repository], overview.damaged as f64);
        for (host, newest) in &overview.newest {
            let labels = [repository, ("host", host)];
            metrics.set("dbvault_last_archive_timestamp_seconds", &labels, seconds(newest.finished_ms));
            metrics.set("dbvault_last_archive_complete", &labels, flag(newest.complete));
        }
        for database in &overview.databases {
            metrics.add_database(repository, database);
        }
        metrics
    }

    fn add_database(&mut self, repository: (&str, &str), status: &DatabaseStatus) {
        let kind = status.kind.map_or("unknown", |kind| kind.name());
        let labels = [repository, ("host", &status.host), ("database", &status.name), ("kind", kind)];
        let ended_ms = status.last.as_ref().map_or(0, |last| last.finished_ms);
        let there = status.last.is_some() && status.failed.is_none();
        self.set("dbvault_database_last_backup_timestamp_seconds", &labels, seconds(ended_ms));
        self.set("dbvault_database_in_newest_archive", &labels, flag(there));
        self.set(
            "dbvault_database_proven_timestamp_seconds",
            &labels,
            seconds(status.proven_ms.unwrap_or(0)),
        );
        if let Some(last) = &status.last {
            self.set("dbvault_database_duration_seconds", &labels, last.duration_ms as f64 / 1000.0);
            self.set("dbvault_database_bytes", &labels, last.original_bytes as f64);
            self.set("dbvault_database_stored_bytes", &labels, last.stored_bytes as f64);
        }
        if let Some(bytes) = status.previous_bytes {
            self.set("dbvault_database_previous_bytes", &labels, bytes as f64);
        }
        if let Some((proof, _)) = &status.drill {
            self.set("dbvault_database_drill_success", &labels, flag(proof.ok));
        }
    }

    /// Adds those of an action of a repository.
    pub fn add_action(&mut self, repository: &str, end: &ActionEnd<'_>) {
        let labels = [("repository", repository), ("action", end.action)];
        self.set("dbvault_action_timestamp_seconds", &labels, seconds(end.ended_ms));
        self.set("dbvault_action_success", &labels, flag(end.ok));
        self.set("dbvault_action_duration_seconds", &labels, end.duration_ms as f64 / 1000.0);
    }

    fn set(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        self.0.insert((name.to_owned(), labels.join(",")), value.to_string());
    }

    /// What `text` has of other repositories than `repository`, and of its actions, is taken over, but for what is
    /// here already; where nothing but an action is here, so is all the rest. What is not a sample of ours is dropped.
    fn take_over(&mut self, repository: &str, text: &str) {
        let only_actions = self.0.keys().all(|(name, _)| name.starts_with(ACTION_PREFIX));
        let own = format!("repository=\"{}\"", escaped(repository));
        for line in text.lines() {
            let Some((name, rest)) = line.split_once('{') else { continue };
            let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
            let is_ours = METRICS.iter().any(|(ours, _)| *ours == name);
            let of_other = !(labels == own || labels.starts_with(&(own.clone() + ",")));
            if is_ours && (of_other || only_actions || name.starts_with(ACTION_PREFIX)) {
                let key = (name.to_owned(), labels.to_owned());
                self.0.entry(key).or_insert_with(|| value.to_owned());
            }
        }
    }

    /// All of it in the text format of Prometheus, version 0.0.4.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let named: BTreeSet<&str> = self.0.keys().map(|(name, _)| name.as_str()).collect();
        for (metric, help) in METRICS.iter().filter(|(metric, _)| named.contains(metric)) {
            let _ = writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} gauge");
            for ((_, labels), value) in self.0.iter().filter(|((name, _), _)| name == metric) {
                let _ = writeln!(text, "{metric}{{{labels}}} {value}");
            }
        }
        text
    }

    /// Puts them into the file at `path`, in place of the old ones of `repository`. Whoever reads it sees all of
    /// the old file or all of the new one. After an error the old one is there as it was.
    pub fn write(mut self, path: &Path, repository: &str) -> Result<()> {
        match fs::read_to_string(path) {
            Ok(text) => self.take_over(repository, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read", path)(error)),
        }
        let failed = || Error::file("write", path);
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // The collector reads what ends in .prom only.
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(".dbvault-").suffix(".tmp");
        let mut file = builder.tempfile_in(directory.unwrap_or(Path::new("."))).map_err(failed())?;
        // The collector is another user.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed())?;
        file.write_all(self.text().as_bytes()).map_err(failed())?;
        file.persist(path).map_err(|error| failed()(error.error))?;
        Ok(())
    }
}

fn seconds(time_ms: i64) -> f64 {
    time_ms as f64 / 1000.0
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// As the value of a label has to be written.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{LastBackup, Newest};
    use dbvault_format::entry::EntryKind;
    use dbvault_repo::Proof;

    fn overview(name: &str) -> Overview {
        let proof =
            Proof { entry: name.into(), proven_ms: 5_000, ok: true, detail: String::new(), rows: None };
        let last = LastBackup {
            archive: "a".into(),
            started_ms: 1_000,
            finished_ms: 1_795_230_245_678,
            duration_ms: 2_500,
            original_bytes: 1_000_000,
            stored_bytes: 7,
        };
        let database = DatabaseStatus {
            host: "db1".into(),
            name: name.into(),
            kind: Some(EntryKind::Postgresql),
            last: Some(last),
            previous_bytes: Some(999),
            failed: None,
            drill: Some((proof, "a".into())),
            proven_ms: Some(5_000),
        };
        let never = DatabaseStatus {
            name: "never".into(),
            kind: None,
            last: None,
            previous_bytes: None,
            drill: None,
            proven_ms: None,
            ..database.clone()
        };
        let newest = Newest { archive: "a".into(), started_ms: 0, finished_ms: 3_000, complete: false };
        let newest = [("db1".to_owned(), newest)].into();
        Overview { archives: 2, damaged: 0, newest, databases: vec![database, never] }
    }

    #[test]
    fn samples_have_their_labels_and_units() {
        let text = Metrics::of("/srv/b", &overview("users")).text();
        let labels = "repository=\"/srv/b\",host=\"db1\",database=\"users\",kind=\"postgresql\"";
        for line in [
            "# TYPE dbvault_archives gauge".to_owned(),
            "dbvault_archives{repository=\"/srv/b\"} 2".to_owned(),
            "dbvault_last_archive_complete{repository=\"/srv/b\",host=\"db1\"} 0".to_owned(),
            format!("dbvault_database_last_backup_timestamp_seconds{{{labels}}} 1795230245.678"),
            format!("dbvault_database_duration_seconds{{{labels}}} 2.5"),
            format!("dbvault_database_bytes{{{labels}}} 1000000"),
            format!("dbvault_database_proven_timestamp_seconds{{{labels}}} 5"),
            format!("dbvault_database_drill_success{{{labels}}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let never = "host=\"db1\",database=\"never\",kind=\"unknown\"} 0";
        assert_eq!(text.lines().filter(|line| line.ends_with(never)).count(), 3, "{text}");
    }

    #[test]
    fn labels_are_escaped() {
        let text = Metrics::of("r", &overview("a\"b\\c\nd")).text();
        assert!(text.contains(r#"database="a\"b\\c\nd""#), "{text}");
    }

    #[test]
    fn other_repositories_and_other_actions_stay_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dbvault.prom");
        let write = |repository: &str, name: &str, action: &str, ok: bool| {
            let mut metrics = Metrics::of(repository, &overview(name));
            let end = ActionEnd { action, ended_ms: 9_000, duration_ms: 1_500, ok };
            metrics.add_action(repository, &end);
            metrics.write(&path, repository).unwrap();
        };
        write("one } 5", "old", "check", true);
        write("two", "users", "backup", true);
        write("one } 5", "new", "backup", false);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("\"old\"") && text.contains("\"new\""), "{text}");
        for labels in
            ["one } 5\",action=\"check\"} 1", "one } 5\",action=\"backup\"} 0", "two\",action=\"backup\"} 1"]
        {
            assert!(
                text.contains(&format!("dbvault_action_success{{repository=\"{labels}\n")),
                "{labels}\n{text}"
            );
        }
        assert!(text.contains("repository=\"two\",host=\"db1\",database=\"users\""), "{text}");
        assert_eq!(text.matches("# TYPE dbvault_archives gauge").count(), 1);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        let mut only_action = Metrics::default();
        only_action.add_action("two", &ActionEnd { action: "prune", ended_ms: 1, duration_ms: 1, ok: true });
        only_action.write(&path, "two").unwrap();
        let with_action = fs::read_to_string(&path).unwrap();
        assert_eq!(with_action.lines().count(), text.lines().count() + 3, "{with_action}");
        let text = with_action;
        // Twice the same is the same.
        write("one } 5", "new", "backup", false);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
