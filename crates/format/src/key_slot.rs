//! Key slots: the master key, wrapped by a passphrase or by a key file.
//!
//! A slot commits to its key before anything is opened with it: ChaCha20-Poly1305 alone lets one ciphertext
//! open under two keys (Len, Grubbs, Ristenpart, "Partitioning Oracle Attacks", USENIX Security 2021).

use argon2::{Algorithm, Argon2, Params, Version};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::bytes::Reader;
use crate::header::{HEADER_BYTES, Header, ObjectKind};
use crate::id::{RepoId, Salt, SlotId};
use crate::keys::{KEY_BYTES, MasterKey, PurposeKey, context};
use crate::object::{from_cbor, to_cbor};
use crate::seal::{Sealer, TAG_BYTES};
use crate::{Error, Result};

/// Bytes of the parameters behind the header.
const PARAMS_BYTES: usize = 16;
/// Bytes of the commitment.
const COMMITMENT_BYTES: usize = 32;
/// Bytes of the sealed note, so that its length tells nothing.
const NOTE_BYTES: usize = 256;
/// Length of a slot, bytes: always the same.
pub const SLOT_BYTES: usize =
    HEADER_BYTES + PARAMS_BYTES + COMMITMENT_BYTES + KEY_BYTES + TAG_BYTES + NOTE_BYTES + TAG_BYTES;

/// Longest label of a slot, bytes.
pub const LABEL_BYTES_MAX: usize = 128;

/// Work of Argon2id (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfWork {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfWork {
    /// What new slots use: 64 MiB, 3 passes, 4 lanes, the second choice of RFC 9106, section 4. Every command
    /// pays it, and more memory would be the peak of a whole backup.
    pub const DEFAULT: KdfWork = KdfWork { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// Least work a reader accepts: 64 MiB, 3 passes, so that a server can't plant a weak slot.
    pub const MIN: KdfWork = KdfWork { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// Most work a reader accepts: 4 GiB, 64 passes, 16 lanes, so that a server can't exhaust a client.
    pub const MAX: KdfWork = KdfWork { memory_kib: 4 << 20, passes: 64, lanes: 16 };

    fn validate(&self) -> Result<()> {
        let checks = [
            ("memory, KiB", self.memory_kib, KdfWork::MIN.memory_kib, KdfWork::MAX.memory_kib),
            ("passes", self.passes, KdfWork::MIN.passes, KdfWork::MAX.passes),
            ("lanes", self.lanes, KdfWork::MIN.lanes, KdfWork::MAX.lanes),
        ];
        let bad = checks.iter().find(|(_, value, min, max)| value < min || value > max);
        bad.map_or(Ok(()), |(name, value, min, max)| {
            Err(Error::UnreasonableKdf { detail: format!("{name}: {value}, not within {min} to {max}") })
        })
    }
}

/// What opens a slot.
#[derive(Clone)]
pub enum Secret {
    /// A passphrase a person knows.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The random bytes of a key file, [`KEY_BYTES`] or more.
    KeyFile(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::Passphrase(_) => "Passphrase(secret)",
            Secret::KeyFile(_) => "KeyFile(secret)",
        })
    }
}

/// Which kind of secret opens a slot. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// Argon2id of a passphrase.
    Passphrase = 1,
    /// Random bytes of a key file.
    KeyFile = 2,
}

impl SlotKind {
    /// The word for this kind in listings.
    pub fn name(self) -> &'static str {
        match self {
            SlotKind::Passphrase => "passphrase",
            SlotKind::KeyFile => "key file",
        }
    }
}

/// What a slot says of itself to those who have the master key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SlotNote {
    /// What the user calls it; at most [`LABEL_BYTES_MAX`] bytes.
    #[n(0)]
    pub label: String,
    /// When it was made, milliseconds since 1970 UTC.
    #[n(1)]
    pub created_ms: i64,
}

