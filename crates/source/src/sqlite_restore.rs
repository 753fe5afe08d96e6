//! One SQLite database file, put back: written beside the live one, checked, then renamed over it.
//!
//! The danger is a leftover `-wal` or `-journal` of the old database: SQLite would apply it to the new one. So, in
//! this order, each step safe to crash after:
//!
//! 1. The new database is whole, checked and synced under a temporary name.
//! 2. The old one is opened, which undoes what a crash left half done, and switched to the rollback journal. That
//!    needs it for ourselves, puts its WAL into it and removes `-wal` and `-shm`. *The old database is whole, alone.*
//! 3. It is locked exclusively; a program that has it open finds it locked.
//! 4. The new one is renamed over it. *The new database is whole, alone.* A program that still has the old file open
//!    reads the old pages until it opens it anew; SQLite refuses its writes, as the file was moved.
//!
//! An old file that SQLite can't read (often the reason for the restore) is locked as a file in step 3, and its
//! companions are moved aside under names that SQLite does not look for, before the rename, and removed after it.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, attribute};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, fcntl_lock};
use tempfile::{NamedTempFile, TempPath};

use crate::interrupt::{self, Interrupt, POLL_MS};
use crate::sqlite::{database_error, is_busy, pragma};
use crate::sqlite_pages::{HEADER_BYTES, read_header};
use crate::{Error, Result, Target};

/// How long other programs' locks on the live database are waited for, milliseconds.
const BUSY_WAIT_MS_MAX: u64 = 5_000;
/// Size of one write, bytes.
const WRITE_BYTES: usize = 1 << 20;
/// Permission bits where neither the entry nor a live file tells any.
const MODE_DEFAULT: u32 = 0o600;
/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Where to restore to.
#[derive(Clone, Debug)]
pub struct SqliteTargetOptions {
    /// The database file to make or replace.
    pub path: PathBuf,
    /// Stops the restore.
    pub interrupt: Interrupt,
}

impl SqliteTargetOptions {
    /// Options for a file, with everything else left to its default.
    pub fn new(path: impl Into<PathBuf>) -> SqliteTargetOptions {
        SqliteTargetOptions { path: path.into(), interrupt: Interrupt::default() }
    }
}

/// Restores one SQLite database file.
#[derive(Debug)]
pub struct SqliteTarget {
    path: PathBuf,
    interrupt: Interrupt,
    loaded: Option<TempPath>,
    warnings: Vec<String>,
}

