//! Objects in memory: for tests and for repositories that need not outlive the process.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, Range};
use std::sync::Arc;

use crate::{Error, ErrorKind, Key, ObjectMeta, Result, Storage, range_bytes};
use parking_lot::Mutex;

type Objects = BTreeMap<String, Arc<[u8]>>;

/// Objects in memory. A clone shares the same objects; [`MemoryStorage::duplicate`] does not.
///
/// Nothing here survives the process, so [`Storage::flush`] has nothing to do.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    objects: Arc<Mutex<Objects>>,
}

impl MemoryStorage {
    /// A storage without objects.
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    /// A storage of its own with the same objects: later changes to either do not show in the other.
    /// Cheap: the bytes are shared.
    pub fn duplicate(&self) -> MemoryStorage {
        MemoryStorage { objects: Arc::new(Mutex::new(self.objects.lock().clone())) }
    }

    /// The names of all objects, sorted.
    pub fn object_names(&self) -> Vec<String> {
        self.objects.lock().keys().cloned().collect()
    }

    /// The bytes of the object `name`, if there is one.
    pub fn read_raw(&self, name: &str) -> Option<Arc<[u8]>> {
        self.objects.lock().get(name).cloned()
    }

    /// Makes or overwrites the object `name`, which no user of [`Storage`] can: tests damage objects so.
    pub fn replace_raw(&self, name: &str, bytes: impl Into<Arc<[u8]>>) {
        self.objects.lock().insert(name.to_owned(), bytes.into());
    }

    /// Removes the object `name`; tells whether there was one.
    pub fn remove_raw(&self, name: &str) -> bool {
        self.objects.lock().remove(name).is_some()
    }
}

/// The objects whose names begin with `prefix` and a slash.
fn below<'a>(objects: &'a Objects, prefix: &str) -> impl Iterator<Item = (&'a String, &'a Arc<[u8]>)> {
    let start = format!("{prefix}/");
    objects
        .range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded))
        .take_while(move |(name, _)| name.starts_with(&start))
}

/// Refuses what a directory tree could not hold, so that tests in memory fail where a disk would.
fn check_place(objects: &Objects, key: &Key) -> Result<()> {
    let name = key.as_str();
    if objects.contains_key(name) {
        return Err(Error::new(ErrorKind::AlreadyExists, name));
    }
    let refuse = |kind: io::ErrorKind| Err(Error::io(name, kind.into()));
    if below(objects, name).next().is_some() {
        return refuse(io::ErrorKind::IsADirectory);
    }
    let mut parents = name.match_indices('/').map(|(at, _)| &name[..at]);
    if parents.any(|parent| objects.contains_key(parent)) {
        return refuse(io::ErrorKind::NotADirectory);
    }
    Ok(())
}

impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()> {
        // Joined before the lock is taken: copying a pack must not stop the other threads.
        let bytes: Arc<[u8]> = body.concat().into();
        let mut objects = self.objects.lock();
        check_place(&objects, key)?;
        objects.insert(key.as_str().to_owned(), bytes);
        Ok(())
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        let name = key.as_str();
        let bytes = self.read_raw(name).ok_or_else(|| Error::new(ErrorKind::NotFound, name))?;
        let Some(range) = range else { return Ok(bytes.to_vec()) };
        let length_bytes = range_bytes(&range, bytes.len() as u64, || name.to_owned())?;
        let start = usize::try_from(range.start).expect("inside the object, whose length is a usize");
        Ok(bytes[start..start + length_bytes].to_vec())
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        Ok(self.read_raw(key.as_str()).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        // Collected first: `each` may call this storage.
        let found: Vec<(String, u64)> = below(&self.objects.lock(), prefix.as_str())
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
            .collect();
        for (name, size_bytes) in found {
            // A test may have made an object of any name with `replace_raw`.
            if let Ok(key) = Key::new(name) {
                each(ObjectMeta { key, size_bytes })?;
            }
        }
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.remove_raw(key.as_str());
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_objects_and_a_duplicate_does_not() {
        let storage = MemoryStorage::new();
        let clone = storage.clone();
        storage.put_new(&Key::new("a/b").unwrap(), &[b"one"]).unwrap();
        let duplicate = storage.duplicate();
        clone.replace_raw("a/b", *b"two");
        assert_eq!(storage.read_raw("a/b").as_deref(), Some(&b"two"[..]));
        assert_eq!(duplicate.read_raw("a/b").as_deref(), Some(&b"one"[..]));
        assert!(clone.remove_raw("a/b"));
        assert!(!storage.remove_raw("a/b"));
        assert_eq!(duplicate.object_names(), ["a/b"]);
    }

    #[test]
    fn a_name_that_is_the_first_part_of_another_is_refused() {
        let storage = MemoryStorage::new();
        storage.put_new(&Key::new("a/b").unwrap(), &[]).unwrap();
        assert_eq!(storage.put_new(&Key::new("a").unwrap(), &[]).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(storage.put_new(&Key::new("a/b/c").unwrap(), &[]).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(storage.object_names(), ["a/b"]);
    }
}
