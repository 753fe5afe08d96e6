//! The words of the command line. Parsed only: nothing is looked up here.

mod config;
mod copies;
mod examples;
mod files;
mod look;
mod marks;
mod schedule;
mod sources;
mod tar;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use dbvault_format::key_slot::LABEL_BYTES_MAX;
use dbvault_repo::Part;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

pub(crate) use config::Config;
pub(crate) use copies::{Copy, Recompress};
pub(crate) use files::{ExtractFiles, Files, Snapshot};
pub(crate) use look::{Diff, Mount, Open, Tables, Umount};
pub(crate) use marks::{Comment, Delete, Find, Protect, Rename, Tag, Undelete};
pub(crate) use schedule::{Schedule, ScheduleInstall, ScheduleWhere};
pub(crate) use sources::Sources;
pub(crate) use tar::{ExportTar, Import, ImportTar};

/// Backups of databases, encrypted and deduplicated.
#[derive(Debug, Parser)]
#[command(name = "dbvault", version, max_term_width = 100, after_long_help = examples::root())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The repository, or its label in the configuration; by default the one that the configuration names
    #[arg(
        long,
        visible_alias = "repository",
        global = true,
        value_name = "PATH|LABEL",
        env = "DBVAULT_REPO",
        hide_env_values = true
    )]
    pub(crate) repo: Option<PathBuf>,

    /// A configuration file, in place of the usual ones; may be given several times
    #[arg(long, global = true, value_name = "FILE", env = "DBVAULT_CONFIG", hide_env_values = true)]
    pub(crate) config: Vec<PathBuf>,

    /// The key file that opens it, in place of a passphrase
    #[arg(long, global = true, value_name = "FILE", env = "DBVAULT_KEY_FILE", hide_env_values = true)]
    pub(crate) key_file: Option<PathBuf>,

    /// Print one JSON document, with sizes in bytes and times in UTC
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// No progress and no notes, only results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Tell what is being done; twice tells more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

