//! `find`: in which archives is a file, and as what?

use dbvault_files::Patterns;
use dbvault_format::entry::EntryKind;
use dbvault_jobs::Error as Job;

use super::tree;
use crate::args::Find;
use crate::context::Context;
use crate::error::Result;

pub(super) fn run(context: &Context, args: &Find) -> Result<()> {
    let mut patterns = Patterns::new();
    // What a pattern takes is what an exclusion of it would leave out.
    args.patterns.iter().try_for_each(|pattern| patterns.exclude(pattern)).map_err(Job::Files)?;
    let repository = context.open()?;
    let archives = match &args.archive {
        Some(archive) => vec![repository.find_archive(archive)?],
        None => repository.archives()?.archives,
    };
    let reader = repository.reader(context.progress().board())?;
    let mut found = 0_u64;
    for info in archives.iter().rev().filter(|info| info.deleted_ms.is_none()) {
        for entry in reader.entries(&info.manifest)?.iter().filter(|entry| entry.meta.kind == EntryKind::Tree)
        {
            for step in reader.open_table(entry)? {
                let (record, _) = step?;
                if patterns.takes(&record.path) {
                    continue;
                }
                tree::print(context, &record, Some(&info.manifest.name))?;
                found += 1;
            }
        }
    }
    match found {
        0 => Err(Job::NothingFound { pattern: args.patterns.join(" ") }.into()),
        _ => Ok(()),
    }
}