/// Makes the bytes of a slot. `salt` must be random and fresh.
pub fn encode(
    secret: &Secret,
    work: KdfWork,
    master: &MasterKey,
    (repo, id): (&RepoId, &SlotId),
    salt: Salt,
    note: &SlotNote,
) -> Result<Vec<u8>> {
    if note.label.len() > LABEL_BYTES_MAX {
        return Err(Error::malformed("key slot label", format!("longer than {LABEL_BYTES_MAX} bytes")));
    }
    let mut out = Header { kind: ObjectKind::KeySlot, salt }.encode().to_vec();
    match secret {
        Secret::Passphrase(_) => {
            out.extend_from_slice(&(SlotKind::Passphrase as u32).to_le_bytes());
            [work.memory_kib, work.passes, work.lanes]
                .iter()
                .for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        }
        Secret::KeyFile(_) => {
            out.extend_from_slice(&(SlotKind::KeyFile as u32).to_le_bytes());
            out.extend_from_slice(&[0; 12]);
        }
    }
    let stretched = stretch(secret, work, &out, repo, id)?;
    out.extend_from_slice(&PurposeKey::derive(context::SLOT_COMMIT, &*stretched).mac(&[]));
    let (aad, start) = (aad(&out, repo, id), out.len());
    out.extend_from_slice(&master.0);
    Sealer::with_key(&PurposeKey::derive(context::SLOT_WRAP, &*stretched)).seal(0, &aad, &mut out, start)?;
    let (aad, start) = (note_aad(&out, repo, id), out.len());
    let mut body = to_cbor(note);
    body.resize(NOTE_BYTES, 0);
    out.extend_from_slice(&body);
    let object_key = PurposeKey::derive(context::OBJECT, &master.0);
    Sealer::new(&object_key, &salt).seal(0, &aad, &mut out, start)?;
    Ok(out)
}

/// Which secret a slot wants.
pub fn kind(bytes: &[u8]) -> Result<SlotKind> {
    let (_, rest) = Header::decode(bytes, &[ObjectKind::KeySlot])?;
    let mut reader = Reader::new("key slot", rest);
    let number = reader.u32()?;
    if bytes.len() != SLOT_BYTES {
        return Err(reader.malformed("wrong length"));
    }
    let kinds = [SlotKind::Passphrase, SlotKind::KeyFile];
    let kind = kinds.into_iter().find(|kind| *kind as u32 == number);
    kind.ok_or_else(|| reader.malformed("unknown kind"))
}

