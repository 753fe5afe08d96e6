//! One file per command.

mod backup;
mod check;
mod choice;
mod completions;
mod config;
mod copy;
mod delete;
mod diff;
mod diff_files;
mod drill;
mod entry_table;
mod extract;
mod find;
mod import;
mod init;
mod key;
mod list;
mod man;
mod mount;
mod open;
mod prune;
mod recompress;
mod remarks;
mod repair;
mod restore;
mod restore_table;
mod schedule;
mod show;
mod status;
mod tables;
mod tar;
mod tree;
mod undelete;
mod version;

use dbvault_jobs::import::Program;

use crate::args::{Command, Key};
use crate::context::Context;
use crate::error::Result;
use crate::supervision;

/// Runs `command`, with all that the configuration says around it.
pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match supervision::action(&command) {
        Some(action) => supervision::around(context, action, || run_alone(context, command)),
        None => run_alone(context, command),
    }
}

fn run_alone(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Init(args) => init::run(context, args),
        Command::Backup(args) => backup::run(context, args),
        Command::List(args) => list::run(context, args),
        Command::Show(args) => show::run(context, args),
        Command::Restore(args) => restore::run(context, args),
        Command::Drill(args) => drill::run(context, args),
        Command::Diff(args) => diff::run(context, args),
        Command::Open(args) => open::run(context, args),
        Command::Tables(args) => tables::run(context, args),
        Command::Extract(args) => extract::run(context, args),
        Command::ExportTar(args) => tar::export(context, &args),
        Command::ImportTar(args) => tar::import(context, args),
        Command::ImportBorg(args) => import::run(context, args, Program::Borg),
        Command::ImportRestic(args) => import::run(context, args, Program::Restic),
        Command::Mount(args) => mount::run(context, args),
        Command::Umount(args) => mount::umount(context, args),
        Command::Status(args) => status::run(context, args),
        Command::Schedule(args) => schedule::run(context, args),
        Command::Check(args) => check::run(context, args),
        Command::Repair(args) => repair::run(context, args),
        Command::Delete(args) => delete::run(context, args),
        Command::Undelete(args) => undelete::run(context, args),
        Command::Prune(args) => prune::run(context, args),
        Command::Compact(args) => prune::compact(context, args),
        Command::Copy(args) => copy::run(context, args),
        Command::Recompress(args) => recompress::run(context, args),
        Command::Tag(args) => remarks::tag(context, args),
        Command::Find(args) => find::run(context, &args),
        Command::Rename(args) => remarks::rename(context, &args),
        Command::Comment(args) => remarks::comment(context, args),
        Command::Protect(args) => remarks::protect(context, args),
        Command::Config(command) => config::run(context, command),
        Command::Key(Key::List) => key::list(context),
        Command::Key(Key::Add(args)) => key::add(context, args),
        Command::Key(Key::Remove { id, yes }) => key::remove(context, &id, yes),
        Command::Key(Key::ChangePassphrase) => key::change_passphrase(context),
        Command::Key(Key::Export { output }) => key::export(context, &output),
        Command::Key(Key::Import { file, new }) => key::import(context, &file, new),
        Command::Version => version::run(context),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { output } => man::run(output.as_deref()),
    }
}
