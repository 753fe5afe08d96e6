//! One SQLite database file, page for page. `sqlite_restore.rs` is the way back.
//!
//! The pages are those of one read transaction, so they are a consistent database whatever is written meanwhile.
//! How they are got:
//!
//! - **from the live file**, through SQLite's own page cache and the `sqlite_dbpage` table. In WAL mode this blocks
//!   nobody. In the rollback modes a reader holds back every commit, so it is done for small databases only.
//! - **from a copy** in an unnamed temporary file, made with the backup API at the speed of the disk: for large
//!   databases in rollback mode, and where SQLite was built without `sqlite_dbpage`.
//!
//! Nothing is rewritten: the WAL flag in bytes 18 and 19 stays, as a restored database shall be in the same mode,
//! and its content is all in the pages. (The backup API itself counts the schema cookie up by one.)
//!
//! The live file is opened read-only. In WAL mode SQLite still makes an empty `-wal` and a `-shm` where nobody else
//! has the database open; they are gone when a backup has ended well.
//!
//! A file without a single page is a valid empty database for SQLite. It is refused ([`Error::Empty`]): it holds
//! nothing that could be lost, and is what a wrong path or a failed copy looks like.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::body::{BodyEnd, body};
use crate::interrupt::{self, Interrupt, POLL_MS};
use crate::sqlite_pages::{PageCheck, PageReader};
use crate::{Entry, Error, Result, Source};

/// Size of the grid that the pages are cut on, bytes: a multiple of every page size. A chunk with a changed page
/// is stored as its difference to the chunk before, so a larger grid costs little data and saves an entry in
/// the index for each chunk. Growth after 1% and 0.01% of the rows of an 83 MB database changed, with grids of
/// 16, 32, 64 and 128 KiB: 3.1, 2.6, 2.0, 1.6 MB and 263, 157, 109, 83 kB.
const GRID_BYTES: u32 = 128 << 10;
/// Largest database in a rollback mode that is read from the live file, bytes: its writers wait until the stream
/// has been taken off our hands, which is well below a second.
const LOCKED_BYTES_MAX: u64 = 32 << 20;
/// How long another program's lock is waited for, milliseconds.
const BUSY_WAIT_MS_MAX: u64 = 30_000;
/// Pages copied between two looks at the interrupt flag.
const COPY_STEP_PAGES: i32 = 4_096;

/// Which file to back up.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file.
    pub path: PathBuf,
    /// Name of the entry; by default the absolute path.
    pub entry_name: Option<String>,
    /// Always copy to a temporary file first, as where SQLite was built without `sqlite_dbpage`.
    pub always_copy: bool,
    /// Stops the dump.
    pub interrupt: Interrupt,
}

impl SqliteOptions {
    /// Options for a file, with everything else left to its default.
    pub fn new(path: impl Into<PathBuf>) -> SqliteOptions {
        SqliteOptions {
            path: path.into(),
            entry_name: None,
            always_copy: false,
            interrupt: Interrupt::default(),
        }
    }
}

/// Backs up one SQLite database.
#[derive(Debug)]
pub struct SqliteSource {
    name: String,
    path: PathBuf,
    options: SqliteOptions,
    end: Option<BodyEnd<PageCheck>>,
    /// There was no `-wal` when the backup began.
    wal_was_absent: bool,
}

/// The database as the read transaction sees it.
struct Shape {
    page_bytes: u32,
    pages: u32,
    journal_mode: String,
}

impl SqliteSource {
    /// Opens nothing yet. Errors: [`Error::Unsuitable`] when the path is not UTF-8 and no name was given.
    pub fn new(options: SqliteOptions) -> Result<SqliteSource> {
        let path = std::path::absolute(&options.path)
            .map_err(Error::io(format!("find {}", options.path.display())))?;
        let name = match (&options.entry_name, path.to_str()) {
            (Some(name), _) => name.clone(),
            (None, Some(path)) => path.to_owned(),
            (None, None) => {
                let detail = "its path is not UTF-8: give the entry a name".to_owned();
                return Err(Error::Unsuitable { name: path.display().to_string(), detail });
            }
        };
        Ok(SqliteSource { name, path, options, end: None, wal_was_absent: false })
    }

