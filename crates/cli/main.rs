//! dbvault: backups of databases, encrypted and deduplicated. The command line: asks, shows, and picks exit codes.

mod args;
mod commands;
mod configuration;
mod context;
mod documents;
mod error;
mod exit_code;
mod hardening;
mod output;
mod progress;
mod prompt;
mod report;
mod sanitize;
mod signals;
mod style;
mod supervision;
mod transcript;

use clap::Parser;

use crate::args::Cli;
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::signals::Signals;
use crate::style::Style;

fn main() -> std::process::ExitCode {
    hardening::keep_secrets_out_of_core_files();
    let cli = Cli::parse();
    let style = Style::for_stderr(cli.global.color);
    report::start_log(cli.global.verbose, style);
    let outcome = Signals::install().map_err(error::Error::Signals).and_then(|signals| {
        let context = Context::new(cli.global, style, &signals);
        let done = commands::run(&context, cli.command);
        done.map_err(|error| signals.explain(error))
    });
    let code = match outcome {
        Ok(()) => ExitCode::Success,
        Err(error::Error::CommandEnded { status }) => return status.into(),
        Err(error) => {
            report::error(&error, style);
            ExitCode::of(&error)
        }
    };
    code.into()
}
