//! The words of `dbvault config`.

use std::path::PathBuf;

use clap::Subcommand;

use super::examples;

/// What to do with configurations.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Write an example to begin with
    #[command(after_help = examples::CONFIG_GENERATE)]
    Generate {
        /// File to make; - is standard output. By default that of this user
        #[arg(long, short, value_name = "FILE")]
        destination: Option<PathBuf>,
    },
    /// Tell all that is wrong with the configuration, and what has no effect
    #[command(after_help = examples::CONFIG_VALIDATE)]
    Validate,
    /// Print what is in effect, without secrets
    #[command(after_help = examples::CONFIG_SHOW)]
    Show,
    /// Print the JSON Schema of configuration files, for editors
    #[command(after_help = examples::CONFIG_SCHEMA)]
    Schema,
    /// Make a configuration of one of borgmatic's
    #[command(after_help = examples::CONFIG_IMPORT)]
    ImportBorgmatic {
        /// The file to read; by default the usual one of borgmatic
        #[arg(long, value_name = "FILE")]
        source: Option<PathBuf>,
        /// File to make; - is standard output. By default that of this user
        #[arg(long, short, value_name = "FILE")]
        destination: Option<PathBuf>,
    },
}
