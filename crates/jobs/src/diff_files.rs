//! One file of two trees compared: what their records say, and whether they have the same content.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::chunk_list::Item;
use dbvault_format::file_table::{FileKind, FileRecord};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{FileContent, Found, RandomReader, Reader, StreamItems, TableIndex};

use crate::Result;
use crate::diff_trees::{Aspects, Placed};

/// Bytes that are compared at once.
const READ_BYTES: usize = 1 << 20;

/// Compares files of two trees that have the same path, in the order of their tables.
pub(crate) struct Sides<'a> {
    old: Side<'a>,
    new: Side<'a>,
    takes: &'a dyn Fn(&[u8]) -> bool,
    /// What has changed of files that may have other names, by the hashes of their paths.
    changed: HashMap<u64, Aspects>,
    room: [Vec<u8>; 2],
}

struct Side<'a> {
    reader: &'a Arc<Reader>,
    entry: &'a EntryRecord,
    chunks: Chunks,
    content: RandomReader,
    /// Made where it is needed.
    index: Option<TableIndex>,
}

/// The chunk list of a content stream, forward.
struct Chunks {
    items: StreamItems,
    current: Option<(u64, Item)>,
}

impl Chunks {
    /// The chunk that has the byte at `offset`, and where it begins.
    fn at(&mut self, offset: u64) -> Result<Option<(u64, Item)>> {
        while self.current.is_none_or(|(begin, item)| begin + item.stream_bytes <= offset) {
            self.items.skip_to(offset);
            self.current = self.items.next().transpose()?;
            if self.current.is_none() {
                return Ok(None);
            }
        }
        Ok(self.current.filter(|(begin, _)| *begin <= offset))
    }
}

impl<'a> Side<'a> {
    fn new(reader: &'a Arc<Reader>, entry: &'a EntryRecord) -> Result<Side<'a>> {
        let content = reader.open_random(&entry.stream)?;
        Ok(Side { reader, entry, chunks: chunks(reader, entry)?, content, index: None })
    }

    /// The file that has the content of `placed`: that itself, or the one it is another name of.
    fn original(&mut self, placed: &Placed) -> Result<Placed> {
        let Some(first) = &placed.0.same_as else { return Ok(placed.clone()) };
        let index = match self.index.take() {
            Some(index) => index,
            None => TableIndex::build(self.reader, self.entry, Arc::default())?,
        };
        let found = self.index.insert(index).find(first)?;
        Ok(match found {
            Some(Found::File(file)) => (file.record.clone(), file.content.clone()),
            _ => placed.clone(),
        })
    }
}

fn chunks(reader: &Arc<Reader>, entry: &EntryRecord) -> Result<Chunks> {
    Ok(Chunks { items: reader.open_items(&entry.stream)?, current: None })
}

