//! The chunks of a stream, one after the other, with their places; what is not wanted is passed over a subtree at a time.

use std::sync::Arc;

use dbvault_format::chunk_list::{Item, StreamRef, decode_node};

use crate::{Error, Reader, Result};

/// Goes through the chunk list of a stream, forward. Holds one node a level.
#[derive(Debug)]
pub struct StreamItems {
    reader: Arc<Reader>,
    /// What is left of each node on the way down, the topmost first.
    open: Vec<OpenNode>,
    /// Where the next item begins, bytes.
    at: u64,
    /// Nothing is wanted that ends here or before.
    from: u64,
}

#[derive(Debug)]
struct OpenNode {
    /// Level of its items; 0 are chunks.
    level: u8,
    items: std::vec::IntoIter<Item>,
}

impl Reader {
    /// Opens the chunk list of a stream. Nothing is read yet.
    pub fn open_items(self: &Arc<Self>, stream: &StreamRef) -> Result<StreamItems> {
        stream.validate().map_err(|e| Error::reading("stream", e))?;
        let root: Vec<Item> =
            stream.root.map(|id| Item { id, stream_bytes: stream.bytes }).into_iter().collect();
        let open = vec![OpenNode { level: stream.levels, items: root.into_iter() }];
        Ok(StreamItems { reader: self.clone(), open, at: 0, from: 0 })
    }
}

impl StreamItems {
    /// Passes over all chunks that end at `offset` or before, bytes from the beginning of the stream. Does not go back.
    pub fn skip_to(&mut self, offset: u64) {
        self.from = self.from.max(offset);
    }

    /// Where the next chunk begins at the earliest, bytes from the beginning of the stream. Behind an error: where it goes on.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn step(&mut self) -> Result<Option<(u64, Item)>> {
        while let Some(node) = self.open.last_mut() {
            let level = node.level;
            let Some(item) = node.items.next() else {
                self.open.pop();
                continue;
            };
            let begin = self.at;
            if begin + item.stream_bytes <= self.from || level == 0 {
                self.at += item.stream_bytes;
                if self.at > self.from {
                    return Ok(Some((begin, item)));
                }
                continue;
            }
            match self.items_of(&item, level) {
                Ok(items) => self.open.push(OpenNode { level: level - 1, items: items.into_iter() }),
                Err(e) => {
                    self.at += item.stream_bytes;
                    return Err(e);
                }
            }
        }
        Ok(None)
    }

    fn items_of(&self, node: &Item, level: u8) -> Result<Vec<Item>> {
        let bytes = self.reader.fetch_one(&node.id)?;
        decode_node(&bytes, level, node.stream_bytes).map_err(|e| Error::reading("chunk list", e))
    }
}

/// Where each chunk begins, and the chunk. An error is about a node; what comes next is behind the part of the stream that
/// it stands for.
impl Iterator for StreamItems {
    type Item = Result<(u64, Item)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
