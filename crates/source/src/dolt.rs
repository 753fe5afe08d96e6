//! One database of a Dolt or Doltgres server, with what the server keeps beside its databases.
//!
//! `dolt_backup` writes all branches, tags and working sets of a database into a directory, the spool. It stays from
//! one backup to the next, so that only what is new is written. The entry is a tar archive of the spool and of the
//! files with configuration, users and rights on branches, which `dolt_backup` leaves out. Its last member tells that
//! it is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};

use crate::body::{BodyEnd, ByteCount, body};
use crate::conninfo::Conninfo;
use crate::interrupt::{self, Interrupt};
use crate::mariadb_tools::{MariadbServer, Session, literal};
use crate::postgres_tools::{Psql, Tools, literal as postgres_literal};
use crate::{Entry, Error, Result, Source};

/// The folder of a tar archive that holds what `dolt_backup` wrote.
pub(crate) const BACKUP: &str = "backup";
/// The folder of a tar archive that holds files of the data directory.
const SERVER: &str = "server";
/// The member that ends a whole tar archive.
pub(crate) const COMPLETE: &str = "dbvault-complete";
/// Files of the data directory that belong to the server: configuration, users, rights on branches.
const SERVER_FILES: [&str; 6] = [
    "config.yaml",
    ".doltcfg/config.yaml",
    ".doltcfg/privileges.db",
    ".doltcfg/branch_control.db",
    ".doltcfg/auth.db",
    ".dolt/config.json",
];
/// Files of a database that `dolt_backup` leaves out: settings and remotes.
const DATABASE_FILES: [&str; 2] = [".dolt/config.json", ".dolt/repo_state.json"];
/// Versions of Doltgres before this one leave sequences, types, functions and triggers out of backups.
const DOLTGRES_WHOLE: [u32; 3] = [0, 56, 5];
const BLOCK_BYTES: u64 = 512;

/// How the server is talked to.
#[derive(Clone, Debug)]
pub enum DoltServer {
    /// Dolt, by the client of MySQL.
    Dolt(MariadbServer),
    /// Doltgres, by `psql`: a connection string or URI.
    Doltgres(String),
}

/// What to dump.
#[derive(Clone, Debug)]
pub struct DoltOptions {
    /// The server. It must run on this machine: it writes into the spool.
    pub server: DoltServer,
    /// The database.
    pub database: String,
    /// The directory that holds the server's databases, for what belongs to the server; none: that is left out.
    pub data_directory: Option<PathBuf>,
    /// A directory that is kept from one backup to the next. The server must be allowed to write into it.
    pub spool: PathBuf,
    /// Name of the entry.
    pub entry_name: String,
    /// The user's own word for the server.
    pub label: Option<String>,
    /// Stops the dump.
    pub interrupt: Interrupt,
}

/// Backs up one database.
pub struct DoltSource {
    options: DoltOptions,
    running: Option<BodyEnd<ByteCount>>,
    warnings: Vec<String>,
}

impl DoltSource {
    /// Connects to nothing yet.
    pub fn new(options: DoltOptions) -> DoltSource {
        DoltSource { options, running: None, warnings: Vec::new() }
    }

    /// Has the server write its backup. Gives its version.
    fn sync(&self, spool: &Path) -> Result<String> {
        let url = format!("file://{}", spool.display());
        match &self.options.server {
            DoltServer::Dolt(server) => {
                let session = Session::new(server, &[], &[])?;
                let version = session.query("SELECT dolt_version()")?.concat().concat();
                let call = format!("CALL dolt_backup('sync-url', {})", literal(&url));
                session.query_in(Some(&self.options.database), &call)?;
                Ok(format!("Dolt {version}"))
            }
            DoltServer::Doltgres(text) => {
                let conninfo = Conninfo::parse(text)
                    .map_err(|message| Error::Connect { server: "the given address".to_owned(), message })?;
                let psql = Tools::new(None).newest("psql")?;
                let psql =
                    Psql::new(psql, conninfo, &self.options.interrupt).with_database(&self.options.database);
                let version =
                    psql.run(&["SELECT dolt_version()"]).map(|rows| rows.concat()).unwrap_or_default();
                psql.run(&[&format!("SELECT dolt_backup('sync-url', {})", postgres_literal(&url))])?;
                Ok(format!("Doltgres {version}"))
            }
        }
    }

    fn members(&self, spool: &Path) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        collect(spool, Path::new(BACKUP), &mut members)?;
        if members.is_empty() {
            let detail = "the server wrote no backup of it".to_owned();
            return Err(Error::Incomplete { name: self.options.entry_name.clone(), detail });
        }
        let Some(data) = &self.options.data_directory else { return Ok(members) };
        let of_server = SERVER_FILES.iter().map(PathBuf::from);
        let of_database = DATABASE_FILES.iter().map(|file| Path::new(&self.options.database).join(file));
        for relative in of_server.chain(of_database) {
            let path = data.join(&relative);
            if path.is_file() {
                members.push(Member { path, name: Path::new(SERVER).join(relative) });
            }
        }
        Ok(members)
    }
}

/// Adds all files below `directory`, in an order that is always the same.
fn collect(directory: &Path, name: &Path, members: &mut Vec<Member>) -> Result<()> {
    let failed = || Error::io(format!("read {}", directory.display()));
    let mut entries =
        fs::read_dir(directory).map_err(failed())?.collect::<io::Result<Vec<_>>>().map_err(failed())?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed())?;
        if kind.is_dir() {
            collect(&path, &name, members)?;
        } else if kind.is_file() && entry.file_name() != "LOCK" {
            members.push(Member { path, name });
        }
    }
    Ok(())
}

