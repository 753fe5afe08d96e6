//! Chunk lists: which chunks a stream is made of, as a tree whose nodes are chunks themselves.
//!
//! A node ends where the id of its last item says so, so that lists of streams that differ in one place share
//! all nodes but those on the way to that place.

use minicbor::{Decode, Encode};

use crate::bytes::{Reader, put_varint};
use crate::id::ChunkId;
use crate::{CHUNK_BYTES_MAX, Error, Result};

/// A node ends after an item whose id has these low bits zero: one in 256.
const NODE_END_MASK: u8 = 0xff;

/// Fewest items of a node but for the last of its level.
const NODE_ITEMS_MIN: usize = 64;

/// Most items of a node.
pub const NODE_ITEMS_MAX: usize = 1024;

/// Most levels of a tree: far more than any stream can need.
pub const LEVELS_MAX: u8 = 8;

/// A chunk, or below it a subtree, of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The data chunk, or the node.
    pub id: ChunkId,
    /// Bytes of the stream it stands for.
    pub stream_bytes: u64,
}

/// A whole stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StreamRef {
    /// Length of the stream, bytes.
    #[n(0)]
    pub bytes: u64,
    /// Levels of nodes: 0 where the stream is one chunk or empty.
    #[n(1)]
    pub levels: u8,
    /// The data chunk or the topmost node; `None` for an empty stream.
    #[n(2)]
    pub root: Option<ChunkId>,
}

impl StreamRef {
    /// Checks what must hold for any stream.
    pub fn validate(&self) -> Result<()> {
        let empty = self.bytes == 0 && self.levels == 0 && self.root.is_none();
        let full = self.bytes > 0 && self.levels <= LEVELS_MAX && self.root.is_some();
        if empty || full {
            Ok(())
        } else {
            Err(Error::malformed("stream", "length, levels and root disagree"))
        }
    }
}

/// The bytes of a node of level `level`; 1 is the lowest.
fn encode_node(level: u8, items: &[Item]) -> Vec<u8> {
    let mut out = vec![level];
    put_varint(&mut out, items.len() as u64);
    for item in items {
        out.extend_from_slice(item.id.as_bytes());
        put_varint(&mut out, item.stream_bytes);
    }
    out
}

/// Reads a node that must be of `level` and stand for `stream_bytes` bytes.
pub fn decode_node(bytes: &[u8], level: u8, stream_bytes: u64) -> Result<Vec<Item>> {
    let mut reader = Reader::new("chunk list", bytes);
    if reader.u8()? != level {
        return Err(reader.malformed("wrong level"));
    }
    let count = reader.length(NODE_ITEMS_MAX)?;
    let item_max = if level == 1 { CHUNK_BYTES_MAX as u64 } else { u64::MAX };
    let mut items = Vec::with_capacity(count);
    let mut total = 0u64;
    for _ in 0..count {
        let item = Item { id: ChunkId(reader.array()?), stream_bytes: reader.varint_max(item_max)? };
        total = total.checked_add(item.stream_bytes).ok_or_else(|| reader.malformed("lengths overflow"))?;
        items.push(item);
    }
    reader.end()?;
    if total != stream_bytes || items.iter().any(|item| item.stream_bytes == 0) {
        return Err(reader.malformed("lengths do not add up"));
    }
    Ok(items)
}

/// Builds the tree of a stream from its chunks, given in order; holds one open node a level.
#[derive(Debug, Default)]
pub struct ChunkListBuilder {
    /// Open nodes, lowest level first.
    levels: Vec<Vec<Item>>,
}

impl ChunkListBuilder {
    /// Adds the next chunk of the stream. `store` keeps the bytes of a finished node as a chunk.
    pub fn push<E>(
        &mut self,
        item: Item,
        store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        self.push_at(0, item, store)
    }

    fn push_at<E>(
        &mut self,
        index: usize,
        item: Item,
        store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        if self.levels.len() == index {
            self.levels.push(Vec::new());
        }
        let node = &mut self.levels[index];
        node.push(item);
        let ends = item.id.0[0] & NODE_END_MASK == 0 && node.len() >= NODE_ITEMS_MIN;
        if ends || node.len() == NODE_ITEMS_MAX {
            let parent = self.close(index, store)?;
            self.push_at(index + 1, parent, store)?;
        }
        Ok(())
    }

