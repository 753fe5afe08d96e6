//! All data of a Redis or Valkey server, as the RDB file that a replica is given. `redis_restore.rs` is the way back.
//!
//! We ask for it as a replica does, so the server makes one snapshot and no file has to be found. The file counts as
//! good only when it came to the end that the server announced, ends like an RDB file and has the checksum it says.

use std::collections::BTreeMap;
use std::io::{self, Read};

use dbvault_format::entry::{EntryKind, EntryMeta, EntryReport, Grid, attribute};

use crate::body::{BodyEnd, Inspect, body};
use crate::redis_client::{Connection, RedisServer};
use crate::redis_keys::KeyCounts;
use crate::redis_rdb::Rdb;
use crate::{Entry, Error, Result, Source, row_counts};

/// Length of the mark that ends a file whose length is not known before, bytes.
const MARK_BYTES: usize = 40;

/// What to dump.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// The server.
    pub server: RedisServer,
    /// Name of the entry.
    pub entry_name: String,
    /// The user's own word for the server.
    pub label: Option<String>,
}

/// Backs up all data of a server.
pub struct RedisSource {
    options: RedisOptions,
    running: Option<BodyEnd<WatchedRdb>>,
}

impl RedisSource {
    /// Connects to nothing yet.
    pub fn new(options: RedisOptions) -> RedisSource {
        RedisSource { options, running: None }
    }
}

impl Source for RedisSource {
    fn name(&self) -> &str {
        &self.options.entry_name
    }

    fn open(&mut self) -> Result<Entry> {
        let server = &self.options.server;
        let mut connection = Connection::open(server)?;
        let info = connection.ask(&[b"INFO", b"server"]).map(|reply| reply.text()).unwrap_or_default();
        let of = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let version = of("valkey_version:").map(|version| format!("Valkey {version}"));
        let version = version.or_else(|| of("redis_version:").map(|version| format!("Redis {version}")));
        // Both are only offers, which older servers do not know.
        connection.send(&[b"REPLCONF", b"capa", b"eof"])?;
        connection.reply()?;
        connection.send(&[b"REPLCONF", b"rdb-only", b"1"])?;
        connection.reply()?;
        connection.send(&[b"SYNC"])?;
        let end = announced(&mut connection)?;
        let host = server.socket.as_ref().map(|path| path.display().to_string());
        let attributes = [
            (attribute::SERVER_VERSION, version),
            (attribute::HOST, Some(host.unwrap_or_else(|| server.host_or_default().to_owned()))),
            (attribute::PORT, server.socket.is_none().then(|| server.port_or_default().to_string())),
            (attribute::USER, server.user.clone()),
            (attribute::LABEL, self.options.label.clone()),
            (attribute::FORMAT, Some("rdb".to_owned())),
        ];
        let attributes: BTreeMap<String, String> =
            attributes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let (body, watched) = body(Payload { connection, end, held: Vec::new() }, WatchedRdb::default());
        self.running = Some(watched);
        let name = self.options.entry_name.clone();
        Ok(Entry { meta: EntryMeta { name, kind: EntryKind::Redis, grid: Grid::Content, attributes }, body })
    }

    fn finish(mut self: Box<Self>) -> Result<EntryReport> {
        let name = self.options.entry_name.clone();
        let running = self.running.take().ok_or_else(|| Error::Empty { name: name.clone() })?;
        let WatchedRdb(rdb, keys) = running.take(&name)?;
        if rdb.bytes() == 0 {
            return Err(Error::Empty { name });
        }
        let whole = rdb.finish().map_err(|detail| Error::Incomplete { name, detail })?;
        let warnings = if whole.checksum {
            Vec::new()
        } else {
            vec![
                "the server writes no checksums (rdbchecksum): that the data is right can't be told"
                    .to_owned(),
            ]
        };
        let rows = keys.finish().unwrap_or_default();
        let counted =
            (!rows.is_empty()).then(|| (attribute::ROW_COUNTS.to_owned(), row_counts::to_json(&rows)));
        Ok(EntryReport { attributes: counted.into_iter().collect(), warnings })
    }
}

/// How the server says that the file ends.
enum End {
    /// After so many bytes more.
    Length(u64),
    /// With this mark.
    Mark(Vec<u8>),
    /// It has ended.
    Reached,
}

/// Waits for the server's snapshot; empty lines are its signs of life.
fn announced(connection: &mut Connection) -> Result<End> {
    loop {
        let line = connection.line()?;
        if let Some(message) = line.strip_prefix('-') {
            return Err(connection.error(b"SYNC", message.to_owned()));
        }
        if let Some(mark) = line.strip_prefix("$EOF:").filter(|mark| mark.len() == MARK_BYTES) {
            return Ok(End::Mark(mark.as_bytes().to_owned()));
        }
        if let Some(length) = line.strip_prefix('$').and_then(|length| length.parse().ok()) {
            return Ok(End::Length(length));
        }
        if !line.is_empty() && !line.starts_with('+') {
            let message = format!("not an answer to SYNC: {}", line.chars().take(80).collect::<String>());
            return Err(Error::Database { what: "SYNC".to_owned(), message });
        }
    }
}

/// The file, without what the protocol puts around it.
struct Payload {
    connection: Connection,
    end: End,
    /// The last bytes, which may be the mark.
    held: Vec<u8>,
}

impl Read for Payload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let incomplete = |detail: &str| {
            Error::Incomplete { name: "the server's data".to_owned(), detail: detail.to_owned() }.into_io()
        };
        loop {
            match &self.end {
                End::Reached | End::Length(0) => return Ok(0),
                End::Length(left) => {
                    let room = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let count = self.connection.read(&mut buffer[..room]).map_err(Error::into_io)?;
                    if count == 0 {
                        return Err(incomplete("the connection ended before the end that was announced"));
                    }
                    self.end = End::Length(left - count as u64);
                    return Ok(count);
                }
                End::Mark(mark) => {
                    let ended = self.held.ends_with(mark);
                    let ripe = self.held.len().saturating_sub(MARK_BYTES).min(buffer.len());
                    if ripe > 0 {
                        buffer[..ripe].copy_from_slice(&self.held[..ripe]);
                        self.held.drain(..ripe);
                        return Ok(ripe);
                    }
                    if ended {
                        self.end = End::Reached;
                        continue;
                    }
                    let mut piece = vec![0; buffer.len()];
                    let count = self.connection.read(&mut piece).map_err(Error::into_io)?;
                    if count == 0 {
                        return Err(incomplete("the connection ended before the mark that was announced"));
                    }
                    self.held.extend_from_slice(&piece[..count]);
                }
            }
        }
    }
}

/// Follows the file as it streams by.
#[derive(Debug, Default)]
struct WatchedRdb(Rdb, KeyCounts);

impl Inspect for WatchedRdb {
    fn inspect(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.feed(bytes);
        self.1.feed(bytes);
        Ok(())
    }
}
