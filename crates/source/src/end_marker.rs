//! The mark that a program writes after all else: without it, a dump in the form of text was cut short.

/// How much of the end of a stream is searched, bytes. What follows the mark is short: a `\unrestrict` line, blank lines.
const TAIL_BYTES: usize = 4096;

/// Keeps the end of a stream that passes by.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    total_bytes: u64,
}

impl Tail {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        self.bytes.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        // Seldom: moving the rest costs as much as the rest is long.
        if self.bytes.len() > 4 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
        }
    }

    /// Bytes seen so far.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Whether the end has this text.
    pub(crate) fn has_text(&self, text: &str) -> bool {
        let tail = &self.bytes[self.bytes.len().saturating_sub(TAIL_BYTES)..];
        memchr::memmem::find(tail, text.as_bytes()).is_some()
    }

    /// Whether a line of the end begins with `mark`.
    pub(crate) fn has_line(&self, mark: &str) -> bool {
        let tail = &self.bytes[self.bytes.len().saturating_sub(TAIL_BYTES)..];
        tail.split(|byte| *byte == b'\n').any(|line| line.starts_with(mark.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_at_the_end_only_and_at_the_start_of_a_line() {
        let mut tail = Tail::default();
        b"-- done\n".chunks(3).for_each(|piece| tail.feed(piece));
        assert!(tail.has_line("-- done") && !tail.has_line("done"));
        tail.feed(&[b'x'; 3 * TAIL_BYTES]);
        assert!(!tail.has_line("-- done"));
        for _ in 0..100 {
            tail.feed(&[b'y'; 100]);
        }
        tail.feed(b"\n-- done");
        assert!(tail.has_line("-- done"));
        assert_eq!(tail.total_bytes(), 8 + 3 * TAIL_BYTES as u64 + 10_000 + 8);
    }
}
