//! What archives need: one copy of every chunk of theirs, and of all it is stored against.
//!
//! Strict, unlike a check: whatever can't be read stops a collection (rule C2 of `docs/protocol.md`). What is
//! passed over here would be deleted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dbvault_format::chunk_list::{Item, StreamRef, decode_node};
use dbvault_format::id::{ChunkId, PackName, SessionId};

use crate::index::Location;
use crate::monitor::Counter;
use crate::pack_list::StoredPacks;
use crate::view::View;
use crate::{Error, Reader, Result};

/// A record, by the number of its pack in the index and its number in the pack.
pub(super) type Record = (u32, u32);

/// What a mark looks at.
pub(super) struct Ground<'a> {
    pub(super) reader: &'a Arc<Reader>,
    pub(super) view: &'a View,
    /// A session whose packs the next base will list although it fills no slot: one that repacks.
    pub(super) own: Option<SessionId>,
    pub(super) stored: &'a StoredPacks,
    /// Packs that hold a chunk for good only where no other pack does.
    pub(super) avoid: &'a HashSet<PackName>,
}

/// Marked records.
#[derive(Debug, Default)]
pub(super) struct Live {
    packs: HashMap<u32, Marks>,
    /// Nodes whose streams have been followed. Not the same as marked: a user may store the bytes of a node.
    nodes: HashSet<(ChunkId, u8)>,
    /// Marked records in packs to avoid, and those that are stored against one.
    edges: HashMap<Record, Edge>,
    /// What is known of packs that were looked at.
    standings: HashMap<u32, Standing>,
    /// Marked records, and their bytes.
    records: u64,
    bytes: u64,
}

/// What a mark must know of a pack.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// It is there in its full length, and the next base will list it.
    lasting: bool,
    avoid: bool,
}

/// A marked record in a pack to avoid, or one that is stored against such a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// Length of the record, bytes.
    pub(super) sealed_bytes: u32,
    /// What it is stored against.
    pub(super) base: Option<(Record, ChunkId)>,
}

/// Which records of a pack are marked.
#[derive(Debug, Default)]
struct Marks {
    needed: Bits,
    /// Those that an archive names, and not only other records.
    named: Bits,
    /// Those that a marked record is stored against, and those that more than one is.
    base: Bits,
    shared: Bits,
}

#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Gives whether it was set before.
    fn set(&mut self, at: u32) -> bool {
        let before = self.has(at);
        let word = at as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (at % 64);
        before
    }
}

/// A copy to be marked, and the record it is stored against.
struct Link {
    copy: Location,
    base: Option<(Record, ChunkId)>,
}

/// A copy that will do, with what must be marked for it, bases first: nothing where it is marked already.
struct Choice {
    record: Record,
    chain: Vec<Link>,
    avoid: bool,
}

impl Live {
    /// Marks from `archives`.
    ///
    /// Errors: whatever of them can't be read, or is not there.
    pub(super) fn mark(ground: &Ground, archives: &[SessionId]) -> Result<Live> {
        let mut live = Live::default();
        live.mark_also(ground, archives)?;
        Ok(live)
    }

    /// Marks from more archives.
    ///
    /// Errors: as those of [`Live::mark`]; some of it is marked then.
    pub(super) fn mark_also(&mut self, ground: &Ground, archives: &[SessionId]) -> Result<()> {
        let reader = ground.reader;
        reader.monitor().expect(Counter::Archives, archives.len() as u64);
        for id in archives {
            reader.repo().client.check_interrupt()?;
            if let Some(manifest) = reader.repo().read_manifest(id)? {
                self.stream(ground, &manifest.entries)?;
                for entry in reader.entries(&manifest)? {
                    entry.streams().try_for_each(|stream| self.stream(ground, stream))?;
                }
            }
            reader.monitor().add(Counter::Archives, 1);
        }
        Ok(())
    }

    /// How many records are marked, and their bytes.
    pub(super) fn sum(&self) -> (u64, u64) {
        (self.records, self.bytes)
    }

    /// Whether a record of the pack is marked.
    pub(super) fn has_pack(&self, number: u32) -> bool {
        self.packs.contains_key(&number)
    }

    /// Packs with a marked record.
    pub(super) fn packs(&self) -> impl Iterator<Item = u32> {
        self.packs.keys().copied()
    }

    /// Whether a record is marked.
    pub(super) fn has(&self, (pack, ordinal): Record) -> bool {
        self.packs.get(&pack).is_some_and(|marks| marks.needed.has(ordinal))
    }

    /// Whether a record is marked only because one other is stored against it.
    pub(super) fn is_between(&self, (pack, ordinal): Record) -> bool {
        self.packs.get(&pack).is_some_and(|Marks { named, base, shared, .. }| {
            base.has(ordinal) && !shared.has(ordinal) && !named.has(ordinal)
        })
    }

    /// Marked records in packs to avoid, and those that are stored against one.
    pub(super) fn edges(&self) -> &HashMap<Record, Edge> {
        &self.edges
    }

