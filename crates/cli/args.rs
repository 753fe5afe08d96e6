//! The words of the command line. Parsed only: nothing is looked up here.

mod examples;
mod sources;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use dbvault_format::key_slot::LABEL_BYTES_MAX;

pub(crate) use sources::Sources;

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
    /// The repository; by default the one that the configuration file names
    #[arg(long, global = true, value_name = "PATH", env = "DBVAULT_REPO", hide_env_values = true)]
    pub(crate) repo: Option<PathBuf>,

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
    /// Write one entry, byte for byte, to a file or standard output
    #[command(after_help = examples::EXTRACT)]
    Extract(Extract),
    /// Look for damage
    #[command(after_help = examples::CHECK)]
    Check(Check),
    /// Mark archives as deleted; see undelete
    #[command(after_help = examples::DELETE)]
    Delete(Delete),
    /// Take a deletion back
    #[command(after_help = examples::UNDELETE)]
    Undelete(Undelete),
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
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Name of the archive; by default host and time
    #[arg(long, value_name = "NAME")]
    pub(crate) archive: Option<String>,

    /// A remark that is kept with the archive
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,

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
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The archive: its name, its id, or latest
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) archive: String,

    /// Only this entry or database; may be given several times
    #[arg(long = "database", visible_alias = "entry", value_name = "NAME")]
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

    #[command(flatten)]
    pub(crate) server: Server,

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
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Read, decrypt and decode all data too: finds every damaged byte, and takes as long as reading everything
    #[arg(long)]
    pub(crate) read_data: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The archives: names or ids
    #[arg(required = true, value_name = "ARCHIVE")]
    pub(crate) archives: Vec<String>,

    /// Only tell what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Undelete {
    /// The archives: names or ids
    #[arg(required = true, value_name = "ARCHIVE")]
    pub(crate) archives: Vec<String>,
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
