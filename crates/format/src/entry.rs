//! Entries: the named streams an archive holds, and what is known of each.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

/// What an entry's bytes are. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum EntryKind {
    /// Bytes read from standard input.
    #[n(0)]
    Stdin,
    /// Bytes written by a command given by the user.
    #[n(1)]
    Command,
    /// One PostgreSQL database, as `pg_dump` writes it.
    #[n(2)]
    Postgresql,
    /// One SQLite database file, page for page.
    #[n(3)]
    Sqlite,
}

impl EntryKind {
    /// The word for this kind in listings, JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            EntryKind::Stdin => "stdin",
            EntryKind::Command => "command",
            EntryKind::Postgresql => "postgresql",
            EntryKind::Sqlite => "sqlite",
        }
    }
}

/// How an entry's stream is cut into chunks. The numbers are part of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Grid {
    /// Cut where the content says so: inserts and deletes move no later cut.
    #[default]
    #[n(0)]
    Content,
    /// Cut at every multiple of this many bytes: for files that are written in pages.
    #[n(1)]
    Fixed(#[n(0)] u32),
}

/// Keys of [`EntryMeta::attributes`]: free text about the source, the same words for every kind.
pub mod attribute {
    /// Version of the server that was dumped, as it names itself.
    pub const SERVER_VERSION: &str = "server_version";
    /// Version of the program that wrote the dump.
    pub const CLIENT_VERSION: &str = "client_version";
    /// Host name, address or socket directory of the server.
    pub const HOST: &str = "host";
    /// Port of the server.
    pub const PORT: &str = "port";
    /// Role or user the dump was made as.
    pub const USER: &str = "user";
    /// Name of the database on its server.
    pub const DATABASE: &str = "database";
    /// Absolute path of the file that was read.
    pub const PATH: &str = "path";
    /// Format of the dump, in the words of the tool that wrote it.
    pub const FORMAT: &str = "format";
    /// Page size of the database, bytes.
    pub const PAGE_SIZE_BYTES: &str = "page_size_bytes";
    /// Journal mode of the database when it was read.
    pub const JOURNAL_MODE: &str = "journal_mode";
    /// The command whose output was stored.
    pub const COMMAND: &str = "command";
    /// Permission bits of the file that was read, octal.
    pub const MODE: &str = "mode";
}

/// What is known of an entry before its bytes are read. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EntryMeta {
    /// Name, unique within its archive; 1 to 4,096 bytes, no NUL.
    #[n(0)]
    pub name: String,
    /// What the bytes are.
    #[n(1)]
    pub kind: EntryKind,
    /// How the stream is cut into chunks.
    #[n(2)]
    pub grid: Grid,
    /// What the source tells of itself; see [`attribute`] for the keys.
    #[n(3)]
    pub attributes: BTreeMap<String, String>,
}

/// What is known of an entry once its stream has ended well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EntryReport {
    /// Facts that are known at the end only; merged over [`EntryMeta::attributes`].
    #[n(0)]
    pub attributes: BTreeMap<String, String>,
    /// What the tool said on its standard error without failing, a line each.
    #[n(1)]
    pub warnings: Vec<String>,
}
