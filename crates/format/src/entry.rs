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
    /// One MariaDB database, as `mariadb-dump` writes it.
    #[n(4)]
    Mariadb,
    /// One MySQL database, as `mysqldump` writes it.
    #[n(5)]
    Mysql,
    /// The data of a Redis or Valkey server: an RDB file.
    #[n(6)]
    Redis,
    /// One MongoDB database, or all of a server, as `mongodump --archive` writes it.
    #[n(7)]
    Mongodb,
    /// One Dolt or Doltgres database: what `dolt_backup` writes, as a tar archive.
    #[n(8)]
    Dolt,
    /// One file, as it was.
    #[n(9)]
    File,
    /// Files and directories: the stream is their content, the table of the entry what else is known of them.
    #[n(10)]
    Tree,
}

impl EntryKind {
    /// The word for this kind in listings, JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            EntryKind::Stdin => "stdin",
            EntryKind::Command => "command",
            EntryKind::Postgresql => "postgresql",
            EntryKind::Sqlite => "sqlite",
            EntryKind::Mariadb => "mariadb",
            EntryKind::Mysql => "mysql",
            EntryKind::Redis => "redis",
            EntryKind::Mongodb => "mongodb",
            EntryKind::Dolt => "dolt",
            EntryKind::File => "file",
            EntryKind::Tree => "tree",
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
    /// The paths that a tree was asked for, a line each; where these are long, how many and a hash of them.
    pub const PATHS: &str = "paths";
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
    /// What of a server or of a database this is, where it is not the whole of one database: see [`super::part`].
    pub const PART: &str = "part";
    /// The user's own word for the server, to tell it from others.
    pub const LABEL: &str = "label";
    /// Rows of each table when the dump was made, of the same snapshot: a JSON object from the table's name, with its
    /// schema, to the count.
    pub const ROW_COUNTS: &str = "row_counts";
    /// Where in the stream the rows of each table are, where the dump itself does not tell: see "Positions of rows" in
    /// `docs/format.md`.
    pub const DATA_POSITIONS: &str = "data_positions";
    /// Encoding of the database's text, as its server names it.
    pub const ENCODING: &str = "encoding";
    /// Collation of the database.
    pub const COLLATION: &str = "collation";
    /// Character classes of the database.
    pub const CTYPE: &str = "ctype";
    /// Name of the database, as the user calls it, that this entry is a part of.
    pub const WHOLE: &str = "whole";
    /// How many parts there are of it.
    pub const PARTS: &str = "parts";
    /// What it was imported from: the program, its repository and its archive, `borg:REPOSITORY/ARCHIVE`.
    pub const ORIGIN: &str = "origin";
    /// Of an import: BLAKE3 of content and file table as they were read.
    pub const READ_DIGEST: &str = "read_blake3";
    /// The command that restores what was stored.
    pub const RESTORE_COMMAND: &str = "restore_command";
}

/// Values of [`attribute::PART`].
pub mod part {
    /// What belongs to no database of the server: roles and tablespaces, or users and their grants.
    pub const GLOBALS: &str = "globals";
    /// Settings of the server.
    pub const SETTINGS: &str = "settings";
    /// Of a database that was dumped in parts: what is made before its data.
    pub const PRE_DATA: &str = "pre-data";
    /// Likewise: data of some of its tables.
    pub const DATA: &str = "data";
    /// Likewise: what is made after its data.
    pub const POST_DATA: &str = "post-data";
    /// The configuration that the backup was made by.
    pub const CONFIGURATION: &str = "configuration";
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
