//! Bytes that can be read anywhere: a stored stream, or a file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Most bytes that one read asks for.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;

/// Bytes that can be read anywhere, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// How many there are.
    fn len_bytes(&self) -> u64;

    /// Reads some of the bytes from `offset` on into `out`, and says how many: 0 only at the end, or where `out` is
    /// empty.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// The reads that follow go on up to `end`: nothing behind it needs to be read ahead.
    fn will_read_to(&self, _end: u64) {}
}

impl ReadAt for Vec<u8> {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl ReadAt for File {
    fn len_bytes(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, out, offset)
    }
}

/// Fills `out` with the bytes from `offset` on.
///
/// Errors: [`io::ErrorKind::UnexpectedEof`] where there are fewer.
pub(crate) fn read_exact_at(bytes: &dyn ReadAt, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match bytes.read_at(offset, out) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                out = &mut out[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a range from its beginning to its end in large reads, none of which goes beyond it.
pub(crate) struct RangeReader {
    bytes: Arc<dyn ReadAt>,
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
    /// How much the next read asks for: little at first, as often little is wanted.
    ask_bytes: usize,
}

impl RangeReader {
    /// The range is cut at the end of the bytes.
    pub(crate) fn new(bytes: Arc<dyn ReadAt>, offset: u64, length: u64) -> RangeReader {
        let end = offset.saturating_add(length).min(bytes.len_bytes());
        bytes.will_read_to(end);
        RangeReader { bytes, next: offset.min(end), end, buffer: Vec::new(), at: 0, ask_bytes: 64 << 10 }
    }

    /// Where in the bytes the next byte that it gives is.
    pub(crate) fn position(&self) -> u64 {
        self.next - (self.buffer.len() - self.at) as u64
    }

    /// How many bytes it has still to give.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.position()
    }

    /// What was read already and not given; reads more where that is nothing. Empty at the end only.
    pub(crate) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() && self.next < self.end {
            let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
            self.buffer.resize(self.ask_bytes.min(left), 0);
            self.at = self.buffer.len();
            let filled = read_exact_at(&*self.bytes, self.next, &mut self.buffer);
            if let Err(error) = filled {
                self.buffer.clear();
                self.at = 0;
                return Err(error);
            }
            self.at = 0;
            self.next += self.buffer.len() as u64;
            self.ask_bytes = (self.ask_bytes * 4).min(READ_BYTES_MAX);
        }
        Ok(&self.buffer[self.at..])
    }

    /// Takes `count` of the bytes that [`RangeReader::fill`] gave.
    pub(crate) fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.buffer.len());
    }
}

impl Read for RangeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill()?;
        let count = ready.len().min(out.len());
        out[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}
