//! Keys of databases, a list for each kind.

use super::{Key, Kind, idle, key, refused, required};
use Kind::{Command, Flag, Maps, Number, OneOf, Path, Secret, Text, Texts, Time, Words};

const PORT_MAX: u64 = u16::MAX as u64;
const CONTAINER: &str = "dbvault asks no container engine for addresses: name `hostname` and `port`, or let \
                         `pg_dump_command` and its like run the client in the container (`docker exec NAME pg_dump`)";
const COMPRESSION: &str = "dumps are stored uncompressed, because the repository compresses them";

const NAMED: &[Key] = &[
    required("name", Text, "its name; `all` means every database of the server, each as an entry of its own"),
    key("label", Text, "", "a word for the server, which tells databases of the same name apart"),
];

/// Only a label.
const NAMED_FILE: &[Key] = &[
    required("name", Text, "what it is called in archives"),
    key("label", Text, "", "a further word for it"),
];

const SERVER: &[Key] = &[
    key("hostname", Text, "the client's own rules", "host name, address or socket directory of the server"),
    key("port", Number(PORT_MAX), "the client's own rules", "its port"),
    key("username", Text, "the client's own rules", "user to connect as"),
    key("password", Secret, "the client's own rules", "the user's password"),
    key("restore_hostname", Text, "`hostname`", "the same for restores"),
    key("restore_port", Number(PORT_MAX), "`port`", "the same for restores"),
    key("restore_username", Text, "`username`", "the same for restores"),
    key("restore_password", Secret, "`password`", "the same for restores"),
    refused("container", Text, CONTAINER),
    refused("restore_container", Text, CONTAINER),
];

const ALL_OPTIONS: &[Key] = &[
    key("options", Words, "", "further arguments of the program that dumps"),
    key("restore_options", Words, "", "further arguments of the program that restores"),
    key(
        "stall_timeout",
        Time,
        "none",
        "longest time that a dump may send nothing before it is ended: `30m`, `2h`",
    ),
];

const DRILL: &[Key] = &[key(
    "drill_queries",
    Texts,
    "",
    "questions that `drill` asks what it has restored: each must have an answer, and none that is false, 0 or NULL",
)];

const LIST_OPTIONS: &[Key] = &[
    key("list_options", Words, "", "further arguments of the program that lists databases, for `all`"),
    key("skip_names", Texts, "", "databases that `all` leaves out"),
];

