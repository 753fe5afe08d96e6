//! Where the pairs of an index are: in RocksDB, or, for tests that open very many, in memory.

use std::collections::{BTreeMap, HashMap};

use parking_lot::RwLock;
use rocksdb::{ColumnFamily, DB, IteratorMode, WriteBatch, WriteOptions};

/// What went wrong, in words.
type Result<T> = std::result::Result<T, String>;

type Families = HashMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Pairs of keys and values, in families.
pub(super) enum Store {
    Disk(DB),
    Memory(Memory),
}

/// Pairs in memory: they take effect at once, not as a batch. Whoever puts them begins with what others lead to.
#[derive(Default)]
pub(super) struct Memory(RwLock<Families>);

impl Store {
    /// Gives the value of a key to `look`, if there is one.
    pub(super) fn look<T>(
        &self,
        family: &str,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        match self {
            Store::Disk(db) => {
                let value = db.get_pinned_cf(handle(db, family)?, key).map_err(|e| e.to_string())?;
                Ok(value.map(|value| look(&value)))
            }
            Store::Memory(memory) => {
                // Taken out first: `look` may look again.
                let value = memory.0.read().get(family).and_then(|pairs| pairs.get(key)).cloned();
                Ok(value.map(|value| look(&value)))
            }
        }
    }

    /// The values of many keys, in their order.
    pub(super) fn get_many(&self, family: &str, keys: &[[u8; 8]]) -> Result<Vec<Option<Vec<u8>>>> {
        match self {
            Store::Disk(db) => {
                let values = db.batched_multi_get_cf(handle(db, family)?, keys, false).into_iter();
                values
                    .map(|value| Ok(value.map_err(|e| e.to_string())?.map(|value| value.to_vec())))
                    .collect()
            }
            Store::Memory(_) => keys.iter().map(|key| self.look(family, key, <[u8]>::to_vec)).collect(),
        }
    }

    /// All keys of a family, in order.
    pub(super) fn keys(&self, family: &str) -> Result<Vec<Box<[u8]>>> {
        match self {
            Store::Disk(db) => {
                let all = db.iterator_cf(handle(db, family)?, IteratorMode::Start);
                all.map(|pair| Ok(pair.map_err(|e| e.to_string())?.0)).collect()
            }
            Store::Memory(memory) => Ok(memory
                .0
                .read()
                .get(family)
                .map(|pairs| pairs.keys().map(|key| key.as_slice().into()).collect())
                .unwrap_or_default()),
        }
    }

    /// The last key of a family.
    pub(super) fn last_key(&self, family: &str) -> Result<Option<Box<[u8]>>> {
        match self {
            Store::Disk(db) => {
                let last = db.iterator_cf(handle(db, family)?, IteratorMode::End).next().transpose();
                Ok(last.map_err(|e| e.to_string())?.map(|(key, _)| key))
            }
            Store::Memory(_) => Ok(self.keys(family)?.pop()),
        }
    }

    /// Puts a pair, with the batch.
    pub(super) fn put(
        &self,
        batch: &mut WriteBatch,
        family: &str,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        match self {
            Store::Disk(db) => batch.put_cf(handle(db, family)?, key, value),
            Store::Memory(memory) => {
                let mut families = memory.0.write();
                let pairs = families.entry(family.to_owned()).or_default();
                pairs.insert(key.as_ref().to_vec(), value.as_ref().to_vec());
            }
        }
        Ok(())
    }

    /// Appends to the value of a key, with the batch.
    pub(super) fn append(
        &self,
        batch: &mut WriteBatch,
        family: &str,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        match self {
            Store::Disk(db) => batch.merge_cf(handle(db, family)?, key, value),
            Store::Memory(memory) => {
                let mut families = memory.0.write();
                let pairs = families.entry(family.to_owned()).or_default();
                pairs.entry(key.as_ref().to_vec()).or_default().extend_from_slice(value.as_ref());
            }
        }
        Ok(())
    }

    /// Writes a batch without the write-ahead log.
    pub(super) fn write(&self, batch: WriteBatch) -> Result<()> {
        let Store::Disk(db) = self else { return Ok(()) };
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        db.write_opt(batch, &options).map_err(|e| e.to_string())
    }
}

/// The handle of a family.
pub(super) fn handle<'a>(db: &'a DB, family: &str) -> Result<&'a ColumnFamily> {
    db.cf_handle(family).ok_or_else(|| format!("no column family {family}"))
}
