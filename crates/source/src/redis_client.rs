//! A connection to a Redis or Valkey server: commands and answers of its protocol, without TLS.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::interrupt::{self, Interrupt, ready};
use crate::secret::Secret;
use crate::{Error, Result};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest text that is taken for one answer, bytes; Redis has no longer strings.
const BULK_BYTES_MAX: u64 = 512 << 20;
/// Size of the buffer that answers are read into, bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// A server. What is not given: 127.0.0.1, port 6379, no password.
#[derive(Clone, Debug, Default)]
pub struct RedisServer {
    /// Host name or address.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Socket file; goes before host and port.
    pub socket: Option<PathBuf>,
    /// User, on servers that know several.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Whether TLS is wanted, which is refused: it is not understood.
    pub tls: bool,
    /// Ends a wait for the server when it sends no byte for so long, milliseconds.
    pub stall_timeout_ms: Option<u64>,
    /// Stops what is running.
    pub interrupt: Interrupt,
}

impl RedisServer {
    /// Host and port, or socket, for messages.
    pub(crate) fn place(&self) -> String {
        match &self.socket {
            Some(socket) => socket.display().to_string(),
            None => format!("{}, port {}", self.host_or_default(), self.port_or_default()),
        }
    }

    pub(crate) fn host_or_default(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }

    pub(crate) fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(6379)
    }

    fn refused(&self, message: impl Into<String>) -> Error {
        Error::Connect { server: self.place(), message: message.into() }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A word such as `OK`, or a number.
    Line(String),
    /// What went wrong.
    Error(String),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Nothing.
    Nil,
    /// Several.
    Array(Vec<Reply>),
}

impl Reply {
    /// Its text, where it is one.
    pub(crate) fn text(&self) -> String {
        match self {
            Reply::Line(line) | Reply::Error(line) => line.clone(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Nil | Reply::Array(_) => String::new(),
        }
    }
}

/// A connection that knows who it is.
pub(crate) struct Connection {
    stream: Stream,
    server: RedisServer,
    buffer: Vec<u8>,
    used: usize,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }
}

impl Connection {
    /// Connects and tells who we are. Errors: [`Error::Connect`].
    pub(crate) fn open(server: &RedisServer) -> Result<Connection> {
        if server.tls {
            return Err(server.refused("TLS is not understood: use a socket or a tunnel"));
        }
        let refused = |error: io::Error| server.refused(error.to_string());
        let stream = match &server.socket {
            Some(socket) => Stream::Unix(UnixStream::connect(socket).map_err(refused)?),
            None => Stream::Tcp(connect(server).map_err(refused)?),
        };
        // So that no write is blind to the interrupt flag.
        match &stream {
            Stream::Tcp(stream) => stream.set_nonblocking(true).map_err(refused)?,
            Stream::Unix(stream) => stream.set_nonblocking(true).map_err(refused)?,
        }
        let mut connection = Connection { stream, server: server.clone(), buffer: Vec::new(), used: 0 };
        if let Some(password) = &server.password {
            let user = server.user.as_deref().into_iter();
            let words: Vec<&[u8]> = [b"AUTH".as_slice()]
                .into_iter()
                .chain(user.map(str::as_bytes))
                .chain([password.expose().as_bytes()])
                .collect();
            connection.ask(&words)?;
        }
        // A server that wants a password answers this with an error.
        connection.ask(&[b"PING"])?;
        Ok(connection)
    }

    /// Sends a command and takes its answer; an error of the server is one.
    pub(crate) fn ask(&mut self, words: &[&[u8]]) -> Result<Reply> {
        self.send(words)?;
        match self.reply()? {
            Reply::Error(message) => Err(self.error(words[0], message)),
            reply => Ok(reply),
        }
    }

    /// What an error of the server means.
    pub(crate) fn error(&self, command: &[u8], message: String) -> Error {
        let of_access =
            ["NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "ERR invalid password", "ERR Client sent AUTH"];
        if of_access.iter().any(|start| message.starts_with(start)) {
            return self.server.refused(message);
        }
        Error::Database { what: String::from_utf8_lossy(command).into_owned(), message }
    }

    /// Sends a command.
    pub(crate) fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            self.wait(PollFlags::OUT)?;
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.server.refused(error.to_string())),
            }
        }
        Ok(())
    }

    /// Takes one answer.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = (line.chars().next().unwrap_or(' '), line.get(1..).unwrap_or(""));
        let length = || rest.parse::<i64>().ok();
        match kind {
            '+' | ':' => Ok(Reply::Line(rest.to_owned())),
            '-' => Ok(Reply::Error(rest.to_owned())),
            '$' => match length() {
                Some(length) if length < 0 => Ok(Reply::Nil),
                Some(length) if length as u64 <= BULK_BYTES_MAX => {
                    let mut bytes = self.exactly(length as usize + 2)?;
                    bytes.truncate(length as usize);
                    Ok(Reply::Bulk(bytes))
                }
                _ => Err(self.strange(&line)),
            },
            '*' => match length() {
                Some(length) if length < 0 => Ok(Reply::Nil),
                Some(length) => (0..length).map(|_| self.reply()).collect::<Result<_>>().map(Reply::Array),
                None => Err(self.strange(&line)),
            },
            _ => Err(self.strange(&line)),
        }
    }

    /// Takes a line, without its end.
    pub(crate) fn line(&mut self) -> Result<String> {
        loop {
            let rest = &self.buffer[self.used..];
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..at]).trim_end_matches('\r').to_owned();
                self.used += at + 1;
                return Ok(line);
            }
            if rest.len() > BUFFER_BYTES || self.fill()? == 0 {
                return Err(self.server.refused("the connection ended within an answer"));
            }
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.read(&mut bytes[filled..])? {
                0 => return Err(self.server.refused("the connection ended within an answer")),
                more => filled += more,
            }
        }
        Ok(bytes)
    }

    /// Takes bytes as they come; none where the connection has ended.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.used == self.buffer.len() && self.fill()? == 0 {
            return Ok(0);
        }
        let count = into.len().min(self.buffer.len() - self.used);
        into[..count].copy_from_slice(&self.buffer[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }

    fn fill(&mut self) -> Result<usize> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let before = self.buffer.len();
        loop {
            self.wait(PollFlags::IN)?;
            self.buffer.resize(before + BUFFER_BYTES, 0);
            let outcome = self.stream.read(&mut self.buffer[before..]);
            self.buffer.truncate(before + *outcome.as_ref().unwrap_or(&0));
            match outcome {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.server.refused(error.to_string())),
            }
        }
    }

    fn wait(&self, events: PollFlags) -> Result<()> {
        let since = Instant::now();
        let stall = self.server.stall_timeout_ms.map(Duration::from_millis);
        loop {
            interrupt::check(&self.server.interrupt)?;
            if ready(self.stream.fd(), events).map_err(Error::io("wait for the server"))? {
                return Ok(());
            }
            if let Some(stall) = stall.filter(|stall| since.elapsed() >= *stall) {
                let message = format!("stalled: it sent nothing for {} s", stall.as_secs_f64());
                return Err(self.server.refused(message));
            }
        }
    }

    fn strange(&self, line: &str) -> Error {
        let head: String = line.chars().take(80).collect();
        self.server.refused(format!("not an answer of Redis: {head}"))
    }
}

fn connect(server: &RedisServer) -> io::Result<TcpStream> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for address in (server.host_or_default(), server.port_or_default()).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
