//! The master key and the keys that come from it.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::id::{ChunkId, Salt};

/// Length of every key, bytes.
pub const KEY_BYTES: usize = 32;

/// The secret of a repository: everything else is derived from it. Overwritten in memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey(pub [u8; KEY_BYTES]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(secret)")
    }
}

/// What keys are used for, one BLAKE3 `derive_key` context each. Frozen: a changed word is a new format.
pub mod context {
    /// Chunk ids.
    pub const CHUNK_ID: &str = "dbvault v1 chunk id";
    /// The gear table of the chunker.
    pub const CHUNKER: &str = "dbvault v1 chunker gear table";
    /// The gear table and transforms of the similarity features.
    pub const SIMILARITY: &str = "dbvault v1 similarity features";
    /// Pack keys.
    pub const PACK: &str = "dbvault v1 pack";
    /// Keys of all other sealed objects.
    pub const OBJECT: &str = "dbvault v1 object";
    /// The code that authenticates `config`.
    pub const CONFIG: &str = "dbvault v1 config";
    /// Wrapping key of a key slot, from the derived passphrase or key file.
    pub const SLOT_WRAP: &str = "dbvault v1 key slot wrap";
    /// Commitment of a key slot, from the derived passphrase or key file.
    pub const SLOT_COMMIT: &str = "dbvault v1 key slot commitment";
    /// The secret of a key file.
    pub const KEY_FILE: &str = "dbvault v1 key file";

    /// All of them, in the order of `docs/format.md`.
    pub const ALL: [&str; 9] =
        [CHUNK_ID, CHUNKER, SIMILARITY, PACK, OBJECT, CONFIG, SLOT_WRAP, SLOT_COMMIT, KEY_FILE];
}

/// A key for one purpose. Overwritten in memory when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PurposeKey([u8; KEY_BYTES]);

impl std::fmt::Debug for PurposeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PurposeKey(secret)")
    }
}

impl PurposeKey {
    /// The key for `context` from secret `material`.
    pub fn derive(context: &'static str, material: &[u8]) -> PurposeKey {
        PurposeKey(blake3::derive_key(context, material))
    }

    /// Keyed BLAKE3 of `parts`, one after the other.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        parts.iter().for_each(|part| {
            hasher.update(part);
        });
        *hasher.finalize().as_bytes()
    }

    /// The key of the one object or pack that has `salt`.
    pub fn for_salt(&self, salt: &Salt) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(self.mac(&[salt.as_bytes()]))
    }

    /// Fills `out` with pseudo-random bytes that depend on this key only.
    pub fn expand(&self, out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0).finalize_xof().fill(out);
    }

    /// The key itself, for a cipher.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// The keys of an open repository.
#[derive(Clone, Debug)]
pub struct Keys {
    chunk_id: PurposeKey,
    /// See [`context::CHUNKER`].
    pub chunker: PurposeKey,
    /// See [`context::SIMILARITY`].
    pub similarity: PurposeKey,
    /// See [`context::PACK`].
    pub pack: PurposeKey,
    /// See [`context::OBJECT`].
    pub object: PurposeKey,
    /// See [`context::CONFIG`].
    pub config: PurposeKey,
}

impl Keys {
    /// Derives all keys of a repository.
    pub fn derive(master: &MasterKey) -> Keys {
        let key = |context| PurposeKey::derive(context, &master.0);
        Keys {
            chunk_id: key(context::CHUNK_ID),
            chunker: key(context::CHUNKER),
            similarity: key(context::SIMILARITY),
            pack: key(context::PACK),
            object: key(context::OBJECT),
            config: key(context::CONFIG),
        }
    }

    /// The id of the chunk with these bytes.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.chunk_id.0, plain).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_frozen_and_distinct() {
        let all: std::collections::BTreeSet<_> = context::ALL.into_iter().collect();
        assert_eq!(all.len(), context::ALL.len());
        let digest = blake3::hash(context::ALL.join("\n").as_bytes());
        assert_eq!(
            digest.to_hex().as_str(),
            "7f84793080184b2e4c75ef22a3acf9096127449c55051441dbda525295bfeb71",
            "a changed context is a new format"
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let master = MasterKey([0x5a; 32]);
        assert_eq!(format!("{master:?}"), "MasterKey(secret)");
        assert!(!format!("{:?}", Keys::derive(&master)).contains("90"));
    }
}
