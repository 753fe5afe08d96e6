//! Data of a Redis or Valkey server, put back: into a running server, or as a file.
//!
//! Into a running server: a private server loads the file first, which proves that it is whole. Its keys are copied
//! into databases of the live server that are empty, and when all are there, the databases change places in one
//! transaction. Until then nobody sees anything of it, and the live data is as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport};
use tempfile::NamedTempFile;

use crate::interrupt::{self, Interrupt};
use crate::private_redis::PrivateRedis;
use crate::redis_client::{Connection, RedisServer, Reply};
use crate::redis_rdb::Rdb;
use crate::{Error, Result, Target};

/// Keys that are copied at once.
const KEYS_AT_ONCE: usize = 200;
/// Size of one piece that is written to a file, bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Where to restore to.
#[derive(Clone, Debug)]
pub enum RedisPlace {
    /// The databases of a running server.
    Server(RedisServer),
    /// A file, `dump.rdb`, for a server that is started with it.
    File(PathBuf),
}

/// How to restore.
#[derive(Clone, Debug)]
pub struct RedisTargetOptions {
    /// Where to.
    pub place: RedisPlace,
    /// Program that loads the file, in place of `redis-server` or `valkey-server`.
    pub server_program: Option<String>,
    /// Stops the restore.
    pub interrupt: Interrupt,
}

/// Restores the data of a server.
pub struct RedisTarget {
    options: RedisTargetOptions,
    loaded: Option<Loaded>,
    warnings: Vec<String>,
}

enum Loaded {
    File(NamedTempFile),
    Server(Box<Beside>),
}

/// What was loaded into empty databases of the live server; emptied again when it is dropped.
struct Beside {
    live: Connection,
    /// For tidying up, which an interrupt does not stop.
    server: RedisServer,
    /// From the number of a database to that of the one that holds what it is to hold.
    pairs: BTreeMap<u32, u32>,
    functions: Option<Vec<u8>>,
}

impl RedisTarget {
    /// Connects to nothing yet.
    pub fn new(options: RedisTargetOptions) -> RedisTarget {
        RedisTarget { options, loaded: None, warnings: Vec::new() }
    }

    /// Writes the body to a file and checks it on the way.
    fn write(&self, meta: &EntryMeta, body: &mut dyn Read, mut file: &fs::File) -> Result<()> {
        let mut rdb = Rdb::default();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            interrupt::check(&self.options.interrupt)?;
            let count = match body.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::from_io("read what is to be restored", error)),
            };
            rdb.feed(&piece[..count]);
            file.write_all(&piece[..count]).map_err(Error::io("write a temporary file"))?;
        }
        if rdb.bytes() == 0 {
            return Err(Error::Empty { name: meta.name.clone() });
        }
        rdb.finish().map(drop).map_err(|detail| Error::Incomplete { name: meta.name.clone(), detail })
    }

    fn load_file(&self, meta: &EntryMeta, body: &mut dyn Read, path: &Path) -> Result<Loaded> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(directory)
            .map_err(Error::io(format!("write in {}", directory.display())))?;
        self.write(meta, body, file.as_file())?;
        // Servers keep theirs like this, and one that replaces another keeps what was set.
        let mode = fs::metadata(path).map_or(0o640, |metadata| metadata.permissions().mode() & 0o777);
        let made = file.as_file().set_permissions(fs::Permissions::from_mode(mode));
        made.and_then(|()| file.as_file().sync_all()).map_err(Error::io("write a temporary file"))?;
        Ok(Loaded::File(file))
    }

    fn load_beside(&self, meta: &EntryMeta, body: &mut dyn Read, server: &RedisServer) -> Result<Loaded> {
        let mut private = PrivateRedis::prepare(self.options.server_program.as_deref())?;
        let path = private.path("dump.rdb");
        let file = fs::File::create(&path).map_err(Error::io("write a temporary file"))?;
        self.write(meta, body, &file)?;
        let mut from = private.start(&path, &self.options.interrupt)?;
        let mut live = Connection::open(server)?;
        let wanted = used_databases(&mut from)?;
        let taken = used_databases(&mut live)?;
        let count = database_count(&mut live)?;
        if let Some(beyond) = wanted.iter().find(|number| **number >= count) {
            return Err(unsuitable(
                meta,
                format!("it has data in database {beyond}, and the server has {count}"),
            ));
        }
        // Databases that will be emptied need a partner too.
        let all: Vec<u32> =
            wanted.iter().chain(taken.iter().filter(|taken| !wanted.contains(taken))).copied().collect();
        let free: Vec<u32> =
            (0..count).rev().filter(|number| !taken.contains(number) && !wanted.contains(number)).collect();
        if free.len() < all.len() {
            let detail = format!(
                "the server has {count} databases, {} of them empty, and {} are needed to load beside what is there \
                 (databases in its configuration); or restore to a file",
                free.len(),
                all.len()
            );
            return Err(unsuitable(meta, detail));
        }
        let pairs = all.into_iter().zip(free).collect();
        let mut beside = Box::new(Beside { live, server: server.clone(), pairs, functions: None });
        for number in &wanted {
            beside.copy(&mut from, *number)?;
        }
        from.send(&[b"FUNCTION", b"DUMP"])?;
        if let Reply::Bulk(functions) = from.reply()? {
            beside.functions = Some(functions);
        }
        Ok(Loaded::Server(beside))
    }
}

