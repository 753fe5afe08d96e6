//! `config`: what every client must know of a repository before it does anything.

use minicbor::{Decode, Encode};

use crate::chunker::ChunkerParams;
use crate::header::{HEADER_BYTES, Header, ObjectKind};
use crate::id::{RepoId, Salt};
use crate::keys::PurposeKey;
use crate::object::{from_cbor, to_cbor};
use crate::pack::PACK_BYTES_MAX;
use crate::{DELTA_DEPTH_MAX, Error, Result};

/// Bytes of the authentication code at the end.
const MAC_BYTES: usize = 32;

/// Parameters of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RepoParams {
    /// How streams are cut.
    #[n(0)]
    pub chunker: ChunkerParams,
    /// Packs are closed before they grow over this, bytes.
    #[n(1)]
    pub pack_bytes: u32,
    /// Packs that are filled side by side, records going to one of them at random.
    #[n(2)]
    pub packs_open: u8,
    /// Deepest chain of deltas; 0 stores every chunk whole.
    #[n(3)]
    pub delta_depth_max: u8,
    /// zstd level.
    #[n(4)]
    pub level: i8,
    /// When the repository was made, milliseconds since 1970 UTC.
    #[n(5)]
    pub created_ms: i64,
    /// Parity that is stored for each pack, percent of its length; none if absent.
    #[n(6)]
    pub parity_percent: Option<u8>,
}

impl Default for RepoParams {
    fn default() -> RepoParams {
        RepoParams {
            chunker: ChunkerParams::default(),
            pack_bytes: 16 << 20,
            packs_open: 2,
            delta_depth_max: 12,
            level: crate::compress::LEVEL_DEFAULT as i8,
            created_ms: 0,
            parity_percent: None,
        }
    }
}

impl RepoParams {
    /// Checks the bounds.
    pub fn validate(&self) -> Result<()> {
        self.chunker.validate()?;
        let pack_bytes_min = 2 * self.chunker.max_bytes;
        let ok = (pack_bytes_min..=PACK_BYTES_MAX as u32).contains(&self.pack_bytes)
            && (1..=16).contains(&self.packs_open)
            && self.delta_depth_max <= DELTA_DEPTH_MAX
            && crate::compress::LEVELS.contains(&i32::from(self.level))
            && self.parity_percent.is_none_or(|percent| crate::parity::PERCENT.contains(&percent));
        if ok { Ok(()) } else { Err(Error::malformed("repository parameters", format!("{self:?}"))) }
    }
}

/// Makes the bytes of `config`.
pub fn encode(key: &PurposeKey, repo: &RepoId, params: &RepoParams) -> Vec<u8> {
    let mut out = Header { kind: ObjectKind::Config, salt: Salt(repo.0) }.encode().to_vec();
    out.extend_from_slice(&to_cbor(params));
    let mac = key.mac(&[&out]);
    out.extend_from_slice(&mac);
    out
}

/// Reads the repository id, which is needed before there is a key. It is authenticated by [`decode`] only.
pub fn repo_id(bytes: &[u8]) -> Result<RepoId> {
    let (header, _) = Header::decode(bytes, &[ObjectKind::Config])?;
    Ok(RepoId(header.salt.0))
}

/// Authenticates and reads `config`.
pub fn decode(key: &PurposeKey, bytes: &[u8]) -> Result<RepoParams> {
    Header::decode(bytes, &[ObjectKind::Config])?;
    let end = bytes.len().checked_sub(MAC_BYTES).filter(|end| *end >= HEADER_BYTES);
    let end = end.ok_or_else(|| Error::malformed("config", "ends too early"))?;
    let (body, mac) = bytes.split_at(end);
    // blake3::Hash compares in constant time.
    let want = blake3::Hash::from_bytes(key.mac(&[body]));
    if blake3::Hash::from_slice(mac).ok() != Some(want) {
        return Err(Error::Authentication { what: "config" });
    }
    let params: RepoParams = from_cbor("config", &body[HEADER_BYTES..])?;
    params.validate()?;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_goes_both_ways_and_every_change_is_seen() {
        let key = PurposeKey::derive("test", b"k");
        let (repo, params) = (RepoId([8; 32]), RepoParams::default());
        let with_parity = RepoParams { parity_percent: Some(10), ..params.clone() };
        assert_eq!(decode(&key, &encode(&key, &repo, &with_parity)), Ok(with_parity));
        let bytes = encode(&key, &repo, &params);
        assert_eq!(repo_id(&bytes), Ok(repo));
        assert_eq!(decode(&key, &bytes), Ok(params));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode(&key, &bad).is_err(), "byte {at}");
            assert!(decode(&key, &bytes[..at]).is_err(), "length {at}");
        }
    }

    #[test]
    fn bad_parameters_are_refused() {
        let good = RepoParams::default();
        assert_eq!(good.validate(), Ok(()));
        for bad in [
            RepoParams { pack_bytes: 1000, ..good.clone() },
            RepoParams { packs_open: 0, ..good.clone() },
            RepoParams { delta_depth_max: 32, ..good.clone() },
            RepoParams { level: 99, ..good.clone() },
            RepoParams { parity_percent: Some(0), ..good.clone() },
            RepoParams { parity_percent: Some(101), ..good.clone() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
