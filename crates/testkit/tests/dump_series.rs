//! The dump series: of the size asked for, the same each time, and a little different each day.

use std::fs;

use dbvault_testkit::dump_series::{DATABASE, DumpSeries, Format};
use dbvault_testkit::postgres_server::PostgresServer;

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