    /// A read transaction on the live file, and what it sees.
    fn begin(&self) -> Result<(Connection, Shape)> {
        // Read-only leaves the file and its WAL as they are. What a crashed writer left half done can only be
        // undone by a connection that may write; every SQLite program does that on its next look.
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY;
        match self.begin_with(read_only) {
            Err(BeginError::NeedsRecovery) => match self.begin_with(OpenFlags::SQLITE_OPEN_READ_WRITE) {
                Err(BeginError::NeedsRecovery) => Err(Error::Database {
                    what: format!("read {}", self.path.display()),
                    message: "a crashed writer left it half done, and it can't be written to".to_owned(),
                }),
                Err(BeginError::Other(error)) => Err(error),
                Ok(begun) => Ok(begun),
            },
            Err(BeginError::Other(error)) => Err(error),
            Ok(begun) => Ok(begun),
        }
    }

    fn begin_with(&self, access: OpenFlags) -> Result<(Connection, Shape), BeginError> {
        let read = |error| begin_error(&self.path, error);
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(read)?;
        connection.busy_timeout(Duration::from_millis(POLL_MS)).map_err(read)?;
        connection.execute_batch("BEGIN").map_err(read)?;
        let deadline = Instant::now() + Duration::from_millis(BUSY_WAIT_MS_MAX);
        loop {
            // The first read takes the lock and fixes what is seen.
            let first = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
            match first {
                Ok(()) => break,
                Err(error) if is_busy(&error) && Instant::now() < deadline => {
                    interrupt::check(&self.options.interrupt)?;
                }
                Err(error) => return Err(read(error)),
            }
        }
        let shape = Shape {
            page_bytes: pragma(&connection, "page_size").map_err(read)?,
            pages: pragma(&connection, "page_count").map_err(read)?,
            journal_mode: pragma(&connection, "journal_mode").map_err(read)?,
        };
        Ok((connection, shape))
    }

    fn meta(&self, shape: &Shape, mode: u32) -> EntryMeta {
        let facts = [
            (attribute::PATH, self.path.display().to_string()),
            (attribute::PAGE_SIZE_BYTES, shape.page_bytes.to_string()),
            (attribute::JOURNAL_MODE, shape.journal_mode.clone()),
            (attribute::MODE, format!("{:04o}", mode & 0o777)),
            (attribute::SERVER_VERSION, rusqlite::version().to_owned()),
        ];
        let attributes: BTreeMap<String, String> =
            facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let grid = Grid::Fixed(GRID_BYTES);
        EntryMeta { name: self.name.clone(), kind: EntryKind::Sqlite, grid, attributes }
    }

    fn wal_path(&self) -> PathBuf {
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        PathBuf::from(wal)
    }

    /// Has SQLite remove the `-wal` and `-shm` that were made for our reading, which it does when the last
    /// connection that may write is closed. Ours may belong to another user than the database's own programs, which
    /// could then not open it.
    fn remove_own_companions(&self) {
        if self.wal_was_absent && self.wal_path().exists() {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let closed = Connection::open_with_flags(&self.path, flags).and_then(|connection| {
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            });
            if let Err(error) = closed {
                tracing::debug!(path = %self.path.display(), %error, "-wal and -shm stay");
            }
        }
    }

    /// SQLite reads what is missing at the end of a cut file as zeros. Pages may be missing there only when they
    /// are in the WAL.
    fn check_length(&self, shape: &Shape) -> Result<()> {
        let file_bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let (bytes, expected) =
            (file_bytes(&self.path), u64::from(shape.page_bytes) * u64::from(shape.pages));
        if bytes >= expected || file_bytes(&self.wal_path()) > 0 {
            return Ok(());
        }
        let detail = format!("the file has {bytes} bytes, its {} pages are {expected}", shape.pages);
        Err(Error::Incomplete { name: self.name.clone(), detail })
    }

