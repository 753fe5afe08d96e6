//! `man`: the manual page.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Cli;
use crate::error::{Error, Result};
use crate::output;

pub(super) fn run(directory: Option<&Path>) -> Result<()> {
    let command = Cli::command();
    if let Some(directory) = directory {
        let failed = |source| Error::Write { path: directory.display().to_string(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        return clap_mangen::generate_to(command, directory).map_err(failed);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(Error::Stdout)?;
    output::bytes(&page)
}