// Without words of their own for each value, which would spread the help of every command over two screens.
/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a repository
    #[command(after_help = examples::INIT)]
    Init(Init),
    /// Back up databases, files of databases, commands or standard input into one archive
    #[command(after_help = examples::BACKUP)]
    Backup(Backup),
    /// List the archives, or the entries of one
    #[command(visible_alias = "ls", after_help = examples::LIST)]
    List(List),
    /// Show an archive: its entries, their sizes, sources, versions and durations
    #[command(after_help = examples::SHOW)]
    Show(Show),
    /// Put databases back from an archive
    #[command(after_help = examples::RESTORE)]
    Restore(Restore),
    /// Prove that an archive restores: in throw-away private servers, with rows counted and compared
    #[command(after_help = examples::DRILL)]
    Drill(Drill),
    /// Compare two archives: which entries changed, and by how many bytes
    #[command(after_help = examples::DIFF)]
    Diff(Diff),
    /// Open a database of an archive in a throw-away private server, to be looked at
    #[command(after_help = examples::OPEN)]
    Open(Open),
    /// List the tables in the dumps of an archive, with their rows and bytes
    #[command(after_help = examples::TABLES)]
    Tables(Tables),
    /// Write one entry, byte for byte, or the rows of one table to a file or standard output
    #[command(after_help = examples::EXTRACT)]
    Extract(Extract),
    /// Write the files of an archive as a tar archive
    #[command(after_help = examples::EXPORT_TAR)]
    ExportTar(ExportTar),
    /// Make an archive of the files in a tar archive
    #[command(after_help = examples::IMPORT_TAR)]
    ImportTar(ImportTar),
    /// Bring the archives of a Borg repository over
    #[command(after_help = examples::IMPORT_BORG)]
    ImportBorg(Import),
    /// Bring the snapshots of a restic repository over
    #[command(after_help = examples::IMPORT_RESTIC)]
    ImportRestic(Import),
    /// Show all archives as directories and files, to be read in place
    #[command(after_help = examples::MOUNT)]
    Mount(Mount),
    /// End a mount
    #[command(visible_alias = "unmount", after_help = examples::UMOUNT)]
    Umount(Umount),
    /// Tell how well backed up each database is, and fail where one is not
    #[command(after_help = examples::STATUS)]
    Status(Status),
    /// Look for damage
    #[command(after_help = examples::CHECK)]
    Check(Check),
    /// Make the index anew, put damaged objects into quarantine, restore what parity can
    #[command(after_help = examples::REPAIR)]
    Repair(Repair),
    /// Mark archives as deleted; see undelete
    #[command(after_help = examples::DELETE)]
    Delete(Delete),
    /// Take a deletion back
    #[command(after_help = examples::UNDELETE)]
    Undelete(Undelete),
    /// Give an archive words that it is found and kept by
    #[command(after_help = examples::TAG)]
    Tag(Tag),
    /// Find files in all archives
    #[command(after_help = examples::FIND)]
    Find(Find),
    /// Give an archive another name
    #[command(after_help = examples::RENAME)]
    Rename(Rename),
    /// Say something of an archive
    #[command(after_help = examples::COMMENT)]
    Comment(Comment),
    /// Keep archives from being deleted and pruned
    #[command(after_help = examples::PROTECT)]
    Protect(Protect),
    /// Drop archives by rules, and free what only they used
    #[command(after_help = examples::PRUNE)]
    Prune(Prune),
    /// Free what no archive uses
    #[command(after_help = examples::COMPACT)]
    Compact(Compact),
    /// Copy archives to another repository
    #[command(after_help = examples::COPY)]
    Copy(Copy),
    /// Store what there is at another level of compression
    #[command(after_help = examples::RECOMPRESS)]
    Recompress(Recompress),
    /// Run dbvault by itself: a systemd timer, or cron
    #[command(subcommand, after_help = examples::SCHEDULE)]
    Schedule(Schedule),
    /// The configuration: make, check, show it, or take it over from borgmatic
    #[command(subcommand, after_help = examples::CONFIG)]
    Config(Config),
    /// Passphrases and key files of the repository
    #[command(subcommand, after_help = examples::KEY)]
    Key(Key),
    /// Tell the version of the program and of the repository format
    #[command(after_help = examples::VERSION)]
    Version,
    /// Print a script that completes commands in a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands to a directory
    #[command(after_help = examples::MAN)]
    Man {
        /// Directory for one page per command
        #[arg(long, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Directory to make it in; it must not be there, or be empty
    #[arg(value_name = "REPO")]
    pub(crate) path: Option<PathBuf>,

    /// What to call the first key slot; by default user and host
    #[arg(long, value_parser = label)]
    pub(crate) label: Option<String>,

    /// Store parity for each pack, about so many percent of it: repair restores what it can with it
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) parity: Option<u8>,

    /// Give it the data keys and parameters of this repository, a path or a label: copies between the two need not be
    /// decoded. Whoever can open one of them can then read both
    #[arg(long, value_name = "PATH|LABEL")]
    pub(crate) like: Option<PathBuf>,

    /// The key file that opens that repository; by default what the configuration says, then DBVAULT_LIKE_PASSPHRASE
    #[arg(
        long,
        value_name = "FILE",
        env = "DBVAULT_LIKE_KEY_FILE",
        hide_env_values = true,
        requires = "like"
    )]
    pub(crate) like_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Name of the archive; by default host and time
    #[arg(long, value_name = "NAME")]
    pub(crate) archive: Option<String>,

    /// A remark that is kept with the archive
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,

    /// When what is backed up was made, for older dumps: 2026-11-01T03:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) timestamp: Option<Timestamp>,

    /// How many sources are read at once; by default one for each core, up to 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) parallel: Option<u16>,

    /// Make no archive if any source fails; by default the others are kept, and the archive is incomplete
    #[arg(long)]
    pub(crate) all_or_nothing: bool,

    #[command(flatten)]
    pub(crate) files: Files,

    #[command(flatten)]
    pub(crate) sources: Sources,

    #[command(flatten)]
    pub(crate) server: Server,
}

