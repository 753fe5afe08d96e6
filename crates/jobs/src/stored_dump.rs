//! Stored dumps, looked into: streams of the repository as what the insides of dumps are read from.

use std::io;
use std::sync::Arc;

use dbvault_dump::{Contents, Part, ReadAt};
use dbvault_format::manifest::EntryRecord;
use dbvault_repo::{RandomReader, Reader};
use parking_lot::Mutex;

use crate::{Error, Result};

/// A dump of an archive that is looked into. What fails of the repository is remembered, as readers can't know it.
pub(crate) struct StoredDump {
    pub(crate) contents: Contents,
    /// The bytes of each part.
    pub(crate) streams: Vec<Arc<dyn ReadAt>>,
    failure: Failure,
}

/// The first failure of the repository.
type Failure = Arc<Mutex<Option<io::Error>>>;

struct StoredBytes {
    reader: RandomReader,
    failure: Failure,
}

impl ReadAt for StoredBytes {
    fn len_bytes(&self) -> u64 {
        self.reader.len_bytes()
    }

    fn will_read_to(&self, end: u64) {
        self.reader.stop_ahead_at(end);
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.reader.read_at(offset, out).map_err(|error| {
            let mut failure = self.failure.lock();
            failure.get_or_insert(io::Error::other(error));
            io::Error::other("the repository can't be read")
        })
    }
}

impl StoredDump {
    /// Looks into the parts of one database, which are [`crate::contents::in_order`].
    pub(crate) fn open(reader: &Arc<Reader>, whole: &[&EntryRecord]) -> Result<StoredDump> {
        let failure = Failure::default();
        let part = |record: &&EntryRecord| -> Result<Part> {
            let reader = reader.open_random(&record.stream)?;
            Ok(Part::of(record, Arc::new(StoredBytes { reader, failure: failure.clone() })))
        };
        let parts = whole.iter().map(part).collect::<Result<Vec<Part>>>()?;
        let streams = parts.iter().map(|part| part.bytes.clone()).collect();
        match Contents::open(parts) {
            Ok(contents) => Ok(StoredDump { contents, streams, failure }),
            Err(error) => Err(cause(&failure).unwrap_or(error.into())),
        }
    }

    /// What is behind a failure: the repository's where there is one.
    pub(crate) fn cause(&self, otherwise: Error) -> Error {
        cause(&self.failure).unwrap_or(otherwise)
    }
}

fn cause(failure: &Failure) -> Option<Error> {
    failure.lock().take().map(Error::from_stream)
}
