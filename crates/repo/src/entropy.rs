//! Random ids and salts from the operating system.

use dbvault_format::id::{RepoId, Salt, SessionId, SlotId};
use dbvault_format::keys::{KEY_BYTES, MasterKey};

use crate::{Error, Result, scripted};

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    if scripted::fill(&mut bytes) {
        return Ok(bytes);
    }
    getrandom::fill(&mut bytes).map_err(|e| Error::Random(e.to_string()))?;
    Ok(bytes)
}

/// A fresh salt, for one object.
pub(crate) fn salt() -> Result<Salt> {
    random().map(Salt)
}

/// A fresh session id.
pub(crate) fn session_id() -> Result<SessionId> {
    random().map(SessionId)
}

/// A fresh repository id.
pub(crate) fn repo_id() -> Result<RepoId> {
    random().map(RepoId)
}

/// A fresh key slot id.
pub(crate) fn slot_id() -> Result<SlotId> {
    random().map(SlotId)
}

/// A fresh master key.
pub(crate) fn master_key() -> Result<MasterKey> {
    random::<KEY_BYTES>().map(MasterKey)
}
