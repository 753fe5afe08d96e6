//! Which calls does a part make, in which order, and how many bytes do they move?

use std::ops::Range;
use std::sync::Arc;

use dbvault_storage::{ErrorKind, Key, ObjectMeta, Result, Storage};
use parking_lot::Mutex;

/// One call of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Storage::put_new`].
    Put {
        /// Name of the object.
        key: Key,
        /// Length of the whole body, bytes.
        size_bytes: u64,
    },
    /// [`Storage::get`].
    Get {
        /// Name of the object.
        key: Key,
        /// The range asked for; `None` is the whole object.
        range: Option<Range<u64>>,
        /// Bytes read; 0 if the call failed.
        read_bytes: u64,
    },
    /// [`Storage::size`].
    Size {
        /// Name of the object.
        key: Key,
    },
    /// [`Storage::list`].
    List {
        /// The prefix asked for.
        prefix: Key,
        /// Objects that the caller was given.
        objects_count: u64,
    },
    /// [`Storage::delete`].
    Delete {
        /// Name of the object.
        key: Key,
    },
    /// [`Storage::flush`].
    Flush,
}

/// A call and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was asked.
    pub call: Call,
    /// The kind of its error, or `None` for Ok.
    pub error: Option<ErrorKind>,
}

/// Passes every call on and records it. A clone shares storage and records.
///
/// A call is recorded when it ends: so a record stands after those of all calls that ended before it began,
/// while calls of several threads that overlap are recorded in the order of their ends.
#[derive(Clone, Debug)]
pub struct RecordingStorage {
    inner: Arc<dyn Storage>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl RecordingStorage {
    /// Records the calls made to `inner` through this.
    pub fn new(inner: Arc<dyn Storage>) -> RecordingStorage {
        RecordingStorage { inner, records: Arc::default() }
    }

    /// All records so far, in order.
    pub fn records(&self) -> Vec<Record> {
        self.with_records(|records| records.clone())
    }

    /// All calls so far, in order, also those that failed.
    pub fn calls(&self) -> Vec<Call> {
        self.with_records(|records| records.iter().map(|record| record.call.clone()).collect())
    }

    /// All records so far, in order; they are forgotten.
    pub fn take_records(&self) -> Vec<Record> {
        self.with_records(std::mem::take)
    }

    /// Number of calls for which `wanted` holds.
    pub fn count(&self, wanted: impl Fn(&Call) -> bool) -> usize {
        self.with_records(|records| records.iter().filter(|record| wanted(&record.call)).count())
    }

    /// Number of calls of [`Storage::get`].
    pub fn gets_count(&self) -> usize {
        self.count(|call| matches!(call, Call::Get { .. }))
    }

    /// Number of calls of [`Storage::put_new`].
    pub fn puts_count(&self) -> usize {
        self.count(|call| matches!(call, Call::Put { .. }))
    }

    /// Number of calls of [`Storage::list`].
    pub fn lists_count(&self) -> usize {
        self.count(|call| matches!(call, Call::List { .. }))
    }

    /// Number of calls of [`Storage::flush`].
    pub fn flushes_count(&self) -> usize {
        self.count(|call| matches!(call, Call::Flush))
    }

    /// Bytes that all gets read.
    pub fn read_bytes(&self) -> u64 {
        self.sum(|record| if let Call::Get { read_bytes, .. } = record.call { read_bytes } else { 0 })
    }

    /// Bytes of the bodies of all puts that were Ok.
    pub fn written_bytes(&self) -> u64 {
        self.sum(|record| match record {
            Record { call: Call::Put { size_bytes, .. }, error: None } => *size_bytes,
            _ => 0,
        })
    }

    /// Names of the objects made, in order: of the puts that were Ok.
    pub fn put_keys(&self) -> Vec<Key> {
        self.keys(|call| if let Call::Put { key, .. } = call { Some(key) } else { None })
    }

    /// Names of the objects read, in order, each as often as it was read: of the gets that were Ok.
    pub fn get_keys(&self) -> Vec<Key> {
        self.keys(|call| if let Call::Get { key, .. } = call { Some(key) } else { None })
    }

    /// Names of the objects deleted, in order: of the deletes that were Ok.
    pub fn delete_keys(&self) -> Vec<Key> {
        self.keys(|call| if let Call::Delete { key } = call { Some(key) } else { None })
    }

    fn keys(&self, key_of: impl Fn(&Call) -> Option<&Key>) -> Vec<Key> {
        self.with_records(|records| {
            let succeeded = records.iter().filter(|record| record.error.is_none());
            succeeded.filter_map(|record| key_of(&record.call).cloned()).collect()
        })
    }

    fn sum(&self, bytes_of: impl Fn(&Record) -> u64) -> u64 {
        self.with_records(|records| records.iter().map(bytes_of).sum())
    }

    fn with_records<T>(&self, use_them: impl FnOnce(&mut Vec<Record>) -> T) -> T {
        use_them(&mut self.records.lock())
    }

    fn record<T>(&self, call: Call, result: Result<T>) -> Result<T> {
        let error = result.as_ref().err().map(|error| error.kind());
        self.with_records(|records| records.push(Record { call, error }));
        result
    }
}

impl Storage for RecordingStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()> {
        let size_bytes = body.iter().map(|part| part.len() as u64).sum();
        let result = self.inner.put_new(key, body);
        self.record(Call::Put { key: key.clone(), size_bytes }, result)
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        let result = self.inner.get(key, range.clone());
        let read_bytes = result.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.record(Call::Get { key: key.clone(), range, read_bytes }, result)
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        let result = self.inner.size(key);
        self.record(Call::Size { key: key.clone() }, result)
    }

    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        let mut objects_count = 0;
        let result = self.inner.list(prefix, &mut |meta| {
            objects_count += 1;
            each(meta)
        });
        self.record(Call::List { prefix: prefix.clone(), objects_count }, result)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let result = self.inner.delete(key);
        self.record(Call::Delete { key: key.clone() }, result)
    }

    fn flush(&self) -> Result<()> {
        let result = self.inner.flush();
        self.record(Call::Flush, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_conformance::conformance;
    use dbvault_storage::MemoryStorage;

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    #[test]
    fn recording_changes_nothing() {
        conformance(&|| Box::new(RecordingStorage::new(Arc::new(MemoryStorage::new()))));
    }

    #[test]
    fn calls_are_recorded_in_order_with_their_sizes() {
        let storage = RecordingStorage::new(Arc::new(MemoryStorage::new()));
        storage.put_new(&key("a/b"), &[b"123", b"45"]).unwrap();
        storage.put_new(&key("a/b"), &[b"6"]).unwrap_err();
        storage.flush().unwrap();
        storage.get(&key("a/b"), Some(1..3)).unwrap();
        storage.get(&key("a/c"), None).unwrap_err();
        storage.size(&key("a/b")).unwrap();
        storage.list(&key("a"), &mut |_| Ok(())).unwrap();
        storage.delete(&key("a/b")).unwrap();

        assert_eq!(
            storage.calls(),
            [
                Call::Put { key: key("a/b"), size_bytes: 5 },
                Call::Put { key: key("a/b"), size_bytes: 1 },
                Call::Flush,
                Call::Get { key: key("a/b"), range: Some(1..3), read_bytes: 2 },
                Call::Get { key: key("a/c"), range: None, read_bytes: 0 },
                Call::Size { key: key("a/b") },
                Call::List { prefix: key("a"), objects_count: 1 },
                Call::Delete { key: key("a/b") },
            ]
        );
        assert_eq!(storage.records()[1].error, Some(ErrorKind::AlreadyExists));
        assert_eq!((storage.puts_count(), storage.gets_count(), storage.flushes_count()), (2, 2, 1));
        assert_eq!((storage.lists_count(), storage.read_bytes(), storage.written_bytes()), (1, 2, 5));
        assert_eq!(storage.put_keys(), [key("a/b")]);
        assert_eq!(storage.get_keys(), [key("a/b")]);
        assert_eq!(storage.delete_keys(), [key("a/b")]);
        assert_eq!(storage.take_records().len(), 8);
        assert!(storage.calls().is_empty());
    }
}