/// Which PostgreSQL server. A password comes from PGPASSWORD, ~/.pgpass or a service file, never from here.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub(crate) struct Server {
    /// Host name, address or socket directory of the server
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,

    /// Port of the server
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// Role to connect as
    #[arg(long, value_name = "ROLE")]
    pub(crate) username: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// List the entries of this archive: its name, its id, or latest
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) archive: Option<String>,

    /// List the files of the archive: these, and what is below them
    #[arg(value_name = "PATH", requires = "archive")]
    pub(crate) paths: Vec<String>,

    /// List all files of the archive
    #[arg(long, requires = "archive")]
    pub(crate) files: bool,

    /// Deleted archives too
    #[arg(long)]
    pub(crate) deleted: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The archive: its name, its id, or latest
    #[arg(value_name = "ARCHIVE", default_value = "latest")]
    pub(crate) positional: String,

    /// The same, as an option
    #[arg(long, value_name = "ARCHIVE", conflicts_with = "positional")]
    pub(crate) archive: Option<String>,

    /// Tell also what only this archive uses: what deleting it would free
    #[arg(long)]
    pub(crate) dedup: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The archive: its name, its id, or latest
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) archive: String,

    /// Only these entries or databases; all means all
    #[arg(long = "database", visible_alias = "entry", value_name = "NAME", num_args = 1..)]
    pub(crate) databases: Vec<String>,

    /// Restore one entry into this database, or SQLite file, in place of its own
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) to: Option<String>,

    /// Overwrite without asking
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// Only tell what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How many databases, or parts of one, are loaded at once; by default one for each core, up to 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) parallel: Option<u16>,

    /// Load into the live database, in one transaction, and leave alone what the dump does not have
    #[arg(long, conflicts_with = "keep_old")]
    pub(crate) in_place: bool,

    /// Only this table, in one transaction: under another name, or with --in-place; may be given several times
    #[arg(long = "table", value_name = "TABLE", conflicts_with_all = ["schemas", "keep_old", "parallel"])]
    pub(crate) tables: Vec<String>,

    /// With --table, the name to restore it under; by default one with the time of the archive
    #[arg(long = "as", value_name = "NAME", requires = "tables", conflicts_with = "in_place")]
    pub(crate) new_name: Option<String>,

    /// Only what was backed up from this host
    #[arg(long, value_name = "HOST", help_heading = "Databases of one name")]
    pub(crate) original_hostname: Option<String>,

    /// Only what was backed up from this port
    #[arg(long, value_name = "PORT", help_heading = "Databases of one name")]
    pub(crate) original_port: Option<u16>,

    /// Only what was backed up from the server of this label
    #[arg(long, value_name = "LABEL", help_heading = "Databases of one name")]
    pub(crate) original_label: Option<String>,

    /// Only databases of this kind: postgresql, mariadb, ...
    #[arg(long, value_name = "KIND", help_heading = "Databases of one name")]
    pub(crate) hook: Option<String>,

    #[command(flatten)]
    pub(crate) server: Server,

    /// Only this schema, in place of what is in it; may be given several times
    #[arg(long = "schema", value_name = "SCHEMA", help_heading = "PostgreSQL", conflicts_with = "keep_old")]
    pub(crate) schemas: Vec<String>,

    /// Do not collect statistics for the planner (ANALYZE)
    #[arg(long, help_heading = "PostgreSQL")]
    pub(crate) no_analyze: bool,

    /// Everything belongs to the role that restores
    #[arg(long, help_heading = "PostgreSQL")]
    pub(crate) no_owner: bool,

    /// Leave out grants, security labels and settings of roles
    #[arg(long, help_heading = "PostgreSQL")]
    pub(crate) no_privileges: bool,

    /// Put everything in the server's default tablespace
    #[arg(long, help_heading = "PostgreSQL")]
    pub(crate) no_tablespaces: bool,

    /// Keep the database that is replaced under another name
    #[arg(long, help_heading = "PostgreSQL")]
    pub(crate) keep_old: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// The archive: its name, its id, or latest
    #[arg(long, value_name = "ARCHIVE", default_value = "latest")]
    pub(crate) archive: String,

    /// Only these entries or databases; all means all
    #[arg(long = "database", visible_alias = "entry", value_name = "NAME", num_args = 1..)]
    pub(crate) databases: Vec<String>,

    /// Only databases of this kind: postgresql, mariadb, sqlite, redis
    #[arg(long, value_name = "KIND")]
    pub(crate) hook: Option<String>,

    /// A question to each database with SQL: it must have an answer that is not false, 0 or NULL; may be given several times
    #[arg(long = "query", value_name = "SQL")]
    pub(crate) queries: Vec<String>,

    /// Do not record with the archive what was found
    #[arg(long)]
    pub(crate) no_record: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Extract {
    /// The archive: its name, its id, or latest
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) archive: String,

    /// The entry or database; may be left out where there is only one
    #[arg(long, visible_alias = "database", value_name = "NAME")]
    pub(crate) entry: Option<String>,

    /// File to write; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,

    /// Replace the file where it is there already
    #[arg(long)]
    pub(crate) force: bool,

    /// Only the rows of this table, named as in SQL: orders, public.orders, "Odd.Schema"."Orders"
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,

    /// In which form
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "csv", requires = "table")]
    pub(crate) format: RowFormat,

    /// The first line of CSV has the names of the columns
    #[arg(long, requires = "table")]
    pub(crate) header: bool,

    #[command(flatten)]
    pub(crate) files: ExtractFiles,
}