    fn stream(&mut self, ground: &Ground, stream: &StreamRef) -> Result<()> {
        stream.validate().map_err(|e| Error::reading("stream", e))?;
        match stream.root {
            Some(id) => self.below(ground, Item { id, stream_bytes: stream.bytes }, stream.levels),
            None => Ok(()),
        }
    }

    fn below(&mut self, ground: &Ground, item: Item, level: u8) -> Result<()> {
        if level == 0 {
            return self.chunk(ground, &item.id);
        }
        if !self.nodes.insert((item.id, level)) {
            return Ok(());
        }
        self.chunk(ground, &item.id)?;
        ground.reader.repo().client.check_interrupt()?;
        let node = ground.reader.chunks().fetch_one(&item.id)?;
        let items = decode_node(&node, level, item.stream_bytes);
        let items = items.map_err(|e| Error::reading("chunk list", e))?;
        items.into_iter().try_for_each(|item| self.below(ground, item, level - 1))
    }

    /// Marks one copy of a chunk that an archive names, and of all it is stored against.
    fn chunk(&mut self, ground: &Ground, id: &ChunkId) -> Result<()> {
        let some = ground.reader.index().locate_some(id)?;
        let choice = match self.marked(&some, u8::MAX) {
            Some(record) => Choice { record, chain: Vec::new(), avoid: false },
            None => self.choose(ground, id, u8::MAX)?.ok_or(Error::ChunkMissing { id: *id })?,
        };
        choice.chain.iter().for_each(|link| self.set(link));
        self.packs.entry(choice.record.0).or_default().named.set(choice.record.1);
        Ok(())
    }

    fn set(&mut self, link: &Link) {
        let record = (link.copy.pack, link.copy.ordinal);
        if !self.packs.entry(record.0).or_default().needed.set(record.1) {
            self.records += 1;
            self.bytes += u64::from(link.copy.entry.sealed_len);
        }
        if let Some((base, _)) = link.base {
            let marks = self.packs.entry(base.0).or_default();
            if marks.base.set(base.1) {
                marks.shared.set(base.1);
            }
        }
        let avoided = |(pack, _): Record| self.standings.get(&pack).is_some_and(|pack| pack.avoid);
        if avoided(record) || link.base.is_some_and(|(base, _)| avoided(base)) {
            let sealed_bytes = link.copy.entry.sealed_len;
            self.edges.insert(record, Edge { sealed_bytes, base: link.base });
        }
    }

    /// A copy of a chunk that is there, of a depth less than `limit`, with copies of all it is stored against:
    /// one that is marked, if there is one; else one that is in no pack to avoid, if there is one.
    fn choose(&mut self, ground: &Ground, id: &ChunkId, limit: u8) -> Result<Option<Choice>> {
        let mut copies = ground.reader.index().locate(id)?;
        // The same ones each time, or what one collection has stored against another base is waste to the next.
        copies.sort_by_key(|copy| (copy.entry.depth, copy.pack));
        if let Some(record) = self.marked(&copies, limit) {
            return Ok(Some(Choice { record, chain: Vec::new(), avoid: false }));
        }
        let mut last_resort = None;
        for copy in copies.into_iter().filter(|copy| copy.entry.depth < limit) {
            let standing = self.standing(ground, copy.pack)?;
            if !standing.lasting {
                continue;
            }
            let below = match &copy.entry.base {
                None => None,
                Some(base) => match self.choose(ground, base, copy.entry.depth)? {
                    None => continue,
                    found => found,
                },
            };
            let (base, mut chain, avoid) = match below {
                None => (None, Vec::new(), false),
                Some(below) => (copy.entry.base.map(|id| (below.record, id)), below.chain, below.avoid),
            };
            let (record, avoid) = ((copy.pack, copy.ordinal), avoid || standing.avoid);
            chain.push(Link { copy, base });
            let choice = Choice { record, chain, avoid };
            if !avoid {
                return Ok(Some(choice));
            }
            last_resort.get_or_insert(choice);
        }
        Ok(last_resort)
    }

    fn marked(&self, copies: &[Location], limit: u8) -> Option<Record> {
        let shallow = copies.iter().filter(|copy| copy.entry.depth < limit);
        shallow.map(|copy| (copy.pack, copy.ordinal)).find(|record| self.has(*record))
    }

    fn standing(&mut self, ground: &Ground, number: u32) -> Result<Standing> {
        if let Some(standing) = self.standings.get(&number) {
            return Ok(*standing);
        }
        let info = ground.reader.index().pack(number)?;
        // A pack that only the local cache knows, or a session without an archive, is in no base.
        let listed =
            ground.view.lists(&info.sessions) || ground.own.is_some_and(|own| info.sessions.contains(&own));
        let lasting = listed && ground.stored.get(&info.name) == Some(&info.size_bytes);
        let standing = Standing { lasting, avoid: ground.avoid.contains(&info.name) };
        self.standings.insert(number, standing);
        Ok(standing)
    }
}
