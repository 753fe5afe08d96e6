//! Sealing: ChaCha20-Poly1305 (RFC 8439) under a key that is used for one object only.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};

use crate::id::Salt;
use crate::keys::PurposeKey;
use crate::{Error, Result};

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;

/// Seals and opens the parts of one object. The key comes from a purpose key and the object's random salt,
/// and the nonce is the number of the part, so no nonce state outlives the object.
pub struct Sealer(ChaCha20Poly1305);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(secret)")
    }
}

impl Sealer {
    /// The sealer of the object that has `salt`.
    pub fn new(key: &PurposeKey, salt: &Salt) -> Sealer {
        Sealer(ChaCha20Poly1305::new((&*key.for_salt(salt)).into()))
    }

    /// The sealer that uses `key` itself: for a key that seals one thing ever.
    pub fn with_key(key: &PurposeKey) -> Sealer {
        Sealer(ChaCha20Poly1305::new(key.as_bytes().into()))
    }

    /// Seals the bytes of `buffer` from `start` on, in place, and appends the tag.
    /// A `part` number may be used once per object.
    pub fn seal(&self, part: u64, aad: &[u8], buffer: &mut Vec<u8>, start: usize) -> Result<()> {
        let tag = self.0.encrypt_inout_detached(&nonce(part), aad, (&mut buffer[start..]).into());
        let tag = tag.map_err(|_| Error::Library { what: "seal", detail: "buffer too long".into() })?;
        buffer.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens `sealed` in place and drops the tag. An error leaves the content of `sealed` undefined.
    /// `what` names the bytes in the error, [`Error::Authentication`].
    pub fn open(&self, what: &'static str, part: u64, aad: &[u8], sealed: &mut Vec<u8>) -> Result<()> {
        let len = self.open_in_place(what, part, aad, sealed)?.len();
        sealed.truncate(len);
        Ok(())
    }

    /// As [`Sealer::open`]; gives the part of `sealed` that holds what was opened.
    pub fn open_in_place<'a>(
        &self,
        what: &'static str,
        part: u64,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8]> {
        let failed = Error::Authentication { what };
        let len = sealed.len().checked_sub(TAG_BYTES).ok_or_else(|| failed.clone())?;
        let (body, tag) = sealed.split_at_mut(len);
        let tag = Tag::try_from(&*tag).map_err(|_| failed.clone())?;
        self.0.decrypt_inout_detached(&nonce(part), aad, (&mut *body).into(), &tag).map_err(|_| failed)?;
        Ok(body)
    }
}

fn nonce(part: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&part.to_le_bytes());
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_part_and_aad_open() {
        let key = PurposeKey::derive("test", b"secret");
        let sealer = Sealer::new(&key, &Salt([1; 32]));
        let mut sealed = b"head".to_vec();
        sealed.extend_from_slice(b"plain text");
        sealer.seal(3, b"aad", &mut sealed, 4).unwrap();
        assert_eq!(sealed.len(), 4 + 10 + TAG_BYTES);
        let sealed = sealed.split_off(4);
        let open = |sealer: &Sealer, part, aad: &[u8], sealed: &[u8]| {
            let mut buffer = sealed.to_vec();
            sealer.open("test", part, aad, &mut buffer).map(|()| buffer)
        };
        assert_eq!(open(&sealer, 3, b"aad", &sealed), Ok(b"plain text".to_vec()));
        assert!(open(&sealer, 4, b"aad", &sealed).is_err());
        assert!(open(&sealer, 3, b"aae", &sealed).is_err());
        assert!(open(&Sealer::new(&key, &Salt([2; 32])), 3, b"aad", &sealed).is_err());
        for len in 0..sealed.len() {
            assert!(open(&sealer, 3, b"aad", &sealed[..len]).is_err());
        }
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(open(&sealer, 3, b"aad", &bad).is_err());
        }
    }
}