impl Source for DoltSource {
    fn name(&self) -> &str {
        &self.options.entry_name
    }

    fn open(&mut self) -> Result<Entry> {
        let spool = self.options.spool.join(file_name(&self.options.database));
        let spool = std::path::absolute(&spool).map_err(Error::io("find the spool"))?;
        fs::create_dir_all(&spool).map_err(Error::io(format!("make {}", spool.display())))?;
        let version = self.sync(&spool)?;
        if is_old_doltgres(&version) {
            self.warnings.push(format!(
                "{version} leaves sequences, types, functions, procedures and triggers out of its backups: upgrade it \
                 to 0.56.5 or later"
            ));
        }
        if self.options.data_directory.is_none() {
            let text =
                "users, rights on branches and configuration are left out: its data directory is not named";
            self.warnings.push(text.to_owned());
        }
        let tar = Tar::new(self.members(&spool)?, self.options.interrupt.clone());
        let (body, end) = body(tar, ByteCount::default());
        self.running = Some(end);
        let attributes = [
            (attribute::SERVER_VERSION, Some(version)),
            (attribute::DATABASE, Some(self.options.database.clone())),
            (attribute::LABEL, self.options.label.clone()),
            (attribute::PATH, self.options.data_directory.as_ref().map(|path| path.display().to_string())),
            (attribute::FORMAT, Some("tar".to_owned())),
        ];
        let attributes: BTreeMap<String, String> =
            attributes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let name = self.options.entry_name.clone();
        Ok(Entry { meta: EntryMeta { name, kind: EntryKind::Dolt, grid: Grid::Content, attributes }, body })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let name = self.options.entry_name.clone();
        let running = self.running.take().ok_or_else(|| Error::Empty { name: name.clone() })?;
        running.take(&name)?;
        let warnings = std::mem::take(&mut self.warnings);
        Ok(EntryReport { attributes: BTreeMap::new(), warnings })
    }
}

/// A name as that of a directory.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|character| if character == '/' || character == '\0' { '_' } else { character })
        .collect()
}

fn is_old_doltgres(version: &str) -> bool {
    let Some(numbers) = version.strip_prefix("Doltgres ") else { return false };
    let numbers: Vec<u32> =
        numbers.trim_start_matches('v').split('.').map_while(|part| part.parse().ok()).collect();
    numbers.len() == 3 && numbers.as_slice() < DOLTGRES_WHOLE.as_slice()
}

/// One file of a tar archive.
#[derive(Debug)]
struct Member {
    path: PathBuf,
    name: PathBuf,
}

/// Writes a tar archive as it is read: same files, same bytes.
struct Tar {
    members: std::vec::IntoIter<Member>,
    interrupt: Interrupt,
    /// The file that is being read, and how much of it is left.
    file: Option<Reading>,
    /// Bytes that come before the rest of the file, or after all files.
    ready: io::Cursor<Vec<u8>>,
    ended: bool,
}

/// A file that is being read.
struct Reading {
    file: File,
    path: PathBuf,
    length: u64,
    left: u64,
}

impl Tar {
    fn new(members: Vec<Member>, interrupt: Interrupt) -> Tar {
        let members = members.into_iter();
        Tar { members, interrupt, file: None, ready: io::Cursor::new(Vec::new()), ended: false }
    }

    /// Begins the next member, or ends the archive.
    fn next(&mut self) -> Result<()> {
        let failed = |path: &Path| Error::io(format!("read {}", path.display()));
        if let Some(Member { path, name }) = self.members.next() {
            let file = File::open(&path).map_err(failed(&path))?;
            let length = file.metadata().map_err(failed(&path))?.len();
            self.ready = io::Cursor::new(header(&name, length)?);
            self.file = Some(Reading { file, path, length, left: length });
        } else {
            let mut end = header(Path::new(COMPLETE), 0)?;
            end.resize(end.len() + 2 * BLOCK_BYTES as usize, 0);
            self.ready = io::Cursor::new(end);
            self.ended = true;
        }
        Ok(())
    }
}

fn header(name: &Path, length: u64) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(Error::io(format!("name {} in an archive", name.display())))?;
    header.set_size(length);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        interrupt::check(&self.interrupt).map_err(Error::into_io)?;
        loop {
            let count = self.ready.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if self.ended {
                return Ok(0);
            }
            let Some(Reading { file, path, length, left }) = &mut self.file else {
                self.next().map_err(Error::into_io)?;
                continue;
            };
            let room = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            if room == 0 {
                self.ready =
                    io::Cursor::new(vec![0; (length.next_multiple_of(BLOCK_BYTES) - *length) as usize]);
                self.file = None;
                continue;
            }
            let count = file.read(&mut buffer[..room])?;
            if count == 0 {
                let detail = format!("{} became shorter while it was read", path.display());
                return Err(Error::Incomplete { name: "the spool".to_owned(), detail }.into_io());
            }
            *left -= count as u64;
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_leave_things_out_are_known() {
        assert!(is_old_doltgres("Doltgres 0.55.9") && is_old_doltgres("Doltgres v0.56.4"));
        for fine in ["Doltgres 0.56.5", "Doltgres 1.2.0", "Dolt 0.1.0", "Doltgres "] {
            assert!(!is_old_doltgres(fine), "{fine}");
        }
    }
}
