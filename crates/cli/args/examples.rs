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
configuration, encryption_passphrase in it. A new passphrase for key add and key change-passphrase comes from DBVAULT_NEW_PASSPHRASE, \
likewise.

Configuration: YAML in dbvault/config.yaml and dbvault.d/*.yaml, below /etc and below $XDG_CONFIG_HOME or ~/.config. \
init writes one for the first repository; dbvault config generate writes an example.";

pub(crate) const INIT: &str = "\
Examples:
  dbvault init /backup/repo
  dbvault init /backup/repo --key-file ~/dbvault.key    for unattended use; the key file is made
  dbvault init /backup/repo --parity 10                 a tenth more room, for a disk that is not to be trusted";

pub(crate) const BACKUP: &str = "\
Examples:
  dbvault backup                            all that the configuration names
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

pub(crate) const STATUS: &str = "\
Examples:
  dbvault status
  dbvault status --max-age 26h --quiet || mail -s 'no backup' admin < /dev/null
  dbvault status --max-age 26h --max-proof-age 40d --json
  dbvault status --prometheus > /var/lib/node_exporter/dbvault.prom

Exit code 25 says that the backup of a database is missing, failed, too old, less than half of the one before, or could \
not be restored by the last drill.";

pub(crate) const SCHEDULE: &str = "\
Examples:
  dbvault schedule install --daily 02:30 --run backup --run prune --run 'check --subset 5%'
  dbvault schedule show
  dbvault schedule remove";

pub(crate) const SCHEDULE_INSTALL: &str = "\
Examples:
  dbvault schedule install --daily 02:30
  dbvault schedule install --on-calendar 'Mon..Fri 22:00' --run backup --run prune
  dbvault schedule install --cron '30 2 * * *'
  dbvault schedule install --dry-run";

pub(crate) const SCHEDULE_SHOW: &str = "\
Examples:
  dbvault schedule show
  dbvault schedule show --user";

pub(crate) const SCHEDULE_REMOVE: &str = "\
Examples:
  dbvault schedule remove
  dbvault schedule remove --crontab --dry-run";

pub(crate) const SHOW: &str = "\
Examples:
  dbvault show
  dbvault show nightly-1 --dedup
  dbvault show 7f3a --json";

pub(crate) const RESTORE: &str = "\
Examples:
  dbvault restore --archive latest
  dbvault restore --archive nightly-1 --database users --to users_test
  dbvault restore --archive latest --database users --host db2 --yes
  dbvault restore --archive latest --database app.db --to /tmp/app.db
  dbvault restore --archive nightly-1 --database users --table public.orders
  dbvault restore --archive nightly-1 --database users --table orders --table items --in-place

A database is loaded beside the one that is there and then takes its name: a restore that fails leaves the live \
database as it was.";

pub(crate) const DRILL: &str = "\
Examples:
  dbvault drill
  dbvault drill --archive nightly-1 --database users
  dbvault drill --query 'SELECT count(*) > 0 FROM orders'

No server of yours is touched: PostgreSQL is started anew on a socket in a temporary directory, SQLite is written to a \
file there. What was found is recorded with the archive.";

pub(crate) const DIFF: &str = "\
Examples:
  dbvault diff nightly-1 nightly-2
  dbvault diff nightly-1 --database users           with the latest that has it
  dbvault diff nightly-1 nightly-2 --tables
  dbvault diff nightly-1 nightly-2 /etc                 which files of it changed, and what of them
  dbvault diff nightly-1 nightly-2 --exit-code --quiet || echo 'something changed'

What was backed up is not read: chunks that both archives have are known by their ids. Of files only those are read
that lie in other chunks.";

pub(crate) const OPEN: &str = "\
Examples:
  dbvault open --archive latest --database users                until Ctrl-C; tells how to connect
  dbvault open --archive nightly-1 --database users --psql
  dbvault open --database users -- psql -c 'SELECT count(*) FROM orders'
  dbvault open --database app.db --read-only --psql

No server of yours is touched. What is changed there is gone at the end, with the server and its files. With a command, \
the exit code is that of the command, once the database is open.";

pub(crate) const EXTRACT: &str = "\
Examples:
  dbvault extract --archive latest --database users --output users.dump
  dbvault extract --archive latest --entry users | pg_restore --list
  dbvault extract --archive latest --database users --table public.orders --header > orders.csv
  dbvault extract --archive latest --database users --table orders --format sql | psql -d scratch";
pub(crate) const TABLES: &str = "\
Examples:
  dbvault tables
  dbvault tables --archive latest --database users --json";

pub(crate) const EXPORT_TAR: &str = "\
Examples:
  dbvault export-tar --archive latest files.tar
  dbvault export-tar --archive latest files.tar.zst etc home
  dbvault export-tar --archive latest - etc/ssh | tar --list
  dbvault export-tar --archive latest - | ssh new 'tar -x --xattrs --acls -C /'";

pub(crate) const IMPORT_TAR: &str = "\
Examples:
  dbvault import-tar --archive old-server server.tar --timestamp 2024-11-01T03:00:00Z
  tar -c --xattrs --acls --format=pax /etc | dbvault import-tar --archive etc -
  zcat old.tar.gz | dbvault import-tar --archive old --spool /var/tmp -";

pub(crate) const IMPORT_BORG: &str = "\
Examples:
  dbvault import-borg /backup/borg --dry-run
  BORG_PASSPHRASE=... dbvault import-borg /backup/borg
  dbvault import-borg ssh://backup@host/./repo --archive 'web-*' --spool /var/tmp

What opens the Borg repository comes from BORG_PASSPHRASE, BORG_PASSCOMMAND and so on, as borg takes it. Archives that were \
imported already are left: an import that was stopped goes on where it was.";

pub(crate) const IMPORT_RESTIC: &str = "\
Examples:
  RESTIC_PASSWORD_FILE=/etc/restic/password dbvault import-restic /backup/restic
  dbvault import-restic sftp:backup@host:/restic --archive 1a2b3c4d

What opens the restic repository comes from RESTIC_PASSWORD, RESTIC_PASSWORD_FILE and so on, as restic takes it. Snapshots that \
were imported already are left: an import that was stopped goes on where it was.";

pub(crate) const MOUNT: &str = "\
Examples:
  dbvault mount                             where it is mounted is told
  dbvault mount /mnt/backups
  pg_restore -j 4 -d new /mnt/backups/latest/users.dump
  sqlite3 'file:/mnt/backups/latest/app.db?immutable=1' '.tables'
  dbvault mount --foreground /mnt/backups   for a service manager

New archives appear by themselves. A read of something that is damaged fails, and is told of in the log; all else can be \
read.";

pub(crate) const UMOUNT: &str = "\
Examples:
  dbvault umount
  dbvault umount /mnt/backups

What a mount left whose process was killed is cleaned up too.";

pub(crate) const CHECK: &str = "\
Examples:
  dbvault check
  dbvault check --read-data
  dbvault check --subset 5%                 every night another twentieth
  dbvault check --max-age 30d               all in a month, and on where the last check ended
  dbvault check --no-key --repo /backup/repo
  dbvault check --json";

pub(crate) const REPAIR: &str = "\
Examples:
  dbvault repair --dry-run
  dbvault repair --read-data
  dbvault repair --add-parity

Nothing is deleted: damaged objects are kept below quarantine/. Run a backup afterwards: it stores again what is \
missing and still in its source.";

pub(crate) const DELETE: &str = "\
Examples:
  dbvault delete nightly-1
  dbvault delete nightly-1 nightly-2 --dry-run";

pub(crate) const UNDELETE: &str = "\
Examples:
  dbvault undelete nightly-1";

pub(crate) const TAG: &str = "\
Examples:
  dbvault tag latest before-upgrade
  dbvault tag nightly-1 --remove before-upgrade";

pub(crate) const FIND: &str = "\
Examples:
  dbvault find 'etc/*.conf'
  dbvault find 're:id_rsa$' --archive latest";

pub(crate) const RENAME: &str = "\
Examples:
  dbvault rename latest before-upgrade";

pub(crate) const COMMENT: &str = "\
Examples:
  dbvault comment latest 'before the upgrade to 18'
  dbvault comment latest --remove";

pub(crate) const PROTECT: &str = "\
Examples:
  dbvault protect nightly-1
  dbvault protect nightly-1 --remove";

pub(crate) const PRUNE: &str = "\
Examples:
  dbvault prune
  dbvault prune --dry-run --explain
  dbvault prune --keep-daily 14 --keep-monthly 12 --keep-within 3d

Without a rule: 7 daily, 4 weekly, 6 monthly, 1 yearly.";

pub(crate) const COMPACT: &str = "\
Examples:
  dbvault compact
  dbvault compact --keep-deleted-days 7";

pub(crate) const CONFIG: &str = "\
Examples:
  dbvault config generate
  dbvault config validate
  dbvault config import-borgmatic --source /etc/borgmatic/config.yaml";

pub(crate) const CONFIG_GENERATE: &str = "\
Examples:
  dbvault config generate
  dbvault config generate --destination /etc/dbvault/config.yaml";

pub(crate) const CONFIG_VALIDATE: &str = "\
Examples:
  dbvault config validate
  dbvault config validate --config ./new.yaml --json";

pub(crate) const CONFIG_SHOW: &str = "\
Examples:
  dbvault config show
  dbvault config show --json";

pub(crate) const COPY: &str = "\
Examples:
  dbvault copy --to /mnt/usb/backups
  dbvault copy --to offsite monday tuesday --dry-run
  dbvault copy --to /mnt/usb/backups --to-key-file ~/usb.key latest

A copy that was stopped goes on where it was when it is run again.";

pub(crate) const RECOMPRESS: &str = "\
Examples:
  dbvault recompress --level 15 --dry-run
  dbvault recompress --level 15 --repack-mb 10000";

pub(crate) const CONFIG_SCHEMA: &str = "\
Examples:
  dbvault config schema > dbvault.schema.json";

pub(crate) const CONFIG_IMPORT: &str = "\
Examples:
  dbvault config import-borgmatic
  dbvault config import-borgmatic --source borgmatic.yaml --destination -";

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