impl SqliteTarget {
    /// Opens nothing yet. A symbolic link is followed: what it leads to is replaced.
    pub fn new(options: SqliteTargetOptions) -> Result<SqliteTarget> {
        let path = std::path::absolute(&options.path)
            .map_err(Error::io(format!("find {}", options.path.display())))?;
        let path = fs::canonicalize(&path).unwrap_or(path);
        Ok(SqliteTarget { path, interrupt: options.interrupt, loaded: None, warnings: Vec::new() })
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn live(&self) -> Result<Option<fs::Metadata>> {
        match fs::metadata(&self.path) {
            Ok(live) if live.is_file() => Ok(Some(live)),
            Ok(_) => Err(Error::Unsuitable {
                name: self.path.display().to_string(),
                detail: "what is there is not a regular file".to_owned(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { what: format!("read {}", self.path.display()), source }),
        }
    }

    /// Owner and permission bits for the new file: the owner of the live one, so that its programs can open it.
    fn dress(&mut self, file: &File, meta: &EntryMeta) -> Result<()> {
        let live = self.live()?;
        let recorded =
            meta.attributes.get(attribute::MODE).and_then(|text| u32::from_str_radix(text, 8).ok());
        let mode = recorded.or(live.as_ref().map(|live| live.mode())).unwrap_or(MODE_DEFAULT) & 0o777;
        let own = file.metadata().map_err(Error::io("read a temporary file"))?;
        if let Some(live) = live.filter(|live| (live.uid(), live.gid()) != (own.uid(), own.gid()))
            && let Err(error) = fchown(file, Some(live.uid()), Some(live.gid()))
        {
            self.warnings.push(format!("owner {}:{} could not be kept: {error}", live.uid(), live.gid()));
        }
        file.set_permissions(Permissions::from_mode(mode)).map_err(Error::io("set permissions"))
    }

    fn write(&self, file: &mut NamedTempFile, body: &mut dyn Read) -> Result<()> {
        let mut buffer = vec![0; WRITE_BYTES];
        loop {
            interrupt::check(&self.interrupt)?;
            match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => file
                    .write_all(&buffer[..count])
                    .map_err(Error::io(format!("write {}", file.path().display())))?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from_io("read what is to be restored", error)),
            }
        }
    }

    /// Has SQLite read the whole new database.
    fn integrity_check(&self, path: &Path) -> Result<()> {
        let what = || format!("check {}", path.display());
        let failed = |error| database_error(what(), error);
        // Immutable: no lock and no -wal beside a file that nobody else knows of.
        let uri = format!("file:{}?immutable=1", encode(path));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri, flags).map_err(failed)?;
        let handle = connection.get_interrupt_handle();
        let done = Interrupt::default();
        let outcome: rusqlite::Result<String> = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if self.interrupt.load(Ordering::Relaxed) {
                        handle.interrupt();
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let outcome = pragma(&connection, "integrity_check(1)");
            done.store(true, Ordering::Relaxed);
            outcome
        });
        interrupt::check(&self.interrupt)?;
        match outcome {
            Ok(words) if words == "ok" => Ok(()),
            Ok(message) => Err(Error::Database { what: what(), message }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes the live database one whole file and locks it.
    fn lock_live(&self) -> Result<LiveLock> {
        let deadline = Instant::now() + Duration::from_millis(BUSY_WAIT_MS_MAX);
        loop {
            let error = match self.try_lock_live() {
                Ok(lock) => {
                    // Under this lock whatever is left is not in use: a journal that is not hot, a lone -shm.
                    remove_companions(&self.path)?;
                    return Ok(lock);
                }
                Err(error) => error,
            };
            if is_unreadable(&error) {
                return self.lock_unreadable();
            }
            if !is_busy(&error) || Instant::now() >= deadline {
                return Err(database_error(format!("lock {}", self.path.display()), error));
            }
            interrupt::check(&self.interrupt)?;
        }
    }

    fn try_lock_live(&self) -> rusqlite::Result<LiveLock> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(Duration::from_millis(POLL_MS))?;
        let before: String = pragma(&connection, "journal_mode")?;
        let lock = LiveLock {
            connection: Some(connection),
            file: None,
            back_to_wal: before == "wal",
            moved: Vec::new(),
        };
        if let Some(connection) = &lock.connection {
            // Fails as busy while any other connection has the database open in WAL mode.
            connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
            connection.execute_batch("BEGIN EXCLUSIVE")?;
            let now: String = pragma(connection, "journal_mode")?;
            if now != "delete" {
                // Somebody was quicker.
                return Err(busy());
            }
        }
        Ok(lock)
    }

    /// Locks a live file that SQLite can't read, and takes its companions away.
    fn lock_unreadable(&self) -> Result<LiveLock> {
        let what = || format!("lock {}", self.path.display());
        let file = File::options().read(true).write(true).open(&self.path).map_err(Error::io(what()))?;
        // SQLite's locks are of the same kind, on bytes of this file.
        if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let message = "another program holds a lock on it".to_owned();
            return Err(Error::Database { what: what(), message });
        }
        let mut lock = LiveLock { connection: None, file: Some(file), back_to_wal: false, moved: Vec::new() };
        for path in companions(&self.path) {
            let aside = with_suffix(&path, ".dbvault-old");
            match fs::rename(&path, &aside) {
                Ok(()) => lock.moved.push((path, aside)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(Error::Io { what: format!("move {} aside", path.display()), source });
                }
            }
        }
        sync_directory(self.directory())?;
        Ok(lock)
    }
}

