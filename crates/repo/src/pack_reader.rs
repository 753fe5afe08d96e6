//! Records out of packs: many at once, in as few reads as there are runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dbvault_format::id::PackName;
use dbvault_format::pack::RecordOpener;
use dbvault_storage::ErrorKind;

use crate::index::{ChunkIndex, Location, PackInfo};
use crate::{Error, Repository, Result, layout};

/// Records that lie no further apart than this are read in one go, bytes.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Most bytes of one read.
const READ_BYTES_MAX: u64 = 8 << 20;

/// Packs whose keys are kept ready.
const OPENERS_MAX: usize = 1024;

/// Reads records, the sealed bytes of which it opens.
#[derive(Debug)]
pub(crate) struct PackReader {
    repo: Repository,
    index: Arc<ChunkIndex>,
    openers: Mutex<HashMap<PackName, Arc<RecordOpener>>>,
}

impl PackReader {
    /// Reads packs that `index` knows.
    pub(crate) fn new(repo: &Repository, index: Arc<ChunkIndex>) -> PackReader {
        PackReader { repo: repo.clone(), index, openers: Mutex::default() }
    }

    /// Reads and opens the records at `locations`, in any order; gives the stored forms in their order.
    /// Each fails by itself: a damaged record does not hide its neighbours.
    pub(crate) fn read(&self, locations: &[Location]) -> Vec<Result<Vec<u8>>> {
        let mut order: Vec<usize> = (0..locations.len()).collect();
        order.sort_unstable_by_key(|at| (locations[*at].pack, locations[*at].offset));
        let mut out: Vec<Result<Vec<u8>>> = locations.iter().map(|_| Err(Error::Poisoned)).collect();
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let run_len = run_len(locations, rest);
            let (run, after) = rest.split_at(run_len);
            rest = after;
            let start = u64::from(locations[*first].offset);
            let end = run.iter().map(|at| end(&locations[*at])).max().unwrap_or(start);
            let bytes = self
                .pack(locations[*first].pack)
                .and_then(|(info, opener)| Ok((opener, self.read_range(&info, start..end)?)));
            match bytes {
                Ok((opener, bytes)) => {
                    for at in run {
                        let location = &locations[*at];
                        let from = (u64::from(location.offset) - start) as usize;
                        out[*at] = self.open(
                            &opener,
                            location,
                            &bytes[from..][..location.entry.sealed_len as usize],
                        );
                    }
                }
                // What can't be read together is read one by one.
                Err(_) if run.len() > 1 => {
                    run.iter().for_each(|at| out[*at] = self.read_one(&locations[*at]));
                }
                Err(e) => out[*first] = Err(e),
            }
        }
        out
    }

    fn read_one(&self, location: &Location) -> Result<Vec<u8>> {
        let (info, opener) = self.pack(location.pack)?;
        let bytes = self.read_range(&info, u64::from(location.offset)..end(location))?;
        self.open(&opener, location, &bytes)
    }

    fn open(&self, opener: &RecordOpener, location: &Location, sealed: &[u8]) -> Result<Vec<u8>> {
        let mut record = sealed.to_vec();
        opener.open(location.ordinal, &location.entry, &mut record).map_err(|e| {
            let name = self.pack(location.pack).map(|(info, _)| layout::pack(&info.name).to_string());
            Error::reading(name.unwrap_or_default(), e)
        })?;
        Ok(record)
    }

    fn read_range(&self, info: &PackInfo, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        let key = layout::pack(&info.name);
        self.repo.storage.get(&key, Some(range)).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::PackMissing { name: info.name },
            ErrorKind::ShortRead => {
                Error::reading(key.as_str(), dbvault_format::Error::malformed("pack", "ends too early"))
            }
            _ => e.into(),
        })
    }

    /// What the index knows of a pack, and its key.
    pub(crate) fn pack(&self, number: u32) -> Result<(PackInfo, Arc<RecordOpener>)> {
        let info = self.index.pack(number)?;
        // By name: numbers mean other packs after the index was made anew.
        let mut openers = self.openers.lock().unwrap_or_else(PoisonError::into_inner);
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
