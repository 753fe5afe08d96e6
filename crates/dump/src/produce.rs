//! Readers of what is made piece by piece.

use std::io::{self, Read};

/// About how much one call makes, bytes.
pub(crate) const PRODUCE_BYTES: usize = 256 << 10;

/// Makes bytes.
pub(crate) trait Produce: Send {
    /// Adds some bytes to `out`; false once there are no more.
    fn produce(&mut self, out: &mut Vec<u8>) -> io::Result<bool>;
}

/// Reads what is made.
pub(crate) struct Produced<P> {
    producer: P,
    ready: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<P: Produce> Produced<P> {
    pub(crate) fn new(producer: P) -> Produced<P> {
        Produced { producer, ready: Vec::new(), at: 0, ended: false }
    }
}

impl<P: Produce> Read for Produced<P> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.ready.len() && !self.ended && !out.is_empty() {
            self.ready.clear();
            self.at = 0;
            self.ended = !self.producer.produce(&mut self.ready)?;
        }
        let count = out.len().min(self.ready.len() - self.at);
        out[..count].copy_from_slice(&self.ready[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