impl Target for SqliteTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        let live = self.live()?;
        Ok(live.map(|live| format!("file {} ({} bytes)", self.path.display(), live.len())))
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        if meta.kind != EntryKind::Sqlite {
            let detail = format!("it is of kind {}, not an SQLite database", meta.kind.name());
            return Err(Error::Unsuitable { name: meta.name.clone(), detail });
        }
        self.loaded = None;
        self.warnings.clear();
        let mut prefix = OsString::from(".");
        prefix.push(self.path.file_name().unwrap_or_default());
        prefix.push(".dbvault-");
        let mut file = tempfile::Builder::new()
            .prefix(&prefix)
            .rand_bytes(8)
            .tempfile_in(self.directory())
            .map_err(Error::io(format!("make a file in {}", self.directory().display())))?;
        self.write(&mut file, body)?;
        check_size(file.as_file(), &meta.name)?;
        self.dress(file.as_file(), meta)?;
        file.as_file().sync_all().map_err(Error::io(format!("sync {}", file.path().display())))?;
        self.integrity_check(file.path())?;
        self.loaded = Some(file.into_temp_path());
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.interrupt)?;
        let Some(loaded) = self.loaded.take() else {
            let name = self.path.display().to_string();
            return Err(Error::Unsuitable { name, detail: "nothing was loaded".to_owned() });
        };
        let mut lock = match self.live()? {
            Some(_) => self.lock_live()?,
            None => {
                remove_companions(&self.path)?;
                LiveLock::default()
            }
        };
        sync_directory(self.directory())?;
        loaded
            .persist(&self.path)
            .map_err(|error| Error::io(format!("rename to {}", self.path.display()))(error.error))?;
        lock.replaced();
        sync_directory(self.directory())?;
        Ok(EntryReport { warnings: std::mem::take(&mut self.warnings), ..EntryReport::default() })
    }
}

/// The live database, ours alone. Dropped before [`LiveLock::replaced`], it is put back as it was.
#[derive(Default)]
struct LiveLock {
    connection: Option<Connection>,
    /// The locked file, where SQLite can't read it. Closing any other handle of it would end the lock.
    file: Option<File>,
    back_to_wal: bool,
    /// Companions that were moved aside: from, to.
    moved: Vec<(PathBuf, PathBuf)>,
}

impl LiveLock {
    fn replaced(&mut self) {
        self.back_to_wal = false;
        for (_, aside) in self.moved.drain(..) {
            if let Err(error) = fs::remove_file(&aside) {
                tracing::warn!(path = %aside.display(), %error, "a companion of the old database remains");
            }
        }
    }
}

impl Drop for LiveLock {
    fn drop(&mut self) {
        for (path, aside) in self.moved.drain(..) {
            let _ = fs::rename(aside, path);
        }
        self.file = None;
        if let Some(connection) = self.connection.take().filter(|_| self.back_to_wal) {
            let _ = connection.execute_batch("ROLLBACK");
            let _ = connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
        }
    }
}

/// Size and header must agree before SQLite looks at it.
fn check_size(file: &File, name: &str) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let bytes = file.metadata().map_err(Error::io("read a temporary file"))?.len();
    if bytes == 0 {
        return Err(Error::Empty { name: name.to_owned() });
    }
    let incomplete = |detail: String| Error::Incomplete { name: name.to_owned(), detail };
    let mut header = [0; HEADER_BYTES];
    if bytes >= HEADER_BYTES as u64 {
        file.read_exact_at(&mut header, 0).map_err(Error::io("read a temporary file"))?;
    }
    let header = read_header(&header).map_err(incomplete)?;
    let whole = match header.pages {
        Some(pages) => u64::from(pages) * u64::from(header.page_bytes) == bytes,
        None => bytes.is_multiple_of(u64::from(header.page_bytes)),
    };
    if whole { Ok(()) } else { Err(incomplete(format!("{bytes} bytes are not what its header says"))) }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

fn companions(path: &Path) -> Vec<PathBuf> {
    COMPANIONS.iter().map(|suffix| with_suffix(path, suffix)).collect()
}

/// Removes what is left of a database whose file is gone.
fn remove_companions(path: &Path) -> Result<()> {
    for companion in companions(path) {
        match fs::remove_file(&companion) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { what: format!("remove {}", companion.display()), source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<()> {
    let what = || format!("sync {}", path.display());
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io(what()))
}

fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn busy() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    rusqlite::Error::SqliteFailure(code, Some("it was opened in the meantime".to_owned()))
}

/// A path for an SQLite URI.
fn encode(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
