//! Redis and Valkey: restored as a file, which a private server loads.

use dbvault_format::manifest::EntryRecord;
use dbvault_source::redis_keys;

use super::{Drill, Verdict, compare, recorded};
use crate::{Error, Result, Watcher};

impl Drill<'_> {
    pub(super) fn try_redis(
        &self,
        name: &str,
        whole: &[EntryRecord],
        watcher: &dyn Watcher,
    ) -> Result<Verdict> {
        let (_directory, path) = self.sandbox.restored_file(name, "dump.rdb", watcher)?;
        let found =
            redis_keys(&path, &self.sandbox.interrupt).map_err(|error| Error::restore(name, error, &[]))?;
        let verdict = compare(&recorded(whole), &found.lasting);
        // Keys that expire are there too, as far as they are.
        Ok(match verdict {
            Verdict::Proven { compared, .. } => {
                let (tables, rows) = (found.all.len() as u64, found.all.values().sum());
                Verdict::Proven { tables, rows, compared }
            }
            other => other,
        })
    }
}
