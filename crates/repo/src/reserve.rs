//! The reserve: room on a full disk for what must be written to free some.

use dbvault_format::header::ObjectKind;
use dbvault_storage::ErrorKind;
use parking_lot::Mutex;

use crate::{Repository, Result, entropy, layout};

/// Length of the reserve, bytes: room for the condemned list and the root of 10,000 packs.
const RESERVE_BYTES: usize = 1 << 20;

/// Held while the reserve is given up.
static RELEASING: Mutex<()> = Mutex::new(());

/// Objects that may be written in place of the reserve: those that deleting and collecting begin with.
pub(crate) fn may_use(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Trash | ObjectKind::Condemned | ObjectKind::Fence | ObjectKind::Root)
}

impl Repository {
    /// Sees to it that there is a reserve, if there is room for it.
    pub fn keep_reserve(&self) -> Result<()> {
        let key = layout::reserve();
        if self.storage.size(&key)?.is_some() {
            return Ok(());
        }
        let mut bytes = vec![0; RESERVE_BYTES];
        // Random, for a file system that compresses would keep no room for zeros.
        blake3::Hasher::new_keyed(&entropy::salt()?.0).finalize_xof().fill(&mut bytes);
        match self.storage.put_new(&key, &[&bytes]) {
            Err(e) if matches!(e.kind(), ErrorKind::NoSpace | ErrorKind::AlreadyExists) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Gives the reserve up, if there is one.
    pub(crate) fn release_reserve(&self) -> Result<()> {
        // Whoever comes second finds the room there, not about to be.
        let _alone = RELEASING.lock();
        let key = layout::reserve();
        if self.storage.size(&key)?.is_some() {
            tracing::info!("the disk is full: the reserve is given up");
            self.storage.delete(&key)?;
        }
        Ok(())
    }
}