/// A form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// As COPY writes them: fields with tabs between them
    Copy,
    /// As COPY writes them with its option CSV
    Csv,
    /// A script that makes the table and what it needs, with its rows
    Sql,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Fail where the last backup of a database is older than AGE: 26h, 90m, 2d
    #[arg(long, value_name = "AGE", value_parser = hours_and_days)]
    pub(crate) max_age: Option<Duration>,

    /// Fail where no drill restored a database within AGE, or none ever did: 40d
    #[arg(long, value_name = "AGE", value_parser = hours_and_days)]
    pub(crate) max_proof_age: Option<Duration>,

    /// Only databases with this name; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Vec<String>,

    /// Only what is backed up from this host; may be given several times
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,

    /// Print metrics for Prometheus
    #[arg(long, conflicts_with = "json")]
    pub(crate) prometheus: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Read, decrypt and decode all data too: finds every damaged byte, and takes as long as reading everything
    #[arg(long)]
    pub(crate) read_data: bool,

    /// Read the data of a share of the packs: 5% for the next twentieth each time, 3/20 for the third of twenty
    #[arg(long, value_name = "SHARE", conflicts_with = "read_data", value_parser = share)]
    pub(crate) subset: Option<Share>,

    /// Read the data of packs that no check from here has read for so long, such as 30d
    #[arg(long, value_name = "DAYS", conflicts_with_all = ["read_data", "subset"], value_parser = days)]
    pub(crate) max_age: Option<u32>,

    /// Without a passphrase or a key: finds all damage to packs, and some of it to other objects
    #[arg(long, conflicts_with_all = ["read_data", "subset", "max_age"])]
    pub(crate) no_key: bool,
}

/// A share of all packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// One of so many parts: that which comes after the last one.
    Next(u32),
    /// Which part, and of how many.
    Part(Part),
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Read, decrypt and compare all packs too: finds every damaged one, and takes as long as reading everything
    #[arg(long)]
    pub(crate) read_data: bool,

    /// Store parity for packs that have none, about so many percent of each
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_missing_value = "10",
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) add_parity: Option<u8>,

    /// Only tell what is wrong
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Repair without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// How many archives are kept of each series: the same databases of the same host.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Keep the newest N archives
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) keep_last: usize,

    /// Keep the newest archive of each of N hours
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) keep_hourly: usize,

    /// Of each of N days; without any rule 7
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) keep_daily: usize,

    /// Of each of N weeks; without any rule 4
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) keep_weekly: usize,

    /// Of each of N months; without any rule 6
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) keep_monthly: usize,

    /// Of each of N years; without any rule 1
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) keep_yearly: usize,

    /// Keep all archives that are no older than AGE: 14d, 2w, 36h, 3mo, 1y
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) keep_within: Option<Span>,

    /// Keep all archives with this tag
    #[arg(long, value_name = "TAG")]
    pub(crate) keep_tag: Vec<String>,

    #[command(flatten)]
    pub(crate) space: Space,

    /// Go on even if more than half of the archives would be dropped
    #[arg(long)]
    pub(crate) drop_most: bool,

    /// Tell for each archive which rule keeps it
    #[arg(long)]
    pub(crate) explain: bool,

    /// Only tell what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Compact {
    #[command(flatten)]
    pub(crate) space: Space,
}

/// How space is freed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Space")]
pub(crate) struct Space {
    /// How long what is dropped or deleted can be taken back, days
    #[arg(long, value_name = "DAYS")]
    pub(crate) keep_deleted_days: Option<u32>,

    /// How long to wait for running backups: 30m, 2h. What they may use is left to the next time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,

