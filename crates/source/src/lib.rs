//! Databases, commands and standard input <-> streams of entries: how is each dumped and restored right?
//!
//! Knows no repository. Each database is one file with both directions.

use std::io::Read;

use dbvault_format::entry::{EntryMeta, EntryReport};

mod body;
mod command;
mod conninfo;
mod dolt;
mod dolt_restore;
mod end_marker;
mod error;
mod file;
mod interrupt;
mod mariadb;
mod mariadb_filter;
mod mariadb_globals;
mod mariadb_journal;
mod mariadb_options;
mod mariadb_proof;
mod mariadb_restore;
mod mariadb_stream;
mod mariadb_swap;
mod mariadb_tools;
mod mariadb_trigger;
mod mongodb;
mod mongodb_archive;
mod postgres;
mod postgres_database_sql;
mod postgres_format;
mod postgres_globals;
mod postgres_load;
mod postgres_parts;
mod postgres_proof;
mod postgres_restore;
mod postgres_swap;
mod postgres_table;
mod postgres_table_sql;
mod postgres_tools;
mod private_directory;
mod private_mariadb;
mod private_postgres;
mod private_redis;
mod private_server;
pub mod process;
mod redis;
mod redis_client;
mod redis_keys;
mod redis_rdb;
mod redis_restore;
mod secret;
mod snapshot;
mod snapshot_btrfs;
mod snapshot_lvm;
mod snapshot_mounts;
mod snapshot_owner;
mod snapshot_place;
mod snapshot_zfs;
mod sqlite;
mod sqlite_pages;
mod sqlite_proof;
mod sqlite_restore;
mod sqlite_table;
mod stderr_tail;
mod stdin;

pub use dbvault_dump::row_counts;

pub use command::{CommandOptions, CommandSource, CommandTarget, CommandTargetOptions};
pub use dolt::{DoltOptions, DoltServer, DoltSource};
pub use dolt_restore::{DoltTarget, DoltTargetOptions};
pub use error::{Error, Result};
pub use file::FileSource;
pub use interrupt::Interrupt;
pub use mariadb::{MariadbContent, MariadbOptions, MariadbSource};
pub use mariadb_globals::{MariadbGlobalsTarget, MariadbGlobalsTargetOptions};
pub use mariadb_proof::{mariadb_ask, mariadb_drop, mariadb_row_counts};
pub use mariadb_restore::{MariadbTarget, MariadbTargetOptions};
pub use mariadb_tools::{Family, MariadbServer};
pub use mongodb::{MongodbOptions, MongodbServer, MongodbSource, MongodbTarget, MongodbTargetOptions};
pub use postgres::{LOCK_WAIT_TIMEOUT_MS, PostgresOptions, PostgresSource};
pub use postgres_format::PostgresFormat;
pub use postgres_globals::{PostgresGlobalsSource, PostgresGlobalsTarget, postgres_databases};
pub use postgres_parts::postgres_parts;
pub use postgres_proof::{postgres_ask, postgres_make_role, postgres_row_counts};
pub use postgres_restore::{PostgresTarget, PostgresTargetOptions};
pub use postgres_table::{DumpedTable, PostgresTables, TableCommand, TablePlace, TablePlacing, TablePlan};
pub use private_directory::PrivateDirectory;
pub use private_mariadb::PrivateMariadb;
pub use private_postgres::PrivatePostgres;
pub use private_redis::{PrivateRedis, RedisKeys, redis_keys};
pub use redis::{RedisOptions, RedisSource};
pub use redis_client::RedisServer;
pub use redis_restore::{RedisPlace, RedisTarget, RedisTargetOptions};
pub use secret::Secret;
pub use snapshot::{SnapshotOptions, SnapshotView, Snapshots, Wanted, take as take_snapshots};
pub use snapshot_btrfs::BtrfsOptions;
pub use snapshot_lvm::LvmOptions;
pub use snapshot_owner::SNAPSHOT_DIRECTORY_PREFIX;
pub use snapshot_zfs::ZfsOptions;
pub use sqlite::{SqliteOptions, SqliteSource};
pub use sqlite_proof::{sqlite_ask, sqlite_row_counts};
pub use sqlite_restore::{SqliteTarget, SqliteTargetOptions};
pub use sqlite_table::SqliteTables;
pub use stdin::StdinSource;

/// One named stream and what is known of it.
pub struct Entry {
    /// What is known before the bytes are read.
    pub meta: EntryMeta,
    /// The bytes. An error of this reader is a failed dump; its end alone is not success.
    pub body: Box<dyn Read + Send>,
}

/// Something that can be backed up: gives exactly one entry.
pub trait Source: Send {
    /// The name its entry will have, for messages and to find names given twice before anything runs.
    fn name(&self) -> &str;

    /// The whole that it is a part of, where it is: of its parts all are in an archive, or none.
    fn group(&self) -> Option<&str> {
        None
    }

    /// Starts the dump. Errors: the tool is missing, the server refuses, there is no such database.
    fn open(&mut self) -> Result<Entry>;

    /// Called once the body has been read to its end: only Ok here makes the entry good.
    /// Ok means: the tool ended with status 0 AND the stream had the shape of a whole dump.
    /// Dropped without this call, a source stops its tool and leaves nothing behind.
    fn finish(self: Box<Self>) -> Result<EntryReport>;
}

/// One of the parts that a database was dumped in.
pub struct Part<'a> {
    /// Its entry.
    pub meta: EntryMeta,
    /// Its bytes.
    pub body: Box<dyn Read + Send + 'a>,
}

/// A place that entries of one kind are restored to.
pub trait Target: Send {
    /// What would be overwritten, for the question to the user; `None` where nothing is there yet.
    /// Errors: the server can't be reached, the tool is missing.
    fn occupied(&mut self) -> Result<Option<String>>;

    /// Loads `body` beside what is there; the live database is untouched when this ends, well or not.
    fn load(&mut self, meta: &EntryMeta, body: &mut dyn Read) -> Result<()>;

    /// As [`Target::load`], of a database that was dumped in parts: all of them, in their order. They may be read at
    /// once.
    fn load_parts(&mut self, parts: Vec<Part<'_>>) -> Result<()> {
        let name = parts.first().map(|part| part.meta.name.clone()).unwrap_or_default();
        Err(Error::Unsuitable { name, detail: "nothing of its kind is dumped in parts".to_owned() })
    }

    /// Puts what was loaded in place of what is there, as one step. Only after [`Target::load`] was Ok.
    /// An error leaves the live database as it was. Dropped without this call, a target removes what it loaded.
    fn finish(self: Box<Self>) -> Result<EntryReport>;
}
