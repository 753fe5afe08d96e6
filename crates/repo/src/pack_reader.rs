//! Records out of packs: many at once, in as few reads as there are runs.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::id::PackName;
use dbvault_format::pack::RecordOpener;
use dbvault_storage::ErrorKind;
use parking_lot::Mutex;

use crate::index::{ChunkIndex, Location, PackInfo};
use crate::{Error, Repository, Result, layout};

/// Records that lie no further apart than this are read in one go, bytes.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Most bytes of one read.
const READ_BYTES_MAX: u64 = 8 << 20;

/// Runs up to this length are announced to the storage, bytes. A longer one is likely to go on where the last one of its
/// pack ended, and then the system reads on by itself.
const ANNOUNCED_BYTES_MAX: u64 = 256 << 10;

/// Packs whose keys are kept ready.
const OPENERS_MAX: usize = 1024;

/// Records that were read together, opened. The memory is kept from one time to the next.
#[derive(Debug, Default)]
pub(crate) struct Records {
    bytes: Vec<u8>,
    places: Vec<Result<Range<usize>>>,
}

impl Records {
    /// The stored form in record number `at` of those asked for, or why it can't be had.
    pub(crate) fn get(&self, at: usize) -> std::result::Result<&[u8], &Error> {
        self.places[at].as_ref().map(|place| &self.bytes[place.clone()])
    }
}

/// The first `len` bytes of memory that is used again and again, whatever they are.
pub(crate) fn room(memory: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if memory.len() < len {
        memory.resize(len, 0);
    }
    &mut memory[..len]
}

/// Reads records, the sealed bytes of which it opens.
#[derive(Debug)]
pub(crate) struct PackReader {
    repo: Repository,
    index: Arc<ChunkIndex>,
    openers: Mutex<HashMap<PackName, Arc<RecordOpener>>>,
    rescued: Mutex<Rescued>,
}

/// What parity has given.
#[derive(Debug, Default)]
struct Rescued {
    /// The pack that was restored last.
    last: Option<(PackName, Arc<Vec<u8>>)>,
    /// Packs that can't be.
    hopeless: HashSet<PackName>,
}

impl PackReader {
    /// Reads packs that `index` knows.
    pub(crate) fn new(repo: &Repository, index: Arc<ChunkIndex>) -> PackReader {
        PackReader { repo: repo.clone(), index, openers: Mutex::default(), rescued: Mutex::default() }
    }

    /// Reads and opens the records at `locations`, in any order; `records` then holds these and no others.
    /// Each fails by itself: a damaged record does not hide its neighbours.
    pub(crate) fn read(&self, locations: &[Location], records: &mut Records) {
        let mut order: Vec<usize> = (0..locations.len()).collect();
        order.sort_unstable_by_key(|at| (locations[*at].pack, locations[*at].offset));
        records.places.clear();
        records.places.extend(locations.iter().map(|_| Err(Error::Poisoned)));
        let (mut rest, mut runs) = (&order[..], Vec::new());
        while !rest.is_empty() {
            let (run, after) = rest.split_at(run_len(locations, rest));
            runs.push(run);
            rest = after;
        }
        runs.iter().for_each(|run| self.announce(locations, run));
        runs.iter().fold(0, |begin, run| self.read_run(locations, run, begin, records));
    }

    /// Has the storage begin to read a run, if it is so short that all there is to it is waiting.
    fn announce(&self, locations: &[Location], run: &[usize]) {
        let range = range_of(locations, run);
        if range.end - range.start <= ANNOUNCED_BYTES_MAX
            && let Some(first) = run.first()
            && let Ok((info, _)) = self.pack(locations[*first].pack)
            && range.end <= info.size_bytes
        {
            self.repo.storage.will_read(&layout::pack(&info.name), range);
        }
    }

    /// Reads and opens one record.
    pub(crate) fn read_one(&self, location: &Location) -> Result<Vec<u8>> {
        let (info, opener) = self.pack(location.pack)?;
        let mut record = Vec::new();
        self.read_range(&info, u64::from(location.offset)..end(location), &mut record, 0)?;
        let opened = opener.open(location.ordinal, &location.entry, &mut record);
        opened.map_err(|e| Error::reading(layout::pack(&info.name).as_str(), e))?;
        Ok(record)
    }

    /// As [`PackReader::read_one`], from what parity makes of the pack; `None` where it makes nothing.
    pub(crate) fn read_rescued(&self, location: &Location) -> Result<Option<Vec<u8>>> {
        let (info, opener) = self.pack(location.pack)?;
        let Some(pack) = self.rescue(&info.name)? else { return Ok(None) };
        let Some(record) = pack.get(location.offset as usize..end(location) as usize) else {
            return Ok(None);
        };
        let mut record = record.to_vec();
        let opened = opener.open(location.ordinal, &location.entry, &mut record);
        opened.map_err(|e| Error::reading(layout::pack(&info.name).as_str(), e))?;
        Ok(Some(record))
    }

