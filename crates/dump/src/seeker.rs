//! A mark is searched in bytes that come piece by piece.

use memchr::memmem::Finder;

/// Finds the first place of a mark, wherever pieces are cut.
#[derive(Clone, Debug)]
pub(crate) struct Seeker {
    mark: Finder<'static>,
    /// The last bytes that have passed, fewer than the mark has.
    tail: Vec<u8>,
}

impl Seeker {
    /// `before` has passed already.
    pub(crate) fn new(mark: &[u8], before: &[u8]) -> Seeker {
        Seeker { mark: Finder::new(mark).into_owned(), tail: before.to_vec() }
    }

    /// Where in `piece` the mark ends; without it the piece has passed.
    pub(crate) fn find_end(&mut self, piece: &[u8]) -> Option<usize> {
        let length = self.mark.needle().len();
        // The places that begin before the piece.
        let before = self.tail.len();
        self.tail.extend_from_slice(&piece[..piece.len().min(length - 1)]);
        if let Some(at) = self.mark.find(&self.tail) {
            return Some(at + length - before);
        }
        if let Some(at) = self.mark.find(piece) {
            return Some(at + length);
        }
        if piece.len() >= length - 1 {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - (length - 1)..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(length - 1));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_pieces_are_cut() {
        let text = b"a\n\\..\n\\.\nb\n\\.\n";
        for piece_bytes in 1..=text.len() {
            let mut seeker = Seeker::new(b"\n\\.\n", b"");
            let mut passed = 0;
            let found = text.chunks(piece_bytes).find_map(|piece| match seeker.find_end(piece) {
                Some(end) => Some(passed + end),
                None => {
                    passed += piece.len();
                    None
                }
            });
            assert_eq!(found, Some(9), "{piece_bytes}");
        }
        assert_eq!(Seeker::new(b"\n\\.\n", b"\n").find_end(b"\\.\nx"), Some(3));
    }
}