    /// Copies what the transaction sees to a file without a name.
    fn copy(&self, live: &Connection) -> Result<File> {
        let directory = copy_directory();
        let copy = tempfile::Builder::new()
            .prefix("dbvault-sqlite-")
            .tempfile_in(&directory)
            .map_err(Error::io(format!("make a temporary file in {}", directory.display())))?;
        let failed =
            |error| database_error(format!("copy {} to {}", self.path.display(), directory.display()), error);
        let mut target = Connection::open(copy.path()).map_err(failed)?;
        // It is thrown away on any failure.
        target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(failed)?;
        {
            let backup = Backup::new(live, &mut target).map_err(failed)?;
            // The transaction of `live` stays open between steps, so no writer can make the copy start again.
            while backup.step(COPY_STEP_PAGES).map_err(failed)? != StepResult::Done {
                interrupt::check(&self.options.interrupt)?;
            }
        }
        target.close().map_err(|(_, error)| failed(error))?;
        let mut file = copy.into_file();
        file.rewind().map_err(Error::io("read a temporary file"))?;
        Ok(file)
    }
}

impl Source for SqliteSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self) -> Result<Entry> {
        let name = self.path.display().to_string();
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoSuchDatabase { name });
            }
            Err(source) => return Err(Error::Io { what: format!("read {name}"), source }),
        };
        if !metadata.is_file() {
            return Err(Error::Unsuitable { name, detail: "not a regular file".to_owned() });
        }
        self.wal_was_absent = !self.wal_path().exists();
        let (connection, shape) = self.begin()?;
        if shape.pages == 0 {
            return Err(Error::Empty { name: self.name.clone() });
        }
        self.check_length(&shape)?;
        let check = PageCheck::new(&self.name, shape.page_bytes, shape.pages);
        let blocks_nobody = shape.journal_mode == "wal" || check.expected_bytes() <= LOCKED_BYTES_MAX;
        let direct = !self.options.always_copy && blocks_nobody && has_dbpage(&connection);
        let (body, end) = if direct {
            let interrupt = self.options.interrupt.clone();
            body(PageReader::new(connection, shape.page_bytes, shape.pages, interrupt), check)
        } else {
            let file = self.copy(&connection)?;
            body(InterruptibleFile { file, interrupt: self.options.interrupt.clone() }, check)
        };
        self.end = Some(end);
        Ok(Entry { meta: self.meta(&shape, metadata.permissions().mode()), body })
    }

    fn finish(self: Box<Self>) -> Result<EntryReport> {
        let end = self.end.as_ref().ok_or_else(|| Error::Empty { name: self.name.clone() })?;
        end.take(&self.name)?.finish()?;
        self.remove_own_companions();
        Ok(EntryReport::default())
    }
}

/// A file whose reads end when the user wishes.
struct InterruptibleFile {
    file: File,
    interrupt: Interrupt,
}

impl Read for InterruptibleFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        interrupt::check(&self.interrupt).map_err(Error::into_io)?;
        self.file.read(buffer)
    }
}

/// Where SQLite itself would put large temporary files: often not `/tmp`, which may be in memory.
fn copy_directory() -> PathBuf {
    let from_env = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let usual = ["/var/tmp", "/tmp"].map(PathBuf::from);
    from_env.chain(usual).find(|directory| directory.is_dir()).unwrap_or_else(std::env::temp_dir)
}

/// Whether SQLite was built with `SQLITE_ENABLE_DBPAGE_VTAB`.
fn has_dbpage(connection: &Connection) -> bool {
    connection.prepare("SELECT data FROM sqlite_dbpage WHERE pgno = 1").is_ok()
}

pub(crate) fn pragma<T: rusqlite::types::FromSql>(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<T> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

enum BeginError {
    /// Only a connection that may write can read it.
    NeedsRecovery,
    Other(Error),
}

impl From<Error> for BeginError {
    fn from(error: Error) -> BeginError {
        BeginError::Other(error)
    }
}

fn begin_error(path: &Path, error: rusqlite::Error) -> BeginError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly) => BeginError::NeedsRecovery,
        _ => BeginError::Other(database_error(format!("read {}", path.display()), error)),
    }
}

pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Words what SQLite says.
pub(crate) fn database_error(what: String, error: rusqlite::Error) -> Error {
    let message = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "not an SQLite database, or encrypted".to_owned(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another program holds a lock on it ({error})")
        }
        _ => error.to_string(),
    };
    Error::Database { what, message }
}