    /// The bytes of a damaged pack, from its parity. One pack is kept in memory.
    fn rescue(&self, name: &PackName) -> Result<Option<Arc<Vec<u8>>>> {
        let mut rescued = self.rescued.lock();
        if let Some((_, pack)) = rescued.last.as_ref().filter(|(last, _)| last == name) {
            return Ok(Some(pack.clone()));
        }
        if rescued.hopeless.contains(name) {
            return Ok(None);
        }
        let Some(pack) = crate::parity::restore(&self.repo, name)? else {
            if rescued.hopeless.len() == OPENERS_MAX {
                rescued.hopeless.clear();
            }
            rescued.hopeless.insert(*name);
            return Ok(None);
        };
        tracing::warn!(object = %layout::pack(name), "damaged; read by its parity");
        let pack = Arc::new(pack);
        rescued.last = Some((*name, pack.clone()));
        Ok(Some(pack))
    }

    /// Reads and opens the records of one run into the bytes of `records` from `begin` on; gives their end.
    fn read_run(&self, locations: &[Location], run: &[usize], begin: usize, records: &mut Records) -> usize {
        let Some(first) = run.first().map(|at| &locations[*at]) else { return begin };
        let range = range_of(locations, run);
        let after = begin + (range.end - range.start) as usize;
        let read = self.pack(first.pack).and_then(|(info, opener)| {
            let bytes = self.read_range(&info, range, &mut records.bytes, begin)?;
            Ok((info, opener, bytes))
        });
        match read {
            Ok((info, opener, bytes)) => {
                for at in run {
                    let location = &locations[*at];
                    let from = (location.offset - first.offset) as usize;
                    let record = &mut bytes[from..][..location.entry.sealed_len as usize];
                    let opened = opener.open_in_place(location.ordinal, &location.entry, record);
                    let opened = opened.map(|stored| begin + from..begin + from + stored.len());
                    records.places[*at] =
                        opened.map_err(|e| Error::reading(layout::pack(&info.name).as_str(), e));
                }
            }
            // What can't be read together is read one by one.
            Err(_) if run.len() > 1 => {
                return run.iter().fold(begin, |begin, at| self.read_run(locations, &[*at], begin, records));
            }
            Err(e) => records.places[run[0]] = Err(e),
        }
        after
    }

    /// Reads a range into `memory` from `begin` on.
    fn read_range<'a>(
        &self,
        info: &PackInfo,
        range: Range<u64>,
        memory: &'a mut Vec<u8>,
        begin: usize,
    ) -> Result<&'a mut [u8]> {
        let key = layout::pack(&info.name);
        let short =
            || Error::reading(key.as_str(), dbvault_format::Error::malformed("pack", "ends too early"));
        // Asked before memory is made: damage in the index must not ask for all of it.
        if range.end > info.size_bytes {
            return Err(short());
        }
        let bytes = &mut room(memory, begin + (range.end - range.start) as usize)[begin..];
        self.repo.storage.get_into(&key, range.start, bytes).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::PackMissing { name: info.name },
            ErrorKind::ShortRead => short(),
            _ => e.into(),
        })?;
        Ok(bytes)
    }

    /// What the index knows of a pack, and its key.
    pub(crate) fn pack(&self, number: u32) -> Result<(PackInfo, Arc<RecordOpener>)> {
        let info = self.index.pack(number)?;
        // By name: numbers mean other packs after the index was made anew.
        let mut openers = self.openers.lock();
        if openers.len() == OPENERS_MAX {
            openers.clear();
        }
        let make = || Arc::new(RecordOpener::new(&self.repo.keys.pack, self.repo.id, &info.salt));
        let opener = openers.entry(info.name).or_insert_with(make).clone();
        Ok((info, opener))
    }
}

fn end(location: &Location) -> u64 {
    u64::from(location.offset) + u64::from(location.entry.sealed_len)
}

/// Where the records of a run are, which begins with the first of them.
fn range_of(locations: &[Location], run: &[usize]) -> Range<u64> {
    let start = run.first().map_or(0, |at| u64::from(locations[*at].offset));
    start..run.iter().map(|at| end(&locations[*at])).max().unwrap_or(start)
}

/// How many of the locations, in this order, are read in one go.
fn run_len(locations: &[Location], order: &[usize]) -> usize {
    let Some(first) = order.first().map(|at| &locations[*at]) else { return 0 };
    let mut reach = end(first);
    let near = |at: &&usize| {
        let location = &locations[**at];
        let near = location.pack == first.pack
            && u64::from(location.offset) <= reach + GAP_BYTES_MAX
            && end(location) - u64::from(first.offset) <= READ_BYTES_MAX;
        reach = reach.max(end(location));
        near
    };
    1 + order[1..].iter().take_while(near).count()
}