    fn close<E>(
        &mut self,
        index: usize,
        store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<Item, E> {
        let items = std::mem::take(&mut self.levels[index]);
        let stream_bytes = items.iter().map(|item| item.stream_bytes).sum();
        Ok(Item { id: store(encode_node(index as u8 + 1, &items))?, stream_bytes })
    }

    /// Ends the stream.
    pub fn finish<E>(mut self, store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>) -> Result<StreamRef, E> {
        let mut index = 0;
        loop {
            let above = self.levels.iter().skip(index + 1).any(|node| !node.is_empty());
            match self.levels.get(index).map(Vec::as_slice) {
                None => return Ok(StreamRef::default()),
                Some([only]) if !above => {
                    return Ok(StreamRef {
                        bytes: only.stream_bytes,
                        levels: index as u8,
                        root: Some(only.id),
                    });
                }
                Some([]) => index += 1,
                Some(_) => {
                    let parent = self.close(index, store)?;
                    self.push_at(index + 1, parent, store)?;
                    index += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    type Store = BTreeMap<ChunkId, Vec<u8>>;

    fn build(items: &[Item], nodes: &mut Store) -> StreamRef {
        let mut store = |node: Vec<u8>| {
            let id = ChunkId(*blake3::hash(&node).as_bytes());
            nodes.insert(id, node);
            Ok::<_, Infallible>(id)
        };
        let mut builder = ChunkListBuilder::default();
        for item in items {
            builder.push(*item, &mut store).unwrap();
        }
        builder.finish(&mut store).unwrap()
    }

    fn flatten(stream: StreamRef, nodes: &Store) -> Vec<Item> {
        stream.validate().unwrap();
        let Some(id) = stream.root else { return Vec::new() };
        let mut items = vec![Item { id, stream_bytes: stream.bytes }];
        for level in (1..=stream.levels).rev() {
            let below = |item: &Item| decode_node(&nodes[&item.id], level, item.stream_bytes).unwrap();
            items = items.iter().flat_map(below).collect();
        }
        items
    }

    fn items(range: std::ops::Range<u64>) -> Vec<Item> {
        range
            .map(|n| Item { id: ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes()), stream_bytes: n + 1 })
            .collect()
    }

    #[test]
    fn lists_of_any_length_come_back() {
        for len in [0, 1, 2, 63, 64, 65, 1023, 1024, 1025, 5000, 100_000] {
            let (items, mut nodes) = (items(0..len), Store::new());
            let stream = build(&items, &mut nodes);
            assert_eq!(flatten(stream, &nodes), items, "{len}");
            assert!(stream.levels <= 3);
        }
    }

    #[test]
    fn a_list_that_never_ends_a_node_by_content_is_bounded() {
        let same = vec![Item { id: ChunkId([1; 32]), stream_bytes: 7 }; 3 * NODE_ITEMS_MAX];
        let mut nodes = Store::new();
        assert_eq!(flatten(build(&same, &mut nodes), &nodes), same);
    }

    #[test]
    fn a_change_in_the_middle_shares_nearly_all_nodes() {
        let (before, mut nodes) = (items(0..50_000), Store::new());
        build(&before, &mut nodes);
        let count = nodes.len();
        let mut after = before;
        after.splice(20_000..20_001, items(90_000..90_010));
        build(&after, &mut nodes);
        assert!(nodes.len() - count <= 5, "{} new nodes", nodes.len() - count);
    }

    #[test]
    fn lying_nodes_are_refused() {
        let node = encode_node(1, &items(0..3));
        assert!(decode_node(&node, 1, 6).is_ok());
        assert!(decode_node(&node, 2, 6).is_err());
        assert!(decode_node(&node, 1, 7).is_err());
        for len in 0..node.len() {
            assert!(decode_node(&node[..len], 1, 6).is_err());
        }
        let huge = Item { id: ChunkId([0; 32]), stream_bytes: u64::MAX };
        assert!(decode_node(&encode_node(2, &[huge, huge]), 2, u64::MAX - 1).is_err());
        assert!(decode_node(&encode_node(1, &[huge]), 1, u64::MAX).is_err());
    }
}
