//! The tools that are compared, and how each is called.
//!
//! Each has its defaults, or zstd at level 3 where compression must be chosen, and encryption switched on.

/// In every list `{repo}` stands for the repository, `{archive}` for an archive's name, and `{home}` for the
/// tool's own home directory, which has a file `password`.
pub(crate) struct CommandLines {
    pub(crate) name: &'static str,
    /// Where it is looked for on the search path.
    pub(crate) program: &'static str,
    /// Where `scripts/install-deps bench` puts it, below its cache directory.
    pub(crate) installed: Option<&'static str>,
    pub(crate) version: &'static [&'static str],
    /// What the version must begin with.
    pub(crate) version_start: &'static str,
    /// How it is set up, for the report.
    pub(crate) setup: &'static str,
    pub(crate) environment: &'static [(&'static str, &'static str)],
    pub(crate) init: &'static [&'static [&'static str]],
    /// Reads standard input.
    pub(crate) backup: &'static [&'static str],
    /// Writes to standard output.
    pub(crate) extract: &'static [&'static str],
    pub(crate) list: &'static [&'static str],
    pub(crate) check: &'static [&'static str],
}

/// The name of the one that all others are compared with.
pub(crate) const OURS: &str = "dbvault";

/// A passphrase for measuring only.
pub(crate) const PASSPHRASE: &str = "a passphrase for measuring only";

pub(crate) const ALL: [CommandLines; 5] = [
    CommandLines {
        name: OURS,
        program: "dbvault",
        installed: None,
        version: &["--version"],
        version_start: "dbvault",
        setup: "defaults",
        environment: &[("DBVAULT_PASSPHRASE", PASSPHRASE), ("DBVAULT_REPO", "{repo}")],
        init: &[&["init"]],
        backup: &["backup", "--stdin", "--name", "dump", "--archive", "{archive}"],
        extract: &["extract", "--archive", "{archive}", "--entry", "dump"],
        list: &["list"],
        check: &["check"],
    },
    CommandLines {
        name: "Borg",
        program: "borg",
        installed: Some("borg/bin/borg"),
        version: &["--version"],
        version_start: "borg 1.4.",
        setup: "zstd,3, repokey-blake2",
        environment: &[("BORG_BASE_DIR", "{home}"), ("BORG_PASSPHRASE", PASSPHRASE), ("BORG_REPO", "{repo}")],
        init: &[&["init", "--encryption", "repokey-blake2"]],
        backup: &["create", "--compression", "zstd,3", "--stdin-name", "dump", "::{archive}", "-"],
        extract: &["extract", "--stdout", "::{archive}"],
        list: &["list"],
        check: &["check"],
    },
    CommandLines {
        name: "restic",
        program: "restic",
        installed: None,
        version: &["version"],
        version_start: "restic",
        setup: "defaults",
        environment: &[("RESTIC_REPOSITORY", "{repo}"), ("RESTIC_PASSWORD_FILE", "{home}/password")],
        init: &[&["init"]],
        backup: &["backup", "--stdin", "--stdin-filename", "dump", "--tag", "{archive}"],
        extract: &["dump", "--tag", "{archive}", "latest", "dump"],
        list: &["snapshots"],
        check: &["check"],
    },
    CommandLines {
        name: "rustic",
        program: "rustic",
        installed: Some("tools/bin/rustic"),
        version: &["--version"],
        version_start: "rustic",
        setup: "--force, for it takes a second standard input for the same as the first",
        environment: &[("RUSTIC_REPOSITORY", "{repo}"), ("RUSTIC_PASSWORD_FILE", "{home}/password")],
        init: &[&["init"]],
        backup: &[
            "backup",
            "--force",
            "--no-progress",
            "--stdin-filename",
            "dump",
            "--tag",
            "{archive}",
            "-",
        ],
        extract: &["dump", "--no-progress", "--filter-tags", "{archive}", "latest:dump"],
        list: &["snapshots"],
        check: &["check", "--no-progress"],
    },
    CommandLines {
        name: "bupstash",
        program: "bupstash",
        installed: None,
        version: &["version"],
        version_start: "bupstash",
        setup: "defaults",
        environment: &[("BUPSTASH_REPOSITORY", "{repo}"), ("BUPSTASH_KEY", "{home}/key")],
        init: &[&["new-key", "-o", "{home}/key"], &["init"]],
        backup: &["put", "--quiet", "name={archive}", "-"],
        extract: &["get", "--quiet", "name={archive}"],
        list: &["list"],
        // It has none.
        check: &[],
    },
];

/// Named in the report, but not measured, for the reason given.
pub(crate) const UNMEASURED: [(&str, &str, &str); 2] = [
    (
        "vykar",
        "vykar",
        "it backs up files and commands that its configuration names, and restores to a directory",
    ),
    ("Kopia", "kopia", "it writes out objects by an id that has to be looked up first"),
];
