//! A backup of Dolt or Doltgres, unpacked into a directory, from which `dolt_backup('restore', ...)` takes it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, attribute};
use tempfile::TempDir;

use crate::dolt::{BACKUP, COMPLETE};
use crate::interrupt::{self, Interrupt};
use crate::{Error, Result, Target};

/// Where to restore to.
#[derive(Clone, Debug)]
pub struct DoltTargetOptions {
    /// The directory to make. It is not replaced where there is something in it.
    pub directory: PathBuf,
    /// Stops the restore.
    pub interrupt: Interrupt,
}

/// Unpacks a backup.
#[derive(Debug)]
pub struct DoltTarget {
    options: DoltTargetOptions,
    loaded: Option<TempDir>,
    database: String,
}

impl DoltTarget {
    /// Makes nothing yet.
    pub fn new(options: DoltTargetOptions) -> DoltTarget {
        DoltTarget { options, loaded: None, database: String::new() }
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(format!("write {}", self.options.directory.display()))
    }
}

impl Target for DoltTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        let directory = &self.options.directory;
        if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
            let detail = format!("{} is not empty", directory.display());
            return Err(Error::Unsuitable { name: "the directory".to_owned(), detail });
        }
        Ok(None)
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        if meta.kind != EntryKind::Dolt {
            let detail = format!("it is of kind {}, not of Dolt", meta.kind.name());
            return Err(Error::Unsuitable { name: meta.name.clone(), detail });
        }
        self.database = meta.attributes.get(attribute::DATABASE).unwrap_or(&meta.name).clone();
        let parent = self.options.directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let beside =
            tempfile::Builder::new().prefix(".dbvault-").tempdir_in(parent).map_err(self.failed())?;
        let read = |error: io::Error| Error::from_io("read what is to be restored", error);
        let mut complete = false;
        let mut archive = tar::Archive::new(&mut *body);
        archive.set_preserve_mtime(false);
        for member in archive.entries().map_err(read)? {
            interrupt::check(&self.options.interrupt)?;
            let mut member = member.map_err(read)?;
            complete = member.path().map_err(read)?.as_ref() == Path::new(COMPLETE);
            // It refuses names that lead out of the directory.
            if !complete && !member.unpack_in(beside.path()).map_err(read)? {
                let detail = "it has a file with a name that leads elsewhere".to_owned();
                return Err(Error::Unsuitable { name: meta.name.clone(), detail });
            }
        }
        io::copy(body, &mut io::sink()).map_err(read)?;
        if !complete {
            let detail = "its last member is missing".to_owned();
            return Err(Error::Incomplete { name: meta.name.clone(), detail });
        }
        self.loaded = Some(beside);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.options.interrupt)?;
        let Some(beside) = self.loaded.take() else {
            let detail = "nothing was loaded".to_owned();
            return Err(Error::Unsuitable { name: self.database.clone(), detail });
        };
        let directory = &self.options.directory;
        // Only an empty directory is replaced by a rename.
        fs::rename(beside.path(), directory).map_err(self.failed())?;
        let _ = beside.keep();
        let url = std::path::absolute(directory.join(BACKUP)).unwrap_or_else(|_| directory.join(BACKUP));
        let next = format!(
            "in the server, dolt_backup('restore', 'file://{}', '{}') makes the database of it; users, rights and \
             configuration are files below {}",
            url.display(),
            self.database,
            directory.join("server").display()
        );
        Ok(EntryReport { warnings: vec![next], ..EntryReport::default() })
    }
}
