//! A MongoDB database, or all of a server, dumped by `mongodump` and put back by `mongorestore`.
//!
//! The dump counts as good only when `mongodump` ended with status 0 and its archive was followed to its end
//! (`mongodb_archive.rs`). A restore first reads all of it, and has `mongorestore` try it without writing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::Duration;

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};
use tempfile::{NamedTempFile, TempDir};

use crate::body::{BodyEnd, Inspect, body};
use crate::command::spool;
use crate::interrupt::{self, Interrupt};
use crate::mongodb_archive::MongoArchive;
use crate::process::{Process, Program};
use crate::secret::Secret;
use crate::{Entry, Error, Result, Source, Target};

/// Package of `mongodump` and `mongorestore`, in MongoDB's own repositories.
const PACKAGE: &str = "mongodb-database-tools";
/// How long it is tried to ask a server whether it is part of a replica set.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a program may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read, bytes.
const HELLO_BYTES_MAX: usize = 1 << 20;
const OP_MSG: u32 = 2013;

/// A server and the programs to talk to it with.
#[derive(Clone, Debug, Default)]
pub struct MongodbServer {
    /// Host name or address; by default localhost.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// User.
    pub user: Option<String>,
    /// Its password. Programs get it by a file that only this user can read.
    pub password: Option<Secret>,
    /// The database that knows the user.
    pub authentication_database: Option<String>,
    /// Words to call in place of `mongodump`.
    pub dump_program: Vec<String>,
    /// Words to call in place of `mongorestore`.
    pub restore_program: Vec<String>,
    /// Ends a dump that sends no byte for so long, milliseconds.
    pub stall_timeout_ms: Option<u64>,
    /// Stops what is running.
    pub interrupt: Interrupt,
}

/// A file with the password, as long as programs need it.
#[derive(Debug)]
struct Config {
    argument: String,
    _directory: TempDir,
}

impl MongodbServer {
    fn place(&self) -> String {
        format!("{}, port {}", self.host.as_deref().unwrap_or("localhost"), self.port.unwrap_or(27017))
    }

    fn words<'a>(given: &'a [String], program: &'a str) -> Vec<&'a str> {
        if given.is_empty() { vec![program] } else { given.iter().map(String::as_str).collect() }
    }

    fn program(&self, words: &[&str], config: Option<&Config>) -> Program {
        let mut program = Program::new(words[0])
            .args(&words[1..])
            .package(PACKAGE)
            .interrupt(&self.interrupt)
            .stall_timeout_ms(self.stall_timeout_ms);
        if let Some(config) = config {
            program = program.arg(&config.argument);
        }
        let port = self.port.map(|port| port.to_string());
        let options = [
            ("--host", &self.host),
            ("--port", &port),
            ("--username", &self.user),
            ("--authenticationDatabase", &self.authentication_database),
        ];
        let given =
            options.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        program.args(given)
    }

    fn config(&self) -> Result<Option<Config>> {
        let Some(password) = &self.password else { return Ok(None) };
        let failed = || Error::io("write a temporary file");
        let directory = tempfile::Builder::new()
            .prefix("dbvault-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(failed())?;
        let path = directory.path().join("mongo.yaml");
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed())?;
        // A text of JSON is one of YAML.
        let quoted = serde_json::to_string(password.expose()).map(zeroize::Zeroizing::new);
        let quoted = quoted.map_err(|error| failed()(error.into()))?;
        writeln!(file, "password: {}", *quoted).map_err(failed())?;
        Ok(Some(Config { argument: format!("--config={}", path.display()), _directory: directory }))
    }

    /// Whether the server is part of a replica set; none where it can't be asked.
    fn is_replica_set(&self) -> Option<bool> {
        let address = (self.host.as_deref().unwrap_or("localhost"), self.port.unwrap_or(27017));
        let mut addresses = address.to_socket_addrs().ok()?;
        let answer = addresses.find_map(|address| {
            let mut stream = TcpStream::connect_timeout(&address, HELLO_TIMEOUT).ok()?;
            stream.set_read_timeout(Some(HELLO_TIMEOUT)).ok()?;
            stream.write_all(&hello()).ok()?;
            let mut length = [0; 4];
            stream.read_exact(&mut length).ok()?;
            let length = u32::from_le_bytes(length) as usize;
            let mut answer = vec![0; length.checked_sub(4).filter(|rest| *rest <= HELLO_BYTES_MAX)?];
            stream.read_exact(&mut answer).ok()?;
            Some(answer)
        })?;
        Some(memchr::memmem::find(&answer, b"\x02setName\0").is_some())
    }
}

/// The message `{hello: 1, $db: "admin"}`, which servers answer to everybody.
fn hello() -> Vec<u8> {
    let body = [b"\x10hello\0\x01\0\0\0".as_slice(), b"\x02$db\0\x06\0\0\0admin\0", b"\0"].concat();
    let document = [(body.len() as u32 + 4).to_le_bytes().as_slice(), &body].concat();
    // Flags, and the kind of the only section.
    let rest = [[0_u8; 5].as_slice(), &document].concat();
    let header = [rest.len() as u32 + 16, 1, 0, OP_MSG];
    header.iter().flat_map(|number| number.to_le_bytes()).chain(rest).collect()
}

