//! Extract: the bytes of one entry, as they went in, or the rows of one table, to a file or a stream.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

use dbvault_dump::{Contents, Format, Table};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::Reader;

use crate::{Error, Result, Watcher};

/// Most bytes of one write: what a large pipe holds. Whoever waits for an interrupt waits for one write.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// The stream of `entry`.
pub fn entry(reader: &Arc<Reader>, entry: &EntryRecord, watcher: &dyn Watcher) -> Result<Box<dyn BufRead>> {
    watcher.entry_begins(&entry.meta.name, 0, 1, Some(entry.stream.bytes));
    Ok(Box::new(reader.open_stream(&entry.stream)?))
}

/// The rows of a table in the form that is wanted.
pub fn table(
    contents: &Contents,
    table: &Table,
    format: Format,
    watcher: &dyn Watcher,
) -> Result<Box<dyn BufRead>> {
    watcher.entry_begins(&table.sql_name(), 0, 1, None);
    let rows = contents.rows(table, format)?;
    Ok(Box::new(BufReader::with_capacity(WRITE_BYTES_MAX, rows)))
}

/// Writes all of `body` to `out`, which errors call `output`; gives its length, bytes.
pub fn to_writer(body: &mut dyn BufRead, out: &mut dyn Write, output: &str) -> Result<u64> {
    let failed = |source| Error::Output { output: output.to_owned(), source };
    let mut total_bytes = 0;
    loop {
        let bytes = body.fill_buf().map_err(Error::from_stream)?;
        if bytes.is_empty() {
            break;
        }
        let count = bytes.len().min(WRITE_BYTES_MAX);
        out.write_all(&bytes[..count]).map_err(failed)?;
        body.consume(count);
        total_bytes += count as u64;
    }
    out.flush().map_err(failed)?;
    Ok(total_bytes)
}

/// Writes all of `body` to a file beside `path`, for the owner alone, and renames it there once it is
/// whole and durable. A file that is there is replaced only with `replace`; what is not a regular file (a pipe, a
/// device) is written to as it is.
///
/// Errors: [`Error::FileExists`]. After an error `path` is as it was.
pub fn to_file(body: &mut dyn BufRead, path: &Path, replace: bool) -> Result<u64> {
    let output = path.display().to_string();
    let failed = |source| Error::Output { output: output.clone(), source };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && !replace => {
            return Err(Error::FileExists { path: path.to_owned() });
        }
        Ok(metadata) if !metadata.is_file() => {
            let mut out = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return to_writer(body, &mut out, &output);
        }
        _ => {}
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let total_bytes = to_writer(body, beside.as_file_mut(), &output)?;
    beside.as_file().sync_all().map_err(failed)?;
    let renamed = if replace { beside.persist(path) } else { beside.persist_noclobber(path) };
    renamed.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => Error::FileExists { path: path.to_owned() },
        _ => failed(error.error),
    })?;
    Ok(total_bytes)
}
