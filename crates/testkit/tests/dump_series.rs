//! The dump series: of the size asked for, the same each time, and a little different each day.

use std::fs;

use dbvault_testkit::dump_series::{DATABASE, DumpSeries, Format, Happening};
use dbvault_testkit::postgres_server::{PostgresServer, ServerOptions};

#[test]
fn two_series_are_alike_on_every_day() -> Result<(), String> {
    let servers = [PostgresServer::start()?, PostgresServer::start()?];
    let [mut left, mut right] = [DumpSeries::create(&servers[0], 2)?, DumpSeries::create(&servers[1], 2)?];
    let first_day = servers[0].row_hashes(DATABASE)?;
    assert_eq!(first_day, servers[1].row_hashes(DATABASE)?);
    left.next_day()?;
    right.next_day()?;
    let second_day = servers[0].row_hashes(DATABASE)?;
    assert_eq!(second_day, servers[1].row_hashes(DATABASE)?);
    assert_ne!(first_day, second_day);
    assert_eq!(left.day(), 1);
    Ok(())
}

#[test]
fn dumps_have_the_size_asked_for() -> Result<(), String> {
    let server = PostgresServer::start()?;
    let series = DumpSeries::create(&server, 10)?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    for (format, start) in [(Format::Plain, &b"--\n-- PostgreSQL"[..]), (Format::Custom0, b"PGDMP")] {
        let path = directory.path().join("dump");
        let bytes = series.dump(&path, format)?;
        assert!((8_000_000..12_000_000).contains(&bytes), "{format:?}: {bytes} bytes");
        let dump = fs::read(&path).map_err(|error| error.to_string())?;
        assert_eq!(dump.len() as u64, bytes);
        assert!(dump.starts_with(start));
    }
    Ok(())
}

#[test]
fn a_restored_dump_has_the_same_hashes() -> Result<(), String> {
    let server = PostgresServer::start_with_password()?;
    let mut series = DumpSeries::create(&server, 2)?;
    series.next_day()?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join("dump");
    series.dump(&path, Format::Custom0)?;
    server.create_database("restored")?;
    let mut restore = server.command("pg_restore");
    let output = restore.args(["-d", "restored", "--exit-on-error"]).arg(&path).output();
    let output = output.map_err(|error| error.to_string())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.row_hashes(DATABASE)?, server.row_hashes("restored")?);
    Ok(())
}

#[test]
fn every_happening_has_its_day() -> Result<(), String> {
    let server = PostgresServer::start()?;
    let mut series = DumpSeries::create(&server, 1)?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join("dump");
    let mut days_of = Vec::new();
    for day in 1..=21 {
        series.next_calendar_day()?;
        days_of.extend(Happening::of_day(day).map(|happening| (happening.title(), day)));
    }
    assert_eq!(days_of.iter().filter(|(title, _)| *title == Happening::Clustered.title()).count(), 7);
    assert!(days_of.contains(&(Happening::SchemaChange.title(), 4)));
    assert!(days_of.contains(&(Happening::Rewrite.title(), 20)));
    assert_eq!(Happening::of_day(0).count(), 0);
    assert_eq!(server.psql(DATABASE, "SELECT count(*) > 0 FROM orders WHERE status = 'archived'")?, "t");
    series.dump(&path, Format::Plain)?;
    let dump = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    assert!(dump.contains("COPY public.invoices ") && dump.contains("\tstandard\n"));
    Ok(())
}

#[test]
fn other_formats_hold_the_same_rows() -> Result<(), String> {
    let server = PostgresServer::start_with(ServerOptions { replication: true, ..ServerOptions::default() })?;
    let series = DumpSeries::create(&server, 2)?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join("dump");
    series.dump(&path, Format::MysqlStyle)?;
    let dump = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    assert_eq!(dump.matches("CREATE TABLE").count(), 4);
    let rows: i64 = ["users", "orders"].iter().map(|table| count_of(&server, table)).sum::<Result<_, _>>()?;
    assert!(dump.lines().any(|line| line.starts_with("INSERT INTO `users` VALUES (1,'")));

    let sqlite = directory.path().join("shop.db");
    series.write_sqlite(&sqlite)?;
    let count = |sql: &str| {
        let file = rusqlite::Connection::open(&sqlite).map_err(|error| error.to_string())?;
        file.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|error| error.to_string())
    };
    let both = "SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM orders)";
    assert_eq!(count(both)?, rows);
    let returned = "SELECT count(*) FROM orders WHERE status = 'returned'";
    assert_eq!(count(returned)?, 0);
    DumpSeries::next_sqlite_day(&sqlite, 1)?;
    assert!((1..100).contains(&count(returned)?));

    series.dump(&path, Format::BaseBackup)?;
    let tar = fs::read(&path).map_err(|error| error.to_string())?;
    assert!(tar.len() > 10_000_000 && tar.windows(5).any(|bytes| bytes == b"ustar"));
    Ok(())
}

fn count_of(server: &PostgresServer, table: &str) -> Result<i64, String> {
    let count = server.psql(DATABASE, &format!("SELECT count(*) FROM {table}"))?;
    count.parse().map_err(|_| count)
}