fn unsuitable(meta: &EntryMeta, detail: String) -> Error {
    Error::Unsuitable { name: meta.name.clone(), detail }
}

impl Target for RedisTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        match &self.options.place {
            RedisPlace::File(path) => match fs::metadata(path) {
                Ok(metadata) => Ok(Some(format!("{} ({} bytes)", path.display(), metadata.len()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Error::io(format!("look at {}", path.display()))(error)),
            },
            RedisPlace::Server(server) => {
                let mut live = Connection::open(server)?;
                let databases = used_databases(&mut live)?;
                let numbers: Vec<String> = databases.iter().map(u32::to_string).collect();
                let words = format!("all data of {} (databases {})", server.place(), numbers.join(", "));
                Ok((!databases.is_empty()).then_some(words))
            }
        }
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        if meta.kind != EntryKind::Redis {
            return Err(unsuitable(meta, format!("it is of kind {}, not data of Redis", meta.kind.name())));
        }
        self.loaded = None;
        let loaded = match &self.options.place {
            RedisPlace::File(path) => self.load_file(meta, body, path)?,
            RedisPlace::Server(server) => self.load_beside(meta, body, server)?,
        };
        self.loaded = Some(loaded);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.options.interrupt)?;
        match (self.loaded.take(), &self.options.place) {
            (Some(Loaded::File(file)), RedisPlace::File(path)) => {
                file.persist(path)
                    .map_err(|error| Error::io(format!("write {}", path.display()))(error.error))?;
            }
            (Some(Loaded::Server(beside)), _) => self.warnings.extend(beside.swap()?),
            _ => {
                let detail = "nothing was loaded".to_owned();
                return Err(Error::Unsuitable { name: "Redis".to_owned(), detail });
            }
        }
        Ok(EntryReport { warnings: std::mem::take(&mut self.warnings), ..EntryReport::default() })
    }
}

impl Beside {
    /// Copies the keys of one database into its partner.
    fn copy(&mut self, from: &mut Connection, number: u32) -> Result<()> {
        let Some(partner) = self.pairs.get(&number) else { return Ok(()) };
        from.ask(&[b"SELECT", number.to_string().as_bytes()])?;
        self.live.ask(&[b"SELECT", partner.to_string().as_bytes()])?;
        let mut cursor = b"0".to_vec();
        loop {
            let scanned = from.ask(&[b"SCAN", &cursor, b"COUNT", KEYS_AT_ONCE.to_string().as_bytes()])?;
            let Reply::Array(parts) = scanned else { return Ok(()) };
            let (Some(Reply::Bulk(next)), Some(Reply::Array(keys))) = (parts.first(), parts.get(1)) else {
                return Ok(());
            };
            self.copy_keys(from, keys)?;
            if next == b"0" {
                return Ok(());
            }
            cursor.clone_from(next);
        }
    }