/// What to dump.
#[derive(Clone, Debug)]
pub struct MongodbOptions {
    /// The server.
    pub server: MongodbServer,
    /// The database; none: all of the server.
    pub database: Option<String>,
    /// Name of the entry.
    pub entry_name: String,
    /// The user's own word for the server.
    pub label: Option<String>,
    /// Further arguments for `mongodump`.
    pub dump_options: Vec<String>,
}

/// Backs up one database, or all of a server.
#[derive(Debug)]
pub struct MongodbSource {
    options: MongodbOptions,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    end: BodyEnd<WatchedArchive>,
    warnings: Vec<String>,
    // The program reads it; it must outlive it.
    _config: Option<Config>,
}

impl MongodbSource {
    /// Connects to nothing yet.
    pub fn new(options: MongodbOptions) -> MongodbSource {
        MongodbSource { options, running: None }
    }

    /// Whether the dump is to hold what is written meanwhile, and what to tell where that is not so.
    fn oplog(&self) -> (bool, Option<String>) {
        let unsteady = |why: &str| {
            let text =
                "what is written while it runs may be in the dump of one collection and not of another";
            Some(format!("{text}: {why}"))
        };
        if self.options.database.is_some() {
            return (false, unsteady("only all of a server is dumped as of one moment"));
        }
        match self.options.server.is_replica_set() {
            Some(true) => (true, None),
            Some(false) => (false, unsteady("the server is not part of a replica set")),
            None => (false, unsteady("the server could not be asked whether it is part of a replica set")),
        }
    }
}

impl Source for MongodbSource {
    fn name(&self) -> &str {
        &self.options.entry_name
    }

    fn open(&mut self) -> Result<Entry> {
        let server = &self.options.server;
        let words = MongodbServer::words(&server.dump_program, "mongodump");
        let version = Program::new(words[0])
            .args(&words[1..])
            .arg("--version")
            .package(PACKAGE)
            .timeout(VERSION_TIMEOUT)
            .run_captured()?
            .into_success()?;
        let version = String::from_utf8_lossy(&version).lines().next().unwrap_or_default().trim().to_owned();
        let config = server.config()?;
        let (oplog, warning) = self.oplog();
        let mut program =
            server.program(&words, config.as_ref()).args(["--archive", "--numParallelCollections=1"]);
        if let Some(database) = &self.options.database {
            program = program.arg(format!("--db={database}"));
        }
        if oplog {
            program = program.arg("--oplog");
        }
        let (process, output) = program.args(&self.options.dump_options).spawn_reader()?;
        let name = self.options.entry_name.clone();
        let (body, end) =
            body(output, WatchedArchive { archive: MongoArchive::default(), name: name.clone() });
        let warnings = warning.into_iter().collect();
        self.running = Some(Running { process, end, warnings, _config: config });
        let attributes = [
            (attribute::CLIENT_VERSION, Some(version)),
            (attribute::HOST, Some(server.host.clone().unwrap_or_else(|| "localhost".to_owned()))),
            (attribute::PORT, Some(server.port.unwrap_or(27017).to_string())),
            (attribute::USER, server.user.clone()),
            (attribute::DATABASE, self.options.database.clone()),
            (attribute::LABEL, self.options.label.clone()),
            (attribute::FORMAT, Some(if oplog { "archive with oplog" } else { "archive" }.to_owned())),
        ];
        let attributes: BTreeMap<String, String> =
            attributes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        Ok(Entry {
            meta: EntryMeta { name, kind: EntryKind::Mongodb, grid: Grid::Content, attributes },
            body,
        })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let name = self.options.entry_name.clone();
        let running = self.running.take().ok_or_else(|| Error::Empty { name: name.clone() })?;
        let Running { process, end, mut warnings, _config } = running;
        let archive = end.take(&name)?.archive;
        // It tells its progress there, too.
        let said = process.finish().map_err(|error| explained(&self.options.server, error))?;
        warnings.extend(said.into_iter().filter(|line| line.to_lowercase().contains("warn")));
        if archive.bytes() == 0 {
            return Err(Error::Empty { name });
        }
        let collections = archive.finish().map_err(|detail| Error::Incomplete { name, detail })?;
        tracing::debug!(collections, "whole archive");
        Ok(EntryReport { attributes: BTreeMap::new(), warnings })
    }
}

fn explained(server: &MongodbServer, error: Error) -> Error {
    const SIGNS: [&str; 4] =
        ["could not connect", "error connecting", "Authentication failed", "server selection error"];
    match error {
        Error::ProgramFailed { stderr, .. } if SIGNS.iter().any(|sign| stderr.contains(sign)) => {
            let message = stderr.lines().rfind(|line| SIGNS.iter().any(|sign| line.contains(sign)));
            let message = message.unwrap_or_default().to_owned();
            Error::Connect { server: server.place(), message }
        }
        other => other,
    }
}

