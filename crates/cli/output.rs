//! Results on standard output: tables for people, one JSON document for machines.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::{sanitize, transcript};

/// Size asked for a pipe on standard output, bytes; the kernel's default is 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// Writes `text` to standard output.
pub(crate) fn text(text: &str) -> Result<()> {
    transcript::add(text);
    bytes(text.as_bytes())
}

/// Writes `value` to standard output.
pub(crate) fn json(value: &Value) -> Result<()> {
    text(&format!("{value:#}\n"))
}

/// Writes `bytes` to standard output.
pub(crate) fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::Stdout)
}

/// Standard output for streams of bytes: without the standard library's buffer, which looks for line breaks.
pub(crate) struct RawStdout(());

impl RawStdout {
    /// Asks for a large pipe, where it is one.
    pub(crate) fn new() -> RawStdout {
        let _ = rustix::pipe::fcntl_setpipe_size(rustix::stdio::stdout(), PIPE_BYTES);
        RawStdout(())
    }
}

impl Write for RawStdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers and sizes.
    Right(&'static str),
}

/// Rows under headings. Cells from outside are safe to print.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| match column {
        Column::Left(name) | Column::Right(name) => *name,
    }));
    for row in rows {
        table.add_row(Row::from(row.iter().map(|cell| sanitize::line(cell).into_owned())));
    }
    for (at, column) in columns.iter().enumerate() {
        if let Some(set) = table.column_mut(at) {
            set.set_padding((0, 2));
            if matches!(column, Column::Right(_)) {
                set.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// A size for people, three digits or a little more: `999 B`, `1.2 kB`, `12.3 GB`, `123 TB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would show as 1000.0.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 99.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A number of things: `1 pack`, `2 packs`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A duration for people: `12 ms`, `3.4 s`, `5 min 6 s`, `2 h 3 min`.
pub(crate) fn duration(duration_ms: u64) -> String {
    let seconds = duration_ms / 1000;
    match seconds {
        0 => format!("{duration_ms} ms"),
        1..60 => format!("{}.{} s", seconds, duration_ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A time for people, in their own time zone.
pub(crate) fn local_time(time_ms: i64) -> String {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{time_ms} ms"),
    }
}

/// A time for machines: RFC 3339, UTC, milliseconds.
pub(crate) fn utc_time(time_ms: i64) -> Value {
    match Timestamp::from_millisecond(time_ms) {
        Ok(time) => Value::String(format!("{time:.3}")),
        Err(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_overflow_their_unit() {
        for (bytes, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1234, "1.2 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_234_567_890, "1.2 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn durations_and_times_are_readable() {
        for (ms, want) in [(12, "12 ms"), (3_456, "3.4 s"), (306_000, "5 min 6 s"), (7_380_000, "2 h 3 min")]
        {
            assert_eq!(duration(ms), want);
        }
        assert_eq!([count(0, "pack"), count(1, "pack")], ["0 packs", "1 pack"]);
        assert_eq!(utc_time(1_795_230_245_678), "2026-11-21T03:04:05.678Z");
        assert_eq!(utc_time(i64::MAX), Value::Null);
    }

    #[test]
    fn tables_are_aligned_and_safe() {
        let rows = vec![vec!["a\u{1b}".into(), "1".into()], vec!["long name".into(), "123".into()]];
        let text = table(&[Column::Left("NAME"), Column::Right("SIZE")], rows);
        assert_eq!(text, "NAME       SIZE\na\\u{1b}       1\nlong name   123\n");
    }
}
