//! Pieces of file tables that were looked at lately, decoded.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use dbvault_format::file_table::FileRecord;
use dbvault_format::id::ChunkId;
use parking_lot::Mutex;

use crate::Result;

/// Bytes of tables that are kept, before they were decoded: decoded they are about six times as many.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// A record of a file table, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFile {
    /// Where the record begins, bytes from the beginning of the table.
    pub at: u64,
    /// The record.
    pub record: FileRecord,
    /// Bytes of the content stream that are its content.
    pub content: Range<u64>,
}

/// Records that follow each other.
pub(crate) type Page = Vec<Arc<TableFile>>;

/// Which table, by the root of its chunk list, and where in it a page begins.
pub(crate) type PageKey = (ChunkId, u64);

/// Pages that were looked at lately, for all tables that share this; some 25 MB at most, or one page.
#[derive(Debug, Default)]
pub struct TablePages(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The one that was looked at last is the last.
    pages: VecDeque<(PageKey, u64, Arc<Page>)>,
    bytes: u64,
}

impl TablePages {
    /// The page `key`, which is `bytes` long; `decode` gives it where it is not known.
    pub(crate) fn get(
        &self,
        key: PageKey,
        bytes: u64,
        decode: impl FnOnce() -> Result<Page>,
    ) -> Result<Arc<Page>> {
        let kept = || self.0.lock();
        if let Some(page) = kept().take(&key) {
            return Ok(page);
        }
        let page = Arc::new(decode()?);
        kept().put(key, bytes, page.clone());
        Ok(page)
    }
}

impl Kept {
    fn take(&mut self, key: &PageKey) -> Option<Arc<Page>> {
        let place = self.pages.iter().rposition(|(known, _, _)| known == key)?;
        let found = self.pages.remove(place)?;
        let page = found.2.clone();
        self.pages.push_back(found);
        Some(page)
    }

    fn put(&mut self, key: PageKey, bytes: u64, page: Arc<Page>) {
        // Somebody else may have decoded it meanwhile.
        if self.take(&key).is_some() {
            return;
        }
        self.bytes += bytes;
        self.pages.push_back((key, bytes, page));
        while self.bytes > KEPT_BYTES_MAX && self.pages.len() > 1 {
            self.bytes -= self.pages.pop_front().map_or(0, |(_, bytes, _)| bytes);
        }
    }
}