/// Follows an archive as it streams by.
#[derive(Debug)]
struct WatchedArchive {
    archive: MongoArchive,
    name: String,
}

impl Inspect for WatchedArchive {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        self.archive.feed(bytes).map_err(|detail| Error::Incomplete { name: self.name.clone(), detail })
    }
}

/// Where to restore to.
#[derive(Clone, Debug)]
pub struct MongodbTargetOptions {
    /// The server.
    pub server: MongodbServer,
    /// The database that is to hold what one other held; none: each keeps its name.
    pub database: Option<String>,
    /// Further arguments for `mongorestore`.
    pub restore_options: Vec<String>,
}

/// Restores an archive: each collection that it has replaces the one of its name, one after the other.
#[derive(Debug)]
pub struct MongodbTarget {
    options: MongodbTargetOptions,
    loaded: Option<(NamedTempFile, EntryMeta)>,
}

impl MongodbTarget {
    /// Connects to nothing yet.
    pub fn new(options: MongodbTargetOptions) -> MongodbTarget {
        MongodbTarget { options, loaded: None }
    }

    fn run(&self, file: &NamedTempFile, meta: &EntryMeta, try_only: bool) -> Result<Vec<String>> {
        let server = &self.options.server;
        let config = server.config()?;
        let words = MongodbServer::words(&server.restore_program, "mongorestore");
        let mut program = server.program(&words, config.as_ref());
        program =
            program.arg(format!("--archive={}", file.path().display())).args(["--drop", "--stopOnError"]);
        let recorded = meta.attributes.get(attribute::DATABASE);
        if let (Some(from), Some(to)) =
            (recorded, self.options.database.as_ref().filter(|to| Some(*to) != recorded))
        {
            program = program.arg(format!("--nsFrom={from}.*")).arg(format!("--nsTo={to}.*"));
        }
        let with_oplog =
            meta.attributes.get(attribute::FORMAT).is_some_and(|format| format.contains("oplog"));
        if with_oplog && !try_only {
            program = program.arg("--oplogReplay");
        }
        if try_only {
            program = program.arg("--dryRun");
        }
        let output = program.args(&self.options.restore_options).stall_timeout_ms(None).spawn_writer()?;
        let said = output.finish().map_err(|error| explained(server, error))?;
        Ok(said.into_iter().filter(|line| line.to_lowercase().contains("warn")).collect())
    }
}

impl Target for MongodbTarget {
    fn occupied(&mut self) -> Result<Option<String>> {
        let what = match &self.options.database {
            Some(database) => format!("collections of the database \"{database}\""),
            None => "collections".to_owned(),
        };
        Ok(Some(format!(
            "{what} on {} that have the names of those in the archive",
            self.options.server.place()
        )))
    }

    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()> {
        let unsuitable = |detail: String| Error::Unsuitable { name: meta.name.clone(), detail };
        if meta.kind != EntryKind::Mongodb {
            return Err(unsuitable(format!("it is of kind {}, not of MongoDB", meta.kind.name())));
        }
        if self.options.database.is_some() && !meta.attributes.contains_key(attribute::DATABASE) {
            return Err(unsuitable("it holds all of a server, which can't have one name".to_owned()));
        }
        let mut file = NamedTempFile::new().map_err(Error::io("write a temporary file"))?;
        let mut checked = CheckedBody { body, archive: MongoArchive::default(), name: &meta.name };
        let bytes = spool(&mut checked, file.as_file_mut(), &self.options.server.interrupt)?;
        if bytes == 0 {
            return Err(Error::Empty { name: meta.name.clone() });
        }
        let incomplete = |detail| Error::Incomplete { name: meta.name.clone(), detail };
        checked.archive.finish().map_err(incomplete)?;
        self.run(&file, meta, true)?;
        self.loaded = Some((file, meta.clone()));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        interrupt::check(&self.options.server.interrupt)?;
        let Some((file, meta)) = self.loaded.take() else {
            let detail = "nothing was loaded".to_owned();
            return Err(Error::Unsuitable { name: "MongoDB".to_owned(), detail });
        };
        let warnings = self.run(&file, &meta, false)?;
        Ok(EntryReport { warnings, ..EntryReport::default() })
    }
}

struct CheckedBody<'a> {
    body: &'a mut dyn Read,
    archive: MongoArchive,
    name: &'a str,
}

impl Read for CheckedBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.body.read(buffer)?;
        let incomplete = |detail| Error::Incomplete { name: self.name.to_owned(), detail }.into_io();
        self.archive.feed(&buffer[..count]).map_err(incomplete)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_one_message() {
        let bytes = hello();
        assert_eq!(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize, bytes.len());
        let document = &bytes[21..];
        assert_eq!(document[0] as usize, document.len());
        assert_eq!(document.last(), Some(&0));
    }
}
