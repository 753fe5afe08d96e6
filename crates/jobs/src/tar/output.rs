//! A tar as a file: there when it is whole, and compressed where its name says so.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::export::TarExported;
use crate::{Error, Result};

/// How much is compressed: what zstd itself does where nothing is said.
const LEVEL: i32 = 3;

/// Has `write` write to a file beside `path`, for the owner alone, and renames it there once it is whole and durable. A file
/// that is there is replaced only with `replace`; what is not a regular file (a pipe, a device) is written to as it is. Where
/// the name ends with `.zst` or `.tzst`, zstd compresses it.
///
/// Errors: [`Error::FileExists`], those of `write`. After an error `path` is as it was.
pub fn write_file(
    path: &Path,
    replace: bool,
    write: &mut dyn FnMut(&mut dyn Write) -> Result<TarExported>,
) -> Result<TarExported> {
    let failed = |source| Error::Output { output: path.display().to_string(), source };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && !replace => {
            return Err(Error::FileExists { path: path.to_owned() });
        }
        Ok(metadata) if !metadata.is_file() => {
            let mut out = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return compressed(path, &mut out, write);
        }
        _ => {}
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let written = compressed(path, beside.as_file_mut(), write)?;
    beside.as_file().sync_all().map_err(failed)?;
    let renamed = if replace { beside.persist(path) } else { beside.persist_noclobber(path) };
    renamed.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => Error::FileExists { path: path.to_owned() },
        _ => failed(error.error),
    })?;
    Ok(written)
}

fn compressed(
    path: &Path,
    out: &mut dyn Write,
    write: &mut dyn FnMut(&mut dyn Write) -> Result<TarExported>,
) -> Result<TarExported> {
    if !path.extension().is_some_and(|end| end == "zst" || end == "tzst") {
        return write(out);
    }
    let failed = |source| Error::Output { output: path.display().to_string(), source };
    let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL).map_err(failed)?;
    // So that whoever reads it knows that it is whole.
    encoder.include_checksum(true).map_err(failed)?;
    let written = write(&mut encoder)?;
    encoder.finish().map_err(failed)?;
    Ok(written)
}
