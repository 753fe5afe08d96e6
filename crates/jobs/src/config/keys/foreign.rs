//! Keys that mean something around Borg and nothing here.

use super::{Key, Kind, idle};
use Kind::Anything;

const BORG: &str = "it is about Borg, which is not used";
const DIRECTORY: &str = "dbvault keeps its cache below the user's cache directory and needs no other";
const OUTPUT: &str = "the command line says it: `--verbose`, `--quiet`, `--json`, `--color`";
const CHECK: &str = "the options of `dbvault check` say it: `--read-data`, `--subset`, `--max-age`";

/// They are all accepted.
pub const FOREIGN: &[Key] = &[
    idle("compression", Anything, "the repository chooses how it compresses"),
    idle("recompress", Anything, "the repository chooses how it compresses"),
    idle("checks", Anything, CHECK),
    idle("check_last", Anything, CHECK),
    idle(
        "check_repositories",
        Anything,
        "`check` goes through all repositories, or through the one that `--repository` names",
    ),
    idle(
        "prefix",
        Anything,
        "`prune` keeps the archives of each series: the same databases of the same host",
    ),
    idle(
        "match_archives",
        Anything,
        "`prune` keeps the archives of each series: the same databases of the same host",
    ),
    idle("skip_actions", Anything, "only what the command line or a timer asks for is done"),
    idle("default_actions", Anything, "only what the command line or a timer asks for is done"),
    idle("retries", Anything, "a backup that failed is run again by its timer; what was stored is used then"),
    idle(
        "retry_wait",
        Anything,
        "a backup that failed is run again by its timer; what was stored is used then",
    ),
    idle("compact_threshold", Anything, "`--repack-mb` of `dbvault prune` bounds the work"),
    idle("bootstrap", Anything, "the configuration is always stored in archives"),
    idle("store_config_files", Anything, "the configuration is always stored in archives"),
    idle("keepassxc", Anything, "such credentials can't be read; `{credential file PATH}` can"),
    idle("container", Anything, "secrets of containers are read from their usual directory"),
    idle("systemd", Anything, "credentials of systemd are read from `CREDENTIALS_DIRECTORY`"),
    idle("borgmatic_source_directory", Anything, DIRECTORY),
    idle("user_runtime_directory", Anything, DIRECTORY),
    idle("user_state_directory", Anything, DIRECTORY),
    idle("temporary_directory", Anything, DIRECTORY),
    idle("borg_base_directory", Anything, DIRECTORY),
    idle("borg_config_directory", Anything, DIRECTORY),
    idle("borg_cache_directory", Anything, DIRECTORY),
    idle("borg_security_directory", Anything, DIRECTORY),
    idle("borg_keys_directory", Anything, DIRECTORY),
    idle("borg_key_file", Anything, "`key_file` names the key file of a repository"),
    idle("use_chunks_archive", Anything, BORG),
    idle("borg_files_cache_ttl", Anything, BORG),
    idle("borg_exit_codes", Anything, BORG),
    idle("extra_borg_options", Anything, BORG),
    idle("local_path", Anything, BORG),
    idle("remote_path", Anything, BORG),
    idle("checkpoint_interval", Anything, BORG),
    idle("checkpoint_volume", Anything, BORG),
    idle("chunker_params", Anything, BORG),
    idle("remote_rate_limit", Anything, BORG),
    idle("remote_buffer_size", Anything, BORG),
    idle("upload_rate_limit", Anything, BORG),
    idle("upload_buffer_size", Anything, BORG),
    idle("ssh_command", Anything, "repositories on other machines are not there yet"),
    idle("umask", Anything, "what is stored can be read by its owner only"),
    idle("lock_wait", Anything, "nothing waits for locks: backups run beside each other"),
    idle("relocated_repo_access_is_ok", Anything, BORG),
    idle("unknown_unencrypted_repo_access_is_ok", Anything, BORG),
    idle("check_i_know_what_i_am_doing", Anything, BORG),
    idle("debug_passphrase", Anything, "passphrases are never shown"),
    idle("display_passphrase", Anything, "passphrases are never shown"),
    idle("color", Anything, OUTPUT),
    idle("verbosity", Anything, OUTPUT),
    idle("syslog_verbosity", Anything, OUTPUT),
    idle("log_file_verbosity", Anything, OUTPUT),
    idle("monitoring_verbosity", Anything, OUTPUT),
    idle("log_file", Anything, OUTPUT),
    idle("log_file_format", Anything, OUTPUT),
    idle("log_json", Anything, OUTPUT),
    idle("json", Anything, OUTPUT),
    idle("progress", Anything, OUTPUT),
    idle("statistics", Anything, OUTPUT),
    idle("list_details", Anything, OUTPUT),
];
