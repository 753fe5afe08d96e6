//! Examples under the help of each command, and what only the long help tells.

use crate::exit_code;

/// Under the long help of the program.
pub(crate) fn root() -> String {
    let codes = exit_code::table();
    format!("{ROOT}\n\nExit codes:\n{codes}")
}

const ROOT: &str = "\
Examples:
  dbvault init /backup/repo
  dbvault backup --postgres users --sqlite /srv/app.db
  dbvault list
  dbvault restore --archive latest

Passphrase: asked for on a terminal. Without one it comes from the first of: the key file, DBVAULT_PASSPHRASE, \
the file that DBVAULT_PASSPHRASE_FILE names, the command in DBVAULT_PASSPHRASE_COMMAND, passphrase_command in the \
configuration file. A new passphrase for key add and key change-passphrase comes from DBVAULT_NEW_PASSPHRASE, \
likewise.

Configuration file: dbvault/config.toml in $XDG_CONFIG_HOME or ~/.config, with the keys repository, key_file and \
passphrase_command. init writes it for the first repository.";

pub(crate) const INIT: &str = "\
Examples:
  dbvault init /backup/repo
  dbvault init /backup/repo --key-file ~/dbvault.key    for unattended use; the key file is made";

pub(crate) const BACKUP: &str = "\
Examples:
  dbvault backup --postgres users
  dbvault backup --postgres users --postgres orders --sqlite /srv/app.db --archive nightly-1
  dbvault backup --postgres users --host db1 --username backup
  dbvault backup --command 'redis-cli --rdb -' --name cache
  mysqldump shop | dbvault backup --stdin --name shop

One archive is made of all that is named, and only when all of it was read to its end without an error.";

pub(crate) const LIST: &str = "\
Examples:
  dbvault list
  dbvault list --deleted
  dbvault list --archive latest
  dbvault list --json | jq -r '.archives[].name'";

pub(crate) const SHOW: &str = "\
Examples:
  dbvault show
  dbvault show nightly-1
  dbvault show 7f3a --json";

pub(crate) const RESTORE: &str = "\
Examples:
  dbvault restore --archive latest
  dbvault restore --archive nightly-1 --database users --to users_test
  dbvault restore --archive latest --database users --host db2 --yes
  dbvault restore --archive latest --database app.db --to /tmp/app.db

A database is loaded beside the one that is there and then takes its name: a restore that fails leaves the live \
database as it was.";

pub(crate) const EXTRACT: &str = "\
Examples:
  dbvault extract --archive latest --database users --output users.dump
  dbvault extract --archive latest --entry users | pg_restore --list";

pub(crate) const CHECK: &str = "\
Examples:
  dbvault check
  dbvault check --read-data
  dbvault check --json";

pub(crate) const DELETE: &str = "\
Examples:
  dbvault delete nightly-1
  dbvault delete nightly-1 nightly-2 --dry-run";

pub(crate) const UNDELETE: &str = "\
Examples:
  dbvault undelete nightly-1";

pub(crate) const KEY: &str = "\
Examples:
  dbvault key list
  dbvault key add --new-key-file ~/dbvault.key
  dbvault key export --output master-key.txt";

pub(crate) const KEY_LIST: &str = "\
Examples:
  dbvault key list
  dbvault key list --json";

pub(crate) const KEY_ADD: &str = "\
Examples:
  dbvault key add --label 'spare passphrase'
  dbvault key add --new-key-file ~/dbvault.key";

pub(crate) const KEY_REMOVE: &str = "\
Examples:
  dbvault key remove 7f3a";

pub(crate) const KEY_CHANGE: &str = "\
Examples:
  dbvault key change-passphrase

Whoever knew the old passphrase and copied the repository before can still open that copy.";

pub(crate) const KEY_EXPORT: &str = "\
Examples:
  dbvault key export --output master-key.txt
  dbvault key export | lpr";

pub(crate) const KEY_IMPORT: &str = "\
Examples:
  dbvault key import master-key.txt
  dbvault key import master-key.txt --new-key-file ~/dbvault.key";

pub(crate) const VERSION: &str = "\
Examples:
  dbvault version
  dbvault version --json";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  dbvault completions bash > ~/.local/share/bash-completion/completions/dbvault
  dbvault completions zsh > ~/.zfunc/_dbvault";

pub(crate) const MAN: &str = "\
Examples:
  dbvault man | man -l -
  dbvault man --output ~/.local/share/man/man1";
