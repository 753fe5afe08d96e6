//! A database like those people back up, and its next days: what dedup and delta compression are measured on.
//!
//! Everything is drawn from fixed seeds: the same size and server version give the same rows. A plain dump
//! compresses about 4:1 with `zstd -3`. Each day changes a few rows everywhere, which is the case that
//! content-defined chunks alone lose.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

pub use self::calendar::Happening;
use crate::postgres_server::PostgresServer;

mod calendar;
mod mysql_style;
mod rows;
mod sqlite;

/// What is written of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// By `pg_dump`, the custom format without compression (`-Fc -Z0`).
    Custom0,
    /// By `pg_dump`, SQL text.
    Plain,
    /// SQL text as mysqldump writes it, the rows in the order of their ids.
    MysqlStyle,
    /// The files of the whole server as a tar archive, by `pg_basebackup`; the server must allow replication.
    BaseBackup,
}

/// A database that grows by a day at a time, on a server that must outlive it.
#[derive(Debug)]
pub struct DumpSeries<'server> {
    server: &'server PostgresServer,
    rows: RowCounts,
    day: u32,
    event_id_next: u64,
}

/// The name of the database that [`DumpSeries::create`] makes.
pub const DATABASE: &str = "shop";

/// Seeds move by 1/10000 a day and must stay apart from each other and below one.
const DAYS_MAX: u32 = 900;

/// Rows of each table for a megabyte of plain dump: users 34%, orders 18%, events 41% and texts 7% of the bytes.
#[derive(Debug, Clone, Copy)]
struct RowCounts {
    users: u64,
    orders: u64,
    events: u64,
    texts: u64,
}

impl RowCounts {
    fn for_megabytes(megabytes: u32) -> Self {
        let megabytes = u64::from(megabytes.max(1));
        Self {
            users: 715 * megabytes,
            orders: 2310 * megabytes,
            events: 1540 * megabytes,
            texts: 36 * megabytes,
        }
    }
}

impl<'server> DumpSeries<'server> {
    /// Makes the database [`DATABASE`] on `server`, a plain dump of which is about `megabytes` MB (10^6 bytes).
    ///
    /// # Errors
    /// What `psql` said, for instance that the database exists.
    pub fn create(server: &'server PostgresServer, megabytes: u32) -> Result<Self, String> {
        let rows = RowCounts::for_megabytes(megabytes);
        server.create_database(DATABASE)?;
        server.psql(DATABASE, include_str!("dump_series/vocabulary.sql"))?;
        let script = |sql: &str, rows_of_table: u64| {
            let variables = [("rows", rows_of_table), ("users", rows.users), ("first", 1), ("day", 0)];
            run(server, &variables, sql)
        };
        // Tables do not depend on each other before they are linked: two at a time use two cores.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                script(include_str!("dump_series/users.sql"), rows.users)?;
                script(include_str!("dump_series/texts.sql"), rows.texts)
            });
            script(include_str!("dump_series/events.sql"), rows.events)?;
            script(include_str!("dump_series/orders.sql"), rows.orders)?;
            other.join().map_err(|_| "a thread that fills tables panicked".to_owned())?
        })?;
        server.psql(DATABASE, include_str!("dump_series/links.sql"))?;
        Ok(Self { server, rows, day: 0, event_id_next: 1 + rows.events })
    }

    /// Lets a day pass: 1% of the users and 0.5% of the orders are updated at random, 0.1% of the events
    /// deleted, and as many appended as 2% of those of the first day.
    ///
    /// # Errors
    /// What `psql` said; the day is then half done and the series of no more use.
    pub fn next_day(&mut self) -> Result<(), String> {
        if self.day == DAYS_MAX {
            return Err(format!("a series has {DAYS_MAX} days at most"));
        }
        self.day += 1;
        let appended = self.rows.events / 50;
        let variables = [
            ("day", u64::from(self.day)),
            ("users", self.rows.users),
            ("rows", appended),
            ("first", self.event_id_next),
        ];
        run(self.server, &variables, include_str!("dump_series/next_day.sql"))?;
        run(self.server, &variables, include_str!("dump_series/events.sql"))?;
        self.event_id_next += appended;
        // What autovacuum does in time: the next day's rows may take the place of the dead ones.
        self.server.psql(DATABASE, "VACUUM").map(drop)
    }

    /// Lets a day pass as [`next_day`](Self::next_day) does, and then what the calendar has for it
    /// ([`Happening::of_day`]).
    ///
    /// # Errors
    /// As [`next_day`](Self::next_day).
    pub fn next_calendar_day(&mut self) -> Result<(), String> {
        self.next_day()?;
        let variables =
            [("day", u64::from(self.day)), ("orders", self.rows.orders), ("events", self.rows.events)];
        for happening in Happening::of_day(self.day) {
            run(self.server, &variables, happening.script())?;
        }
        self.server.psql(DATABASE, "VACUUM").map(drop)
    }

    /// Copies the tables to a new SQLite file.
    ///
    /// # Errors
    /// What `psql` or SQLite said; the file may then hold a part.
    pub fn write_sqlite(&self, path: &Path) -> Result<(), String> {
        sqlite::write(self.server, path)
    }

    /// Lets a day pass in a file of [`write_sqlite`](Self::write_sqlite), much like
    /// [`next_day`](Self::next_day); days count from 1.
    ///
    /// # Errors
    /// What SQLite said; the file is then as it was.
    pub fn next_sqlite_day(path: &Path, day: u32) -> Result<(), String> {
        sqlite::next_day(path, day)
    }

    /// The number of days that have passed since the first.
    pub fn day(&self) -> u32 {
        self.day
    }

    /// Dumps the database to a new or emptied file and returns its length in bytes.
    ///
    /// # Errors
    /// What the program or the file system said; the file may then hold a part.
    pub fn dump(&self, path: &Path, format: Format) -> Result<u64, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::create(path).map_err(failed)?;
        match format {
            Format::Custom0 => self.print("pg_dump", &["-Fc", "-Z0", "-d", DATABASE], &file)?,
            Format::Plain => self.print("pg_dump", &["-Fp", "-d", DATABASE], &file)?,
            Format::MysqlStyle => mysql_style::write(self.server, &file)?,
            Format::BaseBackup => {
                let arguments = ["-Ft", "-X", "none", "-c", "fast", "-D", "-"];
                self.print("pg_basebackup", &arguments, &file)?;
            }
        }
        file.metadata().map(|metadata| metadata.len()).map_err(failed)
    }

    /// Takes what a program prints through a pipe, as a backup does: in a file `pg_dump` would seek back and
    /// fill in offsets.
    fn print(&self, program: &str, arguments: &[&str], mut file: &File) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{program}: {error}");
        let mut command = self.server.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let mut stdout = child.stdout.take().ok_or("a program without output")?;
        std::io::copy(&mut stdout, &mut file).map_err(failed)?;
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
    }
}

/// Runs a script with numbers put in where it says `:name`.
fn run(server: &PostgresServer, variables: &[(&str, u64)], sql: &str) -> Result<(), String> {
    let mut script = String::from("SET max_parallel_workers_per_gather = 0;\n");
    for (name, value) in variables {
        script.push_str(&format!("\\set {name} {value}\n"));
    }
    script.push_str(sql);
    server.psql(DATABASE, &script).map(drop)
}
