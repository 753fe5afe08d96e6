//! One file per command.

mod backup;
mod check;
mod completions;
mod delete;
mod entry_table;
mod extract;
mod init;
mod key;
mod list;
mod man;
mod restore;
mod show;
mod undelete;
mod version;

use crate::args::{Command, Key};
use crate::context::Context;
use crate::error::Result;

/// Runs `command`.
pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Init(args) => init::run(context, args),
        Command::Backup(args) => backup::run(context, args),
        Command::List(args) => list::run(context, args),
        Command::Show(args) => show::run(context, args),
        Command::Restore(args) => restore::run(context, args),
        Command::Extract(args) => extract::run(context, args),
        Command::Check(args) => check::run(context, args),
        Command::Delete(args) => delete::run(context, args),
        Command::Undelete(args) => undelete::run(context, args),
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
