//! Packs as the storage lists them.

use std::collections::HashMap;

use dbvault_format::id::PackName;
use dbvault_storage::Key;

use crate::{Repository, Result, layout};

/// Lengths of packs, bytes, by name.
pub(crate) type StoredPacks = HashMap<PackName, u64>;

impl Repository {
    /// Lists all packs. `misplaced` gets what has a name, or is in a place, that no pack can have: it can't be read
    /// as one.
    pub(crate) fn list_packs(&self, misplaced: &mut dyn FnMut(&Key)) -> Result<StoredPacks> {
        let mut stored = StoredPacks::new();
        for shard in 0..layout::PACK_SHARDS {
            self.client.check_interrupt()?;
            self.storage.list(&layout::pack_shard(shard as u8), &mut |object| {
                match layout::parse_pack(&object.key).filter(|name| layout::pack(name) == object.key) {
                    Some(name) => drop(stored.insert(name, object.size_bytes)),
                    None => misplaced(&object.key),
                }
                Ok(())
            })?;
        }
        Ok(stored)
    }
}
