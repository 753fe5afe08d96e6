//! The beginning of the way of a stream: its bytes, and places where chunks must end, put into blocks for the one who cuts.

use std::io::{ErrorKind, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use dbvault_format::chunk_list::Item;

use crate::monitor::{Counter, Monitor};
use crate::{Error, Repository, Result};

/// Breaks in one block, at most.
const BREAKS_MAX: usize = 8 << 10;

/// Bytes of a stream as they were read, behind as much room as the rest of the block before can need.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    /// Where the bytes end.
    pub(crate) end: usize,
    /// In the order of their places.
    pub(crate) breaks: Vec<Break>,
    /// Whether the stream ends with the block.
    pub(crate) ended: bool,
}

/// A place at which a chunk must end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Break {
    /// Where in the block.
    pub(crate) at: usize,
    /// A stored chunk that the stream goes on with there.
    pub(crate) stored: Option<Item>,
}

/// What blocks are made and sent with.
pub(crate) struct BlockWriter {
    repo: Repository,
    /// Who hears of the bytes of the stream, if anybody is to.
    monitor: Option<Arc<dyn Monitor>>,
    /// Name of the stream, for errors.
    name: String,
    /// Where the bytes of a block begin.
    room: usize,
    /// Bytes that a block takes.
    block_bytes: usize,
    blocks: Sender<Block>,
    /// Memory of blocks that nobody uses any more.
    buffers: Receiver<Vec<u8>>,
    block: Block,
    position: u64,
}

impl std::fmt::Debug for BlockWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockWriter({} at {})", self.name, self.position)
    }
}

impl BlockWriter {
    /// Makes blocks of `block_bytes` behind `room` bytes, in memory from `buffers` where there is some.
    pub(crate) fn new(
        repo: &Repository,
        monitor: Option<Arc<dyn Monitor>>,
        name: &str,
        (room, block_bytes): (usize, usize),
        (blocks, buffers): (Sender<Block>, Receiver<Vec<u8>>),
    ) -> BlockWriter {
        let (repo, name) = (repo.clone(), name.to_owned());
        let mut writer = BlockWriter {
            repo,
            monitor,
            name,
            room,
            block_bytes,
            blocks,
            buffers,
            block: Block::default(),
            position: 0,
        };
        writer.block = writer.fresh_block();
        writer
    }

    /// Length of the stream so far, bytes.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Takes bytes from `body` until it ends, or until there are `bytes_max`; gives how many.
    ///
    /// Errors: [`Error::Source`] where `body` fails: what was taken of it before is part of the stream.
    /// [`Error::Poisoned`] where nobody stores any more.
    pub(crate) fn copy(&mut self, body: &mut dyn Read, bytes_max: u64) -> Result<u64> {
        let mut left = bytes_max;
        while left > 0 {
            self.repo.client.check_interrupt()?;
            let space = self.space()?;
            let len = space.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match body.read(&mut space[..len]) {
                Ok(0) => break,
                Ok(len) => {
                    self.block.end += len;
                    self.count(len as u64);
                    left -= len as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Source { entry: self.name.clone(), source }),
            }
        }
        Ok(bytes_max - left)
    }

    /// Ends the chunk here: the next one does not depend on what was before.
    pub(crate) fn cut(&mut self) -> Result<()> {
        let at = self.block.end;
        match self.block.breaks.last() {
            Some(last) if last.at == at => Ok(()),
            _ => self.push(Break { at, stored: None }),
        }
    }

    /// Goes on with a chunk that is stored already.
    pub(crate) fn splice(&mut self, item: Item) -> Result<()> {
        self.count(item.stream_bytes);
        self.push(Break { at: self.block.end, stored: Some(item) })
    }

    /// Ends the stream.
    pub(crate) fn end(mut self) -> Result<()> {
        self.block.ended = true;
        self.send()
    }

    fn push(&mut self, place: Break) -> Result<()> {
        self.block.breaks.push(place);
        if self.block.breaks.len() < BREAKS_MAX {
            return Ok(());
        }
        self.repo.client.check_interrupt()?;
        self.send_on()
    }

    /// Room for the next bytes; not empty.
    fn space(&mut self) -> Result<&mut [u8]> {
        if self.block.end == self.block.bytes.len() {
            self.send_on()?;
        }
        Ok(&mut self.block.bytes[self.block.end..])
    }

    fn send_on(&mut self) -> Result<()> {
        self.send()?;
        self.block = self.fresh_block();
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        self.blocks.send(std::mem::take(&mut self.block)).map_err(|_| Error::Poisoned)
    }

    fn fresh_block(&self) -> Block {
        let mut bytes = self.buffers.try_recv().unwrap_or_default();
        bytes.resize(self.room + self.block_bytes, 0);
        Block { bytes, end: self.room, breaks: Vec::new(), ended: false }
    }

    fn count(&mut self, len: u64) {
        self.position += len;
        if let Some(monitor) = &self.monitor {
            monitor.add(Counter::StreamBytes, len);
        }
    }
}
