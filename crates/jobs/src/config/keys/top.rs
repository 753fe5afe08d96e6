//! Keys that are about repositories, retention and commands.

use super::{Key, Kind, key, refused, required};
use Kind::{Age, Anything, Command, Commands, Maps, Number, OneOf, Path, Secret, SomeOf, Text, Texts};

const COUNT_MAX: u64 = u32::MAX as u64;

/// What `before` names.
pub(crate) const SCOPES: &[&str] =
    &["action", "repository", "configuration", "everything", "dump_data_sources"];
/// What `after` names.
pub(crate) const SCOPES_AFTER: &[&str] =
    &["action", "repository", "configuration", "everything", "error", "dump_data_sources"];

/// Keys of an item of `repositories`.
const REPOSITORY: &[Key] = &[
    required("path", Path, "the directory that `dbvault init` made"),
    key("label", Text, "", "a word for it, for `--repository`"),
    key("key_file", Path, "the `key_file` of the file", "the key file that opens it"),
    key(
        "passphrase_command",
        Command,
        "the `passphrase_command` of the file",
        "what prints its passphrase, in place of a key file",
    ),
    super::idle("encryption", Text, "every repository is encrypted"),
    super::idle("append_only", Kind::Flag, "nothing that is stored is ever changed"),
    super::idle("storage_quota", Text, "there are no quotas"),
    super::idle("make_parent_directories", Kind::Flag, "`dbvault init` makes what it needs"),
];

/// Keys of an item of `commands`.
const COMMAND: &[Key] = &[
    key("before", OneOf(SCOPES), "", "what the commands run before; this or `after` must be given"),
    key("after", OneOf(SCOPES_AFTER), "", "what they run after"),
    key(
        "when",
        Texts,
        "all",
        "names of actions that they run for: `backup` (or `create`), `prune`, `check` …",
    ),
    key("states", SomeOf(&["finish", "fail"]), "both", "only after an end like this; only with `after`"),
    required("run", Commands, "the commands"),
    super::idle("hooks", Texts, "commands run for all kinds of databases"),
];

/// Keys of the highest level.
pub const TOP: &[Key] = &[
    key("repositories", Maps(&[REPOSITORY], Some("path")), "", "where backups go; a text alone is a path"),
    key("key_file", Path, "", "the key file that opens the repositories"),
    key(
        "passphrase_command",
        Command,
        "",
        "a command that prints the passphrase, where there is no key file",
    ),
    key("encryption_passcommand", Command, "", "the same as `passphrase_command`"),
    key(
        "encryption_passphrase",
        Secret,
        "",
        "the passphrase itself, where there is no key file; goes before the command. Better kept outside of this file",
    ),
    key("constants", Anything, "", "names and values: `{name}` in other values stands for them"),
    key(
        "archive_name_format",
        Text,
        "host and time",
        "name of archives: `{hostname}`, `{user}`, `{now}`, `{now:%Y-%m-%d}`, `{utcnow}`",
    ),
    key("keep_last", Number(COUNT_MAX), "0", "archives of a series that `prune` keeps: the newest"),
    key("keep", Number(COUNT_MAX), "0", "the same as `keep_last`"),
    key("keep_hourly", Number(COUNT_MAX), "0", "the newest of each of so many hours"),
    key("keep_daily", Number(COUNT_MAX), "0; 7 without any rule", "of each of so many days"),
    key("keep_weekly", Number(COUNT_MAX), "0; 4 without any rule", "of each of so many weeks"),
    key("keep_monthly", Number(COUNT_MAX), "0; 6 without any rule", "of each of so many months"),
    key("keep_yearly", Number(COUNT_MAX), "0; 1 without any rule", "of each of so many years"),
    key("keep_within", Age, "", "all that are no older: `36h`, `14d`, `2w`, `3mo` or `3m` (months), `1y`"),
    key("keep_tags", Texts, "", "all with one of these tags"),
    key(
        "keep_deleted_days",
        Number(36_500),
        "0",
        "days for which what was deleted or dropped can be taken back",
    ),
    refused("keep_secondly", Anything, "there is no such rule; `keep_within: 1h` keeps all of an hour"),
    refused("keep_minutely", Anything, "there is no such rule; `keep_within: 2h` keeps all of two hours"),
    refused(
        "keep_13weekly",
        Anything,
        "there is no such rule; `keep_weekly: 52` or `keep_monthly: 12` keeps more",
    ),
    refused("keep_3monthly", Anything, "there is no such rule; `keep_monthly: 12` keeps more"),
    key("commands", Maps(&[COMMAND], None), "", "commands to run before and after what is done"),
    key("before_everything", Commands, "", "run once before all files, where a backup is among what is done"),
    key("after_everything", Commands, "", "and after them, even after a failure"),
    key("before_actions", Commands, "", "run before all that is done to one repository"),
    key("after_actions", Commands, "", "and after it, where nothing failed"),
    key("before_backup", Commands, "", "run before a backup"),
    key("after_backup", Commands, "", "and after it, where it did not fail"),
    key("before_prune", Commands, "", "run before a prune"),
    key("after_prune", Commands, "", "and after it, where it did not fail"),
    key("before_compact", Commands, "", "run before `compact`"),
    key("after_compact", Commands, "", "and after it, where it did not fail"),
    key("before_check", Commands, "", "run before a check"),
    key("after_check", Commands, "", "and after it, where it did not fail"),
    key("before_extract", Commands, "", "run before `extract`"),
    key("after_extract", Commands, "", "and after it, where it did not fail"),
    key("on_error", Commands, "", "run after a failure of a backup, prune, compact or check"),
];