    fn copy_keys(&mut self, from: &mut Connection, keys: &[Reply]) -> Result<()> {
        let mut sent = 0;
        for key in keys {
            let Reply::Bulk(key) = key else { continue };
            let (Reply::Bulk(value), Reply::Line(left_ms)) =
                (from.ask(&[b"DUMP", key])?, from.ask(&[b"PTTL", key])?)
            else {
                // It ran out in this moment.
                continue;
            };
            // -1: for ever, which RESTORE calls 0. -2 or 0: it ran out in this moment.
            let left_ms = match left_ms.parse::<i64>() {
                Ok(-1) => "0".to_owned(),
                Ok(left_ms) if left_ms > 0 => left_ms.to_string(),
                _ => continue,
            };
            // A key that is scanned twice is the same twice.
            self.live.send(&[b"RESTORE", key, left_ms.as_bytes(), &value, b"REPLACE"])?;
            sent += 1;
        }
        for _ in 0..sent {
            if let Reply::Error(message) = self.live.reply()? {
                return Err(self.live.error(b"RESTORE", message));
            }
        }
        Ok(())
    }

    /// Databases change places, in one transaction. An error: all is as it was.
    fn swap(mut self) -> Result<Vec<String>> {
        self.live.ask(&[b"MULTI"])?;
        for (number, partner) in &self.pairs {
            self.live.ask(&[b"SWAPDB", number.to_string().as_bytes(), partner.to_string().as_bytes()])?;
        }
        if let Some(functions) = &self.functions {
            self.live.ask(&[b"FUNCTION", b"RESTORE", functions, b"FLUSH"])?;
        }
        let mut warnings = Vec::new();
        if let Reply::Array(replies) = self.live.ask(&[b"EXEC"])? {
            for reply in replies {
                if let Reply::Error(message) = reply {
                    warnings.push(format!("not restored with the rest: {message}"));
                }
            }
        }
        // What the partners hold now is what was replaced: it goes when this is dropped.
        Ok(warnings)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let server = RedisServer { interrupt: Interrupt::default(), ..self.server.clone() };
        let emptied = Connection::open(&server).and_then(|mut live| {
            for partner in self.pairs.values() {
                live.ask(&[b"SELECT", partner.to_string().as_bytes()])?;
                live.ask(&[b"FLUSHDB", b"ASYNC"])?;
            }
            Ok(())
        });
        if let Err(error) = emptied {
            tracing::warn!(%error, databases = ?self.pairs.values(), "databases could not be emptied");
        }
    }
}

/// Numbers of databases that have keys.
fn used_databases(connection: &mut Connection) -> Result<Vec<u32>> {
    let info = connection.ask(&[b"INFO", b"keyspace"])?.text();
    let number = |line: &str| line.strip_prefix("db")?.split(':').next()?.parse().ok();
    Ok(info.lines().filter_map(number).collect())
}

/// How many databases the server has. Where it may not be asked, the usual number; a cluster has one.
fn database_count(connection: &mut Connection) -> Result<u32> {
    if connection.ask(&[b"INFO", b"cluster"])?.text().contains("cluster_enabled:1") {
        return Ok(1);
    }
    connection.send(&[b"CONFIG", b"GET", b"databases"])?;
    let count = match connection.reply()? {
        Reply::Array(parts) => parts.get(1).and_then(|count| count.text().parse().ok()),
        _ => None,
    };
    Ok(count.unwrap_or(16))
}