const POSTGRESQL: &[Key] = &[
    key(
        "format",
        OneOf(&["custom", "plain", "directory", "tar"]),
        "custom",
        "format of the dump; `directory` is dumped in parallel, without a temporary disk",
    ),
    key("streams", Number(64), "1", "streams that one database is dumped in at once, from one snapshot"),
    key("no_owner", Flag, "false", "everything will belong to the role that restores"),
    idle("compression", Text, COMPRESSION),
    key(
        "ssl_mode",
        OneOf(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
        "libpq's own rules",
        "whether TLS is used, and how the server's certificate is checked",
    ),
    key("ssl_cert", Path, "", "certificate of the client"),
    key("ssl_key", Path, "", "its key"),
    key("ssl_root_cert", Path, "", "certificates of authorities that are trusted"),
    key("ssl_crl", Path, "", "certificates that are trusted no more"),
    key("pg_dump_command", Words, "pg_dump", "the program that dumps, with arguments before all others"),
    key("pg_restore_command", Words, "pg_restore", "the program that restores"),
    key("psql_command", Words, "psql", "the program that lists databases and runs SQL"),
    key("analyze_options", Words, "", "further arguments of `psql` for the `ANALYZE` after a restore"),
];

/// MariaDB and MySQL alike.
const MYSQL_LIKE: &[Key] = &[
    key("socket_path", Path, "the client's own rules", "socket file of the server"),
    key("restore_socket_path", Path, "`socket_path`", "the same for restores"),
    key("tls", Flag, "the client's own rules", "whether TLS is used"),
    key("restore_tls", Flag, "`tls`", "the same for restores"),
    key("routines", Flag, "true", "whether functions and procedures are dumped"),
    key("events", Flag, "true", "whether events are dumped"),
    idle("tablespaces", Flag, "tablespaces belong to the server, and `options` can ask for them"),
    idle(
        "format",
        OneOf(&["sql"]),
        "a dump is always SQL, and `all` always makes an entry for each database",
    ),
    idle(
        "add_drop_database",
        Flag,
        "a database is loaded beside the one that is there, and then takes its name",
    ),
    idle(
        "password_transport",
        OneOf(&["pipe", "environment"]),
        "passwords go to clients in a way that the list of processes does not show",
    ),
];

const MARIADB: &[Key] = &[
    key("mariadb_dump_command", Words, "mariadb-dump", "the program that dumps"),
    key("mariadb_command", Words, "mariadb", "the program that lists databases and restores"),
];

const MYSQL: &[Key] = &[
    key("mysql_dump_command", Words, "mysqldump", "the program that dumps"),
    key("mysql_command", Words, "mysql", "the program that lists databases and restores"),
];

const MONGODB: &[Key] = &[
    key("authentication_database", Text, "the client's own rules", "database that knows the user"),
    idle(
        "format",
        OneOf(&["archive", "directory"]),
        "a dump is always an archive, which needs no temporary disk",
    ),
    key("mongodump_command", Words, "mongodump", "the program that dumps"),
    key("mongorestore_command", Words, "mongorestore", "the program that restores"),
];

const SQLITE: &[Key] = &[
    required("path", Path, "the database's file"),
    key("restore_path", Path, "`path`", "the file that it is restored to"),
    idle("sqlite_command", Words, "SQLite is built in, and copies pages in place of SQL"),
    idle("sqlite_restore_command", Words, "SQLite is built in, and copies pages in place of SQL"),
];

const REDIS: &[Key] = &[
    key("socket_path", Path, "", "socket file of the server"),
    key("restore_socket_path", Path, "`socket_path`", "the same for restores"),
    key("tls", Flag, "false", "whether TLS is used"),
    key("restore_tls", Flag, "`tls`", "the same for restores"),
    key("redis_command", Words, "redis-cli", "the program that dumps"),
];

const DOLT: &[Key] = &[
    key("path", Path, "", "the server's data directory"),
    key("restore_path", Path, "`path`", "the directory that it is restored to"),
    key("dolt_command", Words, "dolt", "the program that makes the backup"),
];

/// The lists of databases.
pub const DATABASES: &[Key] = &[
    key(
        "postgresql_databases",
        Maps(&[NAMED, SERVER, POSTGRESQL, ALL_OPTIONS, LIST_OPTIONS, DRILL], None),
        "",
        "PostgreSQL databases",
    ),
    key(
        "mariadb_databases",
        Maps(&[NAMED, SERVER, MYSQL_LIKE, MARIADB, ALL_OPTIONS, LIST_OPTIONS, DRILL], None),
        "",
        "MariaDB databases",
    ),
    key(
        "mysql_databases",
        Maps(&[NAMED, SERVER, MYSQL_LIKE, MYSQL, ALL_OPTIONS, LIST_OPTIONS, DRILL], None),
        "",
        "MySQL databases",
    ),
    key("mongodb_databases", Maps(&[NAMED, SERVER, MONGODB, ALL_OPTIONS], None), "", "MongoDB databases"),
    key("sqlite_databases", Maps(&[NAMED_FILE, SQLITE, DRILL], None), "", "SQLite databases"),
    key(
        "redis_databases",
        Maps(&[NAMED_FILE, SERVER, REDIS, ALL_OPTIONS], None),
        "",
        "Redis and Valkey servers",
    ),
    key("dolt_databases", Maps(&[NAMED, SERVER, DOLT, ALL_OPTIONS], None), "", "Dolt and Doltgres databases"),
];

const COMMAND_DUMP: &[Key] = &[
    required("name", Text, "name of the entry"),
    required("dump", Command, "a command whose output is backed up"),
    key("restore", Command, "", "a command that is piped what was backed up, to put it back"),
    key("end_marker", Text, "", "text that the end of the output must hold, or it was not whole"),
    key("timeout", Time, "none", "longest time that the command may take: `30m`, `2h`"),
];

/// Anything else.
pub const COMMAND_DUMPS: &[Key] = &[key(
    "command_dumps",
    Maps(&[COMMAND_DUMP], None),
    "",
    "what commands print, for everything that has no list of its own",
)];