    /// Most that may be read and stored again to empty packs that are partly waste, MB
    #[arg(long, value_name = "MB", default_value_t = 32_000)]
    pub(crate) repack_mb: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// List the key slots
    #[command(after_help = examples::KEY_LIST)]
    List,
    /// Add a passphrase or a key file
    #[command(after_help = examples::KEY_ADD)]
    Add(NewKey),
    /// Remove a passphrase or a key file
    #[command(after_help = examples::KEY_REMOVE)]
    Remove {
        /// Id of its key slot, or the beginning of it
        #[arg(value_name = "ID")]
        id: String,
        /// Remove without asking
        #[arg(long, short)]
        yes: bool,
    },
    /// Put a new passphrase in place of the one that the repository is opened with
    #[command(after_help = examples::KEY_CHANGE)]
    ChangePassphrase,
    /// Write down the master key: it opens the repository for ever, whatever becomes of the passphrases
    #[command(after_help = examples::KEY_EXPORT)]
    Export {
        /// File to make; - is standard output
        #[arg(long, short, value_name = "FILE", default_value = "-")]
        output: PathBuf,
    },
    /// Use an exported master key to add a passphrase or a key file
    #[command(after_help = examples::KEY_IMPORT)]
    Import {
        /// The file that key export made
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        new: NewKey,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// Add this key file, which is made where it is not there, in place of a passphrase
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,

    /// What to call the key slot; by default user and host
    #[arg(long, value_parser = label)]
    pub(crate) label: Option<String>,
}

/// `5%`, or `3/20`.
fn share(text: &str) -> Result<Share, String> {
    const PARTS_MAX: u32 = 1_000_000;
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| "not a number before the %")?;
        let of = (100.0 / percent).floor();
        let sound = percent > 0.0 && percent <= 100.0 && of <= f64::from(PARTS_MAX);
        return if sound {
            Ok(Share::Next(of as u32))
        } else {
            Err("not more than 0% and at most 100%".into())
        };
    }
    let (number, of) = text.split_once('/').ok_or("neither a share such as 5% nor a part such as 3/20")?;
    let (number, of) = (number.trim().parse().ok(), of.trim().parse().ok());
    let part =
        number.zip(of).filter(|(_, of)| *of <= PARTS_MAX).and_then(|(number, of)| Part::new(number, of));
    part.map(Share::Part).ok_or_else(|| "there is no such part: 1/20 is the first of twenty".into())
}

/// `30d`, or `30`.
fn days(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('d').unwrap_or(text);
    number.parse().map_err(|_| "not a number of days, such as 30d".into())
}

fn age(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|_| "not an age like 14d, 2w, 36h, 3mo or 1y".to_owned())?;
    if span.is_negative() { Err("an age is not negative".into()) } else { Ok(span) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "not a time like 90s, 30m or 2h".to_owned())?;
    duration.try_into().map_err(|_| "a time is not negative".to_owned())
}

/// Likewise, with days of 24 hours.
fn hours_and_days(text: &str) -> Result<Duration, String> {
    let wrong = || "not an age like 26h, 90m or 2d".to_owned();
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    duration.try_into().map_err(|_| "an age is not negative".to_owned())
}

fn label(text: &str) -> Result<String, String> {
    if text.len() > LABEL_BYTES_MAX {
        return Err(format!("longer than {LABEL_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shares_and_days_are_read() {
        assert_eq!(share("5%"), Ok(Share::Next(20)));
        assert_eq!(share("30 %"), Ok(Share::Next(3)));
        assert_eq!(share("100%"), Ok(Share::Next(1)));
        assert_eq!(share("3/20"), Ok(Share::Part(Part::new(3, 20).unwrap())));
        for bad in [
            "",
            "%",
            "0%",
            "-5%",
            "101%",
            "nan%",
            "inf%",
            "1e-9%",
            "0/3",
            "4/3",
            "1/0",
            "x/3",
            "5",
            "1/9999999",
        ] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!([days("30d"), days("7")], [Ok(30), Ok(7)]);
        assert!(["", "d", "-1d", "1h", "99999999999d"].iter().all(|bad| days(bad).is_err()));
    }

    #[test]
    fn ages_have_hours_and_days() {
        let hours = |hours: u64| Ok(Duration::from_secs(hours * 3600));
        assert_eq!(
            ["26h", "2d", "1d 2h", "1w"].map(hours_and_days),
            [hours(26), hours(48), hours(26), hours(168)]
        );
        assert!(["", "1mo", "-1h", "x"].iter().all(|bad| hours_and_days(bad).is_err()));
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().or(command.get_after_long_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