impl<'a> Sides<'a> {
    pub(crate) fn new(
        reader: &'a Arc<Reader>,
        old: &'a EntryRecord,
        new: &'a EntryRecord,
        takes: &'a dyn Fn(&[u8]) -> bool,
    ) -> Result<Sides<'a>> {
        let (old, new) = (Side::new(reader, old)?, Side::new(reader, new)?);
        Ok(Sides { old, new, takes, changed: HashMap::new(), room: Default::default() })
    }

    /// What of a file has changed.
    pub(crate) fn compare(&mut self, old: &Placed, new: &Placed) -> Result<Aspects> {
        match (&old.0.same_as, &new.0.same_as) {
            (None, None) => {
                let aspects = self.compare_originals(old, new, false)?;
                if aspects != Aspects::default() && new.0.kind == FileKind::Regular {
                    self.changed.insert(hash(&new.0.path), aspects);
                }
                Ok(aspects)
            }
            (Some(first), Some(other)) if first == other && (self.takes)(first) => {
                Ok(self.changed.get(&hash(first)).copied().unwrap_or_default())
            }
            (first, other) => {
                let link_changed = first != other;
                let (old, new) = (self.old.original(old)?, self.new.original(new)?);
                let mut aspects = self.compare_originals(&old, &new, true)?;
                aspects.add(Aspects::LINK, link_changed);
                Ok(aspects)
            }
        }
    }

    /// The same of two records that are no other names; `elsewhere`: not in the order of the tables.
    fn compare_originals(&mut self, old: &Placed, new: &Placed, elsewhere: bool) -> Result<Aspects> {
        let mut aspects = compare_records(&old.0, &new.0);
        if old.0.kind == FileKind::Regular && new.0.kind == FileKind::Regular {
            let same = old.0.size_bytes == new.0.size_bytes
                && if old.0.extents != new.0.extents {
                    self.reads_same(old, new)?
                } else if elsewhere {
                    let (reader, old_entry, new_entry) = (self.old.reader, self.old.entry, self.new.entry);
                    let mut cursors = (chunks(reader, old_entry)?, chunks(reader, new_entry)?);
                    self.has_same_bytes(Some(&mut cursors), &old.1, &new.1)?
                } else {
                    self.has_same_bytes(None, &old.1, &new.1)?
                };
            aspects.add(Aspects::CONTENT, !same);
        }
        Ok(aspects)
    }

    /// Whether two stretches of content are the same: where both are the same stretch of the same chunk nothing is read.
    fn has_same_bytes(
        &mut self,
        mut elsewhere: Option<&mut (Chunks, Chunks)>,
        old: &Range<u64>,
        new: &Range<u64>,
    ) -> Result<bool> {
        let bytes = old.end - old.start;
        if bytes != new.end - new.start {
            return Ok(false);
        }
        let mut done = 0;
        while done < bytes {
            let (old_at, new_at) = (old.start + done, new.start + done);
            let (left, right) = match &mut elsewhere {
                Some((left, right)) => (left.at(old_at)?, right.at(new_at)?),
                None => (self.old.chunks.at(old_at)?, self.new.chunks.at(new_at)?),
            };
            let (Some((old_begin, left)), Some((new_begin, right))) = (left, right) else { return Ok(false) };
            let (in_left, in_right) = (old_at - old_begin, new_at - new_begin);
            let step = (left.stream_bytes - in_left).min(right.stream_bytes - in_right).min(bytes - done);
            let is_shared = left.id == right.id && in_left == in_right;
            if !is_shared && !self.stretch_is_same(old_at, new_at, step)? {
                return Ok(false);
            }
            done += step;
        }
        Ok(true)
    }

    fn stretch_is_same(&mut self, old_at: u64, new_at: u64, bytes: u64) -> Result<bool> {
        let [left, right] = &mut self.room;
        let mut done = 0;
        while done < bytes {
            let len = (bytes - done).min(READ_BYTES as u64) as usize;
            left.resize(len, 0);
            right.resize(len, 0);
            let read = self.old.content.read_at(old_at + done, left)?;
            if read != len || self.new.content.read_at(new_at + done, right)? != len || left != right {
                return Ok(false);
            }
            done += len as u64;
        }
        Ok(true)
    }

    /// Whether two files of the same length read the same, wherever their holes are.
    fn reads_same(&mut self, old: &Placed, new: &Placed) -> Result<bool> {
        let left = FileContent::new(self.old.content.clone(), &old.0, old.1.clone());
        let right = FileContent::new(self.new.content.clone(), &new.0, new.1.clone());
        let [old_room, new_room] = &mut self.room;
        let mut at = 0;
        while at < left.len_bytes() {
            // Holes that both have need not be looked at.
            let next = [left.next_data(at), right.next_data(at)].into_iter().flatten().min();
            let Some(next) = next else { break };
            at = next;
            let same = left.read_with(at, READ_BYTES, old_room, |old| {
                right.read_with(at, READ_BYTES, new_room, |new| old == new)
            })??;
            if !same {
                return Ok(false);
            }
            at += READ_BYTES as u64;
        }
        Ok(true)
    }
}

/// What records say that is not the same, content left aside.
fn compare_records(old: &FileRecord, new: &FileRecord) -> Aspects {
    let mut aspects = Aspects::default();
    let same_names = old.user == new.user && old.group == new.group;
    aspects.add(Aspects::KIND, old.kind != new.kind);
    aspects.add(Aspects::MODE, old.mode != new.mode);
    aspects.add(Aspects::OWNER, (old.uid, old.gid) != (new.uid, new.gid) || !same_names);
    aspects.add(Aspects::TIME, old.modified != new.modified);
    aspects.add(Aspects::XATTRS, old.xattrs != new.xattrs);
    aspects.add(Aspects::FLAGS, old.flags != new.flags);
    if old.kind == new.kind {
        aspects.add(Aspects::TARGET, old.target != new.target);
        aspects.add(Aspects::DEVICE, old.device != new.device);
        aspects.add(Aspects::HOLES, old.size_bytes == new.size_bytes && old.extents != new.extents);
    }
    aspects
}

fn hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
