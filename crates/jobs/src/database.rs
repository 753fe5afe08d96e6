//! A database to back up, as a configuration file or the command line describes it.

use std::path::PathBuf;
use std::time::Duration;

use dbvault_format::entry::EntryKind;
use dbvault_source::Secret;

/// The name that means every database of a server.
pub const ALL: &str = "all";

/// Where a server is and how to connect to it; what is not given is left to the client's own rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Host name, address or socket directory.
    pub hostname: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Socket file (MariaDB, MySQL, Redis).
    pub socket_path: Option<PathBuf>,
    /// User or role.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Whether to use TLS, where it is said (MariaDB, MySQL, Redis).
    pub tls: Option<bool>,
    /// Database that knows the user (MongoDB).
    pub authentication_database: Option<String>,
    /// TLS of libpq.
    pub ssl: Ssl,
}

/// libpq's settings of TLS, by its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssl {
    /// `sslmode`.
    pub mode: Option<String>,
    /// `sslcert`.
    pub cert: Option<PathBuf>,
    /// `sslkey`.
    pub key: Option<PathBuf>,
    /// `sslrootcert`.
    pub root_cert: Option<PathBuf>,
    /// `sslcrl`.
    pub crl: Option<PathBuf>,
}

/// Format of a PostgreSQL dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpFormat {
    /// `pg_dump --format=custom`.
    Custom,
    /// SQL text.
    Plain,
    /// A directory with a file for each table, dumped in parallel.
    Directory,
    /// `pg_dump --format=tar`.
    Tar,
}

/// Programs that take the place of the usual ones: words of a command each, the first of them the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// Of `pg_dump`, `mariadb-dump`, `mysqldump`, `mongodump`.
    pub dump: Vec<String>,
    /// Of `pg_restore`, `mongorestore`.
    pub restore: Vec<String>,
    /// Of `psql`, `mariadb`, `mysql`.
    pub client: Vec<String>,
}

/// Further arguments for the programs, words each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraOptions {
    /// For the dump.
    pub dump: Vec<String>,
    /// For listing databases.
    pub list: Vec<String>,
    /// For the restore.
    pub restore: Vec<String>,
    /// For `ANALYZE` after a restore.
    pub analyze: Vec<String>,
}

/// One item of `postgresql_databases` and its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Which kind of database.
    pub kind: EntryKind,
    /// Its name on its server, or [`ALL`]; of a SQLite database only a label.
    pub name: String,
    /// The user's word for the server.
    pub label: Option<String>,
    /// Names that [`ALL`] leaves out.
    pub skip_names: Vec<String>,
    /// The file (SQLite) or the data directory (Dolt).
    pub path: Option<PathBuf>,
    /// Where it is.
    pub source: Connection,
    /// Where it is restored to, as far as that differs.
    pub target: Connection,
    /// The file it is restored to, where that differs (SQLite).
    pub restore_path: Option<PathBuf>,
    /// Format of the dump (PostgreSQL).
    pub format: Option<DumpFormat>,
    /// Everything will belong to the role that restores.
    pub no_owner: bool,
    /// Programs to use.
    pub programs: Programs,
    /// Further arguments.
    pub extra: ExtraOptions,
    /// Leave out routines, events (MariaDB, MySQL).
    pub without_routines: bool,
    /// Leave out events.
    pub without_events: bool,
    /// Streams that one database is dumped in at once (PostgreSQL).
    pub streams: Option<usize>,
    /// Questions to what a drill restored: see [`crate::drill::DrillRequest::queries`].
    pub drill_queries: Vec<String>,
    /// Ends a program that sends no byte for so long, milliseconds.
    pub stall_timeout_ms: Option<u64>,
}

/// One item of `command_dumps`: what a command prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandDump {
    /// Name of the entry.
    pub name: String,
    /// Text for `/bin/sh -c` whose output is backed up.
    pub dump: String,
    /// Text for `/bin/sh -c` that is piped what was backed up.
    pub restore: Option<String>,
    /// Text that the end of the output must hold.
    pub end_marker: Option<String>,
    /// Longest time that the dump may take.
    pub timeout: Option<Duration>,
}

impl Database {
    /// A database of that name, with all else left to its default.
    pub fn new(kind: EntryKind, name: impl Into<String>) -> Database {
        Database {
            kind,
            name: name.into(),
            label: None,
            skip_names: Vec::new(),
            path: None,
            source: Connection::default(),
            target: Connection::default(),
            restore_path: None,
            format: None,
            no_owner: false,
            programs: Programs::default(),
            extra: ExtraOptions::default(),
            without_routines: false,
            without_events: false,
            streams: None,
            drill_queries: Vec::new(),
            stall_timeout_ms: None,
        }
    }
}
