//! A stream that can only be read once, put where it can be read anywhere.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// What is copied at once, bytes.
const COPY_BYTES: usize = 1 << 20;
/// How files begin that zstd compressed.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// How files begin that other programs compressed, and what they are called.
const OTHER_MAGIC: [(&[u8], &str); 4] = [
    (&[0x1f, 0x8b], "gzip"),
    (b"BZh", "bzip2"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (b"PK\x03\x04", "zip"),
];

/// Where streams are put.
#[derive(Clone, Debug)]
pub struct Spool {
    /// A directory with room for the longest of them, not compressed.
    pub directory: PathBuf,
}

/// The directory that `TMPDIR` names, or `/tmp`.
pub fn default_directory() -> PathBuf {
    std::env::temp_dir()
}

impl Spool {
    /// A file that is tar: `input` itself where it is a regular file that is not compressed, else a copy without a name, which
    /// only this process can read and which is gone when it ends.
    ///
    /// Errors: it can't be read, or is compressed by a program that is not known; no room. `check` is asked often, and ends it
    /// by an error.
    pub(crate) fn take(
        &self,
        mut input: File,
        check: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<File> {
        if input.metadata()?.is_file() && input.stream_position()? == 0 {
            let mut begin = [0; 8];
            let len = read_all(&mut input, &mut begin)?;
            input.rewind()?;
            if !is_compressed(&begin[..len])? {
                return Ok(input);
            }
        }
        self.copy(&mut input, check)
    }

    /// A copy of a stream, decompressed.
    pub(crate) fn copy(
        &self,
        input: &mut dyn Read,
        check: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<File> {
        let mut begin = [0; 8];
        let len = read_all(input, &mut begin)?;
        let is_compressed = is_compressed(&begin[..len])?;
        let mut whole = io::Cursor::new(&begin[..len]).chain(input);
        let mut spool = self.file()?;
        if is_compressed {
            copy(&mut zstd::stream::read::Decoder::new(whole)?, &mut spool, check)?;
        } else {
            copy(&mut whole, &mut spool, check)?;
        }
        spool.rewind()?;
        Ok(spool)
    }

    /// Of an unnamed file the mode says nothing: nobody can open it.
    fn file(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.directory).map_err(|error| in_directory(&self.directory, error))
    }
}

fn in_directory(directory: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
}

fn copy(from: &mut dyn Read, to: &mut File, check: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut room = vec![0; COPY_BYTES];
    loop {
        check()?;
        match from.read(&mut room) {
            Ok(0) => return Ok(()),
            Ok(len) => to.write_all(&room[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_compressed(begin: &[u8]) -> io::Result<bool> {
    match OTHER_MAGIC.iter().find(|(magic, _)| begin.starts_with(magic)) {
        Some((_, program)) => {
            let what = format!("it is compressed with {program}: give it decompressed, through a pipe");
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
        None => Ok(begin.starts_with(&ZSTD_MAGIC)),
    }
}

fn read_all(input: &mut (impl Read + ?Sized), room: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < room.len() {
        match input.read(&mut room[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