/// Opens a slot. Errors: [`Error::WrongSecret`] where the secret does not fit; the rest means damage.
pub fn decode(secret: &Secret, (repo, id): (&RepoId, &SlotId), bytes: &[u8]) -> Result<MasterKey> {
    let matching = match kind(bytes)? {
        SlotKind::Passphrase => matches!(secret, Secret::Passphrase(_)),
        SlotKind::KeyFile => matches!(secret, Secret::KeyFile(_)),
    };
    if !matching {
        return Err(Error::WrongSecret);
    }
    let mut reader = Reader::new("key slot", &bytes[HEADER_BYTES + 4..]);
    let work = KdfWork { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
    match secret {
        Secret::Passphrase(_) => work.validate()?,
        Secret::KeyFile(_) if (work.memory_kib, work.passes, work.lanes) == (0, 0, 0) => {}
        Secret::KeyFile(_) => return Err(reader.malformed("work of a key file")),
    }
    let head = HEADER_BYTES + PARAMS_BYTES;
    let stretched = stretch(secret, work, &bytes[..head], repo, id)?;
    let commitment = PurposeKey::derive(context::SLOT_COMMIT, &*stretched).mac(&[]);
    // blake3::Hash compares in constant time.
    if blake3::Hash::from_bytes(reader.array()?) != blake3::Hash::from_bytes(commitment) {
        return Err(Error::WrongSecret);
    }
    let mut wrapped = reader.slice(KEY_BYTES + TAG_BYTES)?.to_vec();
    let aad = aad(&bytes[..head + COMMITMENT_BYTES], repo, id);
    let sealer = Sealer::with_key(&PurposeKey::derive(context::SLOT_WRAP, &*stretched));
    sealer.open("key slot", 0, &aad, &mut wrapped)?;
    let wrapped = Zeroizing::new(wrapped);
    let master = wrapped.as_slice().try_into().map_err(|_| reader.malformed("key of wrong length"))?;
    let master = MasterKey(master);
    note(&master, (repo, id), bytes)?;
    Ok(master)
}

/// Reads what a slot says of itself.
pub fn note(master: &MasterKey, (repo, id): (&RepoId, &SlotId), bytes: &[u8]) -> Result<SlotNote> {
    kind(bytes)?;
    let (header, _) = Header::decode(bytes, &[ObjectKind::KeySlot])?;
    let (head, sealed) = bytes.split_at(SLOT_BYTES - NOTE_BYTES - TAG_BYTES);
    let aad = note_aad(head, repo, id);
    let mut body = sealed.to_vec();
    let object_key = PurposeKey::derive(context::OBJECT, &master.0);
    Sealer::new(&object_key, &header.salt).open("key slot note", 0, &aad, &mut body)?;
    let end = body.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    // A note ends with its creation time, whose last byte may itself be zero: try the longer readings too.
    let readings = (end..=(end + 9).min(body.len())).map(|end| from_cbor("key slot note", &body[..end]));
    readings.flatten().next().ok_or_else(|| Error::malformed("key slot note", "not readable"))
}

fn aad(head: &[u8], repo: &RepoId, id: &SlotId) -> Vec<u8> {
    [head, repo.as_bytes(), id.as_bytes()].concat()
}

/// The note vouches for all that stands before it, the wrapped key too: whoever has the master key can tell
/// that a slot is whole without its secret.
fn note_aad(before: &[u8], repo: &RepoId, id: &SlotId) -> Vec<u8> {
    [&aad(before, repo, id)[..], b"note"].concat()
}

/// The secret, stretched where it is a passphrase. The whole head of the slot goes into the salt.
fn stretch(
    secret: &Secret,
    work: KdfWork,
    head: &[u8],
    repo: &RepoId,
    id: &SlotId,
) -> Result<Zeroizing<[u8; 32]>> {
    let failed = |e: argon2::Error| Error::Library { what: "derive the key", detail: e.to_string() };
    let salt = blake3::hash(&aad(head, repo, id));
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    match secret {
        Secret::Passphrase(passphrase) => {
            let params =
                Params::new(work.memory_kib, work.passes, work.lanes, Some(KEY_BYTES)).map_err(failed)?;
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into(passphrase, salt.as_bytes(), &mut *out).map_err(failed)?;
        }
        Secret::KeyFile(bytes) => {
            *out = PurposeKey::derive(context::KEY_FILE, bytes).mac(&[salt.as_bytes()]);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (&RepoId, &SlotId) = (&RepoId([1; 32]), &SlotId([2; 8]));

    fn key_file(byte: u8) -> Secret {
        Secret::KeyFile(Zeroizing::new(vec![byte; 32]))
    }

    fn slot(secret: &Secret, work: KdfWork, created_ms: i64) -> Vec<u8> {
        let note = SlotNote { label: "laptop".into(), created_ms };
        encode(secret, work, &MasterKey([7; 32]), PLACE, Salt([3; 32]), &note).unwrap()
    }

    #[test]
    fn a_passphrase_opens_its_slot_only() {
        let secret = Secret::Passphrase(Zeroizing::new(b"correct horse".to_vec()));
        let bytes = slot(&secret, KdfWork::MIN, 5);
        assert_eq!(bytes.len(), SLOT_BYTES);
        assert_eq!(decode(&secret, PLACE, &bytes).unwrap().0, [7; 32]);
        let wrong = Secret::Passphrase(Zeroizing::new(b"wrong".to_vec()));
        assert_eq!(decode(&wrong, PLACE, &bytes).unwrap_err(), Error::WrongSecret);
        assert_eq!(decode(&key_file(1), PLACE, &bytes).unwrap_err(), Error::WrongSecret);
    }

    #[test]
    fn every_changed_byte_of_a_slot_is_seen() {
        let bytes = slot(&key_file(1), KdfWork::MIN, 5);
        assert_eq!(decode(&key_file(1), PLACE, &bytes).unwrap().0, [7; 32]);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode(&key_file(1), PLACE, &bad).is_err(), "byte {at}");
            assert!(decode(&key_file(1), PLACE, &bytes[..at]).is_err(), "length {at}");
            assert!(note(&MasterKey([7; 32]), PLACE, &bad).is_err(), "byte {at}, without the secret");
        }
        assert!(decode(&key_file(1), (PLACE.0, &SlotId([9; 8])), &bytes).is_err());
        assert!(decode(&key_file(1), (&RepoId([9; 32]), PLACE.1), &bytes).is_err());
    }

    #[test]
    fn notes_come_back_whatever_their_last_byte() {
        for created_ms in [0, 5, 256, 0x0100_0000_0000, -256, i64::MAX] {
            let bytes = slot(&key_file(1), KdfWork::MIN, created_ms);
            let note = note(&MasterKey([7; 32]), PLACE, &bytes).unwrap();
            assert_eq!(note, SlotNote { label: "laptop".into(), created_ms });
        }
    }

    #[test]
    fn unreasonable_work_is_refused_before_it_is_done() {
        let secret = Secret::Passphrase(Zeroizing::new(b"p".to_vec()));
        let good = slot(&secret, KdfWork::MIN, 5);
        for (at, value) in [(52, 1u32), (52, u32::MAX), (56, 1), (56, 65), (60, 0), (60, 17)] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let error = decode(&secret, PLACE, &bad).unwrap_err();
            assert!(matches!(error, Error::UnreasonableKdf { .. }), "{at} {value}: {error}");
        }
    }
}
